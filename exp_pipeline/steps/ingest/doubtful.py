"""The landed rows that need a closer look, found in one pass over each day's rows.

Most rows are sound, alone with their id and in a quiet minute: they become events, and nothing more has to be
asked. The others are put aside with all their columns, and the exact rules are asked of them alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.ingest.event_files import LandedDay, Moments, by_source
from exp_pipeline.store.engine import Rows, quote
from exp_pipeline.store.sorted_files import ROWS_OF_A_FILE, Picked, Places, pick
from exp_pipeline.transform.repeats import Hashes, Ids, Uses, crowded, disputed, handovers, shared, union

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "doubtful_rows"
_MINUTE = 60_000_000
# What the pass itself looks at.
_SEEN = {"source": "VARCHAR", "learner_key": "UBIGINT", "occurred_at": "TIMESTAMP", "device_id": "VARCHAR"}


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of rows in SQL, with the columns that each text reads; made before any thread starts."""

    arrivals: str
    verdicts: str
    doubtful: str
    replaced: Mapping[str, str]
    columns: Sequence[str]
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the pass over a day's rows found, beside the doubtful ones.

    Landed rows by source; uses of devices that several learners' rows name; for each column, the places where
    it is read otherwise than it was sent, with the numbers.
    """

    by_source: Mapping[str, int]
    uses: Uses
    replaced: Mapping[str, tuple[Places, NDArray[np.float64]]]


@dataclass
class DoubtfulRows:
    """Fills table `doubtful_rows` for one day after the other, in order.

    It then holds the doubtful rows of the day, and those rows of other days that share an event id with it or
    with a day near it. The window's days are to be written; those within reach of it serve to find copies.
    """

    bench: Workbench
    columns: Mapping[str, str]
    slices: Mapping[date, Sequence[tuple[Path, int]]]
    asked: Questions
    window: Window
    reach: int
    pace: int
    _ids: dict[date, Ids] = field(default_factory=dict)
    _shared: dict[tuple[date, date], Hashes] = field(default_factory=dict)
    _copies: dict[date, list[pa.Table]] = field(default_factory=dict)

    def look_at(self, landed: LandedDay) -> Seen:
        """Fill the table for a day of the window, and say what else was seen on the way."""
        day = landed.day
        self._forget(day - DAY * self.reach)
        typed = {"place": "BIGINT", **self.columns, "refusal": "VARCHAR"}
        nothing = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in typed.items())
        self.bench.engine.build(TABLE, f"select {nothing} where false")
        if not landed.rows:
            return Seen({}, _NO_USES, {})
        near = self._near(day)
        ids = self._arrived(day)
        for other in near:
            for copies in self._copies_of(other, day):
                self._insert(copies)
        later = _places(landed, ids.rows_of(union([self._in_both(day, one) for one in near if one > day])))
        repeated = union([ids.twice(), *(self._in_both(day, other) for other in near)])
        self._copies[day] = []
        seen = _Gathered()
        # A day of several buckets does not stay in memory: its doubtful rows are fetched by the engine.
        whole = landed.buckets == 1
        picked = landed.bucket(0) if whole else pick(landed.paths, _SEEN)
        # Slices without any learner lack the column, whose zeros are then signed.
        learner = picked.numbers_or_zero("learner_key").astype(np.uint64, copy=False)
        at = picked.numbers_or_zero("occurred_at")
        seen.add(picked, learner, at)
        full = np.flatnonzero(crowded(learner, at // _MINUTE, self.pace))
        marked = np.union1d(picked.rows_at(_places(landed, ids.rows_of(repeated))), full)
        if whole:
            doubted = self._doubted(picked, marked, seen)
        else:
            doubted = self._doubted_in_files(landed, picked.places[marked], seen)
        self._insert(doubted)
        if len(later):
            self._copies[day].append(_only(doubted, later))
        return seen.all()

    def _near(self, day: date) -> list[date]:
        """The other days within reach that have rows."""
        days = (day + DAY * offset for offset in range(-self.reach, self.reach + 1))
        return [one for one in days if one != day and self.slices.get(one)]

    def _forget(self, low: date) -> None:
        self._ids = {day: ids for day, ids in self._ids.items() if day >= low}
        self._copies = {day: tables for day, tables in self._copies.items() if day >= low}
        self._shared = {pair: found for pair, found in self._shared.items() if pair[0] >= low}

    def _arrived(self, day: date) -> Ids:
        """A day's event ids, read once."""
        if day not in self._ids:
            engine = self.bench.engine
            engine.offer("landed", Rows([path for path, _ in self.slices[day]], self.columns))
            found = engine.arrays(self.asked.arrivals)
            self._ids[day] = Ids.of(found["event_hash"], found["is_usable"])
        return self._ids[day]

    def _in_both(self, one: date, other: date) -> Hashes:
        """Hashes of the event ids that stand on both days, looked for once."""
        pair = (min(one, other), max(one, other))
        if pair not in self._shared:
            self._shared[pair] = self._arrived(pair[0]).shared_with(self._arrived(pair[1]))
        return self._shared[pair]

    def _copies_of(self, other: date, day: date) -> list[pa.Table]:
        """Rows of another day that share an event id with the day, or with days of the window like it."""
        if other not in self._copies:
            # Other days of the window are looked at in their turn, but for those still to come.
            before = other > day
            sharing = [
                self._in_both(other, one)
                for one in self._near(other)
                if self.window.first <= one < self.window.end and (one < other) == before
            ]
            landed = LandedDay(other, self.slices[other], self.columns)
            places = _places(landed, self._arrived(other).rows_of(union(sharing)))
            self._copies[other] = []
            if len(places):
                picked = landed.only(places, self.columns)
                self._copies[other].append(self._doubted(picked, np.arange(len(picked)), None))
        return self._copies[other]

    def _doubted(self, picked: Picked, marked: NDArray[np.int64], seen: _Gathered | None) -> pa.Table:
        """The rows that are refused or excluded by what they say, and the marked ones, with the refusal."""
        import pyarrow as pa

        engine = self.bench.engine
        with self._offered(picked, self.asked.columns):
            found = engine.arrays(self.asked.verdicts, self.asked.parameters)
            if seen is not None:
                seen.add_replaced({name: engine.arrays(text) for name, text in self.asked.replaced.items()})
        refused = picked.rows_at(found["place"])
        rows = np.union1d(refused, marked)
        refusal = np.full(len(rows), None, object)
        given = found["refusal"]
        # A masked text has no meaning of its own.
        refusal[np.searchsorted(rows, refused)] = np.ma.getdata(given)
        refusal[np.searchsorted(rows, refused[np.ma.getmaskarray(given)])] = None
        few = picked.take(rows)
        return few.table.append_column("place", pa.array(few.places)).append_column(
            "refusal", pa.array(refusal, pa.string())
        )

    def _doubted_in_files(self, landed: LandedDay, marked: Places, seen: _Gathered) -> pa.Table:
        """The same for rows that are not in memory."""
        engine = self.bench.engine
        engine.offer("landed", Rows(landed.paths, self.columns), place=True)
        engine.offer_arrays("marked", {"place": marked})
        found = engine.connection.sql(
            self.asked.doubtful, params=dict(self.asked.parameters)
        ).to_arrow_table()
        seen.add_replaced({name: engine.arrays(text) for name, text in self.asked.replaced.items()})
        engine.drop("marked")
        return found

    @contextmanager
    def _offered(self, picked: Picked, columns: Sequence[str]) -> Iterator[None]:
        """Rows in memory as view `landed`, with their places and some of the columns."""
        import pyarrow as pa

        here = [name for name in columns if name in picked.table.column_names]
        table = picked.table.select(here).append_column("place", pa.array(picked.places))
        body = ", ".join(
            quote(name) if name in here else f"null::{self.columns[name]} as {quote(name)}"
            for name in columns
        )
        connection = self.bench.engine.connection
        connection.register("landed_rows_here", table)
        try:
            self.bench.engine.view("landed", f"select place, {body} from landed_rows_here")
            yield
            self.bench.engine.drop("landed")
        finally:
            connection.unregister("landed_rows_here")

    def _insert(self, doubted: pa.Table) -> None:
        if not doubted.num_rows:
            return
        names = ", ".join(quote(name) for name in doubted.column_names)
        connection = self.bench.engine.connection
        connection.register("doubted_here", doubted)
        try:
            connection.execute(f"insert into {TABLE} by name select {names} from doubted_here")
        finally:
            connection.unregister("doubted_here")


