from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exp_pipeline.stats.moments import Moments

ROWS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 30), st.just(2)),
    elements=st.floats(-1e6, 1e6, allow_nan=False, width=32),
)
# Merging rounds in the last digits of numbers of this size; products are of the size of its square.
CLOSE = 1e-12


def same(a: Moments, b: Moments, values: np.ndarray) -> bool:
    size = float(np.abs(values).max()) + 1.0
    return (
        a.n == b.n
        and np.allclose(a.means, b.means, rtol=0, atol=CLOSE * size)
        and np.allclose(a.products, b.products, rtol=CLOSE, atol=CLOSE * size**2 * len(values))
    )


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 30), st.randoms())
def test_parts_in_any_order_make_the_whole(values: np.ndarray, cut: int, random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    whole = Moments.from_array(values, ["a", "b"])
    cut = min(cut, len(values))
    left = Moments.from_array(values[order[:cut]], ["a", "b"])
    right = Moments.from_array(values[order[cut:]], ["a", "b"])
    assert same(left + right, whole, values)
    assert same(right + left, whole, values)
    assert same(right.select(["b", "a"]) + left, whole.select(["b", "a"]), values)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_taking_a_part_out_leaves_the_other(first: np.ndarray, second: np.ndarray) -> None:
    left, right = Moments.from_array(first, ["a", "b"]), Moments.from_array(second, ["a", "b"])
    assert same((left + right) - right, left, np.vstack([first, second]))
    assert ((left + right) - right - left).n == 0


def test_many_small_parts_equal_numpy() -> None:
    values = np.random.default_rng(1).normal(size=(5000, 3)) * [1, 100, 1e4] + [0, 1e3, -1e6]
    total = Moments.from_array(values[:0], ["a", "b", "c"])
    for part in np.array_split(values, 97):
        total = total + Moments.from_array(part, ["a", "b", "c"])
    # numpy is the brute force; both lose about 1e-16 a merge.
    np.testing.assert_allclose(total.products / 4999, np.cov(values.T), rtol=1e-11, atol=1e-9)


def test_a_large_mean_costs_no_digits_where_raw_sums_fail() -> None:
    values = np.random.default_rng(2).normal(size=100_000)
    shifted = values + 1e8
    rebuilt = sum(
        (Moments.from_array(part, ["x"]) for part in np.array_split(shifted, 50)),
        start=Moments.from_array([], ["x"]),
    )
    # The shift itself rounds each value to 1e-8, so 1e-6 is what can be asked.
    assert rebuilt.variance("x") == pytest.approx(np.var(values, ddof=1), rel=1e-6)
    raw = (np.sum(shifted**2) - shifted.size * shifted.mean() ** 2) / (shifted.size - 1)
    assert abs(raw - 1.0) > 0.1, "the raw sum of squares was expected to fail here"


def test_constants_have_exactly_no_variance() -> None:
    assert Moments.from_array(np.full(1001, 0.1) * 1e9, ["x"]).variance("x") == 0.0


def test_linear_combinations_are_those_of_the_rows() -> None:
    values = np.random.default_rng(3).normal(size=(40, 2))
    net = Moments.from_array(values, ["gain", "cost"]).linear(
        {"net": {"gain": 2.0, "cost": -0.5}, "gain": {"gain": 1.0}}
    )
    rows = np.column_stack([2.0 * values[:, 0] - 0.5 * values[:, 1], values[:, 0]])
    direct = Moments.from_array(rows, ["net", "gain"])
    assert net.names == ("net", "gain")
    np.testing.assert_allclose(net.products, direct.products, rtol=1e-12)
    assert net.covariance("net", "gain") == pytest.approx(np.cov(rows.T)[0, 1], rel=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Moments(-1, np.zeros(1), np.zeros((1, 1)), ("a",)), "n must be"),
        (lambda: Moments(1, np.zeros(2), np.zeros((1, 1)), ("a",)), "shapes"),
        (lambda: Moments(1, np.zeros(2), np.zeros((2, 2)), ("a", "a")), "differ"),
        (lambda: Moments.from_array([1.0, np.nan], ["a"]), "finite"),
        (lambda: Moments.from_array([[1.0, 2.0]], ["a"]), "shape"),
        (lambda: Moments.from_array([1.0], ["a"]).variance("a"), "two units"),
        (lambda: Moments.from_array([], ["a"]).mean("a"), "one unit"),
        (lambda: Moments.from_array([1.0], ["a"]).mean("b"), "'b'"),
        (lambda: Moments.from_array([1.0], ["a"]) + Moments.from_array([1.0], ["b"]), "same variables"),
        (lambda: Moments.from_array([1.0], ["a"]) - Moments.from_array([1.0, 2], ["a"]), "cannot take"),
    ],
)
def test_mistakes_are_named(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


def test_arrays_cannot_be_changed() -> None:
    moments = Moments.from_array([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="read-only"):
        moments.means[0] = 5.0
