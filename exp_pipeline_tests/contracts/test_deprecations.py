"""Who still sends what is deprecated: counted, before its last day and after."""

from __future__ import annotations

from datetime import date, datetime

import duckdb
import polars as pl

from exp_pipeline.contracts.deprecations import deprecation_counts, deprecations
from exp_pipeline.contracts.events import event_specs

ROWS = [
    ("feedback_given", "1.0", 4.0, datetime(2027, 12, 31, 23, 59)),
    ("feedback_given", "1.1", None, datetime(2027, 3, 1)),
    ("feedback_given", "2.0", 4.0, datetime(2028, 3, 1)),
    ("rubric_scored", "1.0", 3.0, datetime(2028, 1, 1)),
    ("rubric_scored", "1.1", None, datetime(2028, 1, 2)),
    ("goal_reached", "1.0", None, datetime(2026, 1, 2)),
    ("rubric_scored", None, 3.0, None),
]


def counted(
    rows: list[tuple[str, str | None, float | None, datetime | None]],
) -> dict[str, tuple[int, int, object]]:
    frame = pl.DataFrame(
        rows,
        orient="row",
        schema={
            "event_name": pl.String,
            "schema_version": pl.String,
            "rating": pl.Float64,
            "received_at": pl.Datetime("us"),
        },
    )
    with duckdb.connect() as connection:
        connection.register("events", frame)
        found = connection.sql(deprecation_counts().sql(dialect="duckdb")).fetchall()
    assert [row[0] for row in found] == list(range(len(deprecations())))
    return {
        one.label: (rows, after, last)
        for one, (_, rows, after, last) in zip(deprecations(), found, strict=True)
    }


def test_rows_that_use_a_deprecated_version_or_column_are_counted() -> None:
    assert counted(ROWS) == {
        "rating of rubric_scored 1": (1, 1, datetime(2028, 1, 1)),
        "feedback_given 1": (2, 0, datetime(2027, 12, 31, 23, 59)),
    }


def test_no_rows_are_counted_as_none() -> None:
    assert set(counted([]).values()) == {(0, 0, None)}


def test_all_that_has_a_last_day_is_listed() -> None:
    known = {(one.event_name, one.major, one.column): one.sunset for one in deprecations()}
    for spec in event_specs():
        if spec.sunset is not None:
            assert known[spec.name, spec.major, None] == date.fromisoformat(spec.sunset)
        for column, day in spec.deprecated.items():
            assert known[spec.name, spec.major, column] == date.fromisoformat(day)
    assert len({one.key for one in deprecations()}) == len(deprecations())
    assert {one.key for one in deprecations()} == {"rubric_scored_1_rating", "feedback_given_1"}
