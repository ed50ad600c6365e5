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

from exp_pipeline.contracts.models.base import Rule, add_rules
from exp_pipeline.contracts.models.row import ROW_RULES, CanonicalEvent
from exp_pipeline.contracts.published import TABLE_NAMES, published_table
from exp_pipeline.contracts.published.base import Column, PublishedTable, SqlType

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


def _model(table: PublishedTable) -> type[Table]:
    body: dict[str, Any] = {
        "__doc__": table.grain,
        "__module__": __name__,
        "__annotations__": {column.name: _TYPES[column.sql_type] for column in table.columns},
        "Config": type(
            "Config",
            (Table.Config,),
            {"name": table.name, "description": table.grain, "unique": list(table.key) or None},
        ),
        **{column.name: _field(column) for column in table.columns},
    }
    rules = tuple(Rule(rule.name, rule.expression, rule.meaning) for rule in table.rules)
    if any(column.canonical for column in table.columns):
        rules += ROW_RULES
    add_rules(lambda attribute, check: body.__setitem__(attribute, check), rules)
    return type("".join(part.title() for part in table.name.split("_")), (Table,), body)


TABLES: dict[str, type[Table]] = {name: _model(published_table(name)) for name in TABLE_NAMES}
"""The model of every published table, by name."""
