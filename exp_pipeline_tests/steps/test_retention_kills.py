"""Retention is killed for real while it deletes: what is half gone goes with the next run, and no more."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.policies import Policies, RetentionPolicy
from exp_pipeline.steps.after.retention import keep_to_policy
from exp_pipeline.steps.context import Workbench, event_day
from exp_pipeline.steps.retired import retired
from exp_pipeline.store.lake import MANIFEST, Lake, NewFile
from exp_pipeline.store.marts import RECORD, Marts
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps.ramp_worlds import bench_over

DAY = timedelta(days=1)
NOW = datetime(2026, 9, 1, 0, 20, tzinfo=UTC)
TABLE, LIMIT, PAST, YOUNG = "srm_daily", 60, 40, 5
SNAPSHOTS, FILES = 12, 25
# The last is the newest, the one before it may be gone back to, and the third is what was decided on.
SPEAKING = {"s00", f"s{SNAPSHOTS - 2:02d}", f"s{SNAPSHOTS - 1:02d}"}


@contextmanager
def opened(root: Path) -> Iterator[Workbench]:
    policy = RetentionPolicy(tables={"srm_daily": LIMIT}, snapshots_of_decided=30)
    with bench_over(root, [], policies=Policies(retention=policy)) as bench:
        yield bench


def keep(root: str) -> None:
    with opened(Path(root)) as bench:
        keep_to_policy(bench, NOW)


def victim(root: str) -> None:
    """What the process that is killed does; it lets the one go first that kills it."""
    os.nice(5)
    keep(root)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days of a table, most of them past their limit, and snapshots of an experiment decided on long ago."""
    root = tmp_path_factory.mktemp("retention") / "home"
    lake, edge = Lake(root / "lake"), NOW.date() - DAY * LIMIT
    for back in range(-YOUNG, PAST):
        day = event_day(edge - DAY * (back + 1))
        path = lake.staging(TABLE, day)
        path.write_bytes(day.encode() * 100)
        lake.commit(TABLE, day, [NewFile(path, "all", 1)], schema_version="1", run_id="r")
    marts = Marts(root / "marts")

    def fill(folder: Path) -> None:
        for number in range(FILES):
            (folder / f"{number}.parquet").write_bytes(f"{folder.name[:15]} {number}".encode() * 50)

    for number in range(SNAPSHOTS):
        marts.add("old", f"s{number:02d}", {"number": number}, fill)
        marts.point("old", f"s{number:02d}")
    row = LoggedDecision(
        kind="decided", experiment="old", snapshot="s00", as_of=date(2026, 3, 1), at=NOW - DAY * 90,
        outcome="ship", by="us", because="it helps", planned=True, effects_hidden=False, brief_digest="d",
        code_version="1", memo="readouts/old.html",
    )  # fmt: skip
    with opened(root) as bench:
        content = row.model_dump(mode="json")
        state_log(bench.home).append("decision", "old", key="k", at=row.at.isoformat(), content=content)
    return root


def files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("lake", "marts")
        for path in sorted((root / part).rglob("*"))
        if path.is_file()
    }


def aged(root: Path) -> None:
    """Let the time pass that readers have for the files of what is gone."""
    past = time.time() - 7200
    for path in (root / "lake").rglob("*.parquet"):
        os.utime(path, (past, past))


def killed(root: Path, watched: Path) -> bool:
    """Run it in a process and kill that as soon as a file is gone; whether it was killed in its work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=victim, args=(str(root),))
    process.start()
    end = time.monotonic() + 60
    while watched.exists():
        assert time.monotonic() < end, "nothing was deleted in time"
        time.sleep(0.0002)
    process.kill()
    process.join(30)
    return process.exitcode == -signal.SIGKILL


def test_what_a_kill_left_half_deleted_goes_with_the_next_run(world: Path, tmp_path: Path) -> None:
    calm, root, chance = tmp_path / "calm", tmp_path / "home", random.Random(7)
    for copy in (calm, root):
        shutil.copytree(world, copy)
    keep(str(calm))
    deleted = files(calm)
    assert len([name for name in deleted if name.endswith(MANIFEST)]) == YOUNG
    assert {name.split("snapshot=")[1][:3] for name in deleted if "snapshot=" in name} == SPEAKING
    with opened(calm) as bench:
        known = retired(bench.home)
    assert len(known) == PAST + SNAPSHOTS - len(SPEAKING)

    def watched(pattern: str) -> Path:
        """One of the first files of a kind that are to go."""
        going = [
            path for path in sorted(root.glob(pattern)) if path.relative_to(root).as_posix() not in deleted
        ]
        return going[chance.randint(0, 2)]

    manifests, snapshots = f"lake/{TABLE}/*/{MANIFEST}", f"marts/mad/*/snapshot=*/{RECORD}"
    # Snapshots go last, so that none of the other is left then.
    kills = [killed(root, watched(pattern)) for pattern in (manifests, manifests, snapshots, snapshots)]
    assert sum(kills) >= 2, "it was over before most kills"
    keep(str(root))
    assert files(root) == deleted
    with opened(root) as bench:
        assert retired(bench.home) == known

    for copy in (calm, root):
        aged(copy)
    keep(str(calm))
    deleted = files(calm)
    assert any([killed(root, watched(f"lake/{TABLE}/*/*.parquet")) for _ in range(2)])
    keep(str(root))
    assert files(root) == deleted
    assert len(list((root / "lake" / TABLE).iterdir())) == YOUNG
