from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.results import Effect, NotEstimable


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def arms(seed: int, shift: float, units: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), 1 + rng.poisson(3, units))
    rows = [rng.normal(0, 1, units)[unit] + rng.normal(0, 0.5, unit.size) for _ in range(2)]
    return rows[0], unit, rows[1] + shift, unit


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("shift", [-0.4, -0.1, 0.2, 0.7])
def test_p_is_the_level_at_which_the_interval_ends_at_zero(quantile: float, shift: float) -> None:
    sample = arms(11, shift)
    p = estimated(difference_in_quantiles(*sample, quantile=quantile)).p_value
    assert 1e-12 < p < 1.0
    # The interval, asked again at 1 - p, is an independent statement: zero lies just in or just out.
    wider = estimated(difference_in_quantiles(*sample, quantile=quantile, level=1.0 - p * 0.98))
    narrower = estimated(
        difference_in_quantiles(*sample, quantile=quantile, level=1.0 - min(p * 1.02, 0.999999))
    )
    assert wider.ci_lower <= 0.0 <= wider.ci_upper
    assert narrower.ci_lower > 0.0 or narrower.ci_upper < 0.0


def test_p_falls_as_the_gap_grows_and_then_rests_on_the_edge_of_the_data() -> None:
    control, unit, treatment, _ = arms(12, 0.0)
    p = [
        estimated(difference_in_quantiles(control, unit, treatment + gap, unit, quantile=0.95)).p_value
        for gap in (0.5, 1.0, 2.0, 4.0, 8.0, 80.0, 8e6)
    ]
    assert all(a >= b for a, b in pairwise(p))
    assert p[-1] == p[-2] > 0.0


@pytest.mark.parametrize(("quantile", "units"), [(0.95, 120), (0.9, 60), (0.99, 600)])
def test_no_p_value_is_smaller_than_the_chance_of_seeing_nobody_beyond_the_quantile(
    quantile: float, units: int
) -> None:
    # All of control lies below its quantile with chance quantile ** units: then, and only then, may its
    # quantile be anywhere. A p-value below that chance would be false.
    rng = np.random.default_rng(13)
    control = rng.normal(0, 1, units)
    treatment = 1e6 + rng.normal(0, 1, units)
    own = np.arange(units)
    effect = estimated(difference_in_quantiles(control, own, treatment, own, quantile=quantile))
    assert effect.ci_lower > 0.0
    assert 2.0 * quantile**units <= effect.p_value < 0.05
    # The same from below, with arms and quantile turned round.
    mirrored = estimated(difference_in_quantiles(-control, own, -treatment, own, quantile=1.0 - quantile))
    assert mirrored.p_value == pytest.approx(effect.p_value, rel=1e-6)


def test_false_alarms_where_only_one_arm_has_rare_slow_units() -> None:
    # Both arms have the same true 90th percentile near 100: in control only one unit in nine gets there.
    rng = np.random.default_rng(14)
    units, trials, tiny, small, told = 60, 1500, 0, 0, 0
    own = np.arange(units)
    for _ in range(trials):
        slow = rng.random(units) < 0.11
        control = np.where(slow, 100.0, 1.0) + rng.normal(0, 0.1, units)
        treatment = 100.0 + rng.normal(0, 0.1, units)
        result = difference_in_quantiles(control, own, treatment, own, quantile=0.9)
        if isinstance(result, Effect):
            told += 1
            tiny += result.p_value < 1e-4
            small += result.p_value < 0.01
    assert told > 0.9 * trials
    # Nobody slow at all has chance 0.0009: what lay past the data used to give p of 1e-300 then.
    assert tiny == 0
    assert small / told < 0.015


@pytest.mark.parametrize(("quantile", "units"), [(0.5, 30), (0.5, 200), (0.9, 200), (0.95, 400)])
def test_coverage_with_clustered_rows(quantile: float, units: int) -> None:
    rng = np.random.default_rng(15)
    trials, covered, rows_covered, told = 200, 0, 0, 0
    for _ in range(trials):
        sides = []
        for _ in range(2):
            unit = np.repeat(np.arange(units), 1 + rng.poisson(5, units))
            sides.append((np.exp(rng.normal(0, 0.5, units)[unit] + rng.normal(0, 0.3, unit.size)), unit))
        result = difference_in_quantiles(*sides[0], *sides[1], quantile=quantile)
        if not isinstance(result, Effect):
            continue
        told += 1
        covered += result.ci_lower <= 0.0 <= result.ci_upper
        alone = [(values, np.arange(values.size)) for values, _ in sides]
        naive = difference_in_quantiles(*alone[0], *alone[1], quantile=quantile)
        rows_covered += isinstance(naive, Effect) and naive.ci_lower <= 0.0 <= naive.ci_upper
    assert told > 0.95 * trials
    # Monte Carlo error 1.5 points.
    assert 0.91 < covered / told < 0.99
    # Rows taken for units must fail, or the simulation does not see.
    assert rows_covered / told < 0.85
