"""What comes due by itself: readouts at each planned look and the end, lasting effects weeks after it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date, timedelta

import dagster as dg

from exp_pipeline.catalog import load_catalog
from exp_pipeline.contracts.events import event_names
from exp_pipeline.defs.after import experiment_durability
from exp_pipeline.defs.automation import experiment_readout
from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.after.durability import HIDDEN, due_looks, durability_rows
from exp_pipeline.steps.context import day_of
from exp_pipeline.steps.opening import home_from
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST
from exp_pipeline.store.marts import Marts


@dg.sensor(job=experiment_readout, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def due_readouts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Reads an experiment out when the data reach a planned look or its end; once for each such day."""
    home = home_from(os.environ)
    newest = newest_unit_day(home)
    if newest is None:
        return dg.SkipReason("No day of units has been made yet.")
    seen = json.dumps([newest.isoformat(), _catalog_marks(home)])
    if context.cursor == seen:
        return dg.SkipReason("No new day, no changed brief.")
    briefs = load_catalog(home.catalog, strict=False, event_names=event_names()).briefs
    partitions = set(context.instance.get_dynamic_partitions("experiment"))
    marts = Marts(home.marts)
    due = {
        name: day
        for name, brief in sorted(briefs.items())
        if name in partitions and (day := due_day(brief, newest, _read_until(marts, name))) is not None
    }
    if not due:
        context.update_cursor(seen)
        return dg.SkipReason("No readout is due.")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"due-{name}-v{briefs[name].version}-{day}", tags={"dagster/partition": name}
            )
            for name, day in due.items()
        ],
        cursor=seen,
    )


@dg.sensor(
    job=experiment_durability, minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING
)
def due_durability(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Measures an ended experiment's effect again when the data reach a day planned for it; once for each."""
    home = home_from(os.environ)
    newest = newest_day(home, "learner_days")
    if newest is None:
        return dg.SkipReason("No day of learners has been made yet.")
    seen = json.dumps([newest.isoformat(), _catalog_marks(home)])
    if context.cursor == seen:
        return dg.SkipReason("No new day, no changed brief.")
    briefs = load_catalog(home.catalog, strict=False, event_names=event_names()).briefs
    partitions = set(context.instance.get_dynamic_partitions("experiment"))
    marts = Marts(home.marts)
    due = {}
    for name, brief in sorted(briefs.items()):
        reached, snapshot = due_looks(brief, newest), marts.current(name)
        if not reached or name not in partitions or snapshot is None:
            continue
        # Effects that were hidden are asked for again when there is another snapshot.
        measured = {
            row.due
            for row in durability_rows(home, name)
            if row.version == brief.version and row.reason != HIDDEN
        }
        if reached[-1].due not in measured:
            due[name] = f"{reached[-1].due}-{snapshot}"
    if not due:
        context.update_cursor(seen)
        return dg.SkipReason("No effect is to be looked at again.")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"durability-{name}-v{briefs[name].version}-{day}", tags={"dagster/partition": name}
            )
            for name, day in due.items()
        ],
        cursor=seen,
    )


def due_day(brief: Brief, newest: date, read_until: date | None) -> date | None:
    """The newest look (or end) that the data reach and that no readout has reached yet; None without one.

    newest: the newest day of the data. read_until: the newest day of the newest readout. A look on a day sees
    all days before it.
    """
    if brief.table is not None:
        return None
    reached = [look for look in (*brief.looks, brief.end) if look <= newest + timedelta(days=1)]
    if not reached:
        return None
    latest = max(reached)
    last_needed = latest - timedelta(days=1)
    return latest if read_until is None or read_until < last_needed else None


def newest_unit_day(home: Home) -> date | None:
    """The newest day of `unit_days` that was made, without reading any."""
    return newest_day(home, "unit_days")


def newest_day(home: Home, table: str) -> date | None:
    """The newest day of a table that was made, without reading any."""
    folder = home.lake / table
    names = sorted((entry.name for entry in folder.iterdir()), reverse=True) if folder.is_dir() else []
    return next((day_of(name) for name in names if (folder / name / MANIFEST).is_file()), None)


def _read_until(marts: Marts, experiment: str) -> date | None:
    snapshot = marts.current(experiment)
    record: Mapping[str, object] | None = marts.record(experiment, snapshot) if snapshot else None
    return date.fromisoformat(str(record["as_of"])) if record is not None else None


def _catalog_marks(home: Home) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted((home.catalog / "experiments").glob("*.y*ml")):
        status = path.stat()
        found.append((path.name, status.st_size, status.st_mtime_ns))
    return found
