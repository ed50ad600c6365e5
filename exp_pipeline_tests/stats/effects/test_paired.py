from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.paired import (
    PairedProportions,
    paired_difference,
    paired_proportions,
    score_interval_of_pairs,
)
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("paired")
Z = 1.959963984540054
# Both sides work in double precision from the same rows.
DIGITS = 1e-9


def paired(control: object, treatment: object, level: float = 0.95) -> Effect:
    rows = Moments.from_array(np.column_stack([control, treatment]), ["c", "t"])  # type: ignore[list-item]
    effect = paired_difference(rows, control="c", treatment="t", level=level)
    assert isinstance(effect, Effect), effect
    return effect


def proportions(*counts: int) -> PairedProportions:
    result = paired_proportions(*counts)
    assert isinstance(result, PairedProportions), result
    return result


@pytest.mark.parametrize("case", CASES["t"], ids=["six", "forty"])
def test_paired_t_equals_r(case: dict) -> None:  # type: ignore[type-arg]
    effect = paired(case["control"], case["treatment"], 0.9)
    assert effect.absolute == pytest.approx(case["absolute"], rel=DIGITS)
    assert effect.se == pytest.approx(case["se"], rel=DIGITS)
    assert effect.df == case["df"]
    assert effect.p_value == pytest.approx(case["p"], rel=DIGITS)
    assert (effect.ci_lower, effect.ci_upper) == pytest.approx(case["ci"], rel=DIGITS)


@pytest.mark.parametrize("case", CASES["mcnemar"], ids=lambda case: "-".join(map(str, case["counts"])))
def test_mcnemar_equals_r(case: dict) -> None:  # type: ignore[type-arg]
    result = proportions(*case["counts"])
    assert result.effect.p_value == pytest.approx(case["asymptotic"], rel=DIGITS)
    assert result.exact_p == pytest.approx(case["exact"], rel=DIGITS)
    assert result.mid_p == pytest.approx(case["mid"], rel=1e-8)


def test_a_published_interval() -> None:
    # Airway hyperresponsiveness before and after (Bentur and others), as in Fagerland and others (2014).
    effect = proportions(1, 1, 7, 12).effect
    assert (round(effect.ci_lower, 3), round(effect.ci_upper, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(
    "counts", [(36, 12, 2, 0), (1, 7, 1, 12), (20, 5, 15, 30), (3, 4, 0, 9), (0, 5, 5, 2)]
)
def test_score_bounds_by_brute_force(counts: tuple[int, int, int, int]) -> None:
    # Maximise the likelihood of all four cells under a fixed difference numerically, then solve for z.
    both, b, c, neither = counts
    n = sum(counts)

    def statistic(delta: float) -> float:
        def minus_log_likelihood(q: float) -> float:
            p = q + delta
            return -(
                b * math.log(max(p, 1e-300))
                + c * math.log(max(q, 1e-300))
                + (both + neither) * math.log(max(1 - p - q, 1e-300))
            )

        low, high = max(0.0, -delta), (1 - delta) / 2
        q = optimize.minimize_scalar(
            minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        ).x
        return float(((b - c) / n - delta) / math.sqrt((2 * q + delta - delta**2) / n))

    low, high = score_interval_of_pairs(b, c, n, Z)
    # The numerical maximum is good to about eight digits.
    assert statistic(low) == pytest.approx(Z, abs=1e-4)
    assert statistic(high) == pytest.approx(-Z, abs=1e-4)


def test_score_interval_covers_where_wald_does_not() -> None:
    # No simulation: every table of 25 pairs, with success rates 0.1 and 0.2 and few pairs that differ.
    n, p, q = 25, 0.14, 0.04
    covered = wald = total = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = float(stats.multinomial.pmf([b, c, n - b - c], n, [p, q, 1 - p - q]))
            total += chance
            low, high = score_interval_of_pairs(b, c, n, Z)
            covered += chance * (low <= p - q <= high)
            reach = Z * math.sqrt(max((b + c) / n - ((b - c) / n) ** 2, 0.0) / n)
            wald += chance * (abs((b - c) / n - (p - q)) <= reach)
    assert total == pytest.approx(1.0, abs=1e-9)
    assert 0.935 < covered / total < 0.985
    assert wald < 0.935


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_pairs_of_outcomes_under_swap(both: int, b: int, c: int, neither: int) -> None:
    result = paired_proportions(both, b, c, neither)
    if isinstance(result, NotEstimable):
        assert b + c == 0 or both + b + c + neither < 2
        return
    effect = result.effect
    assert -1 <= effect.ci_lower < effect.ci_upper <= 1
    assert effect.ci_lower <= effect.absolute <= effect.ci_upper
    # The interval and the p-value never disagree about zero.
    assert (effect.p_value < 0.05) == (effect.ci_lower > 0 or effect.ci_upper < 0)
    assert 0 < result.mid_p <= result.exact_p <= 1
    assert result.discordant == b + c
    for mirrored in (proportions(both, c, b, neither), proportions(neither, c, b, both)):
        assert mirrored.effect.absolute == pytest.approx(-effect.absolute, abs=1e-12)
        assert mirrored.effect.ci_lower == pytest.approx(-effect.ci_upper, abs=1e-9)
        assert (mirrored.exact_p, mirrored.mid_p) == (result.exact_p, result.mid_p)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100), st.floats(-100, 100))
