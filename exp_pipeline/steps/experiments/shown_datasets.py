"""What the warehouse shows of the current datasets: units by week, and what each column means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.dataset import WEEKS
from exp_pipeline.steps.experiments.dictionary import COLUMNS, ColumnNote
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.warehouse import ShownColumn, ShownTable, ShownView, Value

UNIT_WEEKS = "unit_weeks"
_WORDS = (
    ("experiment", "VARCHAR", "Experiment."),
    ("snapshot", "VARCHAR", "Snapshot whose column it is."),
    ("file", "VARCHAR", "File of the snapshot: mad (a row a unit), weeks or days."),
    ("name", "VARCHAR", "Column."),
    ("type", "VARCHAR", "DuckDB type."),
    ("unit", "VARCHAR", "Unit of its values."),
    ("definition", "VARCHAR", "What it means."),
    ("provenance", "VARCHAR", "What it is made from, as JSON: source table, metric, measures with digests."),
)
_EMPTY = (
    ("experiment", "VARCHAR", "Experiment."),
    ("version", "BIGINT", "Version of the experiment."),
    ("unit_id", "VARCHAR", "Learner, by pseudonym."),
    ("unit_key", "UBIGINT", "First 64 bits of the learner's pseudonym."),
    ("week", "INTEGER", "Week since the unit's assignment, from 0."),
)


def unit_weeks(bench: Workbench, snapshots: Iterable[tuple[str, str | None]]) -> ShownView:
    """The weeks of every current snapshot in one view; a metric that an experiment does not have is null.

    It carries no arm, as unit-days carry none. A column that two snapshots hold by different types is left
    out: it would be two things under one name.
    """
    marts, files, notes = Marts(bench.home.marts), [], []
    for experiment, snapshot in snapshots:
        path = marts.folder(experiment, snapshot) / f"{WEEKS}.parquet" if snapshot is not None else None
        if path is not None and path.is_file():
            files.append((path.absolute(),))
            notes += [note for note in _notes(bench, experiment, snapshot) if note.file == "weeks"]
    columns = {name: ShownColumn(name, kind, words) for name, kind, words in _EMPTY}
    types: dict[str, set[str]] = {}
    for note in notes:
        types.setdefault(note.name, set()).add(note.type)
        columns.setdefault(note.name, ShownColumn(note.name, note.type, note.definition))
    kept = tuple(column for column in columns.values() if len(types.get(column.name, ())) <= 1)
    return ShownView(
        UNIT_WEEKS,
        "One unit of one experiment in one week since its assignment that has begun, as of its dataset.",
        kept,
        tuple(files),
    )


def dataset_columns(bench: Workbench, snapshots: Iterable[tuple[str, str | None]]) -> ShownTable:
    """What every column of every current snapshot means."""
    rows: list[tuple[Value, ...]] = []
    for experiment, snapshot in snapshots:
        for note in _notes(bench, experiment, snapshot):
            made_from = json.dumps(note.provenance, sort_keys=True)
            rows.append(
                (experiment, snapshot, note.file, note.name, note.type, note.unit, note.definition, made_from)
            )
    return ShownTable(
        "dataset_columns",
        "One column of the dataset of one experiment: its meaning, unit and what it is made from.",
        tuple(ShownColumn(*words) for words in _WORDS),
        tuple(rows),
    )


def _notes(bench: Workbench, experiment: str, snapshot: str | None) -> Sequence[ColumnNote]:
    if snapshot is None:
        return ()
    path = Marts(bench.home.marts).folder(experiment, snapshot) / COLUMNS
    found = json.loads(path.read_text()) if path.is_file() else []
    return tuple(ColumnNote.model_validate(note) for note in found)
