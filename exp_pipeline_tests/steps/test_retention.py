"""What is past its day goes whole and for good; what an experiment needs, and what speaks, stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exp_pipeline.model.policies import Policies, RetentionPolicy
from exp_pipeline.steps.after import retention
from exp_pipeline.steps.after.retention import keep_to_policy, needed
from exp_pipeline.steps.context import Workbench, event_day
from exp_pipeline.steps.retired import left_alone, retired
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.benches import commit_rows
from exp_pipeline_tests.steps.ramp_worlds import bench_over

DAY = timedelta(days=1)
TODAY = date(2026, 9, 1)
NOW = datetime(2026, 9, 1, 0, 20, tzinfo=UTC)
OLD = TODAY - DAY * 200
LIMITS: dict[Any, int] = {"srm_daily": 60, "exposures": 90}


def policies() -> Policies:
    return Policies(retention=RetentionPolicy(tables=LIMITS))


def fill(bench: Workbench, table: str, day: date) -> None:
    commit_rows(
        bench, table, [{"event_date": day, "experiment": "e", "version": 1, "unit_id": "u", "arm": "a"}]
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with bench_over(tmp_path, [], policies=policies()) as opened:
        yield opened


def days(bench: Workbench, table: str) -> list[str]:
    return list(bench.lake.partitions(table))


def test_nothing_goes_by_default(tmp_path: Path) -> None:
    with bench_over(tmp_path, []) as bench:
        fill(bench, "srm_daily", OLD)
        done = keep_to_policy(bench, NOW)
        assert done.lines == ()
        assert "srm_daily" in done.kept_for_good
        assert days(bench, "srm_daily") == [event_day(OLD)]


def test_days_past_their_limit_go_and_younger_ones_stay(bench: Workbench) -> None:
    edge = TODAY - DAY * 61
    for day in (OLD, edge, edge + DAY):
        fill(bench, "srm_daily", day)
    fill(bench, "unit_days", OLD)
    dry = keep_to_policy(bench, NOW, dry_run=True)
    assert [one.name for one in dry.to_delete()] == [event_day(OLD), event_day(edge)]
    assert len(days(bench, "srm_daily")) == 3
    assert retired(bench.home) == frozenset()

    done = keep_to_policy(bench, NOW)
    assert [one.name for one in done.to_delete()] == [event_day(OLD), event_day(edge)]
    assert days(bench, "srm_daily") == [event_day(edge + DAY)]
    assert days(bench, "unit_days") == [event_day(OLD)]
    assert retired(bench.home) == {("srm_daily", event_day(OLD)), ("srm_daily", event_day(edge))}
    assert keep_to_policy(bench, NOW).to_delete() == ()


def test_readers_keep_their_files_for_a_while_and_then_the_folder_goes(bench: Workbench) -> None:
    fill(bench, "srm_daily", OLD)
    folder = bench.lake.folder("srm_daily", event_day(OLD))
    (held,) = bench.lake.paths([bench.lake.manifest("srm_daily", event_day(OLD))])  # type: ignore[list-item]
    keep_to_policy(bench, NOW)
    assert held.is_file()
    past = time.time() - 7200
    os.utime(held, (past, past))
    keep_to_policy(bench, NOW + DAY)
    assert not folder.exists()


def test_a_killed_run_is_finished_by_the_next(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    for back in range(3):
        fill(bench, "srm_daily", OLD + DAY * back)
    real = type(bench.lake).retire
    calls = []

    def killed(self: Any, table: str, partition: str) -> bool:
        calls.append(partition)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, table, partition)

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.lake), "retire", killed)
        with pytest.raises(KeyboardInterrupt):
            keep_to_policy(bench, NOW)
    assert len(days(bench, "srm_daily")) == 2
    keep_to_policy(bench, NOW)
    assert days(bench, "srm_daily") == []


def test_what_a_running_experiment_needs_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It ended 30 days ago: its lasting effect is still looked at, and nobody decided.
    monkeypatch.setattr(retention, "pre_days", lambda catalog, brief: 28)
    brief = brief_of(start=TODAY - DAY * 200, end=TODAY - DAY * 30)
    with bench_over(tmp_path, [brief], policies=policies()) as bench:
        (window,) = needed(bench, TODAY).values()
        assert (window.first, window.end) == (brief.start - DAY * 28, brief.end + DAY * 56)
        fill(bench, "srm_daily", OLD)
        fill(bench, "srm_daily", OLD - DAY * 29)
        lines = keep_to_policy(bench, NOW).lines
        assert [(one.what, one.name) for one in lines] == [
            ("delete", event_day(OLD - DAY * 29)),
            ("keep", event_day(OLD)),
        ]
        assert "worked-example" in lines[1].why


def test_days_that_lean_on_deleted_ones_are_not_made_again(bench: Workbench) -> None:
    assert not left_alone(bench.home)("events", OLD)
    fill(bench, "srm_daily", OLD)
    keep_to_policy(bench, NOW)
    left = left_alone(bench.home)
    assert left("srm_daily", OLD)
    assert left("sessions", OLD + DAY * 7)
    assert not left("sessions", OLD + DAY * 8)
    assert left("data_quality", OLD + DAY * 42)
    assert not left("data_quality", OLD + DAY * 183)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"turns": 30}, "at least 60 days"),
        ({"landed": 90}, "events, which is made from it, is kept for good"),
        ({"unit_days": 90, "learner_days": 92, "guardrails_daily": 60}, "at least 7 days longer"),
        ({"nothing": 90}, "nothing"),
    ],
)
def test_a_policy_that_would_lose_what_is_kept_is_refused(tables: dict[Any, int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RetentionPolicy(tables=tables)
