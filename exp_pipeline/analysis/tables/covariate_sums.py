"""Sums of outcomes and covariates by group, part by part, where covariates may have gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.moments_table import Grouping, MomentsTable

FloatArray = NDArray[np.float64]


class CovariateSums:
    """Sums over parts in which covariates may have gaps.

    A gap counts as a number near the covariate's mean, and an indicator says that it was one; which number
    makes no difference once the indicator is there, so that it can be corrected to the mean at the end.
    third: whether the first variable's cubes are summed too.
    """

    def __init__(
        self, own: Sequence[str], covariates: Sequence[str], groups: int, *, third: bool = False
    ) -> None:
        self._own = list(own)
        self._covariates = list(covariates)
        self._fill: dict[str, float] = {}
        self._gaps: list[str] = []
        self._groups = groups
        self._third = third
        self._table = MomentsTable.empty(groups, self._names(), third=third)

    def _names(self) -> list[str]:
        return [*self._own, *self._covariates, *(f"{name}_missing" for name in self._gaps)]

    def add(self, own: list[FloatArray], covariates: list[FloatArray], grouping: Grouping) -> None:
        """Add one stretch of rows; own without gaps among the rows of `grouping`."""
        filled, indicators = list(own), {}
        for name, column in zip(self._covariates, covariates, strict=True):
            if np.isfinite(column.sum()):
                if name not in self._fill and column.size:
                    self._refill(name, float(column.mean()))
                filled.append(column)
                continue
            missing = ~np.isfinite(column)
            if name not in self._fill and not missing.all():
                self._refill(name, float(column[~missing].mean()))
            if name not in self._gaps:
                self._widen(name)
            filled.append(np.where(missing, self._fill.get(name, 0.0), column))
            indicators[name] = missing.astype(np.float64)
        nothing = np.zeros(filled[0].shape)
        filled += [indicators.get(name, nothing) for name in self._gaps]
        self._table = self._table + MomentsTable.of_columns(
            filled, grouping, self._names(), third=self._third
        )

    def _widen(self, name: str) -> None:
        """An indicator that was zero in all rows so far."""
        before = len(self._names())
        self._gaps.append(name)
        weights = np.eye(before + 1)[:, :before]
        self._table = self._table.linear(weights, self._names())

    def _refill(self, name: str, value: float) -> None:
        """Rows so far had only gaps in this covariate, filled with 0: fill them with `value`."""
        self._fill[name] = value
        if name in self._gaps:
            self._table = self._moved(name, value)

    def _moved(self, name: str, by: float) -> MomentsTable:
        names = self._names()
        weights = np.eye(len(names))
        weights[names.index(name), names.index(f"{name}_missing")] = by
        return self._table.linear(weights, names)

    def finished(self) -> tuple[MomentsTable, tuple[str, ...], tuple[str, ...]]:
        """The sums, the covariates' names in them, and what is said of covariates that nobody has.

        Gaps are filled with the mean of what was observed.
        """
        self._table = self._table.take(slice(0, self._groups - 1))
        whole = self._table.merged(np.zeros(len(self._table), dtype=np.int64), 1)
        n = int(whole.n[0])
        kept, notes, indicators = [], [], []
        for name in self._covariates:
            position = whole.position(name)
            if name not in self._gaps:
                kept.append(name)
                continue
            mark = f"{name}_missing"
            gaps = round(float(whole.means[0, whole.position(mark)]) * n)
            if gaps == n:
                notes.append(f"covariate {name} has no value for any unit: not adjusted for it")
                continue
            kept.append(name)
            if gaps:
                fill = self._fill[name]
                mean = (n * float(whole.means[0, position]) - gaps * fill) / (n - gaps)
                self._table = self._moved(name, mean - fill)
                indicators.append(mark)
        indicators = self._distinct(indicators)
        names = tuple(
            entry
            for name in kept
            for entry in (name, f"{name}_missing")
            if entry == name or entry in indicators
        )
        moments = self._table.select([*self._own, *names])
        return moments, names, tuple(notes)

    def _distinct(self, indicators: list[str]) -> list[str]:
        """Units that miss one covariate often miss them all: one indicator says it."""
        found: list[str] = []
        at = self._table.position
        square = self._table.products.sum(axis=0)
        for name in indicators:
            own = square[at(name), at(name)]
            same = [
                other
                for other in found
                if square[at(other), at(other)] == own == square[at(other), at(name)]
                and (self._table.means[:, at(other)] == self._table.means[:, at(name)]).all()
            ]
            if not same:
                found.append(name)
        return found
