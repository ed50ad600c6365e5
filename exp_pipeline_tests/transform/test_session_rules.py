"""A source whose objectives cut no session: the cuts are those of the same events without objectives."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from exp_pipeline.steps.sessions import bouts_text
from exp_pipeline.store.engine import Engine, quote
from exp_pipeline.transform.queries import load
from exp_pipeline.transform.session_rules import without_objectives

RULES = {
    "gap_microseconds": 30 * 60 * 1_000_000,
    "cap_microseconds": 12 * 3600 * 1_000_000,
    "cut_on_objective": True,
    "cut_on_shared_device": True,
}
TEXTS = (
    "learner_id", "session_id", "role", "platform", "app_version", "locale", "class_id", "teacher_id",
    "school_id", "district_id",
)  # fmt: skip


def starts(
    engine: Engine, objectives: list[str | None], uncut: tuple[str, ...], sorted_input: bool
) -> list[int]:
    """Minutes at which bouts begin: events of source `log`, a minute apart, with these objectives."""
    at = datetime(2026, 3, 2, 9)
    known = [None, *objectives[:-1]]
    rows = pl.DataFrame(
        {
            "learner_key": pl.Series([1] * len(objectives), dtype=pl.UInt64),
            "event_date": [at.date()] * len(objectives),
            "occurred_at": [at + timedelta(minutes=number) for number in range(len(objectives))],
            "event_id": [f"e{number}" for number in range(len(objectives))],
            "event_name": ["hint_requested"] * len(objectives),
            "source": ["log"] * len(objectives),
            "objective_changed": [b is not None and a != b for a, b in zip(objectives, known, strict=True)],
            "device_handover": [False] * len(objectives),
            "learning_objective_id": pl.Series(objectives, dtype=pl.String),
            **{name: pl.Series(["x"] * len(objectives), dtype=pl.String) for name in TEXTS},
        }
    )
    engine.offer_frame("told", rows)
    engine.alias("events", "told")
    text = bouts_text(sorted_input=sorted_input, uncut=uncut)
    rules = RULES | {"file_rows": rows.height}
    used = {name: value for name, value in rules.items() if f"${name}" in text}
    found = engine.frame(f"select started_at from ({text}) order by started_at", used)
    engine.connection.execute("drop view events")
    engine.drop("told")
    return [int((moment - at).total_seconds() // 60) for moment in found["started_at"]]


@pytest.mark.parametrize("sorted_input", [True, False])
def test_only_the_named_sources_are_cut_by_gaps_alone(engine: Engine, sorted_input: bool) -> None:
    objectives: list[str | None] = ["a", "a", "b", "b", "a"]
    assert starts(engine, objectives, (), sorted_input) == [0, 2, 4]
    assert starts(engine, objectives, ("other",), sorted_input) == [0, 2, 4]
    assert starts(engine, objectives, ("log", "other"), sorted_input) == [0]


def test_nothing_is_changed_for_nobody() -> None:
    query = load("bouts")
    assert without_objectives(query, ()) is query
    assert quote("source") not in query.sql(dialect="duckdb")
