"""How fast is the chain? CPU seconds, seconds and peak memory of each stage, as multiples of one scan.

Run from the project folder: `make bench`, `make bench EVENTS=100000000`, or
`.venv/bin/python bench/run.py [--events N] [--quick] [--only STAGE ...] [--keep]`.

Ten million events are simulated and landed once, in a folder outside the repository, and kept for later
runs. Larger numbers are made from them on the fly, as copies that are other people, and removed after. Each
stage is measured in a process of its own. Pages, JSON and a summary over sizes go to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import report  # noqa: E402
from bench.timing import Result, memory_gib, run_apart  # noqa: E402

RESULTS = ROOT / "bench" / "results"
PEERS = ("duckdb", "polars", "pandas")
PEER_SECONDS = 600.0
# Landed rows, events and all that follows, with room to spare.
BYTES_PER_EVENT = 250
CHAIN = ("events", "limit", *report.UNIT_DAYS_STAGES)
# Turns take memory with the number of events, and have no target: they are measured at base size only.
BASE_STAGES = ("prepare", "landed", *CHAIN, "enrollments", "turns", "one_day", "verdicts", "ndjson")
LARGE_STAGES = ("prepare", *CHAIN, "enrollments", "one_day", "verdicts")
PEER_STAGES = tuple(f"{kind}:{name}" for name in PEERS for kind in ("peer", "compare"))


def machine(events: int, days: int) -> dict[str, object]:
    """What the numbers were measured on."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "cpu": named[0] if named else platform.processor(),
        "memory_gib": round(memory_gib(), 1),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("duckdb", "polars", "pandas", "sqlglot")},
        "commit": commit or "unknown",
        "events": events,
        "days": days,
    }


def told(result: Result) -> str:
    """One stage as a line for the terminal."""
    name = f"{result['stage']:16}"
    if "failed" in result:
        return f"{name} {result['failed']}"
    if "sessions_differ" in result:
        return (
            f"{name} {result['sessions_differ']} sessions and {result['unit_days_differ']} unit-days differ"
        )
    return (
        f"{name} {report.number(result, 'seconds'):8.2f} s {report.number(result, 'cpu_seconds'):8.2f} CPU s "
        f"{report.number(result, 'peak_mb'):7,.0f} MB {report.number(result, 'rows'):13,.0f} rows  "
        f"load {report.number(result, 'load_before'):.1f}"
    )


