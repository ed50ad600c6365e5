"""How fast are the statistics beside other packages? Results are compared before times are shown.

Run from the project folder: `make bench-statistics`, or
`.venv/bin/python bench/statistics_speed/run.py [--quick] [--only TASK ...] [--pages]`.

The other packages have environments of their own (`make bench-peers`; EXP_BENCH_PEERS names their folder, or
one interpreter that has them all). Without them ours are measured alone. The table and the JSON go to
bench/results/statistics.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.statistics_speed import page  # noqa: E402
from bench.statistics_speed.tasks import TASKS, Side, Task, interpreter  # noqa: E402
from bench.timing import memory_gib  # noqa: E402

RESULTS = ROOT / "bench" / "results"
LIMIT_SECONDS = 240.0
PEERS = {
    "tea-tasting": ("tea-tasting", "polars", "duckdb", "ibis-framework"),
    "gbstats": ("gbstats", "numpy", "scipy"),
    "mozanalysis": ("mozanalysis", "pandas", "statsmodels"),
    "cluster-experiments": ("cluster-experiments", "pandas", "statsmodels"),
}


def spent(argv: Sequence[str], limit_seconds: float) -> dict[str, Any]:
    """One process from start to end: wall and CPU seconds, peak MB; `failed` where it did not end well.

    Nothing heavy may be imported here: a child's peak begins with that of its parent.
    """
    before = os.getloadavg()[0]
    with tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        process = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT, env=_environment()
        )
        timer = threading.Timer(limit_seconds, process.kill)
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    if process.returncode != 0:
        told = (
            f"stopped after {limit_seconds:,.0f} s" if seconds >= limit_seconds else (lines or ["failed"])[-1]
        )
        return {"failed": told[:300], "load_before": before}
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss * unit / 1e6,
        "load_before": before,
    }


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "COLUMNS": "120"}


def measure(task: Task, data: Path, out: Path, rounds: int) -> dict[str, Any]:
    """All sides of a task in turn, round by round; then whether they agree."""
    laps: dict[str, list[dict[str, Any]]] = {side.name: [] for side in task.sides}
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for place, side in enumerate(task.sides):
            target = out / f"{task.name}-{place}.json"
            argv = side.argv(data, target)
            if argv is None:
                missing[side.name] = f"not installed: {side.peer} (make bench-peers)"
            elif not (side.slow and number) and side.name not in missing:
                target.unlink(missing_ok=True)
                lap = spent(argv, LIMIT_SECONDS)
                if "failed" in lap:
                    missing[side.name] = lap["failed"]
                    continue
                if target.is_file():
                    files[side.name] = target
                    lap |= _inner(target)
                laps[side.name].append(lap)
    failed = task.sides[0].rows and task.sides[0].name in missing
    agreed = {} if failed else agreement(task, data, {k: v for k, v in files.items() if k not in missing})
    sides = [_summed_up(side, laps[side.name], missing, agreed) for side in task.sides]
    return {"task": task.name, "title": task.title, "sides": sides}


def _warm(data: Path) -> None:
    """Read the files once, so that the first to be timed does not wait for the disk in place of all."""
    for path in sorted(data.glob("*.*")):
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def _inner(path: Path) -> dict[str, float]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 200))
        tail = file.read().decode(errors="replace")
    if '"inner_seconds"' not in tail:
        return {}
    found: dict[str, float] = json.loads("{" + tail[tail.index('"inner_seconds"') :])
    return found


def agreement(task: Task, data: Path, files: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """What `agree.py`, in a process of its own, finds of the rows that the sides wrote."""
    given = {
        "files": {name: str(path) for name, path in files.items()},
        "peers": {side.name: side.peer for side in task.sides},
    }
    argv = [sys.executable, "-m", "bench.statistics_speed.agree", task.name, str(data), json.dumps(given)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"{task.name}: results could not be compared\n{done.stderr}")
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def _summed_up(
    side: Side, laps: Sequence[dict[str, Any]], missing: Mapping[str, str], agreed: Mapping[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {"side": side.name, "peer": side.peer, "did": side.did}
    if side.name in missing:
        return found | {"failed": missing[side.name]}
    for name in ("seconds", "cpu_seconds", "inner_seconds", "inner_cpu_seconds"):
        values = [lap[name] for lap in laps if name in lap]
        if values:
            found[name] = statistics.median(values)
    found["peak_mb"] = max(lap["peak_mb"] for lap in laps)
    found["fastest_seconds"] = min(lap["seconds"] for lap in laps)
    found["load_before"] = max(lap["load_before"] for lap in laps)
    found["runs"] = len(laps)
    found["checks"] = agreed.get(side.name, [])
    return found


def machine(share: float) -> dict[str, Any]:
    """What the numbers were measured on, and with what."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    ours = ("numpy", "scipy", "polars", "pyarrow", "statsmodels")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "cpu": named[0] if named else platform.processor(),
        "memory_gib": round(memory_gib(), 1),
        "system": platform.system(),
        "commit": commit or "unknown",
        "load": [round(one, 2) for one in os.getloadavg()],
        "share": share,
        "ours": {"python": platform.python_version(), **{name: version(name) for name in ours}},
        "peers": {peer: _versions(peer, names) for peer, names in PEERS.items()},
    }


