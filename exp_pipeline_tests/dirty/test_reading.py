"""Two ways to read a line agree; large lines need little memory; files one by one give the bytes of all."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.ingest import raw_lines
from exp_pipeline.steps.ingest.door_rows import offer_typed
from exp_pipeline.steps.ingest.landing import land, raw_batches
from exp_pipeline.steps.ingest.raw_batches import raw_batches as read
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import landed_on
from exp_pipeline.store.lines import SURE_WEIGHT, line_batches
from exp_pipeline.transform.mapping import source_columns
from exp_pipeline_tests.dirty.json_lines import KINDS
from exp_pipeline_tests.dirty.key import DAYS, Planting
from exp_pipeline_tests.dirty.test_dirty_log import CANONICAL, opened
from exp_pipeline_tests.steps.conftest import digests

DAY = DAYS[0]
OWN = Source.model_validate(CANONICAL[0])
MAPPED = Source.model_validate(
    {
        "name": "clean-json",
        "files": "received_date=*/json/*",
        "format": "ndjson",
        "columns": {
            "event_id": "VARCHAR",
            "hint_level": "BIGINT",
            "latency_ms": "DOUBLE",
            "correct": "BOOLEAN",
        },
        "events": [{"event_name": "hint_requested", "fields": {"event_id": "event_id"}}],
    }
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with opened(Home(tmp_path_factory.mktemp("reading")), threads=1) as bench:
        yield bench


def both_ways(bench: Workbench, content: bytes, source: Source) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        own = replace(bench, home=Home(Path(folder)))
        path = own.home.landing / f"received_date={DAY}" / "json" / "f.ndjson"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        fast = named(own, source)
        patch.setattr(raw_lines, "_present", lambda source, lines, seen: ())
        assert named(own, source) == fast


def named(bench: Workbench, source: Source) -> list[dict[str, str]]:
    """Raw rows by column; a column that is null is left out, as the order of columns differs."""
    (file,) = landed_on(bench.home.landing, DAY)
    found: list[dict[str, str]] = []
    for _ in raw_batches(bench, file, source):
        frame = bench.engine.frame("select columns(*)::varchar from raw")
        found += [{key: value for key, value in row.items() if value is not None} for row in frame.to_dicts()]
        for name in ("raw", "raw_odd", "raw_lines", "parsed", "parsed_places"):
            bench.engine.drop(name)
    return sorted(found, key=lambda row: int(row["row_number"]))


def both_ways_typed(bench: Workbench, content: bytes) -> None:
    """Canonical lines typed as they are parsed, against all of them looked at one by one and typed after."""
    with TemporaryDirectory() as folder:
        own = replace(bench, home=Home(Path(folder)))
        path = own.home.landing / f"received_date={DAY}" / "json" / "f.ndjson"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        straight = typed_rows(own)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(raw_lines, "_present", lambda source, lines, seen: ())
            assert typed_rows(own) == straight


def typed_rows(bench: Workbench) -> list[dict[str, str]]:
    (file,) = landed_on(bench.home.landing, DAY)
    found: list[dict[str, str]] = []
    for batch in read(bench, OWN, (file,), typed=True):
        offer_typed(bench, OWN, batch, keep=False)
        frame = bench.engine.frame("select columns(* exclude part)::varchar from typed")
        found += [{key: value for key, value in row.items() if value is not None} for row in frame.to_dicts()]
        assert frame.height == batch.rows
        for name in ("typed", "typed_odd", "mapped", "raw", "raw_odd", "raw_lines", "parsed"):
            bench.engine.drop(name)
    return sorted(found, key=lambda row: int(row["row_number"]))


@pytest.mark.parametrize("source", [OWN, MAPPED], ids=["canonical", "mapped"])
def test_every_kind_of_line_is_read_alike_both_ways(bench: Workbench, source: Source, tmp_path: Path) -> None:
    planting = Planting(tmp_path, random.Random(5))
    content = b"".join(
        make(planting, DAY)[0] for kind, make in KINDS.items() if kind != "superhuman" and "limit" not in kind
    )
    both_ways(bench, content, source)
    if source is OWN:
        both_ways_typed(bench, content)


def test_plain_lines_do_take_the_fast_way(bench: Workbench) -> None:
    # What compares two ways of reading would pass as well if one of them were never taken.
    line = b'{"event_id":"%d","hint_level":%d,"latency_ms":1.5,"correct":true,"platform":"","mood":null}\n'
    lines = [line % (number, number) for number in range(200)]
    lines[7:7] = [b"{garbage\n", b'{"event_id":"extra","mood":"odd"}\n', b'{"mood":null}\n']
    with TemporaryDirectory() as folder:
        own = replace(bench, home=Home(Path(folder)))
        path = own.home.landing / f"received_date={DAY}" / "json" / "f.ndjson"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(lines))
        (batch,) = read(own, OWN, landed_on(own.home.landing, DAY), typed=True)
        assert set(batch.plain) >= {"event_id", "hint_level", "latency_ms", "correct", "platform"}
        typed = own.engine.frame("select * from parsed")
        assert typed.height == 200
        assert typed["hint_level"].to_list() == list(range(200))
        assert "".join(typed["event_id"]) == "".join(map(str, range(200)))
        assert typed["platform"].null_count() == 200
        assert own.engine.frame("select row_number from raw order by all")["row_number"].to_list() == [
            8,
            9,
            10,
        ]
        assert batch.rows == 203


KEYS = st.sampled_from(
    ["event_id", "platform", "hint_level", "mood", "a b", 'q"', "", "event_id ", "\\u0065vent_id"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(['":', '":1', ' :', '{"a":1}', "[1]", "null", ",", "\\", "\u2028"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=3,
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object as text, with keys that may come again, odd blanks, and now and then a byte gone wrong."""
    pairs = draw(st.lists(st.tuples(KEYS, VALUES), max_size=4))
    colon = draw(st.sampled_from([":", ": ", " :", ":  ", ":\t"]))
    ascii_only = draw(st.booleans())
    inner = ",".join(f"{json.dumps(k)}{colon}{json.dumps(v, ensure_ascii=ascii_only)}" for k, v in pairs)
    text = ("{" + inner + "}").encode("utf-8", "replace").replace(b"\\\\u0065", b"\\u0065")
    if draw(st.integers(0, 9)) == 0 and text:
        place = draw(st.integers(0, len(text) - 1))
        text = text[:place] + draw(st.sampled_from([b"", b"\xff", b'"', b"}", b"\x00"])) + text[place + 1 :]
    return text.replace(b"\n", b"")


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(objects(), max_size=12))
def test_any_line_is_read_alike_both_ways(bench: Workbench, lines: list[bytes]) -> None:
    content = b'{"event_id":"first"}\n' + b"\n".join(lines)
    both_ways_typed(bench, content)
    for source in (OWN, MAPPED):
        both_ways(bench, content, source)


