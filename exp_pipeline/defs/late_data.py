"""The sensor that asks for runs over days that late data touch, and then over what follows from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.automation import DAILY_ASSETS, RANGE_END, RANGE_START, daily_facts
from exp_pipeline.defs.specs import CAUSE, WHY, asset_name
from exp_pipeline.model.digests import digest_of
from exp_pipeline.steps.again.affected import STAGES, AffectedDays, affected_days, told
from exp_pipeline.steps.again.catch_up import Piece, pieces_of
from exp_pipeline.steps.context import DAY, Workbench, day_of
from exp_pipeline.steps.opening import home_from, workbench
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST

# Where more landed rows than this changed, a tick does not look into them: the days around count as touched.
LOOKED_INTO_ROWS = 1_000_000
MEMORY = "512MB"
# Changed settings and lakes of an earlier version are for people to act on (`exp catch-up`).
_LEFT_TO_PEOPLE = ("definition", "not recorded")
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dg.sensor(job=daily_facts, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.STOPPED)
def late_data(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Asks for days that files which came late touch, a stage of the graph at a time, and for nothing else.

    A tick looks at names, sizes and times of change; only where one of them is new are manifests compared.
    Received days after the newest that was read are left to the daily schedule.
    """
    home = home_from(os.environ)
    seen = state_of(home)
    if context.cursor == seen:
        return dg.SkipReason("Nothing has landed or been written since the last look.")
    going_on = context.instance.get_run_records(dg.RunsFilter(statuses=list(UNFINISHED)), limit=50)
    if any(_over_days(record.dagster_run) for record in going_on):
        return dg.SkipReason("A run over days is going on: looked at again after it.")
    with _bench(home) as bench:
        found, held_back, left = _next_stage(bench)
    for line in held_back:
        context.log.warning(
            f"not read again: {line}; bring the files back, or land the new ones on another day"
        )
    context.update_cursor(seen)
    if not found:
        waiting = f" {left} partitions wait for `exp catch-up`: a definition changed." if left else ""
        return dg.SkipReason(f"No day is out of date by late data.{waiting}")
    requests = [_request(piece, found, seen) for piece in pieces_of(found)]
    return dg.SensorResult(run_requests=requests)


def _over_days(run: dg.DagsterRun) -> bool:
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return run.job_name == daily_facts.name or bool(selected & set(DAILY_ASSETS)) or RANGE_START in run.tags


def _request(piece: Piece, found: AffectedDays, seen: str) -> dg.RunRequest:
    own = replace(found, found=tuple(one for one in found.found if one.table in piece.tables))
    tags = {CAUSE: "late_data", WHY: "; ".join(own.sentences())[:250]}
    if piece.window is not None:
        tags |= {
            RANGE_START: piece.window.first.isoformat(),
            RANGE_END: (piece.window.end - DAY).isoformat(),
        }
    days = told(piece.window) if piece.window is not None else ""
    return dg.RunRequest(
        run_key=f"late-{digest_of([seen, list(piece.tables), days])[:24]}",
        tags=tags,
        asset_selection=[dg.AssetKey(asset_name(table)) for table in piece.tables],
    )


def _next_stage(bench: Workbench) -> tuple[AffectedDays, tuple[str, ...], int]:
    """The first stage of the graph with days to make again; what is held back; how much is left to people."""
    landed = bench.lake.partitions("landed")
    first = date.fromisoformat(parts.event_days.get_first_partition_key() or "9999-12-31")
    last = date.fromisoformat(parts.event_days.get_last_partition_key() or "0001-01-01")
    held_back: tuple[str, ...] = ()
    left = 0
    for stage in STAGES if landed else ():
        found = affected_days(
            bench,
            tables=stage,
            first=first,
            landed_until=day_of(landed[-1]),
            judge_rows=LOOKED_INTO_ROWS,
        )
        held_back += found.held_back
        left += sum(one.why in _LEFT_TO_PEOPLE for one in found.found)
        kept = tuple(
            one
            for one in found.found
            if one.why not in _LEFT_TO_PEOPLE and (one.day is None or one.day <= last)
        )
        if kept:
            return replace(found, found=kept), held_back, left
    return AffectedDays(()), held_back, left


def state_of(home: Home) -> str:
    """A digest of what lies in landing, lake and catalog, by names, sizes and times of change alone."""
    marks = [
        *_marks(home.landing.rglob("*")),
        *_marks(home.lake.glob(f"*/*/{MANIFEST}")),
        *_marks(home.catalog.rglob("*.y*ml")),
    ]
    return digest_of([json.dumps(marks)])[:32]


def _marks(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    found = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(found)


@contextmanager
def _bench(home: Home) -> Iterator[Workbench]:
    """A workbench for a tick: one thread, little memory."""
    with DuckDBResource(database=":memory:").get_connection() as connection:
        connection.execute(f"set memory_limit = '{MEMORY}'")
        with workbench(home, connection, run_id="late_data", environment=os.environ, threads=1) as bench:
            yield bench
