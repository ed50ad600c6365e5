from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.groups.pooling import (
    BetweenVariance,
    PooledEffect,
    ShrunkenEffect,
    between_variance,
    pooled_effect,
    shrunken_effects,
)
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

R = golden("heterogeneity")["pooled"]
METHODS = {"reml": "reml", "paule-mandel": "pm", "dersimonian-laird": "dl"}


def between(result: BetweenVariance | NotEstimable) -> BetweenVariance:
    assert isinstance(result, BetweenVariance), result
    return result


def shrunk(result: tuple[ShrunkenEffect, ...] | NotEstimable) -> tuple[ShrunkenEffect, ...]:
    assert not isinstance(result, NotEstimable), result
    return result


@pytest.mark.parametrize("name", R)
@pytest.mark.parametrize("method", METHODS)
def test_variance_and_mean_equal_metafor(name: str, method: str) -> None:
    case = R[name]
    theirs = case[METHODS[method]]
    ours = between(between_variance(case["y"], case["v"], method=method))  # type: ignore[arg-type]
    # metafor iterates to 1e-14 of a step; its root finder for the interval stops near 1e-7 of tau2.
    assert ours.tau2 == pytest.approx(theirs["tau2"], rel=1e-9, abs=1e-9)
    assert ours.i2 == pytest.approx(theirs["i2"], rel=1e-9, abs=1e-9)
    assert ours.q == pytest.approx(theirs["q"], rel=1e-9)
    assert ours.p_value == pytest.approx(theirs["q_p"], rel=1e-9)
    assert ours.tau2_lower == pytest.approx(theirs["tau2_lower"], rel=1e-6, abs=1e-6)
    assert ours.tau2_upper == pytest.approx(theirs["tau2_upper"], rel=1e-6)
    mean = pooled_effect(case["y"], case["v"], ours.tau2)
    assert isinstance(mean, PooledEffect)
    assert mean.mean == pytest.approx(theirs["mean"], rel=1e-8)
    assert mean.se == pytest.approx(theirs["se"], rel=1e-8)
    assert (mean.ci_lower, mean.ci_upper) == pytest.approx((theirs["lower"], theirs["upper"]), rel=1e-7)
    assert mean.p_value == pytest.approx(theirs["p"], rel=1e-7)


@pytest.mark.parametrize("name", R)
def test_plug_in_shrinkage_equals_metafor(name: str) -> None:
    case = R[name]
    ours = shrunk(shrunken_effects(case["y"], case["v"], method="plug-in"))
    assert [group.absolute for group in ours] == pytest.approx(case["reml"]["blup"], rel=1e-7)
    assert [group.se for group in ours] == pytest.approx(case["reml"]["blup_se"], rel=1e-7)


def test_the_posterior_of_the_eight_schools_by_another_way() -> None:
    # Rubin's coaching trials, as in Gelman and others, Bayesian Data Analysis, table 5.2, with tau flat too.
    y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    s = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    ours = shrunk(shrunken_effects(y, s**2))
    # Second algorithm: Gibbs sampling of mean, effects and tau, no integral in sight.
    rng = np.random.default_rng(503)
    chains, keep = 3000, []
    mean, tau = np.full(chains, 8.0), np.full(chains, 7.0)
    for sweep in range(400):
        precision = 1.0 / s**2 + 1.0 / tau[:, None] ** 2
        centre = (y / s**2 + mean[:, None] / tau[:, None] ** 2) / precision
        effects = centre + rng.normal(size=centre.shape) / np.sqrt(precision)
        mean = effects.mean(axis=1) + rng.normal(size=chains) * tau / math.sqrt(8)
        # Flat on tau: tau^2 given the rest is inverse gamma with (8 - 1) / 2.
        squares = np.sum((effects - mean[:, None]) ** 2, axis=1)
        tau = np.sqrt(squares / 2.0 / rng.gamma(3.5, size=chains))
        if sweep >= 200 and sweep % 10 == 0:
            keep.append(effects)
    drawn = np.concatenate(keep)
    # 60,000 draws, some of them alike: Monte Carlo errors near 0.05 of a mean and 0.2 of a far quantile.
    assert [group.absolute for group in ours] == pytest.approx(drawn.mean(axis=0), abs=0.25)
    assert [group.se for group in ours] == pytest.approx(drawn.std(axis=0), rel=0.03)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert [group.ci_lower for group in ours] == pytest.approx(low, abs=0.8)
    assert [group.ci_upper for group in ours] == pytest.approx(high, abs=0.8)


