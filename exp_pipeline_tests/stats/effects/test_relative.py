from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.calibration.worlds import table_of
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.means import (
    FEW_OF_A_KIND,
    difference_in_means,
    difference_in_proportions,
    newcombe_interval,
    newcombe_ratio,
    wilson_interval,
)
from exp_pipeline.stats.effects.relative import NO_WIDTH, relative_effect
from exp_pipeline.stats.effects.skew import NOT_LOOKED_AT
from exp_pipeline.stats.many.effects import ManyEffects, many_means
from exp_pipeline.stats.many.proportions import many_proportions
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.pivot import relative_bounds_at, relative_distance_from
from exp_pipeline.stats.reference import two_sided_critical
from exp_pipeline.stats.results import Effect


def half_width(effect: Effect) -> float:
    """Standard error of log treatment - log control that a log-ratio interval was made with."""
    assert effect.relative_method == "log-ratio"
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_upper is not None
    width = math.log1p(effect.relative_ci_upper) - math.log1p(effect.relative_ci_lower)
    return width / 2 / two_sided_critical(effect.level, effect.df)


@pytest.mark.parametrize(("effect_size", "lean"), [(12.0, 0.0), (-3.0, 0.0), (12.0, 3.0), (-3.0, -1.5)])
@pytest.mark.parametrize("method", ["cr1", "cr2"])
def test_clustered_relative_error_by_the_cluster_jackknife(
    effect_size: float, lean: float, method: str
) -> None:
    # Covariates vary by cluster, so that the point at which both arms are compared varies too: leave each
    # cluster out, mean of covariates and all, and see how the log ratio moves. Where slopes lean, what is
    # left of a cluster goes with its covariates, so that the two parts do not just add up in squares.
    rng = np.random.default_rng(1)
    groups, size = 80, 6
    cluster = np.repeat(np.arange(groups), size)
    arm = cluster % 2 == 1
    x = (rng.normal(0, 2, groups)[cluster] + rng.normal(0, 0.5, groups * size))[:, None]
    y = 10 + (2 + lean * arm) * x[:, 0] + effect_size * arm + rng.normal(0, 0.5, groups)[cluster]
    y = y + rng.normal(size=y.size)
    effect = clustered_difference(y, arm, cluster, covariates=x, method=method)  # type: ignore[arg-type]
    assert isinstance(effect, Effect)

    def log_ratio(keep: np.ndarray) -> float:
        design = np.column_stack([np.ones(keep.sum()), arm[keep], x[keep] - x[keep].mean()])
        beta = np.linalg.lstsq(design, y[keep], rcond=None)[0]
        return float(np.log((beta[0] + beta[1]) / beta[0]))

    assert effect.relative is not None
    assert math.log1p(effect.relative) == pytest.approx(log_ratio(np.ones(y.size, dtype=bool)), rel=1e-9)
    moved = np.array([log_ratio(cluster != g) for g in range(groups)])
    jackknife = math.sqrt((groups - 1) / groups * np.sum((moved - moved.mean()) ** 2))
    # The two differ by terms of order 1 / G, more so for CR1. Without the varying mean the error would be
    # half of this or less, and where slopes lean, twice this and more.
    assert half_width(effect) == pytest.approx(jackknife, rel=0.1)
    if lean != 0.0:
        return
    still = clustered_difference(y - 2 * x[:, 0], arm, cluster, method=method)  # type: ignore[arg-type]
    assert isinstance(still, Effect)
    assert half_width(still) < (0.6 if effect_size > 0 else 0.8) * half_width(effect)


@settings(max_examples=80, deadline=None)
@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.01, 9), st.floats(0.01, 9), st.floats(-0.9, 0.9))
def test_any_two_values_give_an_interval_or_a_reason(
    control: float, treatment: float, spread_c: float, spread_t: float, correlation: float
) -> None:
    found = relative_effect(
        control,
        treatment,
        variance_control=spread_c,
        variance_treatment=spread_t,
        covariance=correlation * math.sqrt(spread_c * spread_t),
        df=25.0,
        level=0.95,
    )
    if found.relative is None:
        assert (found.lower, found.upper, found.method) == (None, None, None)
        assert "no relative effect" in found.flags[0]
        assert abs(control) <= two_sided_critical(0.95, 25.0) * math.sqrt(spread_c)
        return
    assert found.lower is not None
    assert found.upper is not None
    assert all(map(math.isfinite, (found.lower, found.relative, found.upper)))
    assert found.lower <= found.relative <= found.upper
    assert math.copysign(1.0, found.relative) == math.copysign(1.0, treatment - control)
    if found.method == "log-ratio":
        # Logs are taken of ratios of one sign only, and of values three standard errors from zero.
        assert control * treatment > 0
        assert abs(control) >= 3 * math.sqrt(spread_c)
        assert abs(treatment) >= 3 * math.sqrt(spread_t)
    else:
        assert found.method == "fieller"


