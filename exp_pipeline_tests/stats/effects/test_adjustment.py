from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio, fill_missing
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

ANCOVA = golden("ancova")
RATIOS = golden("ratios")
# Both sides work in double precision from the same rows.
DIGITS = 1e-9


def split(arm: np.ndarray, names: list[str], *columns: np.ndarray) -> tuple[Moments, Moments]:
    rows = np.column_stack(columns)
    return Moments.from_array(rows[arm == 0], names), Moments.from_array(rows[arm == 1], names)


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


@pytest.mark.parametrize("name", ANCOVA)
def test_adjustment_equals_least_squares_in_r(name: str) -> None:
    case = {key: np.array(value) for key, value in ANCOVA[name].items()}
    control, treatment = split(case["arm"], ["y", "a", "b"], case["y"], case["x1"], case["x2"])
    effect = estimated(adjusted_difference(control, treatment, outcome="y", covariates=["a", "b"]))
    assert effect.absolute == pytest.approx(float(case["absolute"]), rel=DIGITS)
    assert effect.relative is not None
    assert effect.absolute / effect.relative == pytest.approx(float(case["adjusted_control"]), rel=DIGITS)
    if name == "unequal":
        # Ours lets the arms' variances differ; with one true variance they meet within sampling error.
        assert effect.se == pytest.approx(float(case["se"]), rel=0.1)
    else:
        assert effect.se == pytest.approx(float(case["se"]), rel=DIGITS)


def published() -> tuple[Moments, Moments]:
    rng = np.random.default_rng(27)
    n = 20_000
    arm = rng.integers(0, 2, n)
    before = rng.binomial(1, 0.45, n)
    now = rng.binomial(1, np.clip(0.18 + 0.46 * before + 0.04 * arm, 0, 1))
    return split(arm, ["now", "before"], now, before)


def test_the_published_example() -> None:
    control, treatment = published()
    plain = estimated(difference_in_means(control, treatment, outcome="now"))
    adjusted = estimated(adjusted_difference(control, treatment, outcome="now", covariates=["before"]))
    # Published to two decimals of a percentage point.
    assert (round(plain.absolute * 100, 2), round(plain.se * 100, 2)) == (3.15, 0.70)
    assert (round(adjusted.absolute * 100, 2), round(adjusted.se * 100, 2)) == (3.17, 0.61)
    assert adjusted.variance_reduction is not None
    assert round(adjusted.variance_reduction * 100, 1) == 21.9
    assert (adjusted.mean_control, adjusted.mean_treatment) == (plain.mean_control, plain.mean_treatment)


