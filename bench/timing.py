"""What one process costs: CPU seconds, wall seconds, peak memory; and a stage run in one, in bounds."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Result = dict[str, object]


@dataclass(slots=True)
class Lap:
    """Seconds of one piece of work, filled in at its end."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


def cpu_seconds() -> float:
    """User and system time of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """Most memory that this process has held, in MB (a million bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def memory_gib() -> float:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


@contextmanager
def lap() -> Iterator[Lap]:
    """Time a block."""
    result, begun, cpu = Lap(), time.monotonic(), cpu_seconds()
    yield result
    result.seconds, result.cpu_seconds = time.monotonic() - begun, cpu_seconds() - cpu


def median_lap(work: Callable[[], object], runs: int) -> Lap:
    """Run something several times: the median of wall and of CPU seconds, each on its own."""
    laps = []
    for _ in range(runs):
        with lap() as one:
            work()
        laps.append(one)
    return Lap(
        statistics.median(one.seconds for one in laps), statistics.median(one.cpu_seconds for one in laps)
    )


def bound_memory(share: float) -> None:
    """Let this process fail, rather than the machine swap or kill, above a share of the memory."""
    limit = int(memory_gib() * share * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def run_apart(root: Path, arguments: Sequence[str], stage: str, limit_seconds: float) -> Result:
    """Run a stage in a process of its own. What fails, or takes longer, is told under `failed`."""
    before = os.getloadavg()[0]
    command = [sys.executable, str(root / "bench" / "run.py"), "--stage", stage, *arguments]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=root, timeout=limit_seconds
        )
    except subprocess.TimeoutExpired:
        return {"stage": stage, "failed": f"stopped after {limit_seconds:,.0f} s", "load_before": before}
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = f"killed by signal {-done.returncode}" if done.returncode < 0 else (lines or ["failed"])[-1]
        seconds = time.monotonic() - begun
        failed = f"{told[:300]} (after {seconds:,.0f} s)"
        return {"stage": stage, "failed": failed, "load_before": before}
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return {"stage": stage, **result, "load_before": before}