@pytest.mark.parametrize(
    ("control", "treatment", "method"),
    [
        (10.0, 12.0, "log-ratio"),
        (-10.0, -12.0, "log-ratio"),
        (10.0, -12.0, "fieller"),
        (-10.0, 12.0, "fieller"),
        (10.0, 0.0, "fieller"),
        (10.0, 2.9, "fieller"),
        (2.9, 10.0, "fieller"),
        (10.0, 7.0, "log-ratio"),
        (10.0, 5.0, "fieller"),
        (5.0, 10.0, "fieller"),
    ],
)
def test_logs_are_for_values_of_one_sign_far_from_zero(control: float, treatment: float, method: str) -> None:
    found = relative_effect(
        control, treatment, variance_control=1.0, variance_treatment=1.0, df=math.inf, level=0.95
    )
    assert found.method == method
    assert found.relative == pytest.approx((treatment - control) / abs(control))
    assert ("negative" in " ".join(found.flags)) == (control < 0)
    assert found.lower is not None
    assert found.upper is not None
    # Turned around, the sign of the effect turns and its size stays.
    turned = relative_effect(
        -control, -treatment, variance_control=1.0, variance_treatment=1.0, df=math.inf, level=0.95
    )
    assert turned.lower is not None
    assert turned.upper is not None
    assert (turned.lower, turned.upper) == pytest.approx((-found.upper, -found.lower), rel=1e-12)


def test_heavy_tails_ask_for_fieller() -> None:
    found = relative_effect(
        10.0,
        12.0,
        variance_control=1.0,
        variance_treatment=1.0,
        df=math.inf,
        level=0.95,
        heavy_tailed=True,
    )
    assert found.method == "fieller"


def test_a_metric_below_zero_covers_its_relative_effect_in_both_tails() -> None:
    rng = np.random.default_rng(2)
    runs, n = 4000, 60
    control = -5 + rng.normal(size=(runs, n)).mean(axis=1) * 2
    treatment = -4 + rng.normal(size=(runs, n)).mean(axis=1) * 2
    low = high = 0
    for c, t in zip(control, treatment, strict=True):
        found = relative_effect(
            c, t, variance_control=4 / n, variance_treatment=4 / n, df=math.inf, level=0.95
        )
        assert found.lower is not None
        assert found.upper is not None
        low += found.lower > 0.2
        high += found.upper < 0.2
    # Nominal 2.5 %: four standard errors of 4,000 runs are one point.
    assert 0.015 < low / runs < 0.035
    assert 0.015 < high / runs < 0.035


@pytest.mark.parametrize("n", [3, 40, 100_000])
def test_no_event_in_treatment_is_not_minus_a_hundred_per_cent_for_sure(n: int) -> None:
    # Both roots of Fieller's equation are -1 there, however few units there are.
    found = difference_in_proportions(60, 200, 0, n)
    assert isinstance(found, Effect)
    assert (found.relative, found.relative_ci_lower, found.relative_ci_upper) == (None, None, None)
    assert found.relative_method is None
    assert "no relative effect: treatment is zero" in " ".join(found.flags)
    assert found.ci_lower < found.absolute < found.ci_upper
    same = many_proportions(*(np.array([count]) for count in (60, 200, 0, n))).at(0)
    assert isinstance(same, Effect)
    assert (same.relative, same.relative_method, same.flags) == (None, None, found.flags)
    # One event is enough for an interval.
    one = difference_in_proportions(60, 200, 1, n)
    assert isinstance(one, Effect)
    assert one.relative_ci_lower is not None
    assert one.relative_ci_upper is not None
    assert one.relative_ci_lower < one.relative_ci_upper


def test_means_of_zeros_in_treatment_have_no_relative_effect_either() -> None:
    control = Moments.from_array([3.0, 4.0, 5.0, 4.5], ("y",))
    found = difference_in_means(control, Moments.from_array([0.0] * 9, ("y",)), outcome="y")
    assert isinstance(found, Effect)
    assert found.relative is None
    assert found.flags == (NO_WIDTH, NOT_LOOKED_AT)


def tails(answers: ManyEffects, truth: float) -> tuple[float, float]:
    known = ~np.isnan(answers.relative)
    low, high = answers.relative_ci_lower[known], answers.relative_ci_upper[known]
    return float(np.mean(low > truth)), float(np.mean(high < truth))


