"""Files of single days out of a window's rows, the same bytes however wide the window was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, event_day
from exp_pipeline.store.engine import Engine, quote, text_literal
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.store.row_files import RowFile

# Long windows are cut into pieces of this many days, so that a year needs no more memory than a fortnight.
PIECE_DAYS = 14


# Days are worked on together up to about this many events: with few, planning a query costs more than running
# it; with many, what is kept between two statements grows.
CHUNK_EVENTS = 1_500_000


def chunks(bench: Workbench, window: Window) -> list[tuple[Manifest, ...]]:
    """The window's days that have events, in order, in runs of days to be worked on together."""
    found: list[list[Manifest]] = []
    filled = 0
    for manifest in bench.lake.manifests("events", [event_day(day) for day in window.days()]):
        if not found or filled + manifest.rows > CHUNK_EVENTS:
            found.append([])
            filled = 0
        found[-1].append(manifest)
        filled += manifest.rows
    return [tuple(chunk) for chunk in found]


def write_alone(
    engine: Engine, query: str, path: Path, parameters: Mapping[str, object] | None = None
) -> int:
    """Write a query's rows to a file that depends on these rows alone; returns their number.

    DuckDB declares a Parquet column as required where statistics prove that it has no null. Statistics are
    those of the tables read, so the rows of one day, taken from a table of many days, would be written
    otherwise than the same rows taken from a table of that day. A table of their own takes that away.
    """
    engine.build("rows_of_one_file", query, parameters)
    try:
        return engine.write("select * from rows_of_one_file", path)
    finally:
        engine.drop("rows_of_one_file")


def side_by_side(
    step: Callable[[Workbench, Window], list[Written]],
    bench: Workbench,
    window: Window,
    *,
    piece_days: int = PIECE_DAYS,
) -> list[Written]:
    """Run a step over a long window piece by piece, two pieces at a time on two connections.

    The step's result for a day must not depend on the window that the day is part of. A window of fewer than
    four days is run as it is: a second connection would cost more than it saves.
    """
    days = window.days()
    if len(days) < 4:
        return step(bench, window)
    count = max(2, -(-len(days) // piece_days))
    edges = [window.first + DAY * (len(days) * number // count) for number in range(count + 1)]
    pieces = [Window(first, end) for first, end in pairwise(edges)]
    benches = [replace(bench, engine=bench.engine.twin()) for _ in range(2)]

    def run(worker: int) -> list[Written]:
        return [one for piece in pieces[worker::2] for one in step(benches[worker], piece)]

    with bench.engine.one_thread_each(), ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(run, range(2)))
    return sorted((one for result in results for one in result), key=lambda one: one.partition)


def write_days(
    bench: Workbench,
    table: str,
    built: str,
    days: Sequence[date],
    started: float,
    *,
    more: Mapping[str, str] | None = None,
    schema_version: str | None = None,
    facts: Mapping[date, Mapping[str, object]] | None = None,
) -> list[Written]:
    """Write a built table, in its order, day by day; `more` has columns beyond those of its contract.

    Arrow writes the files: their bytes depend on their own rows alone (see `write_alone`), in half the time.
    """
    kinds = table_columns(table) | dict(more or {})
    columns = ", ".join(quote(name) for name in kinds)
    written = []
    for day in days:
        rows = bench.engine.connection.sql(
            f"select {columns} from {quote(built)} where event_date = {text_literal(day.isoformat())}::date"
        ).to_arrow_table()
        with bench.staged(table, event_day(day)) as path:
            with RowFile(path, kinds) as file:
                file.add_table(rows)
            written.append(
                bench.commit(
                    table,
                    event_day(day),
                    [NewFile(path, "all", file.rows)],
                    started,
                    schema_version=schema_version,
                    facts=(facts or {}).get(day),
                )
            )
        started = time.monotonic()
    return written
