from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.randomisation import RandomisationTest, randomisation_test
from exp_pipeline.stats.results import Effect, NotEstimable


def estimated(result: RandomisationTest | NotEstimable) -> RandomisationTest:
    assert isinstance(result, RandomisationTest), result
    return result


def test_differences_of_units_equal_scipy_exactly() -> None:
    rng = np.random.default_rng(1)
    for n_c, n_t in ((5, 4), (3, 8), (6, 6)):
        control, treatment = rng.normal(size=n_c), rng.normal(0.8, 1, n_t)
        theirs = stats.permutation_test(
            (treatment, control),
            lambda a, b, axis: a.mean(axis) - b.mean(axis),
            vectorized=True,
            n_resamples=np.inf,
        )
        arm = np.repeat([False, True], [n_c, n_t])
        ours = estimated(
            randomisation_test(np.concatenate([control, treatment]), arm, seed=1, statistic="difference")
        )
        assert ours.exact
        assert ours.absolute == pytest.approx(float(theirs.statistic), rel=1e-12)
        # scipy doubles the smaller tail; ours counts both tails by size: brute force beside it.
        gaps = theirs.null_distribution
        assert ours.assignments == gaps.size
        assert ours.p_value == pytest.approx(
            np.mean(np.abs(gaps) >= abs(theirs.statistic) * (1 - 1e-9)), abs=1e-12
        )


def brute_force(
    y: np.ndarray, arm: np.ndarray, cluster: np.ndarray, strata: np.ndarray, x: np.ndarray, effect: float
) -> tuple[float, int]:
    """p of the sharp null `effect`, by least squares on rows under every assignment."""
    shifted = y - effect * arm
    names, first = np.unique(cluster, return_index=True)
    others = np.column_stack([*(strata == s for s in np.unique(strata)), x]).astype(float)

    def statistic(drawn: np.ndarray) -> float:
        design = np.column_stack([others, drawn])
        bread = np.linalg.inv(design.T @ design)
        beta = bread @ design.T @ shifted
        left = shifted - design @ beta
        scores = [design[cluster == g].T @ left[cluster == g] for g in names]
        return float(beta[-1] / np.sqrt((bread @ sum(np.outer(s, s) for s in scores) @ bread)[-1, -1]))

    places = [np.flatnonzero(strata[first] == s) for s in np.unique(strata)]
    counts = [int(arm[first][where].sum()) for where in places]
    observed = abs(statistic(arm.astype(float)))
    found = []
    for picks in itertools.product(
        *(itertools.combinations(w, c) for w, c in zip(places, counts, strict=True))
    ):
        chosen = np.zeros(names.size)
        chosen[list(itertools.chain(*picks))] = 1
        found.append(abs(statistic(chosen[np.searchsorted(names, cluster)])))
    return float(np.mean(np.array(found) >= observed * (1 - 1e-9))), len(found)


@pytest.mark.parametrize("covariates", [0, 2])
def test_clusters_in_strata_with_covariates_by_brute_force(covariates: int) -> None:
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(10), [3, 5, 4, 6, 2, 4, 5, 3, 6, 4])
    strata = np.where(cluster < 6, 0, 1)
    arm = np.isin(cluster, [0, 3, 4, 7, 9])
    x = rng.normal(size=(cluster.size, covariates)) + strata[:, None]
    y = rng.normal(size=10)[cluster] + rng.normal(size=cluster.size) + x.sum(axis=1) + 1.5 * arm
    result = estimated(
        randomisation_test(
            y, arm, seed=1, cluster=cluster, strata=strata, covariates=x if covariates else None
        )
    )
    expected, ways = brute_force(y, arm, cluster, strata, x, 0.0)
    assert (result.assignments, ways) == (20 * 6, 20 * 6)
    assert result.p_value == pytest.approx(expected, abs=1e-12)
    assert result.smallest_p == pytest.approx(1 / 120)
    fit = clustered_difference(
        y, arm, cluster, strata=strata, covariates=x if covariates else None, method="cr1"
    )
    assert isinstance(fit, Effect)
    assert result.absolute == pytest.approx(fit.absolute, rel=1e-10)
    # The interval: p just above the level inside, at or below it outside.
    assert result.ci_lower is not None
    assert result.ci_upper is not None
    for bound, outward in ((result.ci_lower, -1), (result.ci_upper, 1)):
        assert brute_force(y, arm, cluster, strata, x, bound - outward * 1e-6)[0] > 0.05
        assert brute_force(y, arm, cluster, strata, x, bound + outward * 1e-6)[0] <= 0.05


