"""What each day adds to a unit's numerator and denominator, for measures that are more than plain sums."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from exp_pipeline.model.metrics import Aggregate, Measure, Metric

_WITHOUT: tuple[Aggregate, ...] = ("min", "first", "last", "values", "histogram")


def refusal(metric: Metric, days: pl.DataFrame, measures: Mapping[str, Measure]) -> str:
    """Why a metric cannot be followed from day to day; empty where it can."""
    if not metric.adds_up:
        return f"a {metric.type.replace('_', ' ')} is one number a unit and has no daily parts"
    for name in metric.measures():
        if name not in days.columns:
            return f"the days hold no measure {name}"
        measure = measures.get(name)
        if measure is not None and measure.aggregate in _WITHOUT:
            return f"the measure {name} ({measure.aggregate}) does not add up over days"
    return ""


def daily_parts(
    metric: Metric, own: pl.DataFrame, days: pl.DataFrame, measures: Mapping[str, Measure]
) -> pl.DataFrame:
    """What did each unit's day add to its numerator and denominator, so that sums over days give its totals?

    own: unit_id and `enrolled` (its assignment day) beside what else the caller needs, a row a unit. days:
    unit_id, event_date and the measures. Returns own's columns, `day`, `num`, `den`, sorted, only days in the
    metric's window. A count of different values adds those not seen before; a largest value adds what it rose
    by. A retention's numerator counts from its first day on.
    """
    told = sorted({name for name in (metric.numerator, metric.denominator) if name is not None})
    facts = (
        days.select(pl.col("unit_id").cast(pl.String), pl.col("event_date").alias("day"), *told)
        .join(own, on="unit_id", how="inner")
        .filter(pl.col("day") >= pl.col("enrolled"))
    )
    if metric.window_days is not None:
        facts = facts.filter(pl.col("day") < pl.col("enrolled") + pl.duration(days=metric.window_days))
    facts = facts.sort("unit_id", "day")
    num = _added(facts, metric.numerator, measures).alias("num")
    den = _added(facts, metric.denominator, measures).alias("den")
    facts = facts.select(*own.columns, "day").with_columns(num, den)
    if metric.from_day is not None:
        counts = pl.col("day") >= pl.col("enrolled") + pl.duration(days=metric.from_day)
        facts = facts.with_columns(pl.when(counts).then("num").otherwise(0.0).alias("num"))
    return facts


def _added(facts: pl.DataFrame, name: str | None, measures: Mapping[str, Measure]) -> pl.Series:
    """By day of a unit (sorted), what its measure rose by."""
    if name is None:
        return pl.zeros(facts.height, pl.Float64, eager=True)
    if isinstance(facts.schema[name], pl.List):
        return _new_values(facts, name)
    number = pl.col(name).cast(pl.Float64)
    measure = measures.get(name)
    if measure is None or measure.aggregate != "max":
        return facts.select(number.fill_null(0.0)).to_series()
    so_far = facts.select(number.cum_max().forward_fill().over("unit_id").fill_null(0.0), "unit_id")
    return so_far.select(pl.col(name) - pl.col(name).shift(1).over("unit_id").fill_null(0.0)).to_series()


def _new_values(facts: pl.DataFrame, name: str) -> pl.Series:
    """How many values of a day's list the unit had on no earlier day."""
    numbered = facts.select("unit_id", pl.col(name)).with_row_index("row")
    new = (
        numbered.explode(name)
        .drop_nulls(name)
        .group_by("unit_id", name)
        .agg(pl.col("row").min())
        .group_by("row")
        .agg(pl.len().cast(pl.Float64).alias("new"))
    )
    return numbered.join(new, on="row", how="left", maintain_order="left")["new"].fill_null(0.0)
