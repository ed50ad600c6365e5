"""A failed blocking check stops what lies below it, for damage that is really on disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import (
    ALL_DAYS,
    environment_of,
    failed_checks,
    failures,
    instance_in,
    materialized,
    run_job,
)

# Dagster's own: it asks itself for the run by a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
DAMAGED_DAY = "2026-03-06"
LOST_ARM = "ladder-fast"


@dataclass
class Story:
    """What happened, in order: a row lost after landing, landing again, then each experiment."""

    home: Path
    instance: dg.DagsterInstance
    runs: dict[str, dg.ExecuteInProcessResult] = field(default_factory=dict)


def lose_assignments(landing: Path, arm: str) -> int:
    """Take every assignment to an arm out of the landing files, as a logger that fails in that arm does."""
    lost = 0
    for path in sorted(landing.glob("*/*.ndjson.gz")):
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        kept = [line for line in lines if not (b'"experiment_assigned"' in line and arm.encode() in line)]
        lost += len(lines) - len(kept)
        path.write_bytes(gzip.compress(b"".join(kept), mtime=0))
    return lost


def lose_a_row(folder: Path) -> None:
    """Rewrite one Parquet file of a partition with a row less, under its old name."""
    path = max(folder.glob("part-*.parquet"), key=lambda one: one.stat().st_size)
    frame = pl.read_parquet(path)
    frame.head(frame.height - 1).write_parquet(path)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("damaged")
    # Enough learners for the test that may be looked at every day to be sure within a week.
    home = small.make_home(root, drawn=small.plan(learners=192))
    assert lose_assignments(home / "landing", LOST_ARM) > 10
    with environment_of(home), instance_in(root / "dagster") as instance:
        told = Story(home, instance)
        around = (small.START.isoformat(), DAMAGED_DAY)
        told.runs["landed"] = run_job(instance, "daily_facts", days=around, only=["landed_events"])
        lose_a_row(home / "lake" / "landed" / f"received_date={DAMAGED_DAY}")
        below = ["events", "quarantine", "exclusions", "learner_days", "sessions", "assignments", "exposures"]
        told.runs["row lost"] = run_job(instance, "daily_facts", days=around, only=below)
        told.runs["landed again"] = run_job(instance, "daily_facts", days=ALL_DAYS)
        for name in small.EXPERIMENTS:
            told.runs[name] = run_job(instance, "experiment_readout", partition=name)
        yield told


def test_a_row_lost_on_disk_stops_the_day(story: Story) -> None:
    assert story.runs["landed"].success
    run = story.runs["row lost"]
    assert not run.success
    assert failed_checks(run) == {"conservation"}
    assert materialized(run) == {"events", "quarantine", "exclusions"}
    (check,) = [one for one in run.get_asset_check_evaluations() if one.check_name == "conservation"]
    assert DAMAGED_DAY in str(check.metadata["broken"].value)


def test_landing_again_heals_it(story: Story) -> None:
    run = story.runs["landed again"]
    assert failures(run) == []
    assert run.success
    assert "unit_days" in materialized(run)


def test_a_lost_arm_is_seen_on_its_day_and_stops_nothing_there(story: Story) -> None:
    assert "sample_ratio" in failed_checks(story.runs["landed again"])


def test_a_lost_arm_stops_the_effects_of_its_experiment(story: Story) -> None:
    run = story.runs["hint-ladder"]
    assert not run.success
    assert "srm" in failed_checks(run)
    assert {line.partition(":")[0] for line in failures(run)} == {"check_integrity"}
    made = materialized(run)
    assert {"mad", "integrity", "decision", "memo"} <= made
    assert made.isdisjoint({"estimates", "segments", "novelty", "robustness"})
    effects = story.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("estimates"), asset_partitions=["hint-ladder"]), limit=1
    )
    assert effects.records == []


def test_the_memo_of_a_stopped_experiment_investigates_and_shows_no_effect(story: Story) -> None:
    facts = json.loads((story.home / "readouts" / "hint-ladder.json").read_text())
    assert facts["decision"]["outcome"] == "investigate"
    (folder,) = (story.home / "readouts" / "experiment=hint-ladder").glob("snapshot=*")
    readout = json.loads((folder / "readout.json").read_text())
    assert readout["blinded"]
    assert {row["role"] for row in readout["estimates"]} <= {"guardrail"}
    for part in ("segments", "cumulative", "novelty", "robustness", "impact"):
        assert readout[part] == [], part
    page = (story.home / "readouts" / "hint-ladder.html").read_text()
    assert "Investigate" in page
    assert not (folder / "estimates.parquet").exists()


def test_the_other_experiment_gets_its_effects(story: Story) -> None:
    run = story.runs["class-pacing"]
    assert failures(run) == []
    assert {"estimates", "memo"} <= materialized(run)
