"""Tables of the lake as lazy frames, with the arms of blinded experiments left out."""

from __future__ import annotations

from datetime import date

import polars as pl

from exp_pipeline.analysis.deciding.blinding import ARM_COLUMNS
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.context import Workbench, day_of
from exp_pipeline.steps.experiments.blinded import blinded_experiments
from exp_pipeline.store.engine import quote


def lake_frame(
    bench: Workbench, table: str, first: date | None = None, last: date | None = None
) -> pl.LazyFrame:
    """The current rows of a table over some days (both ends included; all, unless named), in their order.

    A table without days is given as a whole. Columns that older files lack are null.
    """
    names = [
        name
        for name in bench.lake.partitions(table)
        if not name.startswith("event_date=")
        or ((first is None or day_of(name) >= first) and (last is None or day_of(name) <= last))
    ]
    groups: dict[str, list[str]] = {}
    for manifest in bench.lake.manifests(table, names):
        paths = [str(path) for path in bench.lake.paths([manifest])]
        groups.setdefault(manifest.schema_version, []).extend(paths)
    frames = [pl.scan_parquet(paths, hive_partitioning=False) for paths in groups.values() if paths]
    frames.insert(0, _nothing(bench, table))
    return _without_blinded_arms(bench, table, pl.concat(frames, how="diagonal_relaxed"))


def _nothing(bench: Workbench, table: str) -> pl.LazyFrame:
    """No row, but every fixed column with its type."""
    typed = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in table_columns(table).items())
    rows = bench.engine.connection.sql(f"select {typed} where false").to_arrow_table()
    return pl.DataFrame(rows).lazy()


def _without_blinded_arms(bench: Workbench, table: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    columns = table_columns(table)
    # Counts and guardrails by arm are never hidden; rows of units are.
    if "experiment" not in columns or "unit_id" not in columns:
        return frame
    opened = sorted(bench.catalog.briefs.keys() - blinded_experiments(bench).keys())
    return frame.with_columns(
        pl.when(pl.col("experiment").is_in(opened)).then(pl.col(name)).alias(name)
        for name in ARM_COLUMNS
        if name in columns
    )