def test_morris_with_equal_variances_is_james_and_stein() -> None:
    # Efron and Morris (1975): with equal variances the correction makes the weight (k - 3) v / S.
    y = np.array([0.4, -0.1, 0.9, 1.4, 0.2, 2.1, -0.8])
    v = 0.2
    ours = shrunk(shrunken_effects(y, np.full(7, v), method="morris"))
    spread = float(np.sum((y - y.mean()) ** 2))
    expected = y.mean() + (1.0 - (7 - 3) * v / spread) * (y - y.mean())
    assert [group.absolute for group in ours] == pytest.approx(expected, rel=1e-9)
    # With a flat prior on the variance between (as Morris has it) the posterior variance, by brute force; he
    # lets that variance fall below zero, which here moves the fourth digit.
    grid = np.linspace(0.0, 60.0, 300_001)
    mass = (v + grid) ** (-3.0) * np.exp(-0.5 * spread / (v + grid))
    mass /= mass.sum()
    shrink = v / (v + grid)
    first, second = float(mass @ shrink), float(mass @ shrink**2)
    gaps = y - y.mean()
    exact = v * (1.0 - first) + v * first / 7 + (second - first**2) * gaps**2
    assert [group.se**2 for group in ours] == pytest.approx(exact, rel=5e-4)


def test_the_next_group_lies_where_a_t_with_two_degrees_less_says() -> None:
    # Groups alike but for their true effects: the next is one more draw, mean and spread unknown.
    rng = np.random.default_rng(512)
    inside = 0
    for _ in range(200):
        true = rng.normal(0.0, 1.0, 6)
        y = true + rng.normal(size=5 + 1) * 0.3
        tau2 = between(between_variance(y[:5], np.full(5, 0.09))).tau2
        mean = pooled_effect(y[:5], np.full(5, 0.09), tau2)
        assert isinstance(mean, PooledEffect)
        assert mean.new_lower is not None
        assert mean.new_upper is not None
        inside += mean.new_lower <= true[5] <= mean.new_upper
        reach = (mean.new_upper - mean.new_lower) / 2.0
        # 3.182446 is the two-sided 5 % point of a t with 3 degrees of freedom (any printed table).
        assert reach / math.sqrt(tau2 + mean.se**2) == pytest.approx(3.182446, rel=1e-6)
    assert inside / 200 > 0.91
    two = pooled_effect([1.0, 2.0], [0.1, 0.1], 0.3)
    assert isinstance(two, PooledEffect)
    assert two.new_lower is None


def test_arms_with_a_shared_control_are_shrunk_as_arms() -> None:
    # A shared control moves all effects alike: arms are shrunk by their own errors, and the control's stays.
    arms, own, control = np.array([1.0, 1.8, 0.3, 1.1]), np.array([0.04, 0.09, 0.05, 0.02]), 0.06
    alone = shrunk(shrunken_effects(arms, own))
    beside = shrunk(shrunken_effects(arms - 0.5, np.diag(own) + control))
    for a, b in zip(alone, beside, strict=True):
        assert b.absolute == pytest.approx(a.absolute - 0.5, rel=1e-9)
        assert b.se**2 == pytest.approx(a.se**2 + control, rel=1e-9)


def test_the_mean_with_equal_variances_is_a_t_interval() -> None:
    y = np.array([1.0, 2.5, 0.7, 1.9, 3.0])
    found = pooled_effect(y, np.full(5, 0.3), 0.8)
    assert isinstance(found, PooledEffect)
    assert found.mean == pytest.approx(y.mean(), rel=1e-12)
    assert found.se == pytest.approx(y.std(ddof=1) / math.sqrt(5), rel=1e-12)


