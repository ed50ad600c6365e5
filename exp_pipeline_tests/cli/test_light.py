"""Commands that need no data: what they print, and how they explain a mistake."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline.cli.bundle import SAMPLE_KEY, is_sample, sample_root
from exp_pipeline.cli.sample import in_turn
from exp_pipeline.cli.terminal import clean
from exp_pipeline.store.state import StateLog
from exp_pipeline.transform.assignment import arm_of

COMMANDS = (
    "demo", "init", "validate", "events", "metrics", "run", "plan", "status", "quality", "readout", "unblind",
    "diff", "decisions", "decide", "warehouse", "analyze", "assign", "simulate", "doctor",
)  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def refused(result: Result) -> str:
    """What a refused command said on stderr; nothing on stdout, no traceback, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_every_command_says_what_it_is_for() -> None:
    listed = call("--help")
    assert listed.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in listed.stdout
        shown = call(name, "--help")
        assert shown.exit_code == 0
        assert "--json" in shown.stdout


def test_a_new_home_is_valid_and_its_template_too(home: Path) -> None:
    done = call("validate", "--home", home, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) | {"valid": True, "experiments": 1} == json.loads(done.stdout)


def test_init_overwrites_nothing(home: Path) -> None:
    before = sorted(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert "overwrites nothing" in refused(call("init", home))
    assert sorted(path.read_bytes() for path in home.rglob("*") if path.is_file()) == before


def test_validate_tells_every_problem_at_once(home: Path) -> None:
    brief = home / "catalog" / "experiments" / "my-experiment.yaml"
    brief.write_text(
        brief.read_text()
        .replace("primary: mastery_loop_completion", "primary: mastery_loop_completions")
        .replace("risk_class: low", "risk_class: tiny")
    )
    done = call("validate", "--home", home)
    assert done.exit_code == 1
    assert "2 problems" in done.stderr
    assert "mastery_loop_completions" in done.stderr
    assert "my-experiment.yaml:" in done.stderr
    assert "did you mean" in done.stderr.lower()
    assert "low" in done.stderr
    machine = call("validate", "--home", home, "--json")
    assert machine.exit_code == 1
    assert {one["field"] for one in json.loads(machine.stdout)["problems"]} == {"primary", "risk_class"}


def test_a_home_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = refused(call("status", "--home", tmp_path / "absent"))
    assert "there is no data folder" in said
    assert "exp init" in said


@pytest.mark.parametrize(
    "command", [["plan"], ["readout"], ["unblind", "--reason", "why", "--by", "maths"], ["assign", "u1"]]
)
def test_an_unknown_experiment_is_answered_with_those_that_exist(home: Path, command: list[str]) -> None:
    name, *rest = command
    said = refused(call(name, "other", *rest, "--home", home))
    assert "'other'" in said
    assert "there are: my-experiment" in said


def test_run_needs_a_known_experiment(home: Path) -> None:
    assert "'other'" in refused(call("run", "--experiment", "other", "--home", home))


def test_run_without_a_key_says_how_to_set_one(home: Path) -> None:
    said = refused(call("run", "--home", home))
    assert "EXP_HMAC_KEY is not set" in said
    assert "openssl rand" in said


def test_a_short_key_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXP_HMAC_KEY", "short")
    said = refused(call("run", "--home", home))
    assert "16 bytes" in said
    assert "short" not in said.replace("EXP_HMAC_KEY", "")


def test_an_empty_landing_folder_is_said_to_be_empty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXP_HMAC_KEY", SAMPLE_KEY)
    for command in ("run", "demo"):
        said = refused(call(command, "--home", home))
        assert "nothing has landed" in said
        assert "received_date=YYYY-MM-DD" in said


def test_the_sample_key_stands_in_for_the_bundled_sample_alone(home: Path) -> None:
    landing = home / "landing" / "received_date=2026-03-01"
    landing.mkdir()
    (landing / "a.ndjson").write_text("{}\n")
    assert "EXP_HMAC_KEY is not set" in refused(call("demo", "--home", home))
    own = sample_root()
    assert own is not None
    assert is_sample(own)
    assert not is_sample(home)


def test_the_sample_is_replayed_up_to_each_start_in_turn() -> None:
    def day(number: int) -> date:
        return date(2026, 3, number)

    assert in_turn(day(1), day(30), []) == [(day(1), day(30))]
    assert in_turn(day(1), day(30), [day(20), day(9), day(9)]) == [
        (day(1), day(9)),
        (day(6), day(20)),
        (day(17), day(30)),
    ]
    assert in_turn(day(9), day(30), [day(1), day(10), day(30)]) == [(day(9), day(10)), (day(9), day(30))]


def test_days_in_the_wrong_order_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXP_HMAC_KEY", SAMPLE_KEY)
    (home / "landing" / "received_date=2026-03-01").mkdir()
    said = refused(call("run", "--home", home, "--from", "2026-03-05", "--to", "2026-03-01"))
    assert "--to 2026-03-01 lies before --from 2026-03-05" in said


def test_errors_are_json_too_where_json_is_asked_for(home: Path) -> None:
    done = call("plan", "other", "--home", home, "--json")
    assert done.exit_code == 2
    assert "'other'" in json.loads(done.stdout)["error"]
    assert "'other'" in done.stderr


def test_a_traceback_is_shown_only_on_request(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in call("--verbose", "plan", "other", "--home", home).stderr
    monkeypatch.setenv("EXP_DEBUG", "1")
    assert "Traceback" in call("plan", "other", "--home", home).stderr


def test_unblinding_is_recorded_once_and_only_with_a_reason(home: Path) -> None:
    asked = ("unblind", "my-experiment", "--home", home)
    assert "--reason is empty" in refused(call(*asked, "--by", "maths", "--reason", "  "))
    assert "--by is empty" in refused(call(*asked, "--by", " ", "--reason", "why"))
    assert call(*asked, "--by", "maths").exit_code == 2
    assert call(*asked, "--reason", "why").exit_code == 2
    first = call(*asked, "--by", "maths", "--reason", "a safety\nquestion", "--json")
    again = call(*asked, "--by", "maths", "--reason", "a safety question", "--json")
    assert [json.loads(one.stdout)["recorded"] for one in (first, again)] == [True, False]
    (entry,) = StateLog(home / "state" / "state.sqlite").entries("unblinding", "my-experiment")
    assert entry.content == {"reason": "a safety question", "by": "maths", "version": 1}


def test_units_are_assigned_by_the_briefs_own_hash(home: Path, tmp_path: Path) -> None:
    names = [f"learner-{number}" for number in range(40)]
    (tmp_path / "ids.txt").write_text("\n".join(names) + "\n\n")
    done = call("assign", "my-experiment", "--file", tmp_path / "ids.txt", "--home", home, "--json")
    shares = {"control": 0.5, "treatment": 0.5}
    expected = [{"unit_id": name, "arm": arm_of("my-experiment", 1, name, shares)} for name in names]
    assert json.loads(done.stdout) == expected
    assert {one["arm"] for one in expected} == set(shares)


def test_units_are_assigned_without_a_brief() -> None:
    arms = ("--arms", "control=0.5,treatment=0.5", "--scheme", "percent-v1", "--version", "2")
    done = call("assign", "free", "u1", "u2", *arms, "--json")
    shares = {"control": 0.5, "treatment": 0.5}
    assert json.loads(done.stdout) == [
        {"unit_id": unit, "arm": arm_of("free", 2, unit, shares, scheme="percent-v1")}
        for unit in ("u1", "u2")
    ]
    nobody = call("assign", "free", "u1", "--arms", "a=0.5,b=0.5", "--traffic", "0.0001")
    assert nobody.stdout == "u1\t(not in the experiment)\n"


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ("a=0.5,b", "is not an arm with its share"),
        ("a=0.5,a=0.5", "is not an arm"),
        ("a=0.5,b=0.4", "add up to 1"),
    ],
)
def test_arms_that_make_no_sense_are_refused(arms: str, said: str) -> None:
    assert said in refused(call("assign", "free", "u1", "--arms", arms))


