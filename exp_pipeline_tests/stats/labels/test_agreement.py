from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.labels.agreement import Agreement, by_version, cohen_kappa, fleiss_kappa, gwet_ac1
from exp_pipeline.stats.labels.label_sampling import stratified_sample
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

PAIRS = golden("agreement")["pairs"]
STRATA = golden("agreement")["strata"]
RATERS = golden("raters")
DIGITS = 1e-9


def estimated(result: Agreement | NotEstimable) -> Agreement:
    assert isinstance(result, Agreement), result
    return result


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_cohens_kappa_and_its_error_equal_psych_and_vcd(weights: Any) -> None:
    found = estimated(cohen_kappa(PAIRS["first"], PAIRS["second"], weights=weights))
    assert found.value == pytest.approx(PAIRS[weights]["value"], rel=DIGITS)
    assert found.se == pytest.approx(PAIRS[weights]["se"], rel=DIGITS)
    if weights == "quadratic":
        assert found.value == pytest.approx(PAIRS["psych_quadratic"], rel=DIGITS)


def test_the_example_of_fleiss_cohen_and_everitt() -> None:
    # Their table 1: 200 patients, two diagnosticians, three categories; kappa .429, se .0537 under agreement.
    table = [[106, 10, 4], [22, 28, 10], [2, 12, 6]]
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(table[i][j])]
    found = estimated(cohen_kappa([i for i, _ in pairs], [j for _, j in pairs]))
    assert found.value == pytest.approx(0.429, abs=5e-4)
    assert found.se is not None
    assert found.se**2 == pytest.approx(0.002885, abs=1e-6)


def test_quadratic_kappa_is_the_concordance_of_numbers() -> None:
    # Fleiss and Cohen (1973): Lin's concordance with variances over n.
    a, b = np.array(PAIRS["first"]), np.array(PAIRS["second"])
    concordance = 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    found = estimated(cohen_kappa(PAIRS["first"], PAIRS["second"], weights="quadratic"))
    assert found.value == pytest.approx(concordance, rel=1e-12)


def test_kappa_of_a_stratified_sample_equals_survey() -> None:
    sample = stratified_sample(STRATA["stratum"], STRATA["population"])
    found = estimated(cohen_kappa(STRATA["good"], STRATA["other"], sample=sample))
    assert found.value == pytest.approx(STRATA["kappa"], rel=DIGITS)
    assert found.se == pytest.approx(STRATA["kappa_se"], rel=1e-8)
    assert found.df == 147.0


@pytest.mark.parametrize("name", ["full", "gaps", "published"])
def test_several_raters_equal_irrcac(name: str) -> None:
    case = RATERS[name]
    for estimate, key in ((fleiss_kappa, "fleiss"), (gwet_ac1, "ac1")):
        found = estimated(estimate(case["labels"]))
        assert found.value == pytest.approx(case[key]["value"], rel=1e-12)
        if name != "published":
            # irrCAC rounds to 14 digits.
            assert found.se == pytest.approx(case[key]["se"], rel=1e-10)


def test_with_units_of_one_label_the_error_is_the_jackknife_s() -> None:
    # irrCAC takes such units for full disagreement there, and its error is then too large: .153 here.
    rng = np.random.default_rng(2)
    labels = [[int(x) for x in rng.choice([1, 1, 2, 3], 3)] for _ in range(200)]
    labels = [row[:1] if i % 4 == 0 else [row[0], row[0], row[2]] for i, row in enumerate(labels)]
    for estimate in (fleiss_kappa, gwet_ac1):
        found = estimated(estimate(labels))
        left_out = np.array([estimated(estimate(labels[:i] + labels[i + 1 :])).value for i in range(200)])
        jackknife = math.sqrt(199 / 200 * np.square(left_out - left_out.mean()).sum())
        # They differ by terms of one over n.
        assert found.se == pytest.approx(jackknife, rel=0.01)


def test_fleiss_table_of_1971_style_by_hand() -> None:
    # Four units, three ratings: pairs agreeing 1, 1/3, 1/3, 1; shares 7/12 and 5/12.
    labels = [["a"] * 3, ["a", "a", "b"], ["a", "a", "b"], ["b"] * 3]
    found = estimated(fleiss_kappa(labels))
    assert found.observed == pytest.approx(2 / 3)
    assert found.expected == pytest.approx((7 / 12) ** 2 + (5 / 12) ** 2)


