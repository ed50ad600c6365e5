"""Cuts by objective in rows in file order: what `session_cuts.sql` says, in one pass over arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def moment_starts(learner_key: NDArray[np.uint64], occurred_at: NDArray[np.int64]) -> Flags:
    """Which of the rows, sorted by learner and time, begin a moment (a learner at one time)?"""
    starts = np.ones(len(learner_key), np.bool_)
    starts[1:] = (learner_key[1:] != learner_key[:-1]) | (occurred_at[1:] != occurred_at[:-1])
    return starts


def objective_changes(
    learner_key: NDArray[np.uint64], occurred_at: NDArray[np.int64], objective: NDArray[np.int32]
) -> Flags:
    """At which rows does a learner's objective differ from the last one named before, in the same file?

    Rows are sorted by learner and time, and within a moment by event id; `objective` holds codes, -1 where
    none is named. A change belongs to the moment: every row of it is marked.
    """
    named = np.flatnonzero(objective >= 0)
    moment = np.cumsum(moment_starts(learner_key, occurred_at)) - 1
    changed = np.zeros(len(learner_key), np.bool_)
    if len(named) < 2:
        return changed
    before, here = named[:-1], named[1:]
    differs = (learner_key[here] == learner_key[before]) & (objective[here] != objective[before])
    changed_moments = np.zeros(moment[-1] + 1, np.bool_)
    changed_moments[moment[here[differs]]] = True
    marked: Flags = changed_moments[moment]
    return marked
