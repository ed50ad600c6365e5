"""A ramp: the entries of its log, where they leave it, and what is known when its next step is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief, RampStage
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.decisions import SegmentValue
from exp_pipeline.model.names import Slug
from exp_pipeline.model.readout import GuardrailStatus, Verdict

# `ramp` brings units into the experiment; `rollout` brings everybody to the arm that was shipped.
Phase = Literal["ramp", "rollout"]
Action = Literal["advance", "pause", "resume", "roll_back", "ship", "close"]
Status = Literal["not_started", "on", "paused", "rolled_back", "closed"]
Verb = Literal["advance", "hold", "pause", "roll_back"]
# Who acted, where nobody did: the schedule.
SCHEDULE = "schedule"


class RampEntry(Noun):
    """One transition: `sequence` counts those of an experiment's version from 1, without a gap.

    `traffic` is the share of units that the stage lets in (of the rollout: that get the shipped arm);
    `newest_day` the newest complete day that was known: kill verdicts up to it do not act after a resume.
    `segments` are those that the arm is shipped to; none: to everybody.
    """

    experiment: Slug
    version: int = Field(ge=1)
    sequence: int = Field(ge=1)
    at: AwareDatetime
    action: Action
    phase: Phase = "ramp"
    stage: int = Field(ge=0)
    stages: int = Field(ge=0)
    traffic: float = Field(ge=0, le=1)
    arm: Slug | None = None
    segments: tuple[SegmentValue, ...] = ()
    by: str
    reasons: tuple[str, ...] = ()
    newest_day: date | None = None


class Approval(Noun):
    """A person's word that an experiment may enter a stage, or (stage 0) that its A/A result is good."""

    experiment: Slug
    version: int = Field(ge=1)
    phase: Phase = "ramp"
    stage: int = Field(ge=0)
    by: str
    reason: str
    at: AwareDatetime


@dataclass(frozen=True, slots=True)
class RampState:
    """Where the log leaves a ramp.

    stage: 0 before the first one. traffic: the share in force; 0 unless `status` is "on" (or "closed" after a
    rollout). since: when this stage began, or was resumed. judged_from: kill verdicts count from the day
    after it. enrolled: the share that the ramp had let in. arm: the one that is shipped.
    """

    status: Status = "not_started"
    phase: Phase = "ramp"
    stage: int = 0
    traffic: float = 0.0
    since: datetime | None = None
    sequence: int = 0
    judged_from: date | None = None
    enrolled: float = 0.0
    arm: str | None = None
    segments: tuple[SegmentValue, ...] = ()


@dataclass(frozen=True, slots=True)
class GuardrailFact:
    """What the newest day says of one guardrail in one arm."""

    metric: str
    arm: str
    status: GuardrailStatus
    killed: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class RampFacts:
    """Everything that the next step of a ramp is judged by.

    gaps: what keeps the brief from starting; None where nobody looked. newest_day: the newest complete day,
    which the verdicts are of; units: in the experiment by its end. verdicts: of the named checks, with a
    sentence each. incidents: open ones of data quality. changed: fields of assignment that are not as they
    were locked. others: what else is in the way.
    """

    now: datetime
    state: RampState
    newest_day: date | None = None
    units: int = 0
    guardrails: tuple[GuardrailFact, ...] = ()
    guardrails_day: date | None = None
    verdicts: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    incidents: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    gaps: tuple[str, ...] | None = ()
    calendar: SchoolCalendar | None = None

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError(f"now must carry a time zone, got {self.now.isoformat()}")


@dataclass(frozen=True, slots=True)
class RampDecision:
    """What should happen now, and every reason for it. stage, traffic: after it."""

    verb: Verb
    stage: int
    traffic: float
    reasons: tuple[str, ...]


def stages_of(brief: Brief, phase: Phase = "ramp") -> tuple[RampStage, ...]:
    """The stages that a brief's ramp or rollout goes through; none where no flag can carry its arms.

    Without stages of its own a brief has one: all of its traffic at once, or everybody.
    """
    if brief.table is not None or brief.hash_scheme == "none" or brief.assignment == "table":
        return ()
    if phase == "rollout":
        return brief.rollout or (RampStage(traffic=1.0, dwell_days=0),)
    return brief.ramp or (RampStage(traffic=brief.traffic, dwell_days=0, checks=()),)


def folded(entries: Sequence[RampEntry]) -> RampState:
    """Where do these entries leave a ramp? In the order of their sequence.

    Raises ValueError where one is missing: a log with a gap must not be acted upon.
    """
    state = RampState()
    for entry in sorted(entries, key=lambda one: one.sequence):
        if entry.sequence != state.sequence + 1:
            raise ValueError(
                f"the ramp log of {entry.experiment} lacks entry {state.sequence + 1} before {entry.sequence}"
            )
        state = _after(state, entry)
    return state


def _after(state: RampState, entry: RampEntry) -> RampState:
    status: Status = {
        "advance": "on", "resume": "on", "ship": "on",
        "pause": "paused", "roll_back": "rolled_back", "close": "closed",
    }[entry.action]  # type: ignore[assignment]  # fmt: skip
    lasting = entry.action in ("resume", "ship", "advance")
    return RampState(
        status=status,
        phase=entry.phase,
        stage=entry.stage,
        traffic=entry.traffic,
        since=entry.at if lasting else state.since,
        sequence=entry.sequence,
        judged_from=entry.newest_day if entry.action in ("resume", "ship") else state.judged_from,
        enrolled=entry.traffic if entry.phase == "ramp" and status == "on" else state.enrolled,
        arm=entry.arm if entry.arm is not None else state.arm,
        segments=entry.segments or state.segments,
    )


@dataclass(frozen=True, slots=True)
class Stop:
    """Since when every unit had control although the experiment went on; until: None where it still has."""

    action: Literal["pause", "roll_back"]
    since: date
    until: date | None = None


def stops_of(entries: Sequence[RampEntry]) -> tuple[Stop, ...]:
    """When was a ramp paused or rolled back, by days in UTC, oldest first?"""
    found: list[Stop] = []
    for entry in sorted(entries, key=lambda one: one.sequence):
        day = entry.at.astimezone(UTC).date()
        if found and found[-1].until is None:
            if entry.action in ("pause", "roll_back", "close"):
                continue
            found[-1] = replace(found[-1], until=day)
        elif entry.action in ("pause", "roll_back") and entry.phase == "ramp":
            found.append(Stop("pause" if entry.action == "pause" else "roll_back", day))
    return tuple(found)


def traffic_at(entries: Sequence[RampEntry], at: datetime) -> float:
    """Which share of units could enter the experiment at a moment? 0 before the first entry."""
    share = 0.0
    for entry in sorted(entries, key=lambda one: one.sequence):
        if entry.at > at:
            break
        share = entry.traffic if entry.phase == "ramp" else 0.0
    return share
