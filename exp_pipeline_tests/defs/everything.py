"""The small world with a third experiment that lost assignments, and everything run in it once.

Who asks gets a copy. The third experiment lacks the log of one arm on one platform; only its readout minds.
"""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from exp_pipeline.simulate.plan import ArmTruth
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import (
    environment_of,
    failures,
    instance_in,
    materialized,
    run_everything,
)
from exp_pipeline_tests.shared_worlds import shared_folder

BROKEN, LOST_ARM, LOST_PLATFORM = "hint-tone", "warm", "chromebook"


@dataclass(frozen=True)
class RunOnce:
    """A copy of the data folder and of Dagster's history after the first runs, and what these said."""

    home: Path
    history: Path
    succeeded: list[bool]
    failures: list[list[str]]
    materialized: set[str]
    digests: dict[str, str]


def run_once(factory: pytest.TempPathFactory, root: Path) -> RunOnce:
    """That world, in folders of the caller's own below `root`."""
    shared = shared_folder(factory, "everything-run-once", _make)
    for name in ("data", "dagster"):
        shutil.copytree(shared / name, root / name)
    told = json.loads((shared / "told.json").read_text())
    return RunOnce(
        home=root / "data",
        history=root / "dagster",
        succeeded=told["succeeded"],
        failures=told["failures"],
        materialized=set(told["materialized"]),
        digests=told["digests"],
    )


def _make(root: Path) -> None:
    home = make_home(root)
    with environment_of(home), instance_in(root / "dagster") as instance:
        results = run_everything(instance)
    told = {
        "succeeded": [result.success for result in results],
        "failures": [failures(result) for result in results],
        "materialized": sorted(set().union(*(materialized(result) for result in results))),
        "digests": small.digests(home),
    }
    (root / "told.json").write_text(json.dumps(told))


def make_home(root: Path) -> Path:
    """The data folder, with what has landed and nothing made of it."""
    plan = small.plan(learners=120)
    arms = (ArmTruth(name="control", share=0.5), ArmTruth(name=LOST_ARM, share=0.5))
    third = plan.experiments[0].model_copy(update={"name": BROKEN, "arms": arms})
    drawn = plan.model_copy(update={"experiments": (*plan.experiments, third)})
    home = small.make_home(root, drawn=drawn)
    briefs = home / "catalog" / "experiments"
    text = (briefs / "hint-ladder.yaml").read_text().replace("name: hint-ladder", f"name: {BROKEN}", 1)
    (briefs / f"{BROKEN}.yaml").write_text(text)
    told = [{"name": arm.name, "share": arm.share, "description": arm.name} for arm in arms]
    small.rewrite_brief(home, BROKEN, title="Hints in a warmer tone", arms=told)
    assert lose_assignments(home / "landing") > 10
    return home


def lose_assignments(landing: Path) -> int:
    """Take out of the landing files what one platform's logger should have said of one arm."""
    words = [b'"experiment_assigned"', *(f'"{one}"'.encode() for one in (BROKEN, LOST_ARM, LOST_PLATFORM))]
    lost = 0
    for path in sorted(landing.glob("*/*.ndjson.gz")):
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        kept = [line for line in lines if not all(word in line for word in words)]
        lost += len(lines) - len(kept)
        path.write_bytes(gzip.compress(b"".join(kept), mtime=0))
    return lost
