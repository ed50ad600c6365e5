"""The daily look at drift and the Monday review ask for a run only where there is something to look at."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from exp_pipeline.defs.after import drift_daily, holdout_on_mondays, weekly_on_mondays
from exp_pipeline_tests.defs.worlds import environment_of

MONDAY = datetime(2026, 3, 16, 6, tzinfo=UTC)


def made(root: Path, table: str, day: date) -> None:
    folder = root / "lake" / table / f"event_date={day}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def skipped(asked: object) -> str:
    assert isinstance(asked, dg.SkipReason)
    return str(asked.skip_message)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "catalog").mkdir(parents=True)
    return root


def test_drift_waits_for_the_first_day(home: Path) -> None:
    with environment_of(home), dg.instance_for_test() as instance:
        tick = dg.build_schedule_context(instance, MONDAY)
        assert isinstance(drift_daily(tick), dg.SkipReason)
        made(home, "turns", date(2026, 3, 15))
        asked = drift_daily(tick)
        assert isinstance(asked, dg.RunRequest)
        assert asked.run_key == "drift-2026-03-16"


def test_a_week_is_reviewed_once_it_is_whole(home: Path) -> None:
    with environment_of(home), dg.instance_for_test() as instance:
        tick = dg.build_schedule_context(instance, MONDAY)
        assert "No day" in skipped(weekly_on_mondays(tick))
        made(home, "learner_days", date(2026, 3, 11))
        assert "No week is whole" in skipped(weekly_on_mondays(tick))
        made(home, "learner_days", date(2026, 3, 15))
        asked = weekly_on_mondays(tick)
        assert isinstance(asked, dg.RunRequest)
        assert asked.run_key == "week-2026-03-16-2026-W11"


def test_a_holdout_is_measured_where_there_is_one_and_a_week_is_whole(home: Path) -> None:
    with environment_of(home), dg.instance_for_test() as instance:
        tick = dg.build_schedule_context(instance, MONDAY)
        layers = home / "catalog" / "layers"
        layers.mkdir()
        (layers / "hints.yaml").write_text("name: hints\n# not a kind: holdout\n")
        assert "no holdout" in skipped(holdout_on_mondays(tick))
        (layers / "held.yaml").write_text("name: held\nkind: holdout\nshare: 0.02\n")
        assert "No day" in skipped(holdout_on_mondays(tick))
        made(home, "learner_days", date(2026, 3, 11))
        assert "No week is whole" in skipped(holdout_on_mondays(tick))
        made(home, "learner_days", date(2026, 3, 15))
        asked = holdout_on_mondays(tick)
        assert isinstance(asked, dg.RunRequest)
        assert asked.run_key == "holdout-2026-03-16-2026-W11"
