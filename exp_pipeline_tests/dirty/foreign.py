"""A dirty log in somebody else's schema, as JSON, CSV and Parquet, with the mappings that read it.

A row of theirs is a *sheet*: who, when (New York time), what kind, a list of answers. It makes a hint where
its kind is `hint` or `both`, feedback where it is `both` or `note`, nothing for `scroll`, and is left out on
purpose for `ping`. In JSON, each answer of `answers` makes an event of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from exp_pipeline_tests.dirty.json_files import gz
from exp_pipeline_tests.dirty.key import DAYS, Fate, Planting, kept, left_out, refused, retry
from exp_pipeline_tests.dirty.tables import parquet, record

JSON, LISTS, CSV, TABLE = "far-json", "far-lists", "far-csv", "far-table"
NEW_YORK = ZoneInfo("America/New_York")
_FIELDS = {
    "event_id": "'s' || sheet",
    "learner_id": "pupil",
    "client_ts": "taken",
    "received_at": "taken",
    "schema_version": "'1.0'",
    "role": "case when pupil = 'boss' then 'staff' else 'student' end",
    "platform": "'web'",
    "app_version": "'7'",
}
_EVENTS = [
    {"event_name": "hint_requested", "when": "kind in ('hint', 'both')", "fields": {"hint_level": "points"}},
    {
        "event_name": "feedback_given",
        "when": "kind in ('both', 'note')",
        "fields": {"event_id": "'f' || sheet", "rating": "points", "feedback_text": "note"},
    },
]
_COLUMNS = {
    "sheet": "VARCHAR",
    "pupil": "VARCHAR",
    "taken": "VARCHAR",
    "kind": "VARCHAR",
    "points": "BIGINT",
    "note": "VARCHAR",
}
_RULES: dict[str, Any] = {
    "time_zone": "America/New_York",
    "columns": _COLUMNS,
    "fields": _FIELDS,
    "events": _EVENTS,
    "ignore": [{"when": "kind = 'ping'", "reason": "heartbeat"}],
}
SOURCES: tuple[dict[str, Any], ...] = (
    {"name": JSON, "files": "received_date=*/far-json/*", "format": "ndjson", **_RULES},
    {"name": CSV, "files": "received_date=*/far-csv/*", "format": "csv", **_RULES},
    {"name": TABLE, "files": "received_date=*/far-table/*", "format": "parquet", **_RULES},
    {
        "name": LISTS,
        "files": "received_date=*/far-lists/*",
        "format": "ndjson",
        "time_zone": "America/New_York",
        "columns": {
            "sheet": "VARCHAR",
            "pupil": "STRUCT(id VARCHAR)",
            "answers": "STRUCT(n VARCHAR, at VARCHAR, hint BIGINT)[]",
            "item": "STRUCT(n VARCHAR, at VARCHAR, hint BIGINT)",
        },
        "unnest": "answers",
        "fields": {
            **_FIELDS,
            "event_id": "sheet || '-' || item.n",
            "learner_id": "pupil.id",
            "role": "'student'",
            "client_ts": "item.at",
            "received_at": "item.at",
        },
        "events": [
            {"event_name": "hint_requested", "when": "item.hint > 0", "fields": {"hint_level": "item.hint"}}
        ],
    },
)
HEADER = tuple(_COLUMNS)


def local(at: datetime) -> str:
    """A UTC moment as a clock on a wall in New York shows it."""
    return at.replace(tzinfo=ZoneInfo("UTC")).astimezone(NEW_YORK).strftime("%Y-%m-%d %H:%M:%S")


def sheet(planting: Planting, day: date, **changes: object) -> dict[str, Any]:
    """A sound sheet of a UTC day that makes one hint; a change to None takes a field out."""
    row = {
        "sheet": planting.new_id("sheet"),
        "pupil": f"pupil-{planting.random.randrange(30)}",
        "taken": local(planting.moment(day)),
        "kind": "hint",
        "points": 2,
        **changes,
    }
    return {name: value for name, value in row.items() if value is not None}


def kinds(planting: Planting, day: date) -> list[tuple[str, dict[str, Any], list[Fate]]]:
    """Every kind of sheet that all three forms can hold."""
    midnight = datetime(day.year, day.month, day.day)
    return [
        ("hint", sheet(planting, day), [kept(day)]),
        ("both", sheet(planting, day, kind="both"), [kept(day)] * 2),
        ("note", sheet(planting, day, kind="note", note='well, "fine"\nindeed'), [kept(day)]),
        ("nothing wanted", sheet(planting, day, kind="scroll"), [refused("no_event_rule", day)]),
        ("no kind", sheet(planting, day, kind=None), [refused("no_event_rule", day)]),
        (
            "left out on purpose",
            sheet(planting, day, kind="ping"),
            [left_out("ignored_by_source:heartbeat", day)],
        ),
        ("staff", sheet(planting, day, pupil="boss", kind="both"), [left_out("role:staff", day)] * 2),
        ("first second of the day", sheet(planting, day, taken=local(midnight)), [kept(day)]),
        (
            "last second of the day before",
            sheet(planting, day, taken=local(midnight - timedelta(seconds=1))),
            [kept(day - timedelta(days=1))],
        ),
        ("own zone", sheet(planting, day, taken=f"{day}T10:00:00+05:30"), [kept(day)]),
        ("UTC said", sheet(planting, day, taken=f"{day}T23:00:00Z"), [kept(day)]),
        ("no time", sheet(planting, day, taken="soon"), [refused("wrong_type:client_ts", day)]),
        (
            "far too high a rating",
            sheet(planting, day, kind="note", points=99),
            [refused("out_of_range:rating", day)],
        ),
        ("nobody", sheet(planting, day, pupil=None), [refused("missing:learner_id", day)]),
        ("strange pupil", sheet(planting, day, pupil="Robert'); drop table students;--"), [kept(day)]),
    ]


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def plant(planting: Planting) -> None:
    for day in DAYS:
        _json_of(planting, day)
        _lists_of(planting, day)
        _csv_of(planting, day)
        _table_of(planting, day)


def _json_of(planting: Planting, day: date) -> None:
    made = [(kind, _line(row), fates) for kind, row, fates in kinds(planting, day)]
    again = _line(sheet(planting, day, kind="both"))
    wrong = [refused("wrong_type:points", day)]
    made += [
        ("sheet twice", again * 2, [kept(day)] * 2 + [retry(day)] * 2),
        ("unknown columns", _line(sheet(planting, day, mood={"a": [1]}, x=None)), [kept(day)]),
        ("word for a number", _line(sheet(planting, day, points="two")), wrong),
        ("broken number", _line(sheet(planting, day, points=1.5)), wrong),
        ("list for a number", _line(sheet(planting, day, points=[1])), wrong),
        (
            "object for a pupil",
            _line(sheet(planting, day, pupil={"id": 1})),
            [refused("wrong_type:pupil", day)],
        ),
        ("no JSON", b"<html>\n", [refused("not_json", day)]),
        ("no object", b"[1]\n", [refused("not_an_object", day)]),
        (
            "not UTF-8",
            _line(sheet(planting, day, pupil="caf\u00e9")).replace(b"\xc3", b""),
            [refused("not_utf8", day)],
        ),
        ("blank line", b"\n", []),
    ]
    planting.random.shuffle(made)
    for kind, _, fates in made:
        planting.count(JSON, "foreign: " + kind, fates)
    planting.put(day, "far-json/log.ndjson.gz", gz(b"".join(content for _, content, _ in made)))


def _lists_of(planting: Planting, day: date) -> None:
    def answer(n: str, hint: object = 1) -> dict[str, object]:
        return {"n": n, "at": local(planting.moment(day)), "hint": hint}

    def row(answers: object, **changes: object) -> bytes:
        return _line({"sheet": planting.new_id("list"), "pupil": {"id": "p1"}, "answers": answers, **changes})

    unwanted = refused("no_event_rule", day)
    made = [
        ("three", row([answer("a"), answer("b"), answer("c")]), [kept(day)] * 3),
        (
            "one wanted of three",
            row([answer("a"), answer("b", 0), answer("c", None)]),
            [kept(day), unwanted, unwanted],
        ),
        ("empty list", row([]), [unwanted]),
        ("null list", row(None), [unwanted]),
        ("no list", row("none"), [unwanted]),
        ("list of a null", row([None, answer("b")]), [unwanted, kept(day)]),
        ("same answer twice", row([one := answer("a"), one]), [kept(day), retry(day)]),
        ("key twice", row([answer("a")])[:-2] + b',"sheet":"x"}\n', [refused("duplicate_key", day)]),
        ("no JSON", b"{]\n", [refused("not_json", day)]),
    ]
    for kind, _, fates in made:
        planting.count(LISTS, "foreign list: " + kind, fates)
    planting.put(day, "far-lists/log.ndjson", b"".join(content for _, content, _ in made))


def _csv_of(planting: Planting, day: date) -> None:
    made = [(kind, record(row, HEADER), fates) for kind, row, fates in kinds(planting, day)]
    made += [
        (
            "word for a number",
            record(sheet(planting, day, points="two"), HEADER),
            [refused("wrong_type:points", day)],
        ),
        ("no number", record(sheet(planting, day, points=None), HEADER), [kept(day)]),
        ("too short", b"x,y\n", [refused("wrong_column_count", day)]),
        ("text after a quote", b'"a"b,,,,,\n', [refused("bad_quotes", day)]),
        (
            "not UTF-8",
            record(sheet(planting, day, pupil="caf\u00e9"), HEADER).replace(b"\xc3", b""),
            [refused("not_utf8", day)],
        ),
    ]
    planting.random.shuffle(made)
    for kind, _, fates in made:
        planting.count(CSV, "foreign csv: " + kind, fates)
    head = (",".join(HEADER) + "\n").encode()
    planting.put(day, "far-csv/log.csv", head + b"".join(content for _, content, _ in made))


def _table_of(planting: Planting, day: date) -> None:
    made = kinds(planting, day)
    for kind, _, fates in made:
        planting.count(TABLE, "foreign table: " + kind, fates)
    columns = [name for name in HEADER]
    frame = pl.DataFrame(
        [{name: row.get(name) for name in columns} for _, row, _ in made], infer_schema_length=None
    )
    planting.put(day, "far-table/log.parquet", parquet(frame.with_columns(pl.col("points").cast(pl.Int32))))
    broken = [sheet(planting, day, points=1.5), sheet(planting, day, points=3.0)]
    floats = pl.DataFrame(broken).with_columns(note=pl.lit(None, dtype=pl.String))
    planting.put(day, "far-table/floats.parquet", parquet(floats))
    planting.count(TABLE, "foreign table: floats", [refused("wrong_type:points", day), kept(day)])
    planting.put(day, "far-table/torn.parquet", parquet(frame)[:-5])
    planting.count(TABLE, "foreign table: torn", [refused("unreadable_file", day)])
