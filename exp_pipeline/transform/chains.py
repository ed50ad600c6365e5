"""Bouts glued over midnight: what `chains.sql` says, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.transform.bouts import Bouts, Cut, SessionRules
from exp_pipeline.transform.columns import Flags, Places, Texts


@dataclass(frozen=True, slots=True)
class EdgeBouts:
    """Bouts at the edges of days, with their objectives and producers' sessions as codes; in any order."""

    bouts: Bouts
    objective: Texts
    session: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Chains:
    """Bouts of one learner that follow each other without a cut, one entry a chain.

    `opened_by` and `named_by` are places among the bouts that were glued: of the chain's first bout, and of
    one that has its objective (-1: none; where several are named, the greatest as text).
    """

    opened_by: Places
    named_by: Places
    learner_key: NDArray[np.uint64]
    started_at: NDArray[np.int64]
    ended_at: NDArray[np.int64]
    ended_explicitly: Flags
    handed_over: Flags
    next_boundary: NDArray[np.int8]
    producer_changes: NDArray[np.int64]
    n_events: NDArray[np.int64]
    n_turns: NDArray[np.int64]
    n_responses: NDArray[np.int64]


def glued(edges: EdgeBouts, rules: SessionRules) -> Chains:
    """Which chains do the bouts at the edges of consecutive days make?

    Between two of a learner's edge bouts that are glued stands no other bout, so that the rest is not needed.
    """
    bouts = edges.bouts
    order = np.lexsort((bouts.started_at, bouts.learner_key))
    bouts = bouts.at(order)
    objective, session = edges.objective.codes[order], edges.session[order]
    boundary, after = _boundaries(bouts, objective, rules)
    starts = np.flatnonzero(boundary != Cut.NONE)
    other = np.zeros(len(order), np.int64)
    other[1:] = (boundary[1:] == Cut.NONE) & (session[1:] != session[:-1])

    def added(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.add.reduceat(values, starts) if len(starts) else values

    def most(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.maximum.reduceat(values, starts) if len(starts) else values

    ranks, _ = edges.objective.ranks()
    # The greatest rank of a chain, and with it the place of a bout that has it.
    rank = np.append(ranks, -1)[objective] * len(order) + np.arange(len(order))
    best = np.asarray(most(rank), np.int64)
    place = best % max(len(order), 1)
    return Chains(
        opened_by=order[starts],
        named_by=np.where(best >= 0, order[place] if len(order) else place, -1),
        learner_key=bouts.learner_key[starts],
        started_at=bouts.started_at[starts],
        ended_at=np.asarray(most(bouts.ended_at), np.int64),
        ended_explicitly=np.asarray(most(bouts.ended_explicitly), np.bool_),
        handed_over=np.asarray(most(bouts.handed_over), np.bool_),
        next_boundary=np.asarray(most(after), np.int8),
        producer_changes=added(bouts.producer_changes + other),
        n_events=added(bouts.n_events),
        n_turns=added(bouts.n_turns),
        n_responses=added(bouts.n_responses),
    )


def _boundaries(
    bouts: Bouts, objective: NDArray[np.int32], rules: SessionRules
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """What cuts each bout (in order) off from the one before, and what the one after (NONE: nothing)."""
    count = len(bouts.cut)
    boundary, after = np.full(count, Cut.FIRST, np.int8), bouts.following.copy()
    if count < 2:
        return boundary, after
    same = bouts.learner_key[1:] == bouts.learner_key[:-1]
    over_midnight = bouts.cut[1:] == Cut.FIRST
    own = np.zeros(count - 1, np.int8)
    if rules.on_objective:
        before, here = objective[:-1], objective[1:]
        own[(before >= 0) & (here >= 0) & (before != here)] = Cut.OBJECTIVE
    if rules.on_device:
        own[bouts.handed_over[:-1]] = Cut.DEVICE
    own[bouts.ended_explicitly[:-1]] = Cut.EXPLICIT
    own[bouts.started_at[1:] - bouts.ended_at[:-1] > rules.gap] = Cut.IDLE
    boundary[1:] = np.where(same, np.where(over_midnight, own, bouts.cut[1:]), Cut.FIRST)
    # Within a day it is known what came after; over midnight the next edge bout is surely the next one.
    follows = same & over_midnight & (after[:-1] == Cut.NONE)
    after[:-1][follows] = boundary[1:][follows]
    return boundary, after
