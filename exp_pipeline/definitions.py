"""The code location that Dagster loads: everything of `defs`, put together."""

from __future__ import annotations

import dagster as dg

from exp_pipeline.defs import after, analysis, automation, days, ingest, integrity, planning
from exp_pipeline.defs.resources import resources

ASSETS = [
    ingest.landed_events,
    ingest.conformed,
    days.bouts,
    days.sessions,
    days.turns,
    days.assigned,
    days.identities,
    days.unit_days,
    integrity.judged,
    analysis.brief,
    planning.planned,
    planning.assignment_table,
    planning.dry_run,
    analysis.mad,
    analysis.integrity,
    analysis.estimates,
    analysis.decided,
    after.warehouse,
]

defs = dg.Definitions(
    assets=ASSETS,
    jobs=[automation.daily_facts, automation.experiment_readout, automation.warehouse_refresh],
    schedules=[automation.every_day],
    sensors=[automation.briefs],
    resources=resources(),
    executor=dg.in_process_executor,
)
