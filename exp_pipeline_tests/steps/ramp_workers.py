"""Ramps that are killed: what a daemon's process does, one step after another as told, and who kills it."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.ramps import RampEntry, folded
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating import ramps
from exp_pipeline.steps.operating.flags import file_version, newest, publish, text_of, versions
from exp_pipeline.steps.operating.ramp_log import all_entries, entries_of
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline_tests.analysis.builders import END, START
from exp_pipeline_tests.steps.ramp_worlds import (
    DAY,
    STAGES,
    bench_over,
    judge_days,
    make_ready,
    moment,
    ramped,
)

STEPS, QUICK, SHORT = 40, 16, 14
# The first kill comes at this step: before it both processes only show that they agree.
FIRST_KILL = 2
BRIEFS = (
    ramped(),
    ramped("hints", ramp=(STAGES[1], STAGES[3]), hash_scheme="growthbook"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A home, and the database of its state log where that is not a file below it."""

    root: Path
    url: str | None = None

    @property
    def log(self) -> StateLog:
        return state_log(Home(self.root, self.url))

    @contextmanager
    def bench(self) -> Iterator[Workbench]:
        with bench_over(self.root, BRIEFS, state_url=self.url) as bench:
            yield bench

    def transitions(self) -> dict[str, tuple[RampEntry, ...]]:
        return {brief.name: entries_of(self.log, brief) for brief in BRIEFS}


