"""Measures over rows in file order as arrays: a column for each measure, a value for each group of rows.

What is not plain (an expression of several columns, say) is no array measure, and is left to the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp

from exp_pipeline.model.metrics import Measure
from exp_pipeline.transform.columns import Flags, Numbers, Places, Rows, segments
from exp_pipeline.transform.conditions import Condition, array_condition

# Sums are those of decimals with nine places. Up to here a double holds them exactly.
_BILLION = 1e9
_EXACT = 2**53
_NUMBERS = frozenset(("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "DOUBLE"))
# The time of a row of events.
_MOMENT = "occurred_at"


@dataclass(frozen=True, slots=True)
class Lists:
    """A list for each group: those of group i stand from `offsets[i]` to `offsets[i + 1]`; none is no list.

    `names` are given where the values are texts, in order; `values` are then places in it.
    """

    offsets: NDArray[np.int64]
    values: NDArray[Any]
    names: tuple[str, ...] | None = None


Found = Numbers | Lists


class EventRows:
    """Which rows are events of a name, found once for all measures that ask."""

    def __init__(self, rows: Rows) -> None:
        column = rows.texts("event_name")
        self._rows, self._names = rows.count, column.names
        # Comparing bytes is cheaper; 255 stands for no name.
        few = len(column.names) < 255
        self._codes: NDArray[Any] = column.codes.astype(np.uint8) if few else column.codes
        self._found: dict[frozenset[str], Places] = {}

    def of(self, wanted: frozenset[str]) -> Places:
        """The rows that are events of these names; all rows where no name is given."""
        if wanted not in self._found:
            self._found[wanted] = self._of(wanted)
        return self._found[wanted]

    def _of(self, wanted: frozenset[str]) -> Places:
        if not wanted:
            return np.arange(self._rows)
        codes = [code for code, name in enumerate(self._names) if name in wanted]
        if not codes:
            return np.empty(0, np.int64)
        found = self._codes == codes[0]
        for code in codes[1:]:
            found |= self._codes == code
        return np.flatnonzero(found)


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows with the number of the group that each belongs to, in rising order; how many groups."""

    rows: Rows
    events: EventRows
    group: NDArray[np.int32]
    groups: int


# What a measure gives; None where this run's values are beyond what arrays hold exactly.
ArrayMeasure = Callable[[Grouped], Found | None]
_Aggregate = Callable[[Grouped, Places, NDArray[np.int32]], Found | None]


def array_measure(measure: Measure, types: Mapping[str, str]) -> ArrayMeasure | None:
    """A measure over events as one over arrays; None where it is not a plain one.

    `types` are the SQL types of the columns there are.
    """
    condition = None if measure.where is None else array_condition(measure.where, types)
    if measure.over != "events" or (measure.where is not None and condition is None):
        return None
    aggregate = _aggregate(measure, types)
    if aggregate is None:
        return None
    wanted = frozenset(measure.events)

    def found(grouped: Grouped) -> Found | None:
        chosen = _chosen(grouped, wanted, condition)
        return aggregate(grouped, chosen, grouped.group[chosen])

    return found


def _chosen(grouped: Grouped, wanted: frozenset[str], condition: Condition | None) -> Places:
    chosen = grouped.events.of(wanted)
    if condition is None or not len(chosen):
        return chosen
    return chosen[condition(grouped.rows, chosen if wanted else None).true]


def _aggregate(measure: Measure, types: Mapping[str, str]) -> _Aggregate | None:
    if measure.aggregate == "count":
        return _count
    if measure.aggregate in ("first", "last"):
        return _extreme(_MOMENT, measure.aggregate == "first")
    node = sqlglot.parse_one(measure.of or "", dialect="duckdb").unnest()
    if not isinstance(node, exp.Column) or node.table or node.name not in types:
        return None
    name, kind = node.name, types[node.name]
    if measure.aggregate == "distinct":
        return _distinct(name) if kind == "VARCHAR" else None
    if kind not in _NUMBERS:
        return None
    if measure.aggregate == "sum":
        return _sum(name, kind == "DOUBLE")
    if measure.aggregate in ("max", "min"):
        return _extreme(name, measure.aggregate == "min", as_double=True)
    return _values(name) if measure.aggregate == "values" else None


