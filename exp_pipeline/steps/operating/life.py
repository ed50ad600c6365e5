"""The life of an experiment, read from the log and the lake."""

from __future__ import annotations

from datetime import UTC, datetime, time

import polars as pl

from exp_pipeline.analysis.ramps.life import LifeFacts, life_of
from exp_pipeline.analysis.ramps.transition import earliest_next
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.life import Life
from exp_pipeline.model.ramps import RampFacts, folded
from exp_pipeline.steps.context import DAY, Workbench, day_of, event_day
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.experiments.locking import locked_of
from exp_pipeline.steps.experiments.starting import readiness_log
from exp_pipeline.steps.operating.ramp_facts import newest_complete_day
from exp_pipeline.steps.operating.ramp_log import aa_approved_at, entries_of
from exp_pipeline.store.state import state_log


def life(bench: Workbench, brief: Brief, now: datetime) -> Life:
    """Where is an experiment in its life at a moment, how did it get there, and what is to come?"""
    log = state_log(bench.home)
    entries = entries_of(log, brief)
    locked = locked_of(bench.home, brief)
    newest = newest_complete_day(bench, now)
    taken = [one for one in decisions(bench.home, brief.name) if one.kind == "decided"]
    if locked is not None:
        taken = [one for one in taken if one.at >= locked.locked_at]
    judged = tuple((at, not gaps) for at, gaps in readiness_log(bench.home, brief))
    ramp = RampFacts(now=now, state=folded(entries), calendar=bench.catalog.calendar_of(brief))
    facts = LifeFacts(
        now=now,
        readiness=judged,
        locked_at=None if locked is None else locked.locked_at,
        # A brief whose logging is new is ready only with an A/A result: approved, or read from an experiment.
        aa_at=aa_approved_at(log, brief) or next((at for at, ready in judged if ready), None),
        log=entries,
        newest_day=newest,
        units=_has_units(bench, brief, now),
        decided_at=taken[-1].at if taken else None,
        outcome=taken[-1].outcome if taken else "",
        earliest=earliest_next(brief, ramp),
    )
    return life_of(brief, facts)


def life_as_known(bench: Workbench, brief: Brief) -> Life:
    """The life up to the newest thing that is known of it: a day of data, an entry of a log, a decision.

    For pages that are written again when something becomes known, and say the same until then.
    """
    log = state_log(bench.home)
    locked = locked_of(bench.home, brief)
    moments = [
        datetime.combine(day_of(name), time(), UTC) + DAY for name in bench.lake.partitions("unit_days")[-1:]
    ]
    moments += [entry.at for entry in entries_of(log, brief)]
    moments += [one.at for one in decisions(bench.home, brief.name)]
    moments += [at for at, _ in readiness_log(bench.home, brief)]
    moments += [] if locked is None else [locked.locked_at]
    return life(bench, brief, max(moments, default=datetime.combine(brief.start, time(), UTC)))


def life_markdown(found: Life) -> str:
    """A life as a list in Markdown: the states so far, then what is to come."""
    lines = [f"- {_when(step.since)}**{step.label}**: {step.because}" for step in found.steps]
    coming = [
        f"- {_when(one.at)}{one.what}" + ("" if one.by_itself else ", once people have acted")
        for one in found.coming
    ]
    return "\n".join([*lines, "", "To come:", "", *coming] if coming else lines)


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} "


def _has_units(bench: Workbench, brief: Brief, now: datetime) -> bool:
    """Whether the newest judged day of the experiment's window counts any unit of it."""
    newest = newest_complete_day(bench, now)
    if newest is None or newest < brief.start:
        return False
    day = min(newest, brief.end - DAY)
    while day >= brief.start:
        manifest = bench.lake.manifest("srm_daily", event_day(day))
        if manifest is not None and manifest.rows:
            frame = pl.read_parquet(bench.lake.paths([manifest]), columns=["experiment", "version", "units"])
            own = frame.filter((pl.col("experiment") == brief.name) & (pl.col("version") == brief.version))
            return bool(own["units"].sum())
        day -= DAY
    return False
