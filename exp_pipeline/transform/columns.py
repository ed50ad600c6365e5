"""Columns as arrays: what array transforms read rows from, whatever file the rows stand in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of numbers, flags, days (since 1970) or times (microseconds since 1970).

    `present` says where there is a value; None where there is one in every row.
    """

    values: NDArray[Any]
    present: Flags | None = None

    def at(self, rows: Places) -> Numbers:
        """The column at some rows."""
        return Numbers(self.values[rows], None if self.present is None else self.present[rows])


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts, as codes into a list of different texts; -1 where there is none."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    def among(self, wanted: frozenset[str]) -> Flags:
        """For each code, and last for none, whether its text is one of those wanted."""
        return np.array([*(name in wanted for name in self.names), False], np.bool_)

    def ranks(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """For each code its place among the texts in order, and the texts in that order."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return ranks, tuple(self.names[code] for code in order)


class Rows(Protocol):
    """Rows that can be read column by column, all of them or those at some places (in rising order)."""

    @property
    def count(self) -> int:
        """How many rows."""

    def numbers(self, column: str, at: Places | None = None) -> Numbers:
        """A column of numbers, flags, days or times."""

    def texts(self, column: str, at: Places | None = None) -> Texts:
        """A column of texts."""


def segments(keys: NDArray[Any]) -> Places:
    """Where a new value begins in keys of which equal ones stand together; empty for no keys."""
    if not len(keys):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate(([0], starts))
