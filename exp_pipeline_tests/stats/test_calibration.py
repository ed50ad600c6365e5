"""Do intervals cover as often as they say? Beside ours stand faulty methods that must be seen to fail.

Two thousand runs know a 5 % rate to 0.49 points, 800 to 0.77, 500 to 0.97; bands are four of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from exp_pipeline.stats.adjustment import adjusted_difference
from exp_pipeline.stats.clusters import clustered_difference
from exp_pipeline.stats.means import difference_in_means, difference_in_proportions, newcombe_interval
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.quantiles import difference_in_quantiles
from exp_pipeline.stats.ratios import difference_in_ratios
from exp_pipeline.stats.results import Effect, NotEstimable

Z = 1.959963984540054


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def misses(runs: int, draw: Callable[[], tuple[Effect, float, bool]]) -> tuple[float, float]:
    """In which share of runs does our interval miss the truth, and does the faulty method?"""
    ours = faulty = 0
    for _ in range(runs):
        effect, truth, wrong = draw()
        ours += not effect.ci_lower <= truth <= effect.ci_upper
        faulty += wrong
    return ours / runs, faulty / runs


def test_means_of_eight_units() -> None:
    rng = np.random.default_rng(1)

    def draw() -> tuple[Effect, float, bool]:
        rows = rng.normal(size=(2, 8))
        effect = estimated(
            difference_in_means(
                Moments.from_array(rows[0], ["y"]), Moments.from_array(rows[1], ["y"]), outcome="y"
            )
        )
        return effect, 0.0, abs(effect.absolute / effect.se) > Z

    ours, normal_reference = misses(2000, draw)
    assert 0.03 < ours < 0.07
    assert normal_reference > 0.065


def test_an_adjusted_effect_of_twelve_units_an_arm() -> None:
    rng = np.random.default_rng(2)
    names = ["y", "a", "b"]

    def draw() -> tuple[Effect, float, bool]:
        x = rng.normal(size=(24, 2))
        y = x @ [2.0, 1.0] + rng.normal(size=24)
        rows = np.column_stack([y, x])
        control, treatment = Moments.from_array(rows[:12], names), Moments.from_array(rows[12:], names)
        effect = estimated(adjusted_difference(control, treatment, outcome="y", covariates=["a", "b"]))
        # Faulty: residual variance as if the slopes were known, normal reference.
        slopes = np.linalg.lstsq(x - np.repeat([x[:12].mean(0), x[12:].mean(0)], 12, axis=0), y, rcond=None)[
            0
        ]
        left = y - x @ slopes
        known = math.sqrt(left[:12].var(ddof=1) / 12 + left[12:].var(ddof=1) / 12)
        return effect, 0.0, abs(effect.absolute) > Z * known

    ours, slopes_known = misses(1500, draw)
    assert 0.03 < ours < 0.073
    assert slopes_known > 0.07


def test_ratios_of_sixty_units_an_arm() -> None:
    rng = np.random.default_rng(3)
    names = ["taken", "shown"]

    def draw() -> tuple[Effect, float, bool]:
        arms = []
        for _ in range(2):
            shown = 1 + rng.poisson(8, 60)
            arms.append(np.column_stack([rng.binomial(shown, rng.beta(2, 2, 60)), shown]).astype(float))
        moments = [Moments.from_array(arm, names) for arm in arms]
        effect = estimated(difference_in_ratios(*moments, numerator="taken", denominator="shown"))
        # Faulty: every row of every unit taken for a unit.
        shares = [arm[:, 0].sum() / arm[:, 1].sum() for arm in arms]
        rows = math.sqrt(sum(p * (1 - p) / arm[:, 1].sum() for p, arm in zip(shares, arms, strict=True)))
        return effect, 0.0, abs(effect.absolute) > Z * rows

    ours, by_row = misses(1500, draw)
    assert 0.03 < ours < 0.073
    assert by_row > 0.15


def test_twenty_clusters_of_unequal_size() -> None:
    rng = np.random.default_rng(4)

    def draw() -> tuple[Effect, float, bool]:
        sizes = rng.integers(4, 40, 20)
        cluster = np.repeat(np.arange(20), sizes)
        y = rng.normal(0, 0.5, 20)[cluster] + rng.normal(size=cluster.size)
        effect = estimated(clustered_difference(y, cluster < 8, cluster))
        assert effect.method == "cr2"
        plain = estimated(clustered_difference(y, cluster < 8, cluster, method="cr1"))
        return effect, 0.0, abs(plain.absolute / plain.se) > Z

    ours, cr1_normal = misses(800, draw)
    assert 0.02 < ours < 0.08
    assert cr1_normal > 0.075


def test_quantiles_of_repeated_rows() -> None:
    rng = np.random.default_rng(5)

    def draw() -> tuple[Effect, float, bool]:
        arms = []
        for _ in range(2):
            unit = np.repeat(np.arange(150), 1 + rng.poisson(7, 150))
            arms += [np.exp(rng.normal(0, 0.6, 150)[unit] + rng.normal(0, 0.3, unit.size)), unit]
        effect = estimated(difference_in_quantiles(*arms, quantile=0.9))
        rows = estimated(
            difference_in_quantiles(
                arms[0], np.arange(arms[0].size), arms[2], np.arange(arms[2].size), quantile=0.9
            )
        )
        return effect, 0.0, rows.ci_lower > 0 or rows.ci_upper < 0

    ours, by_row = misses(500, draw)
    assert 0.015 < ours < 0.089
    assert by_row > 0.2


def test_relative_lift_of_a_small_conversion_test() -> None:
    rng = np.random.default_rng(6)
    runs, n, base, lift = 2000, 250, 0.12, 0.5
    low = high = naive = 0
    for a, b in zip(rng.binomial(n, base, runs), rng.binomial(n, base * (1 + lift), runs), strict=True):
        effect = estimated(difference_in_proportions(int(a), n, int(b), n))
        assert effect.relative_ci_lower is not None
        assert effect.relative_ci_upper is not None
        low += effect.relative_ci_lower > lift
        high += effect.relative_ci_upper < lift
        naive += not effect.ci_lower / (a / n) <= lift <= effect.ci_upper / (a / n)
    # Each tail, nominal 2.5 %: four standard errors of 2,000 runs are 1.4 points.
    assert 0.011 < low / runs < 0.039
    assert 0.011 < high / runs < 0.039
    assert naive / runs > 0.08, "dividing the absolute interval by the control mean was expected to fail"


def test_newcombe_covers_small_counts_where_wald_does_not() -> None:
    # No simulation: coverage is summed over every pair of counts.
    n, m, p, q = 30, 25, 0.05, 0.08
    chance = np.outer(stats.binom.pmf(np.arange(n + 1), n, p), stats.binom.pmf(np.arange(m + 1), m, q))
    newcombe = wald = 0.0
    for a in range(n + 1):
        for b in range(m + 1):
            low, high = newcombe_interval(a, n, b, m, Z)
            newcombe += chance[a, b] * (low <= q - p <= high)
            gap = b / m - a / n
            reach = Z * math.sqrt(a * (n - a) / n**3 + b * (m - b) / m**3)
            wald += chance[a, b] * (gap - reach <= q - p <= gap + reach)
    assert 0.93 < newcombe < 0.99
    assert wald < 0.93
