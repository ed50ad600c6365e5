"""Bouts in rows in file order: what `bouts.sql` says, in one pass over arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.transform.columns import Flags, Places
from exp_pipeline.transform.stretches import DAY_US, day_starts


class Cut(IntEnum):
    """Why a bout begins (or what ended the one before): the numbers of `bouts.sql`."""

    NONE = 0
    FIRST = 1
    EXPLICIT = 2
    IDLE = 3
    DEVICE = 4
    OBJECTIVE = 5


@dataclass(frozen=True, slots=True)
class SessionRules:
    """What cuts sessions apart; times in microseconds."""

    gap: int
    cap: int
    on_objective: bool
    on_device: bool


@dataclass(frozen=True, slots=True)
class Events:
    """Events in file order, as far as cutting looks at them; codes are -1 where there is no text."""

    learner_key: NDArray[np.uint64]
    occurred_at: NDArray[np.int64]
    objective_changed: Flags
    device_handover: Flags
    objective: NDArray[np.int32]
    session: NDArray[np.int32]
    # Rows, in rising order.
    endings: Places
    turns: Places
    responses: Places


@dataclass(frozen=True, slots=True)
class Bouts:
    """Runs of a learner's events within one UTC day with no cut between them, one entry each, in order.

    `first` is the row of a bout's first event, `objective_at` that of the last one that names an objective
    (-1: none does). `following` says what cut the next bout of the same day off (NONE: this is the last).
    At an edge stands what may go on over midnight, and what is longer than a session may be.
    """

    first: Places
    objective_at: Places
    learner_key: NDArray[np.uint64]
    started_at: NDArray[np.int64]
    ended_at: NDArray[np.int64]
    cut: NDArray[np.int8]
    following: NDArray[np.int8]
    ended_explicitly: Flags
    handed_over: Flags
    producer_changes: NDArray[np.int64]
    n_events: NDArray[np.int64]
    n_turns: NDArray[np.int64]
    n_responses: NDArray[np.int64]
    at_edge: Flags

    def at(self, which: Flags | Places) -> Bouts:
        """Some of the bouts."""
        return Bouts(**{one.name: getattr(self, one.name)[which] for one in fields(self)})


def one_after_another(parts: list[Bouts]) -> Bouts:
    """Bouts of several runs of rows; `first` and `objective_at` then speak of different rows."""
    if len(parts) == 1:
        return parts[0]
    return Bouts(
        **{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Bouts)}
    )


def cut_bouts(events: Events, rules: SessionRules) -> Bouts:
    """Where does each bout begin, what ended it, and what was in it?

    Events of one moment are never cut apart; of these, the explicit end of a session stands last.
    """
    learner, at, count = events.learner_key, events.occurred_at, len(events.learner_key)
    ends = np.zeros(count, np.bool_)
    ends[events.endings] = True
    begins = day_starts(learner, at)
    waited = np.diff(at)
    apart = waited > rules.gap
    apart |= ends[:-1]
    if rules.on_device:
        apart |= events.device_handover[:-1]
    if rules.on_objective:
        apart |= events.objective_changed[1:]
    apart &= waited != 0
    begins[1:] |= apart
    first = np.flatnonzero(begins)
    last = np.append(first[1:], count)[: len(first)] - 1
    cut = _cuts(events, rules, ends, first)
    following = np.zeros(len(first), np.int8)
    following[:-1] = np.where(cut[1:] > Cut.FIRST, cut[1:], 0)
    started, ended = at[first], at[last]
    since_midnight = started % DAY_US
    to_midnight = DAY_US - ended % DAY_US
    return Bouts(
        first=first,
        objective_at=_last_named(events.objective, first, last),
        learner_key=learner[first],
        started_at=started,
        ended_at=ended,
        cut=cut,
        following=following,
        ended_explicitly=ends[last],
        handed_over=events.device_handover[last],
        producer_changes=_changes(events.session, first, last),
        n_events=last - first + 1,
        n_turns=_within(events.turns, first, last),
        n_responses=_within(events.responses, first, last),
        at_edge=(
            ((cut == Cut.FIRST) & (since_midnight <= rules.gap))
            | ((following == Cut.NONE) & (to_midnight <= rules.gap))
            | (ended - started > rules.cap)
        ),
    )


def _cuts(events: Events, rules: SessionRules, ends: Flags, first: Places) -> NDArray[np.int8]:
    """Why the bouts begin that begin at these rows: the first reason that holds."""
    cut = np.full(len(first), Cut.FIRST, np.int8)
    if len(first) < 2:
        return cut
    # The very first row has none before it, and is a learner's first.
    here = first[1:]
    before = here - 1
    waited = events.occurred_at[here] - events.occurred_at[before]
    same = (events.learner_key[here] == events.learner_key[before]) & (
        events.occurred_at[here] // DAY_US == events.occurred_at[before] // DAY_US
    )
    inside = np.full(len(here), Cut.OBJECTIVE, np.int8)
    if rules.on_device:
        inside[events.device_handover[before]] = Cut.DEVICE
    inside[waited > rules.gap] = Cut.IDLE
    inside[ends[before]] = Cut.EXPLICIT
    inside[~same] = Cut.FIRST
    cut[1:] = inside
    return cut


def _within(rows: Places, first: Places, last: Places) -> NDArray[np.int64]:
    """How many of the rows (in rising order) lie in each bout?"""
    counts: NDArray[np.int64] = np.searchsorted(rows, last, "right") - np.searchsorted(rows, first, "left")
    return counts


def _last_named(objective: NDArray[np.int32], first: Places, last: Places) -> Places:
    named = np.flatnonzero(objective >= 0)
    if not len(named):
        return np.full(len(first), -1, np.int64)
    place = np.searchsorted(named, last, "right") - 1
    row = np.where(place >= 0, named[place], -1)
    found: Places = np.where(row >= first, row, -1)
    return found


def _changes(session: NDArray[np.int32], first: Places, last: Places) -> NDArray[np.int64]:
    """How often does the producer's own session change within each bout?"""
    changed = np.flatnonzero(session[1:] != session[:-1]) + 1
    counts: NDArray[np.int64] = np.searchsorted(changed, last, "right") - np.searchsorted(
        changed, first, "right"
    )
    return counts
