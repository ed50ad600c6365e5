"""The lock in the state log: when a brief was locked, with which gaps, and each change seen after it."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import JsonValue

from exp_pipeline.catalog.lock import LockedBrief, changed_fields, lock_state
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import LockState
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import Entry, state_log

LOCK, CHANGE = "lock", "brief_change"


def lock_subject(brief: Brief) -> str:
    """Under which subject the log keeps the lock of this version of an experiment."""
    return f"{brief.name}:v{brief.version}"


def locked_of(home: Home, brief: Brief) -> LockedBrief | None:
    """The brief as it was locked; None where this version has not started."""
    entries = state_log(home).entries(LOCK, lock_subject(brief))
    return LockedBrief.model_validate(dict(entries[0].content)) if entries else None


def lock_of(home: Home, brief: Brief) -> LockState:
    """How the brief stands against its lock; unlocked where it has not started."""
    locked = locked_of(home, brief)
    if locked is None:
        return lock_state(brief, None)
    return lock_state(brief, locked, first_seen=_first_seen(home, brief))


def take_lock(home: Home, brief: Brief, record: LockedBrief) -> bool:
    """Keep the lock of this version of an experiment; False where there was one already, which stands."""
    subject = lock_subject(brief)
    return state_log(home).append(
        LOCK,
        subject,
        key=subject,
        at=record.locked_at.isoformat(),
        content=record.model_dump(mode="json"),
    )


def note_changes(home: Home, brief: Brief, now: datetime) -> int:
    """Log each analysis field that differs from what was last known of it; gives how many were new.

    Also a field that went back to its locked value is logged. Done twice, nothing is logged twice.
    """
    locked = locked_of(home, brief)
    if locked is None:
        return 0
    subject = lock_subject(brief)
    past: dict[str, list[Entry]] = {}
    for entry in state_log(home).entries(CHANGE, subject):
        past.setdefault(str(entry.content["field"]), []).append(entry)
    new = 0
    for field, (before, current) in changed_fields(brief, locked, everything=True).items():
        seen = past.get(field, [])
        known: JsonValue = seen[-1].content["new"] if seen else before  # type: ignore[assignment]
        if known == current:
            continue
        new += state_log(home).append(
            CHANGE,
            subject,
            # One place for the next change of a field: of two processes that see it, one writes it.
            key=f"{subject}:{field}:{len(seen) + 1}",
            at=now.astimezone(UTC).isoformat(),
            content={"field": field, "old": known, "new": current, "brief_digest": brief.digest()},
        )
    return new


def _first_seen(home: Home, brief: Brief) -> dict[str, datetime]:
    """Since when each field has been known to hold the value that it holds."""
    return {
        str(entry.content["field"]): datetime.fromisoformat(entry.at)
        for entry in state_log(home).entries(CHANGE, lock_subject(brief))
    }