def test_nothing_to_assign_is_said() -> None:
    assert "no unit to assign" in refused(call("assign", "free", "--arms", "a=0.5,b=0.5"))


def test_foreign_text_cannot_steer_the_terminal() -> None:
    assert clean("red \x1b[31m, back \u202e, fine\u00a0\n\tline") == "red �[31m, back �, fine\u00a0\n\tline"


def test_the_doctor_names_every_trouble_with_its_remedy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ill = call("doctor", "--home", home, "--json")
    assert ill.exit_code == 1
    found = {one["name"]: one for one in json.loads(ill.stdout)}
    assert found["EXP_HMAC_KEY"]["verdict"] == "error"
    assert "openssl" in found["EXP_HMAC_KEY"]["remedy"]
    assert found["landing"]["verdict"] == "warning"
    assert {found[name]["verdict"] for name in ("Python", "packages", "Dagster", "DuckDB", "catalog")} == {
        "ok"
    }
    monkeypatch.setenv("EXP_HMAC_KEY", "k" * 40)
    well = call("doctor", "--home", home)
    assert well.exit_code == 0, well.output
    (home / "landing" / "received_date=march").mkdir()
    damaged = call("doctor", "--home", home)
    assert damaged.exit_code == 1
    assert "YYYY-MM-DD" in damaged.stdout
    nowhere = call("doctor", "--home", home / "absent")
    assert nowhere.exit_code == 1
    assert "exp init" in nowhere.stdout


def test_status_of_a_new_home(home: Path) -> None:
    done = call("status", "--home", home, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["events"], found["newest_event_day"]) == (0, None)
    assert [(one["name"], one["life"]) for one in found["experiments"]] == [("my-experiment", "draft")]
    assert "nothing has landed" in call("status", "--home", home).stdout


def test_plan_without_history_says_so(home: Path) -> None:
    done = call("plan", "my-experiment", "--home", home)
    assert done.exit_code == 0, done.output
    assert "no history" in done.stdout
    assert "not checked" in done.stdout


def test_a_readout_that_was_never_made_says_how_to_make_it(home: Path) -> None:
    assert "exp run --experiment my-experiment" in refused(call("readout", "my-experiment", "--home", home))


def test_the_demos_world_is_fixed(tmp_path: Path) -> None:
    said = refused(call("simulate", "--plan", "demo", "--out", tmp_path / "l", "--events", "20000"))
    assert "bench" in said
    assert "at least 10000" in refused(
        call("simulate", "--plan", "bench", "--out", tmp_path / "l", "--events", "5")
    )
