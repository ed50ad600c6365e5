"""From units to days: arrivals that dry up, windows, looks, gains, guardrails, what history leaves open."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exp_pipeline.analysis.planning.baselines import Baseline, NoBaseline, baseline_of
from exp_pipeline.analysis.planning.duration import DurationPlan, power_plan
from exp_pipeline.analysis.planning.guardrail_plans import guardrail_plan
from exp_pipeline.analysis.planning.readiness import readiness
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.brief import Arm, Guardrail, Stopping
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.stats.clusters.intraclass import intraclass_correlation
from exp_pipeline.stats.power.enrolment import EnrolmentCurve
from exp_pipeline_tests.analysis.builders import START, brief_of, metric_of, units_table

SOLVED = metric_of("solved")
DAY = timedelta(days=1)


def curve_of(*units: float, most: float | None = None, days: int = 366) -> EnrolmentCurve:
    """Units by the end of each day; the last number stays."""
    cumulative = (*units, *[units[-1]] * (days - len(units)))
    return EnrolmentCurve(cumulative, len(units), units[-1] if most is None else most, True)


def at(plan: DurationPlan, days: int) -> Any:
    return next(row for row in plan.by_day if row.days == days)


def test_units_that_come_back_are_not_new() -> None:
    drying = curve_of(*np.linspace(6000, 20_000, 30))
    plan = power_plan(brief_of(), SOLVED, Baseline(0.38), curve=drying)
    # 18,492 units are there after 27 of 30 days.
    assert (plan.units_total, plan.days, plan.reachable) == (18_492, 28, True)
    # The rate of the first day would promise a week.
    assert power_plan(brief_of(), SOLVED, Baseline(0.38), units_per_day=6000).days == 7
    never = power_plan(brief_of(), SOLVED, Baseline(0.38), curve=curve_of(5000, 9000, most=9500))
    assert (never.days, never.reachable, never.end) == (None, False, None)
    assert "9,500 units in all" in never.note
    half = power_plan(brief_of(traffic=0.5), SOLVED, Baseline(0.38), curve=drying)
    assert (half.reachable, half.units_at_end) == (False, int(drying.units(28) / 2))


def test_the_window_comes_after_the_last_enrolment() -> None:
    week = metric_of("solved", window_days=7)
    curve = curve_of(*np.arange(1000.0, 61_000.0, 1000.0))
    plan = power_plan(brief_of(), week, Baseline(0.38), curve=curve)
    # Day 19 is the last that is needed; its units have had days 18 to 24 once 25 days are over.
    assert plan.days == 28
    # Stopped after 14 days, only the units of the first 8 count.
    assert at(plan, 14).units == 8000
    assert at(plan, 7).units == 1000
    assert plan.units_at_end == 22_000
    longer = power_plan(brief_of(), week, Baseline(0.38), curve=curve, days_needed=14)
    assert longer.units_at_end == 15_000


def test_what_could_be_found_by_each_day() -> None:
    curve = curve_of(*np.arange(1000.0, 61_000.0, 1000.0))
    plan = power_plan(brief_of(end=START + 31 * DAY), SOLVED, Baseline(0.38), curve=curve)
    assert [row.days for row in plan.by_day] == [7, 14, 21, 28, 31]
    effects = [row.mde or 0.0 for row in plan.by_day]
    assert effects == sorted(effects, reverse=True)
    assert (plan.power_at_end, plan.mde_at_end) == (plan.by_day[-1].power, plan.by_day[-1].mde)
    # By the planning formula: (1.96 + 0.84) sqrt(2 p q / n).
    assert at(plan, 14).mde == pytest.approx(2.801585 * (2 * 0.38 * 0.62 / 7000) ** 0.5, rel=1e-5)
    # What is found with 80 % is the plan's effect where the units are the plan's.
    exact = power_plan(brief_of(), SOLVED, Baseline(0.38), curve=curve_of(18_492.0))
    assert exact.mde_at_end == pytest.approx(0.02, rel=1e-4)
    assert exact.power_at_end == pytest.approx(0.8, abs=1e-4)
    few = power_plan(brief_of(), SOLVED, Baseline(0.38), curve=curve_of(1.0))
    assert at(few, 7).mde is None
    assert at(few, 7).power is None


def test_several_arms_are_as_weak_as_their_smallest() -> None:
    arms = (Arm(name="control", share=0.5), Arm(name="a", share=0.4), Arm(name="b", share=0.1))
    three = power_plan(brief_of(arms=arms), SOLVED, Baseline(0.38), curve=curve_of(50_000.0))
    two = (Arm(name="control", share=5 / 6), Arm(name="b", share=1 / 6))
    alone = power_plan(
        brief_of(arms=two, alpha=0.025), SOLVED, Baseline(0.38), curve=curve_of(50_000.0 * 0.6)
    )
    assert three.mde_at_end == pytest.approx(alone.mde_at_end, rel=1e-9)
    assert three.units_total == pytest.approx(alone.units_total / 0.6, abs=2)


def test_looks_cost_units_and_say_so() -> None:
    plain = power_plan(brief_of(), SOLVED, Baseline(0.38), units_per_day=1000)
    looks = tuple(START + day * DAY for day in (7, 14, 21))
    spending = {"rule": "obrien_fleming"}
    often = brief_of(looks=(*looks, START + 28 * DAY), stopping=spending, expected_units_per_day=1000)
    looking = power_plan(often, SOLVED, Baseline(0.38), units_per_day=1000)
    assert looking.inflation == pytest.approx(1.02, abs=0.005)
    assert looking.units_total == pytest.approx(plain.units_total * looking.inflation, abs=3)
    assert any("planned looks cost" in note for note in looking.notes)
    assert any("O'Brien-Fleming" in note for note in looking.notes)
    assert plain.inflation == 1.0
    always = power_plan(often.model_copy(update={"stopping": Stopping()}), SOLVED, Baseline(0.38))
    assert always.inflation > 1.3
    assert any("always-valid" in note for note in always.notes)


def test_help_of_covariates_is_shown_apart_and_decides_only_when_needed() -> None:
    known = Baseline(0.5, 1.0, gain=0.5)
    metric = metric_of("solved", type="mean")
    pinned: dict[str, Any] = {"mde": Size(absolute=0.1), "receipt": {"may_differ": ()}}
    cuped = pinned | {"variance_reduction": {"method": "cuped"}}
    curve = curve_of(1600.0, most=1600.0)
    plan = power_plan(brief_of(**cuped), metric, known, curve=curve)
    assert plan.reachable is False
    assert plan.only_with_gain
    assert plan.units_with_gain == pytest.approx(plan.units_total / 2, abs=3)
    assert {row.variance_reduction for row in plan.grid} == {0.0, 0.5}
    ready = readiness(brief_of(**cuped), {"solved": metric}, baseline=known, curve=curve,
                      facts_seen={"solved": 9})  # fmt: skip
    assert ready.ready
    assert any("only if they do" in line for line in ready.unchecked)
    without = power_plan(brief_of(mde=Size(absolute=0.1)), metric, known, curve=curve)
    assert without.gain is None
    refused = readiness(brief_of(**pinned), {"solved": metric}, baseline=known, curve=curve)
    told = str(refused.gaps[0])
    assert "1,600 units will be counted by then" in told
    assert "can be found" in told


def test_historys_icc_and_attrition_are_planned_with_and_told() -> None:
    history = Baseline(
        0.38, cluster_size=20.0, cluster_size_cv=0.4, icc=0.08, icc_lower=0.04, icc_upper=0.13,
        units=900, mean_se=0.03, attrition=0.12, included=0.9,
    )  # fmt: skip
    brief = brief_of(randomisation_unit="class", mde=Size(absolute=0.1))
    plan = power_plan(brief, SOLVED, history)
    assert plan.icc == 0.08
    assert plan.attrition == pytest.approx(1 - 0.88 * 0.9)
    assert plan.units_range is not None
    assert plan.units_range[0] < plan.units_per_arm < plan.units_range[1]
    own = power_plan(brief_of(randomisation_unit="class", mde=Size(absolute=0.1), icc=0.2), SOLVED, history)
    assert own.icc == 0.2
    assert any("does not hold the brief's 0.2" in note for note in own.notes)
    assert 0.08 in {row.icc for row in own.grid}
    chance = power_plan(brief, SOLVED, replace(history, icc=-0.02, icc_lower=-0.04, icc_upper=0.03))
    assert chance.icc == 0.0


def test_a_guardrail_says_what_it_needs() -> None:
    slow = metric_of("latency", type="mean", direction="decrease")
    known = Baseline(1000.0, 400.0)
    curve = curve_of(*np.arange(200.0, 12_200.0, 200.0))
    brief = brief_of()
    absolute = Guardrail(metric="latency", margin=50.0)
    plan = guardrail_plan(brief, absolute, slow, known, curve=curve)
    # (1.645 + 0.842)^2 x 2 x 400^2 / 50^2 an arm.
    assert plan.units_total == pytest.approx(2 * 791.4, rel=0.01)
    assert plan.power_at_end is not None
    assert plan.power_at_end > 0.99
    share = guardrail_plan(
        brief, Guardrail(metric="latency", margin=0.05, margin_kind="relative"), slow, known, curve=curve
    )
    assert share.units_total is not None
    assert share.units_total > (plan.units_total or 0)
    point = guardrail_plan(brief, Guardrail(metric="latency", margin=1.0, basis="point"), slow, known)
    assert (point.units_total, point.power_at_end) == (None, None)
    assert "estimate alone" in point.reason
    assert guardrail_plan(brief, absolute, slow, NoBaseline("why")).reason == "why"


def _history(
    values: np.ndarray[Any, Any], classes: np.ndarray[Any, Any], pre: np.ndarray[Any, Any]
) -> pl.DataFrame:
    return units_table(
        ["control"] * values.size,
        solved__num=values,
        pre__solved=pre,
        cluster_id=[f"c{number:03d}" for number in classes],
    )


def test_a_baseline_is_what_the_readouts_own_units_say() -> None:
    rng = np.random.default_rng(21)
    classes = np.repeat(np.arange(40), rng.integers(5, 25, 40))
    pre = rng.normal(size=classes.size) + 0.5 * rng.normal(size=40)[classes]
    values = 3 + pre + 0.4 * rng.normal(size=40)[classes] + rng.normal(size=classes.size)
    metric = metric_of("solved", type="mean", display="number")
    brief = brief_of(
        randomisation_unit="class", variance_reduction={"method": "cuped", "covariates": ("solved",)}
    )
    units = units_of_metric(frame_of_units(_history(values, classes, pre), brief), metric, brief)
    found = baseline_of(units, clustered=True)
    assert isinstance(found, Baseline)
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert found.cluster_size == pytest.approx(classes.size / 40)
    assert found.icc == pytest.approx(intraclass_correlation(values, classes).icc, abs=0.03)
    assert found.icc_lower is not None
    assert found.icc_upper is not None
    assert found.icc_lower < (found.icc or 0.0) < found.icc_upper
    assert found.adjusted_icc is not None
    assert found.adjusted_icc < (found.icc or 0.0)
    by_unit = baseline_of(
        units_of_metric(frame_of_units(_history(values, classes, pre), brief_of()), metric, brief),
        clustered=False,
    )
    assert isinstance(by_unit, Baseline)
    assert by_unit.gain == pytest.approx(np.corrcoef(values, pre)[0, 1] ** 2, abs=0.01)
    few = units_of_metric(frame_of_units(_history(values[:5], classes[:5], pre[:5]), brief), metric, brief)
    refused = baseline_of(few, clustered=True)
    assert isinstance(refused, NoBaseline)
    assert "at least 10 are needed" in refused.reason
    same = units_of_metric(
        frame_of_units(_history(np.ones(50), classes[:50], pre[:50]), brief), metric, brief
    )
    flat = baseline_of(same, clustered=True)
    assert isinstance(flat, NoBaseline)
    assert "no spread" in flat.reason