class Runner:
    """Runs stages of one size, each apart, and tells of each."""

    def __init__(self, root: Path, events: int, base: int, days: int, ndjson_rows: int) -> None:
        self.events, self.copies = events, max(1, events // base)
        self.home = root / f"{events}-{days}"
        self.base_home = root / f"{min(events, base)}-{days}"
        self.arguments = [
            *("--events", str(events), "--base", str(base), "--days", str(days)),
            *("--folder", str(root), "--ndjson-rows", str(ndjson_rows)),
        ]

    def run(self, stages: Sequence[str]) -> list[Result]:
        """The stages in order; what cannot go on without a stage that failed is left out."""
        done: list[Result] = []
        for name in stages:
            kind, _, peer = name.partition(":")
            failed = {str(one["stage"]) for one in done if "failed" in one}
            if failed & {"prepare", "landed", "events"} or (kind == "compare" and f"peer:{peer}" in failed):
                continue
            seconds = PEER_SECONDS if kind == "peer" else 900 + self.events * 60e-6
            one = run_apart(ROOT, self.arguments, name, seconds)
            done.append(one)
            print(told(one), flush=True)
            if kind == "compare":
                shutil.rmtree(self.home / "peers" / peer, ignore_errors=True)
        return done


def measure(runner: Runner, stages: Sequence[str], keep: bool) -> list[Result]:
    """Run the stages of a size over a fresh lake; a large one is removed after, unless kept."""
    if runner.copies == 1:
        shutil.rmtree(runner.home / "lake", ignore_errors=True)
    try:
        return runner.run(stages)
    finally:
        if runner.copies > 1 and not keep:
            shutil.rmtree(runner.home, ignore_errors=True)


def check_room(root: Path, events: int) -> None:
    """Stop before a disk fills up."""
    root.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(root).free, events * BYTES_PER_EVENT
    if free < needed:
        raise SystemExit(f"{root} has {free / 1e9:,.1f} GB free, {needed / 1e9:,.1f} GB may be needed")


def make_base(root: Path, base: int, days: int, ndjson_rows: int) -> None:
    """Have the base simulated and landed, for a larger size to be made of."""
    from bench.data import landed, simulated

    home = root / f"{base}-{days}"
    missing = [] if simulated(home) else ["prepare"]
    if missing or not landed(home):
        print(f"Making {base:,} events in {home} (once)", flush=True)
        results = Runner(root, base, base, days, ndjson_rows).run([*missing, "landed"])
        if any("failed" in one for one in results):
            raise SystemExit("the base could not be made")


def main() -> None:
    """Measure every stage and write the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = tuple(dict.fromkeys((*BASE_STAGES, *PEER_STAGES)))
    parser.add_argument("--events", type=int, default=report.BASE_SIZE, help="how many events, about")
    parser.add_argument(
        "--base", type=int, default=report.BASE_SIZE, help="events simulated; more are copies"
    )
    parser.add_argument("--days", type=int, default=28, help="over how many days (28)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, and no page is written")
    parser.add_argument("--only", nargs="+", choices=known, help="these stages over an earlier lake; no page")
    parser.add_argument(
        "--again", nargs="+", choices=known, help="measure these anew into the stored page, which says so"
    )
    parser.add_argument("--keep", action="store_true", help="do not remove a large size after its run")
    parser.add_argument("--pages", action="store_true", help="write the pages again from stored numbers")
    parser.add_argument("--folder", type=Path, help="where the data lies (exp-bench in the temporary folder)")
    parser.add_argument("--ndjson-rows", type=int, default=1_000_000, help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    given = parser.parse_args()
    events, base, rows = given.events, given.base, given.ndjson_rows
    if given.quick:
        events, base, rows = events // 10, base // 10, rows // 10
    if events > base and events % base:
        parser.error(f"--events above {base:,} must be a multiple of it")
    root = given.folder or Path(tempfile.gettempdir()) / "exp-bench"
    if given.stage:
        from bench.stages import Run, stage

        runner = Runner(root, events, base, given.days, rows)
        run = Run(runner.home, given.days, rows)
        print(json.dumps(stage(given.stage, run, runner.base_home, events, runner.copies)))
        return
    runner = Runner(root.resolve(), events, base, given.days, rows)
    if given.pages:
        stored = json.loads(report.stored(RESULTS, events, given.days).read_text(encoding="utf-8"))
        print(report.write(RESULTS, stored["machine"], stored["stages"]))
        return
    check_room(root, events)
    facts = machine(events, given.days)
    if given.again:
        stored = json.loads(report.stored(RESULTS, events, given.days).read_text(encoding="utf-8"))
        later = {"measured": facts["date"], "commit": facts["commit"]}
        fresh = {str(one["stage"]): {**one, **later} for one in runner.run(given.again)}
        results = [fresh.pop(str(one["stage"]), one) for one in stored["stages"]] + list(fresh.values())
        print("\n" + report.write(RESULTS, stored["machine"], results))
        return
    if given.only:
        runner.run(given.only)
        return
    if runner.copies > 1:
        make_base(root.resolve(), base, given.days, rows)
    stages = LARGE_STAGES if runner.copies > 1 else (*BASE_STAGES, *PEER_STAGES)
    results = measure(runner, stages, given.keep)
    if given.quick:
        print("\n" + report.page(facts, results, None))
    else:
        print("\n" + report.write(RESULTS, facts, results))


if __name__ == "__main__":
    main()
