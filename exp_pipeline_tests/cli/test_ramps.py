"""`exp ramp` and `exp life`: what people see of a ramp, and what they do to it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline_tests.cli.briefs import NAME, only_brief, quick_hints, written_home
from exp_pipeline_tests.steps.ramp_worlds import bench_over, judge_days, make_ready

DAY = timedelta(days=1)
# Ramps live by the real clock here: the experiment began two days ago.
TODAY = datetime.now(UTC).date()
BRIEF = quick_hints(
    TODAY - 2 * DAY,
    TODAY + 20 * DAY,
    ("traffic: 0.01, dwell_days: 0, minimum_units: 10", "traffic: 0.5, dwell_days: 1, approval: true"),
    traffic=0.5,
)
SAY = ("--by", "tutor-platform", "--reason", "seen on the board")


@pytest.fixture
def ramped(home: Path) -> Path:
    """A home whose one experiment is ready, with good days up to yesterday."""
    only_brief(home, BRIEF)
    brief = open_catalog(home / "catalog", strict=True).briefs[NAME]
    with bench_over(home, [brief]) as bench:
        judge_days(bench, [brief], TODAY - 2 * DAY, TODAY - DAY)
        make_ready(bench, brief, TODAY - DAY)
    return home


def run(*arguments: str, home: Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    assert done.exit_code == code, done.output
    return done.output


def told(*arguments: str, home: Path) -> Any:
    return json.loads(run(*arguments, "--json", home=home))


def test_a_ramp_from_its_first_tick_to_its_end(ramped: Path) -> None:
    assert "not started" in run("ramp", "status", home=ramped)
    assert f"Nothing has happened to the ramp of {NAME} yet." in run("ramp", "history", NAME, home=ramped)
    tick = told("ramp", "tick", home=ramped)
    assert [(one["experiment"], one["decision"]["verb"], one["written"]) for one in tick["ramps"]] == [
        (NAME, "advance", 1)
    ]
    assert (tick["flags"]["version"], tick["flags"]["file_version"]) == (1, 1)
    again = run("ramp", "tick", home=ramped)
    assert f"{NAME}: hold" in again
    assert "stage 2 needs a person's approval" in again
    assert "Stage 2 of the ramp is approved by tutor-platform." in run(
        "ramp", "approve", NAME, "--stage", "2", *SAY, home=ramped
    )
    assert "had been approved by tutor-platform before" in run(
        "ramp", "approve", NAME, "--stage", "2", *SAY, home=ramped
    )
    assert "next tick: advance" in run("ramp", "status", NAME, home=ramped)
    assert f"{NAME}: advance (written)" in run("ramp", "tick", home=ramped)
    paused = run("ramp", "pause", NAME, *SAY, home=ramped)
    assert f"{NAME} is paused (transition 3)." in paused
    assert "version 3" in paused
    flag = json.loads((ramped / "flags" / "flags.flagd.json").read_text())["flags"][NAME]
    assert (flag["metadata"]["status"], "targeting" in flag) == ("paused", False)
    assert "paused at stage 2, 0 % of units" in run("ramp", "status", home=ramped)
    assert "cannot be paused: it is paused" in run("ramp", "pause", NAME, *SAY, home=ramped, code=2)
    assert f"{NAME} is resumed (transition 4)." in run("ramp", "resume", NAME, *SAY, home=ramped)
    assert "no decision to ship" in run("ramp", "ship", NAME, "--arm", "short", *SAY, home=ramped, code=2)
    rolled = told("ramp", "roll-back", NAME, *SAY, home=ramped)
    assert (rolled["transition"]["action"], rolled["transition"]["by"]) == ("roll_back", "tutor-platform")
    history = run("ramp", "history", NAME, home=ramped)
    for word in ("advance", "approve ramp 2", "pause", "resume", "roll back", "seen on the board", "50 %"):
        assert word in history
    lines = told("ramp", "history", NAME, home=ramped)
    assert [one["sequence"] for one in lines["transitions"]] == [1, 2, 3, 4, 5]
    assert f"{NAME}: rolled back (since" in run("life", NAME, home=ramped)
    assert f"{NAME} is closed" in run("ramp", "close", NAME, *SAY, home=ramped)
    (found,) = told("life", NAME, home=ramped)
    assert [step["state"] for step in found["steps"]] == [
        "draft",
        "locked",
        "ramping",
        "running",
        "paused",
        "running",
        "rolled_back",
        "closed",
    ]
    assert found["coming"] == []


def test_what_does_not_fit_is_explained(ramped: Path) -> None:
    assert "--stage N" in run("ramp", "approve", NAME, *SAY, home=ramped, code=2)
    assert "asks for no A/A result" in run("ramp", "approve", NAME, "--aa", *SAY, home=ramped, code=2)
    assert "stage 7 is not among those" in run(
        "ramp", "approve", NAME, "--stage", "7", *SAY, home=ramped, code=2
    )
    assert "reason is empty" in run("ramp", "pause", NAME, "--by", "us", "--reason", " ", home=ramped, code=2)
    assert "cannot be resumed: it is not started" in run("ramp", "resume", NAME, *SAY, home=ramped, code=2)
    for command in (("ramp", "status", "other"), ("ramp", "history", "other"), ("life", "other")):
        assert "other" in run(*command, home=ramped, code=2)


def test_life_lists_every_experiment_with_what_comes(ramped: Path) -> None:
    found = run("life", home=ramped)
    assert NAME in found
    assert "draft" in found
    one = told("life", NAME, home=ramped)[0]
    kinds = [coming["kind"] for coming in one["coming"]]
    assert kinds == ["horizon", "durability", "durability", "durability"]
    assert date.fromisoformat(one["coming"][0]["at"][:10]) == TODAY + 20 * DAY


def test_a_plan_shows_the_stages_and_which_of_them_its_traffic_cannot_climb(tmp_path: Path) -> None:
    stages = ("traffic: 0.01, dwell_days: 2, minimum_units: 900", "traffic: 1.0, dwell_days: 14")
    start = date(2026, 3, 9)
    home = written_home(tmp_path / "home", quick_hints(start, start + 28 * DAY, stages))
    out = run("plan", NAME, home=home)
    assert "stage   traffic   begins       days   dwell   units" in out
    # 9 of 900 units a day come in at 1 %.
    assert "    1       1 %   2026-03-09    100       2     900       900" in out
    assert "stage 1 (1 % of traffic) has its 900 units after about 100 days, not 2" in out
    assert "ask stage 1 for at most 18 units (or let it have 50 % of traffic), or move the end to" in out
    ramp = told("plan", NAME, home=home)["ramp"]
    assert [stage["first"] for stage in ramp["stages"]] == ["2026-03-09", "2026-06-17"]
    assert (ramp["full_from"], ramp["full_days"], ramp["planned_days"]) == ("2026-06-17", 0, 14)
