"""An effect that fades after its experiment: found through the real steps, told once, kept, refused."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.layers import Layer
from exp_pipeline.model.life import DURABILITY_DAYS
from exp_pipeline.model.ramps import RampState
from exp_pipeline.report.prometheus import prometheus_text
from exp_pipeline.steps.after import durability
from exp_pipeline.steps.assignment.exposure import build_assignments, build_enrollments, build_exposures
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.experiments.sealed_readouts import readout_of
from exp_pipeline.steps.experiments.starting import lock_if_started
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.operating.gauges import gauges
from exp_pipeline.steps.operating.incidents import open_incidents
from exp_pipeline.steps.operating.ramp_log import Step, append
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.steps.conftest import SECRET, Opened, commit_events, with_catalog
from exp_pipeline_tests.steps.metric_worlds import MEASURES, METRICS, brief_of

FIRST = date(2026, 3, 2)
END = FIRST + DAY * 14
DUE = END + DAY * DURABILITY_DAYS[0]
LEARNERS = 80
BRIEF = brief_of("fading", ["answers_a_day"], start=FIRST, end=END, variance_reduction={"method": "none"})
METRIC = METRICS["mean_answers"].model_copy(update={"name": "answers_a_day", "window_days": None})
NOW = datetime(2026, 4, 2, tzinfo=UTC)


def answers(learner: int, day: date) -> int:
    """How many answers a learner gives on a day: in the new arm twice as many, until the end."""
    usual = 1 + (learner * 7 + day.toordinal() * 3) % 3
    return usual * 2 if learner % 2 and day < END else usual


def rows_of(last: date) -> dict[date, list[dict[str, object]]]:
    days: dict[date, list[dict[str, object]]] = {}
    day = FIRST
    while day <= last:
        at = datetime(day.year, day.month, day.day, 9)
        days[day] = []
        for learner in range(LEARNERS):
            shared = {"learner_key": learner + 1, "learner_id": f"{learner + 1:032x}", "event_date": day}
            experiment = {"experiment": "fading", "experiment_version": 1, "unit_type": "learner"}
            arm = {"unit_id": f"{learner + 1:032x}", "arm": "new" if learner % 2 else "control"}
            named: list[tuple[str, Mapping[str, Any]]] = []
            if day == FIRST:
                named += [("experiment_assigned", experiment | arm)]
                named += [("experiment_exposed", experiment | arm | {"surface": "tutor"})]
            named += [("answer_attempted", {"correct": True})] * answers(learner, day)
            days[day] += [
                {
                    **shared, "occurred_at": at + timedelta(seconds=number), "event_name": name,
                    "event_id": f"{day}-{learner:03d}-{number}", "role": "student", "platform": "web",
                    "app_version": "1.0", "objective_changed": False, "device_handover": False, **fields,
                }
                for number, (name, fields) in enumerate(named)
            ]  # fmt: skip
        day += DAY
    return days


def with_brief(bench: Workbench) -> Workbench:
    return with_catalog(
        bench, measures=MEASURES, metrics={METRIC.name: METRIC}, briefs={BRIEF.name: BRIEF}, layers={}
    )


def world(bench: Workbench, last: date) -> Workbench:
    own = with_brief(bench)
    lock_if_started(own, BRIEF, datetime(2026, 3, 1, tzinfo=UTC))
    commit_events(own, rows_of(last))
    window = Window.of(FIRST, last)
    for step in (build_learner_days, build_sessions, build_assignments, build_exposures):
        step(own, window)
    build_enrollments(own)
    build_unit_days(own, window)
    take_snapshot(own, BRIEF.name)
    return own


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Path:
    """A home that has all days up to the look; to be copied, not changed."""
    home = Home(tmp_path_factory.mktemp("durability") / "home")
    home.landing.mkdir(parents=True)
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1
        ) as bench,
    ):  # fmt: skip
        world(bench, DUE - DAY)
    return home.root


@pytest.fixture
def due(opened: Opened, made_once: Path, tmp_path: Path) -> Workbench:
    """A copy of that home."""
    shutil.copytree(made_once, tmp_path / "due")
    return with_brief(opened("due"))


def in_stretch(arm: int, first: date) -> float:
    """Answers of a learner of one arm in a week, by counting."""
    learners = [one for one in range(LEARNERS) if one % 2 == arm]
    days = [first + DAY * step for step in range(7)]
    return sum(answers(one, day) for one in learners for day in days) / len(learners)


def test_a_fading_effect_is_found_and_told_once(due: Workbench) -> None:
    own = due
    found = durability.measure(own, BRIEF.name, NOW)
    (row,) = found.rows
    assert row.estimable, row.reason
    assert row.due == DUE
    assert row.gain == pytest.approx(in_stretch(1, END - DAY * 7) - in_stretch(0, END - DAY * 7))
    assert row.later == pytest.approx(in_stretch(1, DUE - DAY * 7) - in_stretch(0, DUE - DAY * 7))
    assert row.decayed
    assert [one.subject for one in open_incidents(state_log(own.home), rule="decay")] == [
        "fading:new:control"
    ]
    assert durability.durability_rows(own.home, BRIEF.name) == found.rows
    assert row.gain
    assert row.later is not None
    text = prometheus_text([one for one in gauges(own, (), NOW) if "durability" in one.name])
    left = f'{{arm="new",experiment="fading",weeks="{(DUE - END).days // 7}"}} {row.later / row.gain!r}'
    assert f"exp_durability_effect_kept{left}" in text
    assert durability.measure(own, BRIEF.name, NOW).changed == 0

    # Once the rollout began, arms are no longer what was drawn; a look that was measured stays.
    step = Step("ship", "rollout", 1, 2, 0.25, "owners", ("decided",), arm="new")
    shipped = datetime(2026, 3, 18, tzinfo=UTC)
    log = state_log(own.home)
    assert append(log, BRIEF, RampState(), step, shipped) is not None
    assert durability.measure(own, BRIEF.name, NOW).rows == found.rows
    durability.durability_file(own.home, BRIEF.name).unlink()
    (partly,) = durability.measure(own, BRIEF.name, NOW).rows
    assert not partly.estimable
    assert "on 2026-03-18 the shipped arm is served to 25 % of control too" in partly.reason
    # Served to everybody, nothing is left to compare.
    everybody = Step("advance", "rollout", 2, 2, 1.0, "schedule", ("due",))
    assert append(log, BRIEF, RampState(sequence=1, arm="new"), everybody, shipped + DAY * 2) is not None
    (late,) = durability.measure(own, BRIEF.name, NOW).rows
    assert "served alike since the rollout began on 2026-03-18" in late.reason


def test_hidden_effects_stay_hidden_and_a_holdout_is_said(
    due: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    holdout = Layer(name="held", kind="holdout", share=0.05)
    own = with_catalog(due, layers={"held": holdout})

    def blinded(*asked: Any) -> Any:
        return readout_of(*asked).model_copy(update={"blinded": True})

    with monkeypatch.context() as patch:
        patch.setattr(durability, "readout_of", blinded)
        rows = durability.measure(own, BRIEF.name, NOW).rows
        assert [(row.against, row.estimable, row.gain) for row in rows] == [
            ("control", False, None),
            ("holdout", False, None),
        ]
        assert rows[0].reason == durability.HIDDEN
        assert "log both sides" in rows[1].reason
        assert state_log(own.home).entries("findings") == ()
    # A look that was measured does not stand while its effects are hidden again.
    assert durability.measure(own, BRIEF.name, NOW).rows[0].estimable
    monkeypatch.setattr(durability, "readout_of", blinded)
    assert not durability.measure(own, BRIEF.name, NOW).rows[0].estimable


def test_nothing_is_measured_before_its_days_are_there(bench: Workbench) -> None:
    own = world(bench, DUE - DAY * 2)
    assert durability.measure(own, BRIEF.name, NOW).rows == ()
    assert durability.due_looks(BRIEF, None) == ()
    assert [look.due for look in durability.due_looks(BRIEF, DUE - DAY)] == [DUE]
