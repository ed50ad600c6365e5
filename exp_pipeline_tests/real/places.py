"""Where real data lie, and data folders made for a test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.home import Home

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "data"
SHIPPED = HERE.parents[1] / "data" / "catalog"
KEY: Mapping[str, str] = {"EXP_HMAC_KEY": "a key that only tests use"}


def real_file(name: str) -> Path:
    """The path of a real data set; skips the test where it is not there."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"real data not found: {path}")
    return path


def home_with(catalog: str, folder: Path) -> Home:
    """A data folder with one of the catalogs beside this file, and an empty landing folder."""
    home = Home(folder)
    shutil.copytree(HERE / "catalogs" / catalog, home.catalog)
    home.landing.mkdir()
    return home


@contextmanager
def bench_over(home: Home, *, run_id: str = "test", strict: bool = True) -> Iterator[Workbench]:
    """A workbench over a data folder; by default a catalog with a problem raises."""
    with (
        duckdb.connect(":memory:") as connection,
        workbench(
            home,
            connection,
            run_id=run_id,
            environment=KEY,
            catalog=open_catalog(home.catalog, strict=strict),
            threads=2,
        ) as bench,
    ):
        yield bench


def lake_digests(home: Home, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """SHA-256 of every data file of the lake by table, partition and order; manifests name runs and are left out."""
    import hashlib

    found: dict[str, str] = {}
    for path in sorted(home.lake.rglob("*.parquet")):
        place = path.relative_to(home.lake)
        if place.parts[0] not in but:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[f"{place.parent.as_posix()}/{digest}"] = digest
    return found
