"""Rows that came through the door wait here, and are written as files of one event day each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from exp_pipeline.model.sources import IGNORED
from exp_pipeline.steps.context import Workbench, received_day
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import NewFile
from exp_pipeline.transform import door

# Rows that wait to be written: a day's slices grow by so many at once (two whole row groups).
FLUSH_ROWS = 245_760
# Where a day is large, a slice is read bucket by bucket of its learners: rows stand by the first bits of the
# learner key, so that a bucket's reader passes over most row groups. Smaller groups would be passed over more
# often, and cost every other reader a sixth more.
_LEARNER_BITS = 6
SLICE_ORDER = f"learner_key >> {64 - _LEARNER_BITS} nulls first, source, file, row_number, part"
SLICE_GROUP_ROWS = 122_880


class LandedSlices:
    """Table `landed_rows`, and what of it has been written: files of one event day each.

    The table holds only the columns that rows asked for with `widen`; the files have them all. Sorting a
    column without a value would cost as much as sorting any other.
    """

    def __init__(self, bench: Workbench, received: date) -> None:
        self.bench, self.partition = bench, received_day(received)
        self.columns = door.landed_columns(bench.shape())
        self.written: list[NewFile] = []
        self.unusable = 0
        self._least = frozenset(door.landed_columns(door.narrowed(bench.shape(), ())))
        self._empty()

    def _empty(self) -> None:
        self._here = set(self._least)
        typed = ", ".join(
            f"null::{kind} as {quote(name)}" for name, kind in self.columns.items() if name in self._here
        )
        self.bench.engine.build("landed_rows", f"select {typed} where false")

    def widen(self, names: Collection[str]) -> None:
        """Make room for columns that the next rows fill."""
        for name, kind in self.columns.items():
            if name in names and name not in self._here:
                self.bench.engine.connection.execute(
                    f"alter table landed_rows add column {quote(name)} {kind}"
                )
                self._here.add(name)

    def refuse(self, values: Mapping[str, str]) -> None:
        """One row of these values (SQL expressions by column), for a file that nobody can read."""
        self.widen(values.keys())
        typed = ", ".join(f"{value}::{self.columns[name]} as {quote(name)}" for name, value in values.items())
        self.bench.engine.connection.execute(f"insert into landed_rows by name select {typed}")

    def flush_if_full(self) -> None:
        """Write what waits where it has become enough."""
        if self.bench.engine.row("select count(*) from landed_rows")[0] >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits, a file for each event day."""
        engine = self.bench.engine
        (unusable,) = engine.row(
            "select count(*) from landed_rows where reason is not null and not starts_with(reason, $ignored)",
            {"ignored": IGNORED},
        )
        self.unusable += int(unusable)
        own = ", ".join(quote(name) for name in self.columns if name in self._here)
        names = ", ".join(
            quote(name) if name in self._here else f"null::{kind} as {quote(name)}"
            for name, kind in self.columns.items()
        )
        days = engine.connection.execute(
            "select cast(event_date as varchar), count(*) from landed_rows "
            "group by event_date order by event_date"
        ).fetchall()
        for day, rows in days:
            path = self.bench.lake.staging("landed", self.partition)
            self.written.append(NewFile(path, day, rows))
            engine.write(
                f"select {names} from (select {own} from landed_rows "
                f"where event_date = {text_literal(day)}::date order by {SLICE_ORDER})",
                path,
                row_group_rows=SLICE_GROUP_ROWS,
            )
        self._empty()

    def files(self) -> list[NewFile]:
        """Everything written, day by day, each day's files in the order they were read."""
        return sorted(self.written, key=lambda file: file.tag)

    def close(self) -> None:
        """Forget the table, and files that were not committed."""
        self.bench.engine.drop("landed_rows")
        for file in self.written:
            file.path.unlink(missing_ok=True)