def judged(root: Path) -> Path:
    """Make a home whose days are all judged well; nothing stands in its log."""
    with bench_over(root, BRIEFS) as bench:
        judge_days(bench, BRIEFS, START - DAY, START + (STEPS // 4) * DAY)
    return root


def placed(world: Path, root: Path, url: str | None = None) -> Place:
    """A copy of that home whose briefs are ready."""
    shutil.copytree(world, root)
    place = Place(root, url)
    with place.bench() as bench:
        for brief in BRIEFS:
            make_ready(bench, brief, START - DAY)
    return place


def undisturbed(world: Path, root: Path, steps: int) -> Place:
    """The same steps by one process that nobody kills."""
    place = placed(world, root)
    with place.bench() as bench:
        for step in range(steps):
            do_step(bench, step)
    return place


def time_of(step: int) -> datetime:
    """Steps are six hours apart, from midnight of the start on."""
    return moment(0, 0) + timedelta(hours=6 * step)


def do_step(bench: Workbench, step: int) -> None:
    """What happens at a step: the tick, the flags, and on some steps people who pause or resume."""
    now = time_of(step)
    ramps.tick(bench, now)
    act = {0: ramps.resume, 3: ramps.pause}.get(step % 5)
    if act is not None and step > 4:
        # Done before the last crash or by the other process, or not possible at this step.
        with suppress(ExpError):
            act(bench, BRIEFS[step % 2].name, by="us", reason=f"step {step}", now=now)
    publish(bench, now)


def daemon(root: str, url: str | None, line: Connection) -> None:
    """Do the steps that the other end names, and answer with each when it is done."""
    with Place(Path(root), url).bench() as bench:
        line.send("ready")
        while (step := line.recv()) is not None:
            do_step(bench, step)
            line.send(step)


class Daemon:
    """A process that does steps when told, started anew after each kill."""

    def __init__(self, context: ForkServerContext, place: Place) -> None:
        self.context, self.place = context, place
        self.process: ForkServerProcess
        self.line: Connection
        self.begin()
        self.wait()

    def begin(self) -> None:
        self.line, other = self.context.Pipe()
        words = (str(self.place.root), self.place.url, other)
        self.process = self.context.Process(target=daemon, args=words, daemon=True)
        self.process.start()
        other.close()

    def wait(self) -> None:
        assert self.line.poll(60), "the process did not start"
        assert self.line.recv() == "ready"

    def tell(self, step: int) -> None:
        self.line.send(step)

    def done(self, step: int) -> None:
        assert self.line.poll(60), f"step {step} was not done in time"
        assert self.line.recv() == step

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(10)
        self.line.close()

    def end(self) -> None:
        if self.process.is_alive():
            self.line.send(None)
        self.process.join(10)


def _daemons(place: Place, count: int) -> list[Daemon]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["exp_pipeline_tests.steps.ramp_workers", "sqlalchemy", "psycopg2"])
    return [Daemon(context, place) for _ in range(count)]


def two_under_fire(place: Place, steps: int, *, seed: int = 20260322) -> int:
    """Two daemons do every step at once, and one of them is killed somewhere in it; how many kills."""
    chance = random.Random(seed)
    kills, seconds = 0, 0.0
    daemons = _daemons(place, 2)
    try:
        for step in range(steps):
            began = time.monotonic()
            for one in daemons:
                one.tell(step)
            if step >= FIRST_KILL:
                # Anywhere in a step, as long as one takes where nobody is killed.
                time.sleep(chance.uniform(0.0, seconds))
                dead = daemons[step % 2]
                dead.kill()
                kills += 1
                dead.begin()
                daemons[1 - step % 2].done(step)
                dead.wait()
                dead.tell(step)
                dead.done(step)
            else:
                for one in daemons:
                    one.done(step)
                seconds = max(seconds, time.monotonic() - began)
    finally:
        for one in daemons:
            one.end()
    return kills


def killed_before_flags(place: Place, steps: int) -> int:
    """One daemon, killed as soon as the log grows; how often a transition was written and its flags not."""
    log = place.log
    behind = 0
    (one,) = _daemons(place, 1)
    try:
        for step in range(steps):
            before = len(all_entries(log))
            one.tell(step)
            end = time.monotonic() + 60
            while not one.line.poll(0.001) and len(all_entries(log)) == before:
                assert time.monotonic() < end, f"step {step} was not done in time"
            if len(all_entries(log)) == before:
                one.done(step)
                continue
            one.kill()
            last = newest(log)
            behind += last is None or last.published_at != time_of(step)
            one.begin()
            one.wait()
            one.tell(step)
            one.done(step)
    finally:
        one.end()
    return behind


def before(found: dict[str, tuple[RampEntry, ...]], step: int) -> dict[str, tuple[RampEntry, ...]]:
    """The transitions that came before a step."""
    return {
        name: tuple(entry for entry in entries if entry.at < time_of(step)) for name, entries in found.items()
    }


def check_flags(place: Place, same: Place | None = None) -> None:
    """Versions rise one by one, each transition is told of once, and the files are those of the log."""
    log = place.log
    found = versions(log)
    assert [one.version for one in found] == list(range(1, len(found) + 1))
    assert [one.content_digest for one in found[1:]] != [one.content_digest for one in found[:-1]]
    told = [(change["experiment"], change["sequence"]) for one in found for change in one.changes]
    assert sorted(told) == sorted((entry.experiment, entry.sequence) for _, entry in all_entries(log))
    assert len(set(told)) == len(told)
    last = newest(log)
    assert last is not None
    if same is not None:
        wanted = newest(same.log)
        assert wanted is not None
        assert last.content_digest == wanted.content_digest
    with place.bench() as bench:
        assert file_version(bench.home) == last.version
        assert (bench.home.flags / "flags.flagd.json").read_text() == text_of(last.flagd)
        assert (bench.home.flags / "flags.growthbook.json").read_text() == text_of(last.growthbook)
        assert not half_written(list(bench.home.flags.iterdir()))
        assert not publish(bench, time_of(STEPS)).made
    for brief in BRIEFS:
        assert folded(entries_of(log, brief)).sequence == len(entries_of(log, brief))


def half_written(paths: Sequence[Path]) -> list[Path]:
    """Files that a reader of `*.json` would take for flags and that are none."""
    return [path for path in paths if path.suffix == ".json" and path.name[0] == "."]


assert (END - START).days * 4 > STEPS
