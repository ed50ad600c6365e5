"""From nothing to a memo with a table of one's own, as somebody new does it: each hint leads on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import polars as pl
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import SECTIONS, app
from exp_pipeline.steps.opening import open_catalog

WALK = Path(__file__).parents[2] / "docs" / "first-readout.md"
SAID = {
    "title": "New page", "change": "show the new page", "population": "visitors", "context": "first page",
    "moves": "sign-ups rise by 2 points", "because": "it is clearer", "without_harming": "nothing",
    "owner": "web", "on_call": "web", "decision_asked": "Switch?", "mde": "0.02",
}  # fmt: skip
COLUMNS = {"unit_column": "visitor", "arm_column": "page", "outcomes": "signed_up, minutes"}


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(**more: str) -> list[str]:
    given = {**SAID, **more}
    return [part for key, text in given.items() for part in ("--set", f"{key.replace('__', '.')}={text}")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for a table: 4,000 visitors, 8 points more of them sign up on the new page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXP_HOME", raising=False)
    number = pl.int_range(4000, eager=True)
    frame = pl.DataFrame(
        {
            "visitor": number + 100,
            "seen_on": pl.Series([f"2026-03-{2 + one // 2 % 14:02d}T09:00:00" for one in range(4000)]),
            "page": pl.Series(["New page" if one % 2 else "control" for one in range(4000)]),
            "signed_up": ((number * 7) % 100 < 20 + 8 * (number % 2)).cast(pl.Int64),
            "minutes": (number * 13 % 50) / 10,
        }
    )
    frame.write_csv(tmp_path / "visits.csv")
    return tmp_path


def test_the_walk_through_is_true(here: Path) -> None:
    """Every command of docs/first-readout.md works as it stands, and the last one leaves a memo."""
    text = WALK.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [
        line
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("exp ")
    ]
    assert 8 <= len(commands) <= 10
    for command in commands:
        done = call(*shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
    memo = (here / "memo" / "memo.md").read_text()
    assert "+8.0 pp" in memo
    assert (here / "memo" / "memo.html").is_file()
    # The words that the page quotes are the words that come out.
    for quoted in re.findall(r"`([^`]+)`", text.split("## What you read")[1].split("## Next")[0]):
        if not quoted.startswith(("exp ", "--", "data/", "memo", "make ")):
            assert quoted in done.stdout, quoted


def test_a_brief_is_drafted_from_a_tables_columns(here: Path) -> None:
    assert call("init").exit_code == 0
    given = said(**COLUMNS, assigned_column="seen_on", arm__new_page="x")
    done = call(
        "new", "first-page", "--table", "visits.csv", "--yes", *given[:-2], "--set", "arm.new-page=New."
    )
    assert done.exit_code == 0, done.output
    brief = open_catalog(here / "data" / "catalog", strict=True).briefs["first-page"]
    assert brief.table is not None
    assert brief.table.arms == {"New page": "new-page", "control": "control"}
    assert (brief.control, brief.shares()) == ("control", {"control": 0.5, "new-page": 0.5})
    assert (str(brief.start), str(brief.end)) == ("2026-03-02", "2026-03-16")
    assert (brief.primary, brief.secondary) == ("signed_up", ("minutes",))
    assert brief.table.metrics["signed_up"].type == "proportion"
    assert brief.table.metrics["minutes"].type == "mean"
    assert "exp analyze visits.csv --brief data/catalog/experiments/first-page.yaml --out memo" in done.stdout


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("unit_column=visiter", "the table has no column 'visiter'; it has visitor, seen_on, page"),
        ("arm_column=visitor", "column 'visitor' holds 4,000 different values; arms are from 2 to 20"),
        ("outcomes=seen_on", "column 'seen_on' must hold numbers, or true and false; it holds String"),
    ],
)
def test_a_column_that_cannot_be_it_is_refused_with_what_can(here: Path, answer: str, told: str) -> None:
    assert call("init").exit_code == 0
    done = call("new", "first-page", "--table", "visits.csv", "--yes", *said(), "--set", answer)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not list((here / "data" / "catalog" / "experiments").glob("*.yaml"))


def test_arms_that_would_get_one_name_are_refused(here: Path) -> None:
    pl.DataFrame({"u": range(6), "arm": ["a b", "a-b", "c"] * 2, "y": [0.5, 1.0] * 3}).write_csv("same.csv")
    assert call("init").exit_code == 0
    columns = {"unit_column": "u", "arm_column": "arm", "outcomes": "y"}
    done = call("new", "first-page", "--table", "same.csv", "--yes", *said(**columns))
    assert done.exit_code == 2
    assert "names arms that differ in signs only: a b, a-b, c" in " ".join(done.stderr.split())


def test_classes_that_were_drawn_make_a_design_of_classes(here: Path) -> None:
    rows = 240
    pl.DataFrame(
        {
            "pupil": range(rows),
            "class": [one // 12 for one in range(rows)],
            "arm": ["b" if one // 12 % 2 else "a" for one in range(rows)],
            "score": [float(one * 7 % 31) for one in range(rows)],
        }
    ).write_parquet("pupils.parquet")
    assert call("init").exit_code == 0
    columns = {"unit_column": "pupil", "arm_column": "arm", "outcomes": "score", "cluster_column": "class"}
    days = {"start": "2026-03-02", "end": "2026-03-30"}
    given = said(**columns, **days, arm__b="New.")
    done = call("new", "classes", "--table", "pupils.parquet", "--yes", *given)
    assert done.exit_code == 0, done.output
    brief = open_catalog(here / "data" / "catalog", strict=True).briefs["classes"]
    assert (brief.randomisation_unit, brief.icc, brief.control) == ("class", 0.1, "a")
    file = "data/catalog/experiments/classes.yaml"
    read = call("analyze", "pupils.parquet", "--brief", file, "--out", "memo", "--locked")
    assert read.exit_code == 0, read.output


def test_an_analysis_without_columns_is_told_which_there_are(here: Path) -> None:
    done = call("analyze", "visits.csv")
    assert done.exit_code == 2
    assert "the columns of visits.csv are visitor, seen_on, page, signed_up, minutes" in " ".join(
        done.stderr.split()
    )


def test_a_readout_of_a_tables_brief_leads_to_its_memo(here: Path) -> None:
    assert call("init").exit_code == 0
    given = said(**COLUMNS, assigned_column="seen_on")
    arms = ("--set", "arm.new-page=New.")
    assert call("new", "first-page", "--table", "visits.csv", "--yes", *given, *arms).exit_code == 0
    done = call("readout", "first-page")
    assert done.exit_code == 2
    assert "`exp analyze TABLE --brief FILE --out DIR` writes its memo" in " ".join(done.stderr.split())


def test_a_briefs_name_where_its_file_is_asked_for(here: Path) -> None:
    done = call("analyze", "visits.csv", "--brief", "first-page", "--out", "memo")
    assert done.exit_code == 2
    assert "name the file, such as data/catalog/experiments/NAME.yaml" in " ".join(done.stderr.split())


def test_a_new_folder_tells_both_ways(here: Path) -> None:
    done = call("init", "mine")
    assert "exp new my-experiment --home mine" in done.stdout
    assert "with --table FILE where you have a table of units and no events" in done.stdout


def test_the_help_fits_a_screen_and_tells_every_command_once() -> None:
    """Under headings in the order of need, no line cut off."""
    lines = call("--help").stdout.splitlines()
    told = [line.split()[0] for line in lines if line.startswith("  ") and not line.strip().startswith("-")]
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    headed = [name for words in SECTIONS.values() for name in words]
    assert len(headed) == len(set(headed))
    assert set(headed) == commands, "each command has its heading in SECTIONS of cli/app.py"
    assert all(told.count(name) == 1 for name in commands)
    assert len(lines) <= 64
    assert all(len(line) < 80 for line in lines)
    assert not [line for line in lines if line.startswith("  ") and line.endswith("...")]
    headings = [line.rstrip(":") for line in lines if line.rstrip(":") in SECTIONS]
    assert headings == list(SECTIONS)