def test_reml_is_the_top_of_the_likelihood_of_contrasts() -> None:
    # The restricted likelihood is that of any k - 1 contrasts: here Helmert's, on a grid.
    y = np.array([0.9, -0.4, 1.7, 0.6, 2.4])
    v = np.diag([0.1, 0.3, 0.2, 0.15, 0.4]) + 0.05
    contrasts = np.array(
        [[1, -1, 0, 0, 0], [1, 1, -2, 0, 0], [1, 1, 1, -3, 0], [1, 1, 1, 1, -4]], dtype=np.float64
    )
    grid = np.linspace(0.0, 4.0, 4001)
    value = []
    for tau2 in grid:
        whole = contrasts @ (v + tau2 * np.eye(5)) @ contrasts.T
        gap = contrasts @ y
        value.append(-0.5 * (np.linalg.slogdet(whole)[1] + gap @ np.linalg.solve(whole, gap)))
    ours = between(between_variance(y, v))
    assert ours.tau2 == pytest.approx(grid[int(np.argmax(value))], abs=0.001)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0.05, 2.0)), min_size=4, max_size=8),
    st.floats(0.01, 100.0),
    st.floats(-50.0, 50.0),
)
def test_scale_shift_and_order(rows: list[tuple[float, float]], scale: float, shift: float) -> None:
    y, v = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    first = between(between_variance(y, v))
    moved = between(between_variance((y + shift)[::-1] * scale, v[::-1] * scale**2))
    assert moved.tau2 == pytest.approx(first.tau2 * scale**2, rel=1e-5, abs=1e-8 * scale**2)
    assert moved.tau2_upper == pytest.approx(first.tau2_upper * scale**2, rel=1e-5, abs=1e-8 * scale**2)
    ours = shrunk(shrunken_effects(y, v))
    theirs = shrunk(shrunken_effects((y + shift)[::-1] * scale, v[::-1] * scale**2))[::-1]
    for a, b in zip(ours, theirs, strict=True):
        assert b.absolute == pytest.approx((a.absolute + shift) * scale, rel=1e-6, abs=1e-6 * scale)
        assert b.ci_upper - b.ci_lower == pytest.approx((a.ci_upper - a.ci_lower) * scale, rel=1e-6)
        assert 0.0 <= a.own_weight <= 1.0


def test_what_cannot_be_answered_says_why() -> None:
    assert isinstance(between_variance([1.0], [0.1]), NotEstimable)
    assert isinstance(shrunken_effects([1.0, 2.0], [0.1, 0.1]), NotEstimable)
    assert isinstance(shrunken_effects([1.0, 2.0, 3.0], [0.1] * 3, method="morris"), NotEstimable)
    assert isinstance(pooled_effect([1.0, 1.0], [0.1, 0.2], 0.0), NotEstimable)
    with pytest.raises(ValueError, match="variances"):
        between_variance([1.0, 2.0], [0.1, 0.0])
    with pytest.raises(ValueError, match="positive definite"):
        between_variance([1.0, 2.0], [[0.1, 0.1], [0.1, 0.1]])
    with pytest.raises(ValueError, match="tau2"):
        pooled_effect([1.0, 2.0], [0.1, 0.1], -1.0)
    with pytest.raises(ValueError, match="diagonal"):
        shrunken_effects([1.0, 2.0, 1.0, 3.0], np.eye(4) + 0.1, method="morris")


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.5])
def test_intervals_of_shrunken_effects_cover_where_the_plug_in_does_not(tau: float) -> None:
    rng = np.random.default_rng(504)
    variances = np.array([0.5, 0.8, 1.0, 1.3, 2.0, 1.0])
    covered = {"posterior": 0, "plug-in": 0, "morris": 0}
    trials = 70
    for _ in range(trials):
        true = rng.normal(0.4, tau, 6)
        y = true + rng.normal(size=6) * np.sqrt(variances)
        for method in covered:
            groups = shrunk(shrunken_effects(y, variances, method=method))  # type: ignore[arg-type]
            covered[method] += sum(g.ci_lower <= t <= g.ci_upper for g, t in zip(groups, true, strict=True))
    cells = trials * 6
    # Correlated cells: a Monte Carlo error near 1.5 points.
    assert covered["posterior"] / cells > 0.92
    assert covered["morris"] / cells > 0.91
    if tau == 0.5:
        assert covered["plug-in"] / cells < 0.925
