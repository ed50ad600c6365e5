from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.missing.bounds import (
    EffectBounds,
    imbens_manski,
    lee_bounds,
    worst_case_bounds,
)
from exp_pipeline.stats.missing.tipping import TippingPoint, tipping_point
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable


def bounds(result: EffectBounds | NotEstimable) -> EffectBounds:
    assert isinstance(result, EffectBounds), result
    return result


def tips(result: TippingPoint | NotEstimable) -> TippingPoint:
    assert isinstance(result, TippingPoint), result
    return result


def by_copies(y: np.ndarray, seen: np.ndarray, arm: np.ndarray) -> tuple[float, float]:
    """Each observed unit is made into so many copies that the trimmed share is a whole number of them."""
    n, held = [int((~arm).sum()), int(arm.sum())], [int((seen & ~arm).sum()), int((seen & arm).sum())]
    more = 1 if held[1] * n[0] > held[0] * n[1] else 0
    copies = held[more] * n[1 - more]
    keep = held[1 - more] * n[more]  # of held[more] * n[1 - more] per unit of `copies` / held[more]
    values = np.sort(np.repeat(y[seen & (arm == bool(more))], copies // held[more]))
    assert values.size == held[more] * n[1 - more]
    other = y[seen & (arm != bool(more))].mean()
    low, high = values[:keep].mean(), values[values.size - keep :].mean()
    return (low - other, high - other) if more else (other - high, other - low)


def rows(seed: int, n: int = 90, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 2, n) == 1
    y = rng.normal(size=n) + arm * 0.5
    seen = rng.random(n) < np.where(arm, rng.uniform(0.5, 1), rng.uniform(0.5, 1))
    return np.round(y) if ties else y, seen, arm


@pytest.mark.parametrize("seed", range(12))
def test_bounds_equal_trimming_by_copies(seed: int) -> None:
    y, seen, arm = rows(seed, ties=seed % 3 == 0)
    ours = bounds(lee_bounds(y, seen, arm))
    assert (ours.lower, ours.upper) == pytest.approx(by_copies(y, seen, arm), rel=1e-10, abs=1e-12)
    larger = "treatment" if ours.share_treatment > ours.share_control else "control"
    assert ours.trimmed_arm == larger
    shares = sorted([ours.share_control, ours.share_treatment])
    assert ours.trimmed_share == pytest.approx(1.0 - shares[0] / shares[1])
    assert ours.always_observed == pytest.approx(shares[0])


def test_nothing_missing_is_welch() -> None:
    y, _, arm = rows(3)
    ours = bounds(lee_bounds(y, np.ones(y.size, bool), arm))
    plain = difference_in_means(
        Moments.from_array(y[~arm], ["y"]), Moments.from_array(y[arm], ["y"]), outcome="y"
    )
    assert isinstance(plain, Effect)
    assert (ours.lower, ours.upper) == pytest.approx((plain.absolute, plain.absolute), rel=1e-12)
    assert (ours.se_lower, ours.se_upper) == pytest.approx((plain.se, plain.se), rel=1e-12)
    # Two-sided where the bounds meet, Welch's df there, n - 2 here.
    assert ours.ci_lower == pytest.approx(plain.ci_lower, abs=0.005)
    worst = bounds(worst_case_bounds(y, np.ones(y.size, bool), arm, lowest=-9, highest=9))
    assert (worst.lower, worst.se_lower) == pytest.approx((plain.absolute, plain.se), rel=1e-12)


def test_standard_errors_by_leaving_units_and_clusters_out() -> None:
    y, seen, arm = rows(5, n=450)
    layers = (np.arange(450) % 3).astype(int)
    # Strata whose bounds lie far apart, so that their weights matter too.
    apart = y + arm * layers * 3.0
    for values, strata in ((y, None), (apart, layers)):
        ours = bounds(lee_bounds(values, seen, arm, strata=strata))
        left = []
        for i in range(450):
            kept = np.arange(450) != i
            part = bounds(
                lee_bounds(
                    values[kept], seen[kept], arm[kept], strata=None if strata is None else strata[kept]
                )
            )
            left.append((part.lower, part.upper))
        gaps = np.array(left) - np.mean(left, axis=0)
        jackknife = np.sqrt(449 / 450 * np.sum(gaps**2, axis=0))
        # The influence of a unit on a trimmed mean is smooth but for one order statistic.
        assert (ours.se_lower, ours.se_upper) == pytest.approx(tuple(jackknife), rel=0.03)
    cluster = np.arange(450) // 5
    y = apart + np.random.default_rng(9).normal(size=90)[cluster]
    ours = bounds(lee_bounds(y, seen, arm, cluster=cluster))
    left = []
    for g in range(90):
        kept = cluster != g
        part = bounds(lee_bounds(y[kept], seen[kept], arm[kept], cluster=cluster[kept]))
        left.append((part.lower, part.upper))
    jackknife = np.sqrt(89 / 90 * np.sum((np.array(left) - np.mean(left, axis=0)) ** 2, axis=0))
    assert (ours.se_lower, ours.se_upper) == pytest.approx(tuple(jackknife), rel=0.06)


def test_strata_tighten_and_average() -> None:
    rng = np.random.default_rng(610)
    n = 6000
    layer, arm = rng.integers(0, 3, n), rng.integers(0, 2, n) == 1
    y = 3.0 * layer + rng.normal(size=n) + 0.4 * arm
    seen = rng.random(n) < 0.5 + 0.1 * layer + 0.12 * arm
    wide, tight = bounds(lee_bounds(y, seen, arm)), bounds(lee_bounds(y, seen, arm, strata=layer))
    assert tight.upper - tight.lower < 0.6 * (wide.upper - wide.lower)
    assert tight.lower < 0.4 < tight.upper
    # The average of the strata's own bounds by their always observed, from one call a stratum.
    parts = [bounds(lee_bounds(y[layer == s], seen[layer == s], arm[layer == s])) for s in range(3)]
    weights = [float((part.always_observed or 0.0) * (layer == s).sum()) for s, part in enumerate(parts)]
    assert tight.lower == pytest.approx(
        np.average([part.lower for part in parts], weights=weights), rel=1e-12
    )
    assert tight.method == "lee-strata"


def test_imbens_and_manski_between_one_and_two_sides() -> None:
    assert imbens_manski(0.0, 0.0, 1.0, 1.0, 1e9, 0.95) == pytest.approx(1.959964, abs=1e-5)
    assert imbens_manski(0.0, 50.0, 1.0, 1.0, 1e9, 0.95) == pytest.approx(1.644854, abs=1e-5)
    # Their equation 6 itself, by scipy.
    from scipy import stats

    c = imbens_manski(0.0, 0.7, 0.5, 0.4, 40, 0.9)
    assert stats.t.cdf(c + 0.7 / 0.5, 40) - stats.t.cdf(-c, 40) == pytest.approx(0.9, abs=1e-12)


def test_worst_case_by_filling_in() -> None:
    y, seen, arm = rows(11)
    y = np.clip(y, -2, 2)
    ours = bounds(worst_case_bounds(y, seen, arm, lowest=-2.0, highest=2.0))
    for value, se, (t, c) in (
        (ours.lower, ours.se_lower, (-2.0, 2.0)),
        (ours.upper, ours.se_upper, (2.0, -2.0)),
    ):
        full = np.where(seen, y, np.where(arm, t, c))
        plain = difference_in_means(
            Moments.from_array(full[~arm], ["y"]), Moments.from_array(full[arm], ["y"]), outcome="y"
        )
        assert isinstance(plain, Effect)
        assert (value, se) == pytest.approx((plain.absolute, plain.se), rel=1e-10)
    lee = bounds(lee_bounds(y, seen, arm))
    assert ours.lower <= lee.lower <= lee.upper <= ours.upper
    with pytest.raises(ValueError, match="between lowest"):
        worst_case_bounds(y, seen, arm, lowest=-1.0, highest=2.0)
    with pytest.raises(ValueError, match="lowest first"):
        worst_case_bounds(y, seen, arm, lowest=2.0, highest=2.0)


def test_tipping_points_by_filling_in() -> None:
    rng = np.random.default_rng(612)
    n = 600
    arm = np.arange(n) % 2 == 1
    y = rng.normal(size=n) + arm
    seen = rng.random(n) < np.where(arm, 0.75, 0.85)
    ours = tips(tipping_point(y, seen, arm))
    assert ours.to_zero_treatment is not None
    assert ours.to_chance_treatment is not None
    assert ours.to_chance_opposite is not None
    assert ours.to_zero_treatment < ours.to_chance_treatment < ours.to_chance_opposite < 0.0

    def filled(t: float, c: float) -> float:
        full = np.where(seen, y, np.where(arm, y[arm & seen].mean() + t, y[~arm & seen].mean() + c))
        return float(full[arm].mean() - full[~arm].mean())

    assert filled(0.0, 0.0) == pytest.approx(ours.absolute, rel=1e-12)
    assert filled(ours.to_zero_treatment, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert ours.to_zero_opposite is not None
    assert filled(ours.to_zero_opposite, -ours.to_zero_opposite) == pytest.approx(0.0, abs=1e-12)
    # At the other tipping point the interval of a bootstrap of units just holds zero.
    d, draws = ours.to_chance_treatment, []
    for _ in range(2000):
        i = rng.integers(0, n, n)
        yy, ss, aa = y[i], seen[i], arm[i]
        mean_t, mean_c = yy[ss & aa].mean(), yy[ss & ~aa].mean()
        draws.append(mean_t + (1 - ss[aa].mean()) * d - mean_c)
    point = filled(d, 0.0)
    assert point / np.std(draws) == pytest.approx(1.964, abs=0.12)


def test_tipping_points_by_cluster_by_leaving_clusters_out() -> None:
    # Weak classes lose more pupils: what moves the mean moves the share missing, and both count together.
    rng = np.random.default_rng(614)
    cluster = np.repeat(np.arange(60), 12)
    level = rng.normal(size=60)[cluster]
    arm = cluster % 2 == 1
    y = level + rng.normal(size=720) + 2.0 * arm
    seen = rng.random(720) < 1 / (1 + np.exp(-(0.8 + 1.2 * level)))
    ours = tips(tipping_point(y, seen, arm, cluster=cluster))
    assert ours.to_chance_treatment is not None
    assert ours.to_chance_opposite is not None

    def filled(kept: np.ndarray, t: float, c: float) -> float:
        mean = [
            y[kept & seen & (arm == a)].mean() + (1 - seen[kept & (arm == a)].mean()) * d
            for a, d in ((False, c), (True, t))
        ]
        return float(mean[1] - mean[0])

    for t, c in ((ours.to_chance_treatment, 0.0), (ours.to_chance_opposite, -ours.to_chance_opposite)):
        left = np.array([filled(cluster != g, t, c) for g in range(60)])
        se = math.sqrt(59 / 60 * np.sum((left - left.mean()) ** 2))
        # 2.0017 is t at 58 degrees of freedom; the jackknife of 60 clusters is a little larger.
        assert filled(np.ones(720, bool), t, c) / se == pytest.approx(2.0017, rel=0.04)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 50), st.floats(-100, 100))
def test_scale_shift_swap_and_order(seed: int, scale: float, shift: float) -> None:
    y, seen, arm = rows(seed, n=60)
    first = lee_bounds(y, seen, arm)
    order = np.random.default_rng(seed).permutation(y.size)
    second = lee_bounds((scale * y + shift)[order], seen[order], ~arm[order])
    if isinstance(first, NotEstimable) or isinstance(second, NotEstimable):
        assert type(first) is type(second)
        return
    assert (second.lower, second.upper) == pytest.approx(
        (-scale * first.upper, -scale * first.lower), rel=1e-7, abs=1e-9 * (scale + abs(shift))
    )
    assert second.se_lower == pytest.approx(scale * first.se_upper, rel=1e-6)
    twice = bounds(lee_bounds(np.tile(y, 2), np.tile(seen, 2), np.tile(arm, 2)))
    assert (twice.lower, twice.upper) == pytest.approx((first.lower, first.upper), rel=1e-9, abs=1e-12)


def test_what_cannot_be_told_says_why() -> None:
    y, seen, arm = rows(1)
    answer = lee_bounds(y, seen & ~arm, arm)
    assert isinstance(answer, NotEstimable)
    assert "fewer than two observed" in answer.reason
    assert isinstance(lee_bounds(np.full(90, 2.0), seen, arm), NotEstimable)
    assert isinstance(tipping_point(y, seen, np.zeros(90, bool)), NotEstimable)
    nobody = tips(tipping_point(y, np.ones(90, bool), arm))
    assert nobody.to_zero_treatment is None
    y[seen] = np.nan
    with pytest.raises(ValueError, match="finite where"):
        lee_bounds(y, seen, arm)


def test_coverage_of_the_bounds_interval() -> None:
    rng = np.random.default_rng(613)
    trials, n = 300, 400
    covered = {0.0: 0, 1.0: 0}
    for worst in covered:
        for _ in range(trials):
            arm = rng.integers(0, 2, n) == 1
            y = rng.normal(size=n)
            # Always observed (60 %) and, treated only, the lowest of the rest: truth 0 sits at an end.
            always = rng.random(n) < 0.6
            extra = rng.random(n) < 0.3
            seen = always | (extra & arm)
            if worst:
                # Those only seen when treated are the lowest: trimming the bottom is right.
                y = np.where(always, np.abs(y), -np.abs(y))
            found = bounds(lee_bounds(y, seen, arm))
            covered[worst] += found.ci_lower <= 0.0 <= found.ci_upper
    # Inside the bounds coverage is above nominal; at an end it is nominal (Monte Carlo error 1.1 points).
    assert covered[0.0] / trials > 0.97
    assert 0.92 < covered[1.0] / trials < 0.98
    assert math.isfinite(found.se_lower)
