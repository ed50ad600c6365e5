"""`exp metrics`: the list, the tree, one metric in full, and the commands of a backfill."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import get_args

import duckdb
import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline.cli.metrics import tell
from exp_pipeline.cli.runs import open_bench, run_all
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.metrics import MetricType
from exp_pipeline.steps.assignment.exposure import build_assignments, build_enrollments
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window
from exp_pipeline.steps.experiments.metric_sheet import metric_sheet
from exp_pipeline.steps.experiments.planning import check_readiness, history_of
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.store.home import Home
from exp_pipeline_tests.cli.calling import ROOT
from exp_pipeline_tests.steps.conftest import commit_events

WIDTH = 80


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["metrics", *map(str, arguments)])


def told(*arguments: object) -> list[str]:
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_the_list_holds_every_metric_once(home: Path) -> None:
    known = open_catalog(home / "catalog").metrics
    lines = told("--home", home)
    named = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert sorted(named) == sorted(known)
    assert all(len(line) <= WIDTH for line in lines)
    assert f"{len(known)} metrics" in "\n".join(lines)
    assert "    retention, share, days 1-7, per learner; learning-data" in lines


def test_filters_of_the_list(home: Path) -> None:
    shown = json.loads(
        call("--kind", "input", "--event", "answer_attempted", "--home", home, "--json").stdout
    )
    assert {one["kind"] for one in shown} == {"input"}
    names = {one["name"] for one in shown}
    assert {"answer_accuracy", "next_step_compliance"} <= names
    assert names.isdisjoint({"hint_rate", "rubric_quality"})
    # Through its parts.
    assert "helpfulness" in "\n".join(told("--event", "rubric_scored", "--home", home))
    assert told("--event", "experiment_exposed", "--home", home) == ["No metric fits."]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kind", "vanity"), "there are: north-star, output, input, guardrail"),
        (("--event", "click"), "there is no event 'click'"),
        (("show", "answer_acuracy"), "did you mean `answer_accuracy`"),
        (("needs", "nothing"), "no usable brief for experiment 'nothing'"),
    ],
)
def test_mistakes_are_explained(home: Path, arguments: tuple[str, ...], words: str) -> None:
    done = call(*arguments, "--home", home)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_the_tree_is_drawn_in_80_columns(home: Path) -> None:
    lines = told("tree", "--home", home)
    assert all(len(line) <= WIDTH for line in lines)
    start = lines.index("mastery_loop_completion ↑  north star, distal  <> answer_giveaway_rate")
    assert lines[start + 1].startswith("├─ ")
    first_try = next(place for place, line in enumerate(lines) if "─ first_try_accuracy ↑" in line)
    assert "└─ answer_accuracy ↑" in lines[first_try - 1]
    assert lines[first_try].index("first_try") == lines[first_try - 1].index("answer_acc") + 3
    names = [one["name"] for one in json.loads(call("tree", "--home", home, "--json").stdout)]
    assert sorted(names) == sorted(open_catalog(home / "catalog").metrics)
    text = "\n".join(lines)
    assert text.index("\nGuardrails") < text.index("refusal_rate ↓  <>") < text.index("\nApart")


def test_one_metric_in_full(home: Path) -> None:
    lines = told("show", "normalised_learning_gain", "--home", home)
    assert all(len(line) <= WIDTH for line in lines)
    text = "\n".join(lines)
    for words in (
        "normalised_learning_gain\nNormalised learning gain\n",
        "pretest_possible, from the 28 days before assignment",
        "days 0-27 since assignment",
        "used by     no brief yet",
        "reads assessment_kind, score of assessment_completed",
        "not summed up until a brief asks for it",
        "normalised_learning_gain__pre (score)",
    ):
        assert words in text, words


def test_every_metric_can_be_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = open_catalog(home / "catalog")
    for name, metric in catalog.metrics.items():
        tell(metric_sheet(catalog, name))
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line) > WIDTH and " " in line.strip()] == []
        assert lines[:2] == [name, metric.title]


def test_the_sql_shown_is_the_sql_that_counts(home: Path) -> None:
    shown = json.loads(call("show", "stuck_rate", "--home", home, "--json").stdout)
    wrong, marked = shown["measures"]
    assert wrong["name"] == "stuck_answers"
    events = (
        "(values ('answer_attempted', false, 3), ('answer_attempted', false, 2), "
        "('answer_attempted', true, 4), ('hint_requested', false, 9), ('answer_attempted', null, 5)) "
        "as e(event_name, correct, attempt_number)"
    )
    with duckdb.connect() as connection:
        found = connection.execute(f"select {wrong['sql']}, {marked['sql']} from {events}").fetchone()
        assert found == (1, 3)
        (total,) = connection.execute(
            f"select {shown['totals']['stuck_rate__num']} from (values (1), (3)) as d(stuck_answers)"
        ).fetchone() or (None,)
        assert total == 4


def test_who_uses_a_metric(home: Path) -> None:
    sheet = metric_sheet(open_catalog(home / "catalog"), "p95_latency_ms")
    assert sheet.used_by == {"my-experiment": "guardrail"}
    assert {"p50_first_token_ms", "timeout_rate"} <= set(sheet.guards)
    assert sheet.driven_by == ()


@pytest.fixture
def begun(home: Path) -> tuple[Path, date]:
    """A data folder with two days of an experiment, made without the measures that it asks for then."""
    start = open_catalog(home / "catalog").briefs["my-experiment"].start
    days: dict[date, list[dict[str, object]]] = {}
    for offset in range(2):
        at = datetime(start.year, start.month, start.day, 9 + offset) + DAY * offset
        common = {
            "learner_key": 1, "learner_id": f"{1:032x}", "event_date": at.date(), "role": "student",
            "platform": "web", "app_version": "1", "objective_changed": False, "device_handover": False,
        }  # fmt: skip
        assigned = {
            "event_name": "experiment_assigned", "experiment": "my-experiment", "experiment_version": 1,
            "unit_type": "learner", "unit_id": f"{1:032x}", "arm": "control",
        }  # fmt: skip
        days[at.date()] = [
            {**common, **assigned, "occurred_at": at, "event_id": f"a{offset}"},
            {**common, "event_name": "tutor_turn_response_shown", "turn_id": "t", "ttft_ms": 90.0,
             "occurred_at": at.replace(minute=5), "event_id": f"r{offset}"},
        ]  # fmt: skip
    with open_bench(Home(home)) as bench:
        commit_events(bench, days)
        window = Window.of(start, start + DAY)
        for step in (build_learner_days, build_sessions, build_assignments):
            step(bench, window)
        build_enrollments(bench)
        build_unit_days(bench, window)
    return home, start


def ask(home: Path, *metrics: str) -> None:
    """Have the experiment look at more metrics."""
    brief = home / "catalog" / "experiments" / "my-experiment.yaml"
    lines = [line for line in brief.read_text().splitlines() if not line.startswith("secondary:")]
    place = next(place for place, line in enumerate(lines) if line.startswith("primary:"))
    lines.insert(place + 1, f"secondary: [{', '.join(metrics)}]")
    brief.write_text("\n".join(lines) + "\n")


def test_what_days_lack_and_how_to_make_them_again(begun: tuple[Path, date]) -> None:
    home, start = begun
    assert told("needs", "--home", home) == [
        "Nothing: every day holds the measures that the metrics ask for."
    ]
    ask(home, "p50_first_token_ms", "unanswered_message_rate")
    ends = f"--from {start} --to {start + DAY} --home {home}"
    commands = [
        f"exp run --table learner_days {ends}",
        f"exp run --table unit_days {ends}",
        f"exp run --experiment my-experiment --home {home}",
    ]
    lines = told("needs", "my-experiment", "--home", home)
    assert [line.strip() for line in lines[-3:]] == commands
    text = " ".join(" ".join(lines).split())
    assert f"learner_days {start} to {start + DAY} lack first_token_ms (asked for by my-experiment)" in text
    assert "lack first_token_ms, messages_unanswered (asked for by my-experiment)" in text
    found = json.loads(call("needs", "--home", home, "--json").stdout)
    assert found["commands"] == commands
    assert {(one["table"], one["measure"]) for one in found["needs"]} == {
        ("learner_days", "first_token_ms"),
        ("unit_days", "first_token_ms"),
        ("unit_days", "messages_unanswered"),
    }


def test_days_made_again_need_nothing(begun: tuple[Path, date]) -> None:
    home, start = begun
    ask(home, "p50_first_token_ms")
    with open_bench(Home(home)) as bench:
        window = Window.of(start, start + DAY)
        build_learner_days(bench, window)
        build_unit_days(bench, window)
    assert told("needs", "--home", home)[0].startswith("Nothing")


def test_a_plan_asks_for_days_before_the_start(begun: tuple[Path, date]) -> None:
    home, start = begun
    brief = home / "catalog" / "experiments" / "my-experiment.yaml"
    later = start + DAY * 5
    brief.write_text(brief.read_text().replace(f"start: {start}", f"start: {later}"))
    ask(home, "p50_first_token_ms")
    found = json.loads(call("needs", "--home", home, "--json").stdout)
    assert [(one["table"], one["measure"], one["days"]) for one in found["needs"]] == [
        ("learner_days", "first_token_ms", [str(start), str(start + DAY)])
    ]


def test_the_library_in_docs_is_the_one_that_ships(tmp_path: Path) -> None:
    page = ROOT / "docs" / "metrics.md"
    copy = tmp_path / "metrics.md"
    copy.write_text(page.read_text())
    assert told("--markdown", copy, "--home", ROOT / "data") == [f"Wrote {copy}"]
    assert copy.read_text() == page.read_text(), (
        "write it again: exp metrics --home data --markdown docs/metrics.md"
    )
    for name in open_catalog(ROOT / "data" / "catalog").metrics:
        assert page.read_text().count(f"\n| `{name}` |") == 1


def test_every_type_of_metric_stands_in_docs() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for name in get_args(MetricType):
        assert f"`{name}`" in text.split("## What is summed up")[0], name


def test_markdown_touches_only_what_stands_between_its_marks(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    told("--kind", "north-star", "--markdown", page, "--home", home)
    page.write_text(f"Before.\n{page.read_text()}After.\n")
    first = page.read_text()
    told("--kind", "north-star", "--markdown", page, "--home", home)
    assert page.read_text() == first
    assert first.startswith("Before.\n<!-- library")
    assert first.endswith("-->\nAfter.\n")
    page.write_text("No marks.")
    refused = call("--markdown", page, "--home", home)
    assert (refused.exit_code, page.read_text()) == (2, "No marks.")
    assert "must hold <!-- library" in refused.stderr


def test_a_plan_takes_no_history_from_days_that_lack_a_measure(begun: tuple[Path, date]) -> None:
    home, start = begun
    brief = home / "catalog" / "experiments" / "my-experiment.yaml"
    brief.write_text(brief.read_text().replace(f"start: {start}", f"start: {start + DAY * 5}"))
    with open_bench(Home(home)) as bench:
        whole = history_of(bench, bench.catalog.briefs["my-experiment"])
    assert (whole.days, whole.lacking) == (2, 0)
    ask(home, "p50_first_token_ms")
    with open_bench(Home(home)) as bench:
        without = history_of(bench, bench.catalog.briefs["my-experiment"])
        assert (without.days, without.baseline, without.lacking) == (0, None, 2)
        assert "2 days of history lack measures: see `exp metrics needs my-experiment`" in (
            check_readiness(bench, "my-experiment").unchecked
        )
        # Only the newest run of days that hold every measure is history.
        build_learner_days(bench, Window.of(start + DAY, start + DAY))
        part = history_of(bench, bench.catalog.briefs["my-experiment"])
        assert (part.days, part.lacking) == (1, 1)


def test_a_run_of_a_table_that_is_none_is_refused() -> None:
    with pytest.raises(ExpError, match=r"no daily table 'mad'; there are: .*learner_days.*unit_days"):
        run_all([], [], quiet=True, verbose=False, warehouse=False, tables=["unit_days", "mad"])