def test_relative_interval_of_an_adjusted_effect_against_the_bootstrap() -> None:
    rng = np.random.default_rng(8)
    n = 600
    arm = np.repeat([0, 1], n // 2)
    x = rng.normal(10, 3, n)
    y = x + rng.normal(0, 2, n) + 0.8 * arm
    effect = estimated(adjusted_difference(*split(arm, ["y", "x"], y, x), outcome="y", covariates=["x"]))
    lifts = []
    for _ in range(400):
        draw = np.concatenate([rng.integers(0, n // 2, n // 2), rng.integers(n // 2, n, n // 2)])
        again = adjusted_difference(
            *split(arm[draw], ["y", "x"], y[draw], x[draw]), outcome="y", covariates=["x"]
        )
        lifts.append(np.log1p(estimated(again).relative or np.nan))
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_upper is not None
    half = (np.log1p(effect.relative_ci_upper) - np.log1p(effect.relative_ci_lower)) / 2
    # 400 draws know a standard deviation to 3.5 %; four of those.
    assert half / 1.96 == pytest.approx(np.std(lifts), rel=0.14)


def test_useless_covariates_are_dropped_and_named() -> None:
    control, treatment = published()
    rng = np.random.default_rng(1)
    more = []
    for moments, constant in ((control, 3.0), (treatment, 4.0)):
        rows = rng.normal(size=(500, 2))
        table = np.column_stack([rows.sum(axis=1), rows[:, 0], rows[:, 0] * 2 + 1, np.full(500, constant)])
        more.append(Moments.from_array(table, ["y", "x", "again", "constant"]))
        assert moments.n > 0
    both = estimated(adjusted_difference(*more, outcome="y", covariates=["x", "again", "constant"]))
    alone = estimated(adjusted_difference(*more, outcome="y", covariates=["x"]))
    assert both.absolute == pytest.approx(alone.absolute, rel=1e-12)
    assert both.se == pytest.approx(alone.se, rel=1e-12)
    assert [flag.split()[1] for flag in both.flags[:2]] == ["constant", "again"]
    only = estimated(adjusted_difference(*more, outcome="y", covariates=["constant"]))
    plain = estimated(difference_in_means(*more, outcome="y"))
    assert (only.absolute, only.se, only.df) == (plain.absolute, plain.se, plain.df)
    assert only.variance_reduction == pytest.approx(0.0, abs=1e-12)


def test_more_covariates_than_units_can_carry() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(6, 4))
    names = ["y", "a", "b", "c"]
    effect = estimated(
        adjusted_difference(
            Moments.from_array(rows[:3], names),
            Moments.from_array(rows[3:], names),
            outcome="y",
            covariates=["a", "b", "c"],
        )
    )
    assert any("too few units" in flag for flag in effect.flags)
    assert effect.se > 0


def test_an_outcome_that_is_its_covariate_is_not_estimated() -> None:
    rows = np.random.default_rng(3).normal(size=40)
    arm = np.repeat([0, 1], 20)
    control, treatment = split(arm, ["y", "x"], rows * 3 + 1, rows)
    assert isinstance(adjusted_difference(control, treatment, outcome="y", covariates=["x"]), NotEstimable)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(-1e4, 1e4))
def test_a_covariate_may_have_any_unit(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat([0, 1], [15, 25]))
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    base = estimated(adjusted_difference(*split(arm, ["y", "x"], y, x), outcome="y", covariates=["x"]))
    moved = estimated(
        adjusted_difference(*split(arm, ["y", "x"], y, x * scale + shift), outcome="y", covariates=["x"])
    )
    swapped = estimated(adjusted_difference(*split(1 - arm, ["y", "x"], y, x), outcome="y", covariates=["x"]))
    # A shift of 1e4 against a spread of 0.1 leaves ten digits.
    assert moved.absolute == pytest.approx(base.absolute, rel=1e-7, abs=1e-9)
    assert moved.se == pytest.approx(base.se, rel=1e-7)
    assert swapped.absolute == pytest.approx(-base.absolute, rel=1e-12, abs=1e-14)
    assert swapped.se == pytest.approx(base.se, rel=1e-12)


@pytest.mark.parametrize("case", RATIOS, ids=["small", "middle", "large"])
def test_ratios_equal_the_survey_package(case: dict) -> None:  # type: ignore[type-arg]
    names = ["numerator", "denominator"]
    moments = {
        arm: Moments.from_array(np.column_stack([rows[name] for name in names]), names)
        for arm, rows in case["arms"].items()
    }
    effect = estimated(
        difference_in_ratios(
            moments["control"], moments["treatment"], numerator="numerator", denominator="denominator"
        )
    )
    theirs = case["estimates"]
    assert effect.mean_control == pytest.approx(theirs["control"]["value"], rel=DIGITS)
    assert effect.mean_treatment == pytest.approx(theirs["treatment"]["value"], rel=DIGITS)
    assert effect.se == pytest.approx(
        np.hypot(theirs["control"]["se"], theirs["treatment"]["se"]), rel=DIGITS
    )


def test_a_ratio_over_one_is_a_mean() -> None:
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.normal(5, 1, 300), np.full(300, 2.0), rng.normal(size=300)])
    rows[:, 0] += rows[:, 2]
    names = ["y", "two", "x"]
    control, treatment = Moments.from_array(rows[:140], names), Moments.from_array(rows[140:], names)
    ratio = estimated(difference_in_ratios(control, treatment, numerator="y", denominator="two"))
    mean = estimated(difference_in_means(control, treatment, outcome="y"))
    assert ratio.absolute == pytest.approx(mean.absolute / 2, rel=1e-12)
    assert (ratio.se, ratio.df) == pytest.approx((mean.se / 2, mean.df), rel=1e-9)
    adjusted = estimated(
        adjusted_ratio(control, treatment, numerator="y", denominator="two", covariates=["x"])
    )
    reference = estimated(adjusted_difference(control, treatment, outcome="y", covariates=["x"]))
    assert adjusted.absolute == pytest.approx(reference.absolute / 2, rel=1e-9)
    assert adjusted.se == pytest.approx(reference.se / 2, rel=1e-9)
    assert adjusted.variance_reduction == pytest.approx(reference.variance_reduction, rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], "zero"),
        ([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], "no spread"),
        ([[1.0, 2.0]], "one unit"),
    ],
)
def test_ratios_that_cannot_be_estimated(rows: list[list[float]], words: str) -> None:
    arm = Moments.from_array(rows, ["a", "b"])
    result = difference_in_ratios(arm, arm, numerator="a", denominator="b")
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_gaps_are_filled_and_marked() -> None:
    filled = fill_missing(
        [[1.0, np.nan, np.nan], [3.0, 4.0, np.nan], [5.0, 8.0, np.nan]], ["a", "b", "never"]
    )
    assert filled.names == ("a", "b", "b_missing")
    np.testing.assert_array_equal(filled.values, [[1, 6, 1], [3, 4, 0], [5, 8, 0]])


def test_mistakes_are_named() -> None:
    control, treatment = published()
    with pytest.raises(ValueError, match="at least one"):
        adjusted_difference(control, treatment, outcome="now", covariates=[])
    with pytest.raises(ValueError, match="outcome"):
        adjusted_difference(control, treatment, outcome="now", covariates=["now"])
    with pytest.raises(ValueError, match="'elsewhere'"):
        adjusted_difference(control, treatment, outcome="now", covariates=["elsewhere"])
    with pytest.raises(ValueError, match="shape"):
        fill_missing([1.0, 2.0], ["a"])