# fmt: off
VALUES_IN_TEXT = st.one_of(
    st.sampled_from(
        [
            "1", "-0", "1.0", "1.5", "1e3", "1e400", "-0.0", "9007199254740993", "9223372036854775808", "007",
            '"12"', '" 12 "', '"1_000"', '"0x1F"', '"\\u00a012"', '"+5"', '""', '" "', '"NaN"', '"inf"',
            "NaN", "nan", "Infinity", "-inf", "null", "nul", "true", "false", '"true"', '"T"', '"1"', '"YES"',
            '"2026-03-02T10:00:00Z"', '"2026-03-02T10:00:00.123456Z"', '"2026-03-02 10:00:00Z"',
            '"2026-03-02T10:00:00+05:00"', '"2026-03-02T25:00:00Z"', '"2026-03-02T10:00:00.1234567Z"',
            '"0000-03-02T10:00:00Z"', '"1899-12-31T10:00:00Z"', '"2026-02-30T10:00:00.000Z"', "1772445600",
            '"2026-03-02T10:00:00+01Z"', '"2026-03-02T10:00:60Z"', '"2026-03-02T10:00 Z"', '"infinity"',
            '"2026-03-02T10:00:00 UTCZ"', '"2026-03-02T1:2:3.4567890Z"', '"\\ud800"', '"a\\u0000b"',
            "{}", "[1]", '{"a":1}', '1,"hint_level":2', '1}{"event_id":"two"', '1 "x"', "1,", "/**/1",
        ]
    ),
    st.from_regex(r'"20[0-9]{2}-[0-2][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.][0-9]{1,7})?Z"'),
    st.integers(-(2**66), 2**66).map(str),
    st.floats().map(json.dumps),
)
# fmt: on
TYPED_KEYS = ("hint_level", "latency_ms", "correct", "client_ts", "platform", "learner_id", "nobody")


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.sampled_from(TYPED_KEYS), VALUES_IN_TEXT, st.sampled_from([":", ": ", " :", "/**/:"])),
        min_size=1,
        max_size=120,
    )
)
def test_any_value_is_typed_alike_both_ways(bench: Workbench, values: list[tuple[str, str, str]]) -> None:
    known = b'{"event_id":"a","hint_level":1,"latency_ms":1,"correct":true,"platform":"b","learner_id":"c"}'
    lines = [f'{{"event_id":"{n}","{key}"{colon}{value}}}' for n, (key, value, colon) in enumerate(values)]
    both_ways_typed(bench, known + b"\n" + "\n".join(line.strip() for line in lines).encode())