def test_full_agreement_has_an_interval_but_no_error() -> None:
    found = estimated(cohen_kappa(["x", "y"] * 10, ["x", "y"] * 10))
    assert found.value == 1.0
    assert found.se is None
    assert 0.5 < found.ci_lower < found.ci_upper == 1.0
    assert found.flags
    again = estimated(fleiss_kappa([["x"] * 3, ["y"] * 3] * 10))
    assert (again.value, again.se) == (1.0, None)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (cohen_kappa(["x"] * 5, ["x"] * 5), "all labels are 'x'"),
        (cohen_kappa(["x"] * 5, ["x"] * 5, categories=["x", "y"]), "both raters used 'x' only"),
        (cohen_kappa(["x"], ["y"]), "1 units"),
        (fleiss_kappa([["x", "y"], ["x", None]]), "1 units have two or more labels"),
        (gwet_ac1([["x", "x"]] * 4), "all labels are 'x'"),
        (fleiss_kappa([["x", "x"]] * 4, categories=["x", "y"]), "all labels are 'x'"),
    ],
)
def test_what_cannot_be_told_is_refused(result: Agreement | NotEstimable, words: str) -> None:
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_ac1_knows_agreement_on_one_common_label() -> None:
    found = estimated(gwet_ac1([["x", "x"]] * 9 + [["x", "y"]], categories=["x", "y"]))
    kappa = estimated(cohen_kappa(["x"] * 10, ["x"] * 9 + ["y"]))
    assert found.value > 0.85
    assert kappa.value == pytest.approx(0.0, abs=1e-12)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="label 'z' is not among categories"):
        cohen_kappa(["x", "z"], ["x", "y"], categories=["x", "y"])
    with pytest.raises(ValueError, match="one length"):
        cohen_kappa(["x"], [])
    with pytest.raises(ValueError, match="give categories"):
        cohen_kappa([1, "x"], [1, "x"])
    with pytest.raises(ValueError, match="weights"):
        cohen_kappa(["x", "y"], ["x", "y"], weights="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"columns\[0\] must have 2 rows"):
        by_version(["a", "b"], cohen_kappa, ["x"], ["y"])


def test_each_rubric_version_has_its_own_kappa() -> None:
    version = np.array(["v1", "v2"])[np.arange(150) % 2].tolist()
    found = by_version(version, cohen_kappa, PAIRS["first"], PAIRS["second"], weights="linear")
    assert list(found) == ["v1", "v2"]
    alone = cohen_kappa(PAIRS["first"][1::2], PAIRS["second"][1::2], weights="linear")
    assert found["v2"] == alone


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), weights=st.sampled_from(["none", "linear", "quadratic"]))
def test_swapping_raters_order_of_rows_and_names_change_nothing(seed: int, weights: Any) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 40)
    a, b = (np.where(rng.random(40) < 0.7, truth, rng.integers(0, 4, 40)) for _ in range(2))
    mix = rng.permutation(40)
    one = estimated(cohen_kappa(a.tolist(), b.tolist(), categories=range(4), weights=weights))
    other = estimated(
        cohen_kappa((3 - b[mix]).tolist(), (3 - a[mix]).tolist(), categories=range(4), weights=weights)
    )
    assert other.value == pytest.approx(one.value, abs=1e-12)
    assert other.se == pytest.approx(one.se, rel=1e-9)
    # A sample with one stratum that is nearly without end is no design at all, but for n - 1.
    sample = stratified_sample(["all"] * 40, {"all": 10**12})
    designed = estimated(
        cohen_kappa(a.tolist(), b.tolist(), categories=range(4), weights=weights, sample=sample)
    )
    assert designed.se == pytest.approx(one.se * math.sqrt(40 / 39) if one.se else None, rel=1e-9)
    three = [[int(x), int(y), int(x)] for x, y in zip(a, b, strict=True)]
    for estimate in (fleiss_kappa, gwet_ac1):
        straight = estimated(estimate(three, categories=range(4)))
        turned = estimated(estimate([row[::-1] for row in three][::-1], categories=[3, 2, 1, 0]))
        assert turned.value == pytest.approx(straight.value, abs=1e-12)
        assert turned.se == pytest.approx(straight.se, rel=1e-9)


def test_intervals_cover_the_agreement_of_all_units() -> None:
    rng = np.random.default_rng(3)
    # Two raters, right with chance 0.8 each, three labels of unequal share.
    shares, right, runs, n = np.array([0.5, 0.3, 0.2]), 0.8, 800, 100
    by_rater = right * np.eye(3) + (1 - right) / 2 * (1 - np.eye(3))
    joint = sum(shares[t] * np.outer(by_rater[t], by_rater[t]) for t in range(3))
    margin = np.asarray(joint).sum(axis=0)
    agree = float(np.trace(np.asarray(joint)))
    kappa = (agree - margin @ margin) / (1 - margin @ margin)
    by_chance = (1 - margin @ margin) / 2
    truths = {cohen_kappa: kappa, fleiss_kappa: kappa, gwet_ac1: (agree - by_chance) / (1 - by_chance)}
    covered = dict.fromkeys(truths, 0)
    for _ in range(runs):
        cells = rng.choice(9, n, p=np.asarray(joint).ravel())
        first, second = (cells // 3).tolist(), (cells % 3).tolist()
        rows = list(zip(first, second, strict=True))
        for estimate, truth in truths.items():
            result = cohen_kappa(first, second) if estimate is cohen_kappa else estimate(rows)  # type: ignore[operator]
            one = estimated(result)
            covered[estimate] += one.ci_lower <= truth <= one.ci_upper
    # 800 runs know 95 % to 0.8 points.
    assert all(0.925 < count / runs < 0.975 for count in covered.values()), covered
