"""Pushes to a mirror, one or two at once, are killed at many points while the lake goes on changing.

The server is the tests' own, or a real one: EXP_TEST_S3_URL=s3://bucket/empty-prefix, with AWS_* variables
of its address and keys. What is below that prefix is removed first.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exp_pipeline.steps.operating.mirror_restore import restore, verify
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Lake
from exp_pipeline.store.mirror_objects import Objects
from exp_pipeline.store.mirror_places import open_objects
from exp_pipeline_tests.steps import mirror_worlds as worlds
from exp_pipeline_tests.store.s3_server import BUCKET, KEY, REGION, S3, SECRET, serving

pytestmark = pytest.mark.crash

DAYS, ROUNDS = 25, 12


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    named = os.environ.get("EXP_TEST_S3_URL", "")
    if named:
        objects = open_objects(named)
        objects.delete(list(objects.listed()))
        yield named
        return
    with serving(S3()) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_REGION", REGION)
        yield f"s3://{BUCKET}/home"


def begun(home: Home, url: str) -> subprocess.Popen[bytes]:
    """A process that pushes, at the moment when it begins."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exp_pipeline_tests.steps.mirror_worlds", str(home.root), url],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def whole(objects: Objects) -> None:
    """Every manifest names files that are there and are what it says; the list of pages may trail."""
    content = worlds.content_of(objects)
    content.pop("files.json", None)
    worlds.named_there(content)


def test_killed_pushes_leave_a_whole_mirror_and_the_next_one_ends_equal(tmp_path: Path, url: str) -> None:
    home, objects, chance = worlds.filled(tmp_path / "data", days=DAYS), open_objects(url), random.Random(4)
    killed = finished = 0
    for number in range(ROUNDS):
        for _ in range(8):
            worlds.commit(home, "events", chance.randint(1, DAYS), chance.randbytes(60_000), b"few")
        if number % 4 == 3:
            Lake(home.lake).retire("unit_days", f"event_date=2026-03-{chance.randint(1, DAYS):02d}")
        processes = [begun(home, url) for _ in range(1 + number % 2)]
        time.sleep(chance.uniform(0, 0.4))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            out, _ = process.communicate(timeout=60)
            finished, killed = finished + (b"done" in out), killed + (b"done" not in out)
        whole(objects)
    assert killed >= ROUNDS // 2, (killed, finished)
    both = [begun(home, url) for _ in range(2)]
    assert all(b"done" in process.communicate(timeout=120)[0] for process in both)
    assert worlds.named_there(worlds.content_of(objects)) == worlds.named_files(home)
    assert verify(objects, home).whole
    restore(objects, Home(tmp_path / "back"))
    assert worlds.named_files(Home(tmp_path / "back")) == worlds.named_files(home)
