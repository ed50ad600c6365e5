"""Real daemons tick one ramp, and all dies between log and flags: one transition and one version, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.operating.house import ROOT, House, wait_for
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.steps.operating.flags import file_version, versions
from exp_pipeline.steps.operating.ramp_log import all_entries
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log
from exp_pipeline_tests.cli.briefs import NAME
from exp_pipeline_tests.cli.test_ramps import BRIEF, DAY, TODAY
from exp_pipeline_tests.steps.ramp_worlds import bench_over, judge_days, make_ready

pytestmark = pytest.mark.crash
CATALOG = ROOT / "data" / "catalog"
# The schedule is due at five past; told that it began some hours ago, a daemon makes good what it missed.
MISSED = """
import sys
from dagster import DagsterInstance
from dagster._core.scheduler.instigation import ScheduleInstigatorData
with DagsterInstance.get() as instance:
    (state,) = [one for one in instance.all_instigator_state() if one.name == "ramp_tick"]
    data = ScheduleInstigatorData(state.instigator_data.cron_schedule, float(sys.argv[1]))
    instance.update_instigator_state(state.with_data(data))
"""
SUCCEEDED = """
from dagster import DagsterInstance, DagsterRunStatus
with DagsterInstance.get() as instance:
    runs = [one for one in instance.get_runs() if one.job_name == "ramps_and_flags"]
    print(sum(one.status == DagsterRunStatus.SUCCESS for one in runs))
"""


def in_python(house: House, program: str, *words: str) -> str:
    """What a program says that runs as one of the installation."""
    command = [sys.executable, "-W", "ignore", "-c", program, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=house.environment(), capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def houses(tmp_path: Path) -> list[House]:
    """Two installations over one data folder, where one experiment is due to start."""
    first = House(tmp_path / "one")
    second = House(tmp_path / "two", variables={"EXP_HOME": str(first.data)})
    shutil.copytree(CATALOG / "metrics", first.data / "catalog" / "metrics")
    (first.data / "catalog" / "experiments").mkdir()
    (first.data / "catalog" / "experiments" / f"{NAME}.yaml").write_text(BRIEF)
    (first.data / "landing").mkdir()
    brief = open_catalog(first.data / "catalog", strict=True).briefs[NAME]
    with bench_over(first.data, [brief]) as bench:
        judge_days(bench, [brief], TODAY - DAY, TODAY - DAY)
        make_ready(bench, brief, TODAY - DAY)
    for house in (first, second):
        house.prepare()
        for word in ("stop", "start"):
            house.command(
                "dagster", "schedule", word, "ramp_tick", "-w", "workspace.yaml", check=word == "start"
            )
        missed(house, hours=1)
    return [first, second]


def missed(house: House, *, hours: int) -> None:
    """Let the daemon have missed so many ticks; those that it has asked a run for it does not ask again."""
    in_python(house, MISSED, str(datetime.now(UTC).timestamp() - hours * 3600))


def test_two_daemons_and_kills_between_log_and_flags_leave_one_of_each(houses: list[House]) -> None:
    home = Home(houses[0].data)
    log = state_log(home)
    try:
        for house in houses:
            house.start()
        wait_for("the first transition", lambda: all_entries(log), 300.0, every=0.01)
        for house in houses:
            house.kill("run worker")
            house.kill("code server")
            house.kill("daemon")
        assert not [one for house in houses for one in house.processes()]
        assert not versions(log), "the flags were there before the kill: the test proves nothing"
        # As if an hour had passed: it is the next tick that goes on, whatever became of the runs.
        for house in houses:
            missed(house, hours=4)
            house.start()
        wait_for("the flags", lambda: versions(log), 300.0)
        for house in houses:
            wait_for("its runs", lambda house=house: int(in_python(house, SUCCEEDED)), 300.0, every=3.0)  # type: ignore[misc]
    finally:
        for house in houses:
            house.stop()
    entries = [entry for _, entry in all_entries(log)]
    assert [(one.experiment, one.sequence, one.action) for one in entries] == [(NAME, 1, "advance")]
    assert [one.version for one in versions(log)] == [1]
    assert file_version(home) == 1
    assert [os.fspath(path.name) for path in home.flags.iterdir() if path.name[0] == "."] == []
