from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline_tests.stats.golden import golden


def estimated(result: Effect | NotEstimable) -> Effect:
    assert isinstance(result, Effect), result
    return result


def latencies(rng: np.random.Generator, units: int, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    unit = np.repeat(np.arange(units), 1 + rng.poisson(6, units))
    return factor * np.exp(rng.normal(7, 0.4, units)[unit] + rng.normal(0, 0.3, unit.size)), unit


@pytest.mark.parametrize("case", golden("quantiles"), ids=["p50", "p90"])
def test_one_arm_equals_the_survey_package(case: dict[str, Any]) -> None:
    # Against an arm that hardly varies, the joined interval is the other arm's own.
    values, unit = np.array(case["values"]), np.array(case["unit"], dtype=int)
    still = np.linspace(1 - 1e-9, 1 + 1e-9, 400)
    effect = estimated(
        difference_in_quantiles(still, np.arange(400), values, unit, quantile=case["quantile"])
    )
    # Same rule for the quantile (type 7) on both sides; survey interpolates it on weights.
    assert effect.mean_treatment == pytest.approx(case["estimate"], rel=1e-9)
    # Ours scales the variance to the quantile, which moves a bound by a fraction of a gap between rows.
    assert effect.ci_lower + 1 == pytest.approx(case["ci"][0], rel=2e-3)
    assert effect.ci_upper + 1 == pytest.approx(case["ci"][1], rel=2e-3)


def test_rows_of_one_unit_are_not_taken_for_many() -> None:
    rng = np.random.default_rng(1)
    values_c, unit_c = latencies(rng, 300)
    values_t, unit_t = latencies(rng, 300, 1.05)
    once = estimated(difference_in_quantiles(values_c, unit_c, values_t, unit_t, quantile=0.9))
    many = estimated(
        difference_in_quantiles(
            np.tile(values_c, 5), np.tile(unit_c, 5), np.tile(values_t, 5), np.tile(unit_t, 5), quantile=0.9
        )
    )
    rows = estimated(
        difference_in_quantiles(
            np.tile(values_c, 5),
            np.arange(5 * values_c.size),
            np.tile(values_t, 5),
            np.arange(5 * values_t.size),
            quantile=0.9,
        )
    )
    # Copies move the interpolated quantile by less than a gap between rows.
    assert many.ci_lower == pytest.approx(once.ci_lower, abs=0.1 * once.se)
    assert many.ci_upper == pytest.approx(once.ci_upper, abs=0.1 * once.se)
    assert rows.se < 0.5 * many.se
    assert (once.n_control, many.n_control) == (300, 300)


def test_standard_error_against_a_bootstrap_over_units() -> None:
    rng = np.random.default_rng(2)
    arms = [latencies(rng, 400), latencies(rng, 500, 1.1)]
    effect = estimated(difference_in_quantiles(*arms[0], *arms[1], quantile=0.9))
    gaps = []
    for _ in range(300):
        quantiles = []
        for values, unit in arms:
            by_unit = np.split(values, np.flatnonzero(np.diff(unit)) + 1)
            drawn = [by_unit[index] for index in rng.integers(0, len(by_unit), len(by_unit))]
            quantiles.append(np.quantile(np.concatenate(drawn), 0.9))
        gaps.append(quantiles[1] - quantiles[0])
    # 300 draws know a standard deviation to 4 %, and the density's estimate to about 10 %.
    assert effect.se == pytest.approx(np.std(gaps), rel=0.25)
    assert effect.absolute == pytest.approx(np.quantile(arms[1][0], 0.9) - np.quantile(arms[0][0], 0.9))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.sampled_from([0.25, 0.5, 0.9]))
