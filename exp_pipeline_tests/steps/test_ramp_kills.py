"""Two daemons tick at once and one is killed at every step: the log is that of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

from exp_pipeline.model.ramps import RampEntry, folded
from exp_pipeline.steps.operating.flags import file_version, newest, publish, text_of, versions
from exp_pipeline.steps.operating.ramp_log import all_entries, entries_of
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline_tests.analysis.builders import START
from exp_pipeline_tests.steps.ramp_workers import BRIEFS, STEPS, daemon, do_step, time_of
from exp_pipeline_tests.steps.ramp_worlds import DAY, bench_over, judge_days, make_ready

# The first kill comes at this step: before it both processes only show that they agree.
FIRST_KILL = 2
LEAST_KILLS = 30
SHORT = 14


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    with bench_over(root, BRIEFS) as bench:
        judge_days(bench, BRIEFS, START - DAY, START + (STEPS // 4) * DAY)
        for brief in BRIEFS:
            make_ready(bench, brief, START - DAY)
    return root


class Daemon:
    """A process that does steps when told, started anew after each kill."""

    def __init__(self, context: ForkServerContext, root: Path) -> None:
        self.context, self.root = context, root
        self.process: ForkServerProcess
        self.line: Connection
        self.start()

    def start(self) -> None:
        self.line, other = self.context.Pipe()
        self.process = self.context.Process(target=daemon, args=(str(self.root), other), daemon=True)
        self.process.start()
        other.close()
        assert self.line.poll(30), "the process did not start"
        assert self.line.recv() == "ready"

    def tell(self, step: int) -> None:
        self.line.send(step)

    def done(self, step: int) -> None:
        assert self.line.poll(30), f"step {step} was not done in time"
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


def log_of(root: Path) -> StateLog:
    with bench_over(root, BRIEFS) as bench:
        return state_log(bench.home)


def transitions(root: Path) -> dict[str, tuple[RampEntry, ...]]:
    return {brief.name: entries_of(log_of(root), brief) for brief in BRIEFS}


@pytest.fixture(scope="module")
def undisturbed(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(world, root)
    with bench_over(root, BRIEFS) as bench:
        for step in range(STEPS):
            do_step(bench, step)
    return root


def test_kills_and_two_at_once_change_nothing(world: Path, undisturbed: Path, tmp_path: Path) -> None:
    root = tmp_path / "home"
    shutil.copytree(world, root)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["exp_pipeline_tests.steps.ramp_workers"])
    chance = random.Random(20260322)
    kills, seconds = 0, 0.0
    daemons = [Daemon(context, root), Daemon(context, root)]
    try:
        for step in range(STEPS):
            began = time.monotonic()
            for one in daemons:
                one.tell(step)
            if step >= FIRST_KILL:
                # Anywhere in a step, as long as one takes where nobody is killed.
                time.sleep(chance.uniform(0.0, seconds))
                dead = daemons[step % 2]
                dead.kill()
                kills += 1
                daemons[1 - step % 2].done(step)
                dead.start()
                dead.tell(step)
                dead.done(step)
            else:
                for one in daemons:
                    one.done(step)
                seconds = max(seconds, time.monotonic() - began)
    finally:
        for one in daemons:
            one.end()
    assert kills >= LEAST_KILLS
    expected = transitions(undisturbed)
    assert sum(len(entries) for entries in expected.values()) >= 15
    assert transitions(root) == expected
    compare_flags(root, undisturbed)


def test_killed_between_a_transition_and_its_flags_the_next_tick_publishes(
    world: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """One process, killed as soon as the log grows: what it wrote is there, and its flags are not."""
    root = tmp_path / "home"
    shutil.copytree(world, root)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["exp_pipeline_tests.steps.ramp_workers"])
    log = log_of(root)
    behind = 0
    one = Daemon(context, root)
    try:
        for step in range(SHORT):
            before = len(all_entries(log))
            one.tell(step)
            while not one.line.poll(0.0002) and len(all_entries(log)) == before:
                pass
            if len(all_entries(log)) == before:
                one.done(step)
                continue
            one.kill()
            last = newest(log)
            behind += last is None or last.published_at != time_of(step)
            one.start()
            one.tell(step)
            one.done(step)
    finally:
        one.end()
    assert behind >= 3, "no kill fell between a transition and its flags: the test proves nothing"
    expected = {
        name: tuple(entry for entry in entries if entry.at < time_of(SHORT))
        for name, entries in transitions(undisturbed).items()
    }
    assert transitions(root) == expected
    compare_flags(root)


def compare_flags(root: Path, undisturbed: Path | None = None) -> None:
    """Versions rise one by one, each transition is told of once, and the files are those of the log."""
    log = log_of(root)
    found = versions(log)
    assert [one.version for one in found] == list(range(1, len(found) + 1))
    assert [one.content_digest for one in found[1:]] != [one.content_digest for one in found[:-1]]
    told = [(change["experiment"], change["sequence"]) for one in found for change in one.changes]
    assert sorted(told) == sorted((entry.experiment, entry.sequence) for _, entry in all_entries(log))
    assert len(set(told)) == len(told)
    last = newest(log)
    assert last is not None
    if undisturbed is not None:
        wanted = newest(log_of(undisturbed))
        assert wanted is not None
        assert last.content_digest == wanted.content_digest
    with bench_over(root, BRIEFS) as bench:
        assert file_version(bench.home) == last.version
        assert (bench.home.flags / "flags.flagd.json").read_text() == text_of(last.flagd)
        assert (bench.home.flags / "flags.growthbook.json").read_text() == text_of(last.growthbook)
        assert not [
            path for path in bench.home.flags.iterdir() if path.suffix == ".json" and path.name[0] == "."
        ]
        assert not publish(bench, time_of(STEPS)).made
    for brief in BRIEFS:
        assert folded(entries_of(log, brief)).sequence == len(entries_of(log, brief))
