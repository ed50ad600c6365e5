"""What the brief does about units without a value: bounds, weights, and words where the sign is open."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from exp_pipeline.analysis.readout import read_out
from exp_pipeline.model.readout import Readout
from exp_pipeline_tests.analysis.builders import brief_of, inputs_of, metric_of, units_table

SOLVED = metric_of("solved")
MINUTES = metric_of("minutes", type="mean", display="minutes")


def world(*, lift: float, lost: float, picky: bool = False, n: int = 2_000, seed: int = 9) -> pl.DataFrame:
    """A share that treatment lifts; so many of each arm are lost, where picky those who did not do well."""
    rng = np.random.default_rng(seed)
    treated = np.arange(n) % 2 == 1
    before = rng.normal(size=n)
    solved = rng.random(n) < 0.5 + lift * treated + 0.1 * np.tanh(before)
    gone = rng.random(n) < lost * np.where(treated & picky, 2.0 * ~solved, 1.0) * (1.0 - 0.8 * (before > 0.5))
    return units_table(
        ["treatment" if one else "control" for one in treated],
        solved__num=[None if out else float(value) for value, out in zip(solved, gone, strict=True)],
        minutes__num=[None if out else 20 + 5 * float(v) + 2 * b for v, out, b in
                      zip(solved, gone, before, strict=True)],
        pre__skill=before,
    )  # fmt: skip


def readout(mad: pl.DataFrame, primary: str = "solved", **changes: Any) -> Readout:
    brief = brief_of(primary=primary, attrition=0.5, srm_alpha=1e-9, **changes)
    found = read_out(inputs_of(brief, {"solved": SOLVED, "minutes": MINUTES}, mad))
    assert not found.blinded, found.blinding_reason
    return found


def worst_and_best(mad: pl.DataFrame) -> tuple[float, float]:
    """The effect were all missing of treatment failures and of control successes, and the other way round."""
    arm = (mad["arm"] == "treatment").to_numpy()
    ends = []
    for missing_t, missing_c in ((0.0, 1.0), (1.0, 0.0)):
        value = mad["solved__num"].fill_null(float("nan")).to_numpy()
        value = np.where(np.isnan(value), np.where(arm, missing_t, missing_c), value)
        ends.append(float(value[arm].mean() - value[~arm].mean()))
    return ends[0], ends[1]


def test_bounds_decide_where_the_brief_says_so() -> None:
    mad = world(lift=0.12, lost=0.15)
    observed, bounded = readout(mad), readout(mad, missing_data="bounds")
    assert observed.decision.outcome == "ship"
    assert bounded.decision.outcome != "ship"
    low, high = worst_and_best(mad)
    assert low < 0.0 < high
    rows = {row.variant: row for row in bounded.robustness}
    worst = rows["attrition, worst case"]
    assert worst.kind == "bounds"
    assert worst.ci_lower is not None
    assert worst.ci_upper is not None
    assert worst.ci_lower < low
    assert high < worst.ci_upper
    # The headline itself is as it was: bounds are an interval, not a point.
    assert bounded.estimates[0].absolute == observed.estimates[0].absolute
    rule = next(rule for rule in bounded.decision.arms[0].rules if rule.rule == "Primary metric")
    assert "whoever is missing (worst-case)" in rule.evidence


def test_an_effect_beyond_every_bound_ships_anyway() -> None:
    mad = world(lift=0.25, lost=0.03)
    low, _ = worst_and_best(mad)
    assert low > 0.1
    found = readout(mad, missing_data="bounds")
    assert found.decision.outcome == "ship"
    assert not any("other sign" in limit for limit in found.limits)


def test_an_open_sign_is_a_limit_whatever_the_plan() -> None:
    found = readout(world(lift=0.12, lost=0.15))
    (told,) = [limit for limit in found.limits if "other sign" in limit]
    assert "the worst or the best there is" in told
    assert not [limit for limit in readout(world(lift=0.0, lost=0.15)).limits if "other sign" in limit]


def test_nobody_missing_needs_no_bounds() -> None:
    found = readout(world(lift=0.15, lost=0.0), missing_data="bounds")
    assert found.decision.outcome == "ship"
    assert not any(row.kind == "bounds" for row in found.robustness)


def test_weights_are_one_over_the_chance_to_be_seen() -> None:
    mad = world(lift=0.12, lost=0.3, picky=True)
    found = readout(mad, missing_data="weights")
    row = found.estimates[0]
    arm = (mad["arm"] == "treatment").to_numpy()
    seen = mad["solved__num"].is_not_null().to_numpy()
    value = mad["solved__num"].fill_null(0.0).to_numpy()
    design = sm.add_constant(mad["pre__skill"].to_numpy())
    means = []
    for side in (~arm, arm):
        chance = sm.Logit(seen[side].astype(float), design[side]).fit(disp=0, tol=1e-12).predict(design[side])
        weight = seen[side] / chance
        means.append(float(weight @ value[side] / weight.sum()))
    assert row.absolute == pytest.approx(means[1] - means[0], rel=1e-7)
    assert row.method == "ipw"
    assert "seen stand for those lost" in row.why
    assert row.absolute != pytest.approx(found.unadjusted[0].absolute, rel=1e-3)
    assert any("weighted by one over the chance" in sentence for sentence in found.method)


def test_weights_that_cannot_be_had_leave_a_flag() -> None:
    found = readout(world(lift=0.12, lost=0.1).drop("pre__skill"), missing_data="weights")
    row = found.estimates[0]
    assert row.estimable
    assert any(flag.startswith("not weighted for missing values") for flag in row.flags)


def test_means_without_a_range_take_the_bounds_of_lee() -> None:
    found = readout(world(lift=0.3, lost=0.1), "minutes", missing_data="bounds")
    rule = next(rule for rule in found.decision.arms[0].rules if rule.rule == "Primary metric")
    assert "whoever is missing (lee)" in rule.evidence
