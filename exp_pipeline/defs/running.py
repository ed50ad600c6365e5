"""Runs from a terminal: the same assets, through Dagster, recorded in the same history as the UI's runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from exp_pipeline.defs.automation import DAILY_ASSETS, EXPERIMENT_ASSETS, RANGE_END, RANGE_START
from exp_pipeline.model.errors import ExpError

# Where no settings are: Dagster's own defaults, except that nothing is reported to anybody.
SETTINGS = "telemetry:\n  enabled: false\n"

# Called with a step's name and None when it starts, and with its name and seconds when it is done.
Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How one run ended: its id, whether it succeeded, what failed in a line each, and the finished steps."""

    run_id: str
    succeeded: bool
    failures: tuple[str, ...]
    steps: tuple[str, ...]


@contextmanager
def instance() -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of DAGSTER_HOME (made if need be), so that the UI shows what a terminal ran."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise ExpError(
            "DAGSTER_HOME is not set: name a folder for Dagster's history, "
            "for example `export DAGSTER_HOME=$PWD/.dagster_home`"
        )
    folder = Path(home)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(SETTINGS)
    with dg.DagsterInstance.get() as found:
        yield found


def run_days(
    found: dg.DagsterInstance,
    first: date,
    last: date,
    *,
    progress: Progress,
    assets: Sequence[str] = DAILY_ASSETS,
    verbose: bool = False,
) -> RunOutcome:
    """Materialize daily assets (all, unless named) for a range of days, both ends included, in one run."""
    tags = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    return _run(found, assets, None, tags, progress, verbose)


def run_experiment(
    found: dg.DagsterInstance,
    experiment: str,
    *,
    progress: Progress,
    assets: Sequence[str] = EXPERIMENT_ASSETS,
    verbose: bool = False,
) -> RunOutcome:
    """Materialize one experiment from brief to memo."""
    add_experiments(found, [experiment])
    return _run(found, assets, experiment, {}, progress, verbose)


def run_warehouse(found: dg.DagsterInstance, *, progress: Progress, verbose: bool = False) -> RunOutcome:
    """Build the warehouse file."""
    return _run(found, ("warehouse",), None, {}, progress, verbose)


def run_assets(
    found: dg.DagsterInstance,
    names: Sequence[str],
    days: tuple[date, date] | None,
    tags: Mapping[str, str],
    *,
    progress: Progress,
    verbose: bool = False,
) -> RunOutcome:
    """Materialize some daily assets for a range of days (None: assets without days), with further tags."""
    ranged = {RANGE_START: days[0].isoformat(), RANGE_END: days[1].isoformat()} if days else {}
    return _run(found, names, None, {**tags, **ranged}, progress, verbose)


def add_experiments(found: dg.DagsterInstance, names: Sequence[str]) -> None:
    """Give experiments their partition, where they have none yet."""
    new = sorted(set(names) - set(found.get_dynamic_partitions("experiment")))
    if new:
        found.add_dynamic_partitions("experiment", new)


def _run(
    found: dg.DagsterInstance,
    names: Sequence[str],
    partition: str | None,
    tags: dict[str, str],
    progress: Progress,
    verbose: bool,
) -> RunOutcome:
    from exp_pipeline.defs.graph import ASSETS
    from exp_pipeline.defs.resources import resources

    # The loggers of a run are those that its configuration names; without a name Dagster logs to the console.
    loggers = {"steps": _step_logger(progress)}
    if verbose:
        loggers["console"] = dg.colored_console_logger
    job = dg.Definitions(
        assets=ASSETS,
        jobs=[
            dg.define_asset_job(
                "from_terminal",
                selection=dg.AssetSelection.assets(*names),
                executor_def=dg.in_process_executor,
            )
        ],
        resources=resources(),
        loggers=loggers,
    ).resolve_job_def("from_terminal")
    result = job.execute_in_process(
        instance=found,
        partition_key=partition,
        tags=tags,
        raise_on_error=False,
        run_config={"loggers": {name: {} for name in loggers}},
    )
    failures, steps = [], []
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            failures.append(f"{event.step_key}: {_root_cause(event.step_failure_data.error)}")
        elif event.event_type_value == "PIPELINE_FAILURE" and not failures:
            # Before any step, or between two.
            failures.append(_root_cause(event.job_failure_data.error))
        elif event.event_type_value == "STEP_SUCCESS":
            steps.append(str(event.step_key))
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                failures.append(f"check {check.check_name} of {check.asset_key.to_user_string()} failed")
    return RunOutcome(result.run_id, result.success, tuple(dict.fromkeys(failures)), tuple(steps))


class _Steps(logging.Handler):
    """Tells a run's caller about each step while the run goes on."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", None) or {}
        event = meta.get("dagster_event")
        if event is None or event.step_key is None:
            return
        if event.event_type_value == "STEP_START":
            self.progress(str(event.step_key), None)
        elif event.event_type_value == "STEP_SUCCESS":
            self.progress(str(event.step_key), event.event_specific_data.duration_ms / 1000)


def _step_logger(progress: Progress) -> dg.LoggerDefinition:
    @dg.logger
    def steps(_: dg.InitLoggerContext) -> logging.Logger:
        quiet = logging.Logger("exp_pipeline.steps", logging.DEBUG)
        quiet.addHandler(_Steps(progress))
        return quiet

    return steps


def _explained(error: SerializableErrorInfo) -> bool:
    kinds: tuple[type[ExpError], ...] = (ExpError, *ExpError.__subclasses__())
    return error.cls_name is not None and any(error.cls_name == kind.__name__ for kind in kinds)


def _root_cause(error: SerializableErrorInfo | None) -> str:
    # An error of ours explains what lies below it.
    while error is not None and error.cause is not None and not _explained(error):
        error = error.cause
    return error.message.strip() if error is not None else "no reason was recorded"
