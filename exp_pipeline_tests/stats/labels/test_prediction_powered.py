from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.stats.labels.prediction_powered import (
    CorrectedShare,
    JudgedSample,
    PredictionPowered,
    corrected_share,
    prediction_powered_difference,
    prediction_powered_mean,
)
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("judge")["powered"]


def estimated(result: PredictionPowered | NotEstimable) -> PredictionPowered:
    assert isinstance(result, PredictionPowered), result
    return result


def effect(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def sample(case: dict[str, Any]) -> JudgedSample:
    return JudgedSample(case["human"], case["judge"], case["judge_only"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "weight"), [("one", 1.0), ("half", 0.5), ("none", 0.0)])
def test_means_and_errors_equal_ppi_python(case: dict[str, Any], name: str, weight: float) -> None:
    found = estimated(prediction_powered_mean(sample(case), weight=weight))
    expected = case["runs"][name]
    assert found.mean == pytest.approx(expected["mean"], rel=1e-12)
    # ppi-python divides by n, ours by n - 1, each part by itself.
    n, m = len(case["human"]), len(case["judge_only"])
    gap = np.array(case["human"]) - weight * np.array(case["judge"])
    parts = gap.var() / n, weight**2 * np.var(case["judge_only"]) / m
    assert math.sqrt(sum(parts)) == pytest.approx(expected["se"], rel=1e-9)
    unbiased = parts[0] * n / (n - 1) + parts[1] * m / (m - 1)
    assert found.se == pytest.approx(math.sqrt(unbiased), rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_tuned_weight_is_that_of_ppi_python(case: dict[str, Any]) -> None:
    found = estimated(prediction_powered_mean(sample(case)))
    runs, n = case["runs"], len(case["human"])
    # The mean is linear in the weight: two known weights give theirs. Their covariance is over n, not n - 1.
    theirs = (runs["tuned"]["mean"] - runs["none"]["mean"]) / (runs["one"]["mean"] - runs["none"]["mean"])
    assert found.weight * (n - 1) / n == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_no_other_weight_has_less_variance_by_much(case: dict[str, Any]) -> None:
    tuned = estimated(prediction_powered_mean(sample(case)))
    grid = [estimated(prediction_powered_mean(sample(case), weight=w)).se for w in np.linspace(0, 1, 101)]
    # The weight is tuned with the judge's variance over both samples; errors use each one's own.
    assert tuned.se <= min(grid) * 1.06
    assert tuned.labels_saved > 0.2
    assert tuned.human_only_se == pytest.approx(grid[0], rel=1e-12)


def test_clusters_of_one_are_no_clusters() -> None:
    case = CASES[1]
    n, m = len(case["human"]), len(case["judge_only"])
    alone = JudgedSample(
        case["human"],
        case["judge"],
        case["judge_only"],
        cluster=range(n),
        cluster_only=range(n, n + m),
    )
    plain, clustered = (
        estimated(prediction_powered_mean(sample(case))),
        estimated(prediction_powered_mean(alone)),
    )
    assert clustered.mean == plain.mean
    # Both corrections are of the labelled part, the other's differs by one over N.
    assert clustered.se == pytest.approx(plain.se, rel=2e-3)
    assert (clustered.clusters, clustered.method) == (n + m, "ppi++-clustered")


def test_the_difference_is_that_of_the_means() -> None:
    control, treatment = sample(CASES[0]), sample(CASES[1])
    found = effect(prediction_powered_difference(control, treatment))
    c, t = estimated(prediction_powered_mean(control)), estimated(prediction_powered_mean(treatment))
    assert found.absolute == pytest.approx(t.mean - c.mean, rel=1e-12)
    assert found.se == pytest.approx(math.hypot(c.se, t.se), rel=1e-12)
    assert found.relative is not None
    swapped = effect(prediction_powered_difference(treatment, control))
    assert swapped.absolute == -found.absolute
    assert swapped.p_value == pytest.approx(found.p_value, rel=1e-12)
    plain = effect(prediction_powered_difference(control, treatment, weight=0.0))
    welch = stats.ttest_ind(CASES[1]["human"], CASES[0]["human"], equal_var=False)
    assert plain.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert plain.df == pytest.approx(welch.df, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-20, 20))
def test_scale_shift_and_row_order(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    human = rng.normal(size=25)
    judge, others = human + rng.normal(size=25), rng.normal(size=60)
    one = estimated(prediction_powered_mean(JudgedSample(human, judge, others)))
    mix = rng.permutation(25)
    two = estimated(
        prediction_powered_mean(
            JudgedSample(
                scale * human[mix] + shift, scale * judge[mix] - 3 * shift, scale * others[::-1] - 3 * shift
            )
        )
    )
    assert two.mean == pytest.approx(scale * one.mean + shift, rel=1e-7, abs=1e-7)
    assert two.se == pytest.approx(scale * one.se, rel=1e-7)
    assert two.weight == pytest.approx(one.weight, rel=1e-7, abs=1e-9)


def test_coverage_with_a_judge_who_favours_and_with_clusters() -> None:
    rng = np.random.default_rng(5)
    runs, covered, judge_alone, clustered, rows_alone, widths = 500, 0, 0, 0, 0, 0.0
    for _ in range(runs):
        truth = rng.binomial(1, 0.6, 540).astype(float)
        judge = np.where(rng.random(540) < 0.85, truth, 1 - truth) * 0.8 + 0.25
        found = estimated(prediction_powered_mean(JudgedSample(truth[:40], judge[:40], judge[40:])))
        covered += found.ci_lower <= 0.6 <= found.ci_upper
        widths += found.labels_saved / runs
        judge_alone += abs(judge.mean() - 0.6) < 1.96 * judge.std() / 540**0.5
        learner = np.repeat(np.arange(60), 10)
        mind = rng.normal(size=60)[learner]
        human = mind + rng.normal(size=600)
        score = human + rng.normal(size=600) + 0.5 * mind
        labelled = np.isin(learner, rng.choice(60, 25, replace=False))
        parts = (human[labelled], score[labelled], score[~labelled])
        by = estimated(
            prediction_powered_mean(
                JudgedSample(*parts, cluster=learner[labelled], cluster_only=learner[~labelled])
            )
        )
        flat = estimated(prediction_powered_mean(JudgedSample(*parts)))
        clustered += by.ci_lower <= 0 <= by.ci_upper
        rows_alone += flat.ci_lower <= 0 <= flat.ci_upper
    # 500 runs know 95 % to one point.
    assert 0.92 < covered / runs < 0.98
    assert 0.92 < clustered / runs < 0.98
    assert rows_alone / runs < 0.75
    assert judge_alone / runs < 0.3
    assert widths > 0.15


def share(result: CorrectedShare | NotEstimable) -> CorrectedShare:
    assert isinstance(result, CorrectedShare), result
    return result


def test_a_perfect_judge_is_believed_and_the_formula_is_an_inverse() -> None:
    # 1,000 units, 300 truly positive, sensitivity .9, specificity .8: the judge says 270 + 140.
    found = share(
        corrected_share(
            410, 1000, true_positive=90, human_positive=100, true_negative=160, human_negative=200
        )
    )
    assert found.share == pytest.approx(0.3, rel=1e-12)

    # Delta method with numerical slopes.
    def corrected(values: np.ndarray) -> float:
        return float((values[0] + values[2] - 1) / (values[1] + values[2] - 1))

    at = np.array([0.41, 0.9, 0.8])
    slopes = [(corrected(at + step) - corrected(at - step)) / 2e-6 for step in 1e-6 * np.eye(3)]
    variances = at * (1 - at) / [1000, 100, 200]
    assert found.se == pytest.approx(math.sqrt(np.square(slopes) @ variances), rel=1e-7)
    mirrored = share(
        corrected_share(
            590, 1000, true_positive=160, human_positive=200, true_negative=90, human_negative=100
        )
    )
    assert mirrored.share == pytest.approx(0.7, rel=1e-12)
    assert mirrored.ci_lower == pytest.approx(1 - found.ci_upper, rel=1e-9)


def test_the_corrected_share_covers_where_the_judges_own_does_not() -> None:
    rng = np.random.default_rng(6)
    runs = covered = above = apparent = 0
    for truth in (0.05, 0.4):
        for _ in range(700):
            positive = int(rng.binomial(800, truth * 0.85 + (1 - truth) * 0.1))
            found = share(
                corrected_share(
                    positive,
                    800,
                    true_positive=int(rng.binomial(60, 0.85)),
                    human_positive=60,
                    true_negative=int(rng.binomial(120, 0.9)),
                    human_negative=120,
                )
            )
            runs += 1
            covered += found.ci_lower <= truth <= found.ci_upper
            above += found.ci_upper < truth
            apparent += abs(positive / 800 - truth) < 0.03
    # 1,400 runs know 95 % to 0.6 points.
    assert 0.93 < covered / runs < 0.98, covered / runs
    assert above / runs < 0.05
    assert apparent / runs < 0.6


def test_what_cannot_be_told_is_refused() -> None:
    for result, words in (
        (prediction_powered_mean(JudgedSample([1, 2], [1, 2], [1, 2])), "2 labelled"),
        (prediction_powered_mean(JudgedSample([1, 1, 1], [1, 2, 3], [1, 2])), "all 3 human labels are 1"),
        (
            prediction_powered_mean(JudgedSample([1, 2, 3], [2, 3, 4], [5, 5]), weight=1.0),
            "differ by the same amount",
        ),
        (
            prediction_powered_mean(JudgedSample([1, 2, 3], [1, 2, 2], [1, 2], [1, 1, 2], [3, 4])),
            "2 clusters",
        ),
        (
            prediction_powered_difference(
                JudgedSample([1, 2, 3], [1, 2, 2], [1, 2]), JudgedSample([1, 1, 1], [1, 2, 2], [1, 2])
            ),
            "treatment: all 3",
        ),
        (
            corrected_share(5, 10, true_positive=5, human_positive=10, true_negative=5, human_negative=10),
            "cannot be told from chance",
        ),
        (
            corrected_share(0, 0, true_positive=5, human_positive=10, true_negative=5, human_negative=10),
            "must not be empty",
        ),
    ):
        assert isinstance(result, NotEstimable)
        assert words in result.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="one length"):
        prediction_powered_mean(JudgedSample([1, 2, 3], [1, 2], [1, 2]))
    with pytest.raises(ValueError, match="weight"):
        prediction_powered_mean(JudgedSample([1, 2, 3], [1, 2, 3], [1, 2]), weight=1.5)
    with pytest.raises(ValueError, match="both or not at all"):
        prediction_powered_mean(JudgedSample([1, 2, 3], [1, 2, 3], [1, 2], cluster=[1, 2, 3]))
    with pytest.raises(ValueError, match="true_positive must lie between 0 and 10, got 11"):
        corrected_share(1, 10, true_positive=11, human_positive=10, true_negative=5, human_negative=10)