def _versions(peer: str, names: Sequence[str]) -> dict[str, str]:
    python = interpreter(peer)
    if python is None:
        return {}
    code = (
        "import json, platform, sys; from importlib.metadata import version; "
        "print(json.dumps({'python': platform.python_version(), **{n: version(n) for n in sys.argv[1:]}}))"
    )
    done = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True, check=False)
    found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def main() -> None:
    """Measure every task, compare, then show and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [task.name for task in TASKS]
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows, one run; no page is written"
    )
    parser.add_argument("--only", nargs="+", choices=known, help="these tasks; no page is written")
    parser.add_argument("--pages", action="store_true", help="write the page again from stored numbers")
    parser.add_argument("--folder", type=Path, help="where the data lies (exp-bench in the temporary folder)")
    given = parser.parse_args()
    stored = RESULTS / "statistics.json"
    if given.pages:
        found = json.loads(stored.read_text(encoding="utf-8"))
        words = {(task.name, side.name): side.did for task in TASKS for side in task.sides}
        for task in found["tasks"]:
            for side in task["sides"]:
                side["did"] = words.get((task["task"], side["side"]), side["did"])
        print(page.write(RESULTS, found["machine"], found["tasks"]))
        return
    share = 0.1 if given.quick else 1.0
    root = (given.folder or Path(tempfile.gettempdir()) / "exp-bench").resolve()
    data = root / ("statistics-tenth" if given.quick else "statistics")
    code = "import sys; from pathlib import Path; from bench.statistics_speed.data import make; " \
           "make(Path(sys.argv[1]), float(sys.argv[2]))"  # fmt: skip
    subprocess.run([sys.executable, "-c", code, str(data), str(share)], cwd=ROOT, check=True)
    facts = machine(share)
    out = data / "out"
    out.mkdir(exist_ok=True)
    facts["warmed"] = True
    results = []
    for task in TASKS:
        if given.only and task.name not in given.only:
            continue
        _warm(data)
        results.append(measure(task, data, out, 1 if given.quick else task.rounds))
        print(page.told(results[-1]), flush=True)
        if not (given.quick or given.only):
            page.write(out, facts, results)
    facts["load_after"] = [round(one, 2) for one in os.getloadavg()]
    if given.quick or given.only:
        print("\n" + page.page(facts, results))
    else:
        print("\n" + page.write(RESULTS, facts, results))
    apart = [one["side"] for task in results for one in task["sides"] if not page.agrees(one)]
    if apart:
        raise SystemExit(f"results differ by more than is allowed: {', '.join(apart)}")


if __name__ == "__main__":
    main()
