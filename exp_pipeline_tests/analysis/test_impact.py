"""Value of shipping, its odds and losses, and the cost of one more outcome, by simulation and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.analysis.deciding.cost_per_outcome import CostPerOutcome, fieller_of_units
from exp_pipeline.analysis.deciding.impact import worth_of
from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.readout import Impact
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

SOLVED = metric_of("solved")
COST = metric_of("cost", type="mean", direction="decrease", display="usd")
PER_SESSION = metric_of("cost", type="ratio", denominator="sessions", direction="decrease", display="usd")
VALUE = {"value_per_unit": 30.0, "cost_per_unit": 1.5, "eligible_population": 20_000, "currency": "EUR"}


def world(*, lift: float, dearer: float, n: int = 2_000, seed: int = 3) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    treated = np.arange(n) % 2 == 1
    cost = rng.gamma(2.0, 1.0, n) + dearer * treated
    return units_table(
        ["treatment" if one else "control" for one in treated],
        solved__num=(rng.random(n) < 0.4 + lift * treated).astype(float),
        cost__num=cost,
        cost__den=np.full(n, 4.0),
        cluster_id=[f"c{place % 2}{place // 40:02d}" for place in range(n)],
    )


def impact(mad: pl.DataFrame, cost: Any = COST, **changes: Any) -> Impact:
    given_ = {"value": VALUE, "guardrails": ({"metric": "cost", "margin": 9.0},)} | changes
    brief = brief_of(**given_)
    found = read_out(inputs_of(brief, {"solved": SOLVED, "cost": cost}, mad))
    assert not found.blinded, found.blinding_reason
    (row,) = found.impact
    estimate = found.estimates[0]
    assert estimate.absolute is not None
    assert row.outcomes == pytest.approx(20_000 * estimate.absolute)
    return row


def test_odds_and_losses_are_those_of_drawn_effects() -> None:
    mad = world(lift=0.06, dearer=0.0)
    row = impact(mad)
    sides = [mad.filter(pl.col("arm") == arm)["solved__num"].to_numpy() for arm in ("control", "treatment")]
    shares = [float(side.mean()) for side in sides]
    se = np.sqrt(sum(p * (1 - p) / side.size for p, side in zip(shares, sides, strict=True)))
    drawn = np.random.default_rng(1).normal(shares[1] - shares[0], se, 400_000)
    worth = 20_000 * (30.0 * drawn - 1.5)
    assert row.value == pytest.approx(20_000 * (30.0 * (shares[1] - shares[0]) - 1.5))
    assert row.probability_positive == pytest.approx(np.mean(worth > 0), abs=0.004)
    assert row.loss_if_shipped == pytest.approx(np.maximum(-worth, 0).mean(), rel=0.02)
    assert row.loss_if_not_shipped == pytest.approx(np.maximum(worth, 0).mean(), rel=0.02)
    assert row.currency == "EUR"
    assert any("equally likely" in said for said in row.assumptions)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0.0, 1e5))
def test_losses_differ_by_the_value_and_are_never_negative(value: float, sd: float) -> None:
    found = worth_of(value, sd)
    assert found.loss_if_shipped >= 0.0
    assert found.loss_if_not_shipped >= 0.0
    assert found.loss_if_not_shipped - found.loss_if_shipped == pytest.approx(value, rel=1e-9, abs=1e-6)
    mirrored = worth_of(-value, sd)
    assert mirrored.loss_if_shipped == pytest.approx(found.loss_if_not_shipped, rel=1e-9, abs=1e-9)


def inside(cost: np.ndarray, gain: np.ndarray, arm: np.ndarray, ratio: float, critical: float) -> bool:
    """Is a ratio not rejected, by testing whether cost less ratio x gain differs between the arms?"""
    left = cost - ratio * gain
    sides = [left[~arm], left[arm]]
    error = np.sqrt(sum(side.var(ddof=1) / side.size for side in sides))
    return bool(abs(sides[1].mean() - sides[0].mean()) <= critical * error)


@pytest.mark.parametrize(("lift", "kind"), [(0.1, "interval"), (0.015, "outside"), (0.0, "everything")])
def test_fieller_holds_the_ratios_that_a_test_does_not_reject(lift: float, kind: str) -> None:
    mad = world(lift=lift, dearer=0.3 if kind != "everything" else 0.0, seed=5)
    arm = (mad["arm"] == "treatment").to_numpy()
    cost, gain = mad["cost__num"].to_numpy(), mad["solved__num"].to_numpy()
    found = fieller_of_units(cost, gain, arm, None, metric="cost", level=0.95)
    assert isinstance(found, CostPerOutcome)
    assert found.kind == kind
    critical = float(stats.t.ppf(0.975, arm.size - 2))
    if found.lower is None or found.upper is None:
        assert all(inside(cost, gain, arm, ratio, critical) for ratio in np.linspace(-1e4, 1e4, 41))
        return
    step = 1e-6 * (1 + abs(found.upper))
    for end in (found.lower, found.upper):
        assert inside(cost, gain, arm, end - step, critical) != inside(cost, gain, arm, end + step, critical)
    middle = inside(cost, gain, arm, (found.lower + found.upper) / 2, critical)
    assert middle == (kind == "interval")


def test_one_more_outcome_costs_what_the_arms_differ_in() -> None:
    mad = world(lift=0.1, dearer=0.3)
    row = impact(mad)
    means = {arm: mad.filter(pl.col("arm") == arm).select("cost__num", "solved__num").mean().row(0)
             for arm in ("control", "treatment")}  # fmt: skip
    more, gained = (b - a for a, b in zip(means["control"], means["treatment"], strict=True))
    assert row.cost_metric == "cost"
    assert row.cost_per_outcome == pytest.approx(more / gained)
    # A cost per session has its cost as numerator: the same money a unit.
    assert impact(mad, PER_SESSION).cost_per_outcome == pytest.approx(more / gained)
    clustered = impact(mad, randomisation_unit="class")
    assert clustered.cost_per_outcome == pytest.approx(more / gained)
    assert clustered.cost_per_outcome_lower != row.cost_per_outcome_lower


def test_a_loss_of_outcomes_has_no_cost_of_one() -> None:
    row = impact(world(lift=-0.1, dearer=0.3))
    assert row.cost_per_outcome is None
    assert "no outcome is gained" in row.cost_reason
    cheaper = impact(world(lift=0.1, dearer=-0.5))
    assert cheaper.cost_per_outcome is not None
    assert cheaper.cost_per_outcome < 0
    assert "saving" in cheaper.cost_reason


def test_a_ratio_has_no_number_of_outcomes() -> None:
    mad = world(lift=0.1, dearer=0.3)
    brief = brief_of(primary="cost", value=VALUE, mde={"absolute": 0.1})
    (row,) = read_out(inputs_of(brief, {"cost": PER_SESSION}, mad)).impact
    assert row.value is not None
    assert row.outcomes is None


def test_what_cannot_be_told_is_said() -> None:
    few = fieller_of_units(
        np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0]), np.array([False, False, True]), None,
        metric="cost", level=0.95,
    )  # fmt: skip
    assert isinstance(few, NotEstimable)
    flat = fieller_of_units(
        np.ones(8), np.arange(8.0), np.arange(8) % 2 == 1, None, metric="cost", level=0.95
    )
    assert isinstance(flat, NotEstimable)
    assert "no spread" in flat.reason
