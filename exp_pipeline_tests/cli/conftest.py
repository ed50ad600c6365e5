"""A new data folder, as `exp init` makes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EXP_HMAC_KEY", "EXP_HOME", "EXP_DEBUG", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    # Commands name the data folder to Dagster through EXP_HOME: undone after each test.
    monkeypatch.setenv("EXP_HOME", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with the sample's metrics, and the template as its one brief."""
    folder = tmp_path / "home"
    done = CliRunner().invoke(app, ["init", str(folder)])
    assert done.exit_code == 0, done.output
    experiments = folder / "catalog" / "experiments"
    (experiments / "my-experiment.yaml").write_text((experiments / "template.yaml.example").read_text())
    return folder
