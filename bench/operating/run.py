"""`make bench-operating`: the figures of operating, measured here and now, as a table to commit."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from bench.operating import together  # noqa: E402
from bench.operating.alarms import NOTHING, PLANTED, Alarms, alarms  # noqa: E402
from bench.operating.figures import backfill, idle, paged  # noqa: E402
from bench.operating.house import postgres, postgres_programs  # noqa: E402
from bench.operating.killing import Outcome, under_fire, undisturbed  # noqa: E402
from bench.run import machine  # noqa: E402

RESULT = ROOT / "bench" / "results" / "operating.md"


def main() -> None:
    """Measure everything and write the page."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kills", type=int, default=20, help="kills on each database (default 20)")
    kills = asked.parse_args().kills
    work = Path(tempfile.mkdtemp(prefix="exp-operating-"))
    work.chmod(0o755)
    try:
        lines = [*_alarms(), *_idle(work), *_paged(work), *_backfill(work), *_kills(work, kills)]
        lines += together.section(work, kills)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    page = ["# What operating costs, and what it survives", "", _machine(), "", *lines]
    RESULT.write_text("\n".join(page) + "\n")
    print("\n".join(page))


def _machine() -> str:
    facts = machine(0, 0) | {"dagster": version("dagster")}
    words = (f"{name} {facts[name]}" for name in ("python", "dagster", "duckdb", "polars", "commit"))
    return (
        f"{facts['date']}, {facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, "
        f"{facts['system']}; {', '.join(words)}. Written by `make bench-operating`."
    )


def _alarms() -> list[str]:
    found = [alarms(NOTHING, months=200, seed=20261122)]
    found += [alarms(truth, months=50, seed=20261123 + place) for place, truth in enumerate(PLANTED)]
    return [
        "## False alarms and late ones",
        "",
        "Simulated experiment months of about 1,700 units, judged at the end of each of 28 days by the "
        "functions of the daily run: sample ratio (0.001, valid at every look) and three guardrails with "
        "kill rules (each 0.01: a share, a skewed mean, a 95th percentile).",
        "",
        "| truth | months | mismatch paged | median day | kill rule paged | median day |",
        "|---|--:|--:|--:|--:|--:|",
        *(_alarm_row(one) for one in found),
        "",
    ]


def _alarm_row(one: Alarms) -> str:
    def told(count: int, day: float | None) -> str:
        return f"{count} ({100 * count / one.months:.1f} %) | {'' if day is None else f'{day:g}'}"

    kills, mismatches = told(one.kills, one.days_to_kill), told(one.mismatches, one.days_to_mismatch)
    return f"| {one.truth.name} | {one.months} | {mismatches} | {kills} |"


def _idle(work: Path) -> list[str]:
    found = idle(work / "idle")
    return [
        "## Idle",
        "",
        f"Daemon and code server with {found.experiments} experiments and nothing to do, all sensors on that "
        f"are on by default: **{found.cpu_seconds_a_minute:.2f} CPU-s a minute, {found.resident_mb:,.0f} "
        "MB**.",
        "",
    ]


def _paged(work: Path) -> list[str]:
    found = paged(work / "paged")
    said = ", ".join(f"{rule} {seconds:.0f} s" for rule, seconds in found.seconds.items())
    return [
        "## From a landed file to a page",
        "",
        f"Four days of {found.learners} learners land at once, with a planted mismatch of shares and a "
        f"planted breach of waiting time: **{said}** to the page. Half a minute of it is the wait for files "
        "that are still on their way, up to half a minute the sensor's interval.",
        "",
    ]


def _backfill(work: Path) -> list[str]:
    found = backfill(work / "backfill")
    return [
        "## Backfill",
        "",
        f"{found.days} days ({found.events:,} events) in one run: {found.range_seconds:.0f} s; one day alone "
        f"with its process: {found.one_day_seconds:.1f} s. The range costs **{found.ratio:.2f}** of "
        f"{found.days} single days.",
        "",
    ]


def _kills(work: Path, kills: int) -> list[str]:
    calm = undisturbed(work / "calm")
    outcomes = [under_fire(work / "fire", lambda: calm, kills=kills, most_seconds=3600.0)]
    if postgres_programs() is not None:
        with postgres(work / "server") as address:
            outcomes.append(
                under_fire(work / "fire-2", lambda: calm, kills=kills, database=address, most_seconds=3600.0)
            )
    return [
        "## Kills",
        "",
        "Ten days land while daemon, code server and run workers are killed (SIGKILL) at random; then the "
        "tables are compared byte for byte with those of an undisturbed run.",
        "",
        "| database | kills | daemon | code server | run worker | files compared | that differ | messages "
        "| doubled | lost | incidents doubled or lost |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(_row(one) for one in outcomes),
    ]


def _row(one: Outcome) -> str:
    kills = one.kills
    cells = (
        one.database, sum(kills.values()), kills["daemon"], kills["code server"], kills["run worker"],
        one.files, one.files_that_differ, one.messages, one.messages_doubled, one.messages_lost,
        one.incidents_doubled,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
