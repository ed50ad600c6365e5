"""The sensor that gives every brief its partition."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from exp_pipeline_tests.defs import small_world as small


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "data"
    folder = home / "catalog" / "experiments"
    folder.mkdir(parents=True)
    monkeypatch.setenv("EXP_HOME", str(home))
    return folder


def tick(instance: dg.DagsterInstance) -> list[str]:
    """One tick as the daemon does it: evaluated, then carried out; returns the names asked for."""
    from exp_pipeline.definitions import defs
    from exp_pipeline.defs.automation import briefs

    with dg.build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), sensor_name="briefs"
    ) as context:
        data = briefs.evaluate_tick(context)
    asked: list[str] = []
    for request in data.dynamic_partitions_requests or ():
        assert isinstance(request, dg.AddDynamicPartitionsRequest)
        assert request.partitions_def_name == "experiment"
        instance.add_dynamic_partitions("experiment", list(request.partition_keys))
        asked += request.partition_keys
    assert data.run_requests == []
    return asked


def test_briefs_get_their_partition_once(tmp_path: Path, catalog: Path) -> None:
    for name in small.EXPERIMENTS:
        (catalog / f"{name}.yaml").write_text((small.CATALOG / "experiments" / f"{name}.yaml").read_text())
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert tick(instance) == list(small.EXPERIMENTS)
        assert tick(instance) == []
        (catalog / "late-comer.yml").write_text("name: late-comer\n")
        assert tick(instance) == ["late-comer"]
        (catalog / "late-comer.yml").unlink()
        assert tick(instance) == []
        assert sorted(instance.get_dynamic_partitions("experiment")) == [*small.EXPERIMENTS, "late-comer"]


def test_a_file_that_is_no_experiment_becomes_no_partition(tmp_path: Path, catalog: Path) -> None:
    for stem in (
        "a,b",
        "one|two",
        "Caps",
        "two words",
        "..",
        ".hidden",
        "-dash",
        "x" * 64,
        "dotted.name",
        "ümlaut",
    ):
        (catalog / f"{stem}.yaml").write_text("name: whatever\n")
    (catalog / "folder.yaml").mkdir()
    (catalog / "notes.txt").write_text("no brief\n")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert tick(instance) == []
        assert instance.get_dynamic_partitions("experiment") == []


def test_no_catalog_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXP_HOME", str(tmp_path / "nowhere"))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert tick(instance) == []


def test_the_daily_schedule_asks_for_one_run_over_the_days_that_late_events_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from datetime import UTC, datetime

    from exp_pipeline.defs.automation import RANGE_END, RANGE_START, every_day

    monkeypatch.setenv("EXP_HOME", str(Path(__file__).parents[2] / "data"))
    moment = datetime(2026, 3, 20, 2, 30, tzinfo=UTC)
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        data = every_day.evaluate_tick(context)
    (request,) = data.run_requests or []
    assert request.run_key == "daily-2026-03-19"
    assert request.tags[RANGE_START] == "2026-03-16"
    assert request.tags[RANGE_END] == "2026-03-19"
