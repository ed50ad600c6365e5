"""Third moments of what covariates, ratios and strata leave: sums that add, and tails that err alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exp_pipeline.stats.cubes import Cubes
from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.skew import NOT_LOOKED_AT, ThirdMoments
from exp_pipeline.stats.effects.strata import StratumArms, stratified_difference
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable

NAMES = ("y", "x", "z")


def estimated(answer: Effect | NotEstimable) -> Effect:
    assert isinstance(answer, Effect), answer
    return answer


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 20), st.integers(0, 20), st.integers(3, 20))
def test_sums_of_three_add_in_any_order_and_split(seed: int, a: int, b: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.exponential(size=(a + b + c, 3)) + 5
    parts = [Cubes.from_array(part, NAMES) for part in np.split(rows, (a, a + b))]
    whole = Cubes.from_array(rows, NAMES)
    turned = Cubes.from_array(rows[:, ::-1], NAMES[::-1])
    for found in (reduce(add, parts), reduce(add, parts[::-1]), parts[0] + (parts[1] + parts[2])):
        np.testing.assert_allclose(found.triples, whole.triples, atol=1e-9)
        np.testing.assert_allclose(found.moments.products, whole.moments.products, atol=1e-10)
    mixed = Cubes.from_array(rows[:0], NAMES) + turned
    np.testing.assert_allclose(mixed.triples, whole.triples, atol=1e-9)


def test_the_third_moment_of_a_sum_equals_scipys_of_the_rows() -> None:
    rows = np.random.default_rng(2).gamma(2.0, size=(60, 3))
    weights = {"y": 1.0, "x": -0.4, "z": 2.5}
    found = Cubes.from_array(rows, NAMES).third(weights)
    assert found == pytest.approx(float(stats.kstat(rows @ np.array([1.0, -0.4, 2.5]), 3)), rel=1e-10)


def test_shapes_that_do_not_fit_are_refused() -> None:
    rows = np.ones((4, 1))
    with pytest.raises(ValueError, match="triples must be finite, of shape"):
        Cubes(Moments.from_array(rows, ("y",)), np.zeros((2, 2, 2)))
    arms = Moments.from_array(rows, ("y",)), Moments.from_array(rows, ("y",))
    cubes = Cubes.from_array(rows, ("y",))
    with pytest.raises(ValueError, match="must both be given"):
        StratumArms(*arms, control_cubes=cubes)
    with pytest.raises(ValueError, match="treatment_cubes must be of the same 4 units, got 3"):
        StratumArms(*arms, control_cubes=cubes, treatment_cubes=Cubes.from_array(rows[:3], ("y",)))


@pytest.mark.parametrize("sizes", [(40, 360), (950, 50), (60, 60)])
def test_a_ratio_of_a_constant_and_one_stratum_are_the_mean(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    control, treatment = rng.exponential(size=sizes[0]), 0.1 + rng.exponential(size=sizes[1])
    mean = estimated(
        difference_in_means(
            Moments.from_array(control, ("y",)), Moments.from_array(treatment, ("y",)), outcome="y",
            control_shape=ThirdMoments.from_array(control),
            treatment_shape=ThirdMoments.from_array(treatment),
        )
    )  # fmt: skip
    cubes = [
        Cubes.from_array(np.column_stack([arm, np.ones_like(arm)]), "yd") for arm in (control, treatment)
    ]
    ratio = estimated(
        difference_in_ratios(
            cubes[0].moments, cubes[1].moments, numerator="y", denominator="d",
            control_cubes=cubes[0], treatment_cubes=cubes[1],
        )
    )  # fmt: skip
    assert ratio.method == mean.method.replace("welch", "ratio-delta")
    assert ratio.flags == mean.flags
    strata = {"all": StratumArms(cubes[0].moments, cubes[1].moments, *cubes)}
    layer = estimated(stratified_difference(strata, outcome="y"))
    assert layer.method == mean.method.replace("welch", "strata-precision")
    for name in ("ci_lower", "ci_upper", "p_value", "relative_ci_lower", "relative_ci_upper"):
        assert getattr(ratio, name) == pytest.approx(getattr(mean, name), rel=1e-9)
        # One stratum is Welch's with Bell and McCaffrey's degrees of freedom.
        assert getattr(layer, name) == pytest.approx(getattr(mean, name), rel=0.05, abs=0.005)


@pytest.mark.parametrize("interacted", [False, True])
def test_covariates_that_tell_nothing_leave_the_correction_of_the_mean(interacted: bool) -> None:
    rng = np.random.default_rng(4)
    rows = [np.column_stack([rng.exponential(size=n), rng.normal(size=n)]) for n in (60, 900)]
    for part in rows:
        part[:, 1] -= np.polyval(np.polyfit(part[:, 0], part[:, 1], 1), part[:, 0])
    cubes = [Cubes.from_array(part, ("y", "x")) for part in rows]
    adjusted = estimated(
        adjusted_difference(
            cubes[0].moments, cubes[1].moments, outcome="y", covariates=("x",), interacted=interacted,
            control_cubes=cubes[0], treatment_cubes=cubes[1],
        )
    )  # fmt: skip
    mean = estimated(
        difference_in_means(
            *(one.moments for one in cubes), outcome="y",
            control_shape=ThirdMoments.from_array(rows[0][:, 0]),
            treatment_shape=ThirdMoments.from_array(rows[1][:, 0]),
        )
    )  # fmt: skip
    assert adjusted.method == ("lin-skew" if interacted else "cuped-skew")
    assert (adjusted.ci_lower, adjusted.ci_upper) == pytest.approx((mean.ci_lower, mean.ci_upper), rel=0.03)


def test_arms_far_from_equal_are_flagged_where_nobody_summed_cubes() -> None:
    rng = np.random.default_rng(5)
    for sizes, flagged in (((950, 50), True), ((60, 60), False), ((19_000, 1_000), False)):
        rows = [1 + rng.exponential(size=(n, 2)) for n in sizes]
        arms = [Moments.from_array(part, ("y", "x")) for part in rows]
        for effect in (
            difference_in_means(*arms, outcome="y"),
            adjusted_difference(*arms, outcome="y", covariates=("x",)),
            adjusted_difference(*arms, outcome="y", covariates=("x",), interacted=True),
            difference_in_ratios(*arms, numerator="y", denominator="x"),
            stratified_difference({"all": StratumArms(arms[0], arms[1])}, outcome="y"),
        ):
            assert (NOT_LOOKED_AT in estimated(effect).flags) == flagged
        shapes = [ThirdMoments.from_array(part[:, 0]) for part in rows]
        seen = difference_in_means(*arms, outcome="y", control_shape=shapes[0], treatment_shape=shapes[1])
        assert NOT_LOOKED_AT not in estimated(seen).flags


def _adjusted(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.exponential(size=n)
    return np.column_stack([0.8 * x + rng.exponential(size=n), x])


def _counts(rng: np.random.Generator, n: int) -> np.ndarray:
    base = 1 + rng.poisson(rng.gamma(2.0, 3.0, n))
    return np.column_stack([base * rng.exponential(size=n), base]).astype(np.float64)


def _cuped(cubes: list[Cubes], known: bool) -> Effect | NotEstimable:
    c, t = cubes if known else (None, None)
    return adjusted_difference(
        cubes[0].moments, cubes[1].moments, outcome="y", covariates=("x",), control_cubes=c, treatment_cubes=t
    )


def _ratio(cubes: list[Cubes], known: bool) -> Effect | NotEstimable:
    c, t = cubes if known else (None, None)
    return difference_in_ratios(
        cubes[0].moments, cubes[1].moments, numerator="y", denominator="x", control_cubes=c, treatment_cubes=t
    )


@pytest.mark.parametrize(
    ("draw", "estimate"), [(_adjusted, _cuped), (_counts, _ratio)], ids=["cuped", "ratio"]
)
def test_skewed_values_in_unequal_arms_err_alike_at_both_ends(
    draw: Callable[[np.random.Generator, int], np.ndarray],
    estimate: Callable[[list[Cubes], bool], Effect | NotEstimable],
) -> None:
    rng = np.random.default_rng(6)
    runs, misses = 1_500, np.zeros((2, 2, 2))
    for _ in range(runs):
        cubes = [Cubes.from_array(draw(rng, n), ("y", "x")) for n in (60, 540)]
        for place, known in enumerate((False, True)):
            effect = estimated(estimate(cubes, known))
            misses[place, 0] += effect.ci_lower > 0, effect.ci_upper < 0
            assert effect.relative_ci_lower is not None
            assert effect.relative_ci_upper is not None
            misses[place, 1] += effect.relative_ci_lower > 0, effect.relative_ci_upper < 0
    share = misses / runs
    # Without cubes nearly all errors are on one side; with them both ends are near 2.5 % (error 0.4 points).
    assert share[0, 0, 0] > 0.037
    assert share[0, 0, 1] < 0.015
    assert (share[1] > 0.0125).all()
    assert (share[1] < 0.0375).all()


def test_ratios_with_covariates_take_cubes_too() -> None:
    rng = np.random.default_rng(7)
    rows = [np.column_stack([_counts(rng, n), rng.exponential(size=n)]) for n in (60, 900)]
    cubes = [Cubes.from_array(part, ("y", "x", "before")) for part in rows]
    found = estimated(
        adjusted_ratio(
            cubes[0].moments, cubes[1].moments, numerator="y", denominator="x", covariates=("before",),
            control_cubes=cubes[0], treatment_cubes=cubes[1],
        )
    )  # fmt: skip
    assert found.method == "cuped-ratio-skew"
    assert (found.p_value < 0.05) == (found.ci_lower > 0 or found.ci_upper < 0)