def test_order_names_unit_of_measure_and_arms(seed: int, scale: float, quantile: float) -> None:
    rng = np.random.default_rng(seed)
    control, treatment = latencies(rng, 120), latencies(rng, 130, 1.1)
    base = estimated(difference_in_quantiles(*control, *treatment, quantile=quantile))
    order = rng.permutation(control[0].size)
    again = estimated(
        difference_in_quantiles(
            control[0][order] * scale,
            (control[1] * 977 + 5)[order],
            treatment[0] * scale,
            treatment[1] - 10**12,
            quantile=quantile,
        )
    )
    swapped = estimated(difference_in_quantiles(*treatment, *control, quantile=quantile))
    for name in ("absolute", "se", "ci_lower", "ci_upper"):
        assert getattr(again, name) == pytest.approx(scale * getattr(base, name), rel=1e-7, abs=1e-6 * scale)
    assert again.relative_ci_upper == pytest.approx(base.relative_ci_upper, rel=1e-7)
    assert swapped.absolute == -base.absolute
    assert (swapped.ci_lower, swapped.ci_upper) == pytest.approx((-base.ci_upper, -base.ci_lower), rel=1e-12)
    assert swapped.p_value == pytest.approx(base.p_value, rel=1e-9)
    assert (base.p_value < 0.05) == (base.ci_lower > 0 or base.ci_upper < 0)


def test_a_huge_effect_has_a_tiny_p_value() -> None:
    rng = np.random.default_rng(3)
    effect = estimated(difference_in_quantiles(*latencies(rng, 300), *latencies(rng, 300, 4.0), quantile=0.5))
    assert 0 < effect.p_value < 1e-10
    assert effect.relative_ci_lower is not None
    assert effect.relative_ci_lower > 2


def test_a_quantile_near_zero_has_no_relative_effect() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 500), rng.normal(0.1, 1, 500)
    effect = estimated(difference_in_quantiles(a, np.arange(500), b, np.arange(500), quantile=0.5))
    assert effect.relative is None
    assert any("no relative effect" in flag for flag in effect.flags)


@pytest.mark.parametrize(
    ("values", "unit", "quantile", "words"),
    [
        ([], [], 0.5, "empty"),
        ([1.0, 2.0, 3.0], [7, 7, 7], 0.5, "one unit"),
        (list(range(30)), list(range(30)), 0.99, "too few units"),
        ([5.0] * 200, list(range(200)), 0.5, "do not differ"),
        ([5.0] * 180 + [9.0] * 20, list(range(200)), 0.5, "share the value"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    values: list[float], unit: list[int], quantile: float, words: str
) -> None:
    result = difference_in_quantiles(values, unit, values, unit, quantile=quantile)
    assert isinstance(result, NotEstimable)
    assert words in result.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="quantile"):
        difference_in_quantiles([1.0], [1], [1.0], [1], quantile=95)
    with pytest.raises(ValueError, match="treatment_values"):
        difference_in_quantiles([1.0], [1], [1.0, 2.0], [1], quantile=0.5)
    with pytest.raises(ValueError, match="control_values"):
        difference_in_quantiles([np.inf], [1], [1.0], [1], quantile=0.5)


def test_a_million_rows_take_no_time() -> None:
    rng = np.random.default_rng(5)
    values, unit = rng.normal(size=500_000), rng.integers(0, 50_000, 500_000)
    begin = time.process_time()
    estimated(difference_in_quantiles(values, unit, values + 0.01, unit, quantile=0.95))
    # About 0.1 s here.
    assert time.process_time() - begin < 2.0


def test_few_units_use_a_t_and_the_unbiased_variance() -> None:
    # Units of one value each: the share's variance is that of zeros and ones with divisor units - 1.
    units, rows = 12, 50
    values = np.repeat(np.arange(units, dtype=float), rows) + np.tile(np.linspace(0, 0.9, rows), units)
    still = np.linspace(-1e-9, 1e-9, 4000)
    effect = estimated(
        difference_in_quantiles(
            still, np.arange(4000), values, np.repeat(np.arange(units), rows), quantile=0.5
        )
    )
    from scipy import stats

    share_se = np.sqrt(0.25 / (units - 1))
    reach = stats.t.ppf(0.975, units - 1) * share_se
    expected = np.quantile(values, [0.5 - reach, 0.5 + reach])
    assert (effect.ci_lower, effect.ci_upper) == pytest.approx(tuple(expected), abs=1e-6)
