"""Many at once: new days, old days, readouts and an analyst on one data folder, while writers are killed.

What an analyst reads must be whole at every moment, and in the end everything must be as if one process had
done it all undisturbed: the lake byte for byte, datasets and readouts but for which snapshot came before.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bench.operating.house import ROOT, House
from bench.operating.outcomes import differences, what_came_out
from exp_pipeline_tests.defs import small_world as small

# Six days, two of which land while the others are made again; late events reach three days back.
DAYS = 6
NEW, LAST = small.FIRST + timedelta(days=4), small.FIRST + timedelta(days=DAYS - 1)
OLD = (small.FIRST - timedelta(days=3), NEW - timedelta(days=1))
Words = tuple[str, ...]
_EXPERIMENTS = tuple(word for name in small.EXPERIMENTS for word in ("--experiment", name))


def _days(first: date, last: date) -> Words:
    return ("run", "--json", "--from", str(first), "--to", str(last))


def _readouts() -> Words:
    return ("run", "--json", *_EXPERIMENTS)


# What goes on side by side; the commands of a line follow one another while there is something to kill.
LINES: dict[str, tuple[Words, ...]] = {
    "new days": (_days(NEW, LAST),),
    "backfill": (_days(*OLD),),
    "readout": (_readouts(), ("readout", "class-pacing", "--json")),
}


_VERDICT = re.compile(r"^check \S+ of \S+ failed$|DagsterAssetCheckFailedError")


@dataclass
class Together:
    """What came of it. failed: processes that nobody killed and that ended otherwise than well."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    reads: int = 0
    reads_failed: int = 0
    told: list[str] = field(default_factory=list)
    snapshots: int = 0
    files: int = 0
    differ: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return not (self.failed or self.reads_failed or self.differ)


@dataclass(frozen=True, slots=True)
class Calm:
    """The undisturbed run: the folder before anything lands anew, what came out, and in how many seconds."""

    base: Path
    seen: Mapping[str, str]
    seconds: float


@dataclass
class Zygote:
    """A process that forks commands which are ready at once (`zygote.py`)."""

    process: subprocess.Popen[bytes]
    ended: dict[int, int] = field(default_factory=dict)
    _waiting: bytes = b""

    def ready(self) -> None:
        """Wait until everything is loaded."""
        self._lines(180.0)

    def start(self, words: Words, out: Path) -> int:
        """Start a command; the id of its process."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"words": words, "out": str(out)}).encode() + b"\n")
        self.process.stdin.flush()
        while True:
            for told in self._lines(60.0):
                if "started" in told:
                    return int(told["started"])

    def code(self, pid: int) -> int | None:
        """How a command ended; None while it goes on."""
        for _ in self._lines(0.0):
            pass
        return self.ended.get(pid)

    def kill(self, pid: int) -> int:
        """Kill a command outright; how it ended, which may have been by itself."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while (code := self.code(pid)) is None:
            time.sleep(0.005)
        return code

    def _lines(self, seconds: float) -> list[dict[str, Any]]:
        stdout = self.process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], seconds)[0]:
            if seconds:
                raise TimeoutError(f"no answer after {seconds:.0f} s")
            return []
        read = os.read(stdout.fileno(), 65_536)
        if not read:
            raise EOFError("the process that starts commands has ended")
        *lines, self._waiting = (self._waiting + read).split(b"\n")
        told = [json.loads(line) for line in lines]
        self.ended |= {one["ended"]: one["code"] for one in told if "ended" in one}
        return told


