from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.designs.switchback import (
    RandomisationTest,
    SwitchbackEffect,
    _horvitz_thompson,
    switchback_difference,
    switchback_effect,
    switchback_randomisation_test,
)
from exp_pipeline.stats.results import Effect, NotEstimable


def estimated(result: SwitchbackEffect | NotEstimable) -> SwitchbackEffect:
    assert isinstance(result, SwitchbackEffect), result
    return result


def resampled(result: RandomisationTest | NotEstimable) -> RandomisationTest:
    assert isinstance(result, RandomisationTest), result
    return result


def course(slots: int, order: int, seed: int) -> Any:
    """Outcomes of a course of treatment that carries over `order` slots, with a day of its own."""
    rng = np.random.default_rng(seed)
    own, effects = 3 + rng.normal(size=slots), rng.normal(0.5, 0.3, order + 1)

    def outcome(arm: np.ndarray) -> np.ndarray:
        y = own.copy()
        for back, effect in enumerate(effects):
            y[back:] += effect * arm[: slots - back]
        return y

    return outcome


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("probability", [0.5, 0.3])
def test_over_all_assignments_the_estimate_is_right_and_the_variance_large_enough(
    order: int, probability: float
) -> None:
    slots = 12
    decision = np.array([1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0], dtype=bool)
    outcome = course(slots, order, 1)
    blocks = np.cumsum(decision) - 1
    always, never = outcome(np.ones(slots)), outcome(np.zeros(slots))
    truth = (always - never)[order:].mean()
    chances, values, variances = [], [], []
    for coins in itertools.product((0, 1), repeat=int(decision.sum())):
        arm = np.array(coins)[blocks]
        chance = probability ** sum(coins) * (1 - probability) ** (len(coins) - sum(coins))
        # The estimator spelled out slot by slot, for assignments that leave a side empty too.
        value = 0.0
        for t in range(order, slots):
            window = arm[t - order : t + 1]
            coins_in = len(set(blocks[t - order : t + 1]))
            y = outcome(arm)[t]
            value += y * window.all() / probability**coins_in
            value -= y * (not window.any()) / (1 - probability) ** coins_in
        value /= slots - order
        found = switchback_effect(outcome(arm), arm, decision, order=order, probability=probability)
        if isinstance(found, SwitchbackEffect):
            assert found.absolute == pytest.approx(value, rel=1e-10, abs=1e-12)
        # Refused assignments belong to the mean of the variance as well.
        sides, variance, _ = _horvitz_thompson(
            outcome(arm)[None], arm[None] == 1, decision, order, probability
        )
        assert sides[1] - sides[0] == pytest.approx(value, rel=1e-10, abs=1e-12)
        variances.append(variance)
        chances.append(chance)
        values.append(value)
    mean = float(np.dot(chances, values))
    assert sum(chances) == pytest.approx(1.0)
    assert mean == pytest.approx(truth, rel=1e-10)
    spread = float(np.dot(chances, np.square(np.array(values) - mean)))
    assert np.dot(chances, variances) > spread


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("probability", [0.5, 0.3])
def test_without_any_effect_on_a_flat_course_the_variance_is_exact(order: int, probability: float) -> None:
    # Then products that are never seen together are as large as they can be: the bound is the variance.
    decision = np.arange(12) % 2 == 0
    y = np.full((1, 12), 2.0)
    mean = square = bound = 0.0
    for coins in itertools.product((0, 1), repeat=6):
        arm = np.repeat(np.array(coins), 2)[None] == 1
        chance = probability ** sum(coins) * (1 - probability) ** (6 - sum(coins))
        sides, variance, _ = _horvitz_thompson(y, arm, decision, order, probability)
        mean += chance * float(sides[1] - sides[0])
        square += chance * float(sides[1] - sides[0]) ** 2
        bound += chance * variance
    assert mean == pytest.approx(0.0, abs=1e-12)
    assert bound == pytest.approx(square, rel=1e-10)


