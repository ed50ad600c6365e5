"""`make bench-operating`: the figures of operating, measured here and now, as a table to commit."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from bench.operating import together  # noqa: E402
from bench.operating.alarms import NOTHING, PLANTED, Alarms, alarms  # noqa: E402
from bench.operating.figures import backfill, idle, paged  # noqa: E402
from bench.operating.house import postgres, postgres_programs  # noqa: E402
from bench.operating.killing import Outcome, Wanted, summed, under_fire, undisturbed  # noqa: E402
from bench.run import machine  # noqa: E402

RESULT = ROOT / "bench" / "results" / "operating.md"


def main() -> None:
    """Measure the parts that are asked for, and write each into the page as soon as it is there."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kills", type=int, default=20, help="kills on each database (default 20)")
    asked.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    given = asked.parse_args()
    for name in given.parts:
        work = Path(tempfile.mkdtemp(prefix="exp-operating-"))
        work.chmod(0o755)
        try:
            lines = PARTS[name](work, given.kills)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        _keep("\n".join(lines).strip())
    print(RESULT.read_text())


def _keep(section: str) -> None:
    """Put a section into the page, in the order of the parts, with where and when it was measured."""
    known = RESULT.read_text().split("\n## ")[1:] if RESULT.is_file() else []
    found = dict(text.strip().split("\n", 1) for text in known)
    title, body = section.removeprefix("## ").split("\n", 1)
    found[title] = f"{body.rstrip()}\n\n{_machine()}"
    page = ["# What operating costs, and what it survives", "", "Written by `make bench-operating`."]
    for place in sorted(found, key=TITLES.index):
        page += ["", f"## {place}", found[place].rstrip()]
    RESULT.write_text("\n".join(page) + "\n")


def _machine() -> str:
    facts = machine(0, 0) | {"dagster": version("dagster")}
    words = (f"{name} {facts[name]}" for name in ("python", "dagster", "duckdb", "polars", "commit"))
    return (
        f"*{facts['date']}, {facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, "
        f"{facts['system']}; {', '.join(words)}.*"
    )


def _alarms(work: Path, kills: int) -> list[str]:
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


def _idle(work: Path, kills: int) -> list[str]:
    found = idle(work / "idle")
    return [
        "## Idle",
        "",
        f"Daemon and code server with {found.experiments} experiments and nothing to do, all sensors on that "
        f"are on by default but `changed_briefs`, whose plans are work: "
        f"**{found.cpu_seconds_a_minute:.2f} CPU-s a minute, {found.resident_mb:,.0f} "
        "MB**.",
        "",
    ]


def _paged(work: Path, kills: int) -> list[str]:
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


def _backfill(work: Path, kills: int) -> list[str]:
    found = backfill(work / "backfill")
    return [
        "## Backfill",
        "",
        f"{found.days} days ({found.events:,} events) in one run: {found.range_seconds:.0f} s; one day alone "
        f"with its process: {found.one_day_seconds:.1f} s. The range costs **{found.ratio:.2f}** of "
        f"{found.days} single days.",
        "",
    ]


# After so many kills an installation is compared: each failed run is asked for again after a longer pause.
KILLS_A_ROUND = 4
# They mostly wait.
AT_A_TIME = 3


def _kills(work: Path, kills: int) -> list[str]:
    calm = undisturbed(work / "calm")
    outcomes = [_rounds(work / "sqlite", calm, kills, lambda _: nullcontext())]
    if postgres_programs() is not None:
        outcomes.append(_rounds(work / "postgres", calm, kills, lambda folder: postgres(folder / "server")))
    return [
        "## Kills",
        "",
        f"Ten days land while daemon, code server and run workers are killed (SIGKILL) at random, up to "
        f"{KILLS_A_ROUND} times; then the tables are compared byte for byte with those of an undisturbed "
        "run, and messages with incidents. Then the next installation begins. Sensors look every second.",
        "",
        "| database | installations | kills | daemon | code server | run worker | files compared "
        "| that differ | messages | doubled | lost | incidents doubled or lost |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(_row(one) for one in outcomes),
    ]


def _rounds(
    work: Path, calm: Wanted, kills: int, server: Callable[[Path], AbstractContextManager[str | None]]
) -> Outcome:
    """As many installations as the kills need, some at a time, each with a database of its own."""

    def one(place: int) -> Outcome:
        folder = work / str(place)
        folder.mkdir(parents=True)
        with server(folder) as database:
            found = under_fire(
                folder / "house", lambda: calm, kills=min(KILLS_A_ROUND, kills - place * KILLS_A_ROUND),
                luck=place, database=database, brisk=True, most_seconds=1200.0,
            )  # fmt: skip
        print(found, flush=True)
        return found

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return summed(list(pool.map(one, range(-(-kills // KILLS_A_ROUND)))))


def _row(one: Outcome) -> str:
    kills = one.kills
    cells = (
        one.database, one.installations, sum(kills.values()), kills["daemon"], kills["code server"],
        kills["run worker"], one.files, one.files_that_differ, one.messages, one.messages_doubled,
        one.messages_lost, one.incidents_doubled,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


PARTS: dict[str, Callable[[Path, int], list[str]]] = {
    "alarms": _alarms,
    "idle": _idle,
    "paged": _paged,
    "backfill": _backfill,
    "kills": _kills,
    "together": together.section,
}
TITLES = (
    "False alarms and late ones", "Idle", "From a landed file to a page", "Backfill", "Kills", "Many at once",
)  # fmt: skip

if __name__ == "__main__":
    main()