def test_the_same_without_names_is_by_unit() -> None:
    rng = np.random.default_rng(3)
    y, arm = rng.normal(size=9), np.repeat([True, False], [4, 5])
    by_unit = estimated(randomisation_test(y, arm, seed=1))
    by_cluster = estimated(randomisation_test(y, arm, seed=1, cluster=np.arange(9) * 3))
    assert by_unit == by_cluster
    # Doubling every row within clusters of two changes nothing.
    doubled = estimated(
        randomisation_test(np.repeat(y, 2), np.repeat(arm, 2), seed=1, cluster=np.repeat(np.arange(9), 2))
    )
    assert doubled.p_value == by_unit.p_value
    assert doubled.ci_upper == pytest.approx(by_unit.ci_upper, rel=1e-9)


def test_random_assignments_come_near_the_exact_answer() -> None:
    rng = np.random.default_rng(4)
    y, arm = rng.normal(size=14), np.repeat([True, False], 7)
    y = y + 0.9 * arm
    exact = estimated(randomisation_test(y, arm, seed=1))
    sampled = estimated(randomisation_test(y, arm, seed=1, draws=2000))
    assert (exact.exact, exact.assignments) == (True, 3432)
    assert (sampled.exact, sampled.assignments) == (False, 2000)
    # 2,000 draws know p = 0.1 to 0.0067; four of those.
    assert sampled.p_value == pytest.approx(exact.p_value, abs=0.027)
    assert sampled.smallest_p == pytest.approx(1 / 2001)
    assert sampled.p_value * 2001 == pytest.approx(round(sampled.p_value * 2001), abs=1e-9)
    again = estimated(randomisation_test(y, arm, seed=1, draws=2000))
    assert again == sampled


def test_many_units_agree_with_welch() -> None:
    rng = np.random.default_rng(5)
    arm = rng.permutation(np.repeat([False, True], [300, 100]))
    y = rng.normal(size=400) * np.where(arm, 2, 1) + 0.4 * arm
    result = estimated(randomisation_test(y, arm, seed=2, draws=1999))
    welch = stats.ttest_ind(y[arm], y[~arm], equal_var=False)
    assert result.p_value == pytest.approx(welch.pvalue, abs=0.03)
    interval = welch.confidence_interval()
    assert result.ci_lower == pytest.approx(interval.low, abs=0.03)
    assert result.ci_upper == pytest.approx(interval.high, abs=0.03)


