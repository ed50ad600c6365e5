"""After shipping, in a terminal: each command says what is there, and in words what is not."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app
from exp_pipeline_tests.steps.benches import CATALOG, bench_in, commit_rows


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(CATALOG, tmp_path / "data" / "catalog")
    return tmp_path / "data"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)])


def test_an_empty_home_is_told_in_words(home: Path) -> None:
    assert "No day has been made yet." in run(home, "drift").stdout
    assert "No look is due yet" in run(home, "durability", "hint-ladder").stdout
    assert "Nothing was changed yet." in run(home, "audit").stdout
    none = run(home, "weekly")
    assert none.exit_code == 2
    assert "no day has been made yet" in none.stderr
    unknown = run(home, "durability", "nobody")
    assert unknown.exit_code == 2
    assert "no usable brief" in unknown.stderr


def test_what_would_go_is_told_before_it_goes(home: Path) -> None:
    old = datetime.now(UTC).date() - timedelta(days=400)
    with bench_in(home) as bench:
        commit_rows(bench, "srm_daily", [{"event_date": old, "experiment": "e", "version": 1, "arm": "a"}])
    kept = run(home, "retention", "--dry-run")
    assert kept.exit_code == 0, kept.output
    assert "Would go: 0 parts" in kept.stdout
    policy = home / "catalog" / "policies" / "default.yaml"
    text = policy.read_text()
    assert "  tables: {} " in text
    policy.write_text(text.replace("  tables: {} ", "  tables: {srm_daily: 90} "))
    dry = json.loads(run(home, "retention", "--dry-run", "--json").stdout)
    assert [(one["what"], one["name"]) for one in dry["lines"]] == [("delete", f"event_date={old}")]
    assert "srm_daily" not in dry["kept_for_good"]
    assert "Gone: 1 parts" in run(home, "retention").stdout
    assert "Gone: 0 parts" in run(home, "retention").stdout
    (line,) = json.loads(run(home, "audit", "--json").stdout)
    assert (line["kind"], line["what"]) == ("retention", "past their day, deleted: 1 of srm_daily")
