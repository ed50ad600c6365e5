"""Exposure and identity: who was assigned, who saw it, who sat in which class."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from sqlglot import exp

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.context import Window, Workbench, Written, day_of, event_day
from exp_pipeline.steps.ingest.day_files import side_by_side, write_days
from exp_pipeline.steps.origins import recording, recording_whole
from exp_pipeline.steps.people.roster import land_roster, offer_roster
from exp_pipeline.store.engine import quote
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.store.matching_rows import matching_rows
from exp_pipeline.transform import queries

if TYPE_CHECKING:
    import polars as pl

WHOLE = "scope=all"
# Days are worked on together up to about so many rows: planning a query costs as much as running it over few.
_TOGETHER = 100_000
# Assignments alike in these are told apart by their ids alone.
_ID = "event_id"
_SAME_ASSIGNMENT = ("occurred_at", "unit_id", "unit_type", "arm", "experiment", "experiment_version")


def build_assignments(bench: Workbench, window: Window) -> list[Written]:
    """Collect each day's logged assignments; each day depends on its own events and the roster only.

    The context is frozen with the assignment; where its event names no class, the roster of that moment does.
    """
    land_roster(bench)
    return _daily(bench, "assignments", "experiment_assigned", window)


def build_exposures(bench: Workbench, window: Window) -> list[Written]:
    """Collect each day's exposures by unit and surface; each day depends on its own events only."""
    return _daily(bench, "exposures", "experiment_exposed", window)


def _daily(bench: Workbench, table: str, event: str, window: Window) -> list[Written]:
    import polars as pl

    bench = recording(bench, (table,), window)
    columns = _read_of_events(table)

    def collect(bench: Workbench, window: Window) -> list[Written]:
        offer_roster(bench)
        text = queries.text_of(table)
        written: list[Written] = []
        waiting: dict[date, pl.DataFrame] = {}
        started = time.monotonic()

        def write() -> None:
            bench.engine.drop("events")  # An earlier step may have left a view of this name.
            bench.engine.offer_frame("events", pl.concat(waiting.values()))
            bench.engine.build("collected", text)
            bench.engine.drop("events")
            written.extend(write_days(bench, table, "collected", list(waiting), started))
            bench.engine.drop("collected")

        for manifest in bench.lake.manifests("events", [event_day(day) for day in window.days()]):
            waiting[day_of(manifest.partition)] = _events(bench, manifest, event, columns)
            if sum(rows.height for rows in waiting.values()) >= _TOGETHER:
                write()
                waiting, started = {}, time.monotonic()
        if waiting:
            write()
        return written

    return side_by_side(collect, bench, window, piece_days=len(window.days()))


@cache
def _read_of_events(query: str) -> tuple[str, ...]:
    """The columns of an event (`e`) that a query reads."""
    read = queries.load(query).find_all(exp.Column)
    return tuple(sorted({column.name for column in read if column.table == "e"}))


def _events(bench: Workbench, manifest: Manifest, event: str, columns: Sequence[str]) -> pl.DataFrame:
    """A day's events of a name; their ids only where an id decides which of several came first."""
    import polars as pl

    paths, kinds = bench.lake.paths([manifest]), table_columns("events")
    wanted = {name: kinds[name] for name in columns if name != _ID}
    found = matching_rows(paths, wanted, "event_name", event)
    if _ID not in columns:
        return found
    # An id is different in every row: the widest column of all, and hardly ever looked at.
    if found.select(_SAME_ASSIGNMENT).is_duplicated().any():
        return found.hstack(matching_rows(paths, {_ID: kinds[_ID]}, "event_name", event))
    return found.with_columns(pl.lit(None, pl.String).alias(_ID))


def build_enrollments(bench: Workbench) -> list[Written]:
    """Who was in which class from when to when: by the roster, and where it is silent by the events."""
    started = time.monotonic()
    land_roster(bench)
    offer_roster(bench)
    bench = recording_whole(bench, "enrollments")
    bench.read("sessions", "sessions", bench.lake.manifests("sessions", bench.lake.partitions("sessions")))
    bench.engine.build("stays", queries.text_of("enrollments"))
    path = bench.lake.staging("enrollments", WHOLE)
    rows = bench.engine.write(queries.text_of("roster_stays"), path)
    bench.engine.drop("stays")
    return [bench.commit("enrollments", WHOLE, [NewFile(path, "all", rows)], started)]


def build_content(bench: Workbench) -> list[Written]:
    """Which content items and objectives the events of all days name."""
    return _whole(bench, "content", "events", "events")


def _whole(bench: Workbench, table: str, source_table: str, name: str) -> list[Written]:
    started = time.monotonic()
    bench = recording_whole(bench, table)
    manifests = bench.lake.manifests(source_table, bench.lake.partitions(source_table))
    bench.read(name, source_table, manifests)
    path = bench.lake.staging(table, WHOLE)
    rows = bench.engine.write(queries.text_of(table), path)
    return [bench.commit(table, WHOLE, [NewFile(path, "all", rows)], started)]


def build_units(bench: Workbench, names: Sequence[str] | None = None, *, until: date | None = None) -> None:
    """Keep in the engine, as table `units`, who is in which arm of each experiment (all, or those named).

    Table `experiments` beside it holds their windows. A learner in two arms stays in the first and is marked.
    Nothing from the day `until` on is looked at, so that a snapshot never knows of later days.
    """
    import polars as pl

    briefs = [
        brief
        for name, brief in sorted(bench.catalog.briefs.items())
        if brief.table is None and (names is None or name in names)
    ]
    rows = {
        "experiment": [brief.name for brief in briefs],
        "version": [brief.version for brief in briefs],
        "unit_type": [brief.randomisation_unit for brief in briefs],
        "first_day": [brief.start for brief in briefs],
        "last_day": [brief.end if until is None else min(brief.end, until) for brief in briefs],
    }
    schema = {
        "experiment": pl.String,
        "version": pl.Int64,
        "unit_type": pl.String,
        "first_day": pl.Date,
        "last_day": pl.Date,
    }
    bench.engine.offer_frame("experiment_days", pl.DataFrame(rows, schema=schema))
    bench.engine.build(
        "experiments",
        "select *, cast(first_day as timestamp) as window_start, cast(last_day as timestamp) as window_end "
        "from experiment_days",
    )
    lake = bench.lake
    first = min((brief.start for brief in briefs), default=None)
    known = lake.partitions("assignments")
    beyond = None if until is None else event_day(until)
    wanted = [
        name
        for name in known
        if first is not None and name >= event_day(first) and (beyond is None or name < beyond)
    ]
    bench.read("assignments", "assignments", lake.manifests("assignments", wanted))
    bench.read("enrollments", "enrollments", lake.manifests("enrollments", [WHOLE]))
    bench.engine.build("units", queries.text_of("units"))


def unit_columns() -> str:
    """The columns of table `units` as an SQL list."""
    return ", ".join(quote(name) for name in table_columns("units"))
