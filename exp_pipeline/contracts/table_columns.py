"""The fixed columns of the published tables, for SQL, the lake and the asset graph, at no cost of pandera.

Read from the declarations (`contracts.published`) that the pandera models of `contracts.tables` are made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from exp_pipeline.contracts.published import TABLE_NAMES, published_table

__all__ = [
    "TABLE_NAMES",
    "ColumnDoc",
    "column_descriptions",
    "column_docs",
    "table_columns",
    "table_description",
]


@dataclass(frozen=True, slots=True)
class ColumnDoc:
    """One fixed column in words: DuckDB type, meaning with unit, and whether it may be null."""

    name: str
    sql_type: str
    description: str
    nullable: bool


def table_columns(table: str) -> dict[str, str]:
    """Which fixed columns has a published table, in order, and of which DuckDB type?

    Columns that the catalog adds (measures, metrics) stand after these. Raises ValueError for an unknown
    table.
    """
    return {column.name: column.sql_type for column in published_table(table).columns}


def column_docs(table: str) -> tuple[ColumnDoc, ...]:
    """What are a table's fixed columns, in order? Raises ValueError for an unknown table."""
    return tuple(
        ColumnDoc(column.name, column.sql_type, column.description, column.nullable)
        for column in published_table(table).columns
    )


def column_descriptions(table: str) -> dict[str, str]:
    """What does each fixed column of a table mean, in one line? Raises ValueError for an unknown table."""
    return {column.name: column.description for column in published_table(table).columns}


def table_description(table: str) -> str:
    """What is one row of a table? Raises ValueError for an unknown table."""
    return published_table(table).grain