def test_studentised_keeps_its_size_where_the_difference_does_not() -> None:
    # No average effect, but treated units (one in five) vary four times as much: the sharp null is false.
    rng = np.random.default_rng(6)
    arm = np.repeat([False, True], [80, 20])
    runs, rejects, raw = 150, 0, 0
    for _ in range(runs):
        y = rng.normal(size=100) * np.where(arm, 4, 1)
        rejects += estimated(randomisation_test(y, arm, seed=1, draws=199)).p_value <= 0.05
        raw += (
            estimated(randomisation_test(y, arm, seed=1, draws=199, statistic="difference")).p_value <= 0.05
        )
    # Four standard errors of 150 runs at 5 % are 7.1 points.
    assert rejects / runs < 0.121
    assert raw / runs > 0.15


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.1, 100),
    st.floats(-100, 100),
    st.sampled_from(["studentised", "difference"]),
)
def test_metamorphic(seed: int, scale: float, shift: float, statistic: Any) -> None:
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat(np.arange(8), 3))
    strata = (cluster >= 4).astype(int)
    arm = cluster % 2 == 0
    y = rng.normal(size=8)[cluster] + rng.normal(size=24)

    def test(y: np.ndarray, arm: np.ndarray, cluster: np.ndarray, strata: np.ndarray) -> RandomisationTest:
        return estimated(
            randomisation_test(y, arm, seed=1, cluster=cluster, strata=strata, statistic=statistic, level=0.8)
        )

    base = test(y, arm, cluster, strata)
    order = rng.permutation(24)
    names = rng.permutation(8) * 10
    for other, factor in (
        (test(y[order], arm[order], names[cluster][order], strata[order]), 1.0),
        (test(y * scale + shift * strata, arm, cluster, 7 - strata), scale),
        (test(y, ~arm, cluster, strata), -1.0),
    ):
        assert other.p_value == base.p_value
        assert other.absolute == pytest.approx(factor * base.absolute, rel=1e-6, abs=1e-8)
        if base.ci_lower is not None and base.ci_upper is not None:
            expected = sorted([factor * base.ci_lower, factor * base.ci_upper])
            assert (other.ci_lower, other.ci_upper) == pytest.approx(
                expected, rel=1e-5, abs=1e-6 * abs(factor)
            )


def test_pairs_of_clusters_have_two_to_the_power_of_pairs_assignments() -> None:
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(12), 4)
    arm = cluster % 2 == 0
    y = rng.normal(size=12)[cluster] + 2.0 * arm
    result = estimated(randomisation_test(y, arm, seed=1, cluster=cluster, strata=cluster // 2))
    assert (result.assignments, result.exact) == (64, True)
    few = estimated(
        randomisation_test(y[:16], arm[:16], seed=1, cluster=cluster[:16], strata=cluster[:16] // 2)
    )
    assert (few.ci_lower, few.ci_upper) == (None, None)
    assert "4 possible assignments are too few" in few.flags[-1]


def test_strata_with_one_arm_are_left_out_and_named() -> None:
    rng = np.random.default_rng(8)
    y, arm = rng.normal(size=10), np.array([0, 1] * 4 + [1, 1])
    strata = np.array([0] * 4 + [1] * 4 + [2, 2])
    result = estimated(randomisation_test(y, arm, seed=1, strata=strata))
    base = estimated(randomisation_test(y[:8], arm[:8], seed=1, strata=strata[:8]))
    assert (result.p_value, result.absolute) == (base.p_value, base.absolute)
    assert result.flags[0] == "1 strata left out: they have one arm only"


@pytest.mark.parametrize(
    ("arm", "strata", "x", "y", "words"),
    [
        ([0, 0, 0, 0], None, None, [1, 2, 3, 4], "treatment arm is empty"),
        ([0, 0, 1, 1], [1, 1, 2, 2], None, [1, 2, 3, 4], "no stratum"),
        ([0, 0, 1, 1], None, [[0.0], [0.0], [1.0], [1.0]], [1, 2, 3, 4], "determine the arm"),
        ([0, 0, 1, 1], None, None, [5, 5, 5, 5], "no spread"),
        ([0, 0, 1, 1], None, None, [5, 5, 6, 6], "no spread"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    arm: list[int], strata: Any, x: Any, y: list[float], words: str
) -> None:
    result = randomisation_test(y, arm, seed=1, strata=strata, covariates=x)
    assert isinstance(result, NotEstimable), result
    assert words in result.reason


def test_mistakes_are_named() -> None:
    y, arm = [1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1]
    with pytest.raises(ValueError, match="statistic"):
        randomisation_test(y, arm, seed=1, statistic="t")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws"):
        randomisation_test(y, arm, seed=1, draws=5)
    with pytest.raises(ValueError, match="one arm each"):
        randomisation_test(y, arm, seed=1, cluster=[1, 2, 2, 3])
    with pytest.raises(ValueError, match="one stratum each"):
        randomisation_test(y, arm, seed=1, cluster=[1, 1, 2, 3], strata=[1, 2, 1, 2])
