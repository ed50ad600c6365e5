"""The warehouse: one small file of documented views and tables, for analysts and BI tools.

What is hidden and what is not. Before an experiment's planned look or horizon its readout holds no primary
or secondary effect, so no table here can show one; and no row of a unit says its arm, so that no join of
views gives an effect. Counts by arm stay. What is left to intent are pinned versions that differ between
arms, and the lake's own files.

How fresh it is. A view names the Parquet files that were current when the file was built: every query of
one connection, over all views, sees that one state. A replaced Parquet file stays readable for the lake's
grace time (an hour after its replacement, and on until its partition is written again), so the daily job
builds the warehouse last. A query that meets a file that is gone fails with an error that names it; it
never returns fewer rows. Open connections keep the file they opened: one process gets the new one after it
closed them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from exp_pipeline.analysis.deciding.blinding import ARM_COLUMNS
from exp_pipeline.contracts.table_columns import column_docs, table_columns, table_description
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.metrics import Measure
from exp_pipeline.model.readout import Readout
from exp_pipeline.steps.assignment.exposure import WHOLE, build_units, unit_columns
from exp_pipeline.steps.behaviour.learner_days import event_measures, session_measures
from exp_pipeline.steps.context import Workbench, Written
from exp_pipeline.steps.experiments.blinded import blinded_experiments
from exp_pipeline.steps.experiments.shown_datasets import UNIT_WEEKS, dataset_columns, unit_weeks
from exp_pipeline.steps.experiments.stored_readouts import READOUT_FILE, READOUT_GROUP, parse_readout
from exp_pipeline.steps.warehouse.columns import COLUMNS
from exp_pipeline.steps.warehouse.results import Standing, result_tables
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.sealed import read_sealed
from exp_pipeline.store.warehouse import (
    Connect,
    Shown,
    ShownColumn,
    ShownTable,
    ShownView,
    ShownWhere,
    Value,
    lake_view,
    replace_warehouse,
)
from exp_pipeline.transform import measures as measure_sql

LAKE_VIEWS = (
    "events", "quarantine", "exclusions", "learner_days", "sessions", "turns",
    "roster", "roster_quarantine", "enrollments", "content", "holdout_units",
    "assignments", "exposures", "units", "unit_days", "srm_daily", "guardrails_daily", "data_quality",
)  # fmt: skip
VIEWS = (*LAKE_VIEWS, UNIT_WEEKS)
# Of these every row is one unit or one of its events: they carry no arm while its experiment is blinded.
UNIT_VIEWS = ("events", "assignments", "exposures", "units")


def build_warehouse(bench: Workbench, connect: Connect) -> Written:
    """Build `data/marts/warehouse.duckdb` from the lake's files and each experiment's readout.

    `connect` opens a database file for writing, as a context manager that closes it. The live file is
    replaced in one step and never opened, so analysts may keep it open. One that shows the same content
    already is kept as it is. `rows` counts the rows of its tables; `facts` name views, tables, and the
    experiments without a readout.
    """
    started = time.monotonic()
    write_units(bench)
    found: list[Standing] = []
    tables: list[ShownTable] = []

    def gather() -> Shown:
        content, found[:] = shown_of(bench)
        tables[:] = content.tables
        return content

    replaced = replace_warehouse(bench.home.warehouse, gather, connect)
    return Written(
        table="warehouse",
        partition=WHOLE,
        rows=sum(len(table.rows) for table in tables),
        bytes=replaced.bytes,
        seconds=round(time.monotonic() - started, 3),
        digest=replaced.digest,
        facts={
            "changed": replaced.changed,
            "views": list(VIEWS),
            "tables": {table.name: len(table.rows) for table in tables},
            "without_readout": {one.name: one.note for one in found if one.note is not None},
        },
    )


def write_units(bench: Workbench) -> Written:
    """Write who is in which arm of each experiment to the lake; one row per learner in it."""
    started = time.monotonic()
    build_units(bench)
    path = bench.lake.staging("units", WHOLE)
    rows = bench.engine.write(
        f"select {unit_columns()} from units order by experiment, version, unit_key, unit_id", path
    )
    for name in ("units", "experiments", "experiment_days"):
        bench.engine.drop(name)
    return bench.commit("units", WHOLE, [NewFile(path, "all", rows)], started)


def current_readout(bench: Workbench, experiment: str, snapshot: str) -> Readout | None:
    """The readout of a snapshot, or None where none was made. Raises StoreError where its file is damaged."""
    folder = bench.home.readouts / Marts(Path()).folder(experiment, snapshot).relative_to("mad")
    path = folder / READOUT_FILE
    encoded = read_sealed(folder, READOUT_GROUP, READOUT_FILE)
    if encoded is None:
        try:
            encoded = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        readout = parse_readout(encoded)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(
            f"{path} is damaged ({place}: {first['msg']}); materialize that readout again"
        ) from trouble
    if (readout.experiment, readout.provenance.snapshot) != (experiment, snapshot):
        raise StoreError(
            f"{path} speaks of {readout.experiment}, snapshot {readout.provenance.snapshot}; "
            "materialize that readout again"
        )
    return readout


def _standings(bench: Workbench) -> list[Standing]:
    marts = Marts(bench.home.marts)
    standings = []
    for name in sorted(bench.catalog.briefs.keys() | set(marts.experiments())):
        snapshot, readout, note = None, None, None
        try:
            snapshot = marts.current(name)
            if snapshot is None:
                note = "no snapshot of its dataset was taken yet"
            else:
                readout = current_readout(bench, name, snapshot)
                note = None if readout is not None else f"snapshot {snapshot} has not been read out yet"
        except StoreError as trouble:
            # The other experiments are shown all the same; this one says what is wrong with it.
            note = str(trouble)
        standings.append(Standing(name, bench.catalog.briefs.get(name), snapshot, readout, note))
    return standings


def shown_of(bench: Workbench) -> tuple[Shown, list[Standing]]:
    """Everything that a warehouse built now shows, and where each experiment stands."""
    found = _standings(bench)
    current = [(one.name, one.snapshot) for one in found]
    views = (*_views(bench), unit_weeks(bench, current))
    tables = [*result_tables(bench, found), dataset_columns(bench, current)]
    return Shown(views, (*tables, _dictionary(views, tables))), found


def _views(bench: Workbench) -> Iterable[ShownView]:
    over_events, over_sessions = event_measures(bench), session_measures(bench)
    more = {"learner_days": over_events, "unit_days": (*over_events, *over_sessions)}
    blinded = blinded_experiments(bench)
    opened = tuple(sorted(bench.catalog.briefs.keys() - blinded.keys()))
    for table in LAKE_VIEWS:
        columns = [ShownColumn(doc.name, doc.sql_type, doc.description) for doc in column_docs(table)]
        columns += _measure_columns(more.get(table, ()), table)
        view = lake_view(bench.lake, table, table_description(table), columns)
        if table in UNIT_VIEWS:
            telling = tuple(column.name for column in columns if column.name in ARM_COLUMNS)
            view = replace(view, shown_where=ShownWhere("experiment", opened, telling))
        yield view


def _dictionary(views: Sequence[ShownView], tables: Sequence[ShownTable]) -> ShownTable:
    """One row a column of everything in the file, this table's own included."""
    empty = ShownTable("columns", "One column of one view or table of this file.", COLUMNS, ())
    rows: list[tuple[Value, ...]] = []
    relations: list[tuple[str, ShownView | ShownTable]] = [
        *(("view", one) for one in views),
        *(("table", one) for one in (*tables, empty)),
    ]
    for kind, one in relations:
        rows += [
            (one.name, kind, one.description, position, column.name, column.sql_type, column.description)
            for position, column in enumerate(one.columns, start=1)
        ]
    return replace(empty, rows=tuple(rows))


def _measure_columns(measures: Sequence[Measure], table: str) -> list[ShownColumn]:
    fixed = table_columns(table)
    return [
        ShownColumn(measure.name, measure_sql.column_type(measure), measure.description)
        for measure in measure_sql.in_order(measures)
        if measure.name not in fixed
    ]
