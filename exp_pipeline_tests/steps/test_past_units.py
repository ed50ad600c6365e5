"""Baselines from the days before a start, counted again from the events by plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from statistics import mean, stdev

import duckdb
import numpy as np
import pytest

from exp_pipeline.analysis.planning.baselines import Baseline
from exp_pipeline.catalog import Catalog
from exp_pipeline.cli import plans
from exp_pipeline.model.brief import Brief, Guardrail
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.past_units import past_days, past_units
from exp_pipeline.steps.experiments.planning import WholePlan, history_of, plan_of
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.home import Home
from exp_pipeline_tests.steps import metric_worlds as world
from exp_pipeline_tests.steps.conftest import CATALOG, SECRET, commit_events, with_catalog
from exp_pipeline_tests.steps.metric_worlds import METRICS, Row, Unit

START = world.FIRST + DAY * world.DAYS
CLASS_OF = {learner: f"c{learner % 9}" for learner in range(1, 91)}


def _in_classes(rows: list[Row]) -> list[Row]:
    return [replace(row, fields={**row.fields, "class_id": CLASS_OF[row.learner]}) for row in rows]


P70 = METRICS["p90"].model_copy(update={"name": "p70", "quantile": 0.7})
ROWS = _in_classes([row for row in world.draw(5, learners=90) if row.name != "experiment_assigned"])


def brief_of(*metrics: str, **changes: object) -> Brief:
    fields: dict[str, object] = {"start": START, "end": START + 21 * DAY, "secondary": metrics[1:]}
    return world.brief_of("later", metrics, **(fields | changes))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A lake of 26 days in which no experiment ran."""
    home = Home(tmp_path_factory.mktemp("past"))
    home.landing.mkdir(parents=True, exist_ok=True)
    catalog: Catalog = open_catalog(CATALOG, strict=True)
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog, threads=1
        ) as opened,
    ):
        session = catalog.policies.session.model_copy(update={"cut_on_objective": False})
        policies = catalog.policies.model_copy(update={"session": session})
        metrics = {**METRICS, "p70": P70}
        own = with_catalog(
            opened, measures=world.MEASURES, metrics=metrics, briefs=world.BRIEFS, policies=policies
        )
        days: dict[date, list[dict[str, object]]] = {}
        for number, row in enumerate(ROWS):
            days.setdefault(row.day, []).append({
                "learner_key": row.learner, "learner_id": f"{row.learner:032x}", "occurred_at": row.at,
                "event_date": row.day, "event_id": f"{number:06d}", "event_name": row.name,
                "role": "student", "platform": "web", "app_version": "1.0", "objective_changed": False,
                "device_handover": False, **row.fields,
            })  # fmt: skip
        commit_events(own, days)
        for step in (build_learner_days, build_sessions):
            step(own, Window.of(world.FIRST, world.LAST))
        yield own


def planned(bench: Workbench, brief: Brief) -> WholePlan:
    return plan_of(with_catalog(bench, briefs={**bench.catalog.briefs, brief.name: brief}), brief.name)


def first_seen(from_day: date) -> dict[int, Unit]:
    """Everybody as if assigned at the first event on or after a day."""
    found: dict[int, Unit] = {}
    for row in sorted(ROWS, key=lambda one: one.at):
        if row.day >= from_day:
            found.setdefault(row.learner, Unit(row.learner, "control", row.at, "web"))
    return found


def test_every_type_of_metric_has_a_baseline(bench: Workbench) -> None:
    history = history_of(bench, brief_of(*METRICS))
    assert history.days == len({row.day for row in ROWS})
    assert set(history.baselines) == set(METRICS)
    reasons = {name: one.reason for name, one in history.baselines.items() if not isinstance(one, Baseline)}
    # Of 90 learners few took two tests in their windows, and a tenth of the waits are the longest there is.
    assert set(reasons) <= {"gained", "p90"}
    assert all("at least 10" in why or "many rows share" in why for why in reasons.values()), reasons
    assert {METRICS[name].type for name in history.baselines} == {one.type for one in METRICS.values()}


def test_levels_and_spreads_are_those_of_the_events(bench: Workbench) -> None:
    names = ("mean_answers", "any_right", "accuracy", "kept", "time_to_right", "p70")
    brief = brief_of(*names)
    history = history_of(bench, brief)
    assert history.first_assigned is not None
    units = first_seen(history.first_assigned)
    last = START - DAY

    def after(unit: Unit, first: int, end: int | None, right: bool = False) -> int:
        found = world.after(ROWS, unit, first, end, last)
        return sum(
            row.name == "answer_attempted" and (bool(row.fields["correct"]) or not right) for row in found
        )

    def mature(days: int) -> list[Unit]:
        return [unit for unit in units.values() if unit.day + days * DAY <= START]

    def baseline(name: str) -> Baseline:
        found = history.baselines[name]
        assert isinstance(found, Baseline)
        return found

    answers = [after(unit, 0, 7) for unit in mature(7)]
    found = baseline("mean_answers")
    assert found.units == len(answers)
    assert found.mean == pytest.approx(mean(answers))
    assert found.sd == pytest.approx(stdev(answers))
    right = [after(unit, 0, 3, right=True) > 0 for unit in mature(3)]
    assert baseline("any_right").mean == pytest.approx(mean(right))
    kept = [after(unit, 4, 9) > 0 for unit in mature(9)]
    assert baseline("kept").mean == pytest.approx(mean(kept))
    pairs = [(after(unit, 0, None, right=True), after(unit, 0, None)) for unit in units.values()]
    ratio = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    base = mean(b for _, b in pairs)
    assert baseline("accuracy").mean == pytest.approx(ratio)
    assert baseline("accuracy").sd == pytest.approx(stdev((a - ratio * b) / base for a, b in pairs))
    times = []
    for unit in mature(6):
        own = [row.at for row in world.after(ROWS, unit, 0, 6, last)
               if row.name == "answer_attempted" and row.fields["correct"]]  # fmt: skip
        passed = (min(own) - unit.at) / timedelta(hours=1) if own else 120.0
        times.append(min(passed, 120.0))
    assert baseline("time_to_right").mean == pytest.approx(mean(times))
    waits = [
        row.fields["latency_ms"] for unit in units.values() for row in world.after(ROWS, unit, 0, None, last)
        if row.name == "tutor_turn_response_shown"
    ]  # fmt: skip
    assert baseline("p70").mean == pytest.approx(np.quantile(waits, 0.7))


