from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.robust_means import (
    RateRatio,
    WinsorisedDifference,
    pooled_cap,
    rate_ratio,
    winsorised_difference,
)
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import two_sided_critical
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

COUNTS = golden("counts")
WINSOR = golden("paired")["winsor"]
# Both sides work in double precision from the same rows. R stops its Poisson fit at a change of deviance of
# 1e-8, which leaves four to seven digits in errors that come from the last weights.
DIGITS = 1e-9


def rates(events: Any, exposure: Any, arm: Any, level: float = 0.95) -> RateRatio | NotEstimable:
    rows = np.column_stack([events, exposure])
    sides = np.asarray(arm)
    return rate_ratio(
        Moments.from_array(rows[sides == 0], ["k", "e"]),
        Moments.from_array(rows[sides == 1], ["k", "e"]),
        events="k",
        exposure="e",
        level=level,
    )


def estimated(result: RateRatio | NotEstimable) -> RateRatio:
    assert isinstance(result, RateRatio), result
    return result


@pytest.mark.parametrize("name", COUNTS)
def test_rates_equal_poisson_regression_with_sandwich_errors(name: str) -> None:
    case = {key: np.array(value) for key, value in COUNTS[name].items()}
    result = estimated(rates(case["events"], case["exposure"], case["arm"]))
    assert math.log(result.ratio) == pytest.approx(float(case["log_ratio"]), rel=1e-7)
    assert result.rate_control == pytest.approx(float(case["rate"]), rel=1e-7)
    # HC0 is ours without n / (n - 1) of each arm: the parts by arm come from rows.
    parts = 0.0
    for side in (0, 1):
        k, e = case["events"][case["arm"] == side], case["exposure"][case["arm"] == side]
        hc0 = np.sum((k - k.sum() / e.sum() * e) ** 2) / k.sum() ** 2
        parts += hc0 * k.size / (k.size - 1)
    assert result.log_se == pytest.approx(math.sqrt(parts), rel=DIGITS)
    assert result.log_se == pytest.approx(float(case["hc0"]), rel=0.07)
    assert result.dispersion == pytest.approx((result.log_se / float(case["naive"])) ** 2, rel=1e-4)


def test_hc0_itself_with_arms_of_one_size() -> None:
    case = COUNTS["even"]
    result = estimated(rates(case["events"], case["exposure"], case["arm"]))
    assert result.log_se * math.sqrt(79 / 80) == pytest.approx(case["hc0"], rel=1e-7)


