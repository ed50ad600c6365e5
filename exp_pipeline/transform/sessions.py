"""Sessions out of bouts and chains: what `sessions.sql` says, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.transform.bouts import Bouts, Cut, SessionRules
from exp_pipeline.transform.chains import Chains
from exp_pipeline.transform.columns import Flags, Places
from exp_pipeline.transform.stretches import DAY_US

END_REASONS = ("cap", "explicit", "device", "objective", "idle", "open")


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions, one entry each. Texts stand elsewhere, one place for each bout.

    `opened_by` is the place of the bout whose first event tells who and where, `named_by` of the one whose
    objective it is (-1: none). `next_boundary` is what cut off what came next (NONE: nothing known).
    """

    opened_by: Places
    named_by: Places
    learner_key: NDArray[np.uint64]
    started_at: NDArray[np.int64]
    ended_at: NDArray[np.int64]
    capped: Flags
    ended_explicitly: Flags
    handed_over: Flags
    next_boundary: NDArray[np.int8]
    producer_changes: NDArray[np.int64]
    n_events: NDArray[np.int64]
    n_turns: NDArray[np.int64]
    n_responses: NDArray[np.int64]

    def at(self, which: Flags | Places) -> Sessions:
        """Some of the sessions."""
        return Sessions(**{one.name: getattr(self, one.name)[which] for one in fields(self)})


def of_bouts(bouts: Bouts, places: Places) -> Sessions:
    """Bouts that are sessions by themselves; their texts stand at `places`."""
    return Sessions(
        opened_by=places,
        named_by=places,
        learner_key=bouts.learner_key,
        started_at=bouts.started_at,
        ended_at=bouts.ended_at,
        capped=np.zeros(len(places), np.bool_),
        ended_explicitly=bouts.ended_explicitly,
        handed_over=bouts.handed_over,
        next_boundary=bouts.following,
        producer_changes=bouts.producer_changes,
        n_events=bouts.n_events,
        n_turns=bouts.n_turns,
        n_responses=bouts.n_responses,
    )


def of_chains(chains: Chains, first: int) -> Sessions:
    """Chains as sessions; the texts of the bouts that were glued stand from place `first` on."""
    return Sessions(
        opened_by=chains.opened_by + first,
        named_by=np.where(chains.named_by >= 0, chains.named_by + first, -1),
        learner_key=chains.learner_key,
        started_at=chains.started_at,
        ended_at=chains.ended_at,
        capped=np.zeros(len(chains.opened_by), np.bool_),
        ended_explicitly=chains.ended_explicitly,
        handed_over=chains.handed_over,
        next_boundary=chains.next_boundary,
        producer_changes=chains.producer_changes,
        n_events=chains.n_events,
        n_turns=chains.n_turns,
        n_responses=chains.n_responses,
    )


@dataclass(frozen=True, slots=True)
class LearnerEvents:
    """Events of some learners, in the order of learner and time."""

    learner_key: NDArray[np.uint64]
    occurred_at: NDArray[np.int64]
    turn: Flags
    response: Flags


def cut_at_cap(long: Sessions, events: LearnerEvents, cap: int) -> Sessions:
    """Sessions longer than the cap as those that they are cut into, given all events of their learners.

    Each next one begins with the first event later than the cap after the start of the one before.
    """
    whole, first, end, capped = [], [], [], []
    for number in range(len(long.learner_key)):
        low = np.searchsorted(events.learner_key, long.learner_key[number], "left")
        high = np.searchsorted(events.learner_key, long.learner_key[number], "right")
        times = events.occurred_at[low:high]
        row = int(np.searchsorted(times, long.started_at[number], "left"))
        stop = int(np.searchsorted(times, long.ended_at[number], "right"))
        while row < stop:
            following = min(int(np.searchsorted(times, times[row] + cap, "right")), stop)
            whole.append(number)
            first.append(row + int(low))
            end.append(following + int(low))
            capped.append(following < stop)
            row = following
    begins, ends = np.array(first, np.int64), np.array(end, np.int64)
    of = long.at(np.array(whole, np.int64))
    own = {one.name: getattr(of, one.name) for one in fields(of)}
    return Sessions(
        **own
        | {
            "started_at": events.occurred_at[begins],
            "ended_at": events.occurred_at[ends - 1],
            "capped": np.array(capped, np.bool_),
            "n_events": ends - begins,
            "n_turns": _between(events.turn, begins, ends),
            "n_responses": _between(events.response, begins, ends),
        }
    )


def _between(flags: Flags, first: Places, end: Places) -> NDArray[np.int64]:
    before = np.concatenate(([0], np.cumsum(flags)))
    counts: NDArray[np.int64] = before[end] - before[first]
    return counts


def in_order(parts: list[Sessions], first_at: int, end_at: int) -> Sessions:
    """Those of the sessions that started in a span of time, in the order of learner and start."""
    whole = Sessions(
        **{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Sessions)}
    )
    own = np.flatnonzero((whole.started_at >= first_at) & (whole.started_at < end_at))
    return whole.at(own[np.lexsort((whole.started_at[own], whole.learner_key[own]))])


def end_reasons(sessions: Sessions, rules: SessionRules, last_days: list[int]) -> NDArray[np.int8]:
    """Why did each session end, as a place in `END_REASONS`: the first that holds.

    `last_days` are days (since 1970) after which nothing is known yet: what ran late on them may go on.
    """
    late = DAY_US - sessions.ended_at % DAY_US <= rules.gap
    unknown = late & np.isin(sessions.ended_at // DAY_US, last_days)
    reason = np.where(unknown, np.int8(5), np.int8(4))
    reason[sessions.next_boundary == Cut.OBJECTIVE] = 3
    if rules.on_device:
        reason[sessions.handed_over] = 2
    reason[sessions.ended_explicitly] = 1
    reason[sessions.capped] = 0
    return reason