def _with_value(
    grouped: Grouped, name: str, rows: Places, group: NDArray[np.int32]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """A column's values at those of the rows that have one, and their groups."""
    found = grouped.rows.numbers(name, rows)
    if found.present is None:
        return found.values, group
    return found.values[found.present], group[found.present]


def _spread(groups: int, at: NDArray[Any], values: NDArray[Any]) -> Numbers:
    """Values of some groups as a column of all."""
    if len(at) == groups:
        return Numbers(values)
    column = np.zeros(groups, values.dtype)
    column[at] = values
    present: Flags = np.zeros(groups, np.bool_)
    present[at] = True
    return Numbers(column, present)


def _count(grouped: Grouped, rows: Places, group: NDArray[np.int32]) -> Found:
    return Numbers(np.bincount(group, minlength=grouped.groups))


def _extreme(name: str, least: bool, as_double: bool = False) -> _Aggregate:
    def found(grouped: Grouped, rows: Places, group: NDArray[np.int32]) -> Found:
        values, group = _with_value(grouped, name, rows, group)
        if as_double:
            values = values.astype(np.float64, copy=False)
        starts = segments(group)
        # To the engine NaN is above every number: it is the greatest, and the least only where alone.
        best = np.fmin.reduceat if least else np.maximum.reduceat
        return _spread(grouped.groups, group[starts], best(values, starts) if len(starts) else values)

    return found


def _sum(name: str, fractions: bool) -> _Aggregate:
    def found(grouped: Grouped, rows: Places, group: NDArray[np.int32]) -> Found | None:
        values, group = _with_value(grouped, name, rows, group)
        starts = segments(group)
        if not len(starts):
            return _spread(grouped.groups, starts, np.empty(0))
        scale = _BILLION if fractions else 1.0
        most = np.abs(values.astype(np.float64, copy=False)).max() * scale
        longest = np.diff(starts, append=len(values)).max()
        # NaN is not below anything either.
        if not most * longest < _EXACT:
            return None
        if fractions:
            scaled = values * _BILLION
            # Decimals round halves away from zero.
            whole = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64)
        else:
            whole = values.astype(np.int64, copy=False)
        sums = np.add.reduceat(whole, starts).astype(np.float64)
        return _spread(grouped.groups, group[starts], sums / scale)

    return found


def _values(name: str) -> _Aggregate:
    def found(grouped: Grouped, rows: Places, group: NDArray[np.int32]) -> Found:
        values, group = _with_value(grouped, name, rows, group)
        values = values.astype(np.float64, copy=False)
        order = np.argsort(values)
        # Numbers of 16 bits are sorted in linear time.
        small = group.astype(np.uint16) if grouped.groups < 2**16 else group
        order = order[np.argsort(small[order], kind="stable")]
        return Lists(_offsets(group, grouped.groups), values[order])

    return found


def _distinct(name: str) -> _Aggregate:
    def found(grouped: Grouped, rows: Places, group: NDArray[np.int32]) -> Found:
        column = grouped.rows.texts(name, rows)
        there = column.codes >= 0
        ranks, names = column.ranks()
        size = max(len(names), 1)
        pairs = np.unique(group[there].astype(np.int64) * size + ranks[column.codes[there]])
        return Lists(_offsets(pairs // size, grouped.groups), pairs % size, names)

    return found


def _offsets(group: NDArray[Any], groups: int) -> NDArray[np.int64]:
    offsets = np.zeros(groups + 1, np.int64)
    np.cumsum(np.bincount(group, minlength=groups), out=offsets[1:])
    return offsets
