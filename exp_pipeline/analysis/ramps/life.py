"""Where is an experiment in its life, since when, and what comes next?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.life import ALLOWED, DURABILITY_DAYS, Coming, Life, LifeState, LifeStep
from exp_pipeline.model.ramps import RampEntry, RampState, folded, stages_of

_DAY = timedelta(days=1)
_EventKind = Literal[
    "ready", "gaps", "locked", "units", "ramp", "horizon", "decided", "shipped_out", "durable"
]
# Of events at one moment, these go first.
_ORDER: tuple[_EventKind, ...] = (
    "ready", "gaps", "locked", "units", "ramp", "horizon", "decided", "shipped_out", "durable",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LifeFacts:
    """What is known of an experiment.

    readiness: each time that it was judged, and whether the brief had no gap. locked_at: when its analysis
    fields were locked. aa_at: when an A/A result was approved. newest_day: the newest day of data; units:
    whether the data hold units of it. decided_at, outcome: the decision that people took. earliest: when the
    ramp's next stage could begin.
    """

    now: datetime
    readiness: tuple[tuple[datetime, bool], ...] = ()
    locked_at: datetime | None = None
    aa_at: datetime | None = None
    log: tuple[RampEntry, ...] = ()
    newest_day: date | None = None
    units: bool = False
    decided_at: datetime | None = None
    outcome: str = ""
    earliest: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Event:
    at: datetime
    kind: _EventKind
    entry: RampEntry | None = None


@dataclass(slots=True)
class _Folding:
    """The steps so far; while it is paused or rolled back, `under` is the state that it would be in."""

    steps: list[LifeStep]
    under: LifeStep | None = None

    @property
    def state(self) -> LifeState:
        return self.steps[-1].state

    def go(self, state: LifeState, at: datetime, because: str, stage: int | None = None) -> None:
        """Enter a state, if it may follow and is not this one already; while paused, only note it."""
        step, before = LifeStep(state, at, because, stage), self.under or self.steps[-1]
        if (before.state, before.stage) == (state, stage) or state not in ALLOWED[before.state]:
            return
        if self.under is not None:
            self.under = step
        else:
            self.steps.append(step)

    @property
    def base(self) -> LifeState:
        return self.state if self.under is None else self.under.state


def life_of(brief: Brief, facts: LifeFacts) -> Life:
    """Where is it in its life, how did it get there, and what is to come?

    Events up to `facts.now` are let act in the order of their moments; each changes the state only as
    `model.life.ALLOWED` permits. A pause hides what goes on beneath it until it is resumed.
    """
    folding = _Folding([LifeStep("draft", None, "its brief is written")])
    for event in _events(brief, facts):
        if event.at <= facts.now:
            _act(folding, event, brief, facts)
    return Life(tuple(folding.steps), _coming(brief, facts, folding.state))


def _events(brief: Brief, facts: LifeFacts) -> list[_Event]:
    found = [_Event(at, "ready" if ready else "gaps") for at, ready in facts.readiness]
    if facts.locked_at is not None:
        found.append(_Event(facts.locked_at, "locked"))
    if facts.units and not facts.log:
        found.append(_Event(max(_midnight(brief.start), facts.locked_at or _midnight(brief.start)), "units"))
    found += [_Event(entry.at, "ramp", entry) for entry in facts.log]
    if facts.newest_day is not None and facts.newest_day + _DAY >= brief.end:
        horizon = _midnight(brief.end)
        if facts.locked_at is not None and not facts.log:
            horizon = max(horizon, facts.locked_at)
        found.append(_Event(horizon, "horizon"))
    if facts.decided_at is not None:
        found.append(_Event(facts.decided_at, "decided"))
    out = _shipped_out(brief, facts.log)
    if out is not None:
        found += [_Event(out, "shipped_out"), _Event(max(out, _durable(brief)), "durable")]
    return sorted(found, key=lambda event: (event.at, _ORDER.index(event.kind), _sequence(event)))


def _sequence(event: _Event) -> int:
    return 0 if event.entry is None else event.entry.sequence


def _act(folding: _Folding, event: _Event, brief: Brief, facts: LifeFacts) -> None:
    state, at = folding.base, event.at
    if event.kind == "ramp" and event.entry is not None:
        _act_on_entry(folding, event.entry)
    elif event.kind == "ready" and state == "draft":
        folding.go("ready", at, "its brief has no gap")
    elif event.kind == "gaps" and state == "ready":
        folding.go("draft", at, "its brief was changed and has gaps")
    elif event.kind == "locked" and state in ("draft", "ready"):
        folding.go("locked", at, "its analysis fields are locked")
        if brief.new_logging and (facts.aa_at is None or facts.aa_at > at):
            folding.go("aa", at, "logging or bucketing is new: an A/A result is asked for")
    elif event.kind == "units" and state in ("locked", "aa"):
        folding.go("running", at, "units were assigned; no ramp of it was recorded")
    elif event.kind == "horizon" and state in ("ramping", "running"):
        folding.go("horizon", at, f"data are complete to the day before {brief.end}")
    elif event.kind == "decided" and state in ("ramping", "running", "horizon"):
        folding.go("decided", at, f"decided: {facts.outcome.replace('_', ' ')}")
        if facts.outcome == "extend" and at < _midnight(brief.end):
            folding.go("running", at, f"extended to {brief.end}")
    elif event.kind == "shipped_out" and state == "shipping":
        folding.go("monitoring", at, "the shipped arm is everybody's")
    elif event.kind == "durable" and state == "monitoring":
        folding.go("closed", at, "the last durability day has passed")


def _act_on_entry(folding: _Folding, entry: RampEntry) -> None:
    because = "; ".join(entry.reasons) or f"by {entry.by}"
    action, at = entry.action, entry.at
    if folding.state == "closed" or (folding.state == "rolled_back" and action != "close"):
        return
    if action == "pause":
        before = folding.steps[-1]
        if folding.under is None:
            folding.go("paused", at, because)
            folding.under = before if folding.state == "paused" else None
    elif action in ("roll_back", "close"):
        folding.under = None
        folding.go("rolled_back" if action == "roll_back" else "closed", at, because)
    elif action == "resume":
        back, folding.under = folding.under, None
        if back is not None:
            folding.go(back.state, at, because, back.stage)
    elif entry.phase == "rollout":
        folding.go("decided", at, f"shipped: {because}")
        folding.go("shipping", at, because, entry.stage)
    elif folding.base in ("draft", "ready", "locked", "aa", "ramping"):
        if folding.base in ("draft", "ready"):
            folding.go("locked", at, "its analysis fields are locked")
        if entry.stage < entry.stages:
            folding.go("ramping", at, because, entry.stage)
        else:
            folding.go("running", at, because)


def _shipped_out(brief: Brief, log: Sequence[RampEntry]) -> datetime | None:
    """When the last stage of the rollout had lasted as long as it should; None where it has not begun."""
    state: RampState = folded(log)
    stages = stages_of(brief, "rollout")
    if state.phase != "rollout" or state.stage < len(stages) or state.since is None or not stages:
        return None
    return state.since + stages[-1].dwell_days * _DAY if state.status == "on" else None


def _durable(brief: Brief) -> datetime:
    return _midnight(brief.end) + max(DURABILITY_DAYS) * _DAY


def _coming(brief: Brief, facts: LifeFacts, state: LifeState) -> tuple[Coming, ...]:
    """What is to come by the calendar, soonest first."""
    if state == "closed":
        return ()
    found: list[Coming] = []
    if state in ("draft", "ready", "locked", "aa") and brief.table is None:
        found.append(Coming("start", _midnight(brief.start), "the experiment starts", state != "draft"))
    if facts.earliest is not None and state in ("locked", "aa", "ramping", "shipping"):
        found.append(
            Coming("stage", facts.earliest, "the next stage may begin, if nothing speaks against it")
        )
    if state not in ("rolled_back", "monitoring", "shipping", "decided"):
        found += [Coming("look", _midnight(look), f"planned look of {look}") for look in brief.looks]
        found.append(Coming("horizon", _midnight(brief.end), "the planned term ends, a decision is due"))
    if state != "rolled_back":
        found += [
            Coming("durability", _midnight(brief.end) + days * _DAY, f"durability after {days // 7} weeks")
            for days in DURABILITY_DAYS
        ]
    out = _shipped_out(brief, facts.log)
    if out is not None:
        found.append(Coming("close", max(out, _durable(brief)), "it is closed"))
    order = ("start", "stage", "look", "horizon", "durability", "close")
    ahead = [one for one in found if one.at > facts.now or (one.kind == "stage" and one.at >= facts.now)]
    return tuple(sorted(ahead, key=lambda one: (one.at, order.index(one.kind))))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
