from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.stats.labels.preference import Preference, preference, sign_test
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASE = golden("preference")
# sandwich and ours both work in double precision on 240 rows.
DIGITS = 1e-9


def estimated(result: Preference | NotEstimable) -> Preference:
    assert isinstance(result, Preference), result
    return result


def test_shares_and_errors_by_rater_and_by_both_equal_the_sandwich_of_r() -> None:
    by_rater = estimated(preference(CASE["outcome"], clusters=[CASE["rater"]]))
    assert by_rater.share == pytest.approx(CASE["share"], rel=DIGITS)
    assert by_rater.se == pytest.approx(CASE["se_rater"], rel=DIGITS)
    by_both = estimated(preference(CASE["outcome"], clusters=[CASE["rater"], CASE["prompt"]]))
    assert by_both.se == pytest.approx(CASE["se_both"], rel=DIGITS)
    assert (by_both.df, by_both.clusters) == (23.0, (24, 40))
    assert by_both.flags == ()


def test_with_places_the_share_and_the_effect_of_place_equal_the_regression() -> None:
    for ways, key in (((CASE["rater"],), "rater"), ((CASE["rater"], CASE["prompt"]), "both")):
        found = estimated(preference(CASE["outcome"], clusters=ways, treatment_first=CASE["place"]))
        assert [found.share, found.place_effect] == pytest.approx(CASE["placed"], rel=DIGITS)
        assert found.se == pytest.approx(CASE[f"placed_se_{key}"][0], rel=DIGITS)
        if key == "rater":
            assert found.place_effect_se == pytest.approx(CASE["placed_se_rater"][1], rel=DIGITS)
        else:
            # Here R's two-way variance is below that by rater, by chance; ours is never.
            assert CASE["placed_se_both"][1] < CASE["placed_se_rater"][1]
            assert found.place_effect_se is not None
            assert found.place_effect_se >= CASE["placed_se_rater"][1] * (1 - DIGITS)
            assert found.flags


def test_with_places_the_share_is_the_mean_of_both_places() -> None:
    outcome, place = np.array(CASE["outcome"]), np.array(CASE["place"]) == 1
    found = estimated(preference(outcome, treatment_first=place))
    first, second = outcome[place].mean(), outcome[~place].mean()
    assert found.share == pytest.approx((first + second) / 2, rel=1e-12)
    assert found.place_effect == pytest.approx(first - second, rel=1e-12)


def test_sign_tests_equal_the_binomial_test_of_r() -> None:
    alone = estimated(preference(CASE["outcome"]))
    assert alone.sign_test.of == "comparisons"
    assert alone.sign_test.p_value == pytest.approx(CASE["sign_p"], rel=DIGITS)
    by_rater = estimated(preference(CASE["outcome"], clusters=[CASE["rater"]]))
    assert by_rater.sign_test.of == "clusters"
    assert by_rater.sign_test.p_value == pytest.approx(CASE["sign_p_rater"], rel=DIGITS)


def test_the_p_value_is_that_of_the_interval() -> None:
    first = estimated(preference(CASE["outcome"], clusters=[CASE["rater"]]))
    again = estimated(preference(CASE["outcome"], clusters=[CASE["rater"]], level=1 - first.p_value))
    assert again.ci_lower == pytest.approx(0.5, abs=1e-10)


def test_independent_comparisons_without_ties_have_wilsons_interval() -> None:
    outcome = np.repeat([1.0, 0.0], [31_000, 29_000])
    found = estimated(preference(outcome))
    wilson = stats.binomtest(31_000, 60_000).proportion_ci(method="wilson")
    # n - 1 for n and a t with 59,999 degrees of freedom for the normal.
    assert (found.ci_lower, found.ci_upper) == pytest.approx((wilson.low, wilson.high), abs=1e-6)


def test_one_sided_outcomes_have_an_interval_by_clusters_and_no_error() -> None:
    found = estimated(preference(np.ones(60), clusters=[np.repeat(np.arange(6), 10)]))
    assert found.se is None
    assert found.ci_upper == 1.0
    assert found.ci_lower < 0.5  # six raters of one mind say less than sixty
    assert found.flags


