"""The daily job that deletes texts of the debug envelope that are past their day.

No postponed annotations here: Dagster reads an op's types as they stand.
"""

import dagster as dg

from exp_pipeline.defs.resources import PipelineResource
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
    executor_def=dg.in_process_executor,
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
