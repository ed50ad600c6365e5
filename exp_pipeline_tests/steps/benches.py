"""A workbench in an empty folder, with the shipped catalog and any brief in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.context import Workbench, event_day
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.store.engine import Engine
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import NewFile
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline.transform.hashing import buckets_of, hash_of_scheme

CATALOG = Path(__file__).parents[2] / "data" / "catalog"


@contextmanager
def bench_in(folder: Path, briefs: Sequence[Brief] = ()) -> Iterator[Workbench]:
    """A workbench over `folder`; briefs given here take the place of shipped ones of their name."""
    catalog = open_catalog(CATALOG, strict=True)
    known = {**catalog.briefs, **{brief.name: brief for brief in briefs}}
    with duckdb.connect(":memory:") as connection:
        yield Workbench(
            home=Home(folder),
            catalog=replace(catalog, briefs=known),
            engine=Engine(connection, threads=1),
            run_id="test",
        )


def assigned(brief: Brief, unit: str, **changes: Any) -> dict[str, Any]:
    """One row of `assignments`: the unit in its hashed arm at nine on the brief's first day."""
    moment = datetime(brief.start.year, brief.start.month, brief.start.day, 9)
    hashed = brief.hash_scheme != "none"
    scheme = brief.hash_scheme if hashed else "sha256-v1"
    buckets = buckets_of(scheme, brief.name, brief.version, unit)
    row: dict[str, Any] = {
        "experiment": brief.name,
        "version": brief.version,
        "unit_type": brief.randomisation_unit,
        "unit_id": unit,
        "arm": arm_of(brief.name, brief.version, unit, brief.shares(), scheme=scheme, traffic=brief.traffic),
        "assigned_at": moment,
        "source": "logged",
        "arm_bucket": buckets.arm if hashed else None,
        "traffic_bucket": buckets.traffic if hashed else None,
        "bucket_scheme": hash_of_scheme(scheme) if hashed else None,
        "n_logged": 1,
    } | changes
    return row | {"event_date": row["assigned_at"].date()}


def commit_rows(bench: Workbench, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make rows the content of their event days in the lake."""
    columns = table_columns(table)
    days: dict[date, list[Mapping[str, Any]]] = {}
    for row in rows:
        days.setdefault(row["event_date"], []).append(row)
    for day, mine in sorted(days.items()):
        frame = pl.DataFrame(list(mine), infer_schema_length=None)
        bench.engine.offer_frame("new_rows", frame)
        typed = ", ".join(
            f"cast({name if name in frame.columns else 'null'} as {kind}) as {name}"
            for name, kind in columns.items()
        )
        path = bench.lake.staging(table, event_day(day))
        count = bench.engine.write(f"select {typed} from new_rows", path)
        bench.commit(table, event_day(day), [NewFile(path, "all", count)], time.monotonic())


def later(row: Mapping[str, Any], days: int, **changes: Any) -> dict[str, Any]:
    """The same row some days on."""
    moment = row["assigned_at"] + timedelta(days=days)
    return {**row, "assigned_at": moment, "event_date": moment.date(), **changes}
