"""Ramps: where each stands, what is published of them, and the hourly tick that moves them."""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from time import monotonic
from typing import Any

import dagster as dg

from exp_pipeline.catalog import load_catalog
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import metadata_of_files, plain_schema, spec
from exp_pipeline.model.errors import SpecError
from exp_pipeline.model.ramps import SCHEDULE, stages_of
from exp_pipeline.notify.webhook import webhook_from
from exp_pipeline.steps.opening import home_from
from exp_pipeline.steps.operating import flags as published_flags
from exp_pipeline.steps.operating import ramps
from exp_pipeline.steps.operating.flag_delivery import pending_versions
from exp_pipeline.steps.operating.life import life
from exp_pipeline.steps.operating.ramp_log import all_entries, entries_of
from exp_pipeline.steps.operating.ramp_round import send_flags
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

_ALL = dg.AllPartitionMapping()
_COLUMNS = ("experiment", "state", "since", "traffic", "next_tick", "reasons", "coming")


@dg.multi_asset(
    specs=[
        spec(
            "ramp_state",
            group="ramp",
            description="Where each experiment is in its life and on its ramp, and what the tick decided: "
            "advance, hold, pause or roll back, with every reason. Transitions stand in an append-only log; "
            "kill rules act without a person.",
            deps=[
                dg.AssetDep(name, partition_mapping=_ALL)
                for name in ("srm_daily", "guardrails_daily", "data_quality")
            ],
            kinds=("python",),
            grain="One row per experiment.",
        )
    ],
    name="judge_ramps",
    check_specs=[
        dg.AssetCheckSpec(
            "ramps_go_on",
            asset="ramp_state",
            description="Every ramp can be judged, and none stands paused or rolled back by a kill rule.",
        )
    ],
)
def ramp_state(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    began, now = monotonic(), datetime.now(UTC)
    with pipeline.open(context) as bench:
        judged = ramps.tick(bench, now)
        troubled = {one.experiment for one in judged if one.trouble}
        briefs = [one for one in ramps.ramped_briefs(bench) if one.name not in troubled]
        lives = {one.name: life(bench, one, now) for one in briefs}
        log = state_log(bench.home)
        logs = {one.name: entries_of(log, one) for one in briefs}
    rows = []
    for one in judged:
        lived = lives.get(one.experiment)
        step, coming = (None, None) if lived is None else (lived.now, lived.next)
        rows.append(
            dg.TableRecord(
                {
                    "experiment": one.experiment,
                    "state": "unknown" if step is None else step.label,
                    "since": "" if step is None or step.since is None else f"{step.since:%Y-%m-%d %H:%M}",
                    "traffic": f"{100 * one.state.traffic:g} %",
                    "next_tick": one.decision.verb.replace("_", " "),
                    "reasons": "; ".join(one.decision.reasons)[:400],
                    "coming": "" if coming is None else f"{coming.at:%Y-%m-%d %H:%M} {coming.what}",
                }
            )
        )
    stopped = [
        f"{name}: {own[-1].action.replace('_', ' ')}, {'; '.join(own[-1].reasons)}"
        for name, own in logs.items()
        if own and own[-1].action in ("pause", "roll_back") and own[-1].by == SCHEDULE
    ]
    stopped += [f"{one.experiment} cannot be judged: {one.trouble}" for one in judged if one.trouble]
    written = [one.experiment for one in judged if one.written is not None]
    yield dg.MaterializeResult(
        asset_key="ramp_state",
        metadata={
            **metadata_of_files(len(rows), monotonic() - began),
            "ramps": dg.MetadataValue.table(rows, schema=plain_schema(_COLUMNS)),
            "transitions": ", ".join(written) or "None.",
        },
    )
    yield dg.AssetCheckResult(
        asset_key="ramp_state",
        check_name="ramps_go_on",
        passed=not stopped,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"stopped": dg.MetadataValue.md("\n".join(f"- {line}" for line in stopped) or "None.")},
    )


