from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exp_pipeline.stats.effects.skew import ThirdMoments
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.moments_table import Grouping, MomentsTable

NAMES = ("a", "b")
ROWS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.just(2)),
    elements=st.floats(-1e6, 1e6, allow_nan=False, width=32),
)
# Merging rounds in the last digits of numbers of this size; products are of the size of its square.
CLOSE = 1e-12


def table_of(rows: np.ndarray, codes: np.ndarray, groups: int) -> MomentsTable:
    return MomentsTable.of_columns([rows[:, 0].copy(), rows[:, 1].copy()], Grouping.of(codes, groups), NAMES)


def same(a: MomentsTable, b: MomentsTable, size: float) -> bool:
    return (
        bool((a.n == b.n).all())
        and np.allclose(a.means, b.means, rtol=0, atol=CLOSE * size)
        and np.allclose(a.products, b.products, rtol=CLOSE, atol=CLOSE * size**2 * 80)
    )


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 6), st.randoms())
def test_each_group_has_the_moments_of_its_rows(rows: np.ndarray, groups: int, random: object) -> None:
    codes = np.array([random.randrange(groups) for _ in rows])  # type: ignore[attr-defined]
    table = table_of(rows, codes, groups)
    size = float(np.abs(rows).max()) + 1.0
    for place in range(groups):
        alone = Moments.from_array(rows[codes == place], NAMES)
        found = table.group(place)
        assert found.n == alone.n
        np.testing.assert_allclose(found.means, alone.means, rtol=0, atol=CLOSE * size)
        np.testing.assert_allclose(found.products, alone.products, rtol=CLOSE, atol=CLOSE * size**2 * 40)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.randoms())
def test_adding_taking_out_and_merging_agree(first: np.ndarray, second: np.ndarray, random: object) -> None:
    both = np.vstack([first, second])
    codes = np.array([random.randrange(3) for _ in both])  # type: ignore[attr-defined]
    size = float(np.abs(both).max()) + 1.0
    left = table_of(first, codes[: len(first)], 3)
    right = table_of(second, codes[len(first) :], 3)
    whole = table_of(both, codes, 3)
    assert same(left + right, whole, size)
    assert same(right + left, whole, size)
    assert same((left + right) - right, left, size)
    into = np.array([1, 0, 1])
    assert same(whole.merged(into, 2), table_of(both, into[codes], 2), size)
    order = np.array([2, 0, 1])
    assert same(whole.take(order).merged(into[order], 2), whole.merged(into, 2), size)


def test_a_large_mean_costs_no_digits_in_any_order() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(1e8, 1.0, 200_000)
    values = (values - values.mean()) / values.std(ddof=1) + 1e8
    codes = rng.integers(0, 4, values.size)
    one = table_of(np.column_stack([values, values]), codes, 4).merged(np.zeros(4, dtype=np.int64), 1)
    # The size of one step of a double at 1e8 is 1.5e-8, so the standardised values are off by that.
    assert one.group(0).variance("a") == pytest.approx(1.0, abs=1e-6)
    parts = MomentsTable.empty(4, NAMES)
    for part in np.array_split(rng.permutation(values.size), 13):
        parts = parts + table_of(np.column_stack([values[part], values[part]]), codes[part], 4)
    other = parts.merged(np.zeros(4, dtype=np.int64), 1)
    assert other.group(0).variance("a") == pytest.approx(one.group(0).variance("a"), rel=1e-12)


def test_groups_may_be_thinned_to_the_rows_that_count() -> None:
    rng = np.random.default_rng(6)
    rows, codes, kept = rng.normal(size=(500, 2)), rng.integers(0, 7, 500), rng.random(500) < 0.4
    grouping = Grouping.of(codes, 7).only(kept)
    found = MomentsTable.of_columns([rows[:, 0], rows[:, 1]], grouping, NAMES)
    assert same(found, table_of(rows[kept], codes[kept], 7), 5.0)
    assert int(Grouping.of(codes, 7).only(np.zeros(500, dtype=bool)).counts.sum()) == 0


def test_linear_sums_and_selection_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(7)
    rows, codes = rng.normal(size=(300, 2)), rng.integers(0, 3, 300)
    weights = np.array([[1.0, -2.0], [0.5, 0.0]])
    table = table_of(rows, codes, 3).linear(weights, ("net", "half"))
    assert same(table.select(("half", "net")), table_of((rows @ weights.T)[:, ::-1], codes, 3), 10.0)
    assert table.position("half") == 1


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.randoms())
def test_cubes_are_those_of_the_rows_however_tables_are_put_together(
    first: np.ndarray, second: np.ndarray, random: object
) -> None:
    both = np.vstack([first, second])
    codes = np.array([random.randrange(3) for _ in both])  # type: ignore[attr-defined]
    size = float(np.abs(both).max()) + 1.0

    def cubed(rows: np.ndarray, groups: np.ndarray, count: int = 3) -> MomentsTable:
        columns = [rows[:, 0].copy(), rows[:, 1].copy()]
        return MomentsTable.of_columns(columns, Grouping.of(groups, count), NAMES, third=True)

    left, right = cubed(first, codes[: len(first)]), cubed(second, codes[len(first) :])
    into = np.array([1, 0, 1])
    for found, rows, groups in (
        (left + right, both, codes),
        (right + left + MomentsTable.empty(3, NAMES, third=True), both, codes),
        ((left + right) - right, first, codes[: len(first)]),
        ((left + right).merged(into, 2), both, into[codes]),
        (left.take(np.array([0, 1, 2])).select(("a",)), first, codes[: len(first)]),
        (left.linear(np.array([[2.0, 0.0]]), ("c",)), 2.0 * first, codes[: len(first)]),
    ):
        for place in range(len(found)):
            alone, third = ThirdMoments.from_array(rows[groups == place, 0]), found.third(place)
            assert third is not None
            assert third.n == alone.n
            # Up to 80 cubes of twice the size, each off in the last digits.
            assert third.cubes == pytest.approx(alone.cubes, rel=1e-9, abs=1e-11 * (2.0 * size) ** 3 * 80)
    assert left.select(("b", "a")).cubes is None
    assert left.linear(np.array([[1.0, 1.0]]), ("c",)).third(0) is None


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="from 0 to 1, got 0 to 2"):
        Grouping.of(np.array([0, 2]), 2)
    with pytest.raises(ValueError, match="must be finite"):
        table_of(np.array([[1.0, np.nan]]), np.array([0]), 1)
    table = table_of(np.ones((3, 2)), np.array([0, 0, 1]), 2)
    with pytest.raises(ValueError, match="cannot take 2 units out of 1 in group 1"):
        table - table.take(np.array([1, 0]))
    with pytest.raises(ValueError, match="one of"):
        table.select(("c",))
    with pytest.raises(ValueError, match="same variables and groups"):
        table + table.take(slice(0, 1))
