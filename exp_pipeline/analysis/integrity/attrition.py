"""Who has no value of the primary metric, and what can that do to its effect?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.unit_sums import UNKNOWN
from exp_pipeline.analysis.units import PRE, SEGMENT, MetricUnits, Units
from exp_pipeline.model.metrics import included_column, mature_column
from exp_pipeline.stats.effects.adjustment import fill_missing
from exp_pipeline.stats.missing.attrition import (
    Attrition,
    AttritionBySegment,
    BaselineOfMissing,
    attrition,
    attrition_by_segment,
    baseline_of_missing,
)
from exp_pipeline.stats.missing.bounds import (
    EffectBounds,
    lee_bounds,
    worst_case_bounds,
)
from exp_pipeline.stats.missing.response_weights import WeightedEffect, response_weighted_difference
from exp_pipeline.stats.missing.tipping import TippingPoint, tipping_point
from exp_pipeline.stats.results import NotEstimable


@dataclass(frozen=True, slots=True)
class ArmAttrition:
    """What do missing values do to the comparison of one arm with control?

    Effects and bounds are in the metric's unit times its `per`. by_segment: one a declared segment. baseline
    and weighted need columns from before assignment; worst_case needs a share, which lies from 0 to 1.
    """

    arm: str
    rates: Attrition
    by_segment: tuple[tuple[str, AttritionBySegment], ...]
    baseline: BaselineOfMissing | NotEstimable
    lee: EffectBounds | NotEstimable
    worst_case: EffectBounds | NotEstimable
    weighted: WeightedEffect | NotEstimable
    tipping: TippingPoint | NotEstimable


def attrition_of(setting: Setting, units: Units, primary: MetricUnits) -> tuple[ArmAttrition, ...]:
    """Who is missing in each treatment arm and control, and what could the effect be with them?

    Missing is a unit that the metric includes, whose window is over, and that has no value. Bounds, weights
    and tipping points are of means and shares; strata of the brief tighten Lee's bounds. By cluster where
    clusters were randomised. Empty where nobody is missing.
    """
    metric, control = primary.metric, setting.brief.control
    frame = units.frame
    for column in (included_column(metric.name), mature_column(metric.name)):
        if column in frame.columns:
            frame = frame.filter(pl.col(column).cast(pl.Boolean).fill_null(False))
    seen = primary.frame.select("unit_id", "num", pl.lit(True).alias("observed"))
    frame = frame.join(seen, on="unit_id", how="left").with_columns(pl.col("observed").fill_null(False))
    frame = frame.sort("unit_id")
    if frame["observed"].all():
        return ()
    return tuple(
        _of_arm(setting, primary, frame.filter(pl.col("arm").is_in([control, arm.name])), arm.name)
        for arm in setting.brief.treatments()
    )


def _of_arm(setting: Setting, primary: MetricUnits, frame: pl.DataFrame, arm: str) -> ArmAttrition:
    observed, treated = frame["observed"].to_numpy(), (frame["arm"] == arm).to_numpy()
    cluster = _codes(frame["cluster"]) if setting.clustered else None
    level, metric = setting.level, primary.metric
    counts = int((~treated).sum()), int(treated.sum())
    by_segment = []
    for segment in setting.brief.segments:
        column = f"{SEGMENT}{segment.column}"
        if column in frame.columns:
            values = frame[column].cast(pl.String).fill_null(UNKNOWN).to_numpy()
            by_segment.append(
                (
                    segment.column,
                    attrition_by_segment(observed, treated, values, cluster=cluster, level=level),
                )
            )
    names, before = _before(frame)
    baseline: BaselineOfMissing | NotEstimable
    if names:
        baseline = baseline_of_missing(before, names, observed, treated, cluster=cluster)
    else:
        baseline = NotEstimable("baseline", "the data hold no columns from before assignment", *counts)
    lee: EffectBounds | NotEstimable
    worst: EffectBounds | NotEstimable
    weighted: WeightedEffect | NotEstimable
    tipping: TippingPoint | NotEstimable
    if metric.estimand not in ("mean", "proportion"):
        lee = worst = weighted = tipping = NotEstimable(
            "bounds", f"bounds are of means and shares of units, not of a {metric.estimand}", *counts
        )
    else:
        y = frame["num"].fill_null(0.0).to_numpy() * metric.per
        strata = _codes(frame["stratum"].fill_null("")) if primary.stratified else None
        lee = lee_bounds(y, observed, treated, strata=strata, cluster=cluster, level=level)
        if metric.estimand == "proportion":
            worst = worst_case_bounds(
                y, observed, treated, lowest=0.0, highest=metric.per, cluster=cluster, level=level
            )
        else:
            worst = NotEstimable("worst-case", "the metric has no declared lowest and highest value", *counts)
        tipping = tipping_point(y, observed, treated, cluster=cluster, level=level)
        weighted = (
            response_weighted_difference(y, observed, treated, before, cluster=cluster, level=level)
            if names
            else NotEstimable("ipw", "the data hold no columns from before assignment", *counts)
        )
    return ArmAttrition(
        arm=arm,
        rates=attrition(observed, treated, cluster=cluster, level=level),
        by_segment=tuple(by_segment),
        baseline=baseline,
        lee=lee,
        worst_case=worst,
        weighted=weighted,
        tipping=tipping,
    )


def _before(frame: pl.DataFrame) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Columns from before assignment, gaps filled with an indicator beside."""
    columns = sorted(column for column in frame.columns if column.startswith(PRE))
    raw = np.column_stack(
        [np.zeros((frame.height, 0))]
        + [frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy() for column in columns]
    )
    raw = np.where(np.isfinite(raw), raw, np.nan)
    if not columns or not frame.height:
        return (), np.zeros((frame.height, 0))
    filled = fill_missing(raw, [column.removeprefix(PRE) for column in columns])
    varied = [place for place in range(len(filled.names)) if np.ptp(filled.values[:, place]) > 0.0]
    return tuple(filled.names[place] for place in varied), filled.values[:, varied]


def _codes(names: pl.Series) -> NDArray[np.int64]:
    return names.rank("dense").cast(pl.Int64).to_numpy()
