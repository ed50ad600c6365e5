"""A source whose objectives cut no session: the cuts are those of the same events without objectives."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from exp_pipeline.store.engine import Engine, quote
from exp_pipeline.transform.queries import load
from exp_pipeline.transform.session_rules import without_objectives
from exp_pipeline_tests.transform.test_bouts import one_pass, portable

TEXTS = (
    "learner_id", "session_id", "role", "platform", "app_version", "locale", "class_id", "teacher_id",
    "school_id", "district_id",
)  # fmt: skip


def starts(engine: Engine, folder: Path, objectives: list[str | None], uncut: tuple[str, ...]) -> list[int]:
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
    found = one_pass(engine, folder, uncut=uncut)
    assert found == portable(engine, uncut=uncut)
    engine.connection.execute("drop view events")
    engine.drop("told")
    return [int((row["started_at"] - at).total_seconds() // 60) for row in found]


def test_only_the_named_sources_are_cut_by_gaps_alone(engine: Engine, tmp_path: Path) -> None:
    objectives: list[str | None] = ["a", "a", "b", "b", "a"]
    assert starts(engine, tmp_path, objectives, ()) == [0, 2, 4]
    assert starts(engine, tmp_path, objectives, ("other",)) == [0, 2, 4]
    assert starts(engine, tmp_path, objectives, ("log", "other")) == [0]


def test_nothing_is_changed_for_nobody() -> None:
    query = load("bouts")
    assert without_objectives(query, ()) is query
    assert quote("source") not in query.sql(dialect="duckdb")
