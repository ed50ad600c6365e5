"""The days before a start as if an experiment without treatment had run in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric, definitions
from exp_pipeline.stats.power.enrolment import Visits
from exp_pipeline.steps.again.backfill_needs import history_measures, history_window
from exp_pipeline.steps.behaviour.facts import offer_learner_days
from exp_pipeline.steps.behaviour.learner_days import event_measures, session_measures
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.steps.experiments.dataset import build_pre_period, mad_query, pre_days, pre_measures
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.store.engine import quote
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import metrics as metric_sql
from exp_pipeline.transform import queries

# A plan looks back so far at most: what was before is another term.
LOOK_BACK_DAYS = 120
# Units are let in over a week at least, so that each weekday's are among them.
_ENROLMENT_DAYS = 7
# A metric without a window is followed as long as the experiment will run, but not longer than this.
_LONGEST_FOLLOWED = 28


@dataclass(frozen=True, slots=True)
class PastDays:
    """Which days before a start are history: those summed up with every measure, without a gap in that.

    window: from the first of them to the start; None where there are none. days: how many hold events.
    lacking: days that the plan wants and that were not summed up with every measure.
    """

    window: Window | None
    days: int
    lacking: int


@dataclass(frozen=True, slots=True)
class PastUnits:
    """What the learners of the history did.

    mad: one row a learner, as the dataset of the brief would hold it, everybody in control and assigned when
    first seen from `first_assigned` on. seen: metric -> learners who did what it is made of. learners: in the
    whole history. visits: who came when.
    """

    mad: pl.DataFrame
    seen: dict[str, int]
    learners: int
    visits: Visits
    first_assigned: date


def past_days(bench: Workbench, brief: Brief) -> PastDays:
    """Which days before the brief's start can a plan be made from?

    History begins after the last day that was not summed up with every measure of the brief as the catalog
    defines it: what was not counted is not 0.
    """
    wanted = definitions(history_measures(bench.catalog, brief)).items()
    asked = history_window(brief)
    look = Window(min(brief.start - LOOK_BACK_DAYS * DAY, asked.first), brief.start)
    days: list[date] = []
    lacking = 0
    for manifest in bench.lake.manifests("learner_days", [event_day(one) for one in look.days()]):
        day = day_of(manifest.partition)
        if wanted <= recorded_definitions(manifest).items():
            days.append(day)
        else:
            days, lacking = [], lacking + (day >= asked.first)
    if not days:
        return PastDays(None, 0, lacking)
    return PastDays(Window(min(days), brief.start), len(days), lacking)


def past_units(bench: Workbench, brief: Brief, window: Window, first: date | None = None) -> PastUnits:
    """Make the brief's dataset from the days of `window`, by the queries that will make the real one.

    first: from when on units are taken as if assigned; the days before it are those before assignment. Where
    None, as many are kept for that as there are more than enrolment and the longest metric window need.
    """
    engine, catalog = bench.engine, bench.catalog
    first = _first_assigned(bench, brief, window) if first is None else first
    build_history_days(bench, brief, window)
    seen, learners = _seen(bench, brief)
    bench.read_days("learner_days", "learner_days", window)
    bench.read_days("sessions", "sessions", window)
    bounds = {"first_day": window.first, "end_day": window.end}
    activity = engine.frame(queries.text_of("history_activity"), bounds)
    engine.build(
        "units",
        queries.text_of("history_units"),
        {
            "first_day": first,
            "end_day": window.end,
            "by_class": brief.randomisation_unit == "class",
            "name": brief.name,
            "brief_version": brief.version,
            "control": brief.control,
            "pre_days": brief.variance_reduction.pre_days,
            "back": pre_days(catalog, brief),
        },
    )
    engine.build(
        "unit_days",
        "select h.* from history_days as h inner join units as u on h.unit_key = u.unit_key "
        "where h.event_date >= u.assigned_date",
    )
    engine.build(
        "exposures",
        "select unit_key, assigned_at as first_exposed_at, 0 as exposures from units where false",
    )
    build_pre_period(bench, window, pre_measures(catalog, brief))
    text = mad_query(catalog, brief)
    mad = engine.frame(text, {"known_until": window.end} if "$known_until" in text else {})
    for name in ("history_days", "units", "unit_days", "exposures", "pre_days"):
        engine.drop(name)
    return PastUnits(mad, seen, learners, _visits(brief, activity, window), first)


def days_needed(bench: Workbench, brief: Brief, metric: Metric) -> int | None:
    """Days since assignment that a metric needs, a composite's parts included."""
    return metric_sql.days_needed(metric, bench.catalog.dataset_metrics(brief))


