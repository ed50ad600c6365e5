"""Whole rehearsed terms, some minutes each: nothing wrong, whole classes, a platform that logs no arm."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app
from exp_pipeline_tests.cli.briefs import NAME, quick_hints, written_home

pytestmark = pytest.mark.crash
START, END = date(2026, 3, 9), date(2026, 4, 6)
APPROVED = ("traffic: 0.5, dwell_days: 1, minimum_units: 20", "traffic: 1.0, dwell_days: 1, approval: true")
CLASSES = ("traffic: 0.5, dwell_days: 1, minimum_units: 4", "traffic: 1.0, dwell_days: 1")


def told(home: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["rehearse", NAME, "--home", str(home), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_where_nothing_is_wrong_nobody_is_woken_and_nothing_ships(tmp_path: Path) -> None:
    home = written_home(tmp_path / "home", quick_hints(START, END, APPROVED, margin=0.5))
    found = json.loads(
        told(home, "--json", "--scenario", "nothing", "--days", "5", "--learners", "120", "--approve", "none")
    )
    assert found["pages"] == 0
    assert found["as_planted"], found["against"]
    assert found["outcome"] != "ship"
    assert (found["home"], found["memo"]) == (None, None)
    # Nobody approves: the ramp waits at its first stage, and says for what.
    assert {day["stage"] for day in found["days"]} == {1}
    assert found["days"][-2]["reasons"] == ["stage 2 needs a person's approval"]


def test_whole_classes_go_through_a_ramp_and_the_timeline_counts_classes(tmp_path: Path) -> None:
    text = quick_hints(START, END, CLASSES, margin=0.5, more="randomisation_unit: class\nicc: 0.05\n")
    found = told(written_home(tmp_path / "home", text), "--days", "12", "--learners", "900").splitlines()
    told_end = "as it should be: every arm was planted better, and the readout ships short"
    assert any(told_end in line for line in found), found[-12:]
    assert any(line.startswith("  classes   control") for line in found)
    # A day on which nothing is new takes one line.
    assert any("nothing new; classes: control" in line for line in found)


def test_a_platform_that_logs_no_arm_is_found_and_nothing_is_interpreted(tmp_path: Path) -> None:
    home = written_home(tmp_path / "home", quick_hints(START, END, APPROVED, margin=0.5))
    found = json.loads(
        told(home, "--json", "--scenario", "mismatch", "--days", "8", "--learners", "2000",
             "--incident", "2026-03-10")
    )  # fmt: skip
    assert found["as_planted"], found["against"]
    assert found["outcome"] == "investigate"
    assert "rule srm opened an incident" in found["against"]
    assert any(
        verdict.startswith("sample ratio: fail") for day in found["days"] for verdict in day["verdicts"]
    )