def test_arms_of_unequal_size_err_alike_at_both_ends() -> None:
    # A log-ratio interval errs in 4.5 and 1.7 % here.
    rng = np.random.default_rng(20)
    control, treatment = 1 + rng.normal(size=(6_000, 380)), 1 + rng.normal(size=(6_000, 20))
    found = many_means(table_of(control, ("y",)), table_of(treatment * 1.2, ("y",)), outcome="y")
    above, below = tails(found, 0.2)
    # Nominal 2.5 %: four standard errors of 6,000 runs are 0.8 points.
    assert 0.017 < above < 0.036
    assert 0.017 < below < 0.036


@pytest.mark.parametrize(
    ("share_c", "share_t", "n_c", "n_t"),
    [
        (0.3, 0.3, 380, 20), (0.5, 0.5, 380, 20), (0.2, 0.2, 950, 50), (0.3, 0.4, 35, 660),
        (0.01, 0.012, 19_000, 1_000), (0.12, 0.18, 250, 250),
    ],
)  # fmt: skip
def test_relative_shares_err_alike_at_both_ends(share_c: float, share_t: float, n_c: int, n_t: int) -> None:
    rng = np.random.default_rng(21)
    runs = 20_000
    found = many_proportions(
        rng.binomial(n_c, share_c, runs), np.full(runs, n_c), rng.binomial(n_t, share_t, runs),
        np.full(runs, n_t),
    )  # fmt: skip
    above, below = tails(found, share_t / share_c - 1.0)
    # The log-ratio's: 89.9 % covered and tails to 5.5 % in the first world. Errors of 0.1 and 0.15 points.
    assert 0.935 < 1 - above - below < 0.96
    assert 0.015 < above < 0.035
    assert 0.015 < below < 0.035


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 4))
def test_newcombe_ratio_is_where_the_interval_of_a_difference_reaches_zero(
    n_c: int, n_t: int, part_c: float, part_t: float, z: float
) -> None:
    x_c, x_t = max(1, round(part_c * n_c)), round(part_t * n_t)
    low, high = newcombe_ratio(x_c, n_c, x_t, n_t, z)
    (low_c, high_c), (low_t, high_t) = wilson_interval(x_c, n_c, z), wilson_interval(x_t, n_t, z)

    def ends(r: float) -> tuple[float, float]:
        # Squares of the distances add up (Newcombe 1998), for treatment less r times control.
        gap = x_t / n_t - r * x_c / n_c
        below = math.hypot(x_t / n_t - low_t, r * (high_c - x_c / n_c))
        above = math.hypot(high_t - x_t / n_t, r * (x_c / n_c - low_c))
        return gap - below, gap + above

    assert low <= x_t / n_t / (x_c / n_c) * (1 + 1e-12)
    assert high >= x_t / n_t / (x_c / n_c)
    # Rounding in Wilson's ends near 0 and 1.
    assert ends(low)[0] == pytest.approx(0.0, abs=1e-9)
    assert ends(high)[1] == pytest.approx(0.0, abs=1e-9 * max(1.0, high))
    difference = newcombe_interval(x_c, n_c, x_t, n_t, z)
    if abs(low - 1) > 1e-9 and abs(high - 1) > 1e-9:
        assert (low > 1) == (difference[0] > 0)
        assert (high < 1) == (difference[1] < 0)


@pytest.mark.parametrize("counts", [(6, 20, 9, 380), (120, 380, 4, 20), (8, 40, 30, 40), (40, 40, 20, 30)])
def test_newcombe_ratio_at_other_levels_and_in_arrays(counts: tuple[int, int, int, int]) -> None:
    effect = difference_in_proportions(*counts)
    wide = difference_in_proportions(*counts, level=0.99)
    assert isinstance(effect, Effect)
    assert isinstance(wide, Effect)
    assert effect.relative_method == "newcombe-ratio" == wide.relative_method
    assert FEW_OF_A_KIND in effect.flags
    bounds = relative_bounds_at(effect, 0.005)
    assert bounds == pytest.approx((wide.relative_ci_lower, wide.relative_ci_upper), rel=1e-9)
    assert bounds is not None
    for end, sign in zip(bounds, (1.0, -1.0), strict=True):
        assert relative_distance_from(effect, end) == pytest.approx(sign * 2.5758293035, rel=1e-7)
    same = many_proportions(*(np.array([count]) for count in counts)).at(0)
    assert isinstance(same, Effect)
    assert (same.relative_ci_lower, same.relative_ci_upper) == pytest.approx(
        (effect.relative_ci_lower, effect.relative_ci_upper), rel=1e-12
    )
    assert (same.relative_method, same.flags) == (effect.relative_method, effect.flags)
