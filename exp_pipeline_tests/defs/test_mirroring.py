"""The mirror's sensor asks for a push when one is due, once; a push that fails is told and tried again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from exp_pipeline.defs import mirroring
from exp_pipeline.steps.operating.mirror import mirror_from
from exp_pipeline.store.home import Home
from exp_pipeline_tests.steps import mirror_worlds as worlds


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    found = worlds.filled(tmp_path / "data")
    monkeypatch.setenv("EXP_HOME", str(found.root))
    monkeypatch.delenv("EXP_STATE_URL", raising=False)
    monkeypatch.setenv("EXP_LAKE_MIRROR", f"file://{tmp_path / 'mirror'}")
    return found


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.instance_for_test(temp_dir=str(folder)) as found:
        yield found


def tick(instance: dg.DagsterInstance) -> Any:
    with dg.build_sensor_context(instance=instance, sensor_name="mirror_behind") as context:
        return mirroring.mirror_behind.evaluate_tick(context)


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return mirroring.mirror.execute_in_process(instance=instance, raise_on_error=False)


def test_a_push_is_asked_for_when_something_changed(home: Home, instance: dg.DagsterInstance) -> None:
    (asked,) = tick(instance).run_requests
    assert tick(instance).run_requests[0].run_key == asked.run_key
    done = run(instance)
    assert done.success
    objects = mirror_from({"EXP_LAKE_MIRROR": f"file://{home.root.parent / 'mirror'}"})
    assert objects is not None
    assert worlds.named_there(worlds.content_of(objects)) == worlds.named_files(home)
    assert tick(instance).skip_message == "The mirror holds everything."
    worlds.commit(home, "events", 2, b"newer")
    (again,) = tick(instance).run_requests
    assert again.run_key != asked.run_key


def test_without_a_mirror_nothing_is_asked_for(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXP_LAKE_MIRROR", "")
    assert tick(instance).skip_message == "EXP_LAKE_MIRROR names no mirror."
    assert not run(instance).success


def test_a_failed_push_waits_longer_each_time(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.root.parent / "mirror").mkdir()
    (home.root.parent / "mirror" / "stranger").write_text("no mirror")
    for failures, minutes in ((1, 1), (2, 2)):
        failed = run(instance)
        assert not failed.success
        assert "it is no mirror" in str(failed.failure_data_for_node("push_mirror"))
        told = tick(instance).skip_message
        again = datetime.now(UTC) + timedelta(minutes=minutes)
        allowed = {f"{one:%H:%M}" for one in (again, again - timedelta(seconds=30))}
        assert told.startswith(f"{failures} pushes failed")
        assert any(one in told for one in allowed)
    moment = datetime.now(UTC) + timedelta(minutes=3)
    monkeypatch.setattr(mirroring, "datetime", SimpleNamespace(now=lambda zone: moment))
    assert tick(instance).run_requests