def test_clusters_that_are_all_alike_have_an_interval_as_if_each_were_one() -> None:
    found = estimated(preference([1, 1, 0] * 20, clusters=[np.repeat(np.arange(20), 3)]))
    assert found.se is None
    assert found.share == pytest.approx(2 / 3)
    assert 0.4 < found.ci_lower < 0.5
    assert found.flags


@pytest.mark.parametrize(
    ("outcome", "extra", "words"),
    [
        ([], {}, "no comparison"),
        ([0.5, 0.5], {}, "all 2 comparisons are ties"),
        ([1.0], {}, "one comparison"),
        ([1.0, 0.0], {"clusters": [[3, 3]]}, "one cluster"),
        ([1.0, 0.0], {"treatment_first": [1, 1]}, "always shown in one place"),
    ],
)
def test_what_cannot_be_told_is_refused(
    outcome: list[float], extra: dict[str, list[int]], words: str
) -> None:
    result = preference(outcome, **extra)  # type: ignore[arg-type]
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="outcome"):
        preference([1.0, 0.25])
    with pytest.raises(ValueError, match=r"clusters\[1\] must have shape \(2,\)"):
        preference([1.0, 0.0], clusters=[[0, 1], [0]])
    with pytest.raises(ValueError, match="at most two ways"):
        preference([1.0, 0.0], clusters=[[0, 1]] * 3)
    with pytest.raises(ValueError, match="treatment_first"):
        preference([1.0, 0.0], treatment_first=[0, 2])
    with pytest.raises(ValueError, match="level"):
        preference([1.0, 0.0], level=95)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_swapping_the_sides_mirrors_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcome, rater = rng.choice([0.0, 0.5, 1.0], 60), rng.integers(0, 12, 60)
    prompt, place = rng.integers(0, 9, 60), rng.integers(0, 2, 60)
    mix = rng.permutation(60)
    one = estimated(preference(outcome, clusters=[rater, prompt], treatment_first=place))
    other = estimated(
        preference(1 - outcome[mix], clusters=[-rater[mix], prompt[mix]], treatment_first=1 - place[mix])
    )
    assert other.share == pytest.approx(1 - one.share, abs=1e-12)
    assert other.ci_lower == pytest.approx(1 - one.ci_upper, abs=1e-10)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-7)
    assert other.place_effect == pytest.approx(one.place_effect, abs=1e-12)
    assert (other.wins, other.losses) == (one.losses, one.wins)
    assert other.sign_test.p_value == one.sign_test.p_value


def test_a_sign_test_without_decisions_is_even() -> None:
    assert sign_test([0.0, 0.0]).p_value == 1.0
    assert sign_test([1.0, -1.0, 0.5, 0.5], [0, 0, 1, 1]).ties == 1


def test_coverage_with_raters_and_prompts_of_their_own_mind() -> None:
    rng = np.random.default_rng(8)
    runs, raters, prompts = 500, 40, 30
    # Tastes shift the latent preference; the share of wins over all of them, by quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    scale = math.sqrt(1 + 2 * 0.49)
    truth = float(stats.norm.cdf(0.4 / scale))
    assert truth == pytest.approx(
        weights @ stats.norm.cdf(0.4 + nodes * math.sqrt(0.98)) / weights.sum(), rel=1e-9
    )
    two_way = rows_alone = 0
    for _ in range(runs):
        rater = np.repeat(np.arange(raters), 8)
        prompt = rng.integers(0, prompts, rater.size)
        mind = rng.normal(0, 0.7, raters)[rater] + rng.normal(0, 0.7, prompts)[prompt]
        outcome = (0.4 + mind + rng.normal(size=rater.size) > 0).astype(float)
        ours = estimated(preference(outcome, clusters=[rater, prompt]))
        alone = estimated(preference(outcome))
        two_way += ours.ci_lower <= truth <= ours.ci_upper
        rows_alone += alone.ci_lower <= truth <= alone.ci_upper
    # 500 runs know 95 % to one point.
    assert 0.92 < two_way / runs < 0.98
    assert rows_alone / runs < 0.85
