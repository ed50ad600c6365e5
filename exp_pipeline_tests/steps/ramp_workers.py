"""What a daemon's process does in the tests of ramps that are killed: one step after another, as told."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating import ramps
from exp_pipeline.steps.operating.flags import publish
from exp_pipeline_tests.analysis.builders import END, START
from exp_pipeline_tests.steps.ramp_worlds import STAGES, bench_over, moment, ramped

STEPS = 40
BRIEFS = (
    ramped(),
    ramped("hints", ramp=(STAGES[1], STAGES[3]), hash_scheme="growthbook"),
)


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


def daemon(root: str, line: Connection) -> None:
    """Do the steps that the other end names, and answer with each when it is done."""
    with bench_over(Path(root), BRIEFS) as bench:
        line.send("ready")
        while (step := line.recv()) is not None:
            do_step(bench, step)
            line.send(step)


assert (END - START).days * 4 > STEPS
