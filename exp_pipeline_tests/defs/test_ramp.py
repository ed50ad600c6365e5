"""The hourly tick in Dagster: when it asks for a run, what the run shows, and that it is done once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exp_pipeline.defs import ramp
from exp_pipeline.defs.resources import resources
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.steps.operating.ramp_log import all_entries
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.cli.briefs import NAME
from exp_pipeline_tests.cli.test_ramps import BRIEF, DAY, TODAY
from exp_pipeline_tests.steps.ramp_worlds import bench_over, judge_days, make_ready

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
CATALOG = Path(__file__).parents[2] / "data" / "catalog"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """One experiment that began two days ago, ready, with good days up to yesterday."""
    for folder in ("experiments", "metrics"):
        (tmp_path / "catalog" / folder).mkdir(parents=True)
    for file in (CATALOG / "metrics").iterdir():
        (tmp_path / "catalog" / "metrics" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "catalog" / "experiments" / f"{NAME}.yaml").write_text(BRIEF)
    monkeypatch.setenv("EXP_HOME", str(tmp_path))
    for name in ("EXP_FLAG_WEBHOOK_URL", "EXP_FLAG_WEBHOOK_SECRET", "EXP_STATE_URL"):
        monkeypatch.delenv(name, raising=False)
    brief = open_catalog(tmp_path / "catalog", strict=True).briefs[NAME]
    with bench_over(tmp_path, [brief]) as bench:
        judge_days(bench, [brief], TODAY - DAY, TODAY - DAY)
        make_ready(bench, brief, TODAY - DAY)
    return Home(tmp_path)


def materialize() -> dg.ExecuteInProcessResult:
    return dg.materialize([ramp.ramp_state, ramp.flags], resources=resources())


def test_a_run_moves_the_ramp_publishes_and_shows_it(home: Home) -> None:
    result = materialize()
    assert result.success
    (state,) = result.asset_materializations_for_node("judge_ramps")
    shown: Any = state.metadata["ramps"]
    (row,) = shown.records
    assert row.data["experiment"] == NAME
    assert row.data["state"] == "letting learners in, stage 1"
    assert row.data["next_tick"] == "advance"
    assert row.data["traffic"] == "1 %"
    assert state.metadata["transitions"].value == NAME
    (flags,) = result.asset_materializations_for_node("publish_flags")
    assert flags.metadata["version"].value == 1
    document = json.loads((home.flags / "flags.flagd.json").read_text())
    assert flags.metadata["flags"].value == document["flags"]
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert checks == {"ramps_go_on": True, "published": True}
    assert materialize().success
    assert len(all_entries(state_log(home))) == 1
    assert json.loads((home.flags / "flags.flagd.json").read_text()) == document


def test_a_ramp_that_a_kill_rule_stopped_fails_its_check_and_a_wrong_webhook_stops_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialize()
    brief = open_catalog(home.catalog, strict=True).briefs[NAME]
    with bench_over(home.root, [brief]) as bench:
        killed = {(TODAY - DAY, "p95_latency_ms"): NAME}
        judge_days(bench, [brief], TODAY - DAY, TODAY - DAY, killed=killed)
    monkeypatch.setenv("EXP_FLAG_WEBHOOK_URL", "https://flags.example.org/in")
    result = materialize()
    assert result.success
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert not checks["ramps_go_on"].passed
    assert "p95_latency_ms" in str(checks["ramps_go_on"].metadata["stopped"].value)
    assert not checks["published"].passed
    assert "EXP_FLAG_WEBHOOK_SECRET" in str(checks["published"].metadata["trouble"].value)
    document = json.loads((home.flags / "flags.flagd.json").read_text())
    assert document["flags"][NAME]["metadata"]["status"] == "paused"


def tick(at: datetime) -> dg.RunRequest | dg.SkipReason:
    found = ramp.ramp_tick(dg.build_schedule_context(scheduled_execution_time=at))
    assert isinstance(found, (dg.RunRequest, dg.SkipReason))
    return found


def test_the_schedule_asks_once_an_hour_while_there_is_something_to_look_at(home: Home) -> None:
    now = datetime.now(UTC).replace(minute=5, second=0, microsecond=0)
    first, again, later = tick(now), tick(now), tick(now + timedelta(hours=1))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(again, dg.RunRequest)
    assert isinstance(later, dg.RunRequest)
    assert first.run_key == again.run_key != later.run_key
    assert first.tags["exp/why"] == f"{NAME} is due to start"
    materialize()
    under_way = tick(now)
    assert isinstance(under_way, dg.RunRequest)
    assert under_way.tags["exp/why"] == f"{NAME} is under way"


def test_where_nothing_is_due_the_schedule_skips_and_lost_files_are_noticed(home: Home) -> None:
    before = datetime.now(UTC) - timedelta(days=30)
    assert isinstance(tick(before), dg.SkipReason)
    materialize()
    log = state_log(home)
    from exp_pipeline.steps.operating import ramps

    brief = open_catalog(home.catalog, strict=True).briefs[NAME]
    with bench_over(home.root, [brief]) as bench:
        ramps.close(bench, NAME, by="us", reason="over", now=datetime.now(UTC))
    # Closed by a process that died before it published: nothing is under way, and yet something is due.
    assert ramp.why_due(home, TODAY) == f"the flag of {NAME} is behind its ramp"
    materialize()
    assert ramp.why_due(home, TODAY) is None
    (home.flags / "flags.flagd.json").unlink()
    assert ramp.why_due(home, TODAY) == "the flag files are behind"
    assert len(all_entries(log)) == 2
