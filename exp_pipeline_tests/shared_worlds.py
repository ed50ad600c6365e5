"""Dear worlds that all processes of a test run share: made by whoever comes first, to be copied or read."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills once in a run of the tests, however many processes ask for it.

    `make` gets a folder that is not there yet; where it fails, who asks next tries. Others wait meanwhile.
    """
    base = factory.getbasetemp()
    # A process of xdist has a folder of its own below that of the whole run.
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder
