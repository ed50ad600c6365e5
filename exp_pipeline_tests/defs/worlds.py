"""Runs of the real jobs on a data folder of one's own, against a Dagster instance on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from exp_pipeline_tests.defs import small_world as small


@contextmanager
def instance_in(folder: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance whose history lies in a folder, with the experiments' partitions in it."""
    folder.mkdir(exist_ok=True)
    with dg.instance_for_test(temp_dir=str(folder)) as instance:
        instance.add_dynamic_partitions("experiment", list(small.EXPERIMENTS))
        yield instance


@contextmanager
def environment_of(home: Path) -> Iterator[None]:
    """The environment that points the pipeline at a data folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXP_HOME", str(home))
        patch.setenv("EXP_HMAC_KEY", small.KEY)
        yield


def run_job(
    instance: dg.DagsterInstance,
    job: str,
    *,
    partition: str | None = None,
    days: tuple[str, str] | None = None,
    only: Sequence[str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run one of the pipeline's own jobs here, over one partition or a range of days, whole or in part."""
    from exp_pipeline.defs import automation
    from exp_pipeline.defs.graph import ASSETS
    from exp_pipeline.defs.resources import resources

    tags = {automation.RANGE_START: days[0], automation.RANGE_END: days[1]} if days else {}
    # Made anew, because the resources read the environment when they are made.
    made = dg.Definitions(
        assets=ASSETS, jobs=[getattr(automation, job)], resources=resources(), executor=dg.in_process_executor
    ).resolve_job_def(job)
    return made.execute_in_process(
        instance=instance,
        partition_key=partition,
        tags=tags,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(name) for name in only] if only else None,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


ALL_DAYS = (small.FIRST.isoformat(), small.LAST.isoformat())


def run_everything(instance: dg.DagsterInstance) -> list[dg.ExecuteInProcessResult]:
    """One run for all days, one an experiment, one for the warehouse."""
    return [
        run_job(instance, "daily_facts", days=ALL_DAYS),
        *(run_job(instance, "experiment_readout", partition=name) for name in small.EXPERIMENTS),
        run_job(instance, "warehouse_refresh"),
    ]


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    """Names of the assets that a run materialized."""
    events = result.get_asset_materialization_events()
    return {event.asset_key.to_user_string() for event in events if event.asset_key is not None}


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    """Names of the asset checks that did not pass in a run."""
    return {one.check_name for one in result.get_asset_check_evaluations() if not one.passed}


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What failed in a run, a line each: the step and the innermost cause."""
    found = []
    for event in result.all_events:
        if event.is_failure and event.is_step_event:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            found.append(f"{event.step_key}: {error.message.strip() if error else 'no reason'}")
    return found
