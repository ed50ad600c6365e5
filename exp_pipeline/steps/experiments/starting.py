"""The start of an experiment: its brief is locked, with what kept it from being ready at that moment."""

from __future__ import annotations

from datetime import UTC, datetime

from exp_pipeline.analysis.planning.readiness import Gap, Readiness
from exp_pipeline.catalog.lock import lock_record
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import BriefLockedError
from exp_pipeline.model.readout import LockState
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import last_day
from exp_pipeline.steps.experiments.locking import lock_of, lock_subject, locked_of, note_changes, take_lock
from exp_pipeline.steps.experiments.planning import check_readiness
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

READINESS = "readiness"


def lock_if_started(bench: Workbench, brief: Brief, now: datetime) -> LockState:
    """Lock the brief's analysis fields when the data have reached its start; once for each version.

    Data cannot be held back, so a brief that is not ready is locked all the same, and its gaps with it: the
    readout says that it started though it was not ready. Changes after the lock are logged when first seen.
    """
    newest = last_day(bench)
    if newest is not None and newest >= brief.start and locked_of(bench.home, brief) is None:
        gaps = [gap.short for gap in _gaps(bench, brief, now)]
        take_lock(bench.home, brief, lock_record(brief, now.astimezone(UTC), newest, gaps=gaps))
    note_changes(bench.home, brief, now)
    return lock_of(bench.home, brief)


def lock_by_hand(bench: Workbench, brief: Brief, now: datetime, *, by: str, reason: str = "") -> LockState:
    """Lock a brief before the data reach its start, because a team says that it starts.

    Raises ValueError where the team is empty, and BriefLockedError where the brief is locked already, or has
    gaps and no reason is given for starting all the same.
    """
    team, because = " ".join(by.split()), " ".join(reason.split())
    if not team:
        raise ValueError("by is empty: a lock is taken by a team")
    before = locked_of(bench.home, brief)
    if before is not None:
        raise BriefLockedError(
            f"{brief.name} version {brief.version} was locked at {before.locked_at:%Y-%m-%d %H:%M} UTC: a "
            "lock is taken once. For another design give the brief another version"
        )
    gaps = _gaps(bench, brief, now)
    if gaps and not because:
        listed = "".join(f"\n  {gap}" for gap in gaps)
        raise BriefLockedError(
            f"{brief.name} is not ready to start:{listed}\n"
            "close the gaps, or give a reason for starting all the same (--reason); the memo will show both"
        )
    record = lock_record(
        brief,
        now.astimezone(UTC),
        last_day(bench),
        gaps=[gap.short for gap in gaps],
        by=team,
        reason=because,
    )
    take_lock(bench.home, brief, record)
    return lock_of(bench.home, brief)


def record_readiness(home: Home, brief: Brief, found: Readiness, now: datetime) -> bool:
    """Log what readiness found, where that is not what was found last; False where it is."""
    subject = lock_subject(brief)
    past = state_log(home).entries(READINESS, subject)
    gaps = [gap.short for gap in found.gaps]
    if past and past[-1].content["gaps"] == gaps:
        return False
    return state_log(home).append(
        READINESS,
        subject,
        key=f"{subject}:{len(past) + 1}",
        at=now.astimezone(UTC).isoformat(),
        content={"ready": found.ready, "gaps": gaps, "brief_digest": brief.digest()},
    )


def readiness_log(home: Home, brief: Brief) -> tuple[tuple[datetime, tuple[str, ...]], ...]:
    """Each time that readiness found something else: when, and the gaps (none: ready). Oldest first."""
    found = []
    for entry in state_log(home).entries(READINESS, lock_subject(brief)):
        gaps = entry.content["gaps"]
        found.append(
            (datetime.fromisoformat(entry.at), tuple(map(str, gaps)) if isinstance(gaps, list) else ())
        )
    return tuple(found)


def _gaps(bench: Workbench, brief: Brief, now: datetime) -> tuple[Gap, ...]:
    found = check_readiness(bench, brief.name)
    record_readiness(bench.home, brief, found, now)
    return found.gaps
