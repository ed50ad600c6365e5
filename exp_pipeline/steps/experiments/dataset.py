"""The files of a snapshot: one row a unit, its days, its weeks, and what every column means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Measure
from exp_pipeline.steps.assignment.exposure import build_units
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.dictionary import COLUMNS, File, dictionary_of, file_columns
from exp_pipeline.store.engine import quote
from exp_pipeline.store.files import write_text
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import metrics as metric_sql
from exp_pipeline.transform import pre_period, queries

# What a readout is computed from; snapshots of earlier versions lack the weeks.
MAD_FILES = ("mad", "days", "receipts", "completeness")
WEEKS: Literal["weeks"] = "weeks"
COMPLETENESS_DAYS = "completeness_days"
_WEEK = 7


def covariates_of(catalog: Catalog, brief: Brief) -> tuple[Measure, ...]:
    """Measures of the pre-period: those the brief names, else those of its metrics that can be added up."""
    if brief.table is not None or brief.variance_reduction.method == "none":
        return ()
    named = brief.variance_reduction.covariates
    if named:
        return measure_sql.in_order({catalog.measures[name] for name in named})
    everything = catalog.measures_of(brief).values()
    return measure_sql.in_order(
        {measure for measure in everything if measure.aggregate in ("count", "sum", "max")}
    )


def after_measures(catalog: Catalog, brief: Brief) -> tuple[Measure, ...]:
    """Every measure that a brief's dataset takes from the days since assignment, by name."""
    names = {name for metric in catalog.dataset_metrics(brief).values() for name in metric.measures()}
    return measure_sql.in_order(catalog.measures[name] for name in names)


def pre_measures(catalog: Catalog, brief: Brief) -> tuple[Measure, ...]:
    """Every measure that a brief's dataset takes from before assignment: covariates, and scores of gains."""
    scores = [name for metric in catalog.dataset_metrics(brief).values() for name in metric.pre_measures()]
    return measure_sql.in_order(
        {*covariates_of(catalog, brief), *(catalog.measures[name] for name in scores)}
    )


def pre_days(catalog: Catalog, brief: Brief) -> int:
    """How many days before a unit's assignment its dataset looks back."""
    gains = [metric.pre_days for metric in catalog.dataset_metrics(brief).values() if metric.pre_measures()]
    return max([brief.variance_reduction.pre_days, *gains])


def fill_snapshot(bench: Workbench, brief: Brief, window: Window | None, newest: date, folder: Path) -> None:
    """Write every file of a snapshot into a folder: units, days, weeks, receipts, completeness, words.

    window: the experiment's days that are in the data, None before its first. newest: the last of them; what
    is known ends with it.
    """
    engine, catalog = bench.engine, bench.catalog
    shown = window or Window.of(brief.start, brief.start)
    own = after_measures(catalog, brief)
    covariates = covariates_of(catalog, brief)
    back = pre_days(catalog, brief)
    _units(bench, brief, newest, back)
    _experiment_days(bench, brief, shown, own)
    build_pre_period(bench, shown.widened(back, 0), pre_measures(catalog, brief))
    _write(bench, mad_query(catalog, brief), folder / "mad.parquet", newest)
    _weeks(bench, brief, shown, newest, folder)
    names = "".join(f", {quote(measure.name)}" for measure in own)
    engine.write(
        f"select unit_id, event_date{names} from unit_days order by unit_id, event_date",
        folder / "days.parquet",
    )
    bench.read_days("events", "events", shown)
    for name in ("receipts", "completeness", COMPLETENESS_DAYS):
        engine.write(queries.text_of(name), folder / f"{name}.parquet")
    for name in ("units", "unit_days", "exposures", "pre_days", "weeks"):
        engine.drop(name)
    files: tuple[File, ...] = ("mad", WEEKS, "days")
    columns = {name: file_columns(bench, folder / f"{name}.parquet") for name in files}
    notes = dictionary_of(catalog, brief, covariates, columns)
    write_text(folder / COLUMNS, json.dumps(notes, indent=1, sort_keys=True) + "\n")


