"""Nouns as frames for notebooks: a column a field, with real days, moments and lists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import polars as pl
from pydantic import AwareDatetime

from exp_pipeline.model.base import Noun

_PLAIN: dict[object, pl.DataType] = {
    bool: pl.Boolean(),
    int: pl.Int64(),
    float: pl.Float64(),
    str: pl.String(),
    date: pl.Date(),
    datetime: pl.Datetime("us", "UTC"),
    AwareDatetime: pl.Datetime("us", "UTC"),
}


def frame_of(rows: Sequence[Noun], kind: type[Noun]) -> pl.DataFrame:
    """Rows as a table, typed also where every value is missing or there is no row; nested values as JSON."""
    columns = {name: column_type(field.annotation) for name, field in kind.model_fields.items()}
    records = [{name: _value(getattr(row, name), columns[name]) for name in columns} for row in rows]
    return pl.DataFrame(records, schema=columns)


def column_type(annotation: object) -> pl.DataType:
    """The column type of a field's annotation; text for what is nested or of several kinds."""
    if get_origin(annotation) in (Union, UnionType):
        parts = [one for one in get_args(annotation) if one is not type(None)]
        return column_type(parts[0]) if len(parts) == 1 else pl.String()
    if get_origin(annotation) is tuple and get_args(annotation) == (str, ...):
        return pl.List(pl.String())
    if get_origin(annotation) is Literal:
        return pl.String()
    if hasattr(annotation, "__metadata__"):
        return column_type(get_args(annotation)[0])
    return _PLAIN.get(annotation, pl.String())


def _value(value: Any, kind: pl.DataType) -> object:
    if value is None or kind != pl.String():
        return list(value) if isinstance(value, tuple) else value
    if isinstance(value, str):
        return value
    plain = [_plain(one) for one in value] if isinstance(value, tuple) else _plain(value)
    return json.dumps(plain, sort_keys=True, default=str)


def _plain(value: Any) -> object:
    return value.model_dump(mode="json") if isinstance(value, Noun) else value
