"""Ramps: what the schedule does at a tick, and what people may do; every step by the same log.

A tick judges, writes what follows, and lets the flags follow the log. Killed anywhere, the next one goes on
from the log; two at once write one transition between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from exp_pipeline.analysis.ramps.transition import next_step
from exp_pipeline.catalog import lock_record
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.decisions import SegmentValue
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Finding
from exp_pipeline.model.ramps import (
    SCHEDULE,
    Action,
    Approval,
    Phase,
    RampDecision,
    RampEntry,
    RampFacts,
    RampState,
    folded,
    stages_of,
)
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import brief_of
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.experiments.locking import locked_of, take_lock
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.steps.operating.ramp_facts import newest_complete_day, ramp_facts
from exp_pipeline.steps.operating.ramp_log import (
    Step,
    add_approval,
    all_entries,
    append,
    approvals_of,
    entries_of,
)
from exp_pipeline.store.state import state_log

_SHOWN_REASON = 200


@dataclass(frozen=True, slots=True)
class Judged:
    """A ramp as it stands and what should happen now.

    written: the transition that this tick made. trouble: why it could not be judged; it is held then.
    """

    experiment: str
    version: int
    state: RampState
    decision: RampDecision
    facts: RampFacts
    written: RampEntry | None = None
    trouble: str = ""


def ramped_briefs(bench: Workbench) -> tuple[Brief, ...]:
    """Every brief whose arms a flag can carry, by name."""
    return tuple(brief for _, brief in sorted(bench.catalog.briefs.items()) if stages_of(brief))


def judge(bench: Workbench, brief: Brief, now: datetime, *, judge_readiness: bool = False) -> Judged:
    """What should the ramp do now? Changes nothing (but notes the readiness where it is to be judged)."""
    facts = ramp_facts(bench, brief, now, judge_readiness=judge_readiness)
    return Judged(brief.name, brief.version, facts.state, next_step(brief, facts), facts)


def tick(bench: Workbench, now: datetime) -> tuple[Judged, ...]:
    """Judge every ramp and write what follows; the flags are published apart (`flags.publish`).

    One that cannot be judged is held and says so: it must not keep the kill rules of others waiting. Raises
    ValueError where `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"now must carry a time zone, got {now.isoformat()}")
    found = []
    for brief in ramped_briefs(bench):
        try:
            found.append(_tick_one(bench, brief, now))
        except (ExpError, ValueError) as error:
            found.append(_in_trouble(brief, error, now))
    report_stops(bench, now)
    return tuple(found)


def _in_trouble(brief: Brief, error: Exception, now: datetime) -> Judged:
    said = " ".join(str(error).split())[:_SHOWN_REASON]
    state = RampState()
    decision = RampDecision("hold", state.stage, state.traffic, (f"it cannot be judged: {said}",))
    facts = RampFacts(now=now, state=state, gaps=None)
    return Judged(brief.name, brief.version, state, decision, facts, trouble=said)


def _tick_one(bench: Workbench, brief: Brief, now: datetime) -> Judged:
    log = state_log(bench.home)
    state = folded(entries_of(log, brief))
    due = state.sequence > 0 or (brief.start <= now.date() < brief.end)
    found = judge(bench, brief, now, judge_readiness=due)
    if due and state.sequence == 0 and found.facts.gaps == () and locked_of(bench.home, brief) is None:
        # What is promised is fixed before the first unit comes, also while a gate still holds the start.
        take_lock(bench.home, brief, lock_record(brief, now, found.facts.newest_day))
    decision = found.decision
    if decision.verb == "hold":
        return found
    step = Step(
        action=decision.verb,
        phase=found.state.phase,
        stage=decision.stage,
        stages=len(stages_of(brief, found.state.phase)),
        traffic=decision.traffic,
        by=SCHEDULE,
        reasons=decision.reasons,
        newest_day=found.facts.newest_day,
    )
    written = append(log, brief, found.state, step, now)
    after = folded(entries_of(log, brief))
    return Judged(brief.name, brief.version, after, decision, found.facts, written)


def approve(
    bench: Workbench, name: str, *, stage: int, by: str, reason: str, now: datetime, phase: Phase = "ramp"
) -> bool:
    """Note that a person lets an experiment enter a stage (0: finds its A/A result good); False where noted.

    Raises ValueError for a stage that the brief does not have, and where `by` or `reason` says nothing.
    """
    brief = brief_of(bench, name)
    count = len(stages_of(brief, phase))
    if not 0 <= stage <= count:
        raise ValueError(f"stage {stage} is not among those of {name}: 1 to {count}, or 0 for its A/A result")
    if stage == 0 and not brief.new_logging:
        raise ValueError(f"{name} asks for no A/A result: its brief does not say new_logging: true")
    team, why = _said("by", by), _said("reason", reason)
    approval = Approval(
        experiment=name, version=brief.version, phase=phase, stage=stage, by=team, reason=why, at=now
    )
    return add_approval(state_log(bench.home), brief, approval)


def pause(bench: Workbench, name: str, *, by: str, reason: str, now: datetime) -> RampEntry:
    """Give everybody control's experience until somebody resumes. Raises ExpError where it is not on."""
    return _by_hand(bench, name, "pause", by, reason, now, _pausable)


def resume(bench: Workbench, name: str, *, by: str, reason: str, now: datetime) -> RampEntry:
    """Let it go on at the stage that it was paused at, everybody in the arm that they had.

    Kill verdicts on days that were known by now do not act again; one of a later day does.
    """
    return _by_hand(bench, name, "resume", by, reason, now, _resumable)


def roll_back(bench: Workbench, name: str, *, by: str, reason: str, now: datetime) -> RampEntry:
    """Give everybody control's experience for good; the brief needs a new version to begin again."""
    return _by_hand(bench, name, "roll_back", by, reason, now, _stoppable)


def close(bench: Workbench, name: str, *, by: str, reason: str, now: datetime) -> RampEntry:
    """End an experiment: nobody is in it any more; after a rollout the shipped arm stays as it is."""
    return _by_hand(bench, name, "close", by, reason, now, _closable)


def ship(bench: Workbench, name: str, *, arm: str, by: str, reason: str, now: datetime) -> RampEntry:
    """Begin to give the arm to everybody, or to the segments that were decided, by the brief's rollout.

    Raises ExpError where no decision to ship is logged for it, or it is not on.
    """
    brief = brief_of(bench, name)
    arms = [one.name for one in brief.treatments()]
    if arm not in arms:
        raise ValueError(f"arm {arm!r} is not a treatment of {name}: {', '.join(arms)}")
    taken = [one for one in decisions(bench.home, name) if one.kind == "decided"]
    if not taken or taken[-1].outcome not in ("ship", "ship_scoped"):
        last = f"the last one says {taken[-1].outcome.replace('_', ' ')}" if taken else "none is logged"
        raise ExpError(f"no decision to ship {name}: {last} (`exp decide {name} --outcome ship ...`)")
    first = stages_of(brief, "rollout")[0]
    if first.approval and not any(
        one.phase == "rollout" and one.stage == 1 for one in approvals_of(state_log(bench.home), brief)
    ):
        raise ExpError(
            f"stage 1 of the rollout of {name} needs approval: `exp ramp approve {name} --rollout --stage 1`"
        )
    segments = taken[-1].segments if taken[-1].outcome == "ship_scoped" else ()
    if taken[-1].outcome == "ship_scoped" and not segments:
        raise ExpError(f"the decision to ship {name} to some segments names none of them")
    return _by_hand(bench, name, "ship", by, reason, now, _shippable, arm=arm, segments=segments)


_Change = Callable[[RampState, Brief], tuple[int, float, Phase] | str]


def _by_hand(
    bench: Workbench,
    name: str,
    action: Action,
    by: str,
    reason: str,
    now: datetime,
    change: _Change,
    arm: str | None = None,
    segments: tuple[SegmentValue, ...] = (),
) -> RampEntry:
    """Write a person's transition. One that came first is looked at anew: it may forbid this one."""
    team, why = _said("by", by), _said("reason", reason)
    brief, log = brief_of(bench, name), state_log(bench.home)
    newest = newest_complete_day(bench, now)
    # Each round that is lost was won by another transition; so many at once there cannot be.
    for _ in range(100):
        state = folded(entries_of(log, brief))
        allowed = change(state, brief)
        if isinstance(allowed, str):
            raise ExpError(f"{name} cannot be {_DONE[action]}: {allowed}")
        stage, traffic, phase = allowed
        count = len(stages_of(brief, phase))
        step = Step(action, phase, stage, count, traffic, team, (why,), newest, arm, segments)
        written = append(log, brief, state, step, now)
        if written is not None:
            report_stops(bench, now)
            return written
    raise ExpError(f"the ramp log of {name} changes without end; try again")


_DONE = {
    "pause": "paused", "resume": "resumed", "roll_back": "rolled back", "close": "closed",
    "ship": "shipped", "advance": "advanced",
}  # fmt: skip


def _pausable(state: RampState, brief: Brief) -> tuple[int, float, Phase] | str:
    return (state.stage, 0.0, state.phase) if state.status == "on" else _is(state)


def _resumable(state: RampState, brief: Brief) -> tuple[int, float, Phase] | str:
    if state.status != "paused":
        return _is(state)
    stages = stages_of(brief, state.phase)
    stage = min(state.stage, len(stages))
    share = state.enrolled if state.phase == "ramp" else stages[stage - 1].traffic
    return stage, share, state.phase


def _stoppable(state: RampState, brief: Brief) -> tuple[int, float, Phase] | str:
    return (state.stage, 0.0, state.phase) if state.status in ("on", "paused") else _is(state)


def _closable(state: RampState, brief: Brief) -> tuple[int, float, Phase] | str:
    if state.status == "closed":
        return _is(state)
    stays = state.traffic if state.phase == "rollout" and state.status == "on" else 0.0
    return state.stage, stays, state.phase


def _shippable(state: RampState, brief: Brief) -> tuple[int, float, Phase] | str:
    if state.status != "on" or state.phase != "ramp":
        return _is(state)
    return 1, stages_of(brief, "rollout")[0].traffic, "rollout"


def _is(state: RampState) -> str:
    shipping = " and ships already" if state.phase == "rollout" and state.status == "on" else ""
    return f"it is {state.status.replace('_', ' ')}{shipping}"


def _said(name: str, text: str) -> str:
    said = " ".join(text.split())
    if not said:
        raise ValueError(f"{name} is empty: what people do to a ramp is logged with their team and reason")
    return said


def report_stops(bench: Workbench, now: datetime) -> int:
    """Open an incident for each ramp that the schedule stopped, and close it once people have acted on it.

    Read off the log, so that it may be done any number of times; gives the number of changes.
    """
    found: list[Finding] = []
    newest: dict[str, RampEntry] = {}
    for _, entry in all_entries(state_log(bench.home)):
        before = newest.get(entry.experiment)
        if entry.action in ("pause", "roll_back") and entry.by == SCHEDULE:
            found.append(_finding(bench, entry, stopped=True))
        elif before is not None and before.action in ("pause", "roll_back") and before.by == SCHEDULE:
            found.append(_finding(bench, entry, stopped=False))
        newest[entry.experiment] = entry
    return len(record_findings(state_log(bench.home), found, now))


def _finding(bench: Workbench, entry: RampEntry, *, stopped: bool) -> Finding:
    brief = bench.catalog.briefs.get(entry.experiment)
    said = "; ".join(entry.reasons)[:_SHOWN_REASON]
    return Finding(
        rule="ramp",
        subject=entry.experiment,
        day=entry.at.date(),
        verdict="fail" if stopped else "pass",
        evidence=f"{_DONE[entry.action]} by {entry.by} at stage {entry.stage}: {said}",
        owner="experimentation" if brief is None else brief.on_call,
        experiment=entry.experiment,
        look=f"v{entry.version}:{entry.sequence}",
    )
