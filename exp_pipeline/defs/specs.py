"""What every asset of the pipeline tells about itself, and the metadata of every materialization."""

from __future__ import annotations

import resource
import types
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import dagster as dg

from exp_pipeline.contracts.table_columns import column_docs, table_description
from exp_pipeline.model.base import Noun
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
    "ramp": "team:experimentation",
    "after": "team:data-platform",
}
CAUSE, WHY, ASKED_BY = "exp/cause", "exp/why", "exp/asked_by"
CAUSES = (CAUSE, WHY, ASKED_BY)
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
    columns: Sequence[dg.TableColumn] = (),
) -> dg.AssetSpec:
    """One asset: owner, group, grain, columns, kinds and code version, the same way for all."""
    metadata: dict[str, Any] = {}
    if table is not None:
        metadata["dagster/table_name"] = table
        columns = [
            dg.TableColumn(
                name=column.name,
                type=column.sql_type,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in column_docs(table)
        ]
    if columns:
        metadata["dagster/column_schema"] = dg.TableSchema(columns=list(columns))
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


def plain_columns(columns: Mapping[str, str]) -> list[dg.TableColumn]:
    """Columns of which only names and types are declared."""
    return [dg.TableColumn(name, type=kind) for name, kind in columns.items()]


def plain_schema(names: Iterable[str]) -> dg.TableSchema:
    """The schema of a small table that is shown in the UI."""
    return dg.TableSchema(columns=[dg.TableColumn(name) for name in names])


_SQL_TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}


def result_columns(kind: type[Noun]) -> list[dg.TableColumn]:
    """The columns of a table of results: one a field; nested fields are JSON text, days are ISO text."""
    columns = []
    for name, field in kind.model_fields.items():
        options = (
            get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ()
        )
        plain = [one for one in (options or (field.annotation,)) if one is not types.NoneType]
        sql_type = _SQL_TYPES.get(plain[0], "VARCHAR") if len(plain) == 1 else "VARCHAR"
        constraints = dg.TableColumnConstraints(nullable=types.NoneType in options)
        columns.append(dg.TableColumn(name, type=sql_type, constraints=constraints))
    return columns


def metadata_of_files(rows: int, seconds: float, *files: Path) -> dict[str, Any]:
    """What a materialization says of the files that it wrote: rows, bytes, seconds."""
    found: dict[str, Any] = {"dagster/row_count": rows, "seconds": round(seconds, 3)}
    return found | {"bytes": sum(path.stat().st_size for path in files)} if files else found


def window_of(context: dg.AssetExecutionContext) -> Window:
    """The days that this run is for: one partition, or the whole range of a single-run backfill."""
    days = sorted(date.fromisoformat(key) for key in context.partition_keys)
    return Window.of(days[0], days[-1])


def report(context: dg.AssetExecutionContext, written: Sequence[Written]) -> None:
    """Attach rows, bytes, seconds, rows a second and peak memory to each partition that was written."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # What made a run of affected days be asked for (`late_data`).
    cause = {name.removeprefix("exp/"): text for name, text in context.run.tags.items() if name in CAUSES}
    for one in written:
        value = one.partition.partition("=")[2]
        context.add_asset_metadata(
            metadata={**metadata_of(one, peak), **cause},
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
