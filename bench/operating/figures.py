"""What operating costs: an idle daemon, the way from a landed file to a page, a backfill."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import yaml

from bench.operating.house import House, wait_for
from exp_pipeline.simulate.landing import write_landing
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan
from exp_pipeline_tests.defs import small_world as small

START_UP, LOOKED_AT = 60.0, 180.0
# A page that has not come by then does not come.
LONGEST_WAIT = 420.0


@dataclass(frozen=True, slots=True)
class Idle:
    """An installation with nothing to do: processor seconds a minute and memory of all its processes."""

    experiments: int
    cpu_seconds_a_minute: float
    resident_mb: float


@dataclass(frozen=True, slots=True)
class Paged:
    """Seconds from the moment a file lay in the landing folder to the page, by what was planted."""

    learners: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Backfill:
    """A range of days in one run against single days, in seconds of wall clock."""

    days: int
    events: int
    range_seconds: float
    one_day_seconds: float

    @property
    def ratio(self) -> float:
        """The range against as many times one day."""
        return self.range_seconds / (self.days * self.one_day_seconds)


def idle(folder: Path, *, experiments: int = 50) -> Idle:
    """What does the daemon cost while nothing lands?"""
    home = small.make_home(folder)
    pattern = yaml.safe_load((home / "catalog" / "experiments" / "class-pacing.yaml").read_text())
    for number in range(experiments - len(small.EXPERIMENTS)):
        name = f"experiment-{number:02d}"
        text = yaml.safe_dump({**pattern, "name": name}, sort_keys=False)
        (home / "catalog" / "experiments" / f"{name}.yaml").write_text(text)
    house = House(folder)
    house.prepare()
    # Planning runs of new briefs are work, not idling.
    house.command("dagster", "sensor", "stop", "changed_briefs", "-w", "workspace.yaml", check=False)
    house.start()
    try:
        wait_for("code server", lambda: len(house.processes()) >= 2, 60.0)
        time.sleep(START_UP)
        before = {one.pid: one.cpu_seconds for one in house.processes()}
        time.sleep(LOOKED_AT)
        after = house.processes()
    finally:
        house.stop()
    used = sum(one.cpu_seconds - before.get(one.pid, 0.0) for one in after)
    return Idle(experiments, used * 60.0 / LOOKED_AT, sum(one.resident_mb for one in after))


def paged(folder: Path, *, learners: int = 600) -> Paged:
    """How long from a landed file to the page, for a planted guardrail breach and a planted mismatch?

    The days before the experiment are there; its first days land at once, with the installation running.
    """
    plan = small.plan(learners=learners)
    first, *rest = plan.experiments
    slow = tuple(
        arm.model_copy(update={"latency_multiplier": 1.8}) if arm.name == "ladder-fast" else arm
        for arm in first.arms
    )
    plan = plan.model_copy(update={"experiments": (first.model_copy(update={"arms": slow}), *rest)})
    home = small.make_home(folder, drawn=plan)
    shares = [{"name": arm.name, "share": share} for arm, share in zip(slow, (0.6, 0.2, 0.2), strict=True)]
    small.rewrite_brief(home, "hint-ladder", arms=shares)
    aside = folder / "to-land"
    aside.mkdir()
    for day in sorted((home / "landing").iterdir()):
        if day.name >= f"received_date={small.START}":
            shutil.move(day, aside / day.name)
    house = House(folder)
    house.prepare()
    house.command("exp", "run", "--from", str(small.FIRST), "--to", str(small.START - timedelta(days=1)))
    house.command("dagster", "sensor", "start", "landing", "-w", "workspace.yaml")
    house.command("dagster", "sensor", "stop", "changed_briefs", "-w", "workspace.yaml", check=False)
    house.start()
    try:
        wait_for("code server", lambda: len(house.processes()) >= 2, 60.0)
        time.sleep(20.0)
        for day in sorted(aside.iterdir())[:4]:
            # Copied, so that the files are as new as they would be.
            shutil.copytree(day, home / "landing" / day.name, copy_function=shutil.copy)
        landed = time.monotonic()
        seconds: dict[str, float] = {}

        def both() -> bool:
            for rule in _pages(home):
                seconds.setdefault(rule, time.monotonic() - landed)
            return {"srm", "guardrail"} <= seconds.keys()

        wait_for("both pages", both, LONGEST_WAIT)
    finally:
        house.stop()
    return Paged(learners, {rule: seconds[rule] for rule in ("srm", "guardrail")})


def backfill(folder: Path, *, days: int = 90, learners: int = 2000) -> Backfill:
    """Is a range of days cheaper in one run than day by day?"""
    home = small.make_home(folder)
    shutil.rmtree(home / "landing")
    start = date(2026, 1, 5)
    arms = (ArmTruth(name="control", share=0.5), ArmTruth(name="paced", share=0.5))
    end = start + timedelta(days=days)
    pacing = SimulatedExperiment(
        name="class-pacing", unit="class", start=start, end=end, arms=arms, surface="lesson_plan"
    )
    plan = SimulationPlan(
        name="backfill", seed=9, start=start, days=days, schools=10, classes_per_school=10, learners=learners,
        experiments=(pacing,), faults=Faults(retry_share=0.005, late_share=0.005),
    )  # fmt: skip
    small.rewrite_brief(home, "class-pacing", start=start, end=end)
    (home / "catalog" / "experiments" / "hint-ladder.yaml").unlink()
    write_landing(plan, home / "landing")
    house = House(folder)
    house.prepare()
    last = end - timedelta(days=1)
    began = time.monotonic()
    house.command("exp", "run", "--from", str(start), "--to", str(last), seconds=3600.0)
    whole = time.monotonic() - began
    single = []
    for number in (days // 3, days // 2, 2 * days // 3):
        day = str(start + timedelta(days=number))
        began = time.monotonic()
        house.command("exp", "run", "--from", day, "--to", day, seconds=600.0)
        single.append(time.monotonic() - began)
    manifests = (home / "lake" / "events").glob("*/manifest.json")
    events = sum(file["rows"] for manifest in manifests for file in json.loads(manifest.read_text())["files"])
    return Backfill(days, events, whole, sorted(single)[1])


def _pages(home: Path) -> list[str]:
    path = home / "state" / "notifications.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [line["rule"] for line in lines if line["severity"] == "page"]
