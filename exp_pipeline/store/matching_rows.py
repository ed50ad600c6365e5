"""The few rows of wide files that have a value: of the other columns no more is decoded than these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def matching_rows(paths: Sequence[Path], columns: Mapping[str, str], column: str, value: str) -> pl.DataFrame:
    """The rows of Parquet files, in order, that have a text in a column; null where a file lacks a column.

    `columns` are those wanted, with their SQL types; `column` must stand in every file.
    """
    import polars as pl

    schema = _frame_schema(columns)
    found = [schema.to_frame()]
    for path in paths:
        present = pl.read_parquet_schema(path)
        # Polars decodes the condition's column first, and of others the rows that it left: half the work of
        # the engine, which decodes whole columns where some rows in each few thousand match.
        rows = pl.scan_parquet(path, parallel="prefiltered", hive_partitioning=False, use_statistics=False)
        found.append(
            rows.filter(pl.col(column) == value)
            .select(
                pl.col(name).cast(kind) if name in present else pl.lit(None, kind).alias(name)
                for name, kind in schema.items()
            )
            .collect()
        )
    return pl.concat(found)


def _frame_schema(columns: Mapping[str, str]) -> pl.Schema:
    """The polars types of columns; ValueError for an SQL type that no such column has."""
    import polars as pl

    kinds = {
        "VARCHAR": pl.String(),
        "BIGINT": pl.Int64(),
        "INTEGER": pl.Int32(),
        "UBIGINT": pl.UInt64(),
        "DOUBLE": pl.Float64(),
        "BOOLEAN": pl.Boolean(),
        "DATE": pl.Date(),
        "TIMESTAMP": pl.Datetime("us"),
    }
    unknown = sorted({kind for kind in columns.values() if kind not in kinds})
    if unknown:
        raise ValueError(f"columns of type {unknown[0]} are not read; allowed: {', '.join(kinds)}")
    return pl.Schema({name: kinds[kind] for name, kind in columns.items()})
