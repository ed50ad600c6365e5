from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.groups.joint import ContrastOfCells, JointTest
from exp_pipeline.stats.groups.novelty import NoveltyEffect, novelty_effect
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable


def found(*args: Any, **named: Any) -> NoveltyEffect:
    result = novelty_effect(*args, **named)
    assert isinstance(result, NoveltyEffect), result
    return result


def contrast(result: ContrastOfCells | NotEstimable) -> ContrastOfCells:
    assert isinstance(result, ContrastOfCells), result
    return result


def rows(
    rng: np.random.Generator, n: int, effects: list[float], staggered: bool = False
) -> tuple[np.ndarray, ...]:
    """n units over len(effects) periods, with a level of their own; staggered ones have had fewer."""
    k = len(effects)
    unit, period = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    arm = unit % 2 == 1
    y = (
        rng.normal(size=n)[unit] * 1.5
        + rng.normal(size=n * k)
        + arm * np.array(effects)[period]
        + 0.2 * period
    )
    if staggered:
        had = rng.integers(2, k + 1, n)
        keep = period < had[unit]
        unit, period, arm, y = unit[keep], period[keep], arm[keep], y[keep]
    return y, arm, period, unit


def test_a_planted_decay_is_recovered() -> None:
    rng = np.random.default_rng(801)
    effects = [1.0 + 2.0 * math.exp(-t / 1.5) for t in range(8)]
    ours = found(*rows(rng, 4000, effects, staggered=True))
    assert isinstance(ours.constant, JointTest)
    assert ours.constant.p_value < 1e-6
    assert contrast(ours.trend).ci_upper < 0.0
    assert contrast(ours.late_less_early).estimate == pytest.approx(effects[7] - effects[0], abs=0.4)
    assert ours.decay is not None
    assert ours.steady.method == "decay"
    assert ours.steady.ci_lower < 1.0 < ours.steady.ci_upper
    assert ours.steady.ci_upper - ours.steady.ci_lower < 0.6
    assert ours.decay.half_life_upper is not None
    assert ours.decay.half_life_lower < 1.5 * math.log(2) < ours.decay.half_life_upper
    assert ours.decay.initial == pytest.approx(3.0, abs=0.25)


def test_a_constant_effect_is_the_mean_of_all_periods() -> None:
    ours = found(*rows(np.random.default_rng(812), 600, [0.5] * 6))
    assert ours.steady.method == "stable periods"
    assert ours.steady.from_period == 0.0
    assert ours.steady.ci_lower < 0.5 < ours.steady.ci_upper
    # Balanced rows: the mean over periods is the difference of units' means, and so is its error.
    y, arm, _, _ = rows(np.random.default_rng(812), 600, [0.5] * 6)
    means = y.reshape(600, 6).mean(axis=1)
    odd = arm.reshape(600, 6)[:, 0]
    plain = difference_in_means(
        Moments.from_array(means[~odd], ["y"]), Moments.from_array(means[odd], ["y"]), outcome="y"
    )
    assert isinstance(plain, Effect)
    assert ours.steady.absolute == pytest.approx(plain.absolute, rel=1e-10)
    assert ours.steady.ci_upper == pytest.approx(plain.ci_upper, rel=1e-4)


def test_late_less_early_is_the_change_within_units() -> None:
    y, arm, period, unit = rows(np.random.default_rng(803), 400, [1.0, 0.7, 0.2])
    ours = contrast(found(y, arm, period, unit).late_less_early)
    wide = y.reshape(400, 3)
    change, odd = wide[:, 2] - wide[:, 0], arm.reshape(400, 3)[:, 0]
    plain = difference_in_means(
        Moments.from_array(change[~odd], ["y"]), Moments.from_array(change[odd], ["y"]), outcome="y"
    )
    assert isinstance(plain, Effect)
    assert (ours.estimate, ours.se) == pytest.approx((plain.absolute, plain.se), rel=1e-9)
    # The trend by units: the slope of each unit's own line.
    slopes = wide @ np.array([-0.5, 0.0, 0.5])
    trend = contrast(found(y, arm, period, unit).trend)
    assert trend.estimate == pytest.approx(slopes[odd].mean() - slopes[~odd].mean(), rel=1e-9)


