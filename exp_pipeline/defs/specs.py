"""What every asset of the pipeline tells about itself, and the metadata of every materialization."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from exp_pipeline.contracts.table_columns import column_docs, table_description
from exp_pipeline.steps.context import Window, Written

OWNERS = {
    "ingest": "team:data-platform",
    "identity": "team:data-platform",
    "behaviour": "team:data-platform",
    "exposure": "team:experimentation",
    "facts": "team:experimentation",
    "planning": "team:experimentation",
    "integrity": "team:experimentation",
    "analysis": "team:experimentation",
    "after": "team:data-platform",
}
# Counts up when the meaning of a step's output changes, so that Dagster can mark what is out of date.
CODE_VERSION = "1"


def spec(
    name: str,
    *,
    group: str,
    description: str,
    table: str | None = None,
    partitions: dg.PartitionsDefinition[str] | None = None,
    deps: Iterable[dg.AssetDep | str] = (),
    kinds: Iterable[str] = ("duckdb", "parquet"),
    grain: str | None = None,
) -> dg.AssetSpec:
    """One asset: owner, group, grain, columns, kinds and code version, the same way for all."""
    metadata: dict[str, Any] = {}
    if table is not None:
        columns = [
            dg.TableColumn(
                name=column.name,
                type=column.sql_type,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in column_docs(table)
        ]
        metadata["dagster/column_schema"] = dg.TableSchema(columns=columns)
        metadata["dagster/table_name"] = table
    sentence = grain or (table_description(table) if table is not None else None)
    if sentence is not None:
        metadata["grain"] = sentence
    return dg.AssetSpec(
        key=name,
        group_name=group,
        description=f"{description}\n\nGrain: {sentence}" if sentence else description,
        owners=[OWNERS[group]],
        partitions_def=partitions,
        deps=list(deps),
        kinds=set(kinds),
        code_version=CODE_VERSION,
        metadata=metadata,
    )


def window_of(context: dg.AssetExecutionContext) -> Window:
    """The days that this run is for: one partition, or the whole range of a single-run backfill."""
    days = sorted(date.fromisoformat(key) for key in context.partition_keys)
    return Window.of(days[0], days[-1])


def report(context: dg.AssetExecutionContext, written: Sequence[Written]) -> None:
    """Attach rows, bytes, seconds, rows a second and peak memory to each partition that was written."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for one in written:
        value = one.partition.partition("=")[2]
        context.add_asset_metadata(
            metadata=metadata_of(one, peak),
            asset_key=dg.AssetKey(asset_name(one.table)),
            partition_key=value if context.has_partition_key or context.has_partition_key_range else None,
        )


def asset_name(table: str) -> str:
    """The asset that stands for a lake table."""
    return "landed_events" if table == "landed" else table


def metadata_of(written: Written, peak_megabytes: float | None = None) -> dict[str, Any]:
    """What one written partition says about itself in the UI."""
    found: dict[str, Any] = {
        "dagster/row_count": written.rows,
        "bytes": written.bytes,
        "seconds": written.seconds,
        "rows_per_second": round(written.rows / written.seconds) if written.seconds else 0,
        "content": written.digest[:16],
    }
    if peak_megabytes is not None:
        found["peak_memory_mb"] = round(peak_megabytes)
    for name, value in written.facts.items():
        found[name] = dg.MetadataValue.json(value) if isinstance(value, (dict, list)) else value
    return found