def mad_query(catalog: Catalog, brief: Brief) -> str:
    """The dataset's query: one row a unit, over tables `units`, `unit_days`, `exposures` and `pre_days`."""
    metrics, covariates = catalog.dataset_metrics(brief), covariates_of(catalog, brief)
    query = queries.with_slots(
        queries.load("mad"),
        {
            "sums": metric_sql.metric_sums(metrics.values(), catalog.measures),
            "before_sums": [
                *pre_period.covariate_sums(covariates),
                *pre_period.pre_score_sums(metrics.values(), catalog.measures),
            ],
            "metrics": metric_sql.metric_columns(list(metrics), metrics, catalog.measures),
            "covariates": pre_period.covariate_columns(covariates),
        },
    )
    return queries.query_text(query)


def _write(bench: Workbench, text: str, path: Path, newest: date) -> None:
    """Write a query that may ask what is known until when."""
    bench.engine.write(text, path, {"known_until": newest + DAY} if "$known_until" in text else {})


def _units(bench: Workbench, brief: Brief, newest: date, back: int) -> None:
    """Table `units`: who had been assigned by the newest day, and from when on the days before count."""
    build_units(bench, [brief.name])
    bench.engine.build(
        "units_here",
        "select *, assigned_date - cast($pre_days as integer) as pre_start, "
        "assigned_date - cast($back as integer) as first_pre_day from units where assigned_date <= $newest",
        {"pre_days": brief.variance_reduction.pre_days, "back": back, "newest": newest},
    )
    bench.engine.build("units", "select * from units_here")
    bench.engine.drop("units_here")


def _experiment_days(bench: Workbench, brief: Brief, shown: Window, own: Sequence[Measure]) -> None:
    """Tables `unit_days` and `exposures` of this experiment, with only the measures that it needs."""
    here = {"experiment": brief.name, "version": brief.version}
    bench.read_days("unit_days_all", "unit_days", shown, more=measure_sql.column_types(own))
    names = "".join(f", {quote(measure.name)}" for measure in own)
    bench.engine.build(
        "unit_days",
        f"select unit_id, unit_key, event_date{names} from unit_days_all "
        "where experiment = $experiment and version = $version",
        here,
    )
    bench.read_days("all_exposures", "exposures", shown)
    bench.engine.build(
        "exposures",
        "select x.* from all_exposures as x inner join units as u on x.unit_key = u.unit_key "
        "where x.experiment = $experiment and x.version = $version",
        here,
    )


def build_pre_period(bench: Workbench, look: Window, wanted: Sequence[Measure]) -> None:
    """Table `pre_days`: measures asked for by unit and day, in one pass over learner-days and sessions."""
    over_events = measure_sql.in_order(wanted, "events")
    over_sessions = measure_sql.in_order(wanted, "sessions")
    bench.read_days("learner_days", "learner_days", look, more=measure_sql.column_types(over_events))
    bench.read_days("sessions", "sessions", look)
    query = queries.with_slots(
        queries.load("pre_days"),
        {
            "event_sums": [measure_sql.added_up(measure, "b") for measure in over_events],
            "session_sums": [measure_sql.over_rows(measure) for measure in over_sessions],
            "columns": [
                metric_sql.own(measure.name, "l" if measure.over == "events" else "z")
                for measure in (*over_events, *over_sessions)
            ],
        },
    )
    bench.engine.build("pre_days", queries.query_text(query))


def _weeks(bench: Workbench, brief: Brief, shown: Window, newest: date, folder: Path) -> None:
    """Write what each unit did in each week since its assignment that has begun."""
    begun = max((newest - shown.first).days // _WEEK + 1, 0)
    bench.engine.build(
        "weeks", "select cast(range as integer) as week from range(cast($n as bigint))", {"n": begun}
    )
    metrics = bench.catalog.dataset_metrics(brief).values()
    query = queries.with_slots(
        queries.load("weeks"),
        {
            "sums": metric_sql.week_sums(metrics, bench.catalog.measures),
            "columns": metric_sql.week_columns(metrics, bench.catalog.measures),
        },
    )
    _write(bench, queries.query_text(query), folder / f"{WEEKS}.parquet", newest)