def test_rates_agree_with_the_ratio_estimator() -> None:
    case = COUNTS["uneven"]
    rows = np.column_stack([case["events"], case["exposure"]])
    arm = np.array(case["arm"])
    effect = difference_in_ratios(
        Moments.from_array(rows[arm == 0], ["k", "e"]),
        Moments.from_array(rows[arm == 1], ["k", "e"]),
        numerator="k",
        denominator="e",
    )
    assert isinstance(effect, Effect)
    result = estimated(rates(case["events"], case["exposure"], arm))
    assert result.ratio - 1 == pytest.approx(effect.relative, rel=1e-10)
    # One arm is far less sure than the other, so that the ratio estimator leaves the log scale.
    assert effect.relative_method == "fieller"
    assert effect.relative is not None
    logs = 0.0
    for side in (rows[arm == 0], rows[arm == 1]):
        ratio = side[:, 0].sum() / side[:, 1].sum()
        logs += float(np.var((side[:, 0] / ratio - side[:, 1]) / side[:, 1].mean(), ddof=1)) / len(side)
    reach = math.sqrt(logs) * two_sided_critical(0.95, effect.df)
    # Degrees of freedom weigh the arms on another scale.
    assert result.ci_upper == pytest.approx((1 + effect.relative) * math.exp(reach), rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_rates_metamorphic(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    arm = np.repeat([0, 1], [15, 25])
    exposure = rng.gamma(3, 1, 40)
    events = rng.poisson(3 * exposure)
    base = estimated(rates(events, exposure, arm))
    swapped = estimated(rates(events, exposure, 1 - arm))
    assert swapped.ratio * base.ratio == pytest.approx(1.0, rel=1e-10)
    assert swapped.ci_lower * base.ci_upper == pytest.approx(1.0, rel=1e-9)
    assert swapped.p_value == pytest.approx(base.p_value, rel=1e-9)
    in_hours = estimated(rates(events, exposure * unit, arm))
    assert (in_hours.ratio, in_hours.log_se) == pytest.approx((base.ratio, base.log_se), rel=1e-9)
    # Bunches: each event three times over changes no ratio, and its variance not at all.
    bunched = estimated(rates(3 * events, exposure, arm))
    assert bunched.log_se == pytest.approx(base.log_se, rel=1e-9)
    assert bunched.dispersion == pytest.approx(3 * base.dispersion, rel=1e-9)


def test_rates_cover_where_poisson_errors_do_not() -> None:
    rng = np.random.default_rng(1)
    runs, low, high, poisson = 800, 0, 0, 0
    for _ in range(runs):
        exposure = rng.gamma(4, 1, 160)
        arm = np.repeat([0, 1], [60, 100])
        events = rng.poisson(exposure * rng.gamma(1, 1, 160) * np.where(arm == 1, 1.5, 1.0))
        result = estimated(rates(events, exposure, arm))
        low += result.ci_lower > 1.5
        high += result.ci_upper < 1.5
        poisson += abs(math.log(result.ratio / 1.5)) > 1.96 * result.log_se / math.sqrt(result.dispersion)
    # Four standard errors of 800 runs at 2.5 % are 2.2 points.
    assert low / runs < 0.047
    assert high / runs < 0.047
    assert poisson / runs > 0.2


@pytest.mark.parametrize(
    ("events", "exposure", "arm", "words"),
    [
        ([1, 2], [1, 1], [1, 1], "control arm is empty"),
        ([1, 2, 3], [1, 1, 1], [0, 1, 1], "one unit"),
        ([0, 0, 2, 3], [1, 1, 1, 1], [0, 0, 1, 1], "control arm has no events"),
        ([1, 2, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], "treatment arm has no events"),
        ([1, 2, 1, 3], [0, 0, 1, 1], [0, 0, 1, 1], "no exposure"),
        ([1, 2, 3, 9], [1, 2, 1, 3], [0, 0, 1, 1], "same rate"),
    ],
)
def test_rates_that_cannot_be_estimated(events: Any, exposure: Any, arm: Any, words: str) -> None:
    result = rates(events, exposure, arm)
    assert isinstance(result, NotEstimable), result
    assert words in result.reason


def test_few_events_are_flagged() -> None:
    assert "3 events" in estimated(rates([1, 2, 9, 4], [2, 2, 2, 2], [0, 0, 1, 1])).flags[0]


@pytest.mark.parametrize("case", WINSOR, ids=["tenth", "hundredth"])
def test_winsorised_means_equal_r(case: dict) -> None:  # type: ignore[type-arg]
    result = winsorised_difference(case["control"], case["treatment"], quantile=case["quantile"])
    assert isinstance(result, WinsorisedDifference)
    assert result.cap == pytest.approx(case["cap"], rel=DIGITS)
    assert result.effect.absolute == pytest.approx(case["absolute"], rel=DIGITS)
    assert result.effect.se == pytest.approx(case["se"], rel=DIGITS)
    assert result.effect.df == pytest.approx(case["df"], rel=DIGITS)
    assert result.effect.p_value == pytest.approx(case["p"], rel=1e-7)
    given_cap = winsorised_difference(case["control"], case["treatment"], cap=result.cap)
    assert given_cap == result
    above = np.concatenate([case["control"], case["treatment"]]) > result.cap
    assert result.capped_control + result.capped_treatment == above.sum()


def test_a_cap_nobody_reaches_is_welch() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(5, 1, 40), rng.normal(5.4, 2, 60)
    result = winsorised_difference(a, b, cap=100.0)
    assert isinstance(result, WinsorisedDifference)
    welch = stats.ttest_ind(b, a, equal_var=False)
    assert result.effect.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert (result.effect.method, result.capped_control, result.capped_treatment) == ("winsorised", 0, 0)


def test_winsorising_with_a_pooled_quantile_covers() -> None:
    # The cap is a fresh quantile of each draw: the interval must still cover the capped means' difference.
    rng = np.random.default_rng(3)
    runs, low, high, narrower = 700, 0, 0, 0
    cap = float(stats.lognorm.ppf(0.95, 1.0))
    spread_out = 0.25
    # The mean of min(X, cap) for log-normal X of median 1 and exp(0.25): by numerical integration.
    means = [
        stats.lognorm.expect(lambda v: np.minimum(v, cap), args=(1.0,), scale=math.exp(shift))
        for shift in (0.0, spread_out)
    ]
    for _ in range(runs):
        a = np.exp(rng.normal(0, 1, 300))
        b = np.exp(rng.normal(0, 1, 300))
        result = winsorised_difference(a, b, quantile=0.95)
        plain = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
        assert isinstance(result, WinsorisedDifference)
        low += result.effect.ci_lower > 0
        high += result.effect.ci_upper < 0
        narrower += result.effect.ci_upper - result.effect.ci_lower < plain.high - plain.low
        shifted = winsorised_difference(a, b * math.exp(spread_out), cap=cap)
        assert isinstance(shifted, WinsorisedDifference)
        truth = means[1] - means[0]
        low += shifted.effect.ci_lower > truth
        high += shifted.effect.ci_upper < truth
    # Both experiments together: four standard errors of 700 pairs at 2.5 % are at most 2.4 points.
    assert 0.005 < low / runs / 2 < 0.049
    assert 0.005 < high / runs / 2 < 0.049
    assert narrower == runs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100))
