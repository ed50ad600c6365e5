"""Behaviour: events to bouts, bouts to sessions, events to turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

from sqlglot import exp

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.metrics import Measure
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, event_day
from exp_pipeline.steps.day_files import side_by_side, write_alone
from exp_pipeline.store.engine import Engine, Rows, quote, text_literal
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import queries

# A turn whose parts stand further apart than this is two turns: nobody waits an hour for an answer.
TURN_GAP = timedelta(hours=1)
# Turns are many and wide: 28 days of ten million events at once took 5 GB.
TURN_PIECE_DAYS = 7
_END = "tutor_session_ended"
_CODED = (_END, "tutor_turn_submitted", "tutor_turn_response_shown")
_US = timedelta(microseconds=1)


def event_measures(bench: Workbench) -> tuple[Measure, ...]:
    """The catalog's measures over events, by name."""
    return measure_sql.in_order(bench.catalog.measures.values(), "events")


def session_measures(bench: Workbench) -> tuple[Measure, ...]:
    """The catalog's measures over sessions, by name."""
    return measure_sql.in_order(bench.catalog.measures.values(), "sessions")


def measure_version(bench: Workbench, table: str, measures: Sequence[Measure]) -> str:
    """Schema version of a table that carries measures: its fixed columns and every definition."""
    return digest_of([bench.schema_version(table), [measure.digest() for measure in measures]])[:12]


def bouts_query(measures: Sequence[Measure], *, sorted_input: bool) -> exp.Expr:
    """The query from events to bouts with every measure; for sorted files, in its one-pass form."""
    codes = measure_sql.event_codes(measures, _CODED)
    query = queries.with_slots(
        queries.load("bouts"),
        {
            "sums": [measure_sql.over_rows(measure, codes) for measure in measures],
            "columns": [exp.column(measure.name, table="b", quoted=True) for measure in measures],
        },
    )
    query = queries.with_codes(query, codes)
    return queries.streaming(query) if sorted_input else query


def session_parameters(bench: Workbench) -> dict[str, object]:
    """The session policy as query parameters."""
    policy = bench.catalog.policies.session
    return {
        "gap_microseconds": timedelta(minutes=policy.gap_minutes) // _US,
        "cap_microseconds": timedelta(hours=policy.cap_hours) // _US,
        "cut_on_objective": policy.cut_on_objective,
        "cut_on_shared_device": policy.cut_on_shared_device,
    }


def used(text: str, parameters: dict[str, object]) -> dict[str, object]:
    """Those of the parameters that a query names."""
    return {name: value for name, value in parameters.items() if f"${name}" in text}


def build_bouts(bench: Workbench, window: Window) -> list[Written]:
    """Cut the events of each day into bouts, with every measure of the catalog summed up in each.

    The files are sorted by learner and time (asserted), so this is one streaming pass, two groups of days
    side by side. A bout never crosses midnight, so each day depends on its own events only.
    """
    manifests = bench.lake.manifests("events", [event_day(day) for day in window.days()])
    if not manifests:
        return []
    groups = [group for group in (manifests[0::2], manifests[1::2]) if group]
    twins = [bench.engine.twin() for _ in groups]
    with ThreadPoolExecutor(max_workers=len(groups)) as pool:
        results = list(pool.map(lambda pair: _bouts_of(bench, *pair), zip(twins, groups, strict=True)))
    return sorted((one for result in results for one in result), key=lambda one: one.partition)


def _bouts_of(bench: Workbench, engine: Engine, manifests: Sequence[Manifest]) -> list[Written]:
    measures = event_measures(bench)
    text = queries.query_text(bouts_query(measures, sorted_input=True))
    parameters = used(text, session_parameters(bench))
    version = measure_version(bench, "bouts", measures)
    written = []
    for manifest in manifests:
        started = time.monotonic()
        source = f"events_{_view_name(manifest)}"
        engine.offer(source, Rows(bench.lake.paths([manifest]), table_columns("events")))
        own = text.replace("FROM events AS e", f"FROM {quote(source)} AS e")
        path = bench.lake.staging("bouts", manifest.partition)
        rows = engine.write(own, path, parameters)
        engine.connection.execute(f"drop view {quote(source)}")
        written.append(
            bench.commit(
                "bouts",
                manifest.partition,
                [NewFile(path, "all", rows)],
                started,
                schema_version=version,
                facts={"events": manifest.rows},
            )
        )
    return written


def _view_name(manifest: Manifest) -> str:
    """A view name for one partition, so that two cursors never share one."""
    return manifest.partition.partition("=")[2].replace("-", "")


