"""Jobs, the daily schedule, and the sensor that gives every brief its partition."""

from __future__ import annotations

import os
from datetime import timedelta

import dagster as dg

from exp_pipeline.catalog.loading import SUFFIXES
from exp_pipeline.defs import partitions as parts
from exp_pipeline.model.names import SLUG
from exp_pipeline.steps.opening import home_from

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

DAILY_ASSETS = (
    "landed_events",
    "events",
    "quarantine",
    "exclusions",
    "learner_days",
    "sessions",
    "turns",
    "assignments",
    "exposures",
    "roster",
    "roster_quarantine",
    "enrollments",
    "content",
    "unit_days",
    "srm_daily",
    "guardrails_daily",
    "data_quality",
)
EXPERIMENT_ASSETS = (
    "brief",
    "readiness",
    "power_plan",
    "assignment_table",
    "dry_run",
    "mad",
    "integrity",
    "estimates",
    "segments",
    "novelty",
    "robustness",
    "decision",
    "memo",
)

daily_facts = dg.define_asset_job(
    "daily_facts",
    selection=dg.AssetSelection.assets(*DAILY_ASSETS),
    description="Everything that happened on a day or a range of days, for all experiments at once.",
)
experiment_readout = dg.define_asset_job(
    "experiment_readout",
    selection=dg.AssetSelection.assets(*EXPERIMENT_ASSETS),
    description="One experiment from its brief to its memo.",
)
warehouse_refresh = dg.define_asset_job(
    "warehouse_refresh",
    selection=dg.AssetSelection.assets("warehouse"),
    description="The small DuckDB file with documented views, for analysts and BI tools.",
)


@dg.schedule(
    job=daily_facts,
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def every_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Yesterday with the days before it that late events may still reach: one run, safe to repeat."""
    tick = context.scheduled_execution_time
    newest = tick.date() - timedelta(days=1)
    # A day's last sessions end on the next day and late events come for three: those days are done again.
    oldest = max(newest - timedelta(days=3), parts.first_day())
    return dg.RunRequest(
        run_key=f"daily-{newest.isoformat()}",
        tags={RANGE_START: oldest.isoformat(), RANGE_END: newest.isoformat()},
    )


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def briefs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Gives every brief in the catalog its partition; partitions are never taken away.

    A file whose name cannot be an experiment's gets none: a key with a comma or bar would break backfills.
    """
    folder = home_from(os.environ).catalog / "experiments"
    stems = sorted(
        path.stem
        for path in folder.glob("*.y*ml")
        if path.suffix in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    names = [stem for stem in stems if SLUG.fullmatch(stem)]
    unfit = [stem for stem in stems if not SLUG.fullmatch(stem)]
    if unfit:
        context.log.warning(
            f"no partition for {', '.join(unfit)}: a brief's file is named {SLUG.pattern}.yaml"
        )
    known = set(context.instance.get_dynamic_partitions("experiment"))
    new = [name for name in names if name not in known]
    if not new:
        return dg.SkipReason(f"{len(known)} experiments have their partition; no new brief.")
    return dg.SensorResult(dynamic_partitions_requests=[parts.experiments.build_add_request(new)])
