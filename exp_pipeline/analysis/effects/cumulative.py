"""Effects on all data up to the end of each day, without a pass over the data for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.day_sums import SUMS, effect_of_sums
from exp_pipeline.analysis.effects.estimates import always_valid
from exp_pipeline.analysis.effects.increments import daily_parts, refusal
from exp_pipeline.analysis.effects.methods import Answer, compare, scaled
from exp_pipeline.analysis.effects.past_units import PastUnits
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Measure
from exp_pipeline.model.readout import CumulativePoint
from exp_pipeline.stats.results import Effect


@dataclass(frozen=True, slots=True)
class DayEffect:
    """What was the effect in one arm on all data up to the end of one day? n_*: units enrolled by then."""

    day: date
    arm: str
    n_control: int
    n_treatment: int
    effect: Answer


def effects_by_day(
    units: MetricUnits,
    days: pl.DataFrame,
    brief: Brief,
    *,
    clustered: bool,
    upto: date,
    level: float,
    measures: Mapping[str, Measure] | None = None,
) -> tuple[DayEffect, ...]:
    """How did a metric's effect come about, day by day?

    Only units of `units` count, each from its day of assignment on and within the metric's window, so the
    last day agrees with the unadjusted estimate. Strata of the draw are held fixed. Clusters are compared by
    their sums (a ratio of sums over clusters, delta method), in strata by the estimate's own regression on
    each day. Squares grow by what each day adds, so cost goes with the rows of `days`.
    measures: the definitions behind the columns of `days`; without one, a list holds different values and a
    number adds up. Empty where the metric has no daily parts (see `increments.refusal`).
    """
    metric, known = units.metric, measures or {}
    if refusal(metric, days, known) or not units.frame.height:
        return ()
    first = units.frame["assigned_date"].drop_nulls().min()
    if not isinstance(first, date):
        return ()
    calendar = [first + timedelta(days=step) for step in range((upto - first).days + 1)]
    if clustered and units.stratified:
        return tuple(_day_by_day(units, days, known, brief, calendar, level))
    layers = int(units.frame["layer"].to_numpy().max(initial=0)) + 1 if units.stratified else 1
    enrolled = _cumulated(
        units.frame.group_by("arm", pl.lit(0).alias("layer"), pl.col("assigned_date").alias("day")).agg(
            pl.len().cast(pl.Float64).alias("n")
        ),
        ("n",),
        calendar,
        1,
    )
    totals = _cumulated(
        _sums_by_day(units, days, known, clustered=clustered, upto=upto), SUMS, calendar, layers
    )
    found = []
    empty = np.zeros((layers, len(calendar), len(SUMS)))
    for position, day in enumerate(calendar):
        for arm in (treatment.name for treatment in brief.treatments()):
            n_control, n_treatment = (
                int(enrolled[side][0, position, 0]) if side in enrolled else 0
                for side in (brief.control, arm)
            )
            effect = effect_of_sums(
                metric,
                totals.get(brief.control, empty)[:, position],
                totals.get(arm, empty)[:, position],
                clustered=clustered,
                level=level,
            )
            effect = replace(scaled(effect, metric.per), n_control=n_control, n_treatment=n_treatment)
            found.append(DayEffect(day, arm, n_control, n_treatment, effect))
    return tuple(found)


def cumulative_points(effects: Sequence[DayEffect], brief: Brief) -> tuple[CumulativePoint, ...]:
    """How is the day by day effect drawn? With the interval of that one look, and the one for every look."""
    points = []
    for found in effects:
        effect = found.effect if isinstance(found.effect, Effect) else None
        always = always_valid(effect, brief) if effect else None
        points.append(
            CumulativePoint(
                day=found.day,
                arm=found.arm,
                n_control=found.n_control,
                n_treatment=found.n_treatment,
                absolute=effect.absolute if effect else None,
                ci_lower=effect.ci_lower if effect else None,
                ci_upper=effect.ci_upper if effect else None,
                always_valid_lower=always.lower if always else None,
                always_valid_upper=always.upper if always else None,
            )
        )
    return tuple(points)


def _sums_by_day(
    units: MetricUnits, days: pl.DataFrame, measures: Mapping[str, Measure], *, clustered: bool, upto: date
) -> pl.DataFrame:
    """What does each day add, by arm, to the sums over units or clusters, and to those of products?"""
    metric = units.metric
    layer = pl.col("layer") if units.stratified else pl.lit(0, dtype=pl.Int64).alias("layer")
    own = units.frame.select(
        "unit_id", "arm", "cluster", layer, pl.col("assigned_date").alias("enrolled")
    ).drop_nulls("enrolled")
    facts = daily_parts(metric, own, days.filter(pl.col("event_date") <= upto), measures)
    if metric.estimand == "proportion":
        so_far = pl.col("num").cum_sum().over("unit_id")
        facts = facts.with_columns(
            ((so_far > 0).cast(pl.Float64) - (so_far - pl.col("num") > 0).cast(pl.Float64)).alias("num")
        )
    key = "cluster" if clustered else "unit_id"
    columns = [pl.col(key).alias("key"), "arm", "layer", "day", "num", "den"]
    enrolment = own.select(
        pl.col(key).alias("key"),
        "arm",
        "layer",
        pl.col("enrolled").alias("day"),
        pl.lit(0.0).alias("num"),
        pl.lit(0.0 if metric.denominator else 1.0).alias("den"),
    )
    steps = (
        pl.concat([facts.select(columns), enrolment])
        .group_by("key", "arm", "layer", "day")
        .agg(pl.col("num").sum(), pl.col("den").sum())
        .sort("key", "arm", "day")
    )
    now = [pl.col(name).cum_sum().over("key", "arm").alias(f"{name}_now") for name in ("num", "den")]
    steps = steps.with_columns(
        *now, (pl.int_range(pl.len()).over("key", "arm") == 0).cast(pl.Float64).alias("n")
    )
    num, den = pl.col("num_now"), pl.col("den_now")
    num_before, den_before = num - pl.col("num"), den - pl.col("den")
    return (
        steps.with_columns(
            (num * num - num_before * num_before).alias("num_num"),
            (den * den - den_before * den_before).alias("den_den"),
            (num * den - num_before * den_before).alias("num_den"),
            (num * num * num - num_before * num_before * num_before).alias("num_num_num"),
        )
        .sort("arm", "layer", "day", "key")
        .group_by("arm", "layer", "day", maintain_order=True)
        .agg(pl.col(name).sum() for name in SUMS)
    )


def _cumulated(
    sums: pl.DataFrame, names: Sequence[str], calendar: Sequence[date], layers: int
) -> dict[str, NDArray[np.float64]]:
    """The sums so far: arm -> (layers, days, names)."""
    place = {day: position for position, day in enumerate(calendar)}
    steps: dict[str, NDArray[np.float64]] = {}
    for row in sums.select("arm", "layer", "day", *names).iter_rows():
        if row[2] in place:
            table = steps.setdefault(row[0], np.zeros((layers, len(calendar), len(names))))
            table[row[1], place[row[2]]] += row[3:]
    return {arm: np.cumsum(table, axis=1) for arm, table in steps.items()}


def _day_by_day(
    units: MetricUnits,
    days: pl.DataFrame,
    measures: Mapping[str, Measure],
    brief: Brief,
    calendar: Sequence[date],
    level: float,
) -> Iterator[DayEffect]:
    """The unadjusted estimate itself on the data up to each day, clustered: for designs with strata."""
    past = PastUnits.of(units, days, measures)
    for day in calendar:
        then = past.at(day + timedelta(days=1), whole_windows=False)
        for arm in (treatment.name for treatment in brief.treatments()):
            effect = compare(then, arm, brief.control, clustered=True, adjusted=False, level=level).effect
            yield DayEffect(day, arm, effect.n_control, effect.n_treatment, effect)
