"""Facts: what every unit of every experiment did on each day after it was assigned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import pairwise

from sqlglot import exp

from exp_pipeline.model.metrics import Measure, definitions
from exp_pipeline.steps.assignment.exposure import build_units
from exp_pipeline.steps.behaviour.learner_days import event_measures, measure_version, session_measures
from exp_pipeline.steps.context import Window, Workbench, Written, day_of, event_day
from exp_pipeline.steps.ingest.day_files import CHUNK_EVENTS, chunks, side_by_side, write_days
from exp_pipeline.steps.origins import recording, unit_digests
from exp_pipeline.steps.recorded import recorded_definitions
from exp_pipeline.store.engine import quote
from exp_pipeline.store.lake import Manifest
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import queries


def build_unit_days(bench: Workbench, window: Window) -> list[Written]:
    """Write the measures of each experiment, unit and day of the window, for all experiments at once.

    Only what happened at or after a unit's assignment counts. Learner-days are cut at the assignments among
    their events, so they need only be added up; where an assignment falls inside a stretch all the same (a
    class's, say), the rest of that stretch is summed from its events.
    """
    engine = bench.engine
    build_units(bench)
    bench = recording(bench, ("unit_days",), window, unit_digests(bench))
    engine.build(
        "unit_moments",
        "select u.experiment, u.version, u.unit_id, u.unit_key, u.assigned_at, u.assigned_date, "
        "x.last_day from units as u inner join experiments as x "
        "on u.experiment = x.experiment and u.version = x.version",
    )
    for name in ("units", "experiments", "experiment_days"):
        engine.drop(name)
    engine.share("unit_moments")
    try:
        return side_by_side(_unit_days_of, bench, window, piece_days=len(window.days()))
    finally:
        engine.unshare("unit_moments")


def _unit_days_of(bench: Workbench, window: Window) -> list[Written]:
    texts = _texts(event_measures(bench), session_measures(bench))
    written: list[Written] = []
    for chunk in chunks(bench, window):
        days = [day for day in (day_of(one.partition) for one in chunk) if _known(bench, day)]
        if days:
            written += _write_days(bench, days, texts)
    return written


def _known(bench: Workbench, day: date) -> bool:
    return bench.lake.manifest("learner_days", event_day(day)) is not None


@dataclass(frozen=True, slots=True)
class _Texts:
    """The queries of one day, parsed and extended once for the same measures."""

    cut_stretches: str
    rests: str
    unit_days: str


@lru_cache(maxsize=16)
def _texts(over_events: tuple[Measure, ...], over_sessions: tuple[Measure, ...]) -> _Texts:
    codes = measure_sql.event_codes(over_events)
    rests = queries.with_slots(
        queries.with_codes(queries.load("rests"), codes),
        {"measures": [measure_sql.over_rows(measure, codes) for measure in over_events]},
    )
    everything = measure_sql.in_order((*over_events, *over_sessions))
    unit_days = queries.with_slots(
        queries.load("unit_days"),
        {
            "parts": [exp.column(measure.name, table="l", quoted=True) for measure in over_events],
            "rests": [exp.column(measure.name, table="p", quoted=True) for measure in over_events],
            "event_sums": [measure_sql.added_up(measure, "s") for measure in over_events],
            "alone": [measure_sql.alone(measure, "s") for measure in over_events],
            "session_sums": [measure_sql.over_rows(measure) for measure in over_sessions],
            "columns": [
                measure_sql.of_a_day(measure, "e" if measure.over == "events" else "s")
                for measure in everything
            ],
        },
    )
    return _Texts(
        cut_stretches=queries.text_of("cut_stretches"),
        rests=queries.query_text(rests),
        unit_days=queries.query_text(unit_days),
    )


def _write_days(bench: Workbench, days: Sequence[date], texts: _Texts) -> list[Written]:
    started = time.monotonic()
    engine, window = bench.engine, Window.of(days[0], days[-1])
    over_events = event_measures(bench)
    parts = bench.read_days(
        "all_learner_days", "learner_days", window, more=measure_sql.column_types(over_events)
    )
    bench.read_days("all_sessions", "sessions", window)
    _build(bench, texts, _shares(bench, window))
    everything = measure_sql.in_order((*over_events, *session_measures(bench)))
    over_sessions = definitions(session_measures(bench))
    facts = {
        day_of(part.partition): {"measures": {**_as_made(part, over_events), **over_sessions}}
        for part in parts
    }
    written = write_days(
        bench,
        "unit_days",
        "built_unit_days",
        days,
        started,
        more=measure_sql.column_types(everything),
        schema_version=measure_version(bench, "unit_days", everything),
        facts=facts,
    )
    engine.drop("built_unit_days")
    return written


def _shares(bench: Workbench, window: Window) -> int:
    """Into how many parts of its learners a large day is cut: it needs no more memory than a small one."""
    manifests = bench.lake.manifests("events", [event_day(day) for day in window.days()])
    return max(1, -(-sum(manifest.rows for manifest in manifests) // CHUNK_EVENTS))


def _build(bench: Workbench, texts: _Texts, shares: int) -> None:
    """Keep the days' rows in the engine, as `built_unit_days`, summed up part of the learners by part."""
    engine, edges = bench.engine, [2**64 * number // shares for number in range(shares + 1)]
    for number, (first, end) in enumerate(pairwise(edges)):
        for name in ("learner_days", "sessions"):
            own = f"select * from {quote('all_' + name)}"
            # Files are sorted by learner, so that each is read once.
            engine.view(
                name, own if shares == 1 else f"{own} where learner_key between {first} and {end - 1}"
            )
        engine.build("cut_stretches", texts.cut_stretches)
        cut = engine.connection.execute(
            "select distinct event_date from cut_stretches order by all"
        ).fetchall()
        bench.read("events", "events", bench.lake.manifests("events", [event_day(row[0]) for row in cut]))
        engine.build("rests", texts.rests)
        engine.build("unit_days_of_part" if shares > 1 else "built_unit_days", texts.unit_days)
        if number == 0 and shares > 1:
            engine.build("parts_of_unit_days", "select * from unit_days_of_part")
        elif shares > 1:
            engine.connection.execute("insert into parts_of_unit_days select * from unit_days_of_part")
    if shares > 1:
        engine.build(
            "built_unit_days",
            "select * from parts_of_unit_days order by event_date, experiment, version, unit_key",
        )
    for name in ("cut_stretches", "rests", "unit_days_of_part", "parts_of_unit_days"):
        engine.drop(name)


def _as_made(parts: Manifest, over_events: Sequence[Measure]) -> dict[str, str]:
    """Event measures as the learner-days hold them, which may be an older definition than the catalog's."""
    recorded = recorded_definitions(parts)
    return {one.name: recorded[one.name] for one in over_events if one.name in recorded}


def offer_learner_days(bench: Workbench, window: Window) -> None:
    """Keep in the engine, as `learner_day_sums` and `session_days`, every measure by learner and day."""
    engine = bench.engine
    days = {"first_day": window.first, "end_day": window.end}
    over_events = event_measures(bench)
    sums, session_days = _day_texts(over_events, session_measures(bench))
    bench.read_days("learner_days", "learner_days", window, more=measure_sql.column_types(over_events))
    engine.build("learner_day_sums", sums, days)
    bench.read_days("sessions", "sessions", window)
    engine.build("session_days", session_days, days)


@lru_cache(maxsize=16)
def _day_texts(over_events: tuple[Measure, ...], over_sessions: tuple[Measure, ...]) -> tuple[str, str]:
    """The queries of `learner_day_sums` and `session_days`."""
    sums = queries.with_columns(
        queries.load("learner_day_sums"), [measure_sql.added_up(measure, "s") for measure in over_events]
    )
    session_days = queries.with_columns(
        queries.load("session_days"), [measure_sql.over_rows(measure) for measure in over_sessions]
    )
    return queries.query_text(sums), queries.query_text(session_days)
