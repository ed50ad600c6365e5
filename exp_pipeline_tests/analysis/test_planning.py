"""Before the start: readiness and size; every day: sample ratio and guardrails."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.daily import daily_guardrails, daily_sample_ratio
from exp_pipeline.analysis.planning.readiness import Baseline, power_plan, readiness
from exp_pipeline_tests.analysis.builders import START, brief_of, metric_of, units_table

SOLVED = metric_of("solved")


def test_the_planning_formula_gives_its_published_size() -> None:
    # 38 %, 2 points, 80 % power: 9,246 an arm.
    plan = power_plan(brief_of(), SOLVED, Baseline(mean=0.38), units_per_day=1000)
    assert plan.units_per_arm == 9246
    assert plan.units_total == 18492
    assert (plan.days, plan.weeks, plan.reachable) == (21, 3, True)


def test_blackout_days_and_the_window_take_their_time() -> None:
    window = metric_of("solved", window_days=7)
    brief = brief_of(blackout_days=tuple(START + timedelta(days=day) for day in range(7)))
    plan = power_plan(brief, window, Baseline(mean=0.38), units_per_day=1000)
    assert plan.weeks == 5
    assert plan.reachable is False


def test_clusters_need_more_units_the_more_alike_they_are() -> None:
    brief = brief_of(randomisation_unit="class", icc=0.1)
    plan = power_plan(brief, SOLVED, Baseline(mean=0.38, cluster_size=25.0))
    assert plan.clusters_per_arm is not None
    by_icc = [row.units_per_arm for row in plan.grid if row.mde == plan.mde]
    assert len(by_icc) == 5
    assert by_icc == sorted(by_icc, key=lambda units: units or 0)
    assert plan.days is None


def test_readiness_lists_every_gap_at_once() -> None:
    brief = brief_of(
        risk_class="high",
        secondary=("unheard_of",),
        decision={"primary_must_beat": "threshold"},
        randomisation_unit="class",
    )
    found = readiness(
        brief,
        {"solved": metric_of("solved", window_days=60)},
        baseline=Baseline(mean=0.38, cluster_size=25.0),
        units_per_day=5,
        facts_seen={"solved": 0},
    )
    assert not found.ready
    told = "\n".join(map(str, found.gaps))
    for words in (
        "unheard_of",
        "ever arrived",
        "no kill rule",
        "practical_threshold",
        "icc",
        "60 days",
        "power is not",
    ):
        assert words in told


def test_a_brief_in_order_is_ready_and_says_what_was_not_checked() -> None:
    good = readiness(
        brief_of(receipt={}),
        {"solved": SOLVED},
        baseline=Baseline(mean=0.38),
        units_per_day=1000,
        facts_seen={"solved": 9},
    )
    assert good.ready
    assert not good.unchecked
    blank = readiness(brief_of(receipt={}), {"solved": SOLVED})
    assert blank.ready
    assert len(blank.unchecked) == 2


def test_the_daily_sample_ratio_adds_up_and_may_be_looked_at_daily() -> None:
    by_day = {START + timedelta(days=day): {"control": 100, "treatment": 160} for day in (1, 0, 2)}
    found = daily_sample_ratio(by_day, {"control": 0.5, "treatment": 0.5})
    assert [day.day for day in found] == sorted(by_day)
    assert found[-1].counts == {"control": 300, "treatment": 480}
    assert found[-1].sequential_p_value is not None
    assert found[-1].sequential_p_value < 0.001
    assert daily_sample_ratio({}, {"control": 0.5, "treatment": 0.5}) == ()


@pytest.mark.parametrize("harm", [0.0, 0.3])
def test_a_kill_rule_acts_on_harm_and_only_on_harm(harm: float) -> None:
    rng = np.random.default_rng(11)
    n = 1000
    units = units_table(["control", "treatment"] * (n // 2)).select("unit_id", "arm", "assigned_date")
    treated = np.tile([0.0, 1.0], n // 2)
    upto = START + timedelta(days=40)
    days = pl.DataFrame(
        {
            "unit_id": units["unit_id"],
            "event_date": pl.Series([upto] * n, dtype=pl.Date),
            "flagged": (rng.random(n) < 0.1 + harm * treated).astype(float),
            "latency": [[float(v) for v in rng.lognormal(7 + harm * t, 0.2, 3)] for t in treated],
        }
    )
    rule: dict[str, Any] = {"kill": {"alpha": 0.01, "action": "pause"}}
    brief = brief_of(
        guardrails=(
            {"metric": "flagged", "margin": 0.05, **rule},
            {"metric": "latency", "margin": 0.1, "margin_kind": "relative", **rule},
        )
    )
    metrics = {
        "flagged": metric_of("flagged", direction="decrease"),
        "latency": metric_of("latency", type="quantile", quantile=0.95, direction="decrease", display="ms"),
    }
    results = daily_guardrails(brief, metrics, units, days, upto=upto)
    assert [result.kill_triggered for result in results] == [harm > 0, harm > 0]
    assert all(result.kill_action == "pause" for result in results)


def test_a_day_without_facts_cannot_be_judged() -> None:
    units = units_table(["control", "treatment"]).select("unit_id", "arm", "assigned_date")
    days = pl.DataFrame(schema={"unit_id": pl.String, "event_date": pl.Date, "flagged": pl.Float64})
    brief = brief_of(guardrails=({"metric": "flagged", "margin": 0.05},))
    metrics = {"flagged": metric_of("flagged", direction="decrease")}
    (result,) = daily_guardrails(brief, metrics, units, days, upto=date(2026, 3, 3))
    assert result.status == "cannot_tell"
    (before,) = daily_guardrails(brief, metrics, units, days, upto=date(2026, 2, 3))
    assert before.status == "cannot_tell"
