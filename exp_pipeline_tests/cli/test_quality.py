"""`exp quality`: what the last run said of a day, in words, as JSON and as a page."""

from __future__ import annotations

import json
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline.cli.runs import open_bench
from exp_pipeline.model.quality import Carrier, QualityFinding
from exp_pipeline.model.readout import Verdict
from exp_pipeline.steps.quality.days import write_findings
from exp_pipeline.store.home import Home

DAY = date(2026, 3, 17)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def finding(day: date, verdict: Verdict) -> QualityFinding:
    whole = Carrier(group="all", value=0.3, part=300, rows=1_000, verdict=verdict)
    return QualityFinding(
        day=day,
        rule="retries",
        subject="landed_events",
        value=0.3,
        threshold=0.25,
        unit="share",
        rows=1_000,
        verdict=verdict,
        owner="data-platform",
        evidence="30 % of 1,000 landed rows",
        carriers=(whole, whole.model_copy(update={"group": "source a"})),
    )


@pytest.fixture
def judged(home: Path) -> Path:
    """A data folder whose lake holds the findings of two days."""
    days = [DAY - timedelta(days=1), DAY]
    with open_bench(Home(home)) as bench:
        write_findings(bench, [finding(day, "fail") for day in days], days, time.monotonic())
    return home


def test_the_newest_day_in_words(judged: Path) -> None:
    done = call("quality", "--home", judged)
    assert done.exit_code == 0, done.output
    for words in (
        "Data quality on Tuesday, 17 March 2026: 1 fails",
        "Fail: Retries, since 2026-03-16 (2 days)",
        "30 % of 1,000 landed rows",
        "Owner data-platform; docs/runbooks/quality/retries.md",
        "source a: 30.0 % of 1,000 (fail)",
    ):
        assert words in done.stdout


def test_json_and_page_of_a_named_day(judged: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    done = call("quality", "2026-03-16", "--home", judged, "--json", "--html", target)
    assert done.exit_code == 0, done.output
    (line,) = json.loads(done.stdout)["lines"]
    assert (line["finding"]["verdict"], line["since"]) == ("fail", "2026-03-16")
    assert "Monday, 16 March 2026" in target.read_text()


def test_a_day_that_was_not_judged_says_how(home: Path) -> None:
    nothing = call("quality", "--home", home)
    assert nothing.exit_code == 2
    assert "exp run" in nothing.stderr
    other = call("quality", "2026-03-01", "--home", home)
    assert other.exit_code == 2
    assert "exp run --from 2026-03-01 --to 2026-03-01" in other.stderr
