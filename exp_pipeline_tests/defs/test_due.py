"""Readouts come due at looks and at the end, once each, also after days without a daemon."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exp_pipeline.defs.due import due_day
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import environment_of

END = date(2026, 3, 12)
LOOKS = [date(2026, 3, 8), date(2026, 3, 10)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    root = tmp_path / "data"
    shutil.copytree(small.CATALOG, root / "catalog")
    for name in small.EXPERIMENTS:
        small.rewrite_brief(root, name, start=small.START, end=END, novelty={"split_days": 3})
    small.rewrite_brief(root, "hint-ladder", looks=LOOKS)
    with environment_of(root):
        yield Home(root)


def made(home: Home, day: date) -> None:
    folder = home.lake / "unit_days" / f"event_date={day}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("newest", "read_until", "due"),
    [
        (date(2026, 3, 6), None, None),
        (date(2026, 3, 7), None, date(2026, 3, 8)),
        (date(2026, 3, 7), date(2026, 3, 6), date(2026, 3, 8)),
        (date(2026, 3, 7), date(2026, 3, 7), None),
        (date(2026, 3, 8), date(2026, 3, 8), None),
        (date(2026, 3, 10), date(2026, 3, 7), date(2026, 3, 10)),
        (date(2026, 3, 20), date(2026, 3, 7), END),
        (date(2026, 3, 20), date(2026, 3, 11), None),
    ],
)
def test_a_day_is_due_when_data_reach_it_and_no_readout_has(
    home: Home, newest: date, read_until: date | None, due: date | None
) -> None:
    brief = open_catalog(home.catalog).briefs["hint-ladder"]
    assert due_day(brief, newest, read_until) == due


def tick(instance: dg.DagsterInstance, cursor: str | None) -> Any:
    from exp_pipeline.definitions import defs
    from exp_pipeline.defs.due import due_readouts

    with dg.build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), sensor_name="due_readouts", cursor=cursor
    ) as context:
        return due_readouts.evaluate_tick(context)


def test_each_is_asked_for_once(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "dagster")) as instance:
        assert "No day of units" in tick(instance, None).skip_message
        instance.add_dynamic_partitions("experiment", list(small.EXPERIMENTS))
        made(home, LOOKS[0] - timedelta(days=1))
        first = tick(instance, None)
        assert [one.run_key for one in first.run_requests] == ["due-hint-ladder-v1-2026-03-08"]
        assert first.run_requests[0].tags["dagster/partition"] == "hint-ladder"
        assert "No new day" in tick(instance, first.cursor).skip_message
        made(home, END)
        records = {"hint-ladder": {"as_of": "2026-03-07"}, "class-pacing": {"as_of": "2026-03-11"}}
        monkeypatch.setattr(Marts, "current", lambda self, name: f"snapshot-of-{name}")
        monkeypatch.setattr(Marts, "record", lambda self, name, snapshot: records[name])
        last = tick(instance, first.cursor)
        assert [one.run_key for one in last.run_requests] == [f"due-hint-ladder-v1-{END}"]
        assert json.loads(last.cursor)[0] == END.isoformat()


def test_a_lasting_effect_is_looked_at_again_once_for_each_day(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exp_pipeline.definitions import defs
    from exp_pipeline.defs.due import due_durability

    def look(instance: dg.DagsterInstance, cursor: str | None) -> Any:
        with dg.build_sensor_context(
            instance=instance,
            repository_def=defs.get_repository_def(),
            sensor_name="due_durability",
            cursor=cursor,
        ) as context:
            return due_durability.evaluate_tick(context)

    def learners_until(day: date) -> None:
        folder = home.lake / "learner_days" / f"event_date={day}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    (tmp_path / "dagster").mkdir()
    monkeypatch.setattr(Marts, "current", lambda self, name: "s" if name == "hint-ladder" else None)
    with dg.instance_for_test(temp_dir=str(tmp_path / "dagster")) as instance:
        assert "No day of learners" in look(instance, None).skip_message
        instance.add_dynamic_partitions("experiment", list(small.EXPERIMENTS))
        learners_until(END + timedelta(days=12))
        early = look(instance, None)
        assert "No effect" in early.skip_message
        learners_until(END + timedelta(days=13))
        first = look(instance, early.cursor)
        assert [one.run_key for one in first.run_requests] == [
            f"durability-hint-ladder-v1-{END + timedelta(days=14)}-s"
        ]
        assert first.run_requests[0].tags["dagster/partition"] == "hint-ladder"
        assert "No new day" in look(instance, first.cursor).skip_message
