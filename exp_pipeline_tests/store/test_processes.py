"""Real processes at work on one folder, or killed at any moment: no lock, nothing half, no clean-up."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.store import lake as lake_module
from exp_pipeline.store.files import digest_of_file
from exp_pipeline.store.lake import Lake, Manifest
from exp_pipeline.store.state import StateLog
from exp_pipeline.store.warehouse import open_warehouse, replace_warehouse
from exp_pipeline_tests.store.workers import (
    BUCKETS,
    DAYS,
    ENOUGH,
    ROWS,
    TABLE,
    content_of,
    shown,
    write_partition,
)

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[str]


def start(work: str, root: Path, argument: str) -> Process:
    command = [sys.executable, "-m", "exp_pipeline_tests.store.workers", work, str(root), argument]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ready(process: Process) -> None:
    assert process.stdout is not None
    # Byte by byte: who reads a line ahead of it may read what `ended` looks for.
    line = b""
    while not line.endswith(b"\n") and (read := os.read(process.stdout.fileno(), 1)):
        line += read
    if line != b'{"ready": true}\n':
        raise AssertionError(process.communicate(timeout=5)[1])


def ended(process: Process) -> dict[str, object]:
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    return dict(json.loads(out.splitlines()[-1]))


@contextmanager
def running(root: Path, *works: tuple[str, str]) -> Iterator[list[Process]]:
    """Processes that are all at work; none is left behind."""
    processes = [start(work, root, argument) for work, argument in works]
    try:
        for process in processes:
            ready(process)
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def valid_day(variant: int) -> list[object]:
    return [ROWS[variant], variant, variant, ROWS[variant] * (ROWS[variant] - 1) // 2]


VALID = [valid_day(variant) for variant in (0, 1)]


def test_writers_rebuilds_and_analysts_at_once_meet_no_lock_and_nothing_half(tmp_path: Path) -> None:
    for day in DAYS:
        write_partition(tmp_path, day, 0)
    path = tmp_path / "warehouse.duckdb"
    replace_warehouse(path, lambda: shown(tmp_path, 0), duckdb.connect)
    began = time.monotonic()
    works = (("writer", "1"), ("writer", "2"), ("analyst", "keep"), ("analyst", "reconnect"))
    with running(tmp_path, *works) as processes:
        rebuilds, until = 0, time.monotonic() + 7
        while (
            rebuilds < ENOUGH or len(list(tmp_path.glob("enough-*"))) < len(works)
        ) and time.monotonic() < until:
            rebuilds += 1
            assert replace_warehouse(path, partial(shown, tmp_path, rebuilds), duckdb.connect).changed
        (tmp_path / "stop").touch()
        first, second, keeper, reconnecting = (ended(process) for process in processes)
    assert time.monotonic() - began < 10
    assert rebuilds >= ENOUGH
    for one in (first, second):
        assert int(str(one["commits"])) >= ENOUGH
    for one in (keeper, reconnecting):
        assert int(str(one["queries"])) >= ENOUGH
        for state in one["seen"]:  # type: ignore[attr-defined]
            assert [row[0] for row in state] == [day.partition("=")[2] for day in DAYS]
            assert all(row[1:] in VALID for row in state)
    # One connection sees one state, however often the file and the partitions behind it are replaced.
    assert keeper["connections"] == 1
    assert len(keeper["seen"]) == 1  # type: ignore[arg-type]
    assert len(reconnecting["seen"]) > 1  # type: ignore[arg-type]


def state_of(lake: Lake) -> tuple[Manifest, int] | None:
    """The manifest and which content it names, every byte checked; None before the first commit."""
    manifest = lake.manifest(TABLE, DAYS[0])
    if manifest is None:
        return None
    variant = manifest.facts["variant"]
    assert isinstance(variant, int)
    for bucket, (path, file) in enumerate(zip(lake.paths([manifest]), manifest.files, strict=True)):
        assert digest_of_file(path) == file.digest
        assert path.read_bytes() == b"".join(content_of(variant, bucket))
    assert len(manifest.files) == BUCKETS
    return manifest, variant


def test_a_writer_killed_at_any_moment_leaves_the_old_partition_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, chance = Lake(tmp_path / "lake"), random.Random(7)
    leftovers = 0
    for attempt in range(8):
        with running(tmp_path, ("committer", str(attempt))) as [process]:
            time.sleep(chance.uniform(0.0, 0.04))
            process.kill()
            process.wait(timeout=5)
        state_of(lake)
        if (folder := lake.folder(TABLE, DAYS[0])).is_dir():
            leftovers += any(entry.name.endswith(".tmp") for entry in folder.iterdir())
    assert leftovers, "no kill hit a writer in the middle: the test proves nothing"
    monkeypatch.setattr(lake_module, "GRACE_SECONDS", 0.0)
    write_partition(tmp_path, DAYS[0], 1)
    manifest = lake.manifest(TABLE, DAYS[0])
    assert manifest is not None
    assert manifest.rows == ROWS[1]
    held = {entry.name for entry in lake.folder(TABLE, DAYS[0]).iterdir()}
    assert held == {"manifest.json", *(file.name for file in manifest.files)}


def test_a_build_killed_at_any_moment_leaves_a_warehouse_that_opens(tmp_path: Path) -> None:
    write_partition(tmp_path, DAYS[0], 0)
    path, chance = tmp_path / "warehouse.duckdb", random.Random(11)
    replace_warehouse(path, lambda: shown(tmp_path, 0), duckdb.connect)
    for attempt in range(1, 4):
        with running(tmp_path, ("builder", str(attempt))) as [process]:
            time.sleep(chance.uniform(0.0, 0.2))
            process.kill()
            process.wait(timeout=5)
        with open_warehouse(path) as connection:
            assert connection.execute("select count(*), count(distinct n) from numbers").fetchone() == (50, 1)
            assert connection.execute("select count(*) from events").fetchone() == (ROWS[0],)
    assert replace_warehouse(path, lambda: shown(tmp_path, 7), duckdb.connect).changed
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "lake",
        "warehouse.duckdb",
        "warehouse.json",
    ]
    with open_warehouse(path) as connection:
        assert connection.execute("select distinct n from numbers").fetchall() == [(7,)]


def test_processes_that_append_the_same_keys_to_a_new_log_leave_one_entry_each(tmp_path: Path) -> None:
    with running(tmp_path, *(("appender", str(number)) for number in range(3))) as processes:
        added = [int(str(ended(process)["added"])) for process in processes]
    assert sum(added) == 40
    assert len(StateLog(tmp_path / "state" / "state.sqlite").entries("lock")) == 40


def test_an_engine_scan_beside_a_writer_sees_whole_partitions_only(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    write_partition(tmp_path, DAYS[0], 0)
    counts = set()
    with running(tmp_path, ("writer", "3")), closing(duckdb.connect(":memory:")) as connection:
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            paths = [str(path) for path in lake.paths(lake.manifests(TABLE, DAYS[:1]))]
            counts.add(connection.execute("select count(*) from read_parquet(?)", [paths]).fetchone())
        (tmp_path / "stop").touch()
    assert counts <= {(rows,) for rows in ROWS}


def test_a_commit_waits_for_the_one_before_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    folder = Lake(tmp_path / "lake").folder(TABLE, DAYS[0])
    folder.mkdir(parents=True)
    with running(tmp_path, ("holder", str(folder))) as [holder], running(tmp_path, ("committer", "1")):
        time.sleep(0.2)
        assert not (folder / "manifest.json").exists()
        holder.kill()
        until = time.monotonic() + 5
        while not (folder / "manifest.json").exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert (folder / "manifest.json").exists()
        (tmp_path / "stop").touch()