def _first_assigned(bench: Workbench, brief: Brief, window: Window) -> date:
    metrics = bench.catalog.dataset_metrics(brief)
    needed = [metric_sql.days_needed(metric, metrics) for metric in metrics.values()]
    followed = max((days for days in needed if days is not None), default=0)
    if any(days is None for days in needed):
        followed = max(followed, min((brief.end - brief.start).days, _LONGEST_FOLLOWED) - _ENROLMENT_DAYS)
    spare = len(window.days()) - followed - _ENROLMENT_DAYS
    return window.first + DAY * min(pre_days(bench.catalog, brief), max(spare, 0))


def build_history_days(bench: Workbench, brief: Brief, window: Window) -> None:
    """Table `history_days`: one row per learner and day, every measure of the brief's metrics."""
    offer_learner_days(bench, window)
    over_events = {measure.name for measure in event_measures(bench)}
    over_sessions = {measure.name for measure in session_measures(bench)}
    columns = []
    for measure in measure_sql.in_order(bench.catalog.measures_of(brief).values()):
        alias = "l" if measure.name in over_events else "s"
        if measure.name in over_events | over_sessions:
            columns.append(f"{alias}.{quote(measure.name)}")
    bench.engine.build(
        "history_days",
        "select d.unit_key, d.event_date" + "".join(f", {column}" for column in columns) + " from "
        "(select unit_key, event_date from learner_day_sums "
        "union select unit_key, event_date from session_days) as d "
        "left join learner_day_sums as l on d.unit_key = l.unit_key and d.event_date = l.event_date "
        "left join session_days as s on d.unit_key = s.unit_key and d.event_date = s.event_date",
    )
    for name in ("learner_day_sums", "session_days"):
        bench.engine.drop(name)


def _seen(bench: Workbench, brief: Brief) -> tuple[dict[str, int], int]:
    """How many learners of the history did what each metric is made of, and how many there are."""
    own = measure_sql.in_order(bench.catalog.measures_of(brief).values())
    sums = "".join(f", {measure_sql.added_up(measure, 'h').sql(dialect='duckdb')}" for measure in own)
    units = bench.engine.frame(
        f"select h.unit_key{sums} from history_days as h inner join "
        "(select distinct learner_key from sessions where role = 'student') as c "
        "on h.unit_key = c.learner_key group by h.unit_key order by h.unit_key"
    )
    metrics = bench.catalog.metrics_of(brief)
    return {name: _with_value(metric, units) for name, metric in metrics.items()}, units.height


def _with_value(metric: Metric, units: pl.DataFrame) -> int:
    """How many learners of the history did what a metric is made of."""
    columns = [pl.col(name) for name in (metric.denominator or metric.numerator, *metric.measures()) if name]
    if not columns:
        return units.height
    if metric.estimand == "quantile":
        return units.filter(columns[0].list.len() > 0).height
    if metric.type in ("proportion", "mean", "retention"):
        return units.filter(columns[0].is_not_null()).height
    if not metric.adds_up:
        return units.filter(pl.all_horizontal(column.is_not_null() for column in columns)).height
    return units.filter(columns[0].fill_null(0) > 0).height


def _visits(brief: Brief, activity: pl.DataFrame, window: Window) -> Visits:
    """Who came on which day; a class comes when any of its learners does, and brings them all."""
    length = len(window.days())
    activity = activity.with_columns((pl.col("event_date") - window.first).dt.total_days().alias("day"))
    if brief.randomisation_unit == "learner":
        return Visits.of(activity["unit_key"], activity["day"], first=window.first, days=length)
    classes = activity.drop_nulls("class_id")
    sizes = classes.group_by("class_id").agg(pl.col("unit_key").n_unique()).sort("class_id")
    days = classes.select("class_id", "day").unique().sort("class_id", "day")
    return Visits.of(
        days["class_id"].to_numpy(),
        days["day"],
        first=window.first,
        days=length,
        weight=sizes["unit_key"].to_numpy(),
    )
