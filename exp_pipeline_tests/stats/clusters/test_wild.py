from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.design import cluster_design, regress
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.clusters.wild import WildBootstrap, bootstrap_statistics, wild_cluster_bootstrap
from exp_pipeline.stats.inversion import DrawnStatistics
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("wild")


def estimated(result: WildBootstrap | NotEstimable) -> WildBootstrap:
    assert isinstance(result, WildBootstrap), result
    return result


def rows_of(name: str) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]:
    case = CASES[name]
    extra: dict[str, Any] = {}
    if case["covariates"]:
        extra["covariates"] = np.array(case["covariates"]).T
    if case["strata"]:
        extra["strata"] = np.array(case["strata"])
    return (np.array(case["y"]), np.array(case["arm"]) == 1, np.array(case["cluster"])), extra


def drawn(name: str, weights: np.ndarray) -> tuple[DrawnStatistics, float, float]:
    """Statistics, the estimate, and the factor of CR1 that theirs has."""
    (y, arm, cluster), extra = rows_of(name)
    starts = np.flatnonzero(np.diff(cluster, prepend=-1))
    layers = extra.get("strata")
    covariates = extra.get("covariates", np.zeros((y.size, 0)))
    design, _ = cluster_design(arm, starts, covariates, layers)
    assert design is not None
    fit = regress(design, y)
    n, p = design.columns.shape
    groups = starts.size
    factor = np.sqrt(groups / (groups - 1) * (n - 1) / (n - p))
    statistics = bootstrap_statistics(design, fit.residuals, weights, exact=True)
    return statistics, float(fit.coefficients[-1]), float(factor)


def at(statistics: DrawnStatistics, away: float) -> np.ndarray:
    top = statistics.top - away * statistics.top_slope
    square = statistics.square - 2 * away * statistics.square_slope + away**2 * statistics.square_curve
    return np.asarray(top / np.sqrt(square))


@pytest.mark.parametrize("name", ["plain", "adjusted"])
def test_all_statistics_equal_wildboottest(name: str) -> None:
    case = CASES[name]
    rows, extra = rows_of(name)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=8)))
    statistics, estimate, factor = drawn(name, signs)
    ours = np.sort(np.abs(at(statistics, -estimate))) / factor
    # Both sides work in double precision; small statistics are differences of large sums.
    np.testing.assert_allclose(ours, case["sorted"], rtol=1e-8, atol=1e-10)
    result = estimated(wild_cluster_bootstrap(*rows, **extra, seed=1, weights="rademacher"))
    assert (result.draws, result.enumerated) == (256, True)
    assert result.statistic == pytest.approx(case["statistic"], rel=1e-9)
    extreme = np.array(case["sorted"]) >= abs(case["statistic"]) * (1 - 1e-9)
    # wildboottest leaves out draws that equal the observed statistic; ours counts them.
    assert result.p_value == pytest.approx(extreme.mean(), abs=1e-12)


def test_statistics_with_webb_weights_equal_wildboottest() -> None:
    case = CASES["webb"]
    weights = np.array(case["drawn"])
    weights = weights if weights.shape[1] == 7 else weights.T
    statistics, estimate, factor = drawn("webb", weights)
    ours = at(statistics, -estimate) / factor
    theirs = np.array(case["statistics"])
    # Their first column is the sample itself; draws are matched in order.
    np.testing.assert_allclose(ours, theirs[-ours.size :], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("effect", [0.0, 0.9, -2.0, 1.5, 0.3])
def test_statistics_by_brute_force_at_any_effect(effect: float) -> None:
    # Make the bootstrap samples and run least squares on each.
    (y, arm, cluster), extra = rows_of("adjusted")
    rng = np.random.default_rng(1)
    signs = rng.choice([-1.0, 1.0], size=(100, 8))
    statistics, estimate, _ = drawn("adjusted", signs)
    others = np.column_stack([np.ones(y.size), extra["covariates"], extra["strata"] == 1])
    design = np.column_stack([others, arm]).astype(float)
    bread = np.linalg.inv(design.T @ design)
    shifted = y - effect * arm
    fitted = others @ np.linalg.lstsq(others, shifted, rcond=None)[0]
    expected = []
    for w in signs:
        sample = effect * arm + fitted + w[cluster] * (shifted - fitted)
        beta = bread @ design.T @ sample
        left = sample - design @ beta
        meat = sum(np.outer(s, s) for s in (design[cluster == g].T @ left[cluster == g] for g in range(8)))
        variance = (bread @ meat @ bread)[-1, -1]
        expected.append((beta[-1] - effect) / np.sqrt(variance))
    np.testing.assert_allclose(at(statistics, effect - estimate), expected, rtol=1e-8)
    observed = abs(estimate - effect) / statistics.se
    extreme = np.abs(np.array(expected)) >= observed * (1 - 1e-9)
    assert statistics.p_value(effect - estimate) == pytest.approx(extreme.mean(), abs=1e-12)


def test_the_interval_is_where_the_test_turns() -> None:
    (y, arm, cluster), _ = rows_of("plain")
    result = estimated(wild_cluster_bootstrap(y, arm, cluster, seed=1, weights="rademacher", level=0.9))
    assert result.ci_lower is not None
    assert result.ci_upper is not None
    assert result.ci_lower < result.absolute < result.ci_upper
    for bound, outward in ((result.ci_lower, -1), (result.ci_upper, 1)):
        for step, inside in ((1e-6, False), (-1e-6, True)):
            shifted = y - (bound + outward * step) * arm
            p = estimated(wild_cluster_bootstrap(shifted, arm, cluster, seed=1, weights="rademacher")).p_value
            assert (p > 0.1) == inside


def test_many_clusters_agree_with_cr1() -> None:
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(80), 6)
    arm = cluster % 2 == 1
    y = rng.normal(size=80)[cluster] + rng.normal(size=480) + 0.4 * arm
    boot = estimated(wild_cluster_bootstrap(y, arm, cluster, seed=3))
    effect = clustered_difference(y, arm, cluster, method="cr1")
    assert isinstance(effect, Effect)
    assert (boot.method, boot.enumerated, boot.draws) == ("wild-rademacher", False, 9999)
    assert (boot.absolute, boot.se) == pytest.approx((effect.absolute, effect.se), rel=1e-10)
    # 9,999 draws know p = 0.1 to 0.003; four of those, and as much for the two methods' own difference.
    assert boot.p_value == pytest.approx(effect.p_value, abs=0.025)
    assert boot.ci_lower == pytest.approx(effect.ci_lower, abs=0.15 * effect.se)
    assert boot.ci_upper == pytest.approx(effect.ci_upper, abs=0.15 * effect.se)


