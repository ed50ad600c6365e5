from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import (
    difference_in_means,
    difference_in_proportions,
    newcombe_interval,
)
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import two_sided_critical, upper_tail
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

WELCH = golden("welch")
PROPORTIONS = golden("proportions")
# Both sides work in double precision from the same rows.
DIGITS = 1e-9


def arms(control: object, treatment: object) -> tuple[Moments, Moments]:
    return Moments.from_array(control, ["y"]), Moments.from_array(treatment, ["y"])  # type: ignore[arg-type]


def means(control: object, treatment: object, level: float = 0.95) -> Effect:
    effect = difference_in_means(*arms(control, treatment), outcome="y", level=level)
    assert isinstance(effect, Effect)
    return effect


@pytest.mark.parametrize("name", WELCH)
def test_welch_equals_r(name: str) -> None:
    case = WELCH[name]
    effect = means(case["control"], case["treatment"], case["level"])
    # At a mean of 1e8 the rows hold only about eight digits after the point of a spread of one.
    digits = 1e-6 if name == "large_mean" else DIGITS
    assert effect.absolute == pytest.approx(case["absolute"], rel=digits)
    assert effect.se == pytest.approx(case["se"], rel=digits)
    assert effect.df == pytest.approx(case["df"], rel=digits)
    assert effect.p_value == pytest.approx(case["p"], rel=1e-6)
    assert (effect.ci_lower, effect.ci_upper) == pytest.approx(case["ci"], rel=digits)
    # metafor works the exact correction out by the gamma function too.
    assert effect.standardised == pytest.approx(case["g"], rel=digits)


@pytest.mark.parametrize("name", ["plain", "far", "large_mean", "skewed"])
def test_log_ratio_interval_equals_metafor(name: str) -> None:
    case = WELCH[name]
    effect = means(case["control"], case["treatment"], case["level"])
    assert effect.relative_method == "log-ratio"
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_upper is not None
    middle = (math.log1p(effect.relative_ci_lower) + math.log1p(effect.relative_ci_upper)) / 2
    half = (math.log1p(effect.relative_ci_upper) - math.log1p(effect.relative_ci_lower)) / 2
    reach = two_sided_critical(0.9, effect.df) * math.sqrt(case["log_ratio_variance"])
    digits = 1e-6 if name == "large_mean" else DIGITS
    assert middle == pytest.approx(case["log_ratio"], rel=digits)
    assert half == pytest.approx(reach, rel=digits)


def test_negative_means_keep_the_sign_of_the_effect() -> None:
    case = WELCH["negative"]
    effect = means(case["control"], case["treatment"])
    assert effect.relative is not None
    assert effect.relative > 0
    assert effect.absolute > 0
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_upper is not None
    assert effect.relative_ci_lower < effect.relative < effect.relative_ci_upper
    assert "negative" in effect.flags[0]


@settings(max_examples=40, deadline=None)
@given(st.floats(3.1, 20), st.floats(-2, 20), st.floats(-0.5, 0.5))
def test_fieller_bounds_are_where_the_t_test_turns(control: float, treatment: float, shared: float) -> None:
    # Brute force: at each bound r, treatment - r control must be just critical.
    found = relative_effect(
        control,
        treatment,
        variance_control=1.0,
        variance_treatment=4.0,
        covariance=shared,
        df=30.0,
        level=0.95,
    )
    assert found.relative is not None
    if found.method == "fieller":
        assert found.lower is not None
        assert found.upper is not None
        for bound in (found.lower + 1, found.upper + 1):
            spread = math.sqrt(4.0 - 2 * bound * shared + bound**2)
            # Ten digits: the roots of a quadratic lose some where they are close.
            assert abs(treatment - bound * control) / spread == pytest.approx(
                two_sided_critical(0.95, 30.0), rel=1e-7
            )
        assert found.lower < found.relative < found.upper


def test_relative_effect_is_refused_where_control_may_be_zero() -> None:
    rng = np.random.default_rng(4)
    effect = means(rng.normal(0, 1, 50), rng.normal(1, 1, 50))
    assert effect.relative is None
    assert effect.relative_method is None
    assert "no relative effect" in effect.flags[0]


ROWS = st.lists(st.integers(-1000, 1000), min_size=3, max_size=12).filter(lambda rows: len(set(rows)) > 1)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.floats(0.01, 100), st.floats(-50, 50), st.randoms())
def test_welch_under_change_of_unit_order_and_arm(
    control: list[int], treatment: list[int], scale: float, shift: float, random: object
) -> None:
    base = means(control, treatment)
    changed = means(np.array(control) * scale + shift, np.array(treatment) * scale + shift)
    # Values reach 1e5 after scaling, so absolute errors stay below 1e-9 of that.
    assert changed.absolute == pytest.approx(base.absolute * scale, rel=1e-9, abs=1e-9 * scale * 1000)
    assert changed.se == pytest.approx(base.se * scale, rel=1e-8)
    assert changed.p_value == pytest.approx(base.p_value, rel=1e-6, abs=1e-9)
    swapped = means(treatment, control)
    assert swapped.absolute == -base.absolute
    assert (swapped.ci_lower, swapped.ci_upper) == pytest.approx((-base.ci_upper, -base.ci_lower), rel=1e-12)
    shuffled = list(control)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = means(shuffled, treatment)
    assert again.absolute == pytest.approx(base.absolute, rel=1e-12, abs=1e-10)


