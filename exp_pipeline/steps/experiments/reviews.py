"""Reviews of a brief: those written into it, and those recorded in the state log with what was reviewed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from exp_pipeline.catalog.lock import LockedBrief, changed_fields, lock_record
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.intake import ReviewPolicy
from exp_pipeline.steps.experiments.locking import lock_subject
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

REVIEW = "review"


@dataclass(frozen=True, slots=True)
class GivenReview:
    """One review that a brief was given.

    written: in the brief itself, or recorded with `exp review`, then at a known moment. changed: analysis
    fields that are not as they were when it was given; such a review counts no more.
    """

    kind: str
    by: str
    day: date
    note: str
    written: Literal["brief", "log"]
    changed: tuple[str, ...] = ()
    at: datetime | None = None

    @property
    def stands(self) -> bool:
        return not self.changed


def reviews_of(home: Home, brief: Brief) -> tuple[GivenReview, ...]:
    """Every review that this version of a brief was given: those in the file first, then by time."""
    found = [GivenReview(one.kind, one.by, one.day, one.note, "brief") for one in brief.reviews]
    for entry in state_log(home).entries(REVIEW, lock_subject(brief)):
        at = datetime.fromisoformat(entry.at)
        reviewed = LockedBrief.model_validate(entry.content["reviewed"])
        found.append(
            GivenReview(
                kind=str(entry.content["kind"]),
                by=str(entry.content["by"]),
                day=at.date(),
                note=str(entry.content["note"]),
                written="log",
                changed=tuple(changed_fields(brief, reviewed)),
                at=at,
            )
        )
    return tuple(found)


def reviews_waiting(home: Home, brief: Brief, policy: ReviewPolicy) -> tuple[str, ...]:
    """Which reviews does the brief still need for its risk class? In the policy's order."""
    given = {one.kind for one in reviews_of(home, brief) if one.stands}
    return tuple(kind for kind in policy.needed(brief.risk_class) if kind not in given)


def record_review(
    home: Home, brief: Brief, policy: ReviewPolicy, *, kind: str, by: str, note: str, at: datetime
) -> bool:
    """Record that a team reviewed the brief as it stands; False where it said so before.

    Raises ValueError for a kind that the policy does not know, and where the team is empty.
    """
    known = [one.name for one in policy.kinds]
    if kind not in known:
        raise ValueError(f"kind must be one of {', '.join(known)}, got {kind!r}")
    team, said = " ".join(by.split()), " ".join(note.split())
    if not team:
        raise ValueError("by is empty: a review is recorded with the team that gave it")
    reviewed = lock_record(brief, at.astimezone(UTC))
    text = "\0".join((lock_subject(brief), kind, team, said, reviewed.analysis_digest))
    return state_log(home).append(
        REVIEW,
        lock_subject(brief),
        key=hashlib.sha256(text.encode()).hexdigest(),
        at=at.astimezone(UTC).isoformat(),
        content={
            "kind": kind,
            "by": team,
            "note": said,
            "reviewed": reviewed.model_dump(mode="json"),
        },
    )
