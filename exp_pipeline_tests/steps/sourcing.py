"""Files through a source and the door, and what has landed then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from exp_pipeline.steps.ingest import landing
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.home import Home

SHIPPED = Path(__file__).parents[2] / "data" / "catalog"
DAY = date(2026, 3, 3)
KEY = "a key that only tests use"


def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as NDJSON."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def landed(home: Path, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """The landed rows of files (by path below the received day), in the order of source and row."""
    place = Home(home)
    for name, content in files.items():
        path = place.landing / f"received_date={DAY}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with (
        duckdb.connect(":memory:") as connection,
        workbench(
            place,
            connection,
            run_id="test",
            environment={"EXP_HMAC_KEY": KEY},
            catalog=open_catalog(place.catalog, strict=True),
            threads=1,
        ) as bench,
    ):
        landing.land(bench, DAY)
        paths = bench.lake.paths(bench.lake.manifests("landed", bench.lake.partitions("landed")))
    rows = pl.concat([pl.read_parquet(path) for path in paths]).sort("source", "row_number", "part")
    return list(rows.iter_rows(named=True))


def shipped_home(folder: Path, names: Sequence[str]) -> Path:
    """A data folder with some of the sources that ship, and nothing else in its catalog."""
    sources = folder / "catalog" / "sources"
    sources.mkdir(parents=True)
    for name in names:
        shutil.copy(SHIPPED / "sources" / f"{name}.yaml", sources)
    return folder
