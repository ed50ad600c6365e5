"""Planned parts become whole units: in each stratum, over all, and on average."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.transform.rounding import rounded_counts

sizes_of = st.lists(st.integers(0, 40), min_size=1, max_size=12)
weights_of = st.lists(st.integers(1, 60), min_size=2, max_size=5)


@given(sizes=sizes_of, weights=weights_of, seed=st.integers(0, 9999))
def test_counts_are_within_one_of_the_plan_in_every_stratum_and_over_all(
    sizes: list[int], weights: list[int], seed: int
) -> None:
    counts = rounded_counts(sizes, weights, random.Random(seed).randrange)
    whole = sum(weights)
    for size, row in zip(sizes, counts, strict=True):
        assert sum(row) == size
        for count, weight in zip(row, weights, strict=True):
            assert abs(Fraction(size * weight, whole) - count) < 1
    for place, weight in enumerate(weights):
        total = sum(row[place] for row in counts)
        assert abs(Fraction(sum(sizes) * weight, whole) - total) < 1


class Choices:
    """Every run of choices, one after the other, each with its probability."""

    def __init__(self, wanted: list[int]) -> None:
        self.wanted, self.place, self.probability, self.sizes = wanted, 0, Fraction(1), []  # type: ignore[var-annotated]

    def __call__(self, below: int) -> int:
        chosen = self.wanted[self.place] if self.place < len(self.wanted) else 0
        self.place += 1
        self.sizes.append(below)
        self.probability /= below
        return chosen


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [([1, 1], [1, 1]), ([1, 1, 1], [1, 2]), ([1, 2], [1, 1, 1]), ([3, 1, 1], [2, 1, 1])],
)
def test_each_expected_count_is_exactly_the_planned_part(sizes: list[int], weights: list[int]) -> None:
    expected = [[Fraction(0)] * len(weights) for _ in sizes]
    total = Fraction(0)
    waiting: list[list[int]] = [[]]
    while waiting:
        start = waiting.pop()
        choices = Choices(start)
        counts = rounded_counts(sizes, weights, choices)
        for place in range(len(start), len(choices.sizes)):
            past = [*start, *[0] * (place - len(start))]
            waiting += [[*past, other] for other in range(1, choices.sizes[place])]
        total += choices.probability
        for row, column in product(range(len(sizes)), range(len(weights))):
            expected[row][column] += choices.probability * counts[row][column]
    assert total == 1
    whole = sum(weights)
    assert expected == [[Fraction(size * weight, whole) for weight in weights] for size in sizes]


@pytest.mark.parametrize("weights", [[0, 0], [2, -1], []])
def test_weights_must_make_sense(weights: list[int]) -> None:
    with pytest.raises(ValueError, match=r"weights|empty"):
        rounded_counts([1], weights, lambda below: 0)
