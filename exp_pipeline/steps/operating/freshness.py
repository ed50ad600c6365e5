"""Is yesterday there? The newest complete day against the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from exp_pipeline.model.incidents import Finding

OWNER = "data-platform"


def freshness_finding(newest: date | None, within_hours: int, now: datetime) -> Finding | None:
    """Is the newest day that was made as new as it should be by now?

    newest: the newest day of `events`, None where there is none (then None comes back). A day ends at
    midnight UTC and must be there `within_hours` later. Raises ValueError where `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"now must carry a time zone, got {now.isoformat()}")
    if newest is None:
        return None
    due = newest_due(within_hours, now)
    missing = (due - newest).days
    late = missing > 0
    oldest = newest + timedelta(days=1)
    lacking = f"{oldest} is missing" if missing == 1 else f"{missing} days are missing, {oldest} to {due}"
    return Finding(
        rule="freshness",
        subject="events",
        day=now.astimezone(UTC).date(),
        verdict="fail" if late else "pass",
        evidence=f"newest day is {newest}: {lacking if late else 'as new as it should be'}",
        number=float(max(missing, 0)),
        threshold=0.0,
        badness=float(max(missing, 0)),
        owner=OWNER,
    )


def newest_due(within_hours: int, now: datetime) -> date:
    """The newest day that must be there at a moment."""
    moment = now.astimezone(UTC) - timedelta(hours=within_hours)
    return moment.date() - timedelta(days=1)
