"""The sensor of late data: it asks for the days that are touched, stage by stage, and then falls silent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.steps.again.affected import affected_days
from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.home import Home
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import environment_of, failures, instance_in
from exp_pipeline_tests.steps import late_worlds as late
from exp_pipeline_tests.steps.late_worlds import START, contents, moved, put, written

# Dagster's own, where resources are made within a run.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")
DAY_TWO = START + DAY


def bench_at(home: Path, connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> Iterator[Workbench]:
    with workbench(
        Home(home),
        connection,
        run_id="test",
        environment={"EXP_HMAC_KEY": small.KEY},
        catalog=catalog,
        threads=1,
    ) as bench:
        yield bench


@dataclass(frozen=True)
class World:
    """A home whose lake is up to date, with the log it was made from."""

    bench: Workbench
    files: late.Files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> late.Files:
    return late.log_files(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, files: late.Files) -> Path:
    """A data folder whose plain files have landed and all been made; to be copied, not changed."""
    home = tmp_path_factory.mktemp("made") / "data"
    shutil.copytree(small.CATALOG, home / "catalog")
    shutil.rmtree(home / "catalog" / "experiments")
    (home / "catalog" / "experiments").mkdir()
    brief = (small.CATALOG / "experiments" / "hint-ladder.yaml").read_text()
    (home / "catalog" / "experiments" / "hint-ladder.yaml").write_text(brief)
    small.rewrite_brief(home, "hint-ladder", start=START + DAY, end=START + DAY * late.DAYS)
    with duckdb.connect() as connection, environment_of(home):
        for bench in bench_at(home, connection, open_catalog(home / "catalog")):
            put(bench, {name: content for name, content in files.items() if "/part-" in name})
            catch_up(bench)
    return home


@pytest.fixture
def world(tmp_path: Path, files: late.Files, made_once: Path) -> Iterator[World]:
    home = tmp_path / "data"
    shutil.copytree(made_once, home)
    with duckdb.connect() as connection, environment_of(home):
        for bench in bench_at(home, connection, open_catalog(home / "catalog")):
            yield World(bench, files)


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[list[dg.RunRequest], str | None]:
    """One tick as the daemon evaluates it: what it asks for, and its cursor."""
    from exp_pipeline.definitions import defs
    from exp_pipeline.defs.late_data import late_data

    with dg.build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), sensor_name="late_data", cursor=cursor
    ) as context:
        data = late_data.evaluate_tick(context)
    return list(data.run_requests or []), data.cursor


def carry_out(instance: dg.DagsterInstance, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """The run that was asked for, from the real job."""
    from exp_pipeline.defs import automation
    from exp_pipeline.defs.graph import ASSETS
    from exp_pipeline.defs.resources import resources

    made = dg.Definitions(
        assets=ASSETS, jobs=[automation.daily_facts], resources=resources(), executor=dg.in_process_executor
    ).resolve_job_def("daily_facts")
    return made.execute_in_process(
        instance=instance,
        tags=dict(request.tags),
        raise_on_error=False,
        asset_selection=list(request.asset_selection or []),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def asked(requests: list[dg.RunRequest]) -> list[tuple[set[str], tuple[date, date] | None]]:
    from exp_pipeline.defs.automation import RANGE_END, RANGE_START

    return [
        (
            {key.to_user_string() for key in one.asset_selection or ()},
            (date.fromisoformat(one.tags[RANGE_START]), date.fromisoformat(one.tags[RANGE_END]))
            if RANGE_START in one.tags
            else None,
        )
        for one in requests
    ]


def late_file(files: late.Files) -> dict[str, bytes]:
    answers = [
        one for one in late.events_of(files)
        if one["event_name"] == "answer_attempted" and one["client_ts"][:10] == f"{DAY_TWO}"
    ]  # fmt: skip
    more = [
        moved(
            one,
            event_id=f"late-{one['event_id']}",
            client_ts=late.at(one["client_ts"]) + timedelta(seconds=1),
        )
        for one in answers
    ]
    return {f"received_date={START + DAY * 2}/late.ndjson": written(more)}


def test_nothing_late_nothing_asked(tmp_path: Path, world: World) -> None:
    with instance_in(tmp_path / "history") as instance:
        requests, cursor = tick(instance)
        assert requests == []
        assert tick(instance, cursor) == ([], cursor)
        # A day that has not been read yet is the daily schedule's.
        put(world.bench, {f"received_date={START + DAY * 5}/new.ndjson": b"{}\n"})
        requests, later = tick(instance, cursor)
        assert requests == []
        assert later != cursor


def test_late_files_are_followed_to_the_end(tmp_path: Path, world: World, opened_whole: Path) -> None:
    put(world.bench, late_file(world.files))
    with instance_in(tmp_path / "history") as instance:
        requests, cursor = tick(instance)
        third = START + DAY * 2
        assert asked(requests) == [({"landed_events"}, (third, third))]
        assert requests[0].tags["exp/cause"] == "late_data"
        assert "late.ndjson" in requests[0].tags["exp/why"]
        # After a restart, without cursor, the same finding has the same key; with it nothing is asked twice.
        assert [one.run_key for one in tick(instance)[0]] == [one.run_key for one in requests]
        assert tick(instance, cursor)[0] == []
        seen = []
        for _ in range(8):
            for request in requests:
                result = carry_out(instance, request)
                assert failures(result) == [], asked([request])
                assert result.success
                seen += asked([request])
                run = instance.get_run_by_id(result.run_id)
                assert run is not None
                assert run.tags["exp/cause"] == "late_data"
            requests, cursor = tick(instance, cursor)
            if not requests:
                break
        assert not affected_days(world.bench)
        assert seen[1] == ({"events", "quarantine", "exclusions"}, (DAY_TWO, DAY_TWO))
        touched = {name: days for names, days in seen for name in names}
        assert touched["learner_days"] == touched["unit_days"] == (DAY_TWO, DAY_TWO)
        event = instance.get_latest_materialization_event(dg.AssetKey("unit_days"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["cause"].value == "late_data"
    with duckdb.connect() as connection:
        catalog = world.bench.catalog
        for whole in bench_at(opened_whole, connection, catalog):
            put(whole, {name: content for name, content in world.files.items() if "/part-" in name})
            put(whole, late_file(world.files))
            late.run_over_everything(whole)
            assert contents(whole) == contents(world.bench)


@pytest.fixture
def opened_whole(tmp_path: Path) -> Path:
    return tmp_path / "whole"


def test_it_waits_for_runs_over_days(tmp_path: Path, world: World) -> None:
    from exp_pipeline.definitions import defs

    put(world.bench, late_file(world.files))
    with instance_in(tmp_path / "history") as instance:
        run = instance.create_run_for_job(
            defs.resolve_job_def("daily_facts"), status=dg.DagsterRunStatus.STARTED, tags={"any": "run"}
        )
        assert tick(instance) == ([], None)
        instance.report_run_canceled(run)
        assert len(tick(instance)[0]) == 1


def test_a_changed_setting_is_left_to_people(tmp_path: Path, world: World) -> None:
    path = world.bench.home.catalog / "policies" / "default.yaml"
    path.write_text(path.read_text().replace("gap_minutes: 30", "gap_minutes: 20"))
    changed = replace(world.bench, catalog=open_catalog(world.bench.home.catalog))
    assert {one.table for one in affected_days(changed).found} == {"sessions"}
    with instance_in(tmp_path / "history") as instance:
        assert tick(instance)[0] == []
