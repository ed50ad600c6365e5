"""`exp events`: the list, one event, the files, and the catalogue in docs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline_tests.cli.calling import ROOT

DOCS, HOME = ROOT / "docs", ROOT / "data"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["events", *map(str, arguments)])


def test_the_list_names_every_version_and_how_many_metrics_use_it() -> None:
    done = call("--home", HOME)
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["feedback_given", "1.1", "ends", "2027-12-31", "learning-data"] in [line[:5] for line in lines]
    assert ["feedback_given", "2.0", "current", "learning-data"] in [line[:4] for line in lines]


def test_one_event_is_told_in_full() -> None:
    done = call("answer_attempted", "--home", HOME)
    assert done.exit_code == 0, done.output
    for told in (
        "answer_attempted 1.1 (current)",
        "mastery_points",
        "Metrics: ",
        "score <= max_score",
        '"correct"',
    ):
        assert told in done.stdout


def test_machines_get_the_same(home: Path) -> None:
    (one,) = json.loads(call("tutor_turn_submitted", "--home", home, "--json").stdout)
    assert one["version"] == "1.1"
    assert "turns_per_session" not in one["metrics"]
    assert one["sample"]["event_name"] == "tutor_turn_submitted"
    assert {"turn_id"} <= {field["name"] for field in one["fields"] if field["required"]}


def test_metrics_are_found_through_measures_and_parts() -> None:
    """Each metric that reads answers is named by answer_attempted, found here by the files' own text."""
    import yaml

    measures: dict[str, list[str]] = {}
    metrics: dict[str, set[str]] = {}
    for path in sorted((HOME / "catalog" / "metrics").glob("*.yaml")):
        written = yaml.safe_load(path.read_text())
        measures |= {one["name"]: one.get("events", []) for one in written.get("measures", [])}
        for one in written.get("metrics", []):
            scores = [score for name in ("pre", "post") for score in (one.get(name) or {}).values()]
            own = [one.get("numerator"), one.get("denominator"), *one.get("steps", []), *scores]
            metrics[one["name"]] = {name for name in own if isinstance(name, str)} | {
                f"metric:{part['metric']}" for part in one.get("parts", [])
            }
    reading = {m for m, of in metrics.items() if any("answer_attempted" in measures.get(n, []) for n in of)}
    reading |= {m for m, of in metrics.items() if {f"metric:{one}" for one in reading} & of}
    (told,) = json.loads(call("answer_attempted", "--home", HOME, "--json").stdout)
    assert set(told["metrics"]) == reading
    assert reading


def test_without_a_data_folder_events_are_told_without_metrics() -> None:
    done = call("goal_reached")
    assert done.exit_code == 0, done.output
    assert "Metrics" not in done.stdout
    assert json.loads(call("goal_reached", "--json").stdout)[0]["metrics"] is None


def test_an_unknown_event_or_folder_is_told() -> None:
    done = call("tutor_woke")
    assert done.exit_code == 2
    assert "there is no event 'tutor_woke'" in done.stderr
    assert call("--home", "nowhere").exit_code == 2


@pytest.mark.parametrize(("option", "name"), [("--html", "events.html"), ("--markdown", "events.md")])
def test_the_catalogue_in_docs_is_true(option: str, name: str, tmp_path: Path) -> None:
    made = tmp_path / name
    done = call(option, made, "--home", HOME)
    assert done.exit_code == 0, done.output
    assert f"Wrote {made}" in done.stdout.replace("\n", "")
    assert (DOCS / name).read_text(encoding="utf-8") == made.read_text(encoding="utf-8"), (
        "the contracts or the metrics changed: run "
        "`exp events --html docs/events.html --markdown docs/events.md` and commit both files"
    )


def test_what_is_deprecated_is_listed_before_there_are_events(home: Path) -> None:
    done = call("--deprecated", "--home", home)
    assert done.exit_code == 0, done.output
    assert "There are no events yet" in done.stdout
    found = json.loads(call("--deprecated", "--home", home, "--json").stdout)
    version = next(one for one in found if one["field"] is None)
    assert (version["event"], version["last_day"], version["rows"]) == ("feedback_given", "2027-12-31", None)
    assert call("goal_reached", "--deprecated", "--home", home).exit_code == 2
