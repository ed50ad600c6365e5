"""A real tutor log in a foreign format: through a mapping to events and sessions, against plain Python."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.behaviour import sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.steps.sources.claims import source_for
from exp_pipeline.steps.sources.profile import columns_of
from exp_pipeline.steps.sources.trial import try_source
from exp_pipeline_tests.real.places import SHIPPED, bench_over, home_with, real_file

FILE = "cognitive_tutor_steps.parquet"
LANDED_ON = date(2007, 6, 1)
GAP = timedelta(minutes=30)
LATEST_DAYS = 3


@dataclass(frozen=True)
class Step:
    """One row of the raw file with its times in UTC, and what should become of it."""

    row: int
    student: str
    start: datetime | None
    end: datetime
    right: bool
    hinted: bool

    @property
    def fate(self) -> str:
        if self.start is None:
            return "missing:client_ts"
        return "too_late" if (self.end.date() - self.start.date()).days > LATEST_DAYS else "kept"

    @property
    def events(self) -> int:
        return 1 + self.hinted


def in_utc(text: str | None) -> datetime | None:
    if text is None:
        return None
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))
    return local.astimezone(UTC).replace(tzinfo=None)


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    found = []
    for raw in pl.read_parquet(real_file(FILE)).iter_rows(named=True):
        end = in_utc(raw["step_end"])
        assert end is not None
        found.append(
            Step(
                raw["row"],
                raw["student"],
                in_utc(raw["step_start"]),
                end,
                raw["correct_first"] == 1,
                raw["hints"] > 0,
            )
        )
    return found


def stretches(days: list[date]) -> list[Window]:
    """Runs of days without a hole, as windows."""
    windows: list[Window] = []
    for day in days:
        if windows and windows[-1].end == day:
            windows[-1] = Window(windows[-1].first, day + DAY)
        else:
            windows.append(Window.of(day, day))
    return windows


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    home = home_with("tutor-log", tmp_path_factory.mktemp("tutor-log"))
    folder = home.landing / f"received_date={LANDED_ON}"
    folder.mkdir()
    shutil.copy(real_file(FILE), folder / "steps.parquet")
    with bench_over(home) as bench:
        landing.land(bench, LANDED_ON)
        (landed,) = bench.lake.manifests("landed", bench.lake.partitions("landed"))
        windows = stretches(sorted(date.fromisoformat(file.tag) for file in landed.files))
        for window in windows:
            ingest.conform(bench, window)
            behaviour.build_learner_days(bench, window)
        for window in windows:
            sessions.build_sessions(bench, window)
        yield bench


def rows_of(bench: Workbench, table: str, *columns: str) -> pl.DataFrame:
    manifests = bench.lake.manifests(table, bench.lake.partitions(table))
    paths = bench.lake.paths(manifests)
    return pl.concat([pl.read_parquet(path, columns=list(columns) or None) for path in paths])


def test_each_step_becomes_its_events(bench: Workbench, steps: list[Step]) -> None:
    events = rows_of(bench, "events", "event_id", "event_name", "occurred_at", "correct")
    expected: dict[str, tuple[str, datetime | None, bool | None]] = {}
    for step in steps:
        if step.fate == "kept":
            expected[f"step-{step.row}-answer"] = ("answer_attempted", step.start, step.right)
            if step.hinted:
                expected[f"step-{step.row}-hint"] = ("hint_requested", step.start, None)
    assert {row[0]: row[1:] for row in events.iter_rows()} == expected
    assert len(expected) == events.height == 19667


def test_steps_that_cannot_be_dated_wait_in_quarantine_with_the_reason(
    bench: Workbench, steps: list[Step]
) -> None:
    found = Counter(rows_of(bench, "quarantine", "reason")["reason"])
    expected: Counter[str] = Counter()
    for step in steps:
        if step.fate != "kept":
            expected[step.fate] += step.events
    assert found == expected
    assert sum(step.start is None for step in steps) == 51


def test_no_row_is_lost_on_any_day(bench: Workbench, steps: list[Step]) -> None:
    landed = kept = quarantined = 0
    for manifest in bench.lake.manifests("events", bench.lake.partitions("events")):
        by_source = manifest.facts["by_source"]
        assert isinstance(by_source, dict)
        counts = by_source["tutor-log"]
        assert (
            counts["landed"] == counts["kept"] + counts["retry"] + counts["quarantined"] + counts["excluded"]
        )
        assert counts["kept"] == manifest.rows
        landed, kept = landed + counts["landed"], kept + counts["kept"]
        quarantined += counts["quarantined"]
    (whole,) = bench.lake.manifests("landed", bench.lake.partitions("landed"))
    assert landed == whole.rows == sum(step.events for step in steps)
    assert whole.facts["raw_rows"] == len(steps) == 18220
    assert quarantined == rows_of(bench, "quarantine", "reason").height == landed - kept


def test_sessions_are_those_of_the_thirty_minute_rule(bench: Workbench, steps: list[Step]) -> None:
    moments: dict[str, list[tuple[datetime, int]]] = {}
    for step in steps:
        if step.fate == "kept" and step.start is not None:
            moments.setdefault(step.student, []).append((step.start, step.events))
    assert bench.key is not None
    expected = []
    for student, own in moments.items():
        learner = bench.key.pseudonym(student)
        own.sort()
        first, last, n = own[0][0], own[0][0], 0
        for moment, events in own:
            if moment - last > GAP:
                expected.append((learner, first, last, n))
                first, n = moment, 0
            last, n = moment, n + events
        expected.append((learner, first, last, n))
    sessions = rows_of(bench, "sessions", "learner_id", "started_at", "ended_at", "n_events", "end_reason")
    assert sorted(sessions.drop("end_reason").iter_rows()) == sorted(expected)
    assert set(sessions["end_reason"]) == {"idle"}
    # No session of this school log comes near the twelve-hour cap, so gaps alone cut it.
    assert max(last - first for _, first, last, _ in expected) < timedelta(hours=12)


def test_learning_measures_are_those_of_the_file(bench: Workbench, steps: list[Step]) -> None:
    bouts = rows_of(bench, "learner_days", "answers_marked", "answers_right_first", "steps_with_hint")
    kept = [step for step in steps if step.fate == "kept"]
    assert bouts.sum().row(0) == (
        len(kept),
        sum(step.right for step in kept),
        sum(step.hinted for step in kept),
    )


def test_the_shipped_source_makes_the_same_of_the_file(steps: list[Step]) -> None:
    catalog = open_catalog(SHIPPED)
    file = real_file(FILE)
    source = source_for(file, catalog.sources, columns_of(file))
    assert source.name == "datashop"
    trial = try_source(file, source, catalog, today=LANDED_ON, threads=1)
    kept = [step for step in steps if step.fate == "kept"]
    assert trial.events == {
        "answer_attempted": len(kept),
        "hint_requested": sum(step.hinted for step in kept),
    }
    lost = Counter({fate: 0 for fate in ("missing:client_ts", "too_late")})
    for step in steps:
        if step.fate != "kept":
            lost[step.fate] += step.events
    assert {one.reason: one.rows for one in trial.quarantined} == dict(lost)


def test_no_raw_name_leaves_the_door(bench: Workbench, steps: list[Step]) -> None:
    names = {step.student for step in steps}
    assert not names & set(rows_of(bench, "landed", "learner_id")["learner_id"])
    assert rows_of(bench, "landed", "learner_id")["learner_id"].n_unique() == len(names) == 11
