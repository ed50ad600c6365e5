"""Planted facts are found again in the rows by counting them another way."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.truth import Truth, truth

MALFORMED = ("not_json", "not_utf8", "truncated", "contract_break")


@pytest.fixture(scope="module")
def planted(demo: SimulationPlan) -> Truth:
    return truth(demo)


def test_the_conservation_law_holds_by_counting(planted: Truth, demo_rows: pl.DataFrame) -> None:
    added = sum(planted.rows_by_fault[kind] for kind in MALFORMED)
    assert planted.rows == demo_rows.height + added
    assert planted.rows == planted.kept + planted.retries + planted.quarantined + planted.excluded
    students = demo_rows.filter(pl.col("role") == "student")
    assert planted.excluded == demo_rows.height - students.height

    payload = [column for column in students.columns if column != "received_at"]
    assert planted.retries == students.height - students.unique(payload).height
    payloads = students.unique(payload).group_by("event_id").len()
    assert planted.rows_by_fault["conflicting_duplicate"] == payloads.filter(pl.col("len") == 2).height

    distinct = students.unique("event_id", keep="first", maintain_order=True)
    days_late = (pl.col("received_at").dt.date() - pl.col("client_ts").dt.date()).dt.total_days()
    assert planted.rows_by_fault["too_late"] == distinct.filter(days_late > 3).height
    minutes_of_night = pl.col("received_at").dt.hour() == 12
    late = distinct.filter(days_late.is_between(1, 3) & minutes_of_night).height
    assert planted.rows_by_fault["late"] == late
    ahead = pl.col("client_ts") - pl.col("received_at")
    assert planted.rows_by_fault["clock_year_ahead"] == distinct.filter(ahead > timedelta(days=300)).height
    near = distinct.filter(ahead.is_between(timedelta(minutes=5), timedelta(days=1))).height
    assert planted.rows_by_fault["clock_skewed"] == near
    kept = distinct.filter(days_late <= 3)
    assert planted.kept == kept.height
    by_event = dict(kept.group_by("event_name").len().iter_rows())
    assert {name: count for name, count in planted.kept_by_event.items() if count} == by_event


def test_every_declared_fault_is_planted(demo: SimulationPlan, planted: Truth) -> None:
    faults = demo.faults
    found = planted.rows_by_fault
    assert found["conflicting_duplicate"] == faults.conflicting_duplicates
    for kind in ("too_late", "clock_skewed", "clock_year_ahead", "not_json", "not_utf8", "truncated"):
        assert found[kind] == getattr(faults, kind)
    assert found["contract_break"] == faults.contract_breaks
    assert found["retry"] / planted.kept == pytest.approx(faults.retry_share, rel=0.2)
    assert planted.sessions_over_midnight > 5
    assert planted.accounts_on_shared_devices > 50


def test_contaminated_units_are_logged_in_two_arms(planted: Truth, demo_events: pl.DataFrame) -> None:
    arms = (
        demo_events.filter(pl.col("event_name") == "experiment_assigned")
        .group_by("experiment", "unit_id")
        .agg(pl.col("arm").n_unique())
        .filter(pl.col("arm") > 1)
    )
    assert set(arms["experiment"]) == {"hint-ladder"}
    assert sorted(arms["unit_id"]) == sorted(planted.contaminated)
    assert len(planted.contaminated) == 3


def test_shares_by_arm_are_those_of_the_log(planted: Truth, demo_events: pl.DataFrame) -> None:
    first = (
        demo_events.filter(
            pl.col("event_name") == "experiment_assigned", pl.col("experiment") == "hint-ladder"
        )
        .sort("client_ts")
        .unique("unit_id", keep="first", maintain_order=True)
        .select(learner_id="unit_id", assigned_arm="arm", at="client_ts")
    )
    after = demo_events.join(first, on="learner_id").filter(
        pl.col("client_ts") >= pl.col("at"), pl.col("client_ts") < datetime(2026, 3, 30)
    )
    mastered = set(after.filter(pl.col("mastery"))["learner_id"])
    for figures in planted.arms[:3]:
        own = first.filter(pl.col("assigned_arm") == figures.arm)["learner_id"].to_list()
        assert len(own) == figures.assigned
        share = sum(learner in mastered for learner in own) / len(own)
        # Answers that arrive too late or with a wrong clock can cost one learner their mastery.
        assert share == pytest.approx(figures.observed_mastery_share, abs=0.004)


def test_the_planted_effects_are_the_promised_ones(planted: Truth, demo_events: pl.DataFrame) -> None:
    control, ladder, fast, *classes = planted.arms
    effect = ladder.expected_mastery_share - control.expected_mastery_share
    assert 0.09 < effect < 0.12
    assert fast.expected_mastery_share == ladder.expected_mastery_share
    assert 0.43 < control.expected_mastery_share < 0.49
    assert classes[0].expected_mastery_share == classes[1].expected_mastery_share
    assert sum(arm.assigned for arm in classes) == 24
    assert min(arm.assigned for arm in classes) >= 9

    responses = demo_events.filter(pl.col("latency_ms").is_not_null(), pl.col("prompt_version").is_not_null())
    p95 = dict(responses.group_by("prompt_version").agg(pl.col("latency_ms").quantile(0.95)).iter_rows())
    # The sampling error of a p95 over 5,000 turns is about 2 %.
    assert p95["tutor-8-ladder-fast"] / p95["tutor-7"] == pytest.approx(1.6, rel=0.06)
    assert p95["tutor-8-ladder"] / p95["tutor-7"] == pytest.approx(1.0, rel=0.06)


def test_without_effects_all_arms_are_one(demo: SimulationPlan) -> None:
    experiment = demo.experiments[0]
    same = tuple(
        arm.model_copy(update={"mastery_log_odds": 0.0, "accuracy_log_odds": 0.0}) for arm in experiment.arms
    )
    null = demo.model_copy(
        update={"experiments": (experiment.model_copy(update={"arms": same}), demo.experiments[1])}
    )
    arms = truth(null).arms[:3]
    assert len({arm.potential_mastery_share for arm in arms}) == 1
    assert len({arm.expected_mastery_share for arm in arms}) == 1
