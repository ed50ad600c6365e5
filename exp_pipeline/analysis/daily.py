"""What is judged day by day: the sample ratio and the guardrails."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from exp_pipeline.analysis.deciding.guardrails import guardrail_result
from exp_pipeline.analysis.effects.cumulative import effects_by_day
from exp_pipeline.analysis.effects.histograms import with_edges
from exp_pipeline.analysis.effects.increments import refusal
from exp_pipeline.analysis.effects.methods import Answer, compare
from exp_pipeline.analysis.units import MetricUnits, frame_of_units
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Measure, Metric, included_column
from exp_pipeline.model.readout import GuardrailResult, SampleRatioDay
from exp_pipeline.stats.gates.srm import sample_ratio, sequential_sample_ratio
from exp_pipeline.stats.results import NotEstimable


def daily_sample_ratio(
    counts_by_day: Mapping[date, Mapping[str, int]], shares: Mapping[str, float]
) -> tuple[SampleRatioDay, ...]:
    """Did the arms get their planned shares, seen at the end of each day?

    counts_by_day: units that entered on the day, by arm (of clusters where clusters were randomised). Each
    result is on all units so far. `p_value` is the chi-square of that one look; `sequential_p_value` may be
    looked at every day. Units in an arm without a planned share are left out here (the integrity check
    reports them).
    """
    looks: list[dict[str, int]] = []
    so_far = dict.fromkeys(shares, 0)
    ordered = sorted(counts_by_day)
    for day in ordered:
        so_far = {arm: count + int(counts_by_day[day].get(arm, 0)) for arm, count in so_far.items()}
        looks.append(so_far)
    if not looks:
        return ()
    path = sequential_sample_ratio(looks, shares).p_values
    return tuple(
        SampleRatioDay(
            day=day,
            counts=counts,
            p_value=sample_ratio(counts, shares).p_value,
            sequential_p_value=sequential if sum(counts.values()) else None,
        )
        for day, counts, sequential in zip(ordered, looks, path, strict=True)
    )


def daily_guardrails(
    brief: Brief,
    metrics: Mapping[str, Metric],
    units: pl.DataFrame,
    days: pl.DataFrame,
    *,
    upto: date,
    measures: Mapping[str, Measure] | None = None,
) -> tuple[GuardrailResult, ...]:
    """Do the guardrails hold on all data up to the end of one day, and does a kill rule act?

    units: unit_id, arm, assigned_date (and cluster_id where clusters were randomised, `<metric>__included`
    where a metric speaks of some units only, the context that eligibility reads), one row a unit.
    days: unit_id, event_date and one column a measure; a quantile's is a list of values or of bins. measures:
    the definitions behind those columns. The whole of a metric's window is not waited for: harm that is seen
    early is harm. Metrics without daily parts (a funnel, say) cannot be told before the readout. Raises
    ValueError for a metric not in `metrics`.
    """
    known = measures or {}
    roster = frame_of_units(units, brief)
    present = roster.frame.filter(pl.col("assigned_date") <= upto)
    found = []
    for guardrail in brief.guardrails:
        if guardrail.metric not in metrics:
            raise ValueError(f"metrics lacks {guardrail.metric!r}; it holds: {', '.join(sorted(metrics))}")
        metric = metrics[guardrail.metric]
        nobody = dict.fromkeys(brief.shares(), 0)
        counted = included_column(metric.name)
        here = present.filter(pl.col(counted).fill_null(False)) if counted in present.columns else present
        part = MetricUnits(metric, here, (), False, nobody, nobody, ())
        effects = _effects_on(part, days, brief, known, clustered=roster.clustered, upto=upto)
        for arm in brief.treatments():
            why = refusal(metric, days, known) or "there is nothing to judge yet"
            unknown = NotEstimable("daily", f"{metric.title} cannot be judged day by day: {why}", 0, 0)
            effect = effects.get(arm.name, unknown)
            found.append(guardrail_result(guardrail, metric, arm.name, effect, brief))
    return tuple(found)


def _effects_on(
    units: MetricUnits,
    days: pl.DataFrame,
    brief: Brief,
    measures: Mapping[str, Measure],
    *,
    clustered: bool,
    upto: date,
) -> dict[str, Answer]:
    metric, level = units.metric, 1.0 - brief.alpha
    if metric.estimand != "quantile":
        by_day = effects_by_day(
            units, days, brief, clustered=clustered, upto=upto, level=level, measures=measures
        )
        return {found.arm: found.effect for found in by_day if found.day == upto}
    if metric.numerator is None or metric.numerator not in days.columns:
        return {}
    age = (pl.col("event_date") - pl.col("assigned_date")).dt.total_days()
    within = age >= 0
    if metric.window_days is not None:
        within = within & (age < metric.window_days)
    values = (
        days.filter(pl.col("event_date") <= upto)
        .select(pl.col("unit_id").cast(pl.String), "event_date", pl.col(metric.numerator).alias("value"))
        .join(units.frame.select("unit_id", "assigned_date"), on="unit_id")
        .filter(within)
        .explode("value")
        .drop_nulls("value")
    )
    measure = measures.get(metric.numerator)
    if measure is not None and measure.bins is not None:
        values = values.with_columns(with_edges(pl.col("value"), measure.bins).alias("value"))
    else:
        values = values.with_columns(pl.col("value").cast(pl.Float64)).sort("unit_id", "value")
    held = values.group_by("unit_id", maintain_order=True).agg(pl.col("value").alias("values"))
    frame = units.frame.join(held, on="unit_id").sort("unit_id")
    owned = MetricUnits(metric, frame, (), False, units.waiting, units.without_value, ())
    return {
        arm.name: compare(
            owned, arm.name, brief.control, clustered=clustered, adjusted=False, level=level
        ).effect
        for arm in brief.treatments()
    }
