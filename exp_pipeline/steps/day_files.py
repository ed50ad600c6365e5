"""Files of single days out of a window's rows, the same bytes however wide the window was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from exp_pipeline.steps.context import Window, Workbench, Written
from exp_pipeline.store.engine import Engine

# Shorter windows are not worth a second set of intermediate tables.
SPLIT_DAYS = 4


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
    step: Callable[[Workbench, Window], list[Written]], bench: Workbench, window: Window
) -> list[Written]:
    """Run a step over a long window as two halves on two connections; a short one as it is."""
    days = window.days()
    if len(days) < SPLIT_DAYS:
        return step(bench, window)
    middle = days[len(days) // 2]
    halves = (Window(window.first, middle), Window(middle, window.end))
    benches = [replace(bench, engine=bench.engine.twin()) for _ in halves]
    with ThreadPoolExecutor(max_workers=len(halves)) as pool:
        results = list(pool.map(step, benches, halves))
    return [one for result in results for one in result]
