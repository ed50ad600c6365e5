"""A small file system fills up in a run: readers see whole partitions, and the next run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.operating.house import House
from bench.operating.killing import LATE_DAYS, land, make_world, undisturbed, what_readers_see
from exp_pipeline_tests.defs import small_world as small

pytestmark = pytest.mark.crash


def _mount(*options: str, at: Path) -> bool:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(at)], capture_output=True, timeout=20
    )
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, with room for half of what the run writes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or not _mount("size=4m", at=folder):
        pytest.skip("a file system of its own needs root and mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def half_written(data: Path) -> list[str]:
    """Partitions whose manifest names a file that is absent or has other bytes."""
    found = []
    for path in (data / "lake").rglob("manifest.json"):
        for file in json.loads(path.read_text())["files"]:
            target = path.parent / file["name"]
            digest = hashlib.sha256(target.read_bytes()).hexdigest() if target.is_file() else ""
            if digest != file["digest"]:
                found.append(str(target))
    return found


def run(house: House) -> subprocess.CompletedProcess[str]:
    days = ("--from", str(small.FIRST - LATE_DAYS), "--to", str(small.LAST))
    return house.command("exp", "run", *days, check=False)


def test_a_full_disk_leaves_whole_partitions_and_the_next_run_finishes(
    tmp_path: Path, small_disk: Path
) -> None:
    wanted, _ = undisturbed(tmp_path / "calm")
    make_world(tmp_path / "world")
    land(tmp_path / "world")
    subprocess.run(["cp", "-r", str(tmp_path / "world" / "data"), str(small_disk)], check=True, timeout=60)
    # History and spill lie elsewhere: it is the data folder that is full.
    house = House(tmp_path / "world", variables={"EXP_HOME": str(small_disk / "data")})
    house.prepare()
    full = run(house)
    assert full.returncode == 1
    said = full.stdout + full.stderr
    assert "No space left" in said or "not enough" in said.lower(), said[-2000:]
    assert half_written(small_disk / "data") == []
    assert subprocess.run(["mount", "-o", "remount,size=600m", str(small_disk)], timeout=20).returncode == 0
    done = run(house)
    assert done.returncode == 0, done.stdout + done.stderr
    assert what_readers_see(small_disk / "data") == wanted