def test_weights_follow_the_number_of_clusters() -> None:
    rng = np.random.default_rng(4)

    def boot(clusters: int) -> WildBootstrap:
        cluster = np.repeat(np.arange(clusters), 3)
        return estimated(
            wild_cluster_bootstrap(rng.normal(size=cluster.size), cluster % 2 == 0, cluster, seed=1)
        )

    assert (boot(5).method, boot(5).draws, boot(5).enumerated) == ("wild-webb", 6**5, True)
    assert (boot(9).method, boot(9).enumerated) == ("wild-webb", False)
    assert (boot(12).method, boot(12).draws) == ("wild-rademacher", 4096)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100), st.floats(-100, 100))
def test_metamorphic(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat(np.arange(8), 5))
    arm = cluster % 2 == 0
    y = rng.normal(size=8)[cluster] + rng.normal(size=40)

    def boot(*rows: np.ndarray) -> WildBootstrap:
        return estimated(wild_cluster_bootstrap(*rows, seed=1, weights="rademacher", draws=300))

    base = boot(y, arm, cluster)
    order = rng.permutation(40)
    names = rng.permutation(8) * 10
    for other, factor in (
        (boot(y[order], arm[order], names[cluster][order]), 1.0),
        (boot(y * scale + shift, arm, cluster), scale),
        (boot(y, ~arm, cluster), -1.0),
    ):
        assert other.p_value == base.p_value
        assert other.absolute == pytest.approx(factor * base.absolute, rel=1e-6, abs=1e-8)
        bounds = (base.ci_lower, base.ci_upper)
        if None in bounds:
            assert {other.ci_lower is None, other.ci_upper is None} == {
                base.ci_lower is None,
                base.ci_upper is None,
            }
            continue
        expected = sorted(factor * bound for bound in bounds if bound is not None)
        assert (other.ci_lower, other.ci_upper) == pytest.approx(expected, rel=1e-5, abs=1e-6 * abs(factor))


def test_size_with_eight_clusters_where_cr1_and_the_normal_fail() -> None:
    rng = np.random.default_rng(5)
    runs, boot_rejects, normal_rejects = 250, 0, 0
    for _ in range(runs):
        cluster = np.repeat(np.arange(8), rng.integers(3, 25, 8))
        y = rng.normal(0, 0.7, 8)[cluster] + rng.normal(size=cluster.size)
        boot = estimated(
            wild_cluster_bootstrap(y, cluster < 4, cluster, seed=1, weights="rademacher", draws=256)
        )
        boot_rejects += boot.p_value <= 0.05
        normal_rejects += abs(boot.statistic) > 1.96
    # Four standard errors of 250 runs at 5 % are 5.5 points.
    assert boot_rejects / runs < 0.105
    assert normal_rejects / runs > 0.11


def test_so_few_clusters_that_nothing_can_be_excluded() -> None:
    rng = np.random.default_rng(6)
    cluster = np.repeat(np.arange(4), 5)
    result = estimated(
        wild_cluster_bootstrap(rng.normal(size=20), cluster < 2, cluster, seed=1, weights="rademacher")
    )
    # Sixteen sign vectors: p is a multiple of 1/8, never 0.05.
    assert (result.ci_lower, result.ci_upper) == (None, None)
    assert result.p_value >= 1 / 8
    assert "too few to bound" in result.flags[-1]
    assert "2 clusters" in result.flags[0]


@pytest.mark.parametrize(
    ("arm", "cluster", "strata", "y", "words"),
    [
        ([0, 0, 0, 0], [1, 1, 2, 2], None, [1, 2, 3, 4], "treatment arm is empty"),
        ([0, 0, 0, 1], [1, 1, 2, 3], None, [1, 2, 3, 4], "one cluster"),
        ([0, 0, 1, 1], [1, 2, 3, 4], [1, 1, 2, 2], [1, 2, 3, 4], "determine the arm"),
        ([0, 0, 1, 1], [1, 2, 3, 4], None, [5, 5, 5, 5], "no spread"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    arm: list[int], cluster: list[int], strata: list[int] | None, y: list[float], words: str
) -> None:
    result = wild_cluster_bootstrap(y, arm, cluster, seed=1, strata=strata)
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_mistakes_are_named() -> None:
    rows: tuple[Any, Any, Any] = ([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="weights"):
        wild_cluster_bootstrap(*rows, seed=1, weights="mammen")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws"):
        wild_cluster_bootstrap(*rows, seed=1, draws=10)
    with pytest.raises(ValueError, match="treated"):
        wild_cluster_bootstrap(rows[0], [0, 1], rows[2], seed=1)
