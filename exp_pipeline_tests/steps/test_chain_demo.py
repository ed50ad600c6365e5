"""A small simulated world through the chain of days: the same bytes in one run and day by day."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief
from exp_pipeline.simulate.landing import write_landing
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan
from exp_pipeline.steps.assignment.exposure import (
    build_assignments,
    build_content,
    build_enrollments,
    build_exposures,
)
from exp_pipeline.steps.behaviour import facts
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days, build_turns
from exp_pipeline.steps.behaviour.sessions import build_sessions, check_sorted
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land_days
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.operating.daily import judge_guardrails, judge_sample_ratios
from exp_pipeline.steps.quality.days import judge_quality
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import received_days
from exp_pipeline_tests.steps.conftest import SECRET, Opened, lake_bytes, rows_of, with_catalog

START, START_EXPERIMENT = date(2026, 3, 2), date(2026, 3, 4)
DAYS = 6
PLAN = SimulationPlan(
    name="tiny",
    seed=7,
    start=START,
    days=DAYS,
    schools=2,
    classes_per_school=2,
    learners=60,
    staff_accounts=1,
    sessions_per_learner_day=0.5,
    midnight_share=0.1,
    experiments=(
        SimulatedExperiment(
            name="hint-ladder",
            start=START_EXPERIMENT,
            end=START + DAY * DAYS,
            arms=(
                ArmTruth(name="control", share=0.34),
                ArmTruth(name="ladder", share=0.33),
                ArmTruth(name="ladder-fast", share=0.33),
            ),
        ),
    ),
    contaminated_units=1,
    faults=Faults(
        retry_share=0.02, late_share=0.03, conflicting_duplicates=2, too_late=2, clock_skewed=3,
        clock_year_ahead=1, not_json=1, not_utf8=1, truncated=1, contract_breaks=2,
    ),
)  # fmt: skip
WINDOW = Window.of(START, START + DAY * (DAYS - 1))
# Each needs the whole of those before it.
BY_DAY = (conform, build_learner_days, build_sessions, build_turns, build_assignments, build_exposures)
JUDGED = (build_unit_days, judge_sample_ratios, judge_guardrails, judge_quality)


@pytest.fixture(scope="module")
def moved(catalog: Catalog) -> Mapping[str, Brief]:
    """The shipped brief, moved to the days that are simulated."""
    brief = catalog.briefs["hint-ladder"]
    return {brief.name: brief.model_copy(update={"start": START_EXPERIMENT, "end": START + DAY * DAYS})}


@pytest.fixture(scope="module")
def landed_once(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Path:
    """A home in which the world has landed; to be copied, not changed."""
    home = Home(tmp_path_factory.mktemp("landed") / "home")
    write_landing(PLAN, home.landing)
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1
        ) as bench,
    ):  # fmt: skip
        land_days(bench, received_days(home.landing))
    return home.root


@pytest.fixture
def landed_world(
    opened: Opened, tmp_path: Path, landed_once: Path, moved: Mapping[str, Brief]
) -> Callable[[str], Workbench]:
    def copied(name: str) -> Workbench:
        shutil.copytree(landed_once, tmp_path / name)
        return with_catalog(opened(name), briefs=moved)

    return copied


def run_chain(bench: Workbench, *, day_by_day: bool = False) -> None:
    """Every step over the lake; day by day, the days of each step are taken in a mixed order."""
    windows = [Window.of(day, day) for day in WINDOW.days()] if day_by_day else [WINDOW]
    order = random.Random(1)
    for step in BY_DAY:
        for window in order.sample(windows, len(windows)):
            step(bench, window)
    build_enrollments(bench)
    build_content(bench)
    for step in JUDGED:
        for window in order.sample(windows, len(windows)):
            step(bench, window)


def test_the_same_bytes_in_one_run_and_day_by_day(
    landed_world: Callable[[str], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = landed_world("whole"), landed_world("parts")
    run_chain(whole)
    once = lake_bytes(whole.home)
    assert len(rows_of(whole, "unit_days", "unit_key")) > 50
    assert [check_sorted(whole, day) for day in WINDOW.days()] == [0] * DAYS
    for step in (conform, build_learner_days, build_sessions, build_unit_days):
        step(whole, WINDOW)
    assert lake_bytes(whole.home) == once
    # A large day is summed up a part of its learners at a time.
    monkeypatch.setattr(facts, "CHUNK_EVENTS", 100)
    build_unit_days(whole, WINDOW)
    assert lake_bytes(whole.home) == once
    run_chain(parts, day_by_day=True)
    other = lake_bytes(parts.home)
    assert sorted(name for name in once if other.get(name) != once[name]) == []
    assert sorted(once) == sorted(other)


def test_every_landed_row_is_accounted_for(landed_world: Callable[[str], Workbench]) -> None:
    bench = landed_world("home")
    tagged = {date.fromisoformat(str(row[0])) for row in rows_of(bench, "landed", "event_date")}
    conform(bench, Window.of(min(tagged), max(tagged)))
    landed = len(rows_of(bench, "landed", "file"))
    settled = {table: len(rows_of(bench, table, "file")) for table in ("events", "quarantine", "exclusions")}
    retries = 0
    for manifest in bench.lake.manifests("events", bench.lake.partitions("events")):
        by_source = manifest.facts["by_source"]
        assert isinstance(by_source, Mapping)
        retries += sum(counts["retry"] for counts in by_source.values())
    assert retries > 0
    assert sum(settled.values()) + retries == landed
    reasons = {str(row[0]) for row in rows_of(bench, "quarantine", "reason")}
    assert {"not_json", "not_utf8", "conflicting_duplicate", "too_late"} <= reasons
