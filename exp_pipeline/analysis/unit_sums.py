"""Moments of one metric by arm, segment value and stratum: made once, used by every estimate of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.stats.moments_table import Grouping, MomentsTable

UNKNOWN = "unknown"
_FEW_LABELS = 16


@dataclass(frozen=True, slots=True, eq=False)
class UnitSums:
    """What is known of every arm in every segment value in every stratum?

    table: variables num, den (where it is a ratio) and the covariates; group (arm x values + value) x strata
    + stratum. values: segment values in order, one nameless value where no segment was asked for.
    """

    arms: tuple[str, ...]
    values: tuple[str, ...]
    strata: int
    table: MomentsTable

    def arm(self, name: str, value: str | None = None) -> MomentsTable:
        """The moments of one arm by stratum, (strata,): of all units, or of one segment value."""
        if name not in self.arms or (value is not None and value not in self.values):
            return MomentsTable.empty(self.strata, self.table.names, third=self.table.cubes is not None)
        place, width = self.arms.index(name), len(self.values)
        own = self.table.take(slice(place * width * self.strata, (place + 1) * width * self.strata))
        if value is not None:
            at = self.values.index(value) * self.strata
            return own.take(slice(at, at + self.strata))
        if width == 1:
            return own
        return own.merged(np.tile(np.arange(self.strata), width), self.strata)


def sums_of(
    frame: pl.DataFrame,
    covariates: tuple[str, ...],
    *,
    ratio: bool,
    stratified: bool,
    segment: str | None = None,
    third: bool = False,
) -> UnitSums:
    """Which sums have these units? frame: as `MetricUnits.frame`, without gaps in num, den, covariates.

    ratio: whether den is needed too. third: whether cubes of num are.
    """
    arms, arm = _coded(frame["arm"])
    values: tuple[str, ...] = ("",)
    value = np.zeros(frame.height, dtype=np.int64)
    if segment is not None:
        values, value = _coded(frame[segment].cast(pl.String).fill_null(UNKNOWN))
    strata, stratum = 1, np.zeros(frame.height, dtype=np.int64)
    if stratified:
        layers, stratum = np.unique(frame["layer"].to_numpy(), return_inverse=True)
        strata = max(layers.size, 1)
    groups = max(len(arms) * len(values) * strata, 1)
    codes = arm if len(values) == strata == 1 else (arm * len(values) + value) * strata + stratum
    names = ("num", *(("den",) if ratio else ()), *covariates)
    columns = [frame[name].cast(pl.Float64).to_numpy() for name in names]
    grouping = Grouping.of(codes.astype(np.int64), groups)
    table = MomentsTable.of_columns(columns, grouping, names, third=third)
    return UnitSums(arms, values, strata, table)


def _coded(names: pl.Series) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    labels = names.unique().sort()
    if not labels.len():
        return (), np.zeros(0, dtype=np.int64)
    if labels.len() > _FEW_LABELS:
        codes = names.cast(pl.Enum(labels)).to_physical().cast(pl.Int64).to_numpy()
        return tuple(labels.to_list()), codes
    codes = np.zeros(names.len(), dtype=np.int64)
    for place, label in enumerate(labels):
        # Comparing is several times faster than looking up, while labels are few.
        codes[(names == label).to_numpy()] = place
    return tuple(labels.to_list()), codes
