"""`exp affected` and `exp catch-up` on a small log: told, made, told again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app
from exp_pipeline.steps.again.affected import affected_days
from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.context import DAY
from exp_pipeline.steps.opening import workbench
from exp_pipeline.store.home import Home
from exp_pipeline_tests.cli.calling import exp
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.late_worlds import DAYS, START

NEW = f"received_date={START + DAY * 2}/part-2.ndjson"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A data folder with all but one of the log's plain files."""
    home = tmp_path / "log-home"
    shutil.copytree(small.CATALOG, home / "catalog")
    for path in (home / "catalog" / "experiments").glob("*.yaml"):
        if path.stem != "hint-ladder":
            path.unlink()
    small.rewrite_brief(home, "hint-ladder", start=START + DAY, end=START + DAY * DAYS)
    for name, content in late.log_files(tmp_path / "raw").items():
        if "/part-" in name and name != NEW:
            (home / "landing" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / "landing" / name).write_bytes(content)
    return home


def test_what_is_out_of_date_is_told_without_a_change(log: Path) -> None:
    before = sorted(path for path in log.rglob("*") if path.is_file() and "state" not in path.parts)
    for command in (["affected"], ["catch-up", "--dry-run"]):
        done = CliRunner().invoke(app, [*command, "--home", str(log)])
        assert done.exit_code == 0, done.output
        assert f"landed {START} to {START + DAY * (DAYS - 1)}: not made yet" in done.output
    told = json.loads(CliRunner().invoke(app, ["affected", "--home", str(log), "--json"]).stdout)
    assert {one["table"] for one in told["out_of_date"]} == {"landed"}
    assert sorted(path for path in log.rglob("*") if path.is_file() and "state" not in path.parts) == before


def test_a_catch_up_needs_the_key(log: Path) -> None:
    done = CliRunner().invoke(app, ["catch-up", "--home", str(log)])
    assert done.exit_code == 2
    assert "EXP_HMAC_KEY" in done.output


def test_a_catch_up_makes_what_is_out_of_date_and_then_nothing(log: Path, tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    with (
        duckdb.connect() as connection,
        workbench(
            Home(log), connection, run_id="test", environment={"EXP_HMAC_KEY": small.KEY}, threads=1
        ) as bench,
    ):  # fmt: skip
        catch_up(bench)
        (log / "landing" / NEW).write_bytes(late.log_files(tmp_path / "raw-again")[NEW])
        keys = {"EXP_HMAC_KEY": small.KEY, "DAGSTER_HOME": str(tmp_path / "history")}
        # Dagster warns of a deprecated call of its own.
        done = exp("catch-up", "--home", log, "--json", cwd=tmp_path, warnings="default", **keys)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert {one["succeeded"] for one in told["runs"]} == {True}
        assert told["left"] == []
        assert [one["partition"] for one in told["made"] if one["table"] == "landed"] == [
            f"received_date={START + DAY * 2}"
        ]
        assert not affected_days(bench)
        days = ("--from", START, "--to", START + DAY)
        done = exp("backfill", "--home", log, *days, "--json", cwd=tmp_path, warnings="default", **keys)
        assert done.returncode == 0, done.stderr
        again = json.loads(done.stdout)
        assert (again["run"]["succeeded"], again["changed"], again["stale_readouts"]) == (True, [], [])
