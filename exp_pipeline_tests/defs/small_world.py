"""A data folder of its own for a test: the shipped catalog with nearer dates, and ten days of 96 learners."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from exp_pipeline.simulate.landing import write_landing
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "data" / "catalog"
KEY = "not-a-secret-only-for-tests"
FIRST, LAST = date(2026, 3, 2), date(2026, 3, 11)
START, END = date(2026, 3, 5), date(2026, 3, 12)
EXPERIMENTS = ("class-pacing", "hint-ladder")
# What the pipeline writes that must not depend on when or how often it ran.
LASTING = ("lake", "marts/mad", "readouts")


def plan(*, learners: int = 96, seed: int = 5) -> SimulationPlan:
    """Both shipped experiments on few learners; the faults that ingest must settle are in it."""
    ladder = SimulatedExperiment(
        name="hint-ladder",
        start=START,
        end=END,
        arms=(
            ArmTruth(name="control", share=0.34, prompt_version="tutor-7"),
            ArmTruth(name="ladder", share=0.33, prompt_version="tutor-8-ladder", mastery_log_odds=1.0),
            ArmTruth(name="ladder-fast", share=0.33, prompt_version="tutor-8-ladder-fast"),
        ),
    )
    pacing = SimulatedExperiment(
        name="class-pacing",
        unit="class",
        start=START,
        end=END,
        arms=(ArmTruth(name="control", share=0.5), ArmTruth(name="paced", share=0.5)),
        surface="lesson_plan",
    )
    return SimulationPlan(
        name="small",
        seed=seed,
        start=FIRST,
        days=(LAST - FIRST).days + 1,
        schools=4,
        classes_per_school=4,
        learners=learners,
        staff_accounts=1,
        test_accounts=1,
        sessions_per_learner_day=0.6,
        experiments=(ladder, pacing),
        faults=Faults(retry_share=0.01, late_share=0.01, too_late=1, not_json=1, contract_breaks=2),
    )


def make_home(root: Path, *, drawn: SimulationPlan | None = None) -> Path:
    """A data folder with catalog and landing under `root`; returns it."""
    home = root / "data"
    shutil.copytree(CATALOG, home / "catalog")
    for name in EXPERIMENTS:
        # A week leaves days after the split only if that is moved.
        rewrite_brief(home, name, start=START, end=END, novelty={"split_days": 3})
    write_landing(drawn or plan(), home / "landing")
    return home


def rewrite_brief(home: Path, name: str, **changes: object) -> None:
    """Put other values into a brief's YAML."""
    path = home / "catalog" / "experiments" / f"{name}.yaml"
    content = _with_words(yaml.safe_load(path.read_text()))
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))


def _with_words(content: Any) -> Any:
    """What YAML 1.1 read, with the key `on` (a review's day) as the word that it is, and not as "true"."""
    if isinstance(content, dict):
        return {"on" if key is True else key: _with_words(value) for key, value in content.items()}
    return [_with_words(one) for one in content] if isinstance(content, list) else content


def digests(home: Path, folders: Sequence[str] = LASTING) -> dict[str, str]:
    """Digest of every file under some folders of a data folder, by path."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((home / folder).rglob("*"))
        if path.is_file()
    }
