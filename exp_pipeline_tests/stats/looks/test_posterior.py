from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.looks.posterior import (
    NormalPrior,
    Posterior,
    PosteriorRule,
    best_arm,
    calibrated,
    frequentist_size,
    posterior,
    stopping_boundary,
)
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

PRIOR = NormalPrior(0.1, 0.5)


def welch(seed: int = 1, gap: float = 0.4) -> Effect:
    rng = np.random.default_rng(seed)
    arms = [Moments.from_array(rng.normal(10 + shift, 2, 200), ["y"]) for shift in (0.0, gap)]
    found = difference_in_means(*arms, outcome="y")
    assert isinstance(found, Effect)
    return found


def believed(effect: Effect, prior: NormalPrior = PRIOR, **more: Any) -> Posterior:
    found = posterior(effect, prior, **more)
    assert isinstance(found, Posterior)
    return found


def test_the_posterior_by_brute_force() -> None:
    effect, threshold = welch(), 0.15
    grid = np.linspace(-4, 4, 400_001)
    density = np.exp(-0.5 * ((grid - 0.1) / 0.5) ** 2 - 0.5 * ((effect.absolute - grid) / effect.se) ** 2)
    density /= density.sum()
    found = believed(effect, threshold=threshold, level=0.9)
    mean = float(density @ grid)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.sd == pytest.approx(math.sqrt(float(density @ (grid - mean) ** 2)), rel=1e-9)
    # A grid of 2e-5 knows where the threshold falls to half a step.
    assert found.p_above == pytest.approx(float(density[grid > threshold].sum()), abs=3e-5)
    assert found.loss_ship == pytest.approx(float(density @ np.maximum(threshold - grid, 0)), rel=1e-6)
    assert found.loss_keep == pytest.approx(float(density @ np.maximum(grid - threshold, 0)), rel=1e-6)
    ends = np.interp([0.05, 0.95], density.cumsum(), grid)
    assert (found.lower, found.upper) == pytest.approx(tuple(ends), abs=3e-5)


def test_a_vague_prior_leaves_the_plain_interval() -> None:
    effect = welch()
    found = believed(effect, NormalPrior(0.0, 1e6))
    reach = 1.959963984540054 * effect.se
    assert (found.lower, found.upper) == pytest.approx(
        (effect.absolute - reach, effect.absolute + reach), rel=1e-6
    )
    assert found.shrinkage == pytest.approx(1.0)
    sure = believed(effect, NormalPrior(0.0, 1e-6))
    assert sure.mean == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 50), st.integers(1, 5))
def test_units_and_arms_do_not_matter(scale: float, seed: int) -> None:
    from dataclasses import replace

    effect = welch(seed)
    base = believed(effect, threshold=0.05)
    other = replace(
        effect,
        absolute=scale * effect.absolute,
        se=scale * effect.se,
        ci_lower=scale * effect.ci_lower,
        ci_upper=scale * effect.ci_upper,
    )
    scaled = believed(other, NormalPrior(0.1 * scale, 0.5 * scale), threshold=0.05 * scale)
    assert scaled.p_above == pytest.approx(base.p_above, rel=1e-9)
    assert scaled.loss_ship == pytest.approx(scale * base.loss_ship, rel=1e-9)
    turned = replace(effect, absolute=-effect.absolute, ci_lower=-effect.ci_upper, ci_upper=-effect.ci_lower)
    mirrored = believed(turned, NormalPrior(-0.1, 0.5), threshold=-0.05)
    assert mirrored.p_above == pytest.approx(1 - base.p_above, rel=1e-9)
    assert mirrored.loss_ship == pytest.approx(base.loss_keep, rel=1e-9)


def test_the_best_arm_by_simulation() -> None:
    arms = {"control": (10.0, 0.3), "short": (10.4, 0.25), "long": (10.3, 0.6)}
    prior = NormalPrior(10.0, 1.0)
    found = best_arm(arms, prior)
    rng = np.random.default_rng(4)
    draws = np.column_stack([rng.normal(*prior.after(*arms[arm]), 400_000) for arm in arms])
    for at, arm in enumerate(arms):
        one = next(row for row in found if row.arm == arm)
        # Four standard errors of 400,000 draws: 0.3 points, and 0.003 of loss.
        assert one.p_best == pytest.approx((draws.argmax(axis=1) == at).mean(), abs=0.0033)
        assert one.expected_loss == pytest.approx((draws.max(axis=1) - draws[:, at]).mean(), abs=0.004)
    assert [row.p_best for row in found] == sorted((row.p_best for row in found), reverse=True)
    assert sum(row.p_best for row in found) == pytest.approx(1.0, rel=1e-12)


