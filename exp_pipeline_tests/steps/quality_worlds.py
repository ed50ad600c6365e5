"""Simulated days that share a past, and the last of them with defects planted in what the product sends."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import polars as pl

from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.landing import ndjson_lines
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan
from exp_pipeline.steps.assignment.exposure import build_assignments
from exp_pipeline.steps.behaviour.learner_days import build_learner_days, build_turns
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land_days

START = date(2026, 3, 2)
# A Tuesday with the Monday before it, and the two Tuesdays before that volume is compared with.
DAY = START + timedelta(days=15)
PAST = (START + timedelta(days=1), START + timedelta(days=8), START + timedelta(days=14))
PLAN = SimulationPlan(
    name="quality",
    seed=11,
    start=START,
    days=24,
    schools=4,
    classes_per_school=4,
    learners=700,
    sessions_per_learner_day=0.6,
    experiments=(
        SimulatedExperiment(
            name="hint-ladder",
            start=START + timedelta(days=14),
            end=START + timedelta(days=24),
            arms=(ArmTruth(name="control", share=0.5), ArmTruth(name="ladder", share=0.5)),
        ),
    ),
    faults=Faults(retry_share=0.005, late_share=0.004),
)
Defect = Callable[[pl.DataFrame], pl.DataFrame]


def write_rows(landing: Path, frame: pl.DataFrame, name: str, garbage: Sequence[bytes] = ()) -> list[date]:
    """Write rows into the folders of the days they are received; broken lines go with the first day."""
    days: list[date] = []
    parts = frame.with_columns(pl.col("received_at").dt.date().alias("day")).partition_by("day", as_dict=True)
    for (day,), part in sorted(parts.items()):
        lines = [*ndjson_lines(part.drop("day")), *(garbage if not days else ())]
        folder = landing / f"received_date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.ndjson.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 1, mtime=0))
        days.append(day)
    return days


def run_steps(bench: Workbench, days: Sequence[date]) -> None:
    """What data quality leans on, for single days."""
    for day in days:
        for step in (conform, build_learner_days, build_sessions, build_turns, build_assignments):
            step(bench, Window.of(day, day))


def make_past(bench: Workbench) -> None:
    """The days before the day in question, landed and run."""
    rows = pl.concat([simulate_day(PLAN, day) for day in PAST])
    land_days(
        bench, write_rows(bench.home.landing, rows.sort("received_at", maintain_order=True), "events-0000")
    )
    run_steps(bench, PAST)


@lru_cache(maxsize=1)
def sent_on(day: date) -> pl.DataFrame:
    """What the product sends on a day, without a defect."""
    return simulate_day(PLAN, day)


def add_day(
    bench: Workbench, past: Path | None, defect: Defect | None = None, garbage: Sequence[bytes] = ()
) -> None:
    """Land and run the day, with a defect if one is given; over a copy of the past, or what is there."""
    if past is not None:
        shutil.copytree(past, bench.home.root, dirs_exist_ok=True)
    rows = sent_on(DAY)
    rows = (rows if defect is None else defect(rows)).sort("received_at", maintain_order=True)
    days = write_rows(bench.home.landing, rows, "events-0001", garbage)
    land_days(bench, sorted({*days, DAY + timedelta(days=3)}))
    run_steps(bench, [DAY])


def some(share: float, salt: int) -> pl.Expr:
    """True for about this share of events, the same ones every time."""
    return (pl.col("event_id").hash(salt) % 1000) < round(share * 1000)


def named(*events: str) -> pl.Expr:
    """True for events of these names."""
    return pl.col("event_name").is_in(events)


def changed(where: pl.Expr, **values: pl.Expr) -> Defect:
    """Rows with other values where a condition holds."""

    def plant(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(
            pl.when(where).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
        )

    return plant


def without(where: pl.Expr) -> Defect:
    """Rows but those for which a condition holds."""
    return lambda rows: rows.filter(~where)


def again(where: pl.Expr, seconds: int, **values: pl.Expr) -> Defect:
    """Rows, and some of them once more, received later, with other values if any are given."""

    def plant(rows: pl.DataFrame) -> pl.DataFrame:
        copies = rows.filter(where).with_columns(
            pl.col("received_at") + timedelta(seconds=seconds),
            **values,
        )
        return pl.concat([rows, copies])

    return plant


def later(where: pl.Expr, hours: float) -> Defect:
    """Rows of which some are received later."""
    return changed(where, received_at=pl.col("received_at") + timedelta(hours=hours))


def every(*defects: Defect) -> Defect:
    """One defect after another."""

    def plant(rows: pl.DataFrame) -> pl.DataFrame:
        for defect in defects:
            rows = defect(rows)
        return rows

    return plant


def appeals(count: int) -> Defect:
    """Rows, and appeals against turns that were never flagged."""

    def plant(rows: pl.DataFrame) -> pl.DataFrame:
        shown = rows.filter(named("tutor_turn_response_shown")).head(count)
        kept = ("schema_version", "client_ts", "received_at", "learner_id", "role", "platform", "app_version")
        made = shown.select(
            ("appeal-" + pl.col("event_id")).alias("event_id"),
            pl.lit("safety_appealed").alias("event_name"),
            pl.col("turn_id"),
            pl.lit("upheld").alias("appeal_outcome"),
            *kept,
        )
        return pl.concat([rows, made], how="diagonal")

    return plant
