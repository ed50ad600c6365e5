"""Where real data lie, and data folders made for a test."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.behaviour import facts, sessions
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import brief_of, take_snapshot
from exp_pipeline.steps.experiments.readouts import MemoFiles, write_memo
from exp_pipeline.steps.experiments.starting import lock_if_started
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
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


def run_days(bench: Workbench, days: Sequence[date]) -> None:
    """Everything daily for days in a row; sessions of the day before once more, whose end is known now."""
    landing.land_days(bench, days)
    window = Window.of(days[0], days[-1])
    ingest.conform(bench, window)
    behaviour.build_learner_days(bench, window)
    sessions.build_sessions(bench, Window.of(days[0] - DAY, days[-1]))
    exposure.build_assignments(bench, window)
    exposure.build_exposures(bench, window)
    exposure.build_enrollments(bench)
    facts.build_unit_days(bench, window)


def memo_of(bench: Workbench, experiment: str) -> MemoFiles:
    """Lock, snapshot, readout and memo of one experiment."""
    lock_if_started(bench, brief_of(bench, experiment), datetime.now(UTC))
    take_snapshot(bench, experiment)
    return write_memo(bench, experiment)


def exp(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line over a data folder, in a process of its own (partitions are fixed at import)."""
    environment = {
        **os.environ,
        **KEY,
        "EXP_HOME": str(home.root),
        "DAGSTER_HOME": str(home.root / "dagster_home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    environment.pop("EXP_FIRST_DAY", None)
    return subprocess.run(
        [sys.executable, "-m", "exp_pipeline.cli", *arguments],
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def lake_digests(bench: Workbench, tables: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """SHA-256 of the current data files of some tables, by partition, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for manifest in bench.lake.manifests(table, bench.lake.partitions(table)):
            paths = bench.lake.paths([manifest])
            digests = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
            found[f"{table}/{manifest.partition}"] = digests
    return found
