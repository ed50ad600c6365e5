from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.srm import sample_ratio, sequential_sample_ratio
from exp_pipeline_tests.stats.golden import golden

SRM = golden("srm")


def named(values: list[float]) -> dict[str, float]:
    return {f"arm{index}": value for index, value in enumerate(values)}


def counted(values: list[int]) -> dict[str, int]:
    return {f"arm{index}": int(value) for index, value in enumerate(values)}


def test_the_published_imbalance() -> None:
    result = sample_ratio({"control": 1650, "treatment": 2350}, {"control": 0.5, "treatment": 0.5})
    assert result.statistic == 122.5
    assert result.df == 1
    assert result.method == "chi-square"
    assert result.expected == {"control": 2000.0, "treatment": 2000.0}
    assert result.p_value is not None
    assert 0 < result.p_value < 1e-27


@pytest.mark.parametrize("case", SRM["chi_square"], ids=["half", "three-arms", "one-per-cent"])
def test_chi_square_equals_r(case: dict) -> None:  # type: ignore[type-arg]
    result = sample_ratio(counted(case["counts"]), named(case["weights"]))
    assert result.statistic == pytest.approx(case["statistic"], rel=1e-12)  # the same few operations
    assert result.p_value == pytest.approx(case["p"], rel=1e-9)  # both series are good to ten digits


@pytest.mark.parametrize("case", SRM["binomial"], ids=lambda case: f"{case['counts']}")
def test_the_exact_test_of_two_arms_is_the_binomial_of_r(case: dict) -> None:  # type: ignore[type-arg]
    result = sample_ratio(counted(case["counts"]), named([case["share"], 1 - case["share"]]))
    assert result.method == "exact-multinomial"
    assert result.p_value == pytest.approx(case["p"], rel=1e-9)  # sums of up to forty terms


def test_the_exact_test_of_three_arms_against_every_table() -> None:
    counts, shares = [1, 2, 6], [0.2, 0.5, 0.3]

    def chance(table: tuple[int, ...]) -> float:
        ways = math.factorial(9) // math.prod(math.factorial(k) for k in table)
        return ways * math.prod(share**k for share, k in zip(shares, table, strict=True))

    tables = [table for table in product(range(10), repeat=3) if sum(table) == 9]
    seen = chance(tuple(counts))
    brute = sum(chance(table) for table in tables if chance(table) <= seen * (1 + 1e-9))
    assert sample_ratio(counted(counts), named(shares)).p_value == pytest.approx(brute, rel=1e-10)


def test_an_arm_without_share_leaves_sum_and_degrees_of_freedom() -> None:
    plan = {"control": 0.5, "treatment": 0.5, "closed": 0.0}
    result = sample_ratio({"control": 1650, "treatment": 2350, "closed": 0}, plan)
    assert (result.df, result.statistic) == (1, 122.5)
    assert "closed" not in result.observed
    with pytest.raises(ValueError, match="'closed'"):
        sample_ratio({"control": 1650, "treatment": 2350, "closed": 1}, plan)
    with pytest.raises(ValueError, match="'stray'"):
        sample_ratio({"control": 10, "stray": 1}, plan)


def test_a_missing_arm_counts_as_zero() -> None:
    result = sample_ratio({"control": 100}, {"control": 1, "treatment": 1})
    assert result.observed == {"control": 100, "treatment": 0}
    assert result.statistic == 100.0


def test_nothing_to_test_is_said() -> None:
    nobody = sample_ratio({}, {"control": 1, "treatment": 1})
    assert (nobody.p_value, nobody.method, nobody.flags) == (None, "not-testable", ("no units yet",))
    assert sample_ratio({"only": 5}, {"only": 1.0}).p_value is None


def test_too_large_for_the_exact_test_is_flagged() -> None:
    plan = {"a": 1, "b": 1, "c": 1e-4}
    result = sample_ratio({"a": 5000, "b": 5000, "c": 1}, plan)
    assert result.method == "chi-square"
    assert "approximate" in result.flags[0]