@dataclass
class _Gathered:
    """Collects what is seen bucket by bucket."""

    by_source: dict[str, int] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    uses: list[Uses] = field(default_factory=list)
    replaced: dict[str, list[dict[str, NDArray[Any]]]] = field(default_factory=dict)

    def add(self, picked: Picked, learner: NDArray[np.uint64], at: NDArray[np.int64]) -> None:
        for source, rows in by_source(picked, np.arange(len(picked))).items():
            self.by_source[source] = self.by_source.get(source, 0) + rows
        codes, names = picked.codes("device_id")
        # The same device has another code in each bucket; the last entry is for rows that name none.
        known = [self.devices.setdefault(name, len(self.devices)) for name in names]
        device = np.array([*known, -1], np.int32)[codes]
        named = device >= 0
        self.uses.append(Uses(device[named], learner[named], at[named], picked.places[named]))

    def add_replaced(self, found: Mapping[str, dict[str, NDArray[Any]]]) -> None:
        for name, one in found.items():
            if len(one["place"]):
                self.replaced.setdefault(name, []).append(one)

    def all(self) -> Seen:
        uses = Uses(
            *(
                np.concatenate([getattr(one, name) for one in (_NO_USES, *self.uses)])
                for name in Uses.__slots__
            )
        )
        replaced = {}
        for name, parts in self.replaced.items():
            places = np.concatenate([one["place"] for one in parts])
            order = np.argsort(places)
            replaced[name] = (places[order], _joined([one["value"] for one in parts])[order])
        return Seen(
            dict(sorted(self.by_source.items())),
            uses.take(shared(uses.device, uses.learner_key)),
            replaced,
        )


