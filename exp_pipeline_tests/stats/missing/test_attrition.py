from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.means import difference_in_proportions
from exp_pipeline.stats.groups.heterogeneity import Interaction
from exp_pipeline.stats.missing.attrition import (
    SelectionTest,
    attrition,
    attrition_by_segment,
    baseline_of_missing,
)
from exp_pipeline.stats.missing.response_weights import (
    WeightedEffect,
    logistic,
    response_weighted_difference,
)
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

R = golden("attrition")["ipw"]


def weighted(*args: Any, **named: Any) -> WeightedEffect:
    result = response_weighted_difference(*args, **named)
    assert isinstance(result, WeightedEffect), result
    return result


def parts(name: str) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    case = R[name]
    seen, arm = np.array(case["observed"]) == 1, np.array(case["arm"]) == 1
    return (np.array(case["y"]), seen, arm, np.array(case["x"]).T), np.array(case["cluster"])


@pytest.mark.parametrize("name", R)
def test_weighting_equals_r(name: str) -> None:
    case = R[name]
    rows, cluster = parts(name)
    ours = weighted(*rows, cluster=cluster)
    assert ours.effect.absolute == pytest.approx(
        case["treatment"]["mean"] - case["control"]["mean"], rel=1e-9
    )
    assert ours.effect.absolute == pytest.approx(
        case["treatment"]["survey_mean"] - case["control"]["survey_mean"], rel=1e-9
    )
    # R's stacked variance has no factor for few clusters: ours is G / (G - 1) by arm.
    g = [np.unique(cluster[rows[2] == a]).size for a in (False, True)]
    expected = (
        case["control"]["se"] ** 2 * g[0] / (g[0] - 1) + case["treatment"]["se"] ** 2 * g[1] / (g[1] - 1)
    ) ** 0.5
    assert ours.effect.se == pytest.approx(expected, rel=1e-7)
    # Weights taken as known give another error (mostly a larger one): the stacked one is not that.
    known = (case["control"]["survey_se"] ** 2 + case["treatment"]["survey_se"] ** 2) ** 0.5
    assert abs(ours.effect.se / known - 1.0) > 0.001


@pytest.mark.parametrize("name", R)
def test_selection_equals_clubsandwich(name: str) -> None:
    case = R[name]
    (_, seen, arm, x), cluster = parts(name)
    ours = baseline_of_missing(x, ["a", "b"], seen, arm, cluster=cluster)
    for found, theirs in ((ours.related, case["related"]), (ours.differential, case["differential"])):
        assert isinstance(found, SelectionTest)
        assert found.f == pytest.approx(theirs["f"], rel=1e-8)
        assert found.df_denominator == theirs["df"]
        assert found.p_value == pytest.approx(theirs["p"], rel=1e-7)


def test_weighted_error_by_leaving_units_out() -> None:
    (y, seen, arm, x), _ = parts("units")
    ours = weighted(y, seen, arm, x)
    left = []
    for i in range(y.size):
        kept = np.arange(y.size) != i
        left.append(weighted(y[kept], seen[kept], arm[kept], x[kept]).effect.absolute)
    jackknife = ((y.size - 1) / y.size * np.sum((np.array(left) - np.mean(left)) ** 2)) ** 0.5
    assert ours.effect.se == pytest.approx(jackknife, rel=0.1)


def test_clusters_with_both_arms_share_what_they_have() -> None:
    rng = np.random.default_rng(609)
    cluster = np.repeat(np.arange(50), 12)
    arm, x = rng.integers(0, 2, 600) == 1, rng.normal(size=600)
    y = x + 2.0 * rng.normal(size=50)[cluster] + rng.normal(size=600)
    seen = rng.random(600) < 1 / (1 + np.exp(-(1.0 + 0.5 * x)))
    ours = weighted(y, seen, arm, x[:, None], cluster=cluster)
    left = []
    for g in range(50):
        kept = cluster != g
        left.append(weighted(y[kept], seen[kept], arm[kept], x[kept, None]).effect.absolute)
    jackknife = (49 / 50 * np.sum((np.array(left) - np.mean(left)) ** 2)) ** 0.5
    assert ours.effect.se == pytest.approx(jackknife, rel=0.05)
    # Levels of classes cancel between the arms: far below what independent arms would have.
    apart = weighted(y, seen, arm, x[:, None], cluster=2 * cluster + arm)
    assert ours.effect.se < 0.6 * apart.effect.se


def test_weighting_is_stratification_for_one_yes_or_no_covariate() -> None:
    rng = np.random.default_rng(602)
    n = 400
    x, arm = rng.integers(0, 2, n), rng.integers(0, 2, n) == 1
    seen = rng.random(n) < 0.3 + 0.5 * x
    y = rng.normal(size=n) + 3 * x
    ours = weighted(y, seen, arm, x[:, None].astype(float))
    means = []
    for a in (False, True):
        side = arm == a
        means.append(sum(np.mean(x[side] == v) * y[side & seen & (x == v)].mean() for v in (0, 1)))
    assert ours.effect.absolute == pytest.approx(means[1] - means[0], rel=1e-10)
    nothing = weighted(y, np.ones(n, bool), arm, x[:, None].astype(float))
    assert nothing.effect.absolute == pytest.approx(y[arm].mean() - y[~arm].mean(), rel=1e-12)
    assert nothing.effective_n_control == pytest.approx((~arm).sum())