def test_winsorised_metamorphic(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(size=50), rng.exponential(size=40)

    def capped(x: np.ndarray, y: np.ndarray) -> WinsorisedDifference:
        result = winsorised_difference(x, y, quantile=0.9)
        assert isinstance(result, WinsorisedDifference)
        return result

    base, swapped, scaled = capped(a, b), capped(b, a), capped(a * scale, rng.permutation(b) * scale)
    assert swapped.effect.absolute == pytest.approx(-base.effect.absolute, rel=1e-9)
    assert swapped.effect.ci_lower == pytest.approx(-base.effect.ci_upper, rel=1e-9)
    assert scaled.effect.absolute == pytest.approx(scale * base.effect.absolute, rel=1e-9, abs=1e-12)
    assert scaled.effect.se == pytest.approx(scale * base.effect.se, rel=1e-9)


def test_mistakes_and_what_cannot_be_capped() -> None:
    with pytest.raises(ValueError, match="either cap or quantile"):
        winsorised_difference([1.0, 2.0], [2.0, 3.0])
    with pytest.raises(ValueError, match="either cap or quantile"):
        winsorised_difference([1.0, 2.0], [2.0, 3.0], cap=3.0, quantile=0.9)
    with pytest.raises(ValueError, match="quantile"):
        pooled_cap([1.0], [2.0], 99)
    with pytest.raises(ValueError, match="at least one"):
        pooled_cap([], [], 0.9)
    with pytest.raises(ValueError, match="cap"):
        winsorised_difference([1.0, 2.0], [2.0, 3.0], cap=math.inf)
    with pytest.raises(ValueError, match="control"):
        winsorised_difference([1.0, np.nan], [2.0, 3.0], cap=3.0)
    with pytest.raises(ValueError, match="k must be 0 or more"):
        rates([-5, 2, 2, 3], [1, 1, 1, 1], [0, 0, 1, 1])
    flat = winsorised_difference([5.0, 6.0], [7.0, 9.0], cap=4.0)
    assert isinstance(flat, NotEstimable)
    assert "below the cap 4" in flat.reason
    one = winsorised_difference([5.0], [7.0, 9.0], cap=4.0)
    assert isinstance(one, NotEstimable)
    assert "one unit" in one.reason
