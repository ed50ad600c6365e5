"""Files of single days out of a window's rows, the same bytes however wide the window was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from exp_pipeline.steps.context import DAY, Window, Workbench, Written
from exp_pipeline.store.engine import Engine

# Long windows are cut into pieces of this many days, so that a year needs no more memory than a fortnight.
PIECE_DAYS = 14


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

    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(run, range(2)))
    return sorted((one for result in results for one in result), key=lambda one: one.partition)