def test_the_variance_equals_the_formula_of_the_optimal_design() -> None:
    # Bojinov, Simchi-Levi and Zhao (2023): order m; coins at 1, 2m + 1, 3m + 1, ..., (n - 2)m + 1 of nm.
    m, n = 2, 9
    slots = m * n
    rng = np.random.default_rng(2)
    decision = np.zeros(slots, dtype=bool)
    decision[[0, *(k * m for k in range(2, n - 1))]] = True
    coins = np.array([1, 1, 0, 0, 0, 1, 1, 1])[: decision.sum()]
    arm = coins[np.cumsum(decision) - 1]
    y = rng.normal(4, 1, slots)
    found = estimated(switchback_effect(y, arm, decision, order=m))
    # Sums over m slots, k = 0 .. n - 2, the first being slots m + 1 .. 2m (counted from 1).
    sums = [y[(k + 1) * m : (k + 2) * m].sum() for k in range(n - 1)]
    coin_of = [0, *range(1, n - 2), n - 3]  # the coin that rules each sum's own slots

    def same(*ks: int) -> bool:
        return len({coins[k] for k in ks}) == 1

    total = 6 * sums[0] ** 2 + 6 * sums[-1] ** 2
    for k in range(1, n - 2):
        total += 24 * sums[k] ** 2 * same(k - 1, k)
    for k in range(n - 2):
        involved = {coin_of[k], coin_of[k + 1], max(k - 1, 0), min(k, n - 3)}
        total += 16 * sums[k] * sums[k + 1] * same(*involved) if 0 < k < n - 3 else 0.0
    # At both ends one sum hangs on one coin, its neighbour on two: 2 x (8 - 4).
    total += 8 * sums[0] * sums[1] * same(0, 1) + 8 * sums[-2] * sums[-1] * same(n - 4, n - 3)
    assert found.se**2 == pytest.approx(total / (slots - m) ** 2, rel=1e-10)


def test_order_zero_and_a_coin_a_slot_is_the_plain_horvitz_thompson() -> None:
    rng = np.random.default_rng(3)
    arm, y = rng.integers(0, 2, 40), rng.normal(2, 1, 40)
    found = estimated(switchback_effect(y, arm, np.ones(40), order=0))
    assert found.absolute == pytest.approx(2 * (y[arm == 1].sum() - y[arm == 0].sum()) / 40, rel=1e-12)
    assert found.se == pytest.approx(2 * math.sqrt((y**2).sum()) / 40, rel=1e-12)


def test_regions_are_independent_copies() -> None:
    rng = np.random.default_rng(4)
    decision = np.arange(30) % 3 == 0
    arm = np.repeat(rng.integers(0, 2, (2, 10)), 3, axis=1)
    y = rng.normal(5, 1, (2, 30))
    both = estimated(switchback_effect(y, arm, decision, order=1))
    one, two = (estimated(switchback_effect(y[i], arm[i], decision, order=1)) for i in range(2))
    assert both.absolute == pytest.approx((one.absolute + two.absolute) / 2, rel=1e-12)
    assert both.se == pytest.approx(math.hypot(one.se, two.se) / 2, rel=1e-12)
    assert (both.regions, both.slots, both.blocks) == (2, 30, 10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.integers(0, 2), scale=st.floats(0.01, 50))
