"""What follows from verdicts: briefs of started experiments are locked, incidents opened, pages sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from exp_pipeline.model.policies import IncidentPolicy
from exp_pipeline.notify.channels import Channel
from exp_pipeline.steps.context import Window, Workbench, event_day
from exp_pipeline.steps.experiments.starting import lock_if_started
from exp_pipeline.steps.operating.delivery import deliver
from exp_pipeline.steps.operating.incidents import escalate, findings_of_day, open_incidents, record_findings
from exp_pipeline.store.state import StateLog, state_log

TABLES = ("srm_daily", "guardrails_daily")


def lock_started(bench: Workbench, now: datetime) -> list[str]:
    """Lock the brief of every experiment that the data have reached; gives the names of those locked."""
    locked = []
    for name, brief in sorted(bench.catalog.briefs.items()):
        if brief.table is None and lock_if_started(bench, brief, now).locked_digest is not None:
            locked.append(name)
    return locked


def tell(
    state: StateLog, channels: Sequence[Channel], policy: IncidentPolicy, now: datetime
) -> dict[str, int]:
    """Say again what nobody took in time, and send what every channel lacks.

    Gives the numbers of escalations, messages sent, failed and waiting, and of open incidents.
    """
    escalated = escalate(state, policy, now)
    rounds = [deliver(state, channel, now) for channel in channels]
    return {
        "escalated": len(escalated),
        "sent": sum(len(done.sent) for done in rounds),
        "failed": sum(len(done.failed) for done in rounds),
        "waiting": sum(done.waiting for done in rounds),
        "open": len(open_incidents(state)),
    }


def follow_verdicts(
    bench: Workbench, window: Window, now: datetime, channels: Sequence[Channel]
) -> dict[str, int]:
    """Turn the verdicts of the newest judged day of the window into incidents and messages.

    Older days of a range change nothing: nobody is woken for each of them. Done twice, nothing is sent
    twice. Gives the numbers of transitions and of what `tell` counts.
    """
    frames = {table: _newest(bench, table, window) for table in TABLES}
    frames["data_quality"] = newest_judged(bench, window)
    briefs = bench.catalog.briefs
    findings = findings_of_day(
        frames["srm_daily"],
        frames["guardrails_daily"],
        frames["data_quality"],
        owners={name: brief.on_call for name, brief in briefs.items()} | {"*": "data-platform"},
        srm_alpha={name: brief.srm_alpha for name, brief in briefs.items()},
    )
    state = state_log(bench.home)
    transitions = record_findings(state, findings, now)
    return {"transitions": len(transitions)} | tell(state, channels, bench.catalog.policies.incidents, now)


def newest_judged(bench: Workbench, window: Window) -> pl.DataFrame:
    """Of each data-quality rule and subject, the row of the newest day of the window that could be told.

    Rules on late data judge a day only when it is ripe; their newest verdict is some days older than others'.
    """
    bench.read_days("quality_of_days", "data_quality", window)
    frame = bench.engine.frame("select * from quality_of_days order by event_date, rule, subject")
    told = pl.col("verdict") != "cannot_tell"
    return (
        frame.sort(told, "event_date")
        .unique(["rule", "subject"], keep="last", maintain_order=True)
        .sort("rule", "subject")
    )


def _newest(bench: Workbench, table: str, window: Window) -> pl.DataFrame:
    """The rows of the newest day of the window that has any; an empty table where none has."""
    manifests = bench.lake.manifests(table, [event_day(day) for day in window.days()])
    filled = [manifest for manifest in manifests if manifest.rows]
    bench.read("verdicts_of_day", table, filled[-1:])
    return bench.engine.frame("select * from verdicts_of_day order by all")
