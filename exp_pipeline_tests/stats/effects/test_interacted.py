from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden

CASES = golden("lin")
# Both sides work in double precision from the same rows.
DIGITS = 1e-9


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def split(arm: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[Moments, Moments, list[str]]:
    names = [f"x{place}" for place in range(x.shape[1])]
    rows = np.column_stack([y, x])
    both = [Moments.from_array(rows[arm == side], ["y", *names]) for side in (0, 1)]
    return both[0], both[1], names


def lin(arm: np.ndarray, y: np.ndarray, x: np.ndarray) -> Effect:
    control, treatment, names = split(arm, y, x)
    return estimated(adjusted_difference(control, treatment, outcome="y", covariates=names, interacted=True))


@pytest.mark.parametrize("name", CASES)
def test_lin_equals_estimatr(name: str) -> None:
    case = CASES[name]
    arm, y, x = np.array(case["arm"]), np.array(case["y"]), np.array(case["x"]).T
    effect = lin(arm, y, x)
    assert effect.method == "lin"
    assert effect.absolute == pytest.approx(case["absolute"], rel=DIGITS)
    assert effect.relative is not None
    assert effect.absolute / effect.relative == pytest.approx(case["control"], rel=DIGITS)
    # Two separate regressions, and what the mean of all units adds: worked out from rows by least squares.
    slopes = [
        np.linalg.lstsq(np.column_stack([np.ones(s.sum()), x[s]]), y[s], rcond=None)[0][1:]
        for s in (arm == 0, arm == 1)
    ]
    within = np.concatenate([x[s] - x[s].mean(axis=0) for s in (arm == 0, arm == 1)])
    moves = within @ (slopes[1] - slopes[0])
    added = moves @ moves / (y.size - 2) / y.size
    assert effect.se**2 - added == pytest.approx(case["separate"] ** 2, rel=1e-8)
    # HC2 conditions on the covariates; without the added part ours must come near it.
    assert np.sqrt(effect.se**2 - added) == pytest.approx(case["hc2"], rel=0.05)


def test_without_interaction_lin_and_cuped_meet() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 2))
    arm = rng.permutation(np.repeat([0, 1], 2000))
    y = 20 + x @ [2.0, 1.0] + rng.normal(size=4000) + 30 * arm
    control, treatment, names = split(arm, y, x)
    pooled = estimated(adjusted_difference(control, treatment, outcome="y", covariates=names))
    own = lin(arm, y, x)
    # With one true slope the two differ by terms of order 1 / n.
    assert own.absolute == pytest.approx(pooled.absolute, abs=0.02 * pooled.se)
    assert own.se == pytest.approx(pooled.se, rel=0.005)
    # The pooled one is held to the bootstrap elsewhere. Here the covariates make half of its error: it would
    # be off by a tenth if what both arms share were taken with another sign.
    widths = []
    for effect in (own, pooled):
        assert effect.relative_ci_lower is not None
        assert effect.relative_ci_upper is not None
        widths.append(math.log1p(effect.relative_ci_upper) - math.log1p(effect.relative_ci_lower))
    assert widths[0] == pytest.approx(widths[1], rel=0.01)


