"""Events of a day in file order: kept rows of the landed slices, sorted, marked, written bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.store import sorted_files
from exp_pipeline.store.sorted_files import ColumnRange, Picked, Places
from exp_pipeline.transform.cuts import moment_starts, objective_changes

# A day's events go to one file up to this many landed rows, then to 2, 4, 8 … by the learner key's top bits.
BUCKET_ROWS = 1_000_000
MOST_BUCKETS = 1024
ADDED = {"objective_changed": "BOOLEAN", "device_handover": "BOOLEAN"}
# Min and max are worth their time only where a reader skips row groups by them.
STATISTICS = (
    *ADDED,
    "received_date",
    "arrived_date",
    "event_date",
    "learner_key",
    "occurred_at",
    "event_name",
    "row_number",
)
# Numbers near those of the row before, and ids that never repeat: quicker to write and to read this way.
ENCODINGS = {
    "event_id": "DELTA_LENGTH_BYTE_ARRAY",
    "occurred_at": "DELTA_BINARY_PACKED",
    "received_at": "DELTA_BINARY_PACKED",
    "client_ts": "DELTA_BINARY_PACKED",
    "row_number": "DELTA_BINARY_PACKED",
    "turn_index": "DELTA_BINARY_PACKED",
}
_FIRST, _LAST = "experiment_assigned", "tutor_session_ended"


@dataclass(frozen=True, slots=True)
class EventFile:
    """One finished file of a day's events, under a temporary name."""

    path: Path
    tag: str
    rows: int
    by_source: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Moments:
    """Learners at times (in microseconds)."""

    learner_key: NDArray[np.uint64]
    occurred_at: NDArray[np.int64]


@dataclass
class LandedDay:
    """The landed rows of one event day, bucket by bucket in memory; those of a single bucket stay there.

    `slices` are the day's landed files with their rows, in the order received.
    """

    day: date
    slices: Sequence[tuple[Path, int]]
    columns: Mapping[str, str]
    _held: Picked | None = None

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.slices)

    @property
    def paths(self) -> list[Path]:
        return [path for path, _ in self.slices]

    @property
    def buckets(self) -> int:
        return bucket_count(self.rows)

    def bucket(self, number: int) -> Picked:
        """The rows of one bucket: learners whose key has the same top bits."""
        if self.buckets > 1:
            share = 2**64 // self.buckets
            within = ColumnRange("learner_key", number * share, (number + 1) * share - 1)
            return sorted_files.pick(self.paths, self.columns, within=within)
        if self._held is None:
            self._held = sorted_files.pick(self.paths, self.columns)
        return self._held

    def only(self, places: Places, columns: Mapping[str, str]) -> Picked:
        """The rows at some (sorted) places, with these columns."""
        return sorted_files.pick(self.paths, columns, only=places)


@dataclass(frozen=True, slots=True)
class DayRows:
    """What is to become one day's events: landed rows, places that fall out, moments of a handover.

    `replaced` gives, by column, places (sorted) and the numbers that stand there instead of those sent.
    """

    landed: LandedDay
    dropped: Places
    handed_over: Moments
    replaced: Mapping[str, tuple[Places, NDArray[np.float64]]]


def bucket_count(landed: int) -> int:
    """How many files a day's events are written to."""
    buckets = 1
    while landed > buckets * BUCKET_ROWS and buckets < MOST_BUCKETS:
        buckets *= 2
    return buckets


def write_events(day: DayRows, columns: Mapping[str, str], staging: Sequence[Path]) -> Iterator[EventFile]:
    """Write a day's kept rows, one file for each path of `staging`, in the order of learner, time and id.

    The top bits of the learner key tell the files apart, so file after file is one sorted sequence, and no
    more than one bucket's rows are in memory.
    """
    buckets = len(staging)
    for bucket, path in enumerate(staging):
        picked = day.landed.bucket(bucket)
        for name, (places, values) in day.replaced.items():
            picked = picked.with_numbers(name, places, values)
        order, by_event_id = file_order(picked, day.dropped)
        rows = sorted_files.write(
            picked,
            order,
            path,
            {**ADDED, **columns},
            added=_marks(picked, order, by_event_id, day.handed_over),
            statistics=STATISTICS,
            encodings=ENCODINGS,
        )
        yield EventFile(path, f"bucket-{bucket:02d}-of-{buckets:02d}", rows, by_source(picked, order))


def file_order(picked: Picked, dropped: Places) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are not dropped in the order of the file, and in that order with each moment's by event id.

    The file's order is learner, time, assignments before and endings after the rest, event id.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = np.ones(len(picked), np.bool_)
    wanted[picked.rows_at(dropped)] = False
    if not wanted.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    codes, names = picked.codes("event_name")
    rank = np.array([0 if name == _FIRST else 2 if name == _LAST else 1 for name in names], np.int8)[codes]
    keys = pa.table(
        {
            "learner_key": picked.table.column("learner_key"),
            "occurred_at": picked.table.column("occurred_at"),
            "rank": rank,
            "event_id": picked.table.column("event_id").cast(pa.string()),
        }
    )
    ascending = [(name, "ascending") for name in keys.column_names]
    order = np.asarray(pc.sort_indices(keys, sort_keys=ascending)).astype(np.int64)
    order = order[wanted[order]]
    moment = np.cumsum(_moment_starts(picked, order)) - 1
    out_of_rank = np.zeros(moment[-1] + 1, np.bool_)
    out_of_rank[moment[rank[order] != 1]] = True
    mixed = np.flatnonzero((out_of_rank & (np.bincount(moment) > 1))[moment])
    by_event_id = order.copy()
    if len(mixed):
        some = keys.take(pa.array(order[mixed])).drop_columns("rank")
        again = pc.sort_indices(some, sort_keys=[one for one in ascending if one[0] != "rank"])
        by_event_id[mixed] = order[mixed][np.asarray(again).astype(np.int64)]
    return order, by_event_id


def _moment_starts(picked: Picked, order: NDArray[np.int64]) -> NDArray[np.bool_]:
    return moment_starts(picked.numbers("learner_key", order), picked.numbers("occurred_at", order))


def _marks(
    picked: Picked, order: NDArray[np.int64], by_event_id: NDArray[np.int64], handed_over: Moments
) -> dict[str, NDArray[np.bool_]]:
    if not len(order):
        return {name: np.zeros(0, np.bool_) for name in ADDED}
    learner, at = picked.numbers("learner_key", order), picked.numbers("occurred_at", order)
    changed = np.zeros(len(order), np.bool_)
    if "learning_objective_id" in picked.table.column_names:
        objective, _ = picked.codes("learning_objective_id")
        changed = objective_changes(learner, at, objective[by_event_id])
    handed = np.zeros(len(order), np.bool_)
    first = np.searchsorted(learner, handed_over.learner_key, "left")
    last = np.searchsorted(learner, handed_over.learner_key, "right")
    for low, high, moment in zip(first, last, handed_over.occurred_at, strict=True):
        own = low + np.searchsorted(at[low:high], (moment, moment + 1))
        handed[own[0] : own[1]] = True
    return {"objective_changed": changed, "device_handover": handed}


def by_source(picked: Picked, order: NDArray[np.int64]) -> dict[str, int]:
    """How many of these rows each source sent."""
    if not len(order):
        return {}
    codes, names = picked.codes("source")
    counts = np.bincount(codes[order], minlength=len(names))
    return {name: int(count) for name, count in sorted(zip(names, counts, strict=True)) if count}