def test_paired_t_under_change_of_unit_order_and_arm(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    c = rng.normal(size=12)
    t = c + rng.normal(size=12)
    base = paired(c, t)
    moved = paired(c * scale + shift, t * scale + shift)
    assert moved.absolute == pytest.approx(base.absolute * scale, rel=1e-7, abs=1e-9)
    assert moved.p_value == pytest.approx(base.p_value, rel=1e-6)
    swapped = paired(t, c)
    assert swapped.absolute == pytest.approx(-base.absolute, rel=1e-12)
    assert swapped.se == pytest.approx(base.se, rel=1e-12)
    order = rng.permutation(12)
    assert paired(c[order], t[order]).se == pytest.approx(base.se, rel=1e-12)
    # A level of its own for every pair changes nothing.
    own = rng.normal(size=12) * 50
    assert paired(c + own, t + own).se == pytest.approx(base.se, rel=1e-9)


def test_independent_columns_lose_only_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    c = rng.normal(10, 1, 4000)
    t = rng.normal(10.2, 1, 4000)
    both = paired(c, t)
    welch = difference_in_means(Moments.from_array(c, ["y"]), Moments.from_array(t, ["y"]), outcome="y")
    assert isinstance(welch, Effect)
    assert both.absolute == pytest.approx(welch.absolute, rel=1e-10)
    # The sample correlation of 4,000 independent pairs is below 0.05.
    assert both.se == pytest.approx(welch.se, rel=0.05)
    assert both.standardised == pytest.approx(welch.standardised, rel=1e-9)
    assert both.variance_reduction == pytest.approx(1 - (both.se / welch.se) ** 2, abs=1e-9)


def test_relative_interval_of_pairs_uses_their_covariance() -> None:
    # Pairs in proportion: the ratio is known almost exactly, however much the levels spread.
    rng = np.random.default_rng(2)
    c = np.exp(rng.normal(3, 0.8, 200))
    effect = paired(c, 1.25 * c * np.exp(rng.normal(0, 0.01, 200)))
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_upper is not None
    assert effect.relative == pytest.approx(0.25, abs=0.01)
    assert effect.relative_ci_upper - effect.relative_ci_lower < 0.01


def test_relative_interval_of_paired_shares_by_the_jackknife() -> None:
    counts = np.array([300, 90, 40, 170])
    effect = proportions(*counts.tolist()).effect
    n = counts.sum()

    def log_ratio(k: np.ndarray) -> float:
        return float(np.log((k[0] + k[1]) / (k[0] + k[2])))

    assert effect.relative is not None
    assert math.log1p(effect.relative) == pytest.approx(log_ratio(counts), rel=1e-12)
    left_out = np.array([log_ratio(counts - np.eye(4)[cell]) for cell in range(4)])
    spread = counts @ (left_out - counts @ left_out / n) ** 2
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_upper is not None
    half = (math.log1p(effect.relative_ci_upper) - math.log1p(effect.relative_ci_lower)) / 2
    # Leaving one pair of 600 out is the delta method up to a part in 600.
    assert half / Z == pytest.approx(math.sqrt((n - 1) / n * spread), rel=0.005)


def test_what_cannot_be_estimated_says_why() -> None:
    one = paired_difference(Moments.from_array([[1.0, 2.0]], ["c", "t"]), control="c", treatment="t")
    assert isinstance(one, NotEstimable)
    assert "1 pairs" in one.reason
    same = Moments.from_array([[0.1, 0.4], [0.7, 1.0], [5.3, 5.6]], ["c", "t"])
    alike = paired_difference(same, control="c", treatment="t")
    assert isinstance(alike, NotEstimable)
    assert "same" in alike.reason
    for counts in ((0, 0, 0, 0), (5, 0, 0, 5), (0, 1, 0, 0)):
        assert isinstance(paired_proportions(*counts), NotEstimable)


def test_all_pairs_changed_one_way_is_flagged() -> None:
    result = proportions(0, 9, 0, 0)
    assert result.effect.se == 0.0
    assert "read the interval" in result.effect.flags[0]
    assert result.effect.ci_lower < 1.0 == result.effect.ci_upper
    assert result.exact_p == pytest.approx(2 / 2**9)


def test_mistakes_are_named() -> None:
    rows = Moments.from_array([[1.0, 2.0], [2.0, 5.0]], ["c", "t"])
    with pytest.raises(ValueError, match="two variables"):
        paired_difference(rows, control="c", treatment="c")
    with pytest.raises(ValueError, match="'d'"):
        paired_difference(rows, control="c", treatment="d")
    with pytest.raises(ValueError, match="control_only"):
        paired_proportions(1, 2, -1, 4)
    with pytest.raises(ValueError, match="level"):
        paired_proportions(1, 2, 1, 4, level=95)