def test_lin_beats_pooled_slopes_where_arms_and_slopes_differ() -> None:
    # One arm in five treated, its slope 4 against 0: pooled slopes take 0.8, the best single slope is 3.2.
    rng = np.random.default_rng(2)
    n, runs = 300, 400
    found = np.empty((runs, 2))
    low = high = pooled_better = 0
    for run in range(runs):
        x = rng.normal(size=(n, 1))
        arm = rng.permutation(np.repeat([0, 1], [240, 60]))
        y = 4 * arm * x[:, 0] + 2.0 + rng.normal(size=n)
        control, treatment, names = split(arm, y, x)
        pooled = estimated(adjusted_difference(control, treatment, outcome="y", covariates=names))
        own = lin(arm, y, x)
        found[run] = own.absolute, pooled.absolute
        low += own.ci_lower > 0
        high += own.ci_upper < 0
        pooled_better += pooled.se < own.se
    assert found[:, 0].std() < 0.7 * found[:, 1].std()
    assert pooled_better == 0
    # Four standard errors of 400 runs at 2.5 % are 3.1 points. The population's effect is 0 here.
    assert low / runs < 0.056
    assert high / runs < 0.056
    assert 0.01 < (low + high) / runs < 0.094


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(-1e3, 1e3))
def test_metamorphic(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat([0, 1], [15, 25]))
    x = rng.normal(size=(40, 2))
    y = x[:, 0] * (1 + arm) + rng.normal(size=40)
    base = lin(arm, y, x)
    swapped = lin(1 - arm, y, x)
    # The covariates in other units and mixed with one another say the same.
    mixed = lin(arm, y, np.column_stack([x[:, 0] * scale + shift, x[:, 1] + 2 * x[:, 0]]))
    scaled = lin(arm, 5 * y + 30, x)
    for other, factor in ((swapped, -1), (mixed, 1), (scaled, 5)):
        assert other.absolute == pytest.approx(factor * base.absolute, rel=1e-6, abs=1e-8)
        assert other.se == pytest.approx(abs(factor) * base.se, rel=1e-6)
        assert other.df == pytest.approx(base.df, rel=1e-6)


def test_a_ratio_over_one_is_a_mean() -> None:
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.normal(5, 1, 300), np.full(300, 2.0), rng.normal(size=300)])
    rows[:, 0] += rows[:, 2]
    names = ["y", "two", "x"]
    control, treatment = Moments.from_array(rows[:140], names), Moments.from_array(rows[140:], names)
    ratio = estimated(
        adjusted_ratio(
            control, treatment, numerator="y", denominator="two", covariates=["x"], interacted=True
        )
    )
    mean = estimated(adjusted_difference(control, treatment, outcome="y", covariates=["x"], interacted=True))
    assert ratio.method == "lin-ratio"
    assert (ratio.absolute * 2, ratio.se * 2) == pytest.approx((mean.absolute, mean.se), rel=1e-9)


def test_useless_covariates_are_dropped_and_named() -> None:
    rng = np.random.default_rng(5)
    arm = np.repeat([0, 1], 30)
    x = rng.normal(size=(60, 4))
    x[:, 1] = 2 * x[:, 0] + 1
    x[:, 2] = np.where(arm == 0, 7.0, x[:, 2])
    y = x[:, 0] + rng.normal(size=60)
    effect = lin(arm, y, x)
    alone = lin(arm, y, x[:, [0, 3]])
    assert (effect.absolute, effect.se) == pytest.approx((alone.absolute, alone.se), rel=1e-9)
    assert [flag.split()[1] for flag in effect.flags if "dropped" in flag] == ["x2", "x1"]
    none = lin(arm, y, np.full((60, 1), 3.0))
    control, treatment, _ = split(arm, y, x)
    plain = estimated(difference_in_means(control, treatment, outcome="y"))
    assert (none.absolute, none.se, none.df) == pytest.approx((plain.absolute, plain.se, plain.df))


def test_few_units_keep_few_covariates() -> None:
    rng = np.random.default_rng(6)
    effect = lin(np.repeat([0, 1], [4, 9]), rng.normal(size=13), rng.normal(size=(13, 3)))
    assert [flag.split()[1] for flag in effect.flags if "too few units" in flag] == ["x1", "x2"]
    assert effect.se > 0


def test_what_cannot_be_estimated_says_why() -> None:
    rng = np.random.default_rng(7)
    arm = np.repeat([0, 1], 20)
    x = rng.normal(size=(40, 1))
    control, treatment, names = split(arm, 3 * x[:, 0] + arm * x[:, 0], x)
    result = adjusted_difference(control, treatment, outcome="y", covariates=names, interacted=True)
    assert isinstance(result, NotEstimable)
    assert (result.method, result.reason[:25]) == ("lin", "the covariates explain th")
    one = Moments.from_array(np.ones((1, 2)), ["y", "x0"])
    result = adjusted_difference(one, treatment, outcome="y", covariates=names, interacted=True)
    assert isinstance(result, NotEstimable)
    assert "one unit" in result.reason