def build_sessions(bench: Workbench, window: Window) -> list[Written]:
    """Glue bouts over midnight into the sessions that started on each day of the window.

    A session ends at most 12 hours after it starts, so one day on either side is enough; where a learner's
    activity has no cut in all of the day before, the window grows backwards until it has one. The result for
    a day depends on events only, not on what was materialized before.
    """
    return side_by_side(_sessions_of, bench, window)


def _sessions_of(bench: Workbench, window: Window) -> list[Written]:
    engine = bench.engine
    started = time.monotonic()
    look = window.widened(1, 1)
    parameters = session_parameters(bench)
    while True:
        bench.read_days("bouts", "bouts", look)
        text = queries.query_text(queries.load("chains"))
        engine.build("chains", text, used(text, parameters))
        if not _uncut_since_start(bench, look, window):
            break
        look = look.widened(7, 0)
    bench.read_days("events", "events", look)
    text = queries.query_text(queries.load("cap_starts"))
    engine.build("cap_starts", text, used(text, parameters))
    known = {day for day in look.widened(0, 1).days() if bench.lake.manifest("events", event_day(day))}
    text = queries.query_text(queries.load("sessions"))
    everything = {
        **parameters,
        "window_start": _midnight(window.first),
        "window_end": _midnight(window.end),
        # What followed a session late on one of these days is not known yet.
        "last_days": [day for day in look.days() if day + DAY not in known],
    }
    engine.build("built_sessions", text, used(text, everything))
    written = _write_days(bench, "sessions", "built_sessions", window, started)
    for name in ("chains", "cap_starts", "built_sessions"):
        engine.drop(name)
    return written


def _uncut_since_start(bench: Workbench, look: Window, window: Window) -> bool:
    """Whether a chain that reaches the window began with the days looked at, and so perhaps before them."""
    earlier = bench.lake.manifest("events", event_day(look.first - DAY))
    if earlier is None:
        return False
    gap = timedelta(minutes=bench.catalog.policies.session.gap_minutes)
    (reaching,) = bench.engine.row(
        "select count(*) from chains where started_at <= $edge and ended_at >= $start",
        {"edge": _midnight(look.first) + gap, "start": _midnight(window.first)},
    )
    return bool(reaching)


def build_turns(bench: Workbench, window: Window) -> list[Written]:
    """Put each learner message together with what answered it, on the day it was sent."""
    return side_by_side(_turns_of, bench, window, piece_days=TURN_PIECE_DAYS)


def _turns_of(bench: Workbench, window: Window) -> list[Written]:
    engine = bench.engine
    started = time.monotonic()
    # A day on either side: a turn that began before the window is told from one that begins in it.
    bench.read_days("events", "events", window.widened(1, 1))
    text = queries.query_text(queries.load("turns"))
    parameters: dict[str, object] = {
        "turn_gap_microseconds": TURN_GAP // _US,
        "window_start": _midnight(window.first),
        "window_end": _midnight(window.end),
    }
    engine.build("built_turns", text, parameters)
    written = _write_days(bench, "turns", "built_turns", window, started)
    engine.drop("built_turns")
    return written


def _write_days(bench: Workbench, table: str, built: str, window: Window, started: float) -> list[Written]:
    """Write a built table, in order of days, day by day; only days with events get a partition."""
    columns = ", ".join(quote(name) for name in table_columns(table))
    written = []
    for day in window.days():
        if bench.lake.manifest("events", event_day(day)) is None:
            continue
        path = bench.lake.staging(table, event_day(day))
        rows = write_alone(
            bench.engine,
            f"select {columns} from {quote(built)} where event_date = {text_literal(day.isoformat())}::date",
            path,
        )
        written.append(bench.commit(table, event_day(day), [NewFile(path, "all", rows)], started))
        started = time.monotonic()
    return written


def check_sorted(bench: Workbench, day: date) -> int:
    """How many events of a day are out of the order that the one-pass form relies on (0 when all is well)."""
    manifest = bench.lake.manifest("events", event_day(day))
    if manifest is None:
        return 0
    bench.read("events_in_file_order", "events", [manifest])
    (misplaced,) = bench.engine.row(
        "select count(*) from (select place, lag(place) over () as before from (select "
        "(learner_key, occurred_at, case event_name when 'experiment_assigned' then 0 "
        f"when '{_END}' then 2 else 1 end, event_id) as place from events_in_file_order)) "
        "where before > place"
    )
    return int(misplaced)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)
