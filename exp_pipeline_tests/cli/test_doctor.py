"""What `exp doctor` says of databases, channels and metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app


def said(home: Path) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", "--home", str(home), "--json"])
    return {one["name"]: one for one in json.loads(done.output)}


def test_production_is_silent_where_nothing_is_named(home: Path) -> None:
    assert not {"DAGSTER_POSTGRES_URL", "EXP_STATE_URL", "channels", "EXP_METRICS_DIR"} & said(home).keys()


def test_a_database_is_reached_or_named_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://exp:hidden-word@127.0.0.1:9/exp")
    monkeypatch.setenv("EXP_STATE_URL", "postgresql+psycopg2://exp:hidden-word@127.0.0.1:9/exp")
    found = said(home)
    assert found["DAGSTER_POSTGRES_URL"]["seen"] == "starts with postgresql:"
    assert "postgresql+psycopg2://" in found["DAGSTER_POSTGRES_URL"]["remedy"]
    assert found["EXP_STATE_URL"]["seen"] == "the database does not answer"
    assert "hidden-word" not in json.dumps(found)


def test_channels_are_known_or_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXP_NOTIFY_URLS", "json://127.0.0.1/hook")
    assert said(home)["channels"]["verdict"] == "ok"
    monkeypatch.setenv("EXP_NOTIFY_PAGE_URLS", "carrier-pigeon://loft")
    assert "does not know carrier-pigeon-" in said(home)["channels"]["seen"]
    monkeypatch.delenv("EXP_NOTIFY_PAGE_URLS")
    monkeypatch.setenv("EXP_NOTIFY_PAGES_URLS", "json://127.0.0.1/hook")
    done = CliRunner().invoke(app, ["doctor", "--home", str(home)])
    assert "nothing reads EXP_NOTIFY_PAGES_URLS" in done.output
    assert done.exit_code == 1


def test_the_folder_of_metrics_must_be_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXP_METRICS_DIR", str(tmp_path / "none"))
    assert said(home)["EXP_METRICS_DIR"]["verdict"] == "error"
    (tmp_path / "none").mkdir()
    assert said(home)["EXP_METRICS_DIR"]["verdict"] == "ok"
