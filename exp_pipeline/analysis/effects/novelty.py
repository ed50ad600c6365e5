"""Does the primary effect last? By week since each unit's own assignment, and early against late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.methods import Answer, compare, scaled
from exp_pipeline.analysis.effects.novelty_days import days_since, novelty_days, novelty_splits
from exp_pipeline.analysis.effects.novelty_trend import novelty_trend
from exp_pipeline.analysis.effects.unit_values import difference_of_values
from exp_pipeline.analysis.units import MetricUnits, Units
from exp_pipeline.model.metrics import (
    Measure,
    Metric,
    denominator_column,
    included_column,
    numerator_column,
    values_column,
)
from exp_pipeline.model.readout import NoveltyContrast, NoveltyDay, NoveltyPoint, NoveltySplit, NoveltyTrend
from exp_pipeline.stats.results import Effect, NotEstimable

WEEK = 7


@dataclass(frozen=True, slots=True)
class Novelty:
    """How did the primary effect change as units got used to the treatment?

    points: one a week and treatment arm. contrasts: one a treatment arm, last complete week less first. days:
    one a day since assignment and arm. splits: days after the brief's split less those before, one an arm.
    trend: one an arm.
    """

    points: tuple[NoveltyPoint, ...] = ()
    contrasts: tuple[NoveltyContrast, ...] = ()
    days: tuple[NoveltyDay, ...] = ()
    splits: tuple[NoveltySplit, ...] = ()
    trend: tuple[NoveltyTrend, ...] = ()


def novelty_of(
    setting: Setting,
    units: Units,
    primary: MetricUnits,
    days: pl.DataFrame,
    *,
    upto: date,
    weeks: pl.DataFrame | None = None,
    measures: Mapping[str, Measure] | None = None,
) -> Novelty:
    """What is the primary effect in each week since assignment, and is the last week unlike the first?

    days: unit_id, event_date and one column a measure, as in `ReadoutInputs`. Week 0 is the day of assignment
    and the six days after it. A week holds the units that have had all of it by the end of `upto`, active in
    it or not, so later weeks hold fewer; weeks that reach beyond the metric's window are left out. In a week
    a share counts units whose numerator is above zero in that week. Estimators are those of the unadjusted
    estimate. The contrast takes the same units in both weeks and the variance of what changed within them
    (ratios by the delta method). weeks: unit_id, week and the metric's parts in it, as in the snapshot; they
    serve every metric that has weeks. Without them measures must add up over days: quantiles and distinct
    counts do not, and are said to be not estimable. measures: what the columns of days are, for
    effects by day. Empty where no unit has an assignment day.
    """
    metric = primary.metric
    arms = [arm.name for arm in setting.brief.treatments()]
    parts = _parts_of_weeks(metric, weeks)
    refusal = "" if parts is not None else _refusal(metric, days)
    enrolled = units.frame.drop_nulls("assigned_date")
    if included_column(metric.name) in enrolled.columns:
        enrolled = enrolled.filter(pl.col(included_column(metric.name)).fill_null(False))
    if enrolled.is_empty():
        return Novelty()
    since = days_since(units, primary, days, measures or {}, upto)
    by_day = Novelty(days=novelty_days(setting, since), splits=novelty_splits(setting, since))
    if refusal:
        return replace(
            by_day,
            points=tuple(_not_estimable_point(arm, refusal) for arm in arms),
            contrasts=tuple(_no_contrast(arm, refusal) for arm in arms),
            trend=tuple(NoveltyTrend(arm=arm, estimable=False, reason=refusal) for arm in arms),
        )
    done = parts if parts is not None else _parts_of_days(metric, enrolled, days, upto)
    had = _weeks(primary, enrolled, done, upto)
    points, contrasts = [], []
    for arm in arms:
        for week, part in enumerate(had):
            points.append(_point(setting, part, arm, week))
        contrasts.append(_contrast(setting, had, arm))
    if not had:
        reason = "no unit has had a whole week since its assignment"
        if metric.window_days is not None and metric.window_days < WEEK:
            reason = f"the metric's window of {metric.window_days} days is shorter than a week"
        points = [_not_estimable_point(arm, reason) for arm in arms]
    trend = novelty_trend(setting, had)
    return replace(by_day, points=tuple(points), contrasts=tuple(contrasts), trend=trend)


def _refusal(metric: Metric, days: pl.DataFrame) -> str:
    if metric.estimand == "quantile":
        return "quantiles of a week cannot be had from daily sums"
    if not metric.adds_up:
        return f"a {metric.type.replace('_', ' ')} is one number a unit, not one a week"
    for name in metric.measures():
        if name not in days.columns:
            return f"the days hold no measure {name}"
        if not (days.schema[name].is_numeric() or days.schema[name] == pl.Null):
            return f"the measure {name} does not add up over days"
    return ""


def _parts_of_weeks(metric: Metric, weeks: pl.DataFrame | None) -> pl.DataFrame | None:
    """unit_id, week, num, den, values from a snapshot's weeks; None where they do not hold the metric."""
    if weeks is None:
        return None
    quantile = metric.estimand == "quantile"
    held = values_column(metric.name) if quantile else numerator_column(metric.name)
    base = denominator_column(metric.name)
    if held not in weeks.columns or (metric.denominator is not None and base not in weeks.columns):
        return None
    none = pl.lit(None, dtype=pl.Float64)
    return weeks.select(
        pl.col("unit_id").cast(pl.String),
        pl.col("week").cast(pl.Int64),
        (none if quantile else pl.col(held).cast(pl.Float64)).alias("num"),
        (pl.col(base).cast(pl.Float64) if metric.denominator is not None else none).alias("den"),
        (pl.col(held) if quantile else none.cast(pl.List(pl.Float64))).alias("values"),
    )


