"""`exp readout`, `diff`, `decisions`, `decide`, `warehouse`: what they print, give machines, and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import memo_json, memo_markdown
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.samples import blinded

NAME = ship().experiment


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def refused(result: Result) -> str:
    """What a refused command said on stderr; no traceback, exit code 2."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


def keep(home: Path, readout: Readout) -> str:
    """Put a readout where its step writes it, as the current one; gives its snapshot."""
    name, snapshot = readout.experiment, readout.provenance.snapshot
    marts = Marts(home / "marts")
    inputs = {"brief": readout.provenance.brief_digest, "as_of": readout.as_of.isoformat(), "tables": {}}
    marts.add(name, snapshot, {"as_of": readout.as_of.isoformat(), "inputs": inputs}, lambda folder: None)
    marts.point(name, snapshot)
    path = home / "readouts" / f"experiment={name}" / f"snapshot={snapshot}" / "readout.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(readout.model_dump_json(indent=1) + "\n")
    return snapshot


def later(readout: Readout) -> Readout:
    """The next readout: another title, another snapshot, one day more."""
    of = readout.provenance.model_copy(update={"snapshot": "ffff000011112222", "brief_digest": "0" * 64})
    brief = readout.brief.model_copy(update={"title": "Another title"})
    decision = readout.decision.model_copy(update={"outcome": "iterate"})
    return readout.model_copy(update={"provenance": of, "brief": brief, "decision": decision})


def test_a_readout_is_printed_as_it_was_sealed_though_its_brief_is_gone(home: Path) -> None:
    readout = ship()
    snapshot = keep(home, readout)
    first = call("readout", NAME, "--home", home, "--json")
    assert first.exit_code == 0, first.output
    assert first.stdout == memo_json(readout)
    assert call("readout", NAME, "--snapshot", snapshot, "--home", home, "--format", "json").stdout == (
        first.stdout
    )
    assert call("readout", NAME, "--home", home).stdout.strip() == memo_markdown(readout).strip()
    page = Path(call("readout", NAME, "--home", home, "--format", "html-path").stdout.strip())
    assert page.read_text().startswith("<!")
    page.write_text("<p>Ship it.</p>")
    assert "changed after it was sealed" in refused(
        call("readout", NAME, "--home", home, "--format", "html-path")
    )
    assert "no snapshot 0000" in refused(call("readout", NAME, "--snapshot", "0000", "--home", home))


def test_two_readouts_are_compared_as_text_markdown_and_json(home: Path) -> None:
    old, new = keep(home, ship()), keep(home, later(ship()))
    text = call("diff", NAME, old, "--home", home)
    assert text.exit_code == 0, text.output
    for words in ("Another title", "from ship to iterate", "Brief changed", old, new):
        assert words in text.stdout
    markdown = call("diff", NAME, old, new, "--home", home, "--format", "md").stdout
    assert markdown.startswith("# ")
    assert "Another title" in markdown
    found = json.loads(call("diff", NAME, old, new, "--home", home, "--json").stdout)
    assert [(one["field"], one["now"]) for one in found["brief"]] == [("title", "Another title")]
    assert [one["why"] for one in found["inputs"]] == ["brief"]
    assert found["outcomes"] == [{"arm": None, "before": ship().decision.outcome, "now": "iterate"}]
    assert "no snapshot 0000" in refused(call("diff", NAME, "0000", "--home", home))


def test_nothing_is_told_of_effects_where_one_readout_hides_them(home: Path) -> None:
    of = blinded().provenance.model_copy(update={"snapshot": "bbbb000011112222"})
    hidden = blinded().model_copy(update={"experiment": NAME, "provenance": of, "brief": blinded().brief})
    old, new = keep(home, ship()), keep(home, hidden)
    told = call("diff", NAME, old, new, "--home", home, "--json").stdout
    found = json.loads(told)
    assert found["effects_hidden_because"]
    assert found["rules"] == []
    assert {one["role"] for one in found["movements"]} <= {"guardrail"}
    shown = told + call("diff", NAME, new, old, "--home", home, "--format", "md").stdout
    for estimate in ship().estimates:
        if estimate.role == "primary" and estimate.absolute:
            assert repr(estimate.absolute) not in shown


def test_what_people_decide_is_logged_and_found(home: Path) -> None:
    snapshot = keep(home, ship())
    asked = ("decide", NAME, "--home", home, "--by", "maths", "--reason", "Too dear for schools.")
    done = call(*asked, "--outcome", "iterate")
    assert done.exit_code == 0, done.output
    assert "maths decided to iterate" in done.stdout
    assert f"recommends: {ship().decision.outcome.replace('_', ' ')}" in done.stdout
    assert "logged before" in call(*asked, "--outcome", "iterate").stdout
    (entry,) = state_log(Home(home)).entries("decision", NAME)
    assert entry.content["because"] == "Too dear for schools."
    (row,) = json.loads(call("decisions", NAME, "--search", "DEAR maths", "--home", home, "--json").stdout)
    assert (row["kind"], row["outcome"], row["differs"], row["snapshot"]) == (
        "decided", "iterate", True, snapshot,
    )  # fmt: skip
    assert "rules recommended: ship)" in " ".join(call("decisions", "--home", home).stdout.split())
    assert (
        "No decision is logged that fits" in call("decisions", "--search", "nowhere", "--home", home).stdout
    )
    for page in ("index", "decisions", "reviews"):
        assert (home / "readouts" / f"{page}.html").is_file()
    assert "Too dear for schools." in (home / "readouts" / "decisions.html").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("--by", " "), "--by is empty"),
        (("--reason", "\n"), "--reason is empty"),
        (("--arm", "nobody"), "arm 'nobody' is not among the treatment arms"),
        (("--snapshot", "0000"), "no snapshot 0000"),
    ],
)
def test_a_decision_that_cannot_be_logged_is_refused(home: Path, changes: tuple[str, str], said: str) -> None:
    keep(home, ship())
    given = {"--by": "maths", "--reason": "Why not.", "--outcome": "ship", changes[0]: changes[1]}
    arguments = [part for pair in given.items() for part in pair]
    assert said in refused(call("decide", NAME, "--home", home, *arguments))
    assert state_log(Home(home)).entries("decision") == ()


def test_an_unknown_experiment_is_named(home: Path) -> None:
    for command in (("diff", "other", "a"), ("readout", "other"), ("decisions", "other")):
        assert "'other'" in refused(call(*command, "--home", home))
    missing = call("decide", "other", "--outcome", "ship", "--by", "a", "--reason", "b", "--home", home)
    assert "other has no snapshot yet" in refused(missing)


def test_the_warehouse_is_built_on_request_and_its_page_written(home: Path, tmp_path: Path) -> None:
    keep(home, ship())
    done = call("warehouse", "--home", home, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["changed"]
    assert "as it was" in call("warehouse", "--home", home).stdout
    page = tmp_path / "warehouse.md"
    assert call("warehouse", "--markdown", page, "--home", home).exit_code == 0
    assert "### `decision_log`" in page.read_text()
