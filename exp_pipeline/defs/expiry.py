"""The daily jobs that delete what is past its day: texts of the debug envelope, and days by policy.

No postponed annotations here: Dagster reads an op's types as they stand.
"""

import os
from datetime import UTC, datetime

import dagster as dg

from exp_pipeline.catalog import load_catalog
from exp_pipeline.contracts.events import event_names
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.steps.after.retention import keep_to_policy
from exp_pipeline.steps.opening import home_from
from exp_pipeline.steps.people.debug_envelope import expire_debug_envelopes, utc_today


@dg.op(description="Deletes texts of the debug envelope that are past their day.")
def delete_expired_texts(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    with pipeline.open(context) as bench:
        done = expire_debug_envelopes(bench, utc_today())
    context.add_output_metadata({"files": done.files, "received_days": list(done.received_days)})
    if done.missing_folders:
        raise dg.Failure(
            f"{', '.join(done.missing_folders)} may hold texts and is not there: mount it; if it was deleted "
            "for good, make an empty folder of that name",
            allow_retries=False,
        )


@dg.job(
    description="Deletes the debug envelope's texts that are past their day; all, where the policy is off.",
)
def debug_envelope_expiry() -> None:
    delete_expired_texts()


# On from the start: it promises that texts go away, and where there are none it does nothing.
expire_texts_daily = dg.ScheduleDefinition(
    name="expire_texts_daily",
    job=debug_envelope_expiry,
    cron_schedule="10 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every day, shortly after midnight UTC.",
)


@dg.op(description="Deletes the days and snapshots that are past their limit in the retention policy.")
def delete_past_days(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    with pipeline.open(context) as bench:
        done = keep_to_policy(bench, datetime.now(UTC))
    going = done.to_delete()
    context.add_output_metadata(
        {
            "deleted": len(going),
            "bytes": sum(one.bytes for one in going),
            "kept_though_past": len(done.lines) - len(going),
            "kept_for_good": ", ".join(done.kept_for_good) or "None.",
        }
    )


@dg.job(
    description="Deletes days past their limit, but for what an experiment needs; nothing by default.",
)
def retention() -> None:
    delete_past_days()


@dg.schedule(
    job=retention,
    cron_schedule="20 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def retention_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Every day, where the policy sets a limit for anything."""
    home = home_from(os.environ)
    policy = load_catalog(home.catalog, strict=False, event_names=event_names()).policies.retention
    if not policy.tables and policy.snapshots_of_decided is None:
        return dg.SkipReason("The retention policy keeps everything for good.")
    return dg.RunRequest(run_key=f"retention-{context.scheduled_execution_time.date()}")
