from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.skew import LOPSIDED, ThirdMoments, bent, lopsidedness, straightened
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import two_sided_critical
from exp_pipeline.stats.results import Effect, NotEstimable


def means(control: object, treatment: object, shapes: bool = True, level: float = 0.95) -> Effect:
    effect = difference_in_means(
        Moments.from_array(control, ["y"]),  # type: ignore[arg-type]
        Moments.from_array(treatment, ["y"]),  # type: ignore[arg-type]
        outcome="y",
        control_shape=ThirdMoments.from_array(control) if shapes else None,  # type: ignore[arg-type]
        treatment_shape=ThirdMoments.from_array(treatment) if shapes else None,  # type: ignore[arg-type]
        level=level,
    )
    assert isinstance(effect, Effect)
    return effect


def test_third_moments_equal_scipy() -> None:
    rows = np.random.default_rng(1).gamma(2, 3, 70)
    found = ThirdMoments.from_array(rows)
    assert found.variance == pytest.approx(rows.var(ddof=1), rel=1e-12)
    # scipy's unbiased third cumulant.
    assert found.third == pytest.approx(float(stats.kstat(rows, 3)), rel=1e-10)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-100, 100), max_size=12),
    st.lists(st.floats(-100, 100), max_size=12),
    st.floats(-50, 50),
)
def test_third_moments_add_and_come_from_one_scan(a: list[float], b: list[float], pivot: float) -> None:
    whole = ThirdMoments.from_array(np.array(a + b))
    away = np.array(a + b) - pivot
    scanned = ThirdMoments.from_sums(
        len(a + b), pivot, float(away.sum()), float((away**2).sum()), float((away**3).sum())
    )
    both = ThirdMoments.from_array(np.array(a)) + ThirdMoments.from_array(np.array(b))
    other = ThirdMoments.from_array(np.array(b)) + ThirdMoments.from_array(np.array(a))
    for found in (scanned, both, other):
        assert found.n == whole.n
        assert found.mean == pytest.approx(whole.mean, abs=1e-9)
        assert found.squares == pytest.approx(whole.squares, abs=1e-7)
        # Cubes of numbers up to 150 lose six of sixteen digits.
        assert found.cubes == pytest.approx(whole.cubes, abs=1e-4)


def test_a_far_pivot_costs_digits_and_a_near_one_none() -> None:
    rows = 1e6 + np.random.default_rng(2).exponential(size=500)
    near = rows - 1_000_001.0
    found = ThirdMoments.from_sums(500, 1_000_001.0, near.sum(), (near**2).sum(), (near**3).sum())
    assert found.third == pytest.approx(float(stats.kstat(near, 3)), rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.floats(-8, 8), st.floats(-1, 1))
def test_straightening_rises_and_can_be_undone(quantile: float, skewness: float) -> None:
    assert straightened(bent(quantile, skewness), skewness) == pytest.approx(quantile, rel=1e-6, abs=1e-6)
    assert bent(quantile + 0.01, skewness) > bent(quantile, skewness)
    assert bent(quantile, 0.0) == quantile


def test_skewness_of_a_difference_by_brute_force() -> None:
    # Known populations: the exact third cumulant of the difference of means, against simulation of it.
    rng = np.random.default_rng(3)
    draws = rng.exponential(size=(200_000, 5)).mean(axis=1) - rng.exponential(size=(200_000, 20)).mean(axis=1)
    big = rng.exponential(size=40_000)
    found = lopsidedness(
        ThirdMoments.from_array(np.resize(big, 20_000)), ThirdMoments.from_array(big[:5_000])
    )
    assert found is not None
    # The same ratio of sizes, a thousand times the units: skewness falls with the root of a thousand.
    assert found.by_design * math.sqrt(1000) == pytest.approx(stats.skew(draws), rel=0.1)
    assert found.estimate * math.sqrt(1000) == pytest.approx(stats.skew(draws), rel=0.15)