@pytest.mark.parametrize(
    ("observed", "plan", "words"),
    [
        ({"a": -1}, {"a": 1.0}, "observed"),
        ({"a": 1.5}, {"a": 1.0}, "whole number"),
        ({"a": 1}, {"a": 1.0, "b": -0.5}, "planned_share"),
        ({"a": 1}, {"a": math.nan}, "planned_share"),
        ({}, {"a": 0.0}, "at least one arm"),
    ],
)
def test_mistakes_are_named(observed: dict[str, int], plan: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample_ratio(observed, plan)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=2, max_size=4), st.integers(1, 1000), st.randoms())
def test_order_of_arms_and_size_of_weights_say_nothing(
    counts: list[int], factor: int, random: object
) -> None:
    weights = [float(index + 1) for index in range(len(counts))]
    order = list(range(len(counts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    base = sample_ratio(counted(counts), named(weights))
    other = sample_ratio(
        {f"arm{index}": counts[index] for index in order},
        {f"arm{index}": weights[index] * factor for index in order},
    )
    if base.p_value is None:
        assert other.p_value is None
        return
    assert other.statistic == pytest.approx(base.statistic, rel=1e-9, abs=1e-9)
    assert other.p_value == pytest.approx(base.p_value, rel=1e-7)
    assert 0 < base.p_value <= 1


@pytest.mark.parametrize("name", ["drifting", "three_arms"])
def test_sequential_p_values_equal_ssrm_test(name: str) -> None:
    case = golden("sequential_srm")[name]
    looks = [counted(row) for row in np.cumsum(case["daily"], axis=0).tolist()]
    result = sequential_sample_ratio(looks, named(case["shares"]), concentrations=[case["concentration"]])
    # Sums of logs of gamma functions near 1e5 keep about ten digits.
    assert result.p_values == pytest.approx(case["p_values"], rel=1e-7)


def test_sequential_evidence_never_wanes_and_sees_a_gross_fault() -> None:
    looks = [{"a": 165 * day, "b": 235 * day} for day in range(1, 11)]
    result = sequential_sample_ratio(looks, {"a": 0.5, "b": 0.5})
    assert list(result.p_values) == sorted(result.p_values, reverse=True)
    assert result.looks == 10
    assert 0 < result.p_value < 1e-20
    calm = sequential_sample_ratio([{"a": 500, "b": 501}], {"a": 0.5, "b": 0.5})
    assert calm.p_value > 0.5
    assert calm.log_evidence < 0


def test_sequential_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="look 2"):
        sequential_sample_ratio([{"a": 5, "b": 5}, {"a": 4, "b": 9}], {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="looks"):
        sequential_sample_ratio([], {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="concentrations"):
        sequential_sample_ratio([{"a": 5, "b": 5}], {"a": 1, "b": 1}, concentrations=[0.0])


def test_daily_looks_are_safe_here_and_not_for_the_chi_square() -> None:
    rng = np.random.default_rng(28)
    runs, days, alpha = 400, 28, 0.01
    alarms = {"sequential": 0, "chi-square": 0}
    for _ in range(runs):
        treated = rng.binomial(300, 0.5, days).cumsum()
        looks = [{"a": 300 * (day + 1) - int(t), "b": int(t)} for day, t in enumerate(treated)]
        alarms["sequential"] += sequential_sample_ratio(looks, {"a": 1, "b": 1}).p_value <= alpha
        alarms["chi-square"] += any(
            (sample_ratio(look, {"a": 1, "b": 1}).p_value or 1) <= alpha for look in looks
        )
    # Four standard errors of 400 runs at 1 % are 2 points; the daily chi-square is known to reach about 7 %.
    assert alarms["sequential"] / runs <= alpha + 0.02
    assert alarms["chi-square"] / runs > 0.035