def test_two_arms_are_the_closed_form() -> None:
    from scipy import stats

    prior = NormalPrior(0.0, 2.0)
    first, second = prior.after(1.0, 0.4), prior.after(1.5, 0.7)
    found = {row.arm: row for row in best_arm({"a": (1.0, 0.4), "b": (1.5, 0.7)}, prior)}
    spread = math.hypot(first[1], second[1])
    assert found["b"].p_best == pytest.approx(stats.norm.cdf((second[0] - first[0]) / spread), abs=1e-10)
    z = (second[0] - first[0]) / spread
    loss = spread * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    assert found["b"].expected_loss == pytest.approx(loss, abs=1e-9)


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
def test_the_boundary_is_where_the_posterior_says_so(side: Any) -> None:
    from dataclasses import replace

    rule = PosteriorRule(PRIOR, 0.95, side, threshold=0.05)
    effect = welch()
    stops = stopping_boundary(rule, effect.se)
    down, up = stops.down_to, stops.up_from
    for bound, wanted in ((down, 0.05), (up, 0.95)):
        if math.isfinite(bound):
            shifted = bound - effect.absolute
            there = replace(
                effect, absolute=bound, ci_lower=effect.ci_lower + shifted, ci_upper=effect.ci_upper + shifted
            )
            assert believed(there, threshold=0.05).p_above == pytest.approx(wanted, rel=1e-9)
    assert math.isinf(down) == (side == "lower")
    assert math.isinf(up) == (side == "upper")


@pytest.mark.parametrize("side", ["both", "lower"])
def test_the_size_of_daily_posterior_looks_by_simulation(side: Any) -> None:
    # A vague prior and a 95 % rule looked at daily: the promise of the posterior is not one of size.
    days = np.arange(1, 15)
    ses = (1.0 / np.sqrt(days)).tolist()
    rule = PosteriorRule(NormalPrior(0.0, 1.0), 0.975 if side == "both" else 0.95, side)
    strict = calibrated(rule, ses, alpha=0.05)
    rng = np.random.default_rng(9)
    estimates = rng.normal(size=(60_000, 14)).cumsum(axis=1) / days
    for tried in (rule, strict):
        bounds = [stopping_boundary(tried, se) for se in ses]
        high = estimates >= np.array([bound.up_from for bound in bounds])
        stopped = (high | (estimates <= np.array([bound.down_to for bound in bounds]))).any(axis=1)
        # Four standard errors of 60,000 paths are 0.6 points.
        assert frequentist_size(tried, ses).stops == pytest.approx(stopped.mean(), abs=0.006)
    assert frequentist_size(rule, ses).stops > 0.08
    assert frequentist_size(strict, ses).stops == pytest.approx(0.05, abs=1e-8)
    assert strict.probability > rule.probability
    # A real effect is found more often.
    assert frequentist_size(strict, ses, effect=1.0).stops > 0.8


def test_refusals_and_mistakes() -> None:
    missing = NotEstimable("welch", "the control arm is empty", 0, 5)
    assert posterior(missing, PRIOR) is missing
    mistakes: list[tuple[Any, str]] = [
        (lambda: NormalPrior(math.nan, 1.0), "mean"),
        (lambda: NormalPrior(0.0, 0.0), "sd"),
        (lambda: posterior(welch(), PRIOR, level=95), "level"),
        (lambda: best_arm({"a": (0.0, 1.0)}, PRIOR), "two arms"),
        (lambda: best_arm({"a": (0.0, 1.0), "b": (0.0, 0.0)}, PRIOR), "'b'"),
        (lambda: PosteriorRule(PRIOR, 0.5), "probability"),
        (lambda: PosteriorRule(PRIOR, 0.9, "left"), "side"),  # type: ignore[arg-type]
        (lambda: PosteriorRule(PRIOR, 0.9, threshold=math.inf), "threshold"),
        (lambda: frequentist_size(PosteriorRule(PRIOR, 0.9), []), "at least one look"),
        (lambda: frequentist_size(PosteriorRule(PRIOR, 0.9), [0.5, 0.5]), "fall"),
        (lambda: calibrated(PosteriorRule(PRIOR, 0.9), [0.5], alpha=0.0), "alpha"),
        (lambda: calibrated(PosteriorRule(NormalPrior(9.0, 0.1), 0.9), [0.5]), "no probability"),
    ]
    for call, words in mistakes:
        with pytest.raises(ValueError, match=words):
            call()
