from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import adjusted_difference
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("clusters")
# Both sides work in double precision; clubSandwich takes roots of n_g x n_g matrices, ours of p x p ones.
DIGITS = 1e-9


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def arguments(name: str) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]:
    case = CASES[name]
    extra: dict[str, Any] = {}
    if "covariates" in case:
        extra["covariates"] = np.array(case["covariates"]).T
    if "strata" in case:
        extra["strata"] = np.array(case["strata"], dtype=int)
    rows = (np.array(case["y"]), np.array(case["arm"]) == 1, np.array(case["cluster"], dtype=int))
    return rows, extra


@pytest.mark.parametrize("name", CASES)
def test_cr2_and_satterthwaite_equal_clubsandwich(name: str) -> None:
    rows, extra = arguments(name)
    effect = estimated(clustered_difference(*rows, **extra))
    assert effect.method == "cr2"
    assert effect.absolute == pytest.approx(CASES[name]["absolute"], rel=DIGITS)
    assert effect.se == pytest.approx(CASES[name]["cr2"]["se"], rel=DIGITS)
    assert effect.df == pytest.approx(CASES[name]["cr2"]["df"], rel=1e-8)
    assert effect.p_value == pytest.approx(CASES[name]["cr2"]["p"], rel=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_cr1_equals_clubsandwich(name: str) -> None:
    rows, extra = arguments(name)
    effect = estimated(clustered_difference(*rows, method="cr1", **extra))
    assert effect.se == pytest.approx(CASES[name]["cr1"]["se"], rel=DIGITS)
    assert effect.p_value == pytest.approx(CASES[name]["cr1"]["p"], rel=1e-7)
    assert effect.df == np.unique(rows[2]).size - 1


def test_cr2_equals_the_definition_with_matrices_of_cluster_size() -> None:
    # Brute force: Bell and McCaffrey's n x n formulas, symmetric roots, working model of independence.
    rows, extra = arguments("strata")
    y, arm, cluster = rows
    n = y.size
    design = np.column_stack([np.ones(n), arm, *(extra["strata"] == s for s in (2, 3))]).astype(float)
    bread = np.linalg.inv(design.T @ design)
    annihilator = np.eye(n) - design @ bread @ design.T
    residuals = annihilator @ y
    contributions, weights = [], []
    for g in np.unique(cluster):
        mine = cluster == g
        values, vectors = np.linalg.eigh(annihilator[np.ix_(mine, mine)])
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        weight = root @ design[mine] @ bread[:, 1]
        contributions.append(weight @ residuals[mine])
        weights.append(annihilator[:, mine] @ weight)
    gram = np.array(weights) @ np.array(weights).T
    effect = estimated(clustered_difference(*rows, **extra, method="cr2"))
    assert effect.se == pytest.approx(np.sqrt(np.sum(np.square(contributions))), rel=1e-10)
    assert effect.df == pytest.approx(np.trace(gram) ** 2 / np.sum(gram**2), rel=1e-9)


def test_clusters_of_one_collapse_to_the_unequal_variance_t() -> None:
    rng = np.random.default_rng(1)
    y, arm = rng.normal(size=70) * np.repeat([1, 2], [30, 40]), np.repeat([False, True], [30, 40])
    effect = estimated(clustered_difference(y, arm, np.arange(70), method="cr2"))
    welch = estimated(
        difference_in_means(
            Moments.from_array(y[~arm], ["y"]), Moments.from_array(y[arm], ["y"]), outcome="y"
        )
    )
    # CR2 without covariates is the sum of the arms' own variances: the same number.
    assert effect.absolute == pytest.approx(welch.absolute, rel=1e-12)
    assert effect.se == pytest.approx(welch.se, rel=1e-10)


def test_equal_clusters_collapse_to_the_t_test_of_cluster_means() -> None:
    rows, _ = arguments("balanced")
    y, arm, cluster = rows
    means = np.array([y[cluster == g].mean() for g in np.unique(cluster)])
    treated = np.array([arm[cluster == g][0] for g in np.unique(cluster)])
    welch = estimated(
        difference_in_means(
            Moments.from_array(means[~treated], ["y"]), Moments.from_array(means[treated], ["y"]), outcome="y"
        )
    )
    effect = estimated(clustered_difference(*rows))
    assert effect.absolute == pytest.approx(welch.absolute, rel=1e-12)
    assert effect.se == pytest.approx(welch.se, rel=1e-10)
    assert effect.df == pytest.approx(10.0, rel=1e-10)  # twelve clusters, two means


def test_a_ratio_with_units_as_clusters_is_the_delta_method() -> None:
    rng = np.random.default_rng(2)
    unit = rng.integers(0, 400, 6000)
    arm = unit % 2 == 1
    shown = rng.integers(1, 9, 6000).astype(float)
    taken = rng.binomial(shown.astype(int), rng.beta(4, 4, 400)[unit]).astype(float)
    totals = np.column_stack([np.bincount(unit, taken), np.bincount(unit, shown)])
    odd = np.arange(400) % 2 == 1
    names = ["taken", "shown"]
    delta = estimated(
        difference_in_ratios(
            Moments.from_array(totals[~odd], names),
            Moments.from_array(totals[odd], names),
            numerator="taken",
            denominator="shown",
        )
    )
    effect = estimated(clustered_difference(taken, arm, unit, denominator=shown, method="cr1"))
    assert effect.absolute == pytest.approx(delta.absolute, rel=1e-10)
    assert (effect.mean_control, effect.mean_treatment) == pytest.approx(
        (delta.mean_control, delta.mean_treatment), rel=1e-12
    )
    # G/(G-1) of all clusters against n/(n-1) of each arm: a part in four hundred.
    assert effect.se == pytest.approx(delta.se, rel=0.005)
    assert effect.relative_ci_upper == pytest.approx(delta.relative_ci_upper, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["cr1", "cr2"]), st.booleans())
