"""The lake: a partition is old or new, the same rows change nothing, bad names open nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store import lake as lake_module
from exp_pipeline.store.engine import Engine, Rows
from exp_pipeline.store.lake import GRACE_SECONDS, Lake, Manifest, NewFile

DAY = "event_date=2026-03-01"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(lake: Lake, *contents: bytes, run: str = "run-1", **facts: object) -> Manifest:
    files = []
    for position, content in enumerate(contents):
        path = lake.staging("events", DAY)
        path.write_bytes(content)
        files.append(NewFile(path, f"bucket-{position}", len(content)))
    return lake.commit("events", DAY, files, schema_version="1", run_id=run, facts=facts)


def held(lake: Lake) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in lake.folder("events", DAY).iterdir()}


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_the_same_rows_twice_give_the_same_bytes_and_the_same_manifest(lake: Lake) -> None:
    engine = Engine(duckdb.connect(":memory:"))

    def write(run: str) -> Manifest:
        path = lake.staging("events", DAY)
        rows = engine.write("select range as n, n::varchar as word from range(200_000) order by n", path)
        return lake.commit(
            "events", DAY, [NewFile(path, "all", rows)], schema_version="1", run_id=run, facts={"at": (1, 2)}
        )

    first = write("run-1")
    before = held(lake)
    second = write("run-2")
    assert second == lake.manifest("events", DAY)
    assert (second.run_id, second.rows, second.content_digest) == ("run-1", 200_000, first.content_digest)
    assert held(lake) == before
    assert len(before) == 2


def test_other_facts_or_another_schema_are_another_content(lake: Lake) -> None:
    first = commit(lake, b"rows", read=1)
    assert commit(lake, b"rows", run="run-2", read=2).run_id == "run-2"
    path = lake.staging("events", DAY)
    path.write_bytes(b"rows")
    changed = lake.commit("events", DAY, [NewFile(path, "bucket-0", 4)], schema_version="2", run_id="run-3")
    assert changed.content_digest != first.content_digest
    assert [file.name for file in changed.files] == [file.name for file in first.files]


def test_a_replaced_file_lives_its_grace_time_from_its_replacement_on(lake: Lake) -> None:
    old = commit(lake, b"old")
    [path] = lake.paths([old])
    age(path, 30 * GRACE_SECONDS)
    commit(lake, b"new")
    assert path.read_bytes() == b"old"
    commit(lake, b"newer")
    assert path.exists()
    age(path, GRACE_SECONDS + 1)
    current = commit(lake, b"newer")
    assert not path.exists()
    assert all(one.exists() for one in lake.paths([current]))


def test_what_a_killed_writer_left_is_swept_once_it_is_old_even_where_nothing_changed(lake: Lake) -> None:
    commit(lake, b"rows")
    young, old = lake.staging("events", DAY), lake.staging("events", DAY)
    for path in (young, old):
        path.write_bytes(b"half")
    age(old, GRACE_SECONDS + 1)
    commit(lake, b"rows")
    assert (young.exists(), old.exists()) == (True, False)


def test_a_content_that_comes_back_is_not_swept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first = commit(lake, b"one")
    commit(lake, b"two")
    [path] = lake.paths([first])
    age(path, 30 * GRACE_SECONDS)
    monkeypatch.setattr(lake_module, "GRACE_SECONDS", 0.0)
    assert lake.paths([commit(lake, b"one")]) == [path]
    assert path.read_bytes() == b"one"


def test_a_file_that_lost_bytes_is_written_again(lake: Lake) -> None:
    [path] = lake.paths([commit(lake, b"rows")])
    path.write_bytes(b"rowz")
    commit(lake, b"rows")
    assert path.read_bytes() == b"rows"


FILE = {"name": "part-0000-0123456789abcdef.parquet", "tag": "all", "rows": 1, "bytes": 2, "digest": "ab"}
GOOD = {
    "facts": {},
    "files": [FILE],
    "partition": DAY,
    "run_id": "run-1",
    "schema_version": "1",
    "table": "events",
}


def changed_file(**changes: object) -> dict[str, object]:
    return {**GOOD, "files": [{**FILE, **changes}]}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe",
        json.dumps(GOOD)[:-20].encode(),
        json.dumps({**GOOD, "files": 3}).encode(),
        json.dumps({**GOOD, "files": ["a"]}).encode(),
        json.dumps({**GOOD, "surplus": 1}).encode(),
        json.dumps({name: value for name, value in GOOD.items() if name != "run_id"}).encode(),
        json.dumps({**GOOD, "table": "sessions"}).encode(),
        json.dumps({**GOOD, "partition": "event_date=2026-03-02"}).encode(),
        json.dumps(changed_file(name="../../../secret.parquet")).encode(),
        json.dumps(changed_file(name="part-0000-0123456789abcdef.parquet\n")).encode(),
        json.dumps(changed_file(rows="1")).encode(),
    ],
)
def test_a_damaged_manifest_is_named_and_a_new_commit_heals_it(lake: Lake, text: bytes) -> None:
    commit(lake, b"rows")
    path = lake.folder("events", DAY) / "manifest.json"
    path.write_bytes(json.dumps(GOOD).encode())
    assert lake.manifest("events", DAY) is not None
    path.write_bytes(text)
    with pytest.raises(StoreError, match="damaged") as told:
        lake.manifest("events", DAY)
    assert str(path) in str(told.value)
    assert commit(lake, b"rows").rows == 4
    assert lake.manifests("events", [DAY])[0].rows == 4


@pytest.mark.parametrize(
    ("table", "partition"),
    [
        ("../events", DAY),
        ("events/..", DAY),
        ("", DAY),
        ("Events", DAY),
        ("events\n", DAY),
        ("events", "event_date=.."),
        ("events", "event_date=../../x"),
        ("events", "event_date=/etc"),
        ("events", "event_date=2026-03-01\n"),
        ("events", "event_date="),
        ("events", "2026-03-01"),
        ("events", "..=a"),
        ("events", "event_date=a=b"),
        ("events", "event_date=a\0"),
    ],
)
def test_bad_names_are_refused_before_anything_is_touched(lake: Lake, table: str, partition: str) -> None:
    for ask in (lake.folder, lake.staging, lake.manifest):
        with pytest.raises(ValueError, match="plain names"):
            ask(table, partition)
    with pytest.raises(ValueError, match="plain names"):
        lake.commit(table, partition, [], schema_version="1", run_id="r")
    if partition == DAY:
        with pytest.raises(ValueError, match="plain name"):
            lake.partitions(table)
    assert not lake.root.exists()


@given(table=st.text(max_size=12), partition=st.text(max_size=20))
def test_no_name_leads_out_of_the_lake(table: str, partition: str) -> None:
    root = Path("/lake")
    try:
        folder = Lake(root).folder(table, partition)
    except ValueError:
        return
    assert Path(os.path.normpath(folder)).parent.parent == root


def test_partitions_come_in_order_and_only_those_that_were_written(lake: Lake) -> None:
    assert lake.partitions("events") == ()
    lake.staging("events", "event_date=2026-03-09").write_bytes(b"half")
    for day in ("event_date=2026-03-02", "event_date=2026-03-01"):
        path = lake.staging("events", day)
        path.write_bytes(b"rows")
        lake.commit("events", day, [NewFile(path, "all", 4)], schema_version="1", run_id="r")
    assert lake.partitions("events") == ("event_date=2026-03-01", "event_date=2026-03-02")
    assert lake.manifests("events", ["event_date=2026-03-09"]) == ()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.binary(min_size=1, max_size=8), min_size=0, max_size=3), min_size=1, max_size=8))
def test_after_any_row_of_commits_the_partition_is_the_last_one(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for content in contents:
        commit(lake, *content)
        manifest = lake.manifest("events", DAY)
        assert manifest is not None
        assert [path.read_bytes() for path in lake.paths([manifest])] == content
        assert manifest.bytes == manifest.rows == sum(map(len, content))
        assert [path.read_bytes() for path in lake.paths([manifest], ["bucket-1"])] == content[1:2]


def test_a_folder_above_the_lake_never_replaces_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "role=admin" / "event_date=1999-01-01"
    folder.mkdir(parents=True)
    engine = Engine(duckdb.connect(":memory:"))
    engine.write("select 'student' as role, date '2026-03-01' as event_date", folder / "a.parquet")
    engine.offer(
        "events", Rows([folder / "a.parquet"], {"role": "VARCHAR", "event_date": "DATE", "late": "BIGINT"})
    )
    found = engine.connection.execute("select role, event_date::varchar, late from events").fetchall()
    assert found == [("student", "2026-03-01", None)]
