"""Does the primary effect differ between the values of a declared segment, or between arms?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting, exploratory_because
from exp_pipeline.analysis.effects.methods import Answer, compare
from exp_pipeline.analysis.unit_sums import UNKNOWN
from exp_pipeline.analysis.units import SEGMENT, MetricUnits
from exp_pipeline.stats.groups.heterogeneity import (
    Heterogeneity,
    arm_heterogeneity,
    heterogeneity,
    heterogeneity_of_rows,
)
from exp_pipeline.stats.results import Effect, NotEstimable


@dataclass(frozen=True, slots=True)
class SegmentHeterogeneity:
    """How does one arm's effect differ over a segment's values?

    Numbers are in the metric's unit times its `per`, as in `Estimate`. flags: why it is exploratory.
    """

    segment: str
    arm: str
    answer: Heterogeneity | NotEstimable
    flags: tuple[str, ...] = ()


def segment_heterogeneity(
    setting: Setting, units: MetricUnits, told: Mapping[tuple[str, str, str], Answer]
) -> tuple[SegmentHeterogeneity, ...]:
    """Does the effect differ over the values of each declared segment, for each treatment arm?

    told: the effects that may be told, by segment, value and arm; only those values are compared. Where a
    randomised cluster has units of several of them, all are estimated together, by cluster. One p-value a
    segment and arm, not corrected.
    """
    found = []
    for segment in setting.brief.segments:
        if f"{SEGMENT}{segment.column}" not in units.frame.columns:
            continue
        for arm in setting.brief.treatments():
            effects = {
                value: answer
                for (name, value, side), answer in told.items()
                if name == segment.column and side == arm.name
            }
            answer = _of_segment(setting, units, f"{SEGMENT}{segment.column}", arm.name, effects)
            found.append(
                SegmentHeterogeneity(
                    segment.column, arm.name, answer, exploratory_because(setting.lock, "segment")
                )
            )
    return tuple(found)


def arms_heterogeneity(setting: Setting, units: MetricUnits) -> Heterogeneity | NotEstimable:
    """Do several treatment arms differ in their effect, and what is each learning from the others?

    From unadjusted means or shares of units, which share the control. NotEstimable for one treatment arm, for
    clusters, and for metrics that are no mean of units.
    """
    arms = [arm.name for arm in setting.brief.treatments()]
    frame = units.frame.filter(pl.col("arm") == setting.brief.control)
    size = frame.height, units.frame.height - frame.height
    if len(arms) < 2:
        return NotEstimable("arms", "there is one treatment arm: nothing to compare it with", *size)
    if setting.clustered or units.stratified or units.metric.estimand not in ("mean", "proportion"):
        reason = "arms are compared for means of units that were randomised one by one without strata"
        return NotEstimable("arms", reason, *size)
    if frame.height < 2:
        return NotEstimable("arms", "the control arm has fewer than two units", *size)
    effects: dict[str, Effect | NotEstimable] = {
        arm: compare(
            units, arm, setting.brief.control, clustered=False, adjusted=False, level=setting.level
        ).effect
        for arm in arms
    }
    values = frame["num"].to_numpy() * units.metric.per
    shared = float(np.var(values, ddof=0 if units.metric.estimand == "proportion" else 1)) / frame.height
    if not shared > 0.0:
        return NotEstimable("arms", "the control arm has no spread", *size)
    for arm, effect in effects.items():
        if isinstance(effect, Effect) and effect.se**2 <= shared:
            return NotEstimable("arms", f"{arm} has no spread of its own", *size)
    return arm_heterogeneity(effects, shared, level=setting.level)


def _of_segment(
    setting: Setting, units: MetricUnits, column: str, arm: str, effects: Mapping[str, Answer]
) -> Heterogeneity | NotEstimable:
    enough = [value for value, answer in effects.items() if isinstance(answer, Effect)]
    if setting.clustered:
        frame = units.frame.filter(pl.col("arm").is_in([setting.brief.control, arm])).with_columns(
            pl.col(column).cast(pl.String).fill_null(UNKNOWN).alias(column)
        )
        frame = frame.filter(pl.col(column).is_in(enough))
        spanning = frame.group_by("cluster").agg(pl.col(column).n_unique().alias("values"))
        if spanning.filter(pl.col("values") > 1).height:
            small = {value: answer for value, answer in effects.items() if isinstance(answer, NotEstimable)}
            return _together(setting, units, frame, column, arm, small)
    return heterogeneity(effects, level=setting.level)


def _together(
    setting: Setting,
    units: MetricUnits,
    frame: pl.DataFrame,
    column: str,
    arm: str,
    small: Mapping[str, NotEstimable],
) -> Heterogeneity | NotEstimable:
    treated = (frame["arm"] == arm).to_numpy()
    counts = int((~treated).sum()), int(treated.sum())
    if units.metric.estimand == "quantile":
        return NotEstimable("segment", "quantiles of clusters that span segments are not compared", *counts)
    covariates = frame.select(units.covariates).to_numpy() if units.covariates else None
    ratio = units.metric.estimand == "ratio"
    per = units.metric.per
    answer = heterogeneity_of_rows(
        frame["num"].to_numpy() * per,
        treated,
        frame[column].to_numpy(),
        frame["cluster"].rank("dense").cast(pl.Int64).to_numpy(),
        covariates=covariates,
        denominator=frame["den"].to_numpy() if ratio else None,
        level=setting.level,
    )
    if isinstance(answer, NotEstimable):
        return answer
    left = tuple((value, refusal.reason) for value, refusal in small.items())
    flags = answer.flags
    if units.stratified:
        flags = (*flags, "strata are not held fixed within segments")
    return replace(answer, left_out=(*answer.left_out, *left), flags=flags)
