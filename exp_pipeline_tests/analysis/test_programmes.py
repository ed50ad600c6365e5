"""Programmes with known truth, a few runs of each: the full table is in docs/calibration.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlglot import exp

from bench.calibration.programme_report import (
    programme_faults,
    programmes_as_json,
    programmes_from_json,
    programmes_section,
)
from bench.calibration.programme_worlds import END, MEASURES, START, WEEK, simulate
from bench.calibration.programmes import (
    LAST_DAY,
    LOOK,
    RUNS,
    Programme,
    ProgrammeRow,
    brief_of,
    programmes,
    run_once,
    run_programme,
)
from bench.calibration.report import circumstances
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.model.readout import ArmDecision, Decision, Outcome, SegmentValue
from exp_pipeline.transform import queries
from exp_pipeline_tests.analysis.builders import locked

ROOT = Path(__file__).parents[2]
ONE = {programme.name: programme for programme in programmes()}
# Those whose outcome leaves little to chance, so that two runs say something.
SURE = (
    "a real effect", "guardrail harm with a real effect", "SRM on one platform", "novelty only",
    "one segment harmed, scope allowed", "attrition that reverses the sign", "contamination",
    "model swapped in one arm", "brief changed after the start", "several arms",
)  # fmt: skip


@pytest.mark.parametrize("name", SURE)
def test_what_is_decided_is_what_the_truth_asks_for(name: str) -> None:
    programme = ONE[name]
    for run in range(2):
        decision = run_once(programme, brief_of(programme), run)
        assert decision.outcome in programme.expected
        assert not programme.wrong(decision)


def test_no_benefit_is_not_shipped_at_any_look() -> None:
    for name in ("nothing changes (A/A)", "nothing changes, looked at twice"):
        assert run_programme(ONE[name], 2).wrong == 0


def test_the_same_run_gives_the_same_decision() -> None:
    programme = ONE["too few units"]
    brief = brief_of(programme)
    assert run_once(programme, brief, 3) == run_once(programme, brief, 3)
    assert run_once(programme, brief, 3) != run_once(programme, brief, 4)


@pytest.fixture(scope="module")
def inputs() -> ReadoutInputs:
    programme = ONE["novelty only"]
    brief = brief_of(programme)
    return simulate(np.random.default_rng(1), programme.world, brief, as_of=LAST_DAY, lock=locked(brief))


def columns_of(query: str) -> list[str]:
    """The columns that a query of the chain gives."""
    parsed = queries.load(query)
    assert isinstance(parsed, exp.Query)
    return parsed.named_selects


def test_the_shapes_are_those_of_a_snapshot(inputs: ReadoutInputs) -> None:
    assert inputs.receipts is not None
    assert inputs.completeness is not None
    assert inputs.days is not None
    assert inputs.weeks is not None
    for name, frame in (("receipts", inputs.receipts), ("completeness", inputs.completeness)):
        assert frame.columns == columns_of(name)
    shown = set(columns_of("mad"))
    own = {column for column in inputs.mad.columns if "__" not in column or column.startswith("segment__")}
    assert own <= shown
    assert {"unit_id", "week", "complete"} <= set(columns_of("weeks"))
    assert inputs.days.columns == ["unit_id", "event_date", *MEASURES]


def test_days_weeks_and_units_add_up_to_the_same(inputs: ReadoutInputs) -> None:
    assert inputs.days is not None
    assert inputs.weeks is not None
    mad = {row["unit_id"]: row for row in inputs.mad.iter_rows(named=True)}
    by_week: dict[tuple[str, int], int] = {}
    totals: dict[str, int] = {}
    for row in inputs.days.iter_rows(named=True):
        entered = mad[row["unit_id"]]["assigned_date"]
        assert entered <= row["event_date"] < END
        key = row["unit_id"], (row["event_date"] - entered).days // WEEK
        by_week[key] = by_week.get(key, 0) + row["solved"]
        totals[row["unit_id"]] = totals.get(row["unit_id"], 0) + row["solved"]
    assert {name: row["solved__num"] for name, row in mad.items() if row["solved__num"]} == {
        name: total for name, total in totals.items() if total
    }
    weeks = {(row["unit_id"], row["week"]): row for row in inputs.weeks.iter_rows(named=True)}
    assert {key: row["solved__num"] for key, row in weeks.items() if row["solved__num"]} == {
        key: total for key, total in by_week.items() if total
    }
    for (name, week), row in weeks.items():
        assert row["complete"] == (mad[name]["assigned_date"] + timedelta(days=WEEK * (week + 1)) <= END)


def test_an_earlier_look_sees_the_same_learners_do_the_same(inputs: ReadoutInputs) -> None:
    programme = ONE["novelty only"]
    early = simulate(
        np.random.default_rng(1),
        programme.world,
        inputs.brief,
        as_of=LOOK - timedelta(days=1),
        lock=inputs.lock,
    )
    assert early.days is not None
    assert inputs.days is not None
    assert START < LOOK < END
    seen = inputs.days.filter(inputs.days["event_date"] < LOOK)
    assert early.days.equals(seen)


def decision_of(outcome: Outcome, arm: str = "treatment", *platforms: str) -> Decision:
    choice = ArmDecision(
        arm=arm,
        outcome=outcome,
        because="said",
        rules=(),
        segments=tuple(SegmentValue(column="platform", value=one) for one in platforms),
    )
    return Decision(outcome=outcome, arm=arm, summary="said", arms=(choice,))


@pytest.mark.parametrize(
    ("name", "decision", "wrong"),
    [
        ("a real effect", decision_of("ship"), False),
        ("nothing changes (A/A)", decision_of("ship"), True),
        ("nothing changes (A/A)", decision_of("extend"), False),
        ("nothing changes (A/A)", decision_of("ship_scoped", "treatment", "web"), True),
        ("one segment harmed, scope allowed", decision_of("ship"), True),
        ("one segment harmed, scope allowed", decision_of("ship_scoped", "treatment", "web", "ios"), False),
        ("one segment harmed, scope allowed", decision_of("ship_scoped", "treatment", "android"), True),
        ("several arms", decision_of("ship", "good"), False),
        ("several arms", decision_of("ship", "slow"), True),
    ],
)
def test_what_counts_as_a_wrong_ship(name: str, decision: Decision, wrong: bool) -> None:
    assert ONE[name].wrong(decision) is wrong


ROW = ProgrammeRow(
    name="one",
    truth="no benefit",
    expected=("stop",),
    expected_at_least=0.9,
    planned=0.025,
    runs=200,
    outcomes={"ship": 3, "stop": 197},
    shipped={"treatment": 3},
    wrong=3,
    wrong_lower=0.005,
    wrong_upper=0.043,
    deciding={"Primary metric": 200},
    cpu_seconds=1.0,
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: replace(row, wrong=14, wrong_lower=0.042), "ships wrongly in 7.0%, planned 2.5%"),
        (lambda row: replace(row, outcomes={"stop": 150, "extend": 50}), "as expected in 75.0% only"),
    ],
)
def test_a_programme_that_ships_wrongly_or_decides_otherwise_is_a_fault(
    change: Callable[[ProgrammeRow], ProgrammeRow], said: str
) -> None:
    assert programme_faults([ROW]) == []
    [fault] = programme_faults([change(ROW)])
    assert said in fault


def test_the_section_shows_every_outcome_and_numbers_survive_storing() -> None:
    about = circumstances()
    text = "\n".join(programmes_section([ROW], about))
    assert "| one | no benefit | 1.5% |" in text
    assert "**98.5%**" in text
    assert "1.5% (0.5%-4.3%)" in text
    assert programmes_from_json(json.loads(json.dumps(programmes_as_json([ROW], about)))) == ([ROW], about)


def test_the_committed_programmes_hold_and_are_those_that_are_defined() -> None:
    stored = ROOT / "bench" / "results" / "programmes.json"
    rows, _ = programmes_from_json(json.loads(stored.read_text(encoding="utf-8")))
    assert programme_faults(rows) == []
    assert [row.name for row in rows] == [programme.name for programme in programmes()]
    defined: list[Programme] = list(programmes())
    for row, programme in zip(rows, defined, strict=True):
        assert row.runs == RUNS
        assert row.expected == programme.expected
        assert row.truth == programme.truth
