from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.pivot import as_normal, bounds_at, relative_bounds_at, statistic_against
from exp_pipeline.stats.results import Effect, NotEstimable


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def means(seed: int, level: float, *, shift: float = 1.0, base: float = 6.0, n: int = 15) -> Effect:
    rng = np.random.default_rng(seed)
    arms = [Moments.from_array(rng.normal(base + gap, 3, n), ["y"]) for gap in (0.0, shift)]
    return estimated(difference_in_means(*arms, outcome="y", level=level))


def counts(level: float) -> Effect:
    return estimated(difference_in_proportions(14, 40, 20, 35, level=level))


@pytest.mark.parametrize("made", [lambda level: means(1, level), counts], ids=["welch", "newcombe"])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99, 0.9999])
def test_a_stretched_interval_is_the_one_estimated_at_that_level(made: Any, level: float) -> None:
    there = made(level)
    # The same closed forms, with critical values of the tail instead of the level.
    assert bounds_at(made(0.95), (1 - level) / 2) == pytest.approx((there.ci_lower, there.ci_upper), rel=1e-9)
    assert relative_bounds_at(made(0.95), (1 - level) / 2) == pytest.approx(
        (there.relative_ci_lower, there.relative_ci_upper), rel=1e-9
    )


@pytest.mark.parametrize("base", [2.2, -2.2])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_fieller_is_solved_again(base: float, level: float) -> None:
    first, there = means(2, 0.95, base=base), means(2, level, base=base)
    assert first.relative_method == "fieller" == there.relative_method
    # Two variances are had back from two ends: a few digits are lost.
    assert relative_bounds_at(first, (1 - level) / 2) == pytest.approx(
        (there.relative_ci_lower, there.relative_ci_upper), rel=1e-7
    )
    assert relative_bounds_at(first, 1e-12) == (-math.inf, math.inf)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-9, 0.45), st.sampled_from(["welch", "newcombe", "quantile"]))
def test_statistics_are_the_inverse_of_bounds(tail: float, kind: str) -> None:
    from scipy import special

    if kind == "welch":
        effect = means(3, 0.95)
    elif kind == "newcombe":
        effect = counts(0.95)
    else:
        rng = np.random.default_rng(4)
        rows = np.exp(rng.normal(size=(2, 200)))
        unit = np.arange(200)
        effect = estimated(difference_in_quantiles(rows[0], unit, rows[1], unit, quantile=0.9))
    low, high = bounds_at(effect, tail)
    z = float(-special.ndtri(tail))
    assert statistic_against(effect, low) == pytest.approx(z, rel=1e-7)
    assert statistic_against(effect, high) == pytest.approx(-z, rel=1e-7)


def test_statistic_and_p_value_agree() -> None:
    from scipy import special

    for effect in (means(5, 0.95), counts(0.95)):
        assert 2 * special.ndtr(-abs(statistic_against(effect))) == pytest.approx(effect.p_value, rel=1e-9)


def test_far_statistics_stay_finite() -> None:
    assert as_normal(1e6, 400.0) == 37.0
    assert as_normal(-1e6, math.inf) == -37.0
    assert as_normal(-2.0, 1e9) == pytest.approx(-2.0, rel=1e-6)
    assert relative_bounds_at(means(1, 0.95, shift=0.0, base=0.1), 0.025) is None
