from __future__ import annotations

import numpy as np
import pytest

from exp_pipeline.stats.labels.label_sampling import WeightedShare, stratified_sample, weighted_share
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

STRATA = golden("agreement")["strata"]


def estimated(result: WeightedShare | NotEstimable) -> WeightedShare:
    assert isinstance(result, WeightedShare), result
    return result


def test_the_weighted_share_equals_survey() -> None:
    sample = stratified_sample(STRATA["stratum"], STRATA["population"])
    found = estimated(weighted_share(STRATA["good"], sample))
    assert found.share == pytest.approx(STRATA["share"], rel=1e-12)
    assert found.se == pytest.approx(STRATA["se"], rel=1e-10)
    assert (found.n, found.population, found.df) == (150, 6020, 147.0)


def test_a_population_without_end_and_one_stratum_is_the_plain_share() -> None:
    labels = np.repeat([1, 0], [30, 70])
    found = estimated(weighted_share(labels, stratified_sample(["s"] * 100, {"s": 10**12})))
    assert found.share == pytest.approx(0.3)
    assert found.se == pytest.approx(labels.std(ddof=1) / 10, rel=1e-9)
    assert found.design_effect == pytest.approx(100 / 99, rel=1e-9)


def test_a_larger_part_of_the_population_leaves_less_doubt() -> None:
    labels = np.repeat([1, 0], [30, 70])
    errors = [
        estimated(weighted_share(labels, stratified_sample(["s"] * 100, {"s": size}))).se
        for size in (10**6, 400, 101)
    ]
    assert errors == sorted(errors, reverse=True)  # type: ignore[type-var]


def test_no_positive_label_still_has_an_interval() -> None:
    found = estimated(weighted_share([0] * 40, stratified_sample(["s"] * 40, {"s": 4000})))
    assert found.se is None
    assert found.ci_lower == 0.0
    assert 0.05 < found.ci_upper < 0.15
    assert found.flags


def test_refusals_and_mistakes() -> None:
    for stratum, population, words in (
        (["a", "a", "b"], {"a": 10, "b": 10}, "stratum b has one labelled unit of 10"),
        (["a", "a"], {"a": 10, "b": 10}, "stratum b has no labelled unit"),
        (["a", "a"], {"a": 2}, "all 2 units were labelled"),
    ):
        result = weighted_share([0] * len(stratum), stratified_sample(stratum, population))
        assert isinstance(result, NotEstimable)
        assert words in result.reason
    with pytest.raises(ValueError, match="'c', which population does not name"):
        stratified_sample(["c"], {"a": 1})
    with pytest.raises(ValueError, match="at least its 2 rows"):
        stratified_sample(["a", "a"], {"a": 1})
    with pytest.raises(ValueError, match="positive"):
        weighted_share([0.5, 1], stratified_sample(["a", "a"], {"a": 9}))


def test_weighted_shares_cover_where_plain_ones_do_not() -> None:
    rng = np.random.default_rng(9)
    population = {"low": 4000, "high": 300}
    bad = {"low": rng.random(4000) < 0.05, "high": rng.random(300) < 0.6}
    truth = (bad["low"].sum() + bad["high"].sum()) / 4300
    runs = covered = plain = 0
    sample = stratified_sample(["low"] * 120 + ["high"] * 80, population)
    for _ in range(600):
        labels = np.concatenate(
            [rng.choice(bad["low"], 120, replace=False), rng.choice(bad["high"], 80, replace=False)]
        )
        found = estimated(weighted_share(labels, sample))
        runs += 1
        covered += found.ci_lower <= truth <= found.ci_upper
        plain += abs(labels.mean() - truth) < 2 * labels.std() / 200**0.5
    # 600 runs know 95 % to 0.9 points.
    assert 0.92 < covered / runs < 0.985
    assert plain == 0