def test_names_and_order_of_clusters_say_nothing(seed: int, method: Any, adjust: bool) -> None:
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 14, 90)
    arm = cluster % 2 == 0
    x = rng.normal(size=(90, 1)) * 10 + 500
    y = x[:, 0] + rng.normal(size=14)[cluster] + rng.normal(size=90)
    extra: dict[str, Any] = {"covariates": x} if adjust else {}
    base = estimated(clustered_difference(y, arm, cluster, method=method, **extra))
    order = rng.permutation(90)
    names = rng.permutation(14) * 1000 - 7
    shuffled: dict[str, Any] = {"covariates": x[order]} if adjust else {}
    again = estimated(
        clustered_difference(y[order], arm[order], names[cluster][order], method=method, **shuffled)
    )
    swapped = estimated(clustered_difference(y, ~arm, cluster, method=method, **extra))
    scaled = estimated(
        clustered_difference(y * 7 - 1e4, arm, cluster, method=method, **{k: v * 3 for k, v in extra.items()})
    )
    for other, factor, digits in ((again, 1, 1e-10), (swapped, -1, 1e-10), (scaled, 7, 1e-7)):
        assert other.absolute == pytest.approx(factor * base.absolute, rel=digits, abs=1e-9)
        assert other.se == pytest.approx(abs(factor) * base.se, rel=digits)
        assert other.df == pytest.approx(base.df, rel=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_rows_given_twice_leave_cluster_errors_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 10, 60)
    arm = cluster % 2 == 0
    y = rng.normal(size=60)
    once = estimated(clustered_difference(y, arm, cluster, method="cr2"))
    twice = estimated(clustered_difference(np.tile(y, 2), np.tile(arm, 2), np.tile(cluster, 2), method="cr2"))
    assert twice.absolute == pytest.approx(once.absolute, rel=1e-10, abs=1e-12)
    assert twice.se == pytest.approx(once.se, rel=1e-10)
    assert twice.df == pytest.approx(once.df, rel=1e-9)


def test_method_follows_the_number_of_clusters() -> None:
    rng = np.random.default_rng(3)

    def chosen(treated: int, control: int) -> str:
        cluster = np.repeat(np.arange(treated + control), 3)
        return estimated(
            clustered_difference(rng.normal(size=cluster.size), cluster < treated, cluster)
        ).method

    assert chosen(24, 25) == "cr2"
    assert chosen(25, 25) == "cr1"
    assert chosen(6, 100) == "cr2"


