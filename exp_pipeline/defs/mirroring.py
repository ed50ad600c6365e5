"""The mirror in an object store: the job that pushes to it, and the sensor that asks for a push.

No postponed annotations here: Dagster reads an op's types as they stand.
"""

import os
from datetime import UTC, datetime, timedelta

import dagster as dg

from exp_pipeline.defs.late_data import UNFINISHED
from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.opening import home_from
from exp_pipeline.steps.operating.mirror import VARIABLE, mirror_from, standing
from exp_pipeline.store.mirror_places import place_of

# After a failed push the next one waits, twice as long each time, up to the longest pause.
PAUSE, LONGEST = timedelta(minutes=1), timedelta(hours=1)
_LOOK_BACK = 12


@dg.op(description="Copies what is new to the mirror, and takes away there what is gone here.")
def push_mirror(context: dg.OpExecutionContext) -> None:
    from exp_pipeline.steps.operating.mirror_push import push

    mirror = mirror_from(os.environ)
    if mirror is None:
        raise dg.Failure(f"{VARIABLE} is not set: there is no mirror to push to", allow_retries=False)
    try:
        done = push(home_from(os.environ), mirror, lambda: datetime.now(UTC), progress=context.log.debug)
    except StoreError as trouble:
        raise dg.Failure(str(trouble), allow_retries=False) from None
    context.add_output_metadata(
        {
            "mirror": done.mirror,
            "copied": done.copied,
            "bytes": done.bytes,
            "partitions_replaced": done.partitions,
            "partitions_taken_away": done.retired,
            "files_removed": done.removed,
            "files_leaving": done.leaving,
        }
    )


@dg.job(description="Makes the mirror of EXP_LAKE_MIRROR hold what the data folder holds.")
def mirror() -> None:
    push_mirror()


@dg.sensor(job=mirror, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def mirror_behind(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Asks for a push, one at a time, when something here is not in the mirror; off without EXP_LAKE_MIRROR.

    Looks at names, sizes and times only. A push that fails opens an incident and is asked for after a pause.
    """
    url, now = os.environ.get(VARIABLE, "").strip(), datetime.now(UTC)
    if not url:
        return dg.SkipReason(f"{VARIABLE} names no mirror.")
    stand = standing(home_from(os.environ), place_of(url).name, now)
    if not stand.due:
        return dg.SkipReason("The mirror holds everything.")
    records = context.instance.get_run_records(dg.RunsFilter(job_name=mirror.name), limit=_LOOK_BACK)
    if any(record.dagster_run.status in UNFINISHED for record in records):
        return dg.SkipReason("A push is going on.")
    failed = 0
    for record in records:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            break
        failed += 1
    if failed:
        again = records[0].update_timestamp + min(PAUSE * (1 << (failed - 1)), LONGEST)
        if now < again:
            return dg.SkipReason(f"{failed} pushes failed; the next one is asked for at {again:%H:%M} UTC.")
    # The newest run names this request: a tick that is evaluated twice asks once.
    newest = records[0].dagster_run.run_id if records else "first"
    return dg.RunRequest(run_key=f"mirror-{newest}")
