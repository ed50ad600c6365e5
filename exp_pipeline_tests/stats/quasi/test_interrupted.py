from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.quasi.interrupted import InterruptedSeries, interrupted_series
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED, QuasiEffect
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.stats.golden import golden

SANDWICH = golden("quasi_interrupted")


def estimated(result: InterruptedSeries | NotEstimable) -> InterruptedSeries:
    assert isinstance(result, InterruptedSeries), result
    assert result.label == NOT_RANDOMISED
    return result


def parts(found: InterruptedSeries) -> tuple[QuasiEffect, ...]:
    return found.level_change, found.slope_change, found.average, found.at_end


def drawn(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    shocks = rng.normal(size=n + 40)
    for place in range(1, n + 40):
        shocks[place] += memory * shocks[place - 1]
    return shocks[40:]


@pytest.mark.parametrize("name", SANDWICH)
def test_segments_and_newey_west_equal_sandwich(name: str) -> None:
    case = SANDWICH[name]
    found = estimated(
        interrupted_series(
            case["y"],
            case["start"],
            season=case["season"],
            control=case["control"],
            lags=case["lags"],
            small_sample=False,
        )
    )
    # The same least squares and the same sum of products in double precision.
    assert [one.absolute for one in parts(found)] == pytest.approx(case["estimates"], rel=1e-9)
    assert [one.se for one in parts(found)] == pytest.approx(case["se"], rel=1e-9)
    assert found.average.df == case["df"]
    assert (len(found.assumptions) == 5) == (name == "controlled")


def test_the_difference_is_the_regression_of_both_series() -> None:
    rng = np.random.default_rng(2)
    y, other = drawn(rng, 50, 0.3), drawn(rng, 50, 0.3)
    found = estimated(interrupted_series(y, 25, control=other))
    time = np.arange(50.0)
    terms = np.column_stack([np.ones(50), time, time >= 25, np.maximum(time - 25, 0)])
    both = np.vstack([np.hstack([terms, terms]), np.hstack([terms, 0 * terms])])
    wanted = np.linalg.lstsq(both, np.concatenate([y, other]), rcond=None)[0]
    assert found.level_change.absolute == pytest.approx(wanted[6], rel=1e-9)
    assert found.slope_change.absolute == pytest.approx(wanted[7], rel=1e-9)


def test_white_errors_without_lags_are_bell_and_mccaffrey() -> None:
    # No lags and no memory: the small-sample part must give an unbiased variance with Satterthwaite's df.
    n, start = 24, 12
    time = np.arange(float(n))
    terms = np.column_stack([np.ones(n), time, time >= start, np.maximum(time - start, 0)])
    pull = np.linalg.pinv(terms)[2]
    left = np.eye(n) - terms @ np.linalg.pinv(terms)
    form = left @ np.diag(pull**2) @ left
    values = np.linalg.eigvalsh(form)
    df = values.sum() ** 2 / (values**2).sum()
    # Alternating residuals have no memory.
    y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0) * np.linspace(1, 2, n)
    found = estimated(interrupted_series(y, start, lags=0))
    assert found.memory == 0.0
    assert found.level_change.df == pytest.approx(df, rel=1e-9)
    residuals = left @ y
    variance = float(np.sum((pull * residuals) ** 2)) * float(pull @ pull) / float(np.trace(form))
    assert found.level_change.se == pytest.approx(math.sqrt(variance), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 40.0), st.floats(-500.0, 500.0), st.floats(-5.0, 5.0))
def test_scale_shift_trend_season_and_time_reversed(
    seed: int, scale: float, shift: float, lean: float
) -> None:
    rng = np.random.default_rng(seed)
    y = drawn(rng, 56, 0.3)
    plain = estimated(interrupted_series(y, 28, season=7))
    week = rng.normal(size=7)[np.arange(56) % 7]
    found = estimated(interrupted_series(y * scale + shift + lean * np.arange(56) + week, 28, season=7))
    for one, other in zip(parts(found), parts(plain), strict=True):
        assert one.absolute == pytest.approx(other.absolute * scale, rel=1e-6, abs=1e-7)
        assert one.se == pytest.approx(other.se * scale, rel=1e-5)
        assert one.df == pytest.approx(other.df, rel=1e-4)
    # A step more at the change is a step more of the level.
    stepped = estimated(interrupted_series(y + 2.0 * (np.arange(56) >= 28), 28, season=7))
    assert stepped.level_change.absolute == pytest.approx(plain.level_change.absolute + 2.0, rel=1e-9)
    assert stepped.slope_change.absolute == pytest.approx(plain.slope_change.absolute, rel=1e-6, abs=1e-10)


def test_covers_with_errors_that_last_where_the_usual_error_does_not() -> None:
    rng = np.random.default_rng(77)
    trials, n = 200, 40
    hits, usual = np.zeros(4), np.zeros(4)
    for _ in range(trials):
        y = drawn(rng, n, 0.5)
        for held, options in ((hits, {}), (usual, {"small_sample": False, "lags": 3})):
            found = estimated(interrupted_series(y, 20, **options))  # type: ignore[arg-type]
            held += [one.ci_lower < 0.0 < one.ci_upper for one in parts(found)]
    # Three Monte Carlo errors are 0.046.
    assert (hits / trials > 0.904).all()
    assert (hits / trials < 0.996).all()
    assert (usual / trials < 0.87).all()


def test_memory_is_found() -> None:
    rng = np.random.default_rng(5)
    found = [estimated(interrupted_series(drawn(rng, 80, 0.6), 40)).memory for _ in range(12)]
    assert float(np.mean(found)) == pytest.approx(0.6, abs=0.12)


def test_reasons_misuse_and_flags() -> None:
    y = drawn(np.random.default_rng(1), 30, 0.2)
    for result, words in (
        (interrupted_series(y, 2), "three on each side"),
        (interrupted_series(y, 26, season=7), "less than one season"),
        (interrupted_series(y[:9], 4, season=4), "too few"),
        (interrupted_series(3.0 + 0.5 * np.arange(30), 15), "no spread"),
    ):
        assert isinstance(result, NotEstimable)
        assert words in result.reason, result.reason
    with pytest.raises(ValueError, match="start"):
        interrupted_series(y, 30)
    with pytest.raises(ValueError, match="season"):
        interrupted_series(y, 15, season=1)
    with pytest.raises(ValueError, match="lags"):
        interrupted_series(y, 15, lags=-1)
    with pytest.raises(ValueError, match="control"):
        interrupted_series(y, 15, control=y[1:])
    assert any("before the change" in flag for flag in estimated(interrupted_series(y, 8)).flags)
    walk = np.cumsum(np.random.default_rng(3).normal(size=300))
    assert any("wandering" in flag for flag in estimated(interrupted_series(walk, 150)).flags)