@dg.multi_asset(
    specs=[
        spec(
            "flags",
            group="ramp",
            description="What products read to learn which arm a unit gets: flags in the words of flagd and "
            "of GrowthBook, derived from the log, with a version that only rises; and their way to the "
            "webhook.",
            deps=["ramp_state"],
            kinds=("python", "json"),
            grain="One flag per version of an experiment.",
        )
    ],
    name="publish_flags",
    check_specs=[
        dg.AssetCheckSpec(
            "published",
            asset="flags",
            description="The flag files hold the newest version, and the webhook waits for none.",
        )
    ],
)
def flags(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    began, now = monotonic(), datetime.now(UTC)
    with pipeline.open(context) as bench:
        home = bench.home
        sent = send_flags(bench, now, os.environ)
    publication = sent.published.publication
    version = None if publication is None else publication.version
    file = None if publication is None else published_flags.file_version(home)
    waiting, trouble = sent.delivery.waiting, sent.delivery.error
    named = {} if publication is None else publication.flagd["flags"]
    shown = named if isinstance(named, dict) else {}
    metadata: dict[str, Any] = {
        **metadata_of_files(len(shown), monotonic() - began),
        "version": version or 0,
        "made_now": sent.published.made,
        "path": dg.MetadataValue.path(str((home.flags / published_flags.FLAGD_FILE).resolve())),
        "webhook": sent.receiver or "none is set",
        "webhook_waiting": waiting,
    }
    if shown:
        metadata["flags"] = dg.MetadataValue.json(shown)
    yield dg.MaterializeResult(asset_key="flags", metadata=metadata)
    yield dg.AssetCheckResult(
        asset_key="flags",
        check_name="published",
        passed=version == file and not waiting,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"version": version or 0, "file_version": file or 0, "waiting": waiting}
        | ({"trouble": trouble} if trouble else {}),
    )


ramps_and_flags = dg.define_asset_job(
    "ramps_and_flags",
    selection=dg.AssetSelection.assets("ramp_state", "flags"),
    description="Judges every ramp, writes what follows, lets the flags follow.",
    # A run whose machine went down counts as running for so long: kill rules must not wait behind such runs.
    tags={"dagster/max_runtime": "1800"},
)


@dg.schedule(
    job=ramps_and_flags,
    cron_schedule="5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def ramp_tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Every hour, where a ramp is under way or due; on from the start, because kill rules act here."""
    at = context.scheduled_execution_time
    why = why_due(home_from(os.environ), at.astimezone(UTC).date())
    if why is None:
        return dg.SkipReason("No ramp is under way or due to start, and nothing waits to be sent.")
    return dg.RunRequest(run_key=f"ramp-{at.astimezone(UTC):%Y%m%dT%H%M}", tags={"exp/why": why})


def why_due(home: Home, today: date) -> str | None:
    """Why a tick has something to look at; None where it has not. Reads YAML and the log only."""
    log = state_log(home)
    latest = {(entry.experiment, entry.version): entry for _, entry in all_entries(log)}
    for (name, _), entry in latest.items():
        if entry.action not in ("roll_back", "close"):
            return f"{name} is under way"
    try:
        briefs = load_catalog(home.catalog, strict=False).briefs.values()
    except SpecError:
        return "the catalog has problems"
    for brief in briefs:
        due = stages_of(brief) and brief.start <= today < brief.end
        if due and not entries_of(log, brief):
            return f"{brief.name} is due to start"
    behind = published_flags.unpublished(log)
    if behind:
        return f"the flag of {behind[0]} is behind its ramp"
    newest = published_flags.newest(log)
    if newest is not None and published_flags.file_version(home) != newest.version:
        return "the flag files are behind"
    try:
        receiver = webhook_from(os.environ)
    except ValueError:
        return "the webhook is set wrongly"
    if receiver is not None and pending_versions(log, receiver):
        return "the webhook waits"
    return None