def _parts_of_days(metric: Metric, enrolled: pl.DataFrame, days: pl.DataFrame, upto: date) -> pl.DataFrame:
    """unit_id, week, num, den, values as sums over days."""
    number = pl.col(metric.numerator or "").cast(pl.Float64).fill_null(0.0)
    base = pl.col(metric.denominator).cast(pl.Float64).fill_null(0.0) if metric.denominator else pl.lit(0.0)
    age = (pl.col("event_date").cast(pl.Date) - pl.col("assigned_date")).dt.total_days()
    return (
        days.select(pl.col("unit_id").cast(pl.String), "event_date", number.alias("num"), base.alias("den"))
        .join(enrolled.select("unit_id", "assigned_date"), on="unit_id", how="inner")
        .with_columns(age.alias("age"))
        .filter((pl.col("age") >= 0) & (pl.col("event_date") <= upto))
        .with_columns((pl.col("age") // WEEK).alias("week"))
        .sort("unit_id", "event_date")
        .group_by("unit_id", "week", maintain_order=True)
        .agg(pl.col("num").sum(), pl.col("den").sum())
        .with_columns(pl.lit(None, dtype=pl.List(pl.Float64)).alias("values"))
    )


def _weeks(primary: MetricUnits, enrolled: pl.DataFrame, done: pl.DataFrame, upto: date) -> list[MetricUnits]:
    """The units of each week with what they did in it, week 0 first; the last has at least one unit."""
    metric = primary.metric
    stratum = pl.col("stratum").fill_null("").rank("dense") if primary.stratified else pl.lit(0)
    own = enrolled.select(
        "unit_id",
        "arm",
        "cluster",
        stratum.cast(pl.Int64).alias("layer"),
        ((pl.lit(upto) - pl.col("assigned_date")).dt.total_days() + 1).alias("days_had"),
    )
    longest = own["days_had"].max()
    whole = int(longest) // WEEK if isinstance(longest, int) else 0
    if metric.window_days is not None:
        whole = min(whole, metric.window_days // WEEK)
    number = (pl.col("num") > 0).cast(pl.Float64) if metric.estimand == "proportion" else pl.col("num")
    found = []
    for week in range(whole):
        frame = own.filter(pl.col("days_had") >= WEEK * (week + 1)).join(
            done.filter(pl.col("week") == week).drop("week"), on="unit_id", how="left"
        )
        if metric.estimand == "quantile":
            frame = frame.filter(pl.col("values").list.len().fill_null(0) > 0)
        else:
            frame = frame.with_columns(
                pl.col("num").fill_null(0.0), pl.col("den").fill_null(0.0)
            ).with_columns(number.alias("num"), *([] if metric.denominator else [pl.lit(1.0).alias("den")]))
        found.append(replace(primary, frame=frame.sort("unit_id"), covariates=(), notes=(), reasons=()))
    return found


def _point(setting: Setting, part: MetricUnits, arm: str, week: int) -> NoveltyPoint:
    control = setting.brief.control
    found = compare(
        part, arm, control, clustered=setting.clustered, adjusted=False, level=setting.level
    ).effect
    point = NoveltyPoint(
        week=week,
        arm=arm,
        n_control=found.n_control,
        n_treatment=found.n_treatment,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
    )
    if isinstance(found, NotEstimable):
        return point.model_copy(update={"estimable": False, "reason": found.reason})
    return point.model_copy(
        update={"absolute": found.absolute, "ci_lower": found.ci_lower, "ci_upper": found.ci_upper}
    )


def _contrast(setting: Setting, weeks: list[MetricUnits], arm: str) -> NoveltyContrast:
    """Last complete week less first, for the units that have had both; each arm needs the minimum cell."""
    control, least = setting.brief.control, max(setting.brief.minimum_cell, 2)
    full = [
        week
        for week, part in enumerate(weeks)
        if min(part.frame.filter(pl.col("arm") == side).height for side in (control, arm)) >= least
    ]
    last = max(full, default=0)
    if last == 0:
        return _no_contrast(arm, f"no second week holds {least} units of each arm")
    late = weeks[last]
    early = replace(late, frame=weeks[0].frame.join(late.frame.select("unit_id"), on="unit_id", how="semi"))
    answers = [
        compare(part, arm, control, clustered=setting.clustered, adjusted=False, level=setting.level).effect
        for part in (early, late)
    ]
    change = change_within_units(setting, early, late, arm)
    row = NoveltyContrast(
        arm=arm,
        early_week=0,
        late_week=last,
        n_control=change.n_control,
        n_treatment=change.n_treatment,
        early=answers[0].absolute if isinstance(answers[0], Effect) else None,
        late=answers[1].absolute if isinstance(answers[1], Effect) else None,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
        p_value=None,
    )
    if isinstance(change, NotEstimable):
        return row.model_copy(update={"estimable": False, "reason": change.reason})
    return row.model_copy(
        update={
            "absolute": change.absolute,
            "ci_lower": change.ci_lower,
            "ci_upper": change.ci_upper,
            "p_value": change.p_value,
        }
    )


def change_within_units(setting: Setting, early: MetricUnits, late: MetricUnits, arm: str) -> Answer:
    """By how much do arms differ in what changed within a unit from one stretch to another?

    Both hold the same units.
    """
    if early.metric.estimand == "quantile":
        sizes = [_size(late, side) for side in (setting.brief.control, arm)]
        return NotEstimable("within units", "a quantile over units has no value within one", *sizes)
    sides = []
    for name in (setting.brief.control, arm):
        frames = [part.frame.filter(pl.col("arm") == name).sort("unit_id") for part in (early, late)]
        values = []
        for frame in frames:
            if early.metric.denominator is None:
                values.append(frame["num"])
                continue
            base = float(frame["den"].sum())
            if base == 0.0:
                sizes = [_size(late, side) for side in (setting.brief.control, arm)]
                return NotEstimable("within units", "the denominator is zero in a week of an arm", *sizes)
            # A unit's part in the ratio (delta method): its mean over the arm is the ratio itself.
            ratio = float(frame["num"].sum()) / base
            values.append(ratio + (frame["num"] - ratio * frame["den"]) * (frame.height / base))
        sides.append(frames[1].with_columns((values[1] - values[0]).alias("num"), pl.lit(1.0).alias("den")))
    answer = difference_of_values(pl.concat(sides), arm, clustered=setting.clustered, level=setting.level)
    return scaled(answer, early.metric.per)


def _size(part: MetricUnits, arm: str) -> int:
    return part.frame.filter(pl.col("arm") == arm).height


def _not_estimable_point(arm: str, reason: str) -> NoveltyPoint:
    return NoveltyPoint(
        week=0,
        arm=arm,
        n_control=0,
        n_treatment=0,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
        estimable=False,
        reason=reason,
    )


def _no_contrast(arm: str, reason: str) -> NoveltyContrast:
    return NoveltyContrast(
        arm=arm,
        early_week=0,
        late_week=None,
        n_control=0,
        n_treatment=0,
        early=None,
        late=None,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
        p_value=None,
        estimable=False,
        reason=reason,
    )
