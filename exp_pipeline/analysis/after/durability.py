"""Does an effect last after its experiment's end? The same units, the same estimator, later days.

The last days of the experiment are set against as many days before a later date, so that sums, shares and
ratios of both are on one scale. Only units that were in before those last days count, in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.increments import refusal
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.effects.novelty import change_within_units
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.after import DurabilityRow
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.life import DURABILITY_DAYS
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.stats.results import Effect

WEEK = 7
# All looks and arms together may call a lasting effect a decaying one so often.
ALPHA = 0.05
_ADDED = ("count", "sum")


@dataclass(frozen=True, slots=True)
class Look:
    """One date on which an effect is looked at again; `due` is the first day that is not looked at."""

    days_after_end: int
    due: date
    days: int

    @property
    def first(self) -> date:
        """The first day of the later stretch."""
        return self.due - timedelta(days=self.days)


def looks_of(brief: Brief) -> tuple[Look, ...]:
    """On which dates is a brief's effect looked at again? Never, where it has a table of its own.

    Stretches are of one week, or of two where the experiment ran for four.
    """
    if brief.table is not None:
        return ()
    days = stretch_of(brief)
    return tuple(Look(after, brief.end + timedelta(days=after), days) for after in DURABILITY_DAYS)


def stretch_of(brief: Brief) -> int:
    """How many days does a stretch have?"""
    return WEEK * (2 if (brief.end - brief.start).days >= 4 * WEEK else 1)


def alpha_of(brief: Brief) -> float:
    """What may one look at one arm spend? Bonferroni: the looks come one by one, weeks apart."""
    return ALPHA / (len(DURABILITY_DAYS) * len(brief.treatments()))


def refused(brief: Brief, metric: Metric, facts: pl.DataFrame, measures: Mapping[str, Measure]) -> str:
    """Why can the effect on a metric not be followed? Empty where it can."""
    if (brief.end - brief.start).days < 2 * WEEK:
        return "it ran for fewer than 14 days: no week of it holds units that had settled"
    if why := refusal(metric, facts, measures):
        return why
    for name in metric.measures():
        if name in measures and measures[name].aggregate not in _ADDED:
            return f"the measure {name} ({measures[name].aggregate}) does not add up over days"
    return ""


def base_row(brief: Brief, metric: Metric, look: Look, arm: str, snapshot: str) -> DurabilityRow:
    """The row of one look and arm, before anything is known."""
    return DurabilityRow(
        experiment=brief.name,
        version=brief.version,
        snapshot=snapshot,
        metric=metric.name,
        title=metric.title,
        arm=arm,
        against="control",
        days_after_end=look.days_after_end,
        due=look.due,
        days=look.days,
        level=1.0 - brief.alpha,
        alpha=alpha_of(brief),
    )


def durability_row(
    setting: Setting, primary: MetricUnits, facts: pl.DataFrame, look: Look, arm: str
) -> DurabilityRow:
    """What is left of the effect in one arm at one look?

    facts: unit_id, event_date and the metric's measures, for the days from the last stretch of the experiment
    to the look. A decay is told one-sided, for effects that were a gain: what never helped cannot fade.
    """
    brief, metric = setting.brief, primary.metric
    row = base_row(brief, metric, look, arm, setting.snapshot)
    since = brief.end - timedelta(days=look.days)
    settled = replace(
        primary,
        frame=primary.frame.filter(pl.col("assigned_date") < since),
        covariates=(),
        notes=(),
        reasons=(),
    )
    sizes = {side: settled.frame.filter(pl.col("arm") == side).height for side in (brief.control, arm)}
    row = row.model_copy(update={"n_control": sizes[brief.control], "n_treatment": sizes[arm]})
    least = max(brief.minimum_cell, 2)
    if min(sizes.values()) < least:
        said = f"an arm has fewer than {least} units that were in it before {since}"
        return row.model_copy(update={"estimable": False, "reason": said, "n_control": 0, "n_treatment": 0})
    early, late = (
        _in(settled, facts, first, first + timedelta(days=look.days)) for first in (since, look.first)
    )
    whole = _in(settled, facts, None, look.due)
    answers = [
        compare(
            part, arm, brief.control, clustered=setting.clustered, adjusted=False, level=setting.level
        ).effect
        for part in (early, late, whole)
    ]
    change = change_within_units(setting, early, late, arm)
    gain, later, total = (one if isinstance(one, Effect) else None for one in answers)
    if gain is None or later is None or not isinstance(change, Effect):
        reasons = [one.reason for one in (*answers[:2], change) if not isinstance(one, Effect)]
        return row.model_copy(update={"estimable": False, "reason": reasons[0]})
    good = 1.0 if metric.direction == "increase" else -1.0
    worse = change.absolute * good < 0
    p_value = change.p_value / 2.0 if worse else 1.0 - change.p_value / 2.0
    return row.model_copy(
        update={
            "gain": gain.absolute,
            "later": later.absolute,
            "change": change.absolute,
            "ci_lower": change.ci_lower,
            "ci_upper": change.ci_upper,
            "p_value": p_value,
            "cumulative": None if total is None else total.absolute,
            "cumulative_ci_lower": None if total is None else total.ci_lower,
            "cumulative_ci_upper": None if total is None else total.ci_upper,
            "decayed": gain.absolute * good > 0 and p_value < alpha_of(brief),
        }
    )


def _in(units: MetricUnits, facts: pl.DataFrame, first: date | None, end: date) -> MetricUnits:
    """What the units did from `first` (or from the day after their own assignment) until before `end`."""
    metric = units.metric
    own = units.frame.drop("num", "den")
    began = pl.col("event_date") > pl.col("assigned_date") if first is None else pl.col("event_date") >= first
    measures = [
        (pl.col(name).cast(pl.Float64).fill_null(0.0) if name else pl.lit(0.0)).alias(part)
        for part, name in (("num", metric.numerator), ("den", metric.denominator))
    ]
    sums = (
        facts.select(pl.col("unit_id").cast(pl.String), "event_date", *measures)
        .join(own.select("unit_id", "assigned_date"), on="unit_id", how="inner")
        .filter(began & (pl.col("event_date") < end))
        .sort("unit_id", "event_date")
        .group_by("unit_id", maintain_order=True)
        .agg(pl.col("num").sum(), pl.col("den").sum())
    )
    number = (pl.col("num") > 0).cast(pl.Float64) if metric.estimand == "proportion" else pl.col("num")
    frame = (
        own.join(sums, on="unit_id", how="left")
        .with_columns(pl.col("num").fill_null(0.0), pl.col("den").fill_null(0.0))
        .with_columns(number.alias("num"), *([] if metric.denominator else [pl.lit(1.0).alias("den")]))
        .sort("unit_id")
    )
    return replace(units, frame=frame)


def missing_days(first: date, end: date, known: Sequence[date]) -> list[date]:
    """Which days from `first` until before `end` are not known?"""
    there = set(known)
    days = (first + timedelta(days=step) for step in range((end - first).days))
    return [day for day in days if day not in there]
