"""Stretches of learners' days in rows in file order: as `learner_days.sql` says, in one pass over arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.transform.columns import Flags, Places

DAY_US = 86_400_000_000


def days_of(at: NDArray[np.int64]) -> NDArray[np.int32]:
    """The UTC days of some moments, counted from 1970."""
    days: NDArray[np.int32] = (at // DAY_US).astype(np.int32)
    return days


def day_starts(learner_key: NDArray[np.uint64], occurred_at: NDArray[np.int64]) -> Flags:
    """Which of the rows, sorted by learner and time, are a learner's first of a UTC day?"""
    starts = np.ones(len(learner_key), np.bool_)
    if not len(starts):
        return starts
    np.not_equal(learner_key[1:], learner_key[:-1], out=starts[1:])
    # Rows of one file are of one day; dividing each of them would cost more than all the rest.
    if occurred_at.min() // DAY_US != occurred_at.max() // DAY_US:
        day = occurred_at // DAY_US
        starts[1:] |= day[1:] != day[:-1]
    return starts


def stretch_starts(
    learner_key: NDArray[np.uint64], occurred_at: NDArray[np.int64], assigned: Places
) -> Places:
    """At which rows does a stretch begin: a learner's day, or what follows an assignment in it?

    Rows are sorted by learner, time and rank; `assigned` are the places of assignments. An assignment is the
    first of its moment, so that a stretch holds all or nothing of a moment, and of several assignments at one
    moment only the first begins one.
    """
    starts = day_starts(learner_key, occurred_at)
    later = assigned[assigned > 0]
    starts[later[occurred_at[later] != occurred_at[later - 1]]] = True
    return np.flatnonzero(starts)
