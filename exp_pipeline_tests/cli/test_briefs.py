"""An author's way at the terminal: `new`, `validate`, `queue`, `review`, `lock`, `brief`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.catalog import load_brief
from exp_pipeline.cli.app import app
from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline_tests.cli.test_light import refused

# What only an author can say; every other question has a default.
SAID = {
    "title": "Hints in steps", "change": "give help in steps", "population": "students",
    "context": "maths practice", "moves": "mastery rises", "because": "small hints leave the thinking",
    "without_harming": "waiting time", "owner": "maths", "on_call": "tutor", "decision_asked": "Ship it?",
    "arm.treatment": "Three small hints.", "primary": "mastery_loop_completion", "mde": "0.05",
}  # fmt: skip


def call(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], input=typed)


def options(**said: str) -> list[str]:
    return [
        part for key, text in (SAID | said).items() for part in ("--set", f"{key.replace('__', '.')}={text}")
    ]


def brief_file(home: Path, name: str) -> Path:
    return home / "catalog" / "experiments" / f"{name}.yaml"


def test_a_brief_is_written_without_questions(home: Path) -> None:
    said = options(risk_class="medium", guardrails="p95_latency_ms 0.1 relative", title="What: a # title")
    done = call("new", "step-hints", "--yes", *said, "--home", home)
    assert done.exit_code == 0, done.output
    assert "There is no history to tell the size from yet." in done.stdout
    assert "the reviews that it waits for (peer, data)" in done.stdout
    catalog = open_catalog(home / "catalog", strict=True)
    brief = catalog.briefs["step-hints"]
    assert brief.title == "What: a # title"
    assert brief.guardrails[0].margin_kind == "relative"
    assert brief.counter_metrics == ("answer_giveaway_rate",)
    assert (brief.start.weekday(), (brief.end - brief.start).days, brief.intake) == (0, 28, None)
    assert (
        "\n# The one metric that decides.\nprimary: mastery_loop_completion\n"
        in brief_file(home, "step-hints").read_text()
    )


def test_all_that_is_missing_and_wrong_is_told_at_once_and_nothing_written(home: Path) -> None:
    wrong = ("primary=mastery_loop", "mde=5%", "start=2026-13-01", "colour=red")
    given = [part for one in wrong for part in ("--set", one)]
    said = refused(call("new", "step-hints", "--yes", *given, "--home", home))
    assert "--set primary=mastery_loop: 'mastery_loop' is not one of the choices; did you mean" in said
    assert "--set mde=5%: % has two meanings: write 0.05 for 5 percentage points" in said
    assert "--set start=2026-13-01: '2026-13-01' is not a day; write it YYYY-MM-DD" in said
    assert "--set colour: there is no such question" in said
    for key in set(SAID) - {"primary", "mde"}:
        assert f"--set {key}=…: " in said
    assert not brief_file(home, "step-hints").exists()


def test_nothing_is_overwritten(home: Path) -> None:
    before = brief_file(home, "my-experiment").read_bytes()
    assert "is there already; `exp new` overwrites nothing" in refused(
        call("new", "my-experiment", "--yes", *options(), "--home", home)
    )
    assert brief_file(home, "my-experiment").read_bytes() == before


@pytest.mark.parametrize("name", ["Step_Hints", "../escape", "a b", "x" * 64, ".hidden"])
def test_a_name_that_is_none_is_refused_first(home: Path, name: str) -> None:
    files = sorted(home.rglob("*"))
    said = refused(call("new", name, "--yes", *options(), "--home", home))
    assert "is not a valid name; allowed: lower-case letters, digits and hyphens" in said
    assert sorted(home.rglob("*")) == files


def test_a_brief_can_begin_with_another(home: Path) -> None:
    source = brief_file(home, "my-experiment")
    done = call("new", "second", "--from", "my-experiment", "--yes", "--set", "arm.treatment=Other words.",
                "--set", "decision_asked=Again?", "--home", home)  # fmt: skip
    assert done.exit_code == 0, done.output
    first, second = load_brief(source, None), load_brief(brief_file(home, "second"), None)
    changed = {name for name in Brief.model_fields if getattr(first, name) != getattr(second, name)}
    assert changed == {"name", "arms", "decision_asked", "counter_metrics"}
    assert "--from nothing: cannot be read" in refused(
        call("new", "third", "--from", "nothing", "--yes", "--home", home)
    )


def test_a_wrong_answer_is_asked_again_at_once(home: Path) -> None:
    typed = {
        "title": ["Hints in steps"], "change": ["", "give help in steps"], "population": ["students"],
        "context": ["maths practice"], "moves": ["mastery rises"], "because": ["small hints help"],
        "without_harming": ["waiting time"], "owner": ["maths"], "on_call": ["tutor"],
        "decision_asked": ["Ship it?"], "risk_class": ["mediun", "medium"], "unit": ["class"],
        "arms": ["one", ""], "control": ["treatmen", ""], "arm.control": [""],
        "arm.treatment": ["Three small hints."], "start": ["soon", "2030-01-07"],
        "end": ["2030-01-01", "2030-02-04"], "primary": ["mastery_loop_completion"],
        "mde": ["much", "relative 0.1"], "secondary": ["mastery_loop_completion", "answer_accuracy"],
        "guardrails": ["p95_latency_ms", "p95_latency_ms 0.1 relative kill"], "counter": [""],
        "segments": ["platfrm", "platform -0.1"], "threshold": ["0.03"], "units": ["-5", "40"],
        "attrition": ["0.05"], "icc": ["1.5", "0.1"], "may_differ": ["prompt_version"],
        "new_logging": ["perhaps", "no"], "ramp": ["50 25 100", "5 25 100"], "calendar": [""],
        "impact": ["7", "4"], "confidence": ["3"], "effort": ["2"],
    }  # fmt: skip
    if not list((home / "catalog").glob("calendars/*.yaml")):
        del typed["calendar"]
    done = call(
        "new", "step-hints", "--home", home, typed="".join(f"{a}\n" for many in typed.values() for a in many)
    )
    assert done.exit_code == 0, done.output
    for said in (
        "did you mean `medium`?", "name at least two arms", "did you mean `treatment`?",
        "'soon' is not a day", "end 2030-01-01 must come after start 2030-01-07", "'much' is not a number",
        "each metric has one role", "write a metric and its margin", "did you mean `platform`?",
        "allowed: more than 0", "say yes or no", "must be more than the stage before it",
        "allowed: at least 1 and at most 5",
    ):  # fmt: skip
        assert said in done.stdout, said
    brief = open_catalog(home / "catalog", strict=True).briefs["step-hints"]
    assert (brief.randomisation_unit, brief.icc, brief.mde.relative) == ("class", 0.1, 0.1)
    assert [stage.traffic for stage in brief.ramp] == [0.05, 0.25, 1.0]
    assert brief.segments[0].floor is not None
    assert brief.intake is not None
    assert (brief.intake.impact, brief.intake.effort) == (4, 2)


def test_an_interrupted_conversation_writes_nothing(home: Path) -> None:
    assert call("new", "step-hints", "--home", home, typed="Hints\n").exit_code != 0
    assert not brief_file(home, "step-hints").exists()


def test_problems_are_grouped_by_file_with_their_lines(home: Path) -> None:
    brief = brief_file(home, "my-experiment")
    text = brief.read_text()
    broken = text.replace("alpha: 0.05", "alpha: 5").replace("treatment, share: 0.5", "treatment, share: 0.4")
    brief.write_text(broken)
    shutil.copy(brief, brief_file(home, "second"))
    said = call("validate", "--home", home)
    assert said.exit_code == 1
    head, first, second = said.stderr.rstrip().split("\n\n")
    assert head.startswith("5 problems in the catalog:")
    assert first.splitlines()[0] == f"{brief}: 2 problems"
    assert second.splitlines()[0] == f"{brief_file(home, 'second')}: 3 problems"
    line = text.splitlines().index("alpha: 0.05") + 1
    told = f"line {line:<4} alpha: is out of range (value: 5); allowed: more than 0 and less than 0.5"
    assert told in first
    assert "arms: arm shares must add up to 1, they add up to 0.9" in first
    assert "name: another brief has this name" in second
    machine = json.loads(call("validate", "--home", home, "--json").stdout)
    assert len(machine["problems"]) == 5


def test_readiness_of_every_draft_at_once(home: Path) -> None:
    said = call("validate", "--readiness", "--home", home)
    assert said.exit_code == 1
    assert "my-experiment is not ready to start:" in said.stdout
    assert "reviews: a low-risk change needs a review of kind 'peer'" in said.stdout
    facts = json.loads(call("validate", "--readiness", "--home", home, "--json").stdout)
    assert {gap["field"] for gap in facts["gaps"]["my-experiment"]} == {"reviews", "receipt"}


def ready(home: Path) -> None:
    path = brief_file(home, "my-experiment")
    path.write_text(
        path.read_text() + "receipt: {may_differ: []}\nintake: {impact: 5, confidence: 4, effort: 2}\n"
    )


def test_from_the_queue_to_a_lock_and_its_history(home: Path) -> None:
    ready(home)
    (row,) = json.loads(call("queue", "--home", home, "--json").stdout)["rows"]
    assert (row["state"], row["priority"], row["waits_for"]) == ("draft", 40.0, ["peer"])
    shown = call("queue", "--home", home).stdout
    assert "peer (any other product team): Does the design answer the question" in shown
    said = refused(call("lock", "my-experiment", "--by", "maths", "--home", home))
    assert "is not ready to start:\n  reviews: " in said
    assert "ask for it, then `exp review my-experiment --kind peer --by TEAM`" in said
    for told in ("Recorded: peer review of my-experiment by maths.", "This review was recorded before."):
        done = call("review", "my-experiment", "--kind", "peer", "--by", "maths", "--home", home)
        assert (done.exit_code, done.stdout.splitlines()) == (0, [told, "It waits for no further review."])
    assert "kind must be one of peer, data" in refused(
        call("review", "my-experiment", "--kind", "legal", "--by", "maths", "--home", home)
    )
    locked = call("lock", "my-experiment", "--by", "maths", "--home", home)
    assert locked.stdout.startswith("my-experiment is locked as ")
    assert "There is no draft" in call("queue", "--home", home).stdout
    assert json.loads(call("queue", "--all", "--home", home, "--json").stdout)["rows"][0]["state"] == "locked"
    path = brief_file(home, "my-experiment")
    path.write_text(path.read_text().replace("alpha: 0.05", "alpha: 0.1"))
    history = call("brief", "my-experiment", "--history", "--home", home)
    assert "changed since in 1 field" in history.stdout
    assert "alpha: 0.05 -> 0.1" in history.stdout
    assert "(counts no more: alpha" in " ".join(history.stdout.split())
    facts = json.loads(call("brief", "my-experiment", "--home", home, "--json").stdout)
    assert [line["what"] for line in facts["history"]] == ["readiness", "review", "readiness", "locked"]
    assert facts["waits_for"] == ["peer"]


def test_a_brief_in_words_says_what_it_lacks(home: Path) -> None:
    said = call("brief", "my-experiment", "--home", home).stdout
    assert "Not locked: it may still be changed." in said
    assert "missing: intake: impact, confidence and effort, 1 to 5 each" in said
    assert "Priority: not given (the brief gives no intake" in said


@pytest.mark.parametrize("command", ["brief", "lock", "review"])
def test_an_unknown_experiment_is_answered_with_those_that_exist(home: Path, command: str) -> None:
    more = {"lock": ["--by", "maths"], "review": ["--by", "maths", "--kind", "peer"]}.get(command, [])
    assert "there are: my-experiment" in refused(call(command, "other", *more, "--home", home))