_LAND = """
import resource, sys
from pathlib import Path
from exp_pipeline.store.home import Home
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline_tests.dirty.key import DAYS
from exp_pipeline_tests.dirty.test_dirty_log import opened
with opened(Home(Path(sys.argv[1])), threads=1) as bench:
    land(bench, DAYS[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    written = land(bench, DAYS[0])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(written.rows, written.facts["unusable_rows"], (after - before) // 1024)
"""


def test_lines_of_a_hundred_megabytes_need_no_memory_of_that_size(tmp_path: Path) -> None:
    sound = b'{"event_id":"e%d"}\n'
    for day, lines in ((DAYS[1], 0), (DAYS[0], 1)):
        folder = tmp_path / "landing" / f"received_date={day}" / "json"
        folder.mkdir(parents=True)
        (folder / "small.ndjson").write_bytes(sound % day.day)
        for place in range(lines):
            opening = b'{"event_id":"'
            with gzip.open(folder / f"{place}.ndjson.gz", "wb", compresslevel=1) as file:
                file.write(sound % (100 + place) + opening)
                for _ in range(100):
                    file.write(b"x" * (1 << 20))
                file.write(b"\n" + sound % (200 + place))
    done = subprocess.run(
        [sys.executable, "-c", _LAND, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    rows, unusable, megabytes = map(int, done.stdout.split())
    assert (rows, unusable) == (4, 1)
    assert megabytes < 100


def test_a_file_that_comes_later_gives_the_bytes_of_both_at_once(tmp_path: Path) -> None:
    contents = {}
    planting = Planting(tmp_path / "planted", random.Random(9))
    for name in ("a", "b", "c"):
        made = [make(planting, DAY)[0] for kind, make in KINDS.items() if not kind.startswith(("str", "sup"))]
        contents[name] = b"".join(made)

    def landed(home: str, *groups: str) -> dict[str, str]:
        with opened(Home(tmp_path / home), threads=1) as bench:
            for group in groups:
                for name in group:
                    path = bench.home.landing / f"received_date={DAY}" / "json" / f"{name}.ndjson"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(contents[name])
                land(bench, DAY)
            return digests(bench, "landed")

    assert landed("one by one", "b", "c", "a") == landed("together", "abc")


def test_a_link_out_of_the_landing_folder_is_refused(tmp_path: Path) -> None:
    with opened(Home(tmp_path / "home"), threads=1) as bench:
        folder = bench.home.landing / f"received_date={DAY}" / "json"
        folder.mkdir(parents=True)
        (tmp_path / "secret").write_text("{}\n")
        os.symlink(tmp_path / "secret", folder / "x.ndjson")
        with pytest.raises(StoreError, match=r"x\.ndjson is a link"):
            land(bench, DAY)


@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(objects(), max_size=12),
    values=st.lists(
        st.tuples(st.sampled_from(TYPED_KEYS), VALUES_IN_TEXT, st.sampled_from([":", ": ", " :", "/**/:"])),
        max_size=60,
    ),
)
def test_no_line_fills_more_fields_than_its_weight(
    bench: Workbench, lines: list[bytes], values: list[tuple[str, str, str]]
) -> None:
    # What equal sums over a batch rest on.
    more = [f'{{"{key}"{colon}{value}}}'.encode() for key, value, colon in values]
    whole = [line for line in [b'{"event_id":"first"}', *lines, *more] if line.startswith(b"{")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"received_date={DAY}" / "f.ndjson"
        path.parent.mkdir()
        path.write_bytes(b"\n".join(whole))
        names = [name for name, kind in source_columns(OWN, bench.shape()).items() if kind == "VARCHAR"]
        for batch in line_batches(landed_on(Path(folder), DAY), 1_000_000, Path(folder) / "scratch"):
            columns = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
            filled = " + ".join(f'("{name}" is not null)::bigint' for name in names)
            found = bench.engine.connection.execute(
                f"select {filled} from read_json('{batch.plain}', columns = {{{columns}}}, "
                "format = 'newline_delimited', records = 'true', ignore_errors = true, compression = 'none')"
            ).fetchall()
            weights = batch.weights().tolist()
            if max(weights) < SURE_WEIGHT:
                assert batch.weight == sum(weights)
            else:
                assert batch.weight is None
            assert len(found) == len(weights)
            assert all(
                many <= weight for (many,), weight in zip(found, weights, strict=True) if weight < SURE_WEIGHT
            )
