"""Frames against their contracts: pandera at full depth, its findings told as one contract error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exp_pipeline.contracts.events import event_model, schema_of
from exp_pipeline.model.errors import ContractError

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl


def validate_events(
    frame: pl.DataFrame | pl.LazyFrame, event_name: str, *, major: int = 1, partition: str = "all"
) -> pl.DataFrame:
    """Do all rows of a frame that holds one event keep its contract? Gives the frame back as it is.

    The frame has the typed canonical columns (`fields.sql_types(derived=True)`); those the event does not
    need may be left out. Raises ContractError with the first bad rows, ValueError for an event outside the
    taxonomy.
    """
    return _validated(
        frame, event_model(event_name, major), f"events ({event_name})", partition, key="event_id"
    )


def validate_table(name: str, frame: pl.DataFrame | pl.LazyFrame, partition: str) -> pl.DataFrame:
    """Does a published table keep its contract? Gives the frame back as it is; an empty one may pass.

    Raises ContractError naming table, partition and the first bad rows, ValueError for a table unknown here.
    """
    from exp_pipeline.contracts.tables import TABLES

    if name not in TABLES:
        raise ValueError(f"table {name!r} has no contract; allowed: {', '.join(TABLES)}")
    return _validated(frame, TABLES[name], name, partition, key=None)


def table_names() -> tuple[str, ...]:
    """Which published tables have a contract?"""
    from exp_pipeline.contracts.tables import TABLES

    return tuple(TABLES)


def _validated(
    frame: pl.DataFrame | pl.LazyFrame,
    model: type[pa.DataFrameModel],
    table: str,
    partition: str,
    key: str | None,
) -> pl.DataFrame:
    import pandera.errors
    import polars as pl
    from pandera.config import ValidationDepth, config_context

    collected = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema_of(model).validate(collected, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        raise ContractError(table, partition, _told(errors.failure_cases, collected, key)) from errors
    return collected


def _told(cases: pl.DataFrame, frame: pl.DataFrame, key: str | None) -> list[str]:
    """One line for each finding, those about columns first: row and key, column, check, value."""
    lines = []
    for case in cases.sort("index", nulls_last=False, maintain_order=True).iter_rows(named=True):
        index, value, check = case["index"], case["failure_case"], case["check"]
        if index is None:
            lines.append(f"column {case['column']}: {check} ({value})")
            continue
        named = f" ({key} {frame[key][index]})" if key is not None and key in frame.columns else ""
        where = "" if check.startswith("rule:") else f"{case['column']}: "
        lines.append(f"row {index}{named}: {where}{check}, found {value}")
    return lines
