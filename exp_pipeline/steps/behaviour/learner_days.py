"""Behaviour: events to learner-days with every measure, events to turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlglot import exp

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.metrics import Measure, definitions
from exp_pipeline.steps.behaviour.stretch_files import Summing, write_stretches
from exp_pipeline.steps.context import Window, Workbench, Written, event_day, midnight
from exp_pipeline.steps.ingest.day_files import side_by_side, write_days
from exp_pipeline.steps.origins import recording
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import queries

# A turn whose parts stand further apart than this is two turns: nobody waits an hour for an answer.
TURN_GAP = timedelta(hours=1)
# Turns are many and wide: 28 days of ten million events at once took 5 GB.
TURN_PIECE_DAYS = 7
_US = timedelta(microseconds=1)


def event_measures(bench: Workbench) -> tuple[Measure, ...]:
    """The measures over events that days are summed up with, by name."""
    return measure_sql.in_order(bench.catalog.kept_measures().values(), "events")


def session_measures(bench: Workbench) -> tuple[Measure, ...]:
    """The measures over sessions that days are summed up with, by name."""
    return measure_sql.in_order(bench.catalog.kept_measures().values(), "sessions")


def measure_version(bench: Workbench, table: str, measures: Sequence[Measure]) -> str:
    """Schema version of a table that carries measures: its fixed columns and every definition."""
    return digest_of([bench.schema_version(table), definitions(measures)])[:12]


def learner_days_query(measures: Sequence[Measure]) -> exp.Expr:
    """The portable query from events to learner-days with every measure; it needs no sorted file."""
    codes = measure_sql.event_codes(measures, ("experiment_assigned",))
    query = queries.with_slots(
        queries.load("learner_days"),
        {"measures": [measure_sql.over_rows(measure, codes) for measure in measures]},
    )
    return queries.with_codes(query, codes)


def build_learner_days(bench: Workbench, window: Window) -> list[Written]:
    """Sum up what each learner did on each day, with every measure that is kept, cut at assignments.

    The files are sorted by learner and time (asserted), so this is one pass over arrays, two groups of days
    side by side. Each day depends on its own events only.
    """
    bench = recording(bench, ("learner_days",), window)
    manifests = bench.lake.manifests("events", [event_day(day) for day in window.days()])
    if not manifests:
        return []
    groups = [group for group in (manifests[0::2], manifests[1::2]) if group]
    twins = [bench.engine.twin() for _ in groups]
    with bench.engine.one_thread_each(), ThreadPoolExecutor(max_workers=len(groups)) as pool:
        results = list(pool.map(lambda pair: _learner_days_of(bench, *pair), zip(twins, groups, strict=True)))
    return sorted((one for result in results for one in result), key=lambda one: one.partition)


def _learner_days_of(bench: Workbench, engine: Engine, manifests: Sequence[Manifest]) -> list[Written]:
    measures = event_measures(bench)
    version = measure_version(bench, "learner_days", measures)
    columns = table_columns("learner_days") | measure_sql.column_types(measures)
    summing = Summing(measures, table_columns("events"))
    written = []
    for manifest in manifests:
        started = time.monotonic()
        paths = bench.lake.paths([manifest])
        with bench.staged("learner_days", manifest.partition) as path:
            rows = write_stretches(engine, paths, path, columns, summing)
            file = NewFile(path, "all", rows)
            facts = {"events": manifest.rows, "measures": definitions(measures)}
            written.append(
                bench.commit(
                    "learner_days", manifest.partition, [file], started, schema_version=version, facts=facts
                )
            )
    return written


def build_turns(bench: Workbench, window: Window) -> list[Written]:
    """Put each learner message together with what answered it, on the day it was sent."""
    bench = recording(bench, ("turns",), window)
    return side_by_side(_turns_of, bench, window, piece_days=TURN_PIECE_DAYS)


def _turns_of(bench: Workbench, window: Window) -> list[Written]:
    engine = bench.engine
    started = time.monotonic()
    # A day on either side: a turn that began before the window is told from one that begins in it.
    bench.read_days("events", "events", window.widened(1, 1))
    text = queries.text_of("turns")
    parameters: dict[str, object] = {
        "turn_gap_microseconds": TURN_GAP // _US,
        "window_start": midnight(window.first),
        "window_end": midnight(window.end),
    }
    engine.build("built_turns", text, parameters)
    there = [day for day in window.days() if bench.lake.manifest("events", event_day(day)) is not None]
    written = write_days(bench, "turns", "built_turns", there, started)
    engine.drop("built_turns")
    return written
