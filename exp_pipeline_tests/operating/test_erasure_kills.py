"""Erasure is killed for real, again and again: called once more, it ends where an undisturbed one does."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.experiments.readouts import RESULTS, write_memo, write_results
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.steps.people.erasure import erase, receipts
from exp_pipeline.steps.people.traces import find_traces
from exp_pipeline.steps.warehouse import build_warehouse
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.conftest import CATALOG, SECRET, lake_bytes

pytestmark = pytest.mark.crash
KILLS = 5
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)


class Opened:
    """A workbench over a home, as every process of the test opens it."""

    def __init__(self, root: Path) -> None:
        self.connection = duckdb.connect()
        catalog = late.late_catalog(open_catalog(CATALOG, strict=True))
        self.context = workbench(
            Home(root), self.connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET},
            catalog=catalog, threads=1,
        )  # fmt: skip

    def __enter__(self) -> Workbench:
        return self.context.__enter__()

    def __exit__(self, *trouble: Any) -> None:
        self.context.__exit__(*trouble)
        self.connection.close()


def made(root: Path, files: late.Files) -> Path:
    with Opened(root) as bench:
        late.put(bench, {name: content for name, content in files.items() if "/part-" in name})
        catch_up(bench)
        take_snapshot(bench, late.NAME)
        write_results(bench, late.NAME, tuple(RESULTS))
        write_memo(bench, late.NAME)
        build_warehouse(bench, duckdb.connect)
    return root


def take_out(root: str, person: str) -> None:
    with Opened(Path(root)) as bench:
        erase(bench, [person], "privacy desk", at=NOW, connect=duckdb.connect)


def outcome(root: Path, person: str) -> dict[str, object]:
    """Lake and newest dataset to the byte, the receipt but for its name, and what still names the person."""
    with Opened(root) as bench:
        assert bench.key is not None
        marts, (receipt,) = Marts(bench.home.marts), receipts(bench)
        newest = marts.current(late.NAME)
        assert newest is not None
        files = {name: content for name, content in lake_bytes(bench.home).items() if "manifest" not in name}
        folder = marts.folder(late.NAME, newest)
        readout = bench.home.readouts / folder.relative_to(bench.home.marts / "mad")
        return {
            "lake": files,
            "snapshots": marts.snapshots(late.NAME),
            "dataset": {path.name: path.read_bytes() for path in folder.glob("*.parquet")},
            "readout": json.loads((readout / "readout.json").read_text()),
            "tables": {path.name: path.read_bytes() for path in readout.glob("*.parquet")},
            "page": (bench.home.readouts / f"{late.NAME}.md").read_text(),
            "rows": receipt.rows,
            "remade": receipt.remade,
            "removed": receipt.snapshots,
            "named": bool(find_traces(bench, [bench.key.pseudonym(person)])),
        }


def test_killed_anywhere_it_is_finished_by_calling_it_again(tmp_path: Path) -> None:
    files = late.log_files(tmp_path / "log")
    world = made(tmp_path / "world", files)
    person = max(one["learner_id"] for one in late.events_of(files) if one["role"] == "student")
    for name in ("calm", "fire"):
        shutil.copytree(world, tmp_path / name)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def started(root: Path) -> Any:
        process = context.Process(target=take_out, args=(str(root), person))
        process.start()
        return process

    began = time.monotonic()
    process = started(tmp_path / "calm")
    process.join(300)
    assert process.exitcode == 0
    seconds = time.monotonic() - began
    wanted = outcome(tmp_path / "calm", person)
    assert wanted["named"] is False
    assert wanted["remade"] == (late.NAME,)

    chance, killed = random.Random(3), 0
    for number in range(KILLS):
        process = started(tmp_path / "fire")
        # Each time a bit later, so that every part of it is met.
        process.join(seconds * (number + chance.random()) / KILLS)
        killed += process.is_alive()
        process.kill()
        process.join(30)
        assert process.exitcode in (0, -signal.SIGKILL)
    assert killed >= KILLS // 2, "it was over before most kills"
    process = started(tmp_path / "fire")
    process.join(300)
    assert process.exitcode == 0
    found = outcome(tmp_path / "fire", person)
    assert {name: found[name] == wanted[name] for name in wanted} == dict.fromkeys(wanted, True)