def handed_over(landed: LandedDay, uses: Uses, dropped: Places) -> Moments:
    """After which moments of a day's kept rows does another learner use the same device?"""
    kept = uses.take(~np.isin(uses.places, dropped))
    rank = np.zeros(len(kept.places), np.int64)
    at_once = disputed(kept)
    if len(at_once):
        import pyarrow.compute as pc

        picked = landed.only(at_once, {"event_id": "VARCHAR"})
        by_id = np.asarray(pc.rank(picked.table.column("event_id"), "ascending", tiebreaker="dense"))
        rank[np.isin(kept.places, at_once)] = by_id[
            np.searchsorted(picked.places, kept.places[np.isin(kept.places, at_once)])
        ]
    return Moments(*handovers(kept, rank))


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Arrays, masked or not, one after the other."""
    values = np.concatenate([np.ma.getdata(part) for part in parts])
    return np.ma.MaskedArray(values, np.concatenate([np.ma.getmaskarray(part) for part in parts]))


def _only(doubted: pa.Table, places: Places) -> pa.Table:
    import pyarrow as pa

    return doubted.filter(pa.array(np.isin(np.asarray(doubted.column("place")), places)))


def _places(landed: LandedDay, rows: NDArray[np.int64]) -> Places:
    """The places of rows that are numbered through all files of a day."""
    ends = np.cumsum([count for _, count in landed.slices])
    file = np.searchsorted(ends, rows, "right")
    return file * ROWS_OF_A_FILE + rows - np.concatenate(([0], ends))[file]


_NO_USES = Uses(np.empty(0, np.int32), np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
