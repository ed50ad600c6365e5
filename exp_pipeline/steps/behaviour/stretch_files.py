"""Stretches of learners' days with every measure: summed up as arrays, by the engine what arrays cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlglot import exp

from exp_pipeline.model.metrics import Measure
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.row_files import RowFile, arrow_column, joined
from exp_pipeline.store.sorted_runs import Run, sorted_runs
from exp_pipeline.transform.array_measures import EventRows, Grouped, array_measure
from exp_pipeline.transform.columns import Numbers
from exp_pipeline.transform.measures import column_type, over_rows, read_columns
from exp_pipeline.transform.queries import query_text
from exp_pipeline.transform.stretches import days_of, stretch_starts

if TYPE_CHECKING:
    import pyarrow as pa

ASSIGNED = frozenset(("experiment_assigned",))
# Rows kept for the engine before it is asked: a question costs some milliseconds, however few the rows.
_ASK_AT = 500_000
_GIVEN = "rows_of_stretches"
_GROUP = "stretch"


class Summing:
    """How measures over events are summed up: as arrays where these can, by the engine what is left."""

    def __init__(self, measures: Sequence[Measure], types: Mapping[str, str]) -> None:
        self.types = types
        self.arrays = {
            measure: plain for measure in measures if (plain := array_measure(measure, types)) is not None
        }
        self.left = [measure for measure in measures if measure not in self.arrays]
        self.columns = sorted(read_columns(measures, types) - {"occurred_at", "event_name"})

    def rows_for_engine(
        self, grouped: Grouped, run: Run, measures: Sequence[Measure], first: int
    ) -> pa.Table:
        """The rows that some measures look at, with their group's number counted from `first`."""
        import pyarrow as pa

        named = {name for measure in measures for name in measure.events}
        everything = any(not measure.events for measure in measures)
        at = grouped.events.of(frozenset() if everything else frozenset(named))
        columns = sorted(read_columns(measures, self.types) | {"event_name"})
        return run.table(columns, at).append_column(
            _GROUP, pa.array(grouped.group[at].astype(np.int64) + first)
        )


def _asked(engine: Engine, rows: pa.Table, measures: Sequence[Measure], groups: int) -> dict[str, pa.Array]:
    """Measures by the engine over rows that name their group, as columns of all groups."""
    import pyarrow as pa

    query = (
        exp.select(exp.column(_GROUP), *(over_rows(measure) for measure in measures))
        .from_(_GIVEN)
        .group_by(exp.column(_GROUP))
    )
    engine.connection.register(_GIVEN, rows)
    try:
        found = engine.connection.sql(query_text(query)).to_arrow_table().combine_chunks()
    finally:
        engine.connection.unregister(_GIVEN)
    place = np.full(groups, -1, np.int64)
    place[np.asarray(found.column(_GROUP))] = np.arange(found.num_rows)
    chosen = pa.array(place, mask=place < 0)
    columns = {}
    for measure in measures:
        column = found.column(measure.name).take(chosen)
        if measure.aggregate == "count":
            column = column.fill_null(0)
        columns[measure.name] = column.combine_chunks()
    return columns


class _Waiting:
    """Stretches whose columns are not all there yet, and the rows that the engine is to sum up for them."""

    def __init__(self, engine: Engine, summing: Summing, file: RowFile) -> None:
        self._engine, self._summing, self._file = engine, summing, file
        self._columns: list[tuple[dict[str, pa.Array], int]] = []
        self._rows: list[pa.Table] = []
        self._groups = 0

    def add(self, run: Run, grouped: Grouped, columns: dict[str, pa.Array]) -> None:
        """Add a run's stretches; what arrays give stands in `columns`."""
        if not self._summing.left:
            self._file.add(columns, grouped.groups)
            return
        self._rows.append(self._summing.rows_for_engine(grouped, run, self._summing.left, self._groups))
        self._columns.append((columns, grouped.groups))
        self._groups += grouped.groups
        if sum(rows.num_rows for rows in self._rows) >= _ASK_AT:
            self.ask()

    def ask(self) -> None:
        """Have the engine sum up what waits, and write it."""
        if not self._columns:
            return
        rows = joined([one.unify_dictionaries() for one in self._rows])
        found = _asked(self._engine, rows, self._summing.left, self._groups)
        first = 0
        for columns, groups in self._columns:
            own = {name: column.slice(first, groups) for name, column in found.items()}
            self._file.add({**columns, **own}, groups)
            first += groups
        self._columns, self._rows, self._groups = [], [], 0


def write_stretches(
    engine: Engine, paths: Sequence[Path], path: Path, columns: Mapping[str, str], summing: Summing
) -> int:
    """Write the learner-days of a day's event files, sorted by learner and time; returns how many.

    `columns` are the file's columns with their SQL types: those of learner-days, then the measures'.
    """
    at_once = ("occurred_at", "event_name", *summing.columns)
    with RowFile(path, columns) as file:
        waiting = _Waiting(engine, summing, file)
        for run in sorted_runs(paths, summing.types, first=at_once):
            grouped, fixed = _cut(run)
            found = {name: arrow_column(column, columns[name]) for name, column in fixed.items()}
            for measure, plain in summing.arrays.items():
                values = plain(grouped)
                if values is None:
                    rows = summing.rows_for_engine(grouped, run, (measure,), 0)
                    found |= _asked(engine, rows.unify_dictionaries(), (measure,), grouped.groups)
                else:
                    found[measure.name] = arrow_column(values, column_type(measure))
            waiting.add(run, grouped, found)
        waiting.ask()
    return file.rows


def _cut(run: Run) -> tuple[Grouped, dict[str, Numbers]]:
    """A run's rows by stretch, and what is fixed of each stretch."""
    learner, at = run.numbers("learner_key").values, run.numbers("occurred_at").values
    events = EventRows(run)
    starts = stretch_starts(learner, at, events.of(ASSIGNED))
    lengths = np.diff(starts, append=run.count)
    group = np.repeat(np.arange(len(starts), dtype=np.int32), lengths)
    began = at[starts]
    fixed = {
        "learner_key": Numbers(learner[starts]),
        "event_date": Numbers(days_of(began)),
        "started_at": Numbers(began),
        "ended_at": Numbers(at[starts + lengths - 1]),
        "n_events": Numbers(lengths),
    }
    return Grouped(run, events, group, len(starts)), fixed
