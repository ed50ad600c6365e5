"""What changed among landed rows: which event ids came or went, from which sources, who else holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.origins import Present
from exp_pipeline.store.engine import text_literal


@dataclass(frozen=True, slots=True)
class Changed:
    """One slice of a received day (the rows of one event day) that is not what it was: the rows that differ.

    `known` is False where an earlier file is gone, so that every row counts as changed; `table` holds their
    event ids.
    """

    table: str
    rows: int
    sources: tuple[str, ...]
    known: bool


@dataclass
class Arrivals:
    """Compares slices with what they were. `most_rows`: larger ones are not looked into."""

    bench: Workbench
    present: Present
    most_rows: int | None = None
    _changed: dict[tuple[str, str, str], Changed] = field(default_factory=dict)
    _copies: dict[tuple[str, date], bool] = field(default_factory=dict)

    def changed(self, key: str, before: str, now: str) -> Changed:
        """What differs in a slice (`landed/received day/event day`) between two contents (joined digests)."""
        place = (key, before, now)
        if place not in self._changed:
            self._changed[place] = self._compared(key, before, now)
        return self._changed[place]

    def has_copies(self, changed: Changed, day: date) -> bool:
        """Whether a day holds a row with one of the event ids that came or went."""
        if not changed.known:
            return True
        if not changed.rows:
            return False
        place = (changed.table, day)
        if place not in self._copies:
            self._copies[place] = self._holds(changed, day)
        return self._copies[place]

    def close(self) -> None:
        """Forget the tables."""
        for changed in self._changed.values():
            if changed.table:
                self.bench.engine.drop(changed.table)

    def _compared(self, key: str, before: str, now: str) -> Changed:
        old, new = set(before.split("+")) - {""}, set(now.split("+")) - {""}
        gone, come = self._paths(key, old - new), self._paths(key, new - old)
        known = len(gone) == len(old - new) and len(come) == len(new - old)
        manifest = self.present.manifest("landed", key.split("/")[1])
        if self.most_rows is not None and manifest is not None and manifest.rows > self.most_rows:
            return Changed("", 0, (), known=False)
        engine, table = self.bench.engine, f"changed_rows_{len(self._changed)}"
        a, b = self._rows(come), self._rows(gone)
        engine.build(
            table, f"select event_id, source from (({a} except all {b}) union all ({b} except all {a}))"
        )
        rows = engine.row(f"select count(*) from {table}")[0]
        sources = engine.connection.execute(f"select distinct source from {table} order by all").fetchall()
        return Changed(table, int(rows), tuple(str(row[0]) for row in sources), known)

    def _holds(self, changed: Changed, day: date) -> bool:
        slices = self.present.slices().get(day, {})
        paths = [path for key, now in slices.items() for path in self._paths(key, now.split("+"))]
        if not paths:
            return False
        (found,) = self.bench.engine.row(
            f"select exists(select 1 from {_scan(paths)} as l "
            f"where l.reason is null and l.event_id in (select event_id from {changed.table}))"
        )
        return bool(found)

    def _paths(self, key: str, digests: Iterable[str]) -> list[Path]:
        """The files of a slice that are still on disk; replaced ones stay there for a while."""
        folder = self.bench.lake.folder("landed", key.split("/")[1])
        found = (
            next(iter(sorted(folder.glob(f"part-*-{digest}.parquet"))), None) for digest in sorted(digests)
        )
        return [path for path in found if path is not None]

    def _rows(self, paths: list[Path]) -> str:
        if not paths:
            return "select ''::varchar as event_id, ''::varchar as source, 0::ubigint as content where false"
        return f"select r.event_id, r.source, hash(r) as content from {_scan(paths)} as r"


def _scan(paths: Iterable[Path]) -> str:
    files = "[" + ", ".join(text_literal(str(path)) for path in paths) + "]"
    return f"read_parquet({files}, union_by_name = true, hive_partitioning = false)"
