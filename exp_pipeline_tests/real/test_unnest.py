"""Raw rows that hold a list: each element a row of its own, through the door and on to events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml

from exp_pipeline.model.errors import SpecError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.home import Home
from exp_pipeline.transform.mapping import MOST_PARTS
from exp_pipeline_tests.real.places import KEY

DAY = date(2026, 3, 2)
ANSWER = "STRUCT(id VARCHAR, right_first BOOLEAN, at VARCHAR)"
SOURCE: dict[str, Any] = {
    "name": "sheets",
    "files": "received_date=*/*",
    "unnest": "answers",
    "columns": {"sheet": "VARCHAR", "pupil": "VARCHAR", "answers": f"{ANSWER}[]", "item": ANSWER},
    "fields": {
        "schema_version": "'1.0'",
        "client_ts": "item.at",
        "received_at": "item.at",
        "learner_id": "pupil",
        "role": "'student'",
        "platform": "'web'",
        "app_version": "'1'",
    },
    "events": [
        {
            "event_name": "answer_attempted",
            "when": "item.right_first is not null",
            "fields": {"event_id": "sheet || '/' || item.id", "correct": "item.right_first"},
        },
        {
            "event_name": "hint_requested",
            "when": "starts_with(item.id, 'h')",
            "fields": {"event_id": "sheet || '/' || item.id || '/hint'"},
        },
    ],
}


def answer(name: str, right: bool | None, minute: int = 0) -> dict[str, Any]:
    return {"id": name, "right_first": right, "at": f"2026-03-02T09:{minute:02d}:00Z"}


ROWS: list[dict[str, Any]] = [
    {
        "sheet": "s1",
        "pupil": "p1",
        "answers": [answer("a", True), answer("b", False, 1), answer("h", True, 2)],
    },
    {"sheet": "s2", "pupil": "p2", "answers": []},
    {"sheet": "s3", "pupil": "p2", "answers": None},
    {"sheet": "s4", "pupil": "p3", "answers": [answer("a", None), answer("b", True, 3)]},
]


def home_of(folder: Path, source: dict[str, Any]) -> Home:
    home = Home(folder)
    (home.catalog / "sources").mkdir(parents=True)
    (home.catalog / "sources" / f"{source['name']}.yaml").write_text(yaml.safe_dump(source, sort_keys=False))
    (home.landing / f"received_date={DAY}").mkdir(parents=True)
    return home


@contextmanager
def landed(folder: Path, source: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Iterator[Workbench]:
    """A workbench on which a file of raw rows went through the door and on to events."""
    home = home_of(folder, source)
    path = home.landing / f"received_date={DAY}" / "sheets"
    if source["format"] == "parquet":
        kinds = {"id": pl.String, "right_first": pl.Boolean, "at": pl.String}
        schema: dict[str, Any] = {
            "sheet": pl.String,
            "pupil": pl.String,
            "answers": pl.List(pl.Struct(kinds)),
        }
        pl.DataFrame(list(rows), schema=schema).write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (
        duckdb.connect(":memory:") as connection,
        workbench(
            home,
            connection,
            run_id="test",
            environment=KEY,
            catalog=open_catalog(home.catalog, strict=True),
            threads=1,
        ) as bench,
    ):
        landing.land(bench, DAY)
        ingest.conform(bench, Window.of(DAY, DAY))
        yield bench


def rows_of(bench: Workbench, table: str) -> pl.DataFrame:
    manifests = bench.lake.manifests(table, bench.lake.partitions(table))
    return pl.concat([pl.read_parquet(path) for path in bench.lake.paths(manifests)])


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_each_element_becomes_its_events(tmp_path: Path, kind: str) -> None:
    with landed(tmp_path, SOURCE | {"format": kind}, ROWS) as bench:
        events = rows_of(bench, "events").sort("event_id")
        assert events.select("event_id", "event_name", "correct").rows() == [
            ("s1/a", "answer_attempted", True),
            ("s1/b", "answer_attempted", False),
            ("s1/h", "answer_attempted", True),
            ("s1/h/hint", "hint_requested", None),
            ("s4/b", "answer_attempted", True),
        ]
        assert bench.key is not None
        assert events["learner_id"][0] == bench.key.pseudonym("p1")
        assert events["occurred_at"].dt.minute().to_list() == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_what_makes_no_event_is_counted_row_by_row(tmp_path: Path, kind: str) -> None:
    with landed(tmp_path, SOURCE | {"format": kind}, ROWS) as bench:
        refused = rows_of(bench, "quarantine")
        assert refused["reason"].unique().to_list() == ["no_event_rule"]
        # The empty list, the missing one, and the element that no rule wants.
        assert refused["row_number"].sort().to_list() == [2, 3, 4]
        (manifest,) = bench.lake.manifests("landed", bench.lake.partitions("landed"))
        assert manifest.facts["raw_rows"] == len(ROWS)
        assert manifest.rows == rows_of(bench, "events").height + refused.height
        places = rows_of(bench, "landed").select("file", "row_number", "part")
        assert places.is_duplicated().sum() == 0


def test_lines_that_cannot_be_read_stay_one_row(tmp_path: Path) -> None:
    with landed(tmp_path, SOURCE | {"format": "ndjson"}, ROWS[:1]) as bench:
        day = bench.home.landing / f"received_date={DAY}"
        (day / "more").write_text(
            'not json\n{"sheet": "s9", "answers": "none"}\n{"sheet": "s8", "answers": [3]}\n'
        )
        landing.land(bench, DAY)
        ingest.conform(bench, Window.of(DAY, DAY))
        assert Counter(rows_of(bench, "quarantine")["reason"]) == {"not_json": 1, "no_event_rule": 2}
        assert rows_of(bench, "events").height == 4


def test_a_list_of_texts_can_be_split_from_one(tmp_path: Path) -> None:
    texts = {
        **SOURCE,
        "format": "ndjson",
        "unnest": "str_split(answers, ' ')",
        "columns": {"sheet": "VARCHAR", "pupil": "VARCHAR", "answers": "VARCHAR", "item": "VARCHAR"},
        "fields": SOURCE["fields"]
        | {"client_ts": "'2026-03-02T09:00:00Z'", "received_at": "'2026-03-02T09:00:00Z'"},
        "events": [
            {
                "event_name": "answer_attempted",
                "fields": {"event_id": "sheet || '/' || left(item, 1)", "correct": "right(item, 1) = '+'"},
            }
        ],
    }
    with landed(tmp_path, texts, [{"sheet": "s1", "pupil": "p1", "answers": "a+ b- c+"}]) as bench:
        events = rows_of(bench, "events").sort("event_id")
        assert events.select("event_id", "correct").rows() == [
            ("s1/a", True),
            ("s1/b", False),
            ("s1/c", True),
        ]


def test_a_list_too_long_to_number_is_refused_whole(tmp_path: Path) -> None:
    most = MOST_PARTS // (len(SOURCE["events"]) + 1)
    long = {"sheet": "s1", "pupil": "p1", "answers": [answer("a", None)] * (most + 1)}
    full = {"sheet": "s2", "pupil": "p1", "answers": [answer(f"h{place}", True) for place in range(most)]}
    with landed(tmp_path, SOURCE | {"format": "ndjson"}, [long, full]) as bench:
        reasons = Counter(rows_of(bench, "landed")["reason"])
        assert reasons == {"too_many_items": 1, None: 2 * most}
        assert rows_of(bench, "landed")["part"].max() == (most - 1) * 3 + 2


def test_a_file_may_have_columns_of_our_names(tmp_path: Path) -> None:
    plain = {
        **SOURCE,
        "format": "parquet",
        "columns": {"row_number": "BIGINT", "pupil": "VARCHAR"},
        "extra_keep": ["reason"],
        "fields": SOURCE["fields"]
        | {"client_ts": "'2026-03-02T09:00:00Z'", "received_at": "'2026-03-02T09:00:00Z'"},
        "events": [{"event_name": "hint_requested", "fields": {"event_id": "'h' || row_number"}}],
    }
    del plain["unnest"]
    home = home_of(tmp_path, plain)
    frame = pl.DataFrame({"pupil": ["p1", "p2"], "row_number": [70, 80], "reason": ["x", "y"]})
    frame.write_parquet(home.landing / f"received_date={DAY}" / "f")
    with (
        duckdb.connect(":memory:") as connection,
        workbench(home, connection, run_id="t", environment=KEY, threads=1) as bench,
    ):
        landing.land(bench, DAY)
        rows = rows_of(bench, "landed").sort("row_number")
    assert rows["event_id"].to_list() == ["h1", "h2"]
    assert [json.loads(text) for text in rows["extra"]] == [
        {"row_number": 70, "reason": "x"},
        {"row_number": 80, "reason": "y"},
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": {"pupil": "VARCHAR", "answers": "VARCHAR[]"}}, "declare `item` in `columns`"),
        ({"columns": SOURCE["columns"] | {"reason": "VARCHAR"}}, "cannot declare reason"),
        ({"identity": True, "fields": {}, "events": []}, "leave out `unnest`"),
    ],
)
def test_a_source_that_cannot_be_taken_apart_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Source.model_validate(SOURCE | {"format": "ndjson"} | changes)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("fields", "leaner_id"), "pupil", "leaner_id"),
        (("unnest",), "unnest(answers)", "unnest"),
        (("unnest",), "answer", "unknown column answer"),
        (("unnest",), "list_transform(answers, x -> x)", "not allowed here"),
    ],
)
def test_the_catalog_says_what_is_wrong_with_a_mapping(
    tmp_path: Path, path: tuple[str, ...], value: str, said: str
) -> None:
    """A key that the door has no place for, and expressions that reach further than one row."""
    source = json.loads(json.dumps(SOURCE | {"format": "ndjson"}))
    place = source
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    home = home_of(tmp_path, source)
    with pytest.raises(SpecError) as caught:
        open_catalog(home.catalog, strict=True)
    (problem,) = caught.value.problems
    assert problem.file.endswith("sheets.yaml")
    assert problem.line is not None
    assert said in str(problem)
    # Leniently, the rest of the catalog stands and this source alone is left out.
    assert open_catalog(home.catalog).sources == ()
