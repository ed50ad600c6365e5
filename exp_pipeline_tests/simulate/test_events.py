"""What a simulated day logs: reproducible, within the contract, and shaped like a school's log."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest

from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.contracts.predicates import rejection_sql
from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.plans import bench_plan
from exp_pipeline.simulate.population import population
from exp_pipeline.transform.assignment import arm_of

START, END = datetime(2026, 3, 9), datetime(2026, 3, 30)


def test_a_day_can_be_made_alone_and_again(demo: SimulationPlan) -> None:
    day = date(2026, 3, 12)
    alone = simulate_day(demo, day)
    population.cache_clear()
    simulate_day(demo, date(2026, 3, 20))
    assert alone.equals(simulate_day(demo, day))


def test_another_seed_gives_another_day(demo: SimulationPlan) -> None:
    other = demo.model_copy(update={"seed": demo.seed + 1})
    day = date(2026, 3, 12)
    assert not simulate_day(demo, day).equals(simulate_day(other, day))


def test_a_day_outside_the_plan_is_refused(demo: SimulationPlan) -> None:
    with pytest.raises(ValueError, match=r"index must lie in 0\.\.36, got 37"):
        simulate_day(demo, date(2026, 4, 1))


def test_every_event_keeps_its_contract(demo_rows: pl.DataFrame) -> None:
    types = {"string": pl.String, "integer": pl.Int64, "float": pl.Float64, "boolean": pl.Boolean}
    for name, dtype in demo_rows.schema.items():
        assert dtype == types.get(FIELDS[name].type, pl.Datetime("us")), name
    skewed = pl.col("client_ts") > pl.col("received_at") + timedelta(minutes=5)
    when = pl.when(skewed).then("received_at").otherwise("client_ts").alias("occurred_at")
    missing = [
        pl.lit(None, dtype=types.get(field.type, pl.Datetime("us"))).alias(name)
        for name, field in FIELDS.items()
        if name not in demo_rows.columns
    ]
    typed = demo_rows.with_columns(when, *missing)
    with duckdb.connect() as connection:
        connection.register("typed", typed.to_arrow())
        refused = connection.sql(
            f"select {rejection_sql()} as reason, count(*) from typed group by 1"
        ).fetchall()
    assert refused == [(None, demo_rows.height)]


def test_a_turn_runs_from_message_to_answer(demo_events: pl.DataFrame) -> None:
    by_turn = (
        demo_events.filter(
            pl.col("event_name").is_in(["tutor_turn_submitted", "tutor_turn_response_shown"]),
            # Clock faults move single events.
            pl.col("client_ts") <= pl.col("received_at") + timedelta(minutes=5),
        )
        .group_by("turn_id")
        .agg(
            pl.col("client_ts").filter(pl.col("event_name") == "tutor_turn_submitted").first().alias("asked"),
            pl.col("client_ts").filter(pl.col("latency_ms").is_not_null()).first().alias("answered"),
            pl.col("latency_ms").drop_nulls().first().alias("latency_ms"),
        )
        .drop_nulls()
    )
    assert by_turn.height > 25_000
    waited = (by_turn["answered"] - by_turn["asked"]).dt.total_milliseconds().cast(pl.Float64)
    assert (waited == by_turn["latency_ms"]).all()


def test_logged_arms_are_the_hash_and_come_first(demo: SimulationPlan, demo_events: pl.DataFrame) -> None:
    logged = demo_events.filter(pl.col("event_name") == "experiment_assigned").sort("client_ts")
    for experiment in demo.experiments:
        mine = logged.filter(pl.col("experiment") == experiment.name)
        first = mine.unique("unit_id", keep="first", maintain_order=True)
        expected = [arm_of(experiment.name, 1, unit, experiment.shares()) for unit in first["unit_id"]]
        assert first["arm"].to_list() == expected
        assert mine["client_ts"].is_between(START, END, closed="left").all()
        exposed = demo_events.filter(
            pl.col("event_name") == "experiment_exposed", pl.col("experiment") == experiment.name
        )
        unit = "learner_id" if experiment.unit == "learner" else "class_id"
        joined = exposed.join(
            first.select(pl.col("unit_id").alias(unit), at="client_ts"), on=unit, how="left"
        )
        assert (joined["client_ts"] > joined["at"]).all()


def test_prompt_version_alone_tells_the_arms_apart(demo_events: pl.DataFrame) -> None:
    responses = demo_events.filter(pl.col("event_name") == "tutor_turn_response_shown")
    pinned = ["model_name", "model_version", "retrieval_version", "safety_policy_version", "decoder_hash"]
    assert responses.select(pinned).unique().height == 1
    assert set(responses["prompt_version"]) == {"tutor-7", "tutor-8-ladder", "tutor-8-ladder-fast"}


def test_the_day_has_the_shape_of_a_school_day(demo_events: pl.DataFrame) -> None:
    by_weekday = demo_events.group_by(pl.col("client_ts").dt.weekday().alias("weekday")).len().sort("weekday")
    counts = by_weekday["len"].to_list()
    assert max(counts[5:]) < min(counts[:5]) / 2
    hours = demo_events["client_ts"].dt.hour()
    assert int(hours.is_between(8, 15).sum()) > 0.6 * hours.len()
    assert set(demo_events["platform"]) == {"chromebook", "web", "ios", "android"}


def test_past_mastery_predicts_mastery(demo_events: pl.DataFrame) -> None:
    mastered = pl.col("mastery").fill_null(False)
    first = pl.col("client_ts") < START
    units = demo_events.group_by("learner_id").agg(
        mastered.filter(first).any().alias("before"),
        mastered.filter(~first).any().alias("after"),
        first.any().alias("seen_before"),
        (~first).any().alias("seen_after"),
    )
    both = units.filter("seen_before", "seen_after").select(pl.col("before", "after").cast(pl.Float64))
    correlation = float(np.corrcoef(both["before"], both["after"])[0, 1])
    assert 0.35 < correlation < 0.65


def test_the_benchmark_world_has_the_size_asked_for() -> None:
    plan = bench_plan(20_000)
    rows = sum(simulate_day(plan, day).height for day in plan.all_days())
    # The number of sessions is random; at 20,000 events its own spread is about 3 %.
    assert rows == pytest.approx(20_000, rel=0.12)
    with pytest.raises(ValueError, match="events must be at least 10000, got 10"):
        bench_plan(10)
