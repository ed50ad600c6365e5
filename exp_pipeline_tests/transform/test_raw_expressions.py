"""Expressions of mappings as they run: never an error on a row, epochs in UTC, attributes by their key."""

from __future__ import annotations

import json

import pytest

from exp_pipeline.model.sources import Source
from exp_pipeline.store.engine import Engine, text_literal
from exp_pipeline.transform.queries import query_text
from exp_pipeline.transform.raw_expressions import expression

ATTRIBUTES = json.dumps(
    [
        {"key": "text", "value": {"stringValue": "a 'b'"}},
        {"key": "n", "value": {"intValue": "12"}},
        {"key": "x", "value": {"doubleValue": 0.5}},
        {"key": "yes", "value": {"boolValue": True}},
        {
            "key": "list",
            "value": {"arrayValue": {"values": [{"stringValue": "one"}, {"stringValue": "two"}]}},
        },
        {"key": "none", "value": {"arrayValue": {}}},
        {"key": "empty", "value": {}},
        {"key": "text", "value": {"stringValue": "again"}},
    ]
)
SOURCE = Source.model_validate(
    {
        "name": "s",
        "files": "*",
        "format": "ndjson",
        "columns": {"n": "BIGINT", "t": "TIMESTAMP", "a": "JSON", "w": "VARCHAR"},
        "events": [{"event_name": "hint_requested"}],
    }
)


def value_of(engine: Engine, text: str) -> object:
    raw = (
        "select 1700000000123::bigint as n, timestamp '2023-11-14 22:13:20.5' as t, "
        f"{text_literal(ATTRIBUTES)}::json as a, 'word' as w"
    )
    (value,) = engine.row(f"select cast({query_text(expression(text, SOURCE))} as varchar) from ({raw})")
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch_ms(n)", "2023-11-14 22:13:20.123+00"),
        ("to_timestamp(n / 1000)", "2023-11-14 22:13:20.123+00"),
        ("make_timestamp(n * 1000)", "2023-11-14 22:13:20.123+00"),
        ("make_timestamp_ms(n) + interval 1 hour", "2023-11-14 23:13:20.123+00"),
        # Of a time it is a number, and no zone is put on it.
        ("epoch_ms(t)", "1700000000500"),
        ("t", "2023-11-14 22:13:20.5"),
        ("strptime('14.11.2023', '%d.%m.%Y')", "2023-11-14 00:00:00"),
    ],
)
def test_a_moment_made_of_a_number_is_utc(engine: Engine, text: str, expected: str) -> None:
    assert value_of(engine, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "cast(w as bigint)",
        "epoch_ms(n * 1000000)",
        "n * n * n",
        "strptime(w, '%Y')",
        "json_extract(w, '$.x')",
        "cast(cast(w as double) as bigint)",
    ],
)
def test_what_fails_on_a_row_is_empty(engine: Engine, text: str) -> None:
    assert value_of(engine, text) is None


def test_only_the_part_that_fails_is_empty_where_another_is_asked_for(engine: Engine) -> None:
    assert value_of(engine, "coalesce(cast(w as bigint), 7)") == "7"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("text", "a 'b'"),
        ("n", "12"),
        ("x", "0.5"),
        ("yes", "true"),
        ("list", "one"),
        ("none", None),
        ("empty", None),
        ("absent", None),
    ],
)
def test_an_attribute_is_found_by_its_key(engine: Engine, key: str, expected: str | None) -> None:
    assert value_of(engine, f"attribute(a, '{key}')") == expected


def test_an_attribute_may_stand_within_another_call(engine: Engine) -> None:
    assert value_of(engine, "cast(attribute(a, 'n') as bigint) * 2") == "24"
