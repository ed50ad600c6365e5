from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from exp_pipeline.stats.labels.judge import (
    Association,
    Calibration,
    LogitParameter,
    association,
    calibration,
)
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASE = golden("judge")["calibration"]
RANKS = golden("judge")["ranks"]
KINDS = ["pearson", "spearman", "kendall"]


def estimated(result: Association | NotEstimable) -> Association:
    assert isinstance(result, Association), result
    return result


def calibrated(result: Calibration | NotEstimable) -> Calibration:
    assert isinstance(result, Calibration), result
    return result


def known(parameter: LogitParameter | NotEstimable) -> LogitParameter:
    assert isinstance(parameter, LogitParameter), parameter
    return parameter


@pytest.mark.parametrize("kind", KINDS)
def test_associations_equal_scipy(kind: Any) -> None:
    found = estimated(association(RANKS["judge"], RANKS["human"], kind=kind))
    assert found.value == pytest.approx(RANKS[kind], rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_associations_are_the_jackknife_s(kind: Any) -> None:
    rng = np.random.default_rng(1)
    human = rng.integers(1, 8, 400)
    judge = np.clip(human + rng.integers(-2, 3, 400), 1, 7)
    found = estimated(association(judge, human, kind=kind))
    left_out = np.array(
        [
            estimated(association(np.delete(judge, i), np.delete(human, i), kind=kind)).value
            for i in range(0, 400, 1 if kind != "kendall" else 2)
        ]
    )
    per_row = np.square(left_out - left_out.mean()).sum() * 400 / left_out.size
    # They differ by terms of one over n; Kendall's leaves out every second row only.
    assert found.se == pytest.approx(math.sqrt(399 / 400 * per_row), rel=0.05 if kind == "kendall" else 0.015)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), scale=st.floats(0.1, 50), shift=st.floats(-9, 9)
)
def test_scale_shift_sides_and_sign(seed: int, kind: Any, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    human = rng.normal(size=30).round(1)
    judge = (human + rng.normal(size=30)).round(1)
    cluster = rng.integers(0, 9, 30)
    one = estimated(association(judge, human, kind=kind, cluster=cluster))
    mix = rng.permutation(30)
    two = estimated(association(human[mix], -scale * judge[mix] + shift, kind=kind, cluster=cluster[mix] * 3))
    assert two.value == pytest.approx(-one.value, abs=1e-9)
    assert two.se == pytest.approx(one.se, rel=1e-6)
    assert two.ci_lower == pytest.approx(-one.ci_upper, abs=1e-7)
    if kind != "pearson":
        other = estimated(association(np.exp(judge), human**3, kind=kind, cluster=cluster))
        assert other.value == pytest.approx(one.value, abs=1e-9)
        assert other.se == pytest.approx(one.se, rel=1e-6)


def test_intervals_of_associations_cover() -> None:
    rng = np.random.default_rng(2)
    rho, runs, n = 0.6, 600, 60
    truths = {
        "pearson": rho,
        "spearman": 6 / math.pi * math.asin(rho / 2),
        "kendall": 2 / math.pi * math.asin(rho),
    }
    covered = dict.fromkeys(truths, 0)
    for _ in range(runs):
        human = rng.normal(size=n)
        judge = rho * human + math.sqrt(1 - rho**2) * rng.normal(size=n)
        for kind, truth in truths.items():
            one = estimated(association(judge, human, kind=kind))  # type: ignore[arg-type]
            covered[kind] += one.ci_lower <= truth <= one.ci_upper
    # 600 runs know 95 % to 0.9 points.
    assert all(0.925 < count / runs < 0.98 for count in covered.values()), covered


def test_slope_and_intercept_equal_statsmodels() -> None:
    found = calibrated(calibration(CASE["probability"], CASE["label"]))
    slope, intercept = known(found.slope), known(found.intercept)
    assert [intercept.value, slope.value] == pytest.approx(CASE["coefficients"], rel=1e-9)
    rows = math.sqrt(300 / 299)  # ours has n / (n - 1)
    assert [intercept.se, slope.se] == pytest.approx([e * rows for e in CASE["bare_errors"]], rel=1e-8)
    assert known(found.offset).value == pytest.approx(CASE["offset"], rel=1e-9)
    by_rater = calibrated(calibration(CASE["probability"], CASE["label"], cluster=CASE["rater"]))
    groups = math.sqrt(30 / 29)
    expected = [e * groups for e in CASE["bare_errors_by_rater"]]
    assert [known(by_rater.intercept).se, known(by_rater.slope).se] == pytest.approx(expected, rel=1e-8)
    assert (by_rater.clusters, by_rater.df, by_rater.p_value) == (30, 29.0, None)


def test_brier_and_bins_equal_scikit_learn() -> None:
    found = calibrated(calibration(CASE["probability"], CASE["label"]))
    assert found.brier == pytest.approx(CASE["brier"], rel=1e-12)
    assert [b.share for b in found.bins] == pytest.approx(CASE["bin_share"], rel=1e-12)
    assert [b.mean_probability for b in found.bins] == pytest.approx(CASE["bin_mean"], rel=1e-12)
    assert sum(b.n for b in found.bins) == 300
    gaps = [b.n / 300 * abs(b.share - b.mean_probability) for b in found.bins]
    assert found.ece == pytest.approx(sum(gaps), rel=1e-12)


def test_a_calibrated_judge_has_the_ece_that_is_told_and_the_size_that_is_meant() -> None:
    rng = np.random.default_rng(3)
    p = special.expit(rng.normal(0, 1.5, 400))
    found = [calibrated(calibration(p, rng.random(400) < p)) for _ in range(400)]
    # 400 runs know the mean to 2 %; the normal approximation within bins costs about as much.
    assert np.mean([f.ece for f in found]) == pytest.approx(found[0].ece_if_calibrated, rel=0.05)
    assert 0.03 < np.mean([f.p_value is not None and f.p_value < 0.05 for f in found]) < 0.075
    slopes = [known(f.slope) for f in found]
    assert 0.92 < np.mean([s.ci_lower <= 1 <= s.ci_upper for s in slopes]) < 0.975
    truth = float((p * (1 - p)).mean())
    assert 0.92 < np.mean([f.brier_ci_lower <= truth <= f.brier_ci_upper for f in found]) < 0.985


def test_an_overconfident_judge_has_a_slope_below_one() -> None:
    rng = np.random.default_rng(4)
    logit = rng.normal(0, 1, 2000)
    found = calibrated(calibration(special.expit(2 * logit), rng.random(2000) < special.expit(logit)))
    assert known(found.slope).ci_lower < 0.5 < known(found.slope).ci_upper < 1.0
    assert found.ece > 2 * found.ece_if_calibrated
    assert found.p_value is not None
    assert found.p_value < 1e-6


def test_what_cannot_be_told_is_refused() -> None:
    separated = calibrated(calibration([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1]))
    assert isinstance(separated.slope, NotEstimable)
    assert "separate" in separated.slope.reason
    assert isinstance(separated.offset, LogitParameter)
    sure = calibrated(calibration([0.0, 0.2, 0.7, 1.0], [0, 1, 0, 1]))
    assert isinstance(sure.slope, NotEstimable)
    assert "2 probabilities are exactly 0 or 1" in sure.slope.reason
    for result, words in (
        (association([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), "all judge scores are 1"),
        (association([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), "same order throughout"),
        (association([1, 2], [1, 2]), "2 units"),
        (association([1, 2, 3, 5, 4], [1, 2, 3, 4, 5], cluster=[1] * 5), "one cluster"),
        (calibration([0.5], [1]), "1 units"),
        (calibration([0.5, 0.5], [1, 0]), "no spread"),
        (calibration([0.3, 0.6] * 4, [1, 0] * 4, cluster=[1, 1, 2, 2, 3, 3, 4, 4]), "in all clusters"),
    ):
        assert isinstance(result, NotEstimable)
        assert words in result.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"probability must lie between 0 and 1, got 1\.5"):
        calibration([0.5, 1.5], [1, 0])
    with pytest.raises(ValueError, match="label"):
        calibration([0.5, 0.5], [1, 0.5])
    with pytest.raises(ValueError, match="bins"):
        calibration([0.5, 0.4], [1, 0], bins=1)
    with pytest.raises(ValueError, match="one length"):
        association([1, 2], [1])
    with pytest.raises(ValueError, match="kind"):
        association([1, 2], [1, 2], kind="gamma")  # type: ignore[arg-type]
