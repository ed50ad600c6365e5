"""Everything that the log holds about one brief: its lock, changes, readiness, reviews, unblindings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from exp_pipeline.catalog.lock import difference
from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.experiments.locking import CHANGE, lock_subject, locked_of
from exp_pipeline.steps.experiments.reviews import reviews_of
from exp_pipeline.steps.experiments.starting import readiness_log
from exp_pipeline.steps.experiments.unblinding import unblindings_of
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

What = Literal["locked", "changed", "readiness", "review", "unblinded"]


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One thing that happened to a brief: when it was recorded, and in words.

    field, old, new: of a change after the lock, the values as JSON.
    """

    at: datetime
    what: What
    told: str
    by: str = ""
    field: str = ""
    old: JsonValue = None
    new: JsonValue = None


def history_of_brief(home: Home, brief: Brief) -> tuple[HistoryLine, ...]:
    """What was recorded of this version of a brief, oldest first."""
    lines = [*_asked(home, brief), *_readiness(home, brief), *_locked(home, brief), *_changes(home, brief)]
    return tuple(sorted(lines, key=lambda line: line.at))


def _locked(home: Home, brief: Brief) -> Iterator[HistoryLine]:
    locked = locked_of(home, brief)
    if locked is None:
        return
    seen = f", with data up to {locked.data_through}" if locked.data_through else ""
    told = f"locked as {locked.analysis_digest[:12]}{seen}"
    told += f", because: {locked.reason}" if locked.reason else ""
    if locked.gaps:
        told += f"; it was not ready: {'; '.join(locked.gaps)}"
    yield HistoryLine(locked.locked_at, "locked", told, by=locked.by)


def _changes(home: Home, brief: Brief) -> Iterator[HistoryLine]:
    for entry in state_log(home).entries(CHANGE, lock_subject(brief)):
        old: JsonValue = entry.content["old"]  # type: ignore[assignment]
        new: JsonValue = entry.content["new"]  # type: ignore[assignment]
        field = str(entry.content["field"])
        before, after = difference(old, new)
        told = f"{field} was first seen as {after}; it was {before}"
        yield HistoryLine(datetime.fromisoformat(entry.at), "changed", told, field=field, old=old, new=new)


def _readiness(home: Home, brief: Brief) -> Iterator[HistoryLine]:
    for at, gaps in readiness_log(home, brief):
        yield HistoryLine(at, "readiness", f"not ready: {'; '.join(gaps)}" if gaps else "ready to start")


def _asked(home: Home, brief: Brief) -> Iterator[HistoryLine]:
    for one in reviews_of(home, brief):
        if one.at is None:
            continue
        told = f"{one.kind} review{f': {one.note}' if one.note else ''}"
        if one.changed:
            told += f" (counts no more: {', '.join(one.changed)} changed since)"
        yield HistoryLine(one.at, "review", told, by=one.by)
    for asked in unblindings_of(home, brief):
        yield HistoryLine(asked.at, "unblinded", f"effects shown early: {asked.reason}", by=asked.by)