def test_equal_arms_and_symmetric_values_are_left_alone() -> None:
    rng = np.random.default_rng(4)
    for control, treatment in (
        (rng.normal(5, 1, 40), rng.normal(5, 1, 360)),
        (rng.exponential(size=50), rng.exponential(size=50)),
    ):
        plain, looked_at = means(control, treatment, shapes=False), means(control, treatment)
        assert looked_at.method == "welch"
        assert (looked_at.ci_lower, looked_at.ci_upper) == (plain.ci_lower, plain.ci_upper)
        assert looked_at.p_value == plain.p_value


def test_the_corrected_p_value_and_interval_agree() -> None:
    rng = np.random.default_rng(5)
    for seed in range(30):
        control, treatment = rng.exponential(size=40), rng.exponential(size=360) + 0.01 * seed
        effect = means(control, treatment)
        assert effect.method == "welch-skew"
        assert "corrected" in effect.flags[-1]
        assert (effect.p_value < 0.05) == (effect.ci_lower > 0 or effect.ci_upper < 0)
        assert effect.relative_method == "fieller-skew"
        assert effect.relative_ci_lower is not None
        assert effect.relative_ci_upper is not None
        assert effect.relative is not None
        assert effect.relative_ci_lower < effect.relative < effect.relative_ci_upper
        # The end in which the small arm's missing large values hide reaches further.
        assert effect.absolute - effect.ci_lower > effect.ci_upper - effect.absolute


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50))
def test_metamorphic(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    control, treatment = rng.exponential(size=40), 1 + rng.exponential(size=300)
    base = means(control, treatment)
    swapped = means(treatment, control)
    scaled = means(control * scale, rng.permutation(treatment) * scale)
    turned = means(-control, -treatment)
    assert (swapped.ci_lower, swapped.ci_upper) == pytest.approx((-base.ci_upper, -base.ci_lower), rel=1e-9)
    assert swapped.p_value == pytest.approx(base.p_value, rel=1e-9)
    assert (scaled.ci_lower, scaled.ci_upper) == pytest.approx(
        (scale * base.ci_lower, scale * base.ci_upper), rel=1e-8
    )
    assert scaled.relative_ci_upper == pytest.approx(base.relative_ci_upper, rel=1e-7)
    # Control over treatment is the reciprocal of treatment over control, interval and all.
    for one, other in (
        ("relative_ci_lower", "relative_ci_upper"),
        ("relative_ci_upper", "relative_ci_lower"),
    ):
        assert (1 + getattr(swapped, one)) * (1 + getattr(base, other)) == pytest.approx(1.0, rel=1e-7)
    assert (turned.ci_lower, turned.ci_upper) == pytest.approx((-base.ci_upper, -base.ci_lower), rel=1e-9)
    assert turned.relative is not None
    assert base.relative is not None
    assert turned.relative == pytest.approx(-base.relative, rel=1e-9)
    assert turned.relative_ci_lower == pytest.approx(-base.relative_ci_upper, rel=1e-7)  # type: ignore[operator]


DRAWS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
    "gamma of a half": (lambda rng, n: rng.gamma(0.5, size=n), 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("sizes", [(40, 360), (360, 40)], ids=["few controls", "few treated"])
def test_tails_of_skewed_values_in_unequal_arms(name: str, sizes: tuple[int, int]) -> None:
    draw, mean = DRAWS[name]
    rng = np.random.default_rng(6)
    runs, truth, lift = 500, 0.2 * mean, 0.2
    tails = np.zeros(6)
    for _ in range(runs):
        control, treatment = draw(rng, sizes[0]), 1.2 * draw(rng, sizes[1])
        effect = means(control, treatment)
        plain = means(control, treatment, shapes=False)
        assert effect.relative_ci_lower is not None
        assert effect.relative_ci_upper is not None
        tails += [
            effect.ci_lower > truth,
            effect.ci_upper < truth,
            effect.relative_ci_lower > lift,
            effect.relative_ci_upper < lift,
            plain.ci_lower > truth,
            plain.ci_upper < truth,
        ]
    tails /= runs
    # Each tail, nominal 2.5 %, promised 1.5-3.5 %: four standard errors of 500 runs are 2.8 points.
    assert np.all(tails[:4] > 0.002)
    assert np.all(tails[:4] < 0.053)
    # Welch alone, on the same draws, errs to one side.
    worse, better = max(tails[4:]), min(tails[4:])
    assert worse > 0.036
    assert better < 0.5 * worse


def test_heavy_tails_in_equal_arms_get_fiellers_relative_interval() -> None:
    rng = np.random.default_rng(7)
    runs, log_misses, misses, fieller = 800, 0, 0, 0
    for _ in range(runs):
        control, treatment = np.exp(1.5 * rng.normal(size=40)), np.exp(1.5 * rng.normal(size=40))
        looked_at, plain = means(control, treatment), means(control, treatment, shapes=False)
        if plain.relative_method == "log-ratio":
            assert plain.relative_ci_lower is not None
            assert plain.relative_ci_upper is not None
            log_misses += not plain.relative_ci_lower <= 0 <= plain.relative_ci_upper
            fieller += looked_at.relative_method == "fieller"
            assert looked_at.relative_ci_lower is not None
            assert looked_at.relative_ci_upper is not None
            misses += not looked_at.relative_ci_lower <= 0 <= looked_at.relative_ci_upper
    assert fieller > 0.15 * runs
    assert misses < log_misses
    # Four standard errors of some 500 runs at 5 % are 4 points.
    assert misses / runs < 0.07


def test_spreads_that_differ_are_flagged_and_hopeless_cases_too() -> None:
    rng = np.random.default_rng(8)
    effect = means(rng.exponential(size=30), 5 * rng.exponential(size=30))
    assert effect.method == "welch"
    assert any("one end of the interval errs more" in flag for flag in effect.flags)
    hopeless = means(np.exp(1.5 * rng.normal(size=20)), np.exp(1.5 * rng.normal(size=400)))
    assert any("too skewed" in flag for flag in hopeless.flags)


def test_the_stated_criterion_is_the_one_computed() -> None:
    # Exponential values (skewness 2) at 285 + 2,565 units: the docstring's limit.
    flat = (1 / 2565**2 - 1 / 285**2) / (1 / 2565 + 1 / 285) ** 1.5
    assert abs(2 * flat) == pytest.approx(LOPSIDED, rel=0.01)
    # To first order a tail moves by 8.5 % of the skewness.
    z = two_sided_critical(0.95, math.inf)
    assert (2 * z**2 + 1) / 6 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) == pytest.approx(
        0.085, abs=0.001
    )


def test_too_few_units_for_a_third_moment_leave_welch() -> None:
    effect = means([1.0, 2.0], [2.0, 9.0, 4.0])
    assert effect.method == "welch"
    assert lopsidedness(ThirdMoments.from_array([1.0, 2.0]), ThirdMoments.from_array([1.0, 2.0, 4.0])) is None


def test_mistakes_are_named() -> None:
    rows, few = Moments.from_array([1.0, 2.0, 4.0], ["y"]), ThirdMoments.from_array([1.0, 2.0])
    with pytest.raises(ValueError, match="both be given"):
        difference_in_means(rows, rows, outcome="y", control_shape=few)
    with pytest.raises(ValueError, match="control_shape must be of the same 3 units, got 2"):
        difference_in_means(rows, rows, outcome="y", control_shape=few, treatment_shape=few)
    with pytest.raises(ValueError, match="finite"):
        ThirdMoments.from_array([1.0, math.nan])
    with pytest.raises(ValueError, match="finite"):
        ThirdMoments(3, 1.0, math.inf, 0.0)
    same = difference_in_means(
        Moments.from_array([1.0, 1.0, 1.0], ["y"]),
        Moments.from_array([1.0, 1.0, 1.0], ["y"]),
        outcome="y",
        control_shape=ThirdMoments.from_array([1.0, 1.0, 1.0]),
        treatment_shape=ThirdMoments.from_array([1.0, 1.0, 1.0]),
    )
    assert isinstance(same, NotEstimable)
