"""Which segment values are withheld, because a cell of theirs is small or would give a small one away?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.unit_sums import UNKNOWN

FloatArray = NDArray[np.float64]
Cell = tuple[str, str]

_MOST_STEPS = 50
# What is left of a sum that others give exactly is rounding.
_EXACT = 1e-8


def withheld_values(
    frame: pl.DataFrame, columns: Mapping[str, str], arms: Sequence[str], minimum: int
) -> frozenset[Cell]:
    """Which values of which segments may not be told? (column's name, value) each.

    frame: one row a unit with `arm`. columns: a segment's name -> its column there; gaps are one value. arms:
    all that are shown. A value with an arm of 1 to minimum - 1 units is withheld. So that totals give
    none of them away, more values are: in each column at least two, that hold `minimum` units together in
    each arm where one is small; and over all columns as many as it takes until no sum or difference of told
    cells and the total is a small one (seen by its rank, so that a class inside a told school counts). Values
    of few units go first.
    """
    table = _table(frame, columns, arms)
    small = {cell for cell, counts in table.counts.items() if bool(((counts > 0) & (counts < minimum)).any())}
    hidden = set(small)
    for _ in range(_MOST_STEPS):
        before = len(hidden)
        for column in columns:
            _within(table, column, small, hidden, minimum)
        _across(table, small, hidden)
        if len(hidden) == before:
            return frozenset(hidden)
    return frozenset(table.counts) if small else frozenset()


class _Table:
    """Units by value and arm, and which combinations of values there are."""

    __slots__ = ("counts", "places")

    def __init__(self, counts: dict[Cell, NDArray[np.int64]], places: dict[Cell, FloatArray]) -> None:
        self.counts = counts
        self.places = places

    def of(self, column: str) -> list[Cell]:
        return [cell for cell in self.counts if cell[0] == column]

    def size(self, cell: Cell) -> tuple[int, int, Cell]:
        return int(self.counts[cell].min()), int(self.counts[cell].sum()), cell


def _table(frame: pl.DataFrame, columns: Mapping[str, str], arms: Sequence[str]) -> _Table:
    named = frame.filter(pl.col("arm").is_in(arms)).select(
        "arm",
        *(
            pl.col(column).cast(pl.String).fill_null(UNKNOWN).alias(f"s {name}")
            for name, column in columns.items()
        ),
    )
    keys = [f"s {name}" for name in columns]
    if not keys:
        return _Table({}, {})
    atoms = (
        named.group_by(keys).agg(*((pl.col("arm") == arm).sum().alias(f"a {arm}") for arm in arms)).sort(keys)
    )
    held = atoms.select(f"a {arm}" for arm in arms).to_numpy().astype(np.int64)
    counts: dict[Cell, NDArray[np.int64]] = {}
    places: dict[Cell, FloatArray] = {}
    for name in columns:
        values = atoms[f"s {name}"]
        for value in values.unique().sort().to_list():
            here = (values == value).to_numpy()
            counts[name, value] = held[here].sum(axis=0)
            places[name, value] = here.astype(np.float64)
    return _Table(counts, places)


def _within(table: _Table, column: str, small: set[Cell], hidden: set[Cell], minimum: int) -> None:
    """Hide more of one column until what is hidden there is two values or more, and no small sum."""
    own = [cell for cell in hidden if cell[0] == column]
    if not any(cell in small for cell in own):
        return
    waiting = sorted((cell for cell in table.of(column) if cell not in hidden), key=table.size)
    narrow = np.any([(table.counts[c] > 0) & (table.counts[c] < minimum) for c in own if c in small], axis=0)
    while waiting:
        together = np.sum([table.counts[cell] for cell in own], axis=0)
        if len(own) > 1 and bool((together[narrow] >= minimum).all()):
            return
        nearest = waiting.pop(0)
        own.append(nearest)
        hidden.add(nearest)


def _across(table: _Table, small: set[Cell], hidden: set[Cell]) -> None:
    """Hide more until no small cell is a sum or difference of what is told."""
    told = [cell for cell in table.counts if cell not in hidden]
    if not small or not table.places:
        return
    total = np.ones_like(next(iter(table.places.values())))
    basis = _basis([total, *(table.places[cell] for cell in told)])
    for cell in sorted(small):
        place = table.places[cell]
        left = place - basis @ (basis.T @ place)
        if float(left @ left) > _EXACT * float(place @ place):
            continue
        beside = [one for one in told if bool(table.places[one] @ place)] or told
        if beside:
            hidden.add(min(beside, key=table.size))
        return


def _basis(rows: Sequence[FloatArray]) -> FloatArray:
    """Orthonormal columns that span these rows."""
    left, sizes, _ = np.linalg.svd(np.column_stack(rows), full_matrices=False)
    return np.asarray(left[:, sizes > 1e-9 * sizes[0]], dtype=np.float64)
