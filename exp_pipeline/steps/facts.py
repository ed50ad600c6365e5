"""Facts: what every unit of every experiment did on each day after it was assigned."""

from __future__ import annotations

import time

from sqlglot import exp

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.behaviour import event_measures, measure_version, session_measures
from exp_pipeline.steps.context import Window, Workbench, Written, event_day
from exp_pipeline.steps.day_files import side_by_side, write_alone
from exp_pipeline.steps.exposure import build_units
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import NewFile
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import queries


def build_unit_days(bench: Workbench, window: Window) -> list[Written]:
    """Write the measures of each experiment, unit and day of the window, all in one pass over bouts.

    Only what happened at or after a unit's assignment counts. On the assignment day that is read from the
    events themselves; on later days the learner's whole day counts, so bouts and sessions are summed.
    """
    return side_by_side(_unit_days_of, bench, window)


def _unit_days_of(bench: Workbench, window: Window) -> list[Written]:
    started = time.monotonic()
    engine = bench.engine
    build_units(bench)
    build_learner_days(bench, window)
    _assignment_days(bench, window)
    engine.build(
        "active_days",
        "select unit_key, event_date from learner_days union select unit_key, event_date from session_days "
        "where event_date >= $first_day and event_date < $end_day",
        {"first_day": window.first, "end_day": window.end},
    )
    days = {"first_day": window.first, "end_day": window.end}
    engine.build("built_unit_days", _unit_days_text(bench), days)
    measures = (*event_measures(bench), *session_measures(bench))
    version = measure_version(bench, "unit_days", measures)
    names = [*table_columns("unit_days"), *(measure.name for measure in measure_sql.in_order(measures))]
    columns = ", ".join(quote(name) for name in names)
    written = []
    for day in window.days():
        if bench.lake.manifest("bouts", event_day(day)) is None:
            continue
        path = bench.lake.staging("unit_days", event_day(day))
        rows = write_alone(
            engine,
            f"select {columns} from built_unit_days where event_date = {text_literal(day.isoformat())}::date",
            path,
        )
        written.append(
            bench.commit(
                "unit_days", event_day(day), [NewFile(path, "all", rows)], started, schema_version=version
            )
        )
        started = time.monotonic()
    for name in (
        "built_unit_days",
        "active_days",
        "learner_days",
        "session_days",
        "first_days",
        "first_session_days",
        "units",
        "experiments",
        "experiment_days",
    ):
        engine.drop(name)
    return written


def build_learner_days(bench: Workbench, window: Window) -> None:
    """Keep in the engine, as `learner_days` and `session_days`, every measure by learner and day."""
    engine = bench.engine
    days = {"first_day": window.first, "end_day": window.end}
    over_events, over_sessions = event_measures(bench), session_measures(bench)
    bench.read_days("bouts", "bouts", window, more=measure_sql.column_types(over_events))
    learner_days = queries.with_columns(
        queries.load("learner_days"), [measure_sql.added_up(measure, "b") for measure in over_events]
    )
    engine.build("learner_days", queries.query_text(learner_days), days)
    bench.read_days("sessions", "sessions", window)
    session_days = queries.with_columns(
        queries.load("session_days"), [measure_sql.over_rows(measure) for measure in over_sessions]
    )
    engine.build("session_days", queries.query_text(session_days), days)


def _assignment_days(bench: Workbench, window: Window) -> None:
    engine = bench.engine
    days = {"first_day": window.first, "end_day": window.end}
    assigned = engine.connection.execute(
        "select distinct assigned_date from units "
        "where assigned_date >= $first_day and assigned_date < $end_day order by all",
        days,
    ).fetchall()
    bench.read("events", "events", bench.lake.manifests("events", [event_day(row[0]) for row in assigned]))
    measures = event_measures(bench)
    codes = measure_sql.event_codes(measures)
    first_days = queries.with_columns(
        queries.with_codes(queries.load("assignment_days"), codes),
        [measure_sql.over_rows(measure, codes) for measure in measures],
    )
    engine.build("first_days", queries.query_text(first_days), days)
    first_sessions = queries.with_columns(
        queries.load("assignment_session_days"),
        [measure_sql.over_rows(measure) for measure in session_measures(bench)],
    )
    engine.build("first_session_days", queries.query_text(first_sessions), days)


def _unit_days_text(bench: Workbench) -> str:
    columns: list[exp.Expr] = []
    for measure in measure_sql.in_order((*event_measures(bench), *session_measures(bench))):
        events = measure.over == "events"
        own, first = ("learner_days", "first_days") if events else ("session_days", "first_session_days")
        columns.append(measure_sql.on_its_day(measure, own=own, first=first))
    return queries.query_text(queries.with_columns(queries.load("unit_days"), columns))
