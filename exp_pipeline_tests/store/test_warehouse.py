"""The warehouse file: documented, replaced without touching the live one, clear where a file is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store import lake as lake_module
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.lake import Lake, NewFile
from exp_pipeline.store.warehouse import (
    Shown,
    ShownColumn,
    ShownTable,
    lake_view,
    open_warehouse,
    replace_warehouse,
)

COLUMNS = (
    ShownColumn("n", "BIGINT", "A number (rows)."),
    ShownColumn("word", "VARCHAR", 'It\'s a "word"; drop table x'),
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "role=admin" / "lake")


def fill(lake: Lake, day: int, query: str, schema_version: str = "1") -> None:
    partition = f"event_date=2026-03-{day:02d}"
    path = lake.staging("things", partition)
    with duckdb.connect(":memory:") as connection:
        rows = Engine(connection).write(query, path)
    lake.commit("things", partition, [NewFile(path, "all", rows)], schema_version=schema_version, run_id="r")


def shown(lake: Lake, *values: int) -> Shown:
    table = ShownTable("kept", "What is kept.", COLUMNS[:1], tuple((value,) for value in values))
    return Shown((lake_view(lake, "things", "One thing; it's old.", COLUMNS),), (table,))


def elsewhere(path: Path, query: str) -> str:
    """What another process gets from the live file."""
    opened = "duckdb.connect(sys.argv[1], read_only=True)"
    code = f"import duckdb, sys; print({opened}.execute(sys.argv[2]).fetchall())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), query], capture_output=True, text=True, timeout=20
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_views_and_columns_carry_their_words_and_partitions_their_order(tmp_path: Path, lake: Lake) -> None:
    fill(lake, 2, "select 2::bigint as n, 'b' as word")
    fill(lake, 1, "select 1::bigint as n, 'a' as word")
    path = tmp_path / "warehouse.duckdb"
    done = replace_warehouse(path, partial(shown, lake, 5, 6), duckdb.connect)
    assert (done.changed, done.bytes) == (True, path.stat().st_size)
    with open_warehouse(path) as connection:
        assert connection.execute("from things").fetchall() == [(1, "a"), (2, "b")]
        assert connection.execute("from kept").fetchall() == [(5,), (6,)]
        words = "select view_name, comment from duckdb_views() where not internal"
        assert connection.execute(words).fetchall() == [("things", "One thing; it's old.")]
        columns = "select column_name, data_type, comment from duckdb_columns() where table_name = 'things'"
        assert connection.execute(columns).fetchall() == [
            (one.name, one.sql_type, one.description) for one in COLUMNS
        ]


def test_files_of_several_schemas_or_of_none_give_the_same_columns(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "warehouse.duckdb"
    replace_warehouse(path, partial(shown, lake), duckdb.connect)
    with open_warehouse(path) as connection:
        assert connection.sql("from things").columns == ["n", "word"]
        assert connection.execute("select count(*) from things").fetchone() == (0,)
    fill(lake, 1, "select 1::integer as n, 'admin' as role", "older")
    fill(lake, 2, "select 'b' as word, 2::bigint as n, 3 as surplus", "newer")
    replace_warehouse(path, partial(shown, lake), duckdb.connect)
    with open_warehouse(path) as connection:
        relation = connection.sql("from things order by n")
        assert [str(kind) for kind in relation.types] == ["BIGINT", "VARCHAR"]
        assert relation.fetchall() == [(1, None), (2, "b")]


def test_the_same_content_is_not_built_again_and_a_damaged_file_is(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "warehouse.duckdb"
    first = replace_warehouse(path, partial(shown, lake, 1), duckdb.connect)
    before = path.stat()
    again = replace_warehouse(path, partial(shown, lake, 1), duckdb.connect)
    assert (again.changed, again.digest) == (False, first.digest)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    for damage in ("bytes", "record", "gone"):
        if damage == "bytes":
            path.chmod(0o644)
            path.write_bytes(b"\0" * before.st_size)
        elif damage == "record":
            path.with_suffix(".json").write_text("{")
        else:
            path.unlink()
        healed = replace_warehouse(path, partial(shown, lake, 1), duckdb.connect)
        assert (healed.changed, healed.digest) == (True, first.digest)
        assert elsewhere(path, "from kept") == "[(1,)]"


def test_words_values_and_files_all_name_the_content(lake: Lake) -> None:
    base = shown(lake, 1)
    fill(lake, 1, "select 1::bigint as n")
    others = [
        shown(lake, 1),
        replace(base, tables=shown(lake, 2).tables),
        replace(base, tables=(replace(base.tables[0], description="Else."),)),
        replace(base, tables=(replace(base.tables[0], rows=((date(2026, 3, 1),),)),)),
        replace(base, views=(replace(base.views[0], columns=COLUMNS[:1]),)),
    ]
    assert len({one.digest() for one in (base, *others)}) == 6


def test_an_open_connection_keeps_its_state_until_the_process_closes_it(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "warehouse.duckdb"
    fill(lake, 1, "select 1::bigint as n")
    replace_warehouse(path, partial(shown, lake, 1), duckdb.connect)
    with open_warehouse(path) as early:
        fill(lake, 1, "select 2::bigint as n")
        replace_warehouse(path, partial(shown, lake, 2), duckdb.connect)
        both = "select (select n from things), (select n from kept)"
        assert early.execute(both).fetchall() == [(1, 1)]
        assert elsewhere(path, both) == "[(2, 2)]"
        with open_warehouse(path) as late:
            # DuckDB gives one process one database per path: the old one, while it is open.
            assert late.execute(both).fetchall() == [(1, 1)]
    with open_warehouse(path) as after:
        assert after.execute(both).fetchall() == [(2, 2)]


def test_a_file_that_is_gone_is_an_error_that_says_what_to_do(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with pytest.raises(StoreError, match="there is no warehouse"), open_warehouse(path):
        pytest.fail("it was opened")
    fill(lake, 1, "select 1::bigint as n")
    replace_warehouse(path, partial(shown, lake), duckdb.connect)
    monkeypatch.setattr(lake_module, "GRACE_SECONDS", -1.0)
    fill(lake, 1, "select 2::bigint as n")
    with (
        pytest.raises(StoreError, match=r"replaced since it was built .*part-0000-.*materialize `warehouse`"),
        open_warehouse(path) as connection,
    ):
        connection.execute("select count(*) from things").fetchall()
    replace_warehouse(path, partial(shown, lake), duckdb.connect)
    with open_warehouse(path) as connection:
        assert connection.execute("select n from things").fetchall() == [(2,)]


def test_who_opened_the_live_file_for_writing_does_not_break_the_next_one(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "warehouse.duckdb"
    replace_warehouse(path, partial(shown, lake, 1), duckdb.connect)
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o644)
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table mine (n integer)'); "
        "print('open', flush=True); sys.stdin.read(); c.execute('insert into mine values (2)'); c.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as intruder:
        assert intruder.stdout is not None
        assert intruder.stdout.readline() == "open\n"
        assert path.with_name("warehouse.duckdb.wal").exists()
        replace_warehouse(path, partial(shown, lake, 2), duckdb.connect)
        assert elsewhere(path, "from kept") == "[(2,)]"
        intruder.communicate(timeout=10)
    assert elsewhere(path, "select (select n from kept), count(*) from duckdb_tables()") == "[(2, 1)]"
    # Whoever left a log beside the live file hides nothing behind an unchanged digest.
    assert not path.with_name("warehouse.duckdb.wal").exists()


def test_a_builder_that_fails_or_leaves_the_file_open_changes_nothing(tmp_path: Path, lake: Lake) -> None:
    path = tmp_path / "warehouse.duckdb"
    replace_warehouse(path, partial(shown, lake, 1), duckdb.connect)
    left: list[duckdb.DuckDBPyConnection] = []

    @contextmanager
    def forgetful(name: str) -> Iterator[duckdb.DuckDBPyConnection]:
        left.append(duckdb.connect(name))
        yield left[-1]
        left[-1].execute("create table more as select 1 as n")

    def broken() -> Shown:
        raise StoreError("no manifest")

    with pytest.raises(StoreError, match="was not closed"):
        replace_warehouse(path, partial(shown, lake, 2), forgetful)
    left[0].close()
    with pytest.raises(StoreError, match="no manifest"):
        replace_warehouse(path, broken, duckdb.connect)
    bad = replace(shown(lake), tables=(ShownTable("kept", "", COLUMNS[:1], (("no number",),)),))
    with pytest.raises(duckdb.ConversionException):
        replace_warehouse(path, lambda: bad, duckdb.connect)
    assert elsewhere(path, "from kept") == "[(1,)]"
    assert sorted(os.listdir(tmp_path)) == ["warehouse.duckdb", "warehouse.json"]
