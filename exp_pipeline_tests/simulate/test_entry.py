"""Units enter a simulated experiment as flags let them in: by day, scheme, layer and holdout."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.plan import ArmTruth, Gate, SimulatedExperiment, SimulationPlan
from exp_pipeline.transform.hashing import buckets_of, layer_buckets

START = date(2026, 3, 9)
ARMS = (ArmTruth(name="control", share=0.5), ArmTruth(name="new", share=0.5))
SHARES = (0.1, 0.4, 0.0, 0.4, 1.0)


def plan_of(traffic: tuple[float, ...] | None, **changes: object) -> SimulationPlan:
    fields: dict[str, object] = {
        "name": "hints",
        "start": START,
        "end": START + timedelta(days=5),
        "arms": ARMS,
        "traffic": traffic,
        "hash_scheme": "flagd",
    }
    experiment = SimulatedExperiment.model_validate(fields | changes)
    return SimulationPlan(
        seed=5, start=START, days=5, schools=2, classes_per_school=5, learners=250,
        sessions_per_learner_day=0.7, experiments=(experiment,),
    )  # fmt: skip


def logged(plan: SimulationPlan, day: int, event: str = "experiment_assigned") -> pl.DataFrame:
    frame = simulate_day(plan, START + timedelta(days=day))
    return frame.filter(pl.col("event_name") == event).select("unit_id", "learner_id", "arm", "event_name")


@pytest.mark.parametrize("scheme", ["flagd", "growthbook", "percent-v1"])
def test_nobody_enters_above_the_share_of_the_day_and_each_only_once(scheme: str) -> None:
    plan = plan_of(SHARES, hash_scheme=scheme)
    seen: list[str] = []
    for day, share in enumerate(SHARES):
        units = logged(plan, day)["unit_id"].to_list()
        assert bool(units) == bool(share)
        assert all(buckets_of(scheme, "hints", 1, unit).traffic < share * 10_000 for unit in units)
        # Whoever is out for a while logs nothing, an exposure neither.
        assert bool(logged(plan, day, "experiment_exposed").height) == bool(share)
        seen += units
    assert len(seen) == len(set(seen))
    assert len(seen) > 100


def test_what_flags_say_later_changes_no_earlier_day() -> None:
    known = plan_of(SHARES[:2])
    for day in range(2):
        assert simulate_day(known, START + timedelta(days=day)).equals(
            simulate_day(plan_of(SHARES), START + timedelta(days=day))
        )
    assert not logged(known, 2).height


def test_classes_enter_together() -> None:
    plan = plan_of((0.5,) * 5, unit="class")
    units = [unit for day in range(5) for unit in logged(plan, day)["unit_id"].to_list()]
    inside = {f"class-{n:04d}" for n in range(1, 11)}
    inside = {one for one in inside if buckets_of("flagd", "hints", 1, one).traffic < 5_000}
    assert sorted(units) == sorted(inside)


def test_layer_and_holdout_keep_their_units() -> None:
    gate = Gate(scheme="sha256-v1", salt="maths", first=2_000, end=7_000)
    plan = plan_of(None, gates=(gate,))
    units = [unit for day in range(5) for unit in logged(plan, day)["unit_id"].to_list()]
    buckets = layer_buckets("sha256-v1", "maths", units)
    assert len(units) > 80
    assert ((buckets >= 2_000) & (buckets < 7_000)).all()
    free = [unit for day in range(5) for unit in logged(plan_of(None), day)["unit_id"].to_list()]
    assert set(units) < set(free)
