"""Drift through the real steps: days counted once, judged against their weeks, told, and closed again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.steps.after import drift
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating.gauges import gauges
from exp_pipeline.steps.operating.incidents import open_incidents
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps.benches import bench_in, commit_rows

DAY = timedelta(days=1)
FIRST, DAYS = date(2026, 3, 2), 29
LAST = FIRST + DAY * (DAYS - 1)
NOW = datetime(2026, 4, 1, 3, tzinfo=UTC)
TURNS = 240


def commit_day(bench: Workbench, day: date, *, latency_ms: float = 1_000.0, model: str = "m1") -> None:
    at = datetime(day.year, day.month, day.day, 10)
    turns: list[dict[str, Any]] = [
        {
            "turn_id": f"t{number}", "turn_part": 1, "learner_id": "l", "learner_key": number,
            "event_date": day, "started_at": at, "ended_at": at, "submitted_at": at, "responded_at": at,
            "n_responses": 1, "latency_ms": latency_ms * (1 + number / TURNS), "tokens_in": 100,
            "tokens_out": 50, "cost_usd": 0.01, "platform": "web", "outcome": "answered",
        }
        for number in range(TURNS)
    ]  # fmt: skip
    events: list[dict[str, Any]] = [
        {
            "event_id": f"{day}-{number}", "event_date": day, "event_name": "tutor_turn_response_shown",
            "platform": "web", "occurred_at": at, "model_version": model,
        }
        for number in range(TURNS)
    ]  # fmt: skip
    sessions = [
        {"session_id": f"s{number}", "event_date": day, "learner_key": number, "platform": "web"}
        for number in range(TURNS)
    ]
    for table, rows in (("turns", turns), ("events", events), ("sessions", sessions)):
        commit_rows(bench, table, rows)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with bench_in(tmp_path) as opened:
        yield opened


def test_drift_from_days_to_an_incident_and_back(bench: Workbench) -> None:
    assert drift.judge(bench, NOW).day is None
    for number in range(DAYS):
        commit_day(bench, FIRST + DAY * number, latency_ms=2_200.0 if number == DAYS - 1 else 1_000.0)
    first = drift.judge(bench, NOW)
    assert (first.day, first.counted) == (LAST, DAYS)
    slow = {one.subject: one for one in first.findings}["latency_p95"]
    assert slow.verdict == "fail"
    # By hand: 1000 to just under 2000 ms evenly, so the 95th percentile lies at 0.95 of 239 steps.
    assert slow.usual == pytest.approx(1_000 * (1 + 0.95 * 239 / TURNS))
    assert slow.value == pytest.approx(2_200 * (1 + 0.95 * 239 / TURNS))
    cost = {one.subject: one for one in first.findings}["cost_per_session"]
    assert cost.verdict == "pass"
    assert cost.value == pytest.approx(0.01)
    assert {one.subject for one in open_incidents(state_log(bench.home))} == {"latency_p50", "latency_p95"}
    assert drift.findings(bench.home) == first.findings
    (counts,) = (one.samples for one in gauges(bench, (), NOW) if one.name == "exp_drift_findings")
    told = {one.labels["verdict"]: one.value for one in counts}
    assert told == {
        verdict: sum(one.verdict == verdict for one in first.findings)
        for verdict in ("fail", "warn", "pass", "cannot_tell")
    }
    assert told["fail"] == 2

    again = drift.judge(bench, NOW + timedelta(hours=1))
    assert (again.counted, again.opened) == (0, 0)
    assert again.findings == first.findings

    # The day is mended, one older day changes: both are counted again, nothing else.
    commit_day(bench, LAST)
    commit_day(bench, FIRST, model="m0")
    mended = drift.judge(bench, NOW + timedelta(hours=2))
    assert mended.counted == 2
    assert {one.verdict for one in mended.findings} == {"pass"}
    assert open_incidents(state_log(bench.home)) == ()


def test_an_older_day_can_be_looked_at_and_opens_nothing(bench: Workbench) -> None:
    for number in range(DAYS):
        commit_day(bench, FIRST + DAY * number, latency_ms=2_200.0 if number == DAYS - 2 else 1_000.0)
    old = drift.judge(bench, NOW, LAST - DAY)
    assert {one.subject: one.verdict for one in old.findings}["latency_p95"] == "fail"
    assert open_incidents(state_log(bench.home)) == ()
    assert drift.findings(bench.home) == ()
    with pytest.raises(ValueError, match="has no turns"):
        drift.judge(bench, NOW, FIRST - DAY)