@contextmanager
def zygote(house: House) -> Iterator[Zygote]:
    """The commands of an installation, ready at once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.operating.zygote"],
        cwd=ROOT, env=house.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        found = Zygote(process)
        found.ready()
        yield found
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def undisturbed(folder: Path, *, seed: int = 5) -> Calm:
    """Old days and their readouts, kept as the beginning; then everything lands and is made in one go."""
    drawn = small.plan(seed=seed, learners=60).model_copy(update={"days": DAYS})
    home = small.make_home(folder, drawn=drawn)
    (folder / "to-land").mkdir()
    for day in sorted((home / "landing").iterdir()):
        if day.name >= f"received_date={NEW}":
            shutil.move(day, folder / "to-land" / day.name)
    house = House(folder)
    house.prepare()
    with zygote(house) as source:
        _well(source, (*_days(*OLD), *_EXPERIMENTS), folder / "old.log")
        for part in ("data", "dagster", "to-land"):
            shutil.copytree(folder / part, folder / "base" / part)
        _land(folder)
        began = time.monotonic()
        _well(source, (*_days(OLD[0], LAST), *_EXPERIMENTS), folder / "all.log")
        seconds = time.monotonic() - began
    return Calm(folder / "base", what_came_out(house.data), seconds)


def _land(folder: Path) -> None:
    for day in sorted((folder / "to-land").iterdir()):
        shutil.copytree(day, folder / "data" / "landing" / day.name)


def _well(source: Zygote, words: Words, out: Path, seconds: float = 600.0) -> None:
    """Run a command to its end. Raises RuntimeError with what it said where it does not end well."""
    pid, end = source.start(words, out), time.monotonic() + seconds
    while (code := source.code(pid)) is None and time.monotonic() < end:
        time.sleep(0.05)
    trouble = f"not done after {seconds:.0f} s" if code is None else _trouble(code, out)
    if trouble:
        raise RuntimeError(f"{' '.join(words)}: {trouble}")


def _trouble(code: int, out: Path) -> str:
    """What went wrong with a command that nobody killed; nothing where data were only judged badly."""
    said = out.read_text() if out.is_file() else ""
    if code == 0:
        return ""
    try:
        runs = json.loads(said[said.index("{") :])["runs"]
    except (ValueError, KeyError, TypeError):
        return f"ended with {code}: {said[-1500:]}"
    # Of days that are only partly there, checks may say so.
    failures = [one for run in runs for one in run["failures"] if not _VERDICT.search(one)]
    judged = any(run["failures"] for run in runs)
    return "; ".join(failures) or ("" if judged else f"ended with {code}: {said[-1500:]}")


def side_by_side(
    folder: Path, calm: Calm, *, kills: int, seed: int = 5, most_seconds: float = 900.0
) -> Together:
    """Everything at once under fire; then once undisturbed, and compared."""
    shutil.copytree(calm.base, folder)
    _land(folder)
    house, chance, began = House(folder), random.Random(seed), time.monotonic()
    outcome = Together()
    stop = folder / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-m", "bench.operating.analyst", str(house.data), str(stop)],
        cwd=ROOT, env=house.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with zygote(house) as source:
            _fire(source, folder, calm, outcome, chance, kills=kills, end=began + most_seconds)
            # Reads go on while the last run puts everything right.
            _well(source, (*_days(OLD[0], LAST), *_EXPERIMENTS), folder / "last.log")
    finally:
        stop.touch()
        try:
            said = json.loads(reader.communicate(timeout=60)[0])
        finally:
            reader.kill()
    outcome.reads, outcome.reads_failed = sum(said["reads"].values()), said["failed"]
    outcome.told = said["told"]
    outcome.files = len(calm.seen)
    outcome.differ, outcome.snapshots = differences(house.data, calm.seen)
    outcome.seconds = time.monotonic() - began
    return outcome


def _fire(
    source: Zygote,
    folder: Path,
    calm: Calm,
    outcome: Together,
    chance: random.Random,
    *,
    kills: int,
    end: float,
) -> None:
    """Keep every line at work; each process may be killed anywhere in what it does, most of them are."""
    number, running, place = 0, dict[str, tuple[int, Path, Words, float, float]](), dict.fromkeys(LINES, 0)
    # How long a command takes where nobody kills it.
    lasts = {words: calm.seconds for commands in LINES.values() for words in commands}
    while sum(outcome.kills.values()) < kills:
        if time.monotonic() > end:
            raise TimeoutError(f"only {sum(outcome.kills.values())} of {kills} kills in time")
        for line, commands in LINES.items():
            if line not in running:
                number += 1
                out = folder / f"{number:04d}.log"
                words = commands[place[line] % len(commands)]
                place[line] += 1
                now = time.monotonic()
                until = now + chance.uniform(0.0, 1.2 * lasts[words])
                running[line] = (source.start(words, out), out, words, now, until)
            pid, out, words, since, until = running[line]
            code = source.code(pid)
            if code is None and time.monotonic() > until:
                code = source.kill(pid)
                outcome.kills[line] += code == -signal.SIGKILL
            if code is None:
                continue
            del running[line]
            if code != -signal.SIGKILL:
                outcome.finished[line] += 1
                lasts[words] = time.monotonic() - since
                if trouble := _trouble(code, out):
                    outcome.failed.append(f"{line}: {trouble}")
        time.sleep(0.02)
    for line, (pid, out, *_) in running.items():
        while (code := source.code(pid)) is None and time.monotonic() < end:
            time.sleep(0.05)
        if trouble := "not done in time" if code is None else _trouble(code, out):
            outcome.failed.append(f"{line}: {trouble}")


def section(work: Path, kills: int) -> list[str]:
    """The page's section: the scenario, and its figures."""
    calm = undisturbed(work / "together")
    one = side_by_side(work / "together-fire", calm, kills=kills, most_seconds=3600.0)
    cells = (
        sum(one.kills.values()), *(one.kills[line] for line in LINES), len(one.failed), one.reads,
        one.reads_failed, one.snapshots, one.files, len(one.differ),
    )  # fmt: skip
    columns = (
        "kills",
        *LINES,
        "failed unkilled",
        "reads",
        "that failed",
        "snapshots",
        "files",
        "that differ",
    )
    return [
        "",
        "## Many at once",
        "",
        f"Two days land and are made, {(OLD[1] - OLD[0]).days + 1} older days are made again, both "
        "experiments are read out again and again, all at once, and most of these processes are killed "
        "(SIGKILL) anywhere in their work. Meanwhile an analyst reads partitions, tables, the warehouse and "
        "readouts; each answer must be that of a whole state. Then everything runs once undisturbed, and "
        "lake, datasets, readouts and log are compared with those of a run that nobody disturbed.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'--:|' * len(columns)}",
        f"| {' | '.join(map(str, cells))} |",
    ]