def test_useless_covariates_are_dropped_and_variance_reduction_is_said() -> None:
    rows, extra = arguments("pretest")
    x = extra["covariates"]
    alone = estimated(clustered_difference(*rows, covariates=x))
    padded = np.column_stack([x, np.full(len(x), 1e8), x[:, 0] * 2 - 1])
    both = estimated(clustered_difference(*rows, covariates=padded))
    plain = estimated(clustered_difference(*rows))
    assert both.se == pytest.approx(alone.se, rel=1e-9)
    assert [flag.split()[2] for flag in both.flags if "dropped" in flag] == ["3", "4"]
    assert alone.variance_reduction == pytest.approx(1 - (alone.se / plain.se) ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("arm", "cluster", "strata", "y", "words"),
    [
        ([0, 0, 0, 0], [1, 1, 2, 2], None, [1, 2, 3, 4], "treatment arm is empty"),
        ([0, 0, 0, 1], [1, 1, 2, 3], None, [1, 2, 3, 4], "one cluster"),
        ([0, 0, 1, 1], [1, 2, 3, 4], [1, 1, 2, 2], [1, 2, 3, 4], "determine the arm"),
        ([0, 0, 1, 1], [1, 2, 3, 4], None, [5, 5, 5, 5], "no spread"),
        ([0, 0, 1, 1], [1, 2, 3, 4], None, [5, 5, 6, 6], "no spread"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    arm: list[int], cluster: list[int], strata: list[int] | None, y: list[float], words: str
) -> None:
    result = clustered_difference(y, arm, cluster, strata=strata)
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_pairs_in_strata_of_their_own_leave_a_variance_or_a_reason() -> None:
    result = clustered_difference(
        [1.0, 2.0, 3.0, 5.0, 8.0, 9.0], [0, 1, 0, 1, 0, 1], [1, 2, 3, 4, 5, 6], strata=[1, 1, 2, 2, 3, 3]
    )
    effect = estimated(result)
    # Three differences 1, 2, 1: a paired t.
    assert effect.absolute == pytest.approx(4 / 3)
    assert effect.se == pytest.approx(np.std([1, 2, 1], ddof=1) / np.sqrt(3), rel=1e-10)
    assert effect.df == pytest.approx(2.0, rel=1e-9)
    assert any("degrees of freedom" in flag for flag in effect.flags)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="method"):
        clustered_difference([1.0], [True], [1], method="cr3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="treated"):
        clustered_difference([1.0, 2.0], [True], [1, 2])
    with pytest.raises(ValueError, match="treated"):
        clustered_difference([1.0, 2.0], [0, 2], [1, 2])
    with pytest.raises(ValueError, match="outcome"):
        clustered_difference([1.0, np.nan], [True, False], [1, 2])
    with pytest.raises(ValueError, match="covariates"):
        clustered_difference([1.0, 2.0], [True, False], [1, 2], covariates=[[1.0]])
    with pytest.raises(ValueError, match="cluster"):
        clustered_difference([1.0, 2.0], [True, False], [1])


def test_a_hundred_thousand_rows_take_no_time() -> None:
    rng = np.random.default_rng(5)
    cluster = rng.integers(0, 200, 100_000)
    y = rng.normal(size=200)[cluster] + rng.normal(size=100_000)
    begin = time.process_time()
    estimated(clustered_difference(y, cluster % 2 == 0, cluster, method="cr2"))
    # About 0.03 s here; an n x n matrix would not fit in memory at all.
    assert time.process_time() - begin < 2.0


def test_a_ratio_with_denominators_that_differ_between_arms() -> None:
    rng = np.random.default_rng(6)
    arm = np.arange(600) % 2 == 1
    shown = rng.integers(1, 9, 600) * np.where(arm, 3.0, 1.0)
    taken = shown * rng.beta(4, 4, 600)
    rows = np.column_stack([taken, shown])
    names = ["taken", "shown"]
    delta = estimated(
        difference_in_ratios(
            Moments.from_array(rows[~arm], names),
            Moments.from_array(rows[arm], names),
            numerator="taken",
            denominator="shown",
        )
    )
    effect = estimated(clustered_difference(taken, arm, np.arange(600), denominator=shown, method="cr2"))
    # CR2 with clusters of one is the sum of the arms' own variances, as in the delta method.
    assert effect.se == pytest.approx(delta.se, rel=1e-9)


def test_relative_interval_with_covariates_agrees_with_the_adjusted_difference() -> None:
    rng = np.random.default_rng(7)
    arm = np.arange(4000) % 2 == 1
    x = rng.normal(10, 5, 4000)
    rows = np.column_stack([x + 3 + arm + rng.normal(size=4000), x])
    names = ["y", "x"]
    adjusted = estimated(
        adjusted_difference(
            Moments.from_array(rows[~arm], names),
            Moments.from_array(rows[arm], names),
            outcome="y",
            covariates=["x"],
        )
    )
    effect = estimated(clustered_difference(rows[:, 0], arm, np.arange(4000), covariates=x[:, None]))
    # Robust and model-based errors of one truth, 4,000 units; a large spread of x counts in both.
    assert effect.relative_ci_lower == pytest.approx(adjusted.relative_ci_lower, rel=0.01)
    assert effect.relative_ci_upper == pytest.approx(adjusted.relative_ci_upper, rel=0.01)