def test_scale_and_swapped_arms(seed: int, order: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    decision = rng.random(40) < 0.4
    decision[0] = True
    arm = rng.integers(0, 2, int(decision.sum()))[np.cumsum(decision) - 1]
    y = rng.normal(5, 1, 40)
    one = switchback_effect(y, arm, decision, order=order, probability=0.4)
    two = switchback_effect(scale * y, 1 - arm, decision, order=order, probability=0.6)
    if isinstance(one, NotEstimable):
        assert isinstance(two, NotEstimable)
        return
    two = estimated(two)
    assert two.absolute == pytest.approx(-scale * one.absolute, rel=1e-9, abs=1e-9)
    assert two.se == pytest.approx(scale * one.se, rel=1e-9)
    seed_one = resampled(switchback_randomisation_test(y, arm, decision, seed=1, order=order, draws=200))
    shifted = resampled(
        switchback_randomisation_test(3 * y + 7, arm, decision, seed=1, order=order, draws=200)
    )
    assert shifted.p_value == pytest.approx(seed_one.p_value, abs=1e-12)
    assert shifted.statistic == pytest.approx(3 * seed_one.statistic, rel=1e-9, abs=1e-9)


def test_the_randomisation_test_counts_all_assignments() -> None:
    rng = np.random.default_rng(5)
    decision = np.arange(16) % 2 == 0
    arm = np.repeat([1, 0, 0, 1, 1, 0, 1, 0], 2)
    y = rng.normal(size=16) + arm
    found = resampled(switchback_randomisation_test(y, arm, decision, seed=1, order=1))

    def difference(a: np.ndarray) -> float:
        on = [y[t] for t in range(1, 16) if a[t] and a[t - 1]]
        off = [y[t] for t in range(1, 16) if not a[t] and not a[t - 1]]
        return float(np.mean(on) - np.mean(off)) if on and off else 0.0

    all_of_them = [difference(np.repeat(coins, 2)) for coins in itertools.product((0, 1), repeat=8)]
    observed = difference(arm)
    assert found.statistic == pytest.approx(observed, rel=1e-12)
    assert found.counted
    assert found.draws == 256
    assert found.p_value == np.mean([abs(d) >= abs(observed) - 1e-12 for d in all_of_them])


def test_the_randomisation_test_keeps_its_size_on_a_course_that_drifts() -> None:
    rng = np.random.default_rng(6)
    decision = np.arange(24) % 4 == 0
    drift = np.cumsum(rng.normal(size=24))
    p_values = []
    for _ in range(300):
        arm = np.repeat(rng.integers(0, 2, 6), 4)
        result = switchback_randomisation_test(drift, arm, decision, seed=1)
        p_values.append(result.p_value if isinstance(result, RandomisationTest) else 1.0)
    # Exact at any level; 300 runs know 10 % to 1.7 points.
    assert np.mean(np.array(p_values) <= 0.1) < 0.1 + 4 * 0.017


def test_burn_in_takes_out_the_carry_over_that_biases_the_plain_difference() -> None:
    rng = np.random.default_rng(7)
    blocks, length, runs = 60, 6, 200
    covered = plain_covered = 0
    block, at = np.repeat(np.arange(blocks), length), np.tile(np.arange(length), blocks)
    for _ in range(runs):
        arm = np.repeat(rng.integers(0, 2, blocks), length)
        before = np.concatenate([arm[:1], arm[:-1]]), np.concatenate([arm[:2], arm[:-2]])
        mood = rng.normal(0, 0.5, blocks)[block]
        y = 0.4 * arm + 0.8 * before[0] + 0.8 * before[1] + mood + rng.normal(size=block.size)
        ours = switchback_difference(y, arm, block, slot_in_block=at, burn_in=2)
        plain = switchback_difference(y, arm, block)
        assert isinstance(ours, Effect)
        assert isinstance(plain, Effect)
        covered += ours.ci_lower <= 2.0 <= ours.ci_upper
        plain_covered += plain.ci_lower <= 2.0 <= plain.ci_upper
    # 200 runs know 95 % to 1.5 points.
    assert 0.9 < covered / runs < 0.99, covered
    assert plain_covered / runs < 0.8


def test_the_conservative_interval_covers_under_carry_over() -> None:
    rng = np.random.default_rng(8)
    decision = np.arange(120) % 3 == 0
    outcome = course(120, 2, 9)
    truth = (outcome(np.ones(120)) - outcome(np.zeros(120)))[2:].mean()
    found = []
    for _ in range(300):
        arm = rng.integers(0, 2, 40)[np.cumsum(decision) - 1]
        found.append(estimated(switchback_effect(outcome(arm), arm, decision, order=2)))
    covered = np.mean([f.ci_lower <= truth <= f.ci_upper for f in found])
    assert covered > 0.93, covered
    error = np.std([f.absolute for f in found]) / 300**0.5
    assert abs(np.mean([f.absolute for f in found]) - truth) < 4 * error


def test_the_difference_is_that_of_the_clustered_room() -> None:
    rng = np.random.default_rng(9)
    region, block = np.repeat(np.arange(8), 40), np.tile(np.repeat(np.arange(10), 4), 8)
    arm = rng.integers(0, 2, (8, 10))[region, block]
    y = arm + rng.normal(size=320)
    by_block = switchback_difference(y, arm, block, region=region)
    assert by_block == clustered_difference(y, arm == 1, region * 10 + block)
    by_region = switchback_difference(y, arm, block, region=region, cluster="region", strata=block)
    assert by_region == clustered_difference(y, arm == 1, region, strata=block)


def test_refusals_and_mistakes() -> None:
    for result, words in (
        (
            switchback_effect([1, 2, 3], [1, 1, 1], [1, 1, 1], order=0),
            "no stretch of 1 slots is wholly untreated",
        ),
        (switchback_effect([1, 2, 3], [1, 0, 1], [1, 1, 1], order=1), "no stretch of 2 slots"),
        (switchback_effect([0, 0], [1, 0], [1, 1], order=0), "outcomes are zero"),
        (switchback_randomisation_test([1, 2], [1, 0], [1, 1], order=1, seed=1), "no stretch of 2 slots"),
        (switchback_difference([1, 2], [1, 0], [0, 1], slot_in_block=[0, 0], burn_in=1), "leaves no slot"),
    ):
        assert isinstance(result, NotEstimable)
        assert words in result.reason
    with pytest.raises(ValueError, match="treated changes at slot 1 of region 0 without a decision"):
        switchback_effect([1, 2], [1, 0], [1, 0], order=0)
    with pytest.raises(ValueError, match="the first of them true"):
        switchback_effect([1, 2], [1, 1], [0, 1], order=0)
    with pytest.raises(ValueError, match="order must lie between 0 and 1"):
        switchback_effect([1, 2], [1, 1], [1, 1], order=2)
    with pytest.raises(ValueError, match="holds treated and untreated slots"):
        switchback_difference([1, 2], [1, 0], [0, 0])
    with pytest.raises(ValueError, match="needs slot_in_block"):
        switchback_difference([1, 2], [1, 0], [0, 1], burn_in=1)
    with pytest.raises(ValueError, match="needs region"):
        switchback_difference([1, 2], [1, 0], [0, 1], cluster="region")
