"""Do the methods keep their promises? Size, coverage by tail and power of each, and of known faults.

Run from the project folder:

    .venv/bin/python bench/calibrate.py [--share 1.0] [--processes 2] [--only words] [--seed n]

The seed is fixed and each case has its own, so the numbers change only when code, libraries or the grid do.
Exits with 1 where a method of ours fails on its stated domain, or a method known to be wrong passes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# One thread a process: sums come out in one order, and two processes do not crowd each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.calibration.cases import Row  # noqa: E402
from bench.calibration.everything import all_cases, batches  # noqa: E402
from bench.calibration.page import page  # noqa: E402
from bench.calibration.report import as_json, circumstances, faults, from_json, line, table  # noqa: E402
from bench.calibration.running import SEED, run  # noqa: E402

NUMBERS = ROOT / "bench" / "results" / "calibration.json"


def _run(places: list[int], share: float, seed: int) -> list[tuple[int, Row, float]]:
    cases = all_cases()
    found = []
    for place in places:
        started = time.process_time()
        row = run(cases[place], share, seed)
        found.append((place, row, time.process_time() - started))
    return found


def main() -> None:
    """Run the cases, write table, numbers and page (unless only some were asked for), and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the planned runs; below 1 writes nothing"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=SEED, help=f"any but {SEED} writes nothing")
    parser.add_argument("--only", default="", help="cases whose method or world hold this; writes nothing")
    parser.add_argument(
        "--words", action="store_true", help="write table and page anew from the stored numbers; runs nothing"
    )
    asked = parser.parse_args()
    if asked.words:
        _write(*from_json(json.loads(NUMBERS.read_text(encoding="utf-8"))))
        return
    groups = batches(asked.only)
    rows: dict[int, Row] = {}
    # A forked process would inherit the locks of threads that it does not have.
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_run, group, asked.share, asked.seed) for group in groups]:
            for place, row, seconds in done.result():
                rows[place] = row
                print(f"{line(row)}  [{seconds:.1f} s]", flush=True)
    found = [rows[place] for place in sorted(rows)]
    if asked.share >= 1.0 and not asked.only and asked.seed == SEED:
        _write(found, circumstances())
    wrong = faults(found)
    if wrong:
        sys.exit("Out of bounds:\n" + "\n".join(f"  {one}" for one in wrong))


def _write(rows: list[Row], about: dict[str, Any]) -> None:
    NUMBERS.parent.mkdir(parents=True, exist_ok=True)
    written = {
        NUMBERS.with_suffix(".md"): table(rows, about),
        NUMBERS: json.dumps(as_json(rows, about), indent=1) + "\n",
        ROOT / "docs" / "calibration.md": page(rows, about),
    }
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
        print(f"Written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