def test_a_fit_by_scipy_curve_fit() -> None:
    from scipy import optimize

    rng = np.random.default_rng(804)
    effects = [0.4 + 1.5 * math.exp(-t / 2.0) for t in range(7)]
    y, arm, period, unit = rows(rng, 3000, effects)
    ours = found(y, arm, period, unit)
    assert ours.decay is not None
    from exp_pipeline.stats.groups.joint import JointEffects, joint_effects

    joint = joint_effects(y, arm, period, unit)
    assert isinstance(joint, JointEffects)
    beta, covariance = optimize.curve_fit(
        lambda t, s, a, tau: s + a * np.exp(-t / tau), np.arange(7.0), joint.effects, p0=(0.0, 1.0, 1.0),
        sigma=joint.covariance, absolute_sigma=True,
    )  # fmt: skip
    # Another minimiser: it stops at 1e-8 of the sum of squares.
    assert ours.decay.steady == pytest.approx(beta[0], abs=1e-4)
    assert ours.decay.initial == pytest.approx(beta[0] + beta[1], abs=1e-4)
    assert ours.decay.half_life == pytest.approx(beta[2] * math.log(2), rel=1e-3)
    # The profile is lopsided; its width is about that of the linear approximation.
    width = 2 * 1.96 * math.sqrt(covariance[0, 0])
    assert ours.decay.ci_upper - ours.decay.ci_lower == pytest.approx(width, rel=0.35)


def test_the_rule_falls_back_to_what_is_stable() -> None:
    # A step after two periods is no decay towards a line; the last periods share one effect.
    ours = found(*rows(np.random.default_rng(805), 3000, [2.0, 2.0, 0.5, 0.5, 0.5, 0.5]))
    assert ours.steady.method == "stable periods"
    assert ours.steady.from_period == 2.0
    assert ours.steady.ci_lower < 0.5 < ours.steady.ci_upper
    # A straight line has no end: the last period, not an extrapolation.
    line = found(*rows(np.random.default_rng(806), 3000, [1.5, 1.2, 0.9, 0.6, 0.3]))
    assert line.steady.method in ("last period", "stable periods")
    assert line.steady.from_period >= 3.0
    few = found(*rows(np.random.default_rng(807), 30, [3.0, 1.5, 1.0, 0.8]))
    assert few.decay is None


def test_same_units_and_left_out_periods() -> None:
    y, arm, period, unit = rows(np.random.default_rng(808), 300, [1.0, 0.5, 0.2, 0.1], staggered=True)
    ours = found(y, arm, period, unit, same_units=True)
    assert len({point.n_control for point in ours.periods}) == 1
    assert any("without every period" in flag for flag in ours.flags)
    lonely = np.where((period == 3) & arm & (unit > 1), 2, period)
    other = found(y, arm, lonely, unit)
    assert other.left_out[0][0] == "3"
    assert any("early and late are 1 periods" in f for f in found(y, arm, lonely, unit, ends=3).flags)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 50), st.floats(-100, 100))
def test_scale_shift_swap_and_order(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    y, arm, period, unit = rows(rng, 60, [1.0, 0.5, 0.4])
    first = found(y, arm, period, unit)
    order = rng.permutation(y.size)
    second = found((y * scale + shift)[order], ~arm[order], period[order] + 5, -unit[order])
    assert second.steady.method == first.steady.method
    assert second.steady.absolute == pytest.approx(-scale * first.steady.absolute, rel=1e-6, abs=1e-8 * scale)
    assert contrast(second.trend).estimate == pytest.approx(
        -scale * contrast(first.trend).estimate, rel=1e-6, abs=1e-8 * scale
    )
    assert contrast(second.trend).p_value == pytest.approx(contrast(first.trend).p_value, rel=1e-5, abs=1e-9)


def test_what_cannot_be_told_says_why() -> None:
    y, arm, period, unit = rows(np.random.default_rng(809), 20, [1.0, 1.0])
    assert isinstance(novelty_effect(y, arm, np.zeros(40), unit), NotEstimable)
    with pytest.raises(ValueError, match="ends"):
        novelty_effect(y, arm, period, unit, ends=0)
    with pytest.raises(ValueError, match="period must"):
        novelty_effect(y, arm, period[:-1], unit)


def test_coverage_of_steady_state_and_size_of_the_trend() -> None:
    rng = np.random.default_rng(810)
    trials = 50
    covered = {"decay": [0, 0], "constant": [0, 0]}
    trends = 0
    for name, effects in (
        ("decay", [0.5 + 1.5 * math.exp(-t / 1.2) for t in range(7)]),
        ("constant", [0.5] * 7),
    ):
        for _ in range(trials):
            ours = found(*rows(rng, 400, effects))
            covered[name][0] += ours.steady.ci_lower <= 0.5 <= ours.steady.ci_upper
            if name == "constant":
                trends += contrast(ours.trend).p_value < 0.05
    # The rule is chosen by the same data, which costs a little; Monte Carlo error 3 points.
    assert covered["decay"][0] / trials > 0.86
    assert covered["constant"][0] / trials > 0.86
    assert trends / trials < 0.16
