"""What recurs among rows: event ids that stand twice, minutes that are too full, devices that change hands.

Event ids and minutes are compared by 64-bit hashes in sorted arrays, so a row too many may be named, never
one too few; the exact rules (`duplicates.sql`, `busy_minutes.sql`) then look at these few rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]
# Odd constants with bits all over, so that sums of products differ where their parts do.
_BY_LEARNER, _BY_MINUTE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True, slots=True)
class Ids:
    """A day's event ids by hash: sorted, each with the number of its row among all rows of the day."""

    hashes: Hashes
    rows: NDArray[np.uint32]

    @classmethod
    def of(cls, hashes: Hashes, usable: Flags) -> Ids:
        """The ids of the rows that are usable."""
        if not usable.all():
            rows = np.flatnonzero(usable)
            order = rows[np.argsort(hashes[rows])]
        else:
            order = np.argsort(hashes)
        return cls(hashes[order], order.astype(np.uint32))

    def twice(self) -> Hashes:
        """The hashes that stand more than once, sorted."""
        return np.unique(self.hashes[1:][self.hashes[1:] == self.hashes[:-1]])

    def shared_with(self, other: Ids) -> Hashes:
        """The hashes that both days have, sorted."""
        together = np.sort(np.concatenate((self.hashes, other.hashes)))
        several = np.unique(together[1:][together[1:] == together[:-1]])
        return several[_among(several, self.hashes) & _among(several, other.hashes)]

    def rows_of(self, chosen: Hashes) -> NDArray[np.int64]:
        """The rows with one of these (sorted) hashes, in the order of rows."""
        first = np.searchsorted(self.hashes, chosen, "left")
        counts = np.searchsorted(self.hashes, chosen, "right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(self.rows[np.repeat(first, counts) + within]).astype(np.int64)


def union(hashes: Sequence[Hashes]) -> Hashes:
    """All of these hashes once, sorted."""
    return np.unique(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)


def crowded(learner_key: NDArray[np.uint64], minute_number: NDArray[np.int64], limit: int) -> Flags:
    """Which rows stand in a learner's minute with more rows than `limit`?"""
    with np.errstate(over="ignore"):
        mixed = learner_key * _BY_LEARNER + minute_number.astype(np.uint64) * _BY_MINUTE
        mixed ^= mixed >> np.uint64(29)
    order = np.sort(mixed)
    return _among(mixed, np.unique(order[limit:][order[limit:] == order[: max(len(order) - limit, 0)]]))


def shared(device: NDArray[np.int32], learner_key: NDArray[np.uint64]) -> Flags:
    """Which rows name a device (by its code, -1 for none) that more than one learner's rows name?"""
    named = np.flatnonzero(device >= 0)
    several = np.zeros(int(device.max(initial=-1)) + 1, np.bool_)
    if not len(named):
        return np.zeros(len(device), np.bool_)
    # Any one learner of each device; whoever differs from them shares it.
    one = np.empty(len(several), np.uint64)
    one[device[named]] = learner_key[named]
    several[device[named][learner_key[named] != one[device[named]]]] = True
    flags = np.zeros(len(device), np.bool_)
    flags[named] = several[device[named]]
    return flags


@dataclass(frozen=True, slots=True)
class Uses:
    """Rows that name a device: its code, the learner, the time (in microseconds), and the row's place."""

    device: NDArray[np.int32]
    learner_key: NDArray[np.uint64]
    occurred_at: NDArray[np.int64]
    places: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Uses:
        """Some of the rows."""
        return Uses(
            self.device[chosen], self.learner_key[chosen], self.occurred_at[chosen], self.places[chosen]
        )


def disputed(uses: Uses) -> NDArray[np.int64]:
    """The places (sorted) of rows at a moment at which several learners' rows name one device."""
    if not len(uses.device):
        return uses.places
    sorted_uses = uses.take(np.lexsort((uses.occurred_at, uses.device)))
    device, at, learner = sorted_uses.device, sorted_uses.occurred_at, sorted_uses.learner_key
    begins = np.concatenate(([True], (device[1:] != device[:-1]) | (at[1:] != at[:-1])))
    starts = np.flatnonzero(begins)
    several = np.minimum.reduceat(learner, starts) < np.maximum.reduceat(learner, starts)
    return np.sort(sorted_uses.places[several[np.cumsum(begins) - 1]])


def handovers(uses: Uses, rank: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Learners and moments (sorted, each once) after which another learner uses the same device.

    `rank` tells rows of one device and one moment apart: the order of their event ids.
    """
    ordered = uses.take(np.lexsort((rank, uses.occurred_at, uses.device)))
    device, learner = ordered.device, ordered.learner_key
    last = np.flatnonzero((device[1:] == device[:-1]) & (learner[1:] != learner[:-1]))
    learner, at = learner[last], ordered.occurred_at[last]
    order = np.lexsort((at, learner))
    learner, at = learner[order], at[order]
    once = np.ones(len(order), np.bool_)
    once[1:] = (learner[1:] != learner[:-1]) | (at[1:] != at[:-1])
    return learner[once], at[once]


def _among(values: Hashes, chosen: Hashes) -> Flags:
    if not len(chosen):
        return np.zeros(len(values), np.bool_)
    found = np.searchsorted(chosen, values)
    equal: Flags = chosen[np.minimum(found, len(chosen) - 1)] == values
    return equal
