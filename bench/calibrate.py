"""Do the methods keep their promises? Size, coverage by tail and power of each, and of known faults.

Run from the project folder:

    .venv/bin/python bench/calibrate.py [--share 1.0] [--processes 2] [--only words] [--seed n]
        [--programmes]

The seed is fixed and each case has its own, so the numbers change only when code, libraries or the grid do.
Exits with 1 where a method of ours fails on its stated domain, a method known to be wrong passes, or a
programme of known truth ships wrongly more often than planned.
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
os.environ.setdefault("POLARS_MAX_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.calibration.cases import Row  # noqa: E402
from bench.calibration.everything import all_cases, batches  # noqa: E402
from bench.calibration.page import page  # noqa: E402
from bench.calibration.programme_report import (  # noqa: E402
    programme_faults,
    programme_line,
    programmes_as_json,
    programmes_from_json,
    programmes_section,
)
from bench.calibration.programmes import RUNS, ProgrammeRow, programmes, run_programme  # noqa: E402
from bench.calibration.report import as_json, circumstances, faults, from_json, line, table  # noqa: E402
from bench.calibration.running import SEED, run  # noqa: E402

NUMBERS = ROOT / "bench" / "results" / "calibration.json"
PROGRAMMES = ROOT / "bench" / "results" / "programmes.json"
FEWEST_RUNS = 2


def _run(places: list[int], share: float, seed: int) -> list[tuple[int, Row, float]]:
    cases = all_cases()
    found = []
    for place in places:
        started = time.process_time()
        row = run(cases[place], share, seed)
        found.append((place, row, time.process_time() - started))
    return found


def _run_programme(place: int, share: float, seed: int) -> ProgrammeRow:
    return run_programme(programmes()[place], max(FEWEST_RUNS, round(RUNS * share)), seed)


def main() -> None:
    """Run all, write tables, numbers and page (unless only some were asked for), and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the planned runs; below 1 writes nothing"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=SEED, help=f"any but {SEED} writes nothing")
    parser.add_argument(
        "--only",
        default="",
        help="cases whose method or world hold this, programmes whose name does; writes nothing",
    )
    parser.add_argument("--programmes", action="store_true", help="run the programmes only")
    parser.add_argument(
        "--words", action="store_true", help="write table and page anew from the stored numbers; runs nothing"
    )
    asked = parser.parse_args()
    if asked.words:
        _write(_stored(), _stored_programmes())
        return
    groups = [] if asked.programmes else batches(asked.only)
    chosen = [
        place
        for place, one in enumerate(programmes())
        if asked.only.lower() in f"programme {one.name}".lower()
    ]
    rows: dict[int, Row] = {}
    decided: list[ProgrammeRow] = []
    # A forked process would inherit the locks of threads that it does not have.
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_run_programme, place, asked.share, asked.seed) for place in chosen]
        for done in [pool.submit(_run, group, asked.share, asked.seed) for group in groups]:
            for place, row, seconds in done.result():
                rows[place] = row
                print(f"{line(row)}  [{seconds:.1f} s]", flush=True)
        for programme in waiting:
            decided.append(programme.result())
            print(f"{programme_line(decided[-1])}  [{decided[-1].cpu_seconds:.1f} s]", flush=True)
    found = [rows[place] for place in sorted(rows)]
    if asked.share >= 1.0 and not asked.only and asked.seed == SEED:
        about = circumstances()
        _write(_stored() if asked.programmes else (found, about), (decided, about))
    wrong = [*faults(found), *programme_faults(decided)]
    if wrong:
        sys.exit("Out of bounds:\n" + "\n".join(f"  {one}" for one in wrong))


def _stored() -> tuple[list[Row], dict[str, Any]]:
    return from_json(json.loads(NUMBERS.read_text(encoding="utf-8")))


def _stored_programmes() -> tuple[list[ProgrammeRow], dict[str, Any]]:
    return programmes_from_json(json.loads(PROGRAMMES.read_text(encoding="utf-8")))


def _write(
    cases: tuple[list[Row], dict[str, Any]], decided: tuple[list[ProgrammeRow], dict[str, Any]]
) -> None:
    rows, about = cases
    NUMBERS.parent.mkdir(parents=True, exist_ok=True)
    written = {
        NUMBERS.with_suffix(".md"): table(rows, about),
        NUMBERS: json.dumps(as_json(rows, about), indent=1) + "\n",
        PROGRAMMES: json.dumps(programmes_as_json(*decided), indent=1) + "\n",
        ROOT / "docs" / "calibration.md": page(rows, about, programmes_section(*decided)),
    }
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
        print(f"Written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