def test_weighting_recovers_what_selection_hides_and_covers() -> None:
    rng = np.random.default_rng(603)
    covered = naive = 0
    trials = 300
    for _ in range(trials):
        n = 300
        arm, x = rng.integers(0, 2, n) == 1, rng.normal(size=n)
        y = 1.0 * arm + 1.5 * x + rng.normal(size=n)
        seen = rng.random(n) < 1 / (1 + np.exp(-(0.7 + 0.9 * x * np.where(arm, 1, -1))))
        ours = weighted(y, seen, arm, x[:, None]).effect
        covered += ours.ci_lower <= 1.0 <= ours.ci_upper
        plain = y[arm & seen].mean() - y[~arm & seen].mean()
        naive += abs(plain - 1.0) < 1.96 * ours.se
    # Monte Carlo error 1.3 points.
    assert 0.915 < covered / trials < 0.98
    assert naive / trials < 0.5


def test_separation_and_small_arms_say_why() -> None:
    rng = np.random.default_rng(604)
    x, arm = rng.normal(size=60), np.arange(60) % 2 == 1
    answer = response_weighted_difference(rng.normal(size=60), x > 0, arm, x[:, None])
    assert isinstance(answer, NotEstimable)
    assert "exactly who is missing" in answer.reason
    few = response_weighted_difference(rng.normal(size=60), ~arm, arm, x[:, None])
    assert isinstance(few, NotEstimable)
    assert logistic(np.column_stack([np.ones(60), x]), x > 0) is None
    seen = rng.random(60) < 1 / (1 + np.exp(x))
    loud = weighted(rng.normal(size=60), seen, arm, np.column_stack([x, x]))
    assert any("covariate number 2 dropped" in flag for flag in loud.flags)


def test_shares_by_unit_and_by_cluster() -> None:
    rng = np.random.default_rng(605)
    cluster = np.repeat(np.arange(20), 15)
    arm = cluster % 2 == 1
    seen = rng.random(300) > 0.1 + 0.15 * arm + 0.1 * rng.random(20)[cluster]
    units = attrition(seen, arm)
    expected = difference_in_proportions(int((~seen & ~arm).sum()), 150, int((~seen & arm).sum()), 150)
    assert units.effect == expected
    assert units.missing_control + units.missing_treatment == int((~seen).sum())
    assert units.share == pytest.approx(np.mean(~seen))
    clusters = attrition(seen, arm, cluster=cluster)
    assert clusters.effect == clustered_difference((~seen).astype(float), arm, cluster)
    nobody = attrition(np.ones(20, bool), np.arange(20) % 2 == 1, cluster=np.arange(20))
    assert isinstance(nobody.effect, NotEstimable)


def test_attrition_that_differs_between_arms_in_one_segment_only_is_found() -> None:
    rng = np.random.default_rng(606)
    n = 4000
    segment, arm = rng.integers(0, 3, n), rng.integers(0, 2, n) == 1
    seen = rng.random(n) > np.where((segment == 2) & arm, 0.35, 0.15)
    found = attrition_by_segment(seen, arm, segment)
    assert isinstance(found.interaction, Interaction)
    assert found.interaction.p_value < 1e-4
    assert [name for name, _ in found.segments] == ["0", "1", "2"]
    effects = [part.effect for _, part in found.segments]
    assert isinstance(effects[2], Effect)
    assert effects[2].ci_lower > 0.1
    clusters = attrition_by_segment(seen, arm, segment, cluster=np.arange(n) // 2 + n * arm)
    assert isinstance(clusters.interaction, Interaction)
    assert clusters.interaction.method == "wald-htz"
    # Pairs that share nothing count as units do.
    assert clusters.interaction.p_value < 1e-4


def test_baseline_gaps_of_the_missing() -> None:
    rng = np.random.default_rng(607)
    n = 1200
    arm = rng.integers(0, 2, n) == 1
    before = rng.normal(50, 10, n)
    # In treatment the weak drop out, in control it is chance.
    seen = rng.random(n) < np.where(arm, 1 / (1 + np.exp(-(before - 40) / 8)), 0.8)
    found = baseline_of_missing(np.column_stack([before, np.full(n, 3.0)]), ["before", "fixed"], seen, arm)
    control, treatment = found.gaps[0], found.gaps[1]
    assert (control.arm, treatment.arm) == ("control", "treatment")
    assert treatment.standardised is not None
    assert treatment.standardised > 0.7
    assert control.standardised is not None
    assert abs(control.standardised) < 0.25
    assert isinstance(found.differential, SelectionTest)
    assert found.differential.p_value < 1e-6
    assert found.gaps[2].standardised is None
    assert found.gaps[2].reason is not None
    assert found.flags == ("covariate number 2 dropped: it does not vary or repeats the others",)
    whole = baseline_of_missing(before[:, None], ["before"], np.ones(n, bool), arm)
    assert isinstance(whole.related, NotEstimable)
    assert whole.gaps[0].reason == "nobody is missing in this arm"
    with pytest.raises(ValueError, match="covariates must have shape"):
        baseline_of_missing(before[:, None], ["a", "b"], seen, arm)


def test_selection_tests_keep_their_size() -> None:
    rng = np.random.default_rng(608)
    hits = 0
    trials = 200
    for _ in range(trials):
        cluster = np.repeat(np.arange(30), 10)
        x = rng.normal(size=(300, 2)) + rng.normal(size=(30, 2))[cluster]
        seen = rng.random(300) > 0.15 + 0.2 * rng.random(30)[cluster]
        found = baseline_of_missing(x, ["a", "b"], seen, cluster % 2 == 1, cluster=cluster).differential
        assert isinstance(found, SelectionTest)
        hits += found.p_value < 0.05
    # Monte Carlo error 1.6 points.
    assert hits / trials < 0.09
