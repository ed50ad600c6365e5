"""The units of a metric as an earlier day saw them, so that the estimator of today can be asked of then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from exp_pipeline.analysis.effects.increments import daily_parts, refusal
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.metrics import Measure

# A snapshot's value and the sum of a unit's days may differ by rounding; more units than this is no rounding.
_MOST_OTHERS = 0.001


@dataclass(frozen=True, slots=True)
class PastUnits:
    """Which values had the units of a metric on each day? parts: unit_id, day, num, den, what each added."""

    units: MetricUnits
    parts: pl.DataFrame

    @classmethod
    def of(cls, units: MetricUnits, days: pl.DataFrame, measures: Mapping[str, Measure]) -> PastUnits:
        """What did each day add? Raises ValueError where `refusal_of` has a reason."""
        reason = refusal(units.metric, days, measures)
        if reason:
            raise ValueError(f"days must hold what {units.metric.name!r} is made of: {reason}")
        own = units.frame.select("unit_id", pl.col("assigned_date").alias("enrolled"))
        parts = daily_parts(units.metric, own.drop_nulls("enrolled"), days, measures)
        return cls(units, parts.select("unit_id", "day", "num", "den"))

    def at(self, end: date, *, whole_windows: bool) -> MetricUnits:
        """The units that were assigned before `end` (excluded) with what they had by then.

        whole_windows: only units whose window was over by then, as a readout of that day took them.
        """
        metric = self.units.metric
        before = pl.col("assigned_date") < end
        if whole_windows and metric.days_needed:
            before = pl.col("assigned_date") + pl.duration(days=metric.days_needed) <= end
        sums = (
            self.parts.filter(pl.col("day") < end)
            .sort("unit_id", "day")
            .group_by("unit_id", maintain_order=True)
            .agg(pl.col("num").sum(), pl.col("den").sum())
        )
        number = pl.col("num").fill_null(0.0)
        if metric.estimand == "proportion":
            number = (number > 0.0).cast(pl.Float64)
        base = pl.col("den").fill_null(0.0) if metric.denominator is not None else pl.lit(1.0).alias("den")
        frame = (
            self.units.frame.filter(before)
            .drop("num", "den")
            .join(sums, on="unit_id", how="left", maintain_order="left")
            .with_columns(number.alias("num"), base)
        )
        return replace(self.units, frame=frame)

    def agrees(self, end: date) -> bool:
        """Do the days up to `end` add up to the values of the snapshot, but for rounding?"""
        now, then = self.units.frame, self.at(end, whole_windows=False).frame
        if now.height != then.height:
            return False
        both = now.select("unit_id", "num", "den").join(
            then.select("unit_id", pl.col("num").alias("num_then"), pl.col("den").alias("den_then")),
            on="unit_id",
        )
        apart = pl.any_horizontal(
            (pl.col(name) - pl.col(f"{name}_then")).abs() > 1e-9 * (1.0 + pl.col(name).abs())
            for name in ("num", "den")
        )
        return both.filter(apart).height <= _MOST_OTHERS * max(now.height, 1)


def refusal_of(units: MetricUnits, days: pl.DataFrame | None, measures: Mapping[str, Measure]) -> str:
    """Why can the past of a metric not be had from days? Empty where it can."""
    return "there are no days" if days is None else refusal(units.metric, days, measures)
