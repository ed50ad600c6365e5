"""What recurs among rows: event ids that stand twice, minutes that are too full, devices that are shared.

The answers come from 64-bit hashes in sorted arrays, so they may name a row too many, never one too few; the
exact rules (`duplicates.sql`, `busy_minutes.sql`, `device_handovers.sql`) then look at these few rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]
# Odd constants with bits all over, so that sums of products differ where their parts do.
_BY_LEARNER, _BY_MINUTE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def repeated(own: Hashes, near: Sequence[Hashes]) -> Flags:
    """Which of a day's hashes stand more than once among the hashes of the days near it, itself included?"""
    everything = np.sort(np.concatenate(near)) if near else np.empty(0, np.uint64)
    twice = np.unique(everything[1:][everything[1:] == everything[:-1]])
    return _among(own, twice)


def crowded(learner_key: NDArray[np.uint64], minute_number: NDArray[np.int64], limit: int) -> Flags:
    """Which rows stand in a learner's minute with more rows than `limit`?"""
    with np.errstate(over="ignore"):
        mixed = learner_key * _BY_LEARNER + minute_number.astype(np.uint64) * _BY_MINUTE
        mixed ^= mixed >> np.uint64(29)
    order = np.sort(mixed)
    return _among(mixed, np.unique(order[limit:][order[limit:] == order[: max(len(order) - limit, 0)]]))


def shared(device_hash: Hashes, learner_key: Hashes) -> Flags:
    """Which rows name a device that more than one learner's rows name?"""
    if not len(device_hash):
        return np.zeros(0, np.bool_)
    order = np.argsort(device_hash, kind="stable")
    devices, learners = device_hash[order], learner_key[order]
    starts = np.flatnonzero(np.concatenate(([True], devices[1:] != devices[:-1])))
    several = np.minimum.reduceat(learners, starts) < np.maximum.reduceat(learners, starts)
    return _among(device_hash, devices[starts[several]])


def _among(values: Hashes, chosen: Hashes) -> Flags:
    if not len(chosen):
        return np.zeros(len(values), np.bool_)
    found = np.searchsorted(chosen, values)
    equal: Flags = chosen[np.minimum(found, len(chosen) - 1)] == values
    return equal
