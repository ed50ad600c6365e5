"""The ramp's log: transitions, approvals and judgements of readiness, append-only.

A transition's key is the experiment's version and the sequence that it follows. So of any number of processes
that act on one state at once, killed or not, exactly one is heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pydantic import AwareDatetime, Field

from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.decisions import SegmentValue
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.names import Slug
from exp_pipeline.model.ramps import Action, Approval, Phase, RampEntry, RampState
from exp_pipeline.store.state import StateLog

RAMP, APPROVAL, READINESS = "ramp", "ramp_approval", "ramp_readiness"


class ReadinessRecord(Noun):
    """One judgement of a brief's readiness, on the data up to `newest_day`."""

    experiment: Slug
    version: int = Field(ge=1)
    brief_digest: str
    newest_day: date | None
    gaps: tuple[str, ...]
    at: AwareDatetime


def subject_of(brief: Brief) -> str:
    """How a brief's version is named in the log."""
    return f"{brief.name}:v{brief.version}"


def entries_of(log: StateLog, brief: Brief) -> tuple[RampEntry, ...]:
    """The transitions of a brief's version, in order."""
    found = (RampEntry.model_validate(dict(one.content)) for one in log.entries(RAMP, subject_of(brief)))
    return tuple(sorted(found, key=lambda entry: entry.sequence))


def all_entries(log: StateLog) -> tuple[tuple[int, RampEntry], ...]:
    """The transitions of every experiment with their place in the log, oldest first."""
    return tuple((one.entry_id, RampEntry.model_validate(dict(one.content))) for one in log.entries(RAMP))


@dataclass(frozen=True, slots=True)
class Step:
    """A transition to be written: everything that is not known from the state it follows."""

    action: Action
    phase: Phase
    stage: int
    stages: int
    traffic: float
    by: str
    reasons: tuple[str, ...]
    newest_day: date | None = None
    arm: str | None = None
    segments: tuple[SegmentValue, ...] = ()


def append(log: StateLog, brief: Brief, state: RampState, step: Step, now: datetime) -> RampEntry | None:
    """Write a transition that follows a state; None where another one has followed it already."""
    entry = RampEntry(
        experiment=brief.name,
        version=brief.version,
        sequence=state.sequence + 1,
        at=now,
        action=step.action,
        phase=step.phase,
        stage=step.stage,
        stages=step.stages,
        traffic=step.traffic,
        arm=step.arm if step.arm is not None else state.arm,
        segments=step.segments or state.segments,
        by=step.by,
        reasons=step.reasons,
        newest_day=step.newest_day,
    )
    subject = subject_of(brief)
    key = f"{subject}:{state.sequence}"
    new = log.append(RAMP, subject, key=key, at=now.isoformat(), content=_content(entry))
    return entry if new else None


def approvals_of(log: StateLog, brief: Brief) -> tuple[Approval, ...]:
    """Every approval of a brief's version, oldest first."""
    return tuple(
        Approval.model_validate(dict(one.content)) for one in log.entries(APPROVAL, subject_of(brief))
    )


def add_approval(log: StateLog, brief: Brief, approval: Approval) -> bool:
    """Note an approval; False where the same people have approved the same stage before."""
    subject = subject_of(brief)
    key = f"{subject}:{approval.phase}:{approval.stage}:{digest_of([approval.by])[:16]}"
    return log.append(APPROVAL, subject, key=key, at=approval.at.isoformat(), content=_content(approval))


def readiness_of(log: StateLog, brief: Brief) -> tuple[ReadinessRecord, ...]:
    """What readiness was found to be for each state of a brief's version and of the data, oldest first."""
    return tuple(
        ReadinessRecord.model_validate(dict(one.content)) for one in log.entries(READINESS, subject_of(brief))
    )


def add_readiness(log: StateLog, brief: Brief, record: ReadinessRecord) -> None:
    """Note a judgement of readiness; one that says the same of the same brief and day is noted once."""
    subject = subject_of(brief)
    said = digest_of([record.brief_digest, str(record.newest_day), list(record.gaps)])
    log.append(
        READINESS, subject, key=f"{subject}:{said}", at=record.at.isoformat(), content=_content(record)
    )


def aa_approved_at(log: StateLog, brief: Brief) -> datetime | None:
    """When an A/A result was found good for a brief's version; None where it was not."""
    return next((one.at for one in approvals_of(log, brief) if one.stage == 0), None)


def _content(noun: Noun) -> Mapping[str, object]:
    return noun.model_dump(mode="json")
