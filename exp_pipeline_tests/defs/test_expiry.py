"""The daily jobs that delete texts of the debug envelope, and days, that are past their day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from exp_pipeline.defs.expiry import debug_envelope_expiry, expire_texts_daily, retention, retention_daily
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.steps.people.debug_envelope import utc_today
from exp_pipeline.store.envelope import checked_folder, envelope_files, writing
from exp_pipeline.store.home import Home
from exp_pipeline_tests.steps.benches import bench_in, commit_rows

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")


def test_the_job_deletes_every_text_where_the_policy_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    home.catalog.mkdir(parents=True)
    folder = checked_folder(tmp_path / "texts", home)
    today = utc_today()
    for age in (0, 5):
        received = today - timedelta(days=age)
        with writing(folder, received, received + timedelta(days=14)) as writer:
            writer.write([{"text": "hello"}])
            writer.commit()
    monkeypatch.setenv("EXP_DEBUG_ENVELOPE", str(folder))
    pipeline = PipelineResource(duckdb=DuckDBResource(database=":memory:"), home=str(home.root))
    policies = home.catalog / "policies"
    policies.mkdir()
    (policies / "default.yaml").write_text("debug_envelope: {share: 0.01, days: 5}\n")
    with dg.instance_for_test() as instance:
        assert debug_envelope_expiry.execute_in_process(
            resources={"pipeline": pipeline}, instance=instance
        ).success
        assert [file.received for file in envelope_files(folder)] == [today]
        (policies / "default.yaml").write_text("debug_envelope: {share: 0}\n")
        assert debug_envelope_expiry.execute_in_process(
            resources={"pipeline": pipeline}, instance=instance
        ).success
    assert envelope_files(folder) == []


def test_it_runs_every_day_from_the_start() -> None:
    assert expire_texts_daily.default_status == dg.DefaultScheduleStatus.RUNNING
    assert expire_texts_daily.job_name == "debug_envelope_expiry"


def test_days_past_the_policy_go_and_without_a_policy_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    (home.catalog / "policies").mkdir(parents=True)
    monkeypatch.setenv("EXP_HOME", str(home.root))
    old = datetime.now(UTC).date() - timedelta(days=100)
    with bench_in(home.root) as bench:
        for day in (old, old + timedelta(days=90)):
            commit_rows(
                bench, "srm_daily", [{"event_date": day, "experiment": "e", "version": 1, "arm": "a"}]
            )
        at = datetime(2026, 3, 2, 0, 20, tzinfo=UTC)
        with dg.instance_for_test() as instance:
            tick = dg.build_schedule_context(instance, at)
            skipped = retention_daily(tick)
            assert isinstance(skipped, dg.SkipReason)
            assert "keeps everything" in str(skipped.skip_message)
            (home.catalog / "policies" / "default.yaml").write_text("retention: {tables: {srm_daily: 60}}\n")
            asked = retention_daily(tick)
            assert isinstance(asked, dg.RunRequest)
            pipeline = PipelineResource(duckdb=DuckDBResource(database=":memory:"), home=str(home.root))
            for _ in range(2):
                done = retention.execute_in_process(resources={"pipeline": pipeline}, instance=instance)
                assert done.success
        assert bench.lake.partitions("srm_daily") == (f"event_date={old + timedelta(days=90)}",)
