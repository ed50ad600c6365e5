"""The smallest graph runs for real, twice: same bytes, told metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.everything import RunOnce, run_once
from exp_pipeline_tests.defs.worlds import environment_of, failures, instance_in, materialized, run_everything
from exp_pipeline_tests.test_definitions import ASSETS

# Dagster's own: it asks itself for the run by a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
# These come by the clock or from a sensor, not from what a run of days or experiments asks for.
BY_THEMSELVES = {"incidents", "ramp_state", "flags", "drift", "durability", "holdout", "weekly_review"}
# Documents and plans that live in Dagster alone: there is no file to weigh.
# The small world has no roster.
NO_FILE = {"brief", "readiness", "power_plan", "roster", "roster_quarantine"}


@dataclass(frozen=True)
class Twice:
    home: Path
    instance: dg.DagsterInstance
    first: RunOnce
    second: list[dg.ExecuteInProcessResult]
    after_first: dict[str, str]
    after_second: dict[str, str]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    ran = run_once(tmp_path_factory, tmp_path_factory.mktemp("world"))
    with environment_of(ran.home), instance_in(ran.history) as instance:
        second = run_everything(instance)
        yield Twice(ran.home, instance, ran, second, ran.digests, small.digests(ran.home))


def test_every_run_succeeds_and_makes_every_asset(twice: Twice) -> None:
    assert twice.first.failures == [failures(result) for result in twice.second] == [[]] * 4
    assert twice.first.succeeded == [result.success for result in twice.second] == [True] * 4
    made = set().union(*(materialized(result) for result in twice.second))
    assert twice.first.materialized == made == set(ASSETS) - BY_THEMSELVES


def test_ten_days_are_one_run(twice: Twice) -> None:
    assert twice.instance.get_runs_count() == 8
    days = (small.LAST - small.FIRST).days + 1
    for name, (_, partition) in ASSETS.items():
        if partition == "day":
            counts = twice.instance.get_materialized_partitions(dg.AssetKey(name))
            assert len(counts) == days, name


def test_a_second_run_changes_no_byte(twice: Twice) -> None:
    assert len(twice.after_first) > 200
    assert {name.split("/")[0] for name in twice.after_first} == {"lake", "marts", "readouts"}
    changed = {
        name
        for name in {**twice.after_first, **twice.after_second}
        if twice.after_first.get(name) != twice.after_second.get(name)
    }
    assert changed == set()


@pytest.mark.parametrize("name", sorted(set(ASSETS) - BY_THEMSELVES))
def test_every_materialization_tells_rows_bytes_and_seconds(twice: Twice, name: str) -> None:
    records = twice.instance.fetch_materializations(dg.AssetKey(name), limit=100).records
    assert records
    for record in records:
        materialization = record.asset_materialization
        assert materialization is not None
        told = {key: value.value for key, value in materialization.metadata.items()}
        rows, seconds = told["dagster/row_count"], told["seconds"]
        assert isinstance(rows, int)
        assert rows >= 0
        assert isinstance(seconds, float)
        assert seconds >= 0
        if name not in NO_FILE:
            assert isinstance(told["bytes"], int)
            assert told["bytes"] > 0


def test_rows_told_are_the_rows_there(twice: Twice) -> None:
    import polars as pl

    day = small.LAST.isoformat()
    for name in ("events", "sessions", "turns", "assignments", "unit_days", "data_quality"):
        record = twice.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=[day]), limit=1
        ).records[0]
        assert record.asset_materialization is not None
        told = record.asset_materialization.metadata["dagster/row_count"].value
        files = sorted((twice.home / "lake" / name / f"event_date={day}").glob("part-*.parquet"))
        assert told == sum(pl.read_parquet(file).height for file in files), name


def test_every_experiment_has_a_memo_with_a_decision(twice: Twice) -> None:
    for name in small.EXPERIMENTS:
        facts = json.loads((twice.home / "readouts" / f"{name}.json").read_text())
        assert facts["experiment"] == name
        page = (twice.home / "readouts" / f"{name}.html").read_text()
        assert "<svg" in page
        words = (twice.home / "readouts" / f"{name}.md").read_text().casefold()
        assert facts["decision"]["outcome"].replace("_", " ") in words
        record = twice.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey("decision"), asset_partitions=[name]), limit=1
        ).records[0]
        assert record.asset_materialization is not None
        outcome = record.asset_materialization.metadata["outcome"].value
        assert outcome == facts["decision"]["outcome"].replace("_", " ")
