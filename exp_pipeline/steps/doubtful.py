"""The landed rows that need a closer look: found in one narrow and one wide pass over each day's slices.

Most rows are sound, alone with their id and in a quiet minute: they become events, and nothing more has to be
asked. The others are put aside with all their columns, and the exact rules are asked of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.store.engine import Rows, quote
from exp_pipeline.transform.repeats import Flags, Hashes, crowded, repeated, shared

if TYPE_CHECKING:
    from exp_pipeline.store.sorted_files import Places

TABLE = "doubtful_rows"


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A day's usable rows: hash of the event id and place; the places of rows in crowded minutes and of rows
    on devices that several learners use.
    """

    hashes: Hashes
    places: Places
    crowded: Places
    on_shared_devices: Places


@dataclass
class DoubtfulRows:
    """Keeps table `doubtful_rows` filled with the doubtful rows of the days asked for, and forgets the rest.

    `slices` gives a day's landed files in the order received; `judged` says whether a day is to be written,
    or only serves to find copies for those that are. Each file is read twice, whatever the order of asking.
    """

    bench: Workbench
    columns: Mapping[str, str]
    slices: Callable[[date], list[Path]]
    arrivals: str
    doubtful: str
    parameters: Mapping[str, object]
    first: date
    end: date
    reach: int
    pace: int
    _arrived: dict[date, _Arrived] = field(default_factory=dict)
    _filled: set[date] = field(default_factory=set)

    def __post_init__(self) -> None:
        typed = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in self.columns.items())
        self.bench.engine.build(TABLE, f"select null::bigint as place, {typed} where false")

    def look_at(self, first: date, end: date) -> None:
        """Fill the table for the days from `first` to `end` (excluded) and those within reach of them."""
        around = DAY * self.reach
        low, high = first - around, end + around
        day = low
        while day < high:
            if day not in self._filled:
                self._fill(day)
                self._filled.add(day)
            day += DAY
        for old in [day for day in self._filled if day < low]:
            self._filled.discard(old)
        for old in [day for day in self._arrived if day < low]:
            del self._arrived[old]
        self.bench.engine.connection.execute(f"delete from {TABLE} where event_date < $low", {"low": low})

    def on_shared_devices(self, day: date) -> Places:
        """Where a day's rows name a device that several learners' rows name; no place too few."""
        return self._arrival(day).on_shared_devices

    def _fill(self, day: date) -> None:
        files = self.slices(day)
        if not files:
            return
        engine = self.bench.engine
        own = self._arrival(day)
        near = [self._arrival(day + DAY * offset).hashes for offset in range(-self.reach, self.reach + 1)]
        marked = np.union1d(own.places[repeated(own.hashes, near)], own.crowded)
        engine.offer("landed", Rows(files, self.columns), place=True)
        engine.offer_arrays("marked", {"place": marked})
        engine.connection.execute(
            f"insert into {TABLE} {self.doubtful}",
            self.parameters,
        )
        engine.drop("marked")

    def _arrival(self, day: date) -> _Arrived:
        """The narrow view of a day, read once; a day out of reach of the window has none."""
        if day not in self._arrived:
            files = self.slices(day)
            self._arrived[day] = self._read(day, files) if files else _NOTHING
        return self._arrived[day]

    def _read(self, day: date, files: list[Path]) -> _Arrived:
        engine = self.bench.engine
        engine.offer("landed", Rows(files, self.columns), place=True)
        found = engine.arrays(self.arrivals)
        usable: Flags = found["is_usable"]
        places: Places = found["place"]
        full = on_shared = _NOTHING.places
        if self.first <= day < self.end:
            full = places[usable & crowded(found["learner_key"], found["minute_number"], self.pace)]
            named = usable & found["has_device"]
            on_shared = places[named][shared(found["device_hash"][named], found["learner_key"][named])]
        return _Arrived(found["event_hash"][usable], places[usable], full, on_shared)


_NOTHING = _Arrived(
    np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
)
