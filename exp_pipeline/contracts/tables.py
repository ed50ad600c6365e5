"""The published tables: one pandera model each, named like the table, made from `contracts.published`.

To add a table or a column, declare it there; `validation.validate_table` finds it. What is declared must be
there and be right; further columns may follow it, since the catalog adds measures and metrics.
"""

from __future__ import annotations

import copy
import inspect
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

from exp_pipeline.contracts.models.base import Rule
from exp_pipeline.contracts.models.row import ROW_RULES, CanonicalEvent
from exp_pipeline.contracts.published import TABLE_NAMES, published_table
from exp_pipeline.contracts.published.base import Column, PublishedTable, RowRule, SqlType

_TYPES: dict[SqlType, Any] = {
    "VARCHAR": str,
    "BIGINT": int,
    "INTEGER": pl.Int32,
    "SMALLINT": pl.Int16,
    "TINYINT": pl.Int8,
    "UBIGINT": pl.UInt64,
    "DOUBLE": float,
    "BOOLEAN": bool,
    "DATE": pl.Date,
    "TIMESTAMP": Annotated[pl.Datetime, "us", None],
}


class Table(pa.DataFrameModel):
    """What all published tables share."""


def _canonical(name: str) -> Any:
    """The canonical event's own field, with its checks; in a table its column must be there."""
    for base in CanonicalEvent.__mro__:
        if name in inspect.get_annotations(base):
            field = copy.copy(vars(base)[name])
            field.required, field.required_explicit = True, True
            return field
    raise ValueError(f"{name!r} is no canonical column")


def _field(column: Column) -> Any:
    if column.canonical:
        return _canonical(column.name)
    return pa.Field(nullable=column.nullable, description=column.description, **column.checks)


def _check(name: str, meaning: str, good: pl.Expr) -> Any:
    """A check over columns of a row, hung on the first of them.

    Where a check hangs on the whole frame, pandera tells its failures as whole rows, and that breaks on a
    64-bit key above 2^63.
    """
    columns = list(dict.fromkeys(good.meta.root_names()))

    def holds(cls: Any, data: pa.PolarsData) -> pl.LazyFrame:
        present = set(data.lazyframe.collect_schema().names())
        missing = (pl.lit(None).alias(column) for column in columns if column not in present)
        return data.lazyframe.with_columns(missing).select(good.fill_null(True))

    return pa.check(columns[0], name=name, description=meaning)(holds)


def _rule(rule: RowRule | Rule) -> Any:
    good = pl.sql_expr(rule.expression)
    if not isinstance(good, pl.Expr):
        raise TypeError(f"rule {rule.name}: {rule.expression!r} is not one expression")
    return _check(f"rule:{rule.name}", rule.meaning, good)


def _key(columns: tuple[str, ...]) -> Any:
    named = ", ".join(columns)
    row = pl.col(columns[0]) if len(columns) == 1 else pl.struct(columns)
    return _check(f"one_row_for_each({named})", f"No two rows share {named}.", row.is_unique())


def _model(table: PublishedTable) -> type[Table]:
    rules: list[RowRule | Rule] = [*table.rules]
    if any(column.canonical for column in table.columns):
        rules += ROW_RULES
    body: dict[str, Any] = {
        "__doc__": table.grain,
        "__module__": __name__,
        "__annotations__": {column.name: _TYPES[column.sql_type] for column in table.columns},
        "Config": type("Config", (Table.Config,), {"name": table.name, "description": table.grain}),
        **{column.name: _field(column) for column in table.columns},
        **{f"rule_{rule.name}": _rule(rule) for rule in rules},
    }
    if table.key:
        body["one_row_for_each_key"] = _key(table.key)
    return type("".join(part.title() for part in table.name.split("_")), (Table,), body)


TABLES: dict[str, type[Table]] = {name: _model(published_table(name)) for name in TABLE_NAMES}
"""The model of every published table, by name."""