def test_rows_given_twice_shrink_the_error_as_they_must() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=60), rng.normal(size=50)
    once, twice = means(a, b), means(np.tile(a, 2), np.tile(b, 2))
    # se^2 = ss / (n (n - 1)) becomes 2 ss / (2n (2n - 1)), by arm.
    expected = math.sqrt(a.var() / (2 * 60 - 1) + b.var() / (2 * 50 - 1))
    assert twice.absolute == pytest.approx(once.absolute, rel=1e-12)
    assert twice.se == pytest.approx(expected, rel=1e-12)


def test_a_t_of_forty_has_a_p_value() -> None:
    assert 0 < upper_tail(40.0, 30.0) < 1e-26
    assert 0 < upper_tail(37.0, math.inf) < 1e-298
    rng = np.random.default_rng(6)
    assert 0 < means(rng.normal(0, 1, 400), rng.normal(3, 1, 400)).p_value < 1e-150


@pytest.mark.parametrize(
    ("control", "treatment", "words"),
    [
        ([], [1.0, 2.0], "control arm is empty"),
        ([1.0, 2.0], [], "treatment arm is empty"),
        ([1.0], [1.0, 2.0], "one unit"),
        ([2.0, 2.0], [3.0, 3.0], "no spread"),
    ],
)
def test_what_cannot_be_estimated_says_why(control: list[float], treatment: list[float], words: str) -> None:
    result = difference_in_means(*arms(control, treatment), outcome="y")
    assert isinstance(result, NotEstimable)
    assert words in result.reason
    assert (result.n_control, result.n_treatment) == (len(control), len(treatment))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5])
def test_a_level_outside_zero_and_one_is_a_mistake(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        difference_in_means(*arms([1, 2], [2, 4]), outcome="y", level=level)


def proportions(*counts: int) -> Effect:
    effect = difference_in_proportions(*counts)
    assert isinstance(effect, Effect)
    return effect


def test_the_published_launch() -> None:
    effect = proportions(760, 2000, 840, 2000)
    # Published to one decimal of a percentage point, the standard error to two.
    assert round(effect.absolute * 100, 1) == 4.0
    assert round(effect.se * 100, 2) == 1.55
    assert round(effect.ci_lower * 100, 1) == 1.0
    assert round(effect.ci_upper * 100, 1) == 7.0


@pytest.mark.parametrize("case", PROPORTIONS, ids=lambda case: "-".join(map(str, case["counts"])))
def test_newcombe_equals_r(case: dict) -> None:  # type: ignore[type-arg]
    effect = proportions(*case["counts"])
    assert (effect.ci_lower, effect.ci_upper) == pytest.approx(case["ci"], abs=1e-10)
    # The interval and the p-value never disagree about zero.
    assert (effect.p_value < 0.05) == (effect.ci_lower > 0 or effect.ci_upper < 0)
    if effect.relative_method == "log-ratio":
        assert effect.relative_ci_upper is not None
        reach = two_sided_critical(0.95, math.inf) * math.sqrt(case["log_ratio_variance"])
        assert math.log1p(effect.relative_ci_upper) == pytest.approx(case["log_ratio"] + reach, rel=DIGITS)


def test_newcombe_equals_statsmodels() -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    for a, n, b, m in [(3, 40, 9, 35), (0, 50, 4, 60), (760, 2000, 840, 2000)]:
        theirs = confint_proportions_2indep(b, m, a, n, method="newcomb")
        # Same formula in double precision by another hand.
        ours = newcombe_interval(a, n, b, m, two_sided_critical(0.95, math.inf))
        assert ours == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.data())
def test_proportions_under_swap_of_arms_and_of_outcomes(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    result = difference_in_proportions(a, n, b, m)
    if isinstance(result, NotEstimable):
        assert {a / n, b / m} <= {0.0, 1.0}
        return
    assert -1 <= result.ci_lower < result.ci_upper <= 1
    assert result.ci_lower <= result.absolute <= result.ci_upper
    for mirrored in (proportions(b, m, a, n), proportions(n - a, n, m - b, m)):
        assert mirrored.absolute == pytest.approx(-result.absolute, abs=1e-12)
        assert mirrored.ci_lower == pytest.approx(-result.ci_upper, abs=1e-12)
        assert mirrored.p_value == pytest.approx(result.p_value, rel=1e-6)


def test_proportions_agree_with_means_of_zeros_and_ones() -> None:
    rows_c, rows_t = np.repeat([0.0, 1.0], [1240, 760]), np.repeat([0.0, 1.0], [1160, 840])
    by_counts, by_rows = proportions(760, 2000, 840, 2000), means(rows_c, rows_t)
    assert by_counts.standardised == pytest.approx(by_rows.standardised, rel=1e-10)
    # Welch divides by n - 1 and uses a t: a part in two thousand.
    assert by_counts.se == pytest.approx(by_rows.se, rel=5e-4)
    assert by_counts.p_value == pytest.approx(by_rows.p_value, rel=0.01)


@pytest.mark.parametrize(
    "counts", [(0, 50, 0, 60), (50, 50, 60, 60), (0, 50, 60, 60), (0, 0, 3, 9), (1, 1, 3, 9)]
)
def test_proportions_without_spread_are_not_estimated(counts: tuple[int, int, int, int]) -> None:
    assert isinstance(difference_in_proportions(*counts), NotEstimable)


@pytest.mark.parametrize("counts", [(5, 4, 1, 9), (-1, 4, 1, 9), (1, 4, 10, 9)])
def test_impossible_counts_are_a_mistake(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="successes must lie"):
        difference_in_proportions(*counts)