def test_arrivals_are_the_first_visits_of_learners_or_classes(bench: Workbench) -> None:
    brief = brief_of("mean_answers")
    history = history_of(bench, brief)
    assert history.curve is not None
    shift = (START - world.FIRST).days % 7
    came: dict[int, int] = {}
    for row in ROWS:
        offset = (row.day - world.FIRST).days - shift
        if offset >= 0:
            came[row.learner] = min(came.get(row.learner, 99), offset)
    by_hand = [sum(day <= end for day in came.values()) for end in range(26 - shift)]
    assert list(history.curve.cumulative[: 26 - shift]) == by_hand
    classes = brief_of("mean_answers", randomisation_unit="class")
    by_class = history_of(bench, classes)
    assert by_class.curve is not None
    # Every class but the silent one is there on the first day, with all its learners that ever came.
    assert by_class.curve.cumulative[0] == len({row.learner for row in ROWS})
    found = by_class.baseline
    assert found is not None
    assert found.cluster_size == pytest.approx(len({row.learner for row in ROWS}) / 8)
    assert found.icc is not None
    assert found.icc_upper is not None


def test_days_before_the_first_assigned_tell_what_covariates_take_off(bench: Workbench) -> None:
    brief = brief_of("mean_answers")
    found = past_days(bench, brief)
    assert found.window is not None
    past = past_units(bench, brief, found.window)
    assert past.first_assigned == world.FIRST + DAY * 6
    assert "pre__answers" in past.mad.columns
    by_unit = dict(past.mad.select("unit_key", "pre__answers").iter_rows())
    for learner, unit in first_seen(past.first_assigned).items():
        before = [
            row for row in ROWS
            if row.learner == learner and timedelta(0) < unit.day - row.day <= timedelta(days=6)
        ]  # fmt: skip
        counted = sum(row.name == "answer_attempted" for row in before)
        assert by_unit[learner] == (float(counted) if before else None)
    history = history_of(bench, brief)
    assert history.baseline is not None
    assert history.baseline.gain is not None


def test_a_short_history_still_tells_the_help_of_covariates(bench: Workbench) -> None:
    # Without a window a metric is followed as long as the experiment runs, so no day is left before.
    brief = brief_of("mean_objectives", end=START + 60 * DAY)
    history = history_of(bench, brief)
    assert history.first_assigned == world.FIRST
    assert history.baseline is not None
    assert history.baseline.gain is not None
    assert any("last 13 days of history" in note for note in history.baseline.notes)


def test_the_same_history_gives_the_same_plan_and_leaves_no_table_behind(bench: Workbench) -> None:
    brief = brief_of("accuracy", "p90", guardrails=(Guardrail(metric="kept", margin=0.1),))
    tables = "select table_name from information_schema.tables order by all"
    planned(bench, brief)
    before = bench.engine.connection.execute(tables).fetchall()
    first, second = planned(bench, brief), planned(bench, brief)
    assert first == second
    assert bench.engine.connection.execute(tables).fetchall() == before
    assert first.guardrails[0].units_total is not None


def test_the_plan_is_told_to_people_and_machines(
    bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    brief = brief_of("mean_answers", "accuracy", guardrails=(Guardrail(metric="kept", margin=0.1),))
    whole = planned(bench, brief)
    told = plans.plan_json(whole, brief)
    json.dumps(told, default=str)
    history = told["history"]
    assert isinstance(history, Mapping)
    assert history["baselines"]["accuracy"]["mean"] == pytest.approx(0.32, abs=0.1)
    assert len(history["enrolment"]["by_week"]) == 4
    plans.tell(whole, brief)
    shown = capsys.readouterr().out
    for words in (
        "History: 80 learners", "To find 0.1", "If it stopped after so many days", "by what history",
        "Under other assumptions", "Guardrails, if there is no harm", "Not ready to start",
    ):  # fmt: skip
        assert words in shown, words
    assert all(len(line) <= 200 for line in shown.splitlines())


def test_without_a_day_before_the_start_the_plan_says_so(bench: Workbench) -> None:
    first = brief_of("mean_answers", start=world.FIRST, end=world.FIRST + 21 * DAY)
    history = history_of(bench, first)
    assert (history.days, history.baseline, history.no_baseline) == (0, None, "there is no history yet")
    whole = planned(bench, first)
    assert whole.plan is None
    assert any("there is no history yet" in line for line in whole.readiness.unchecked)
