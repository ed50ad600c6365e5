"""Sensors that watch: from verdicts, runs and the clock to incidents, messages and due runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exp_pipeline.notify.runs import EndedRun, findings_of_run
from exp_pipeline.steps.operating.freshness import freshness_finding
from exp_pipeline.steps.operating.incidents import incidents, open_incidents, record_findings
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.defs import small_world as small
from exp_pipeline_tests.defs.worlds import environment_of
from exp_pipeline_tests.notify.incident_samples import finding

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    root = tmp_path / "data"
    shutil.copytree(small.CATALOG, root / "catalog")
    with environment_of(root):
        yield Home(root)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.instance_for_test(temp_dir=str(folder)) as found:
        yield found


def tick(instance: dg.DagsterInstance, name: str, cursor: str | None = None) -> Any:
    """One tick of a sensor, as the daemon evaluates it."""
    from exp_pipeline.definitions import defs
    from exp_pipeline.defs import watching

    with dg.build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), sensor_name=name, cursor=cursor
    ) as context:
        return getattr(watching, name).evaluate_tick(context)


def land(home: Home, day: date, *, age: float = 3600.0, name: str = "part-0.ndjson") -> Path:
    path = home.landing / f"received_date={day}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")
    then = datetime.now(UTC).timestamp() - age
    os.utime(path, (then, then))
    return path


def test_a_day_that_has_landed_whole_is_asked_for_once(home: Home, instance: dg.DagsterInstance) -> None:
    today = datetime.now(UTC).date()
    day = today - timedelta(days=2)
    assert "No new received day" in tick(instance, "landing").skip_message
    path = land(home, day, age=5)
    assert "still on their way" in tick(instance, "landing").skip_message
    land(home, day)
    (asked,) = tick(instance, "landing").run_requests
    assert asked.tags["dagster/asset_partition_range_end"] == day.isoformat()
    assert asked.run_key == tick(instance, "landing").run_requests[0].run_key
    hidden = land(home, day, name=".part-1.tmp")
    assert "still on their way" in tick(instance, "landing").skip_message
    hidden.unlink()
    land(home, today)
    (again,) = tick(instance, "landing").run_requests
    assert again.tags["dagster/asset_partition_range_end"] == day.isoformat()
    manifest = home.lake / "landed" / f"received_date={day}" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert "No new received day" in tick(instance, "landing").skip_message
    assert path.is_file()


def test_a_day_whose_runs_fail_is_asked_for_again_after_longer_and_longer_and_never_given_up(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exp_pipeline.defs import watching

    land(home, small.FIRST)
    (asked,) = tick(instance, "landing").run_requests
    for count, least, most in ((1, 0, 1), (2, 1, 2), (9, 59, 60), (12, 59, 60)):
        while instance.get_runs_count() < count:
            failed = dg.DagsterRun(
                job_name="daily_facts", tags=asked.tags, status=dg.DagsterRunStatus.FAILURE
            )
            instance.add_run(failed)
        said = tick(instance, "landing").skip_message
        again = datetime.strptime(said.split(" at ")[1], "%H:%M UTC.").time()
        now = datetime.now(UTC)
        minutes = (again.hour * 60 + again.minute - now.hour * 60 - now.minute) % 1440
        assert least <= minutes <= most, said
        monkeypatch.setattr(watching, "PAUSE", timedelta(0))
        (next_one,) = tick(instance, "landing").run_requests
        assert next_one.run_key == asked.run_key[:-1] + str(count)
        monkeypatch.undo()


def test_incidents_are_told_and_shown_as_an_asset(home: Home, instance: dg.DagsterInstance) -> None:
    assert tick(instance, "notifications").skip_message == "There has been no incident."
    state = StateLog(home.state / "state.sqlite")
    now = datetime.now(UTC)
    record_findings(state, [finding(), finding(subject="class-pacing", severity="warn")], now)
    first = tick(instance, "notifications")
    (shown,) = first.asset_events
    assert shown.asset_key == dg.AssetKey("incidents")
    assert (shown.metadata["open"].value, shown.metadata["pages"].value) == (2, 1)
    rows = [record.data for record in shown.metadata["incidents"].records]
    assert [row["subject"] for row in rows] == ["hint-ladder", "class-pacing"]
    seen = shown.metadata["what_was_seen"].value.splitlines()
    for line, one in zip(seen, open_incidents(state), strict=True):
        assert one.evidence in line
        assert one.runbook in line
    assert len(home.notifications.read_text().splitlines()) == 2
    second = tick(instance, "notifications", first.cursor)
    assert not second.asset_events
    record_findings(state, [finding("pass", day=1), finding("pass", day=1, subject="class-pacing")], now)
    third = tick(instance, "notifications", second.cursor or first.cursor)
    (empty,) = third.asset_events
    assert empty.metadata["open"].value == 0
    quiet = tick(instance, "notifications", third.cursor)
    assert quiet.skip_message == "Nothing has happened since the last look."
    assert len(home.notifications.read_text().splitlines()) == 4


def test_a_page_that_nobody_takes_is_told_again_by_a_later_tick(
    home: Home, instance: dg.DagsterInstance
) -> None:
    state = StateLog(home.state / "state.sqlite")
    record_findings(state, [finding()], datetime.now(UTC) - timedelta(minutes=31))
    first = tick(instance, "notifications")
    second = tick(instance, "notifications", first.cursor)
    told = [json.loads(line)["change"] for line in home.notifications.read_text().splitlines()]
    assert told == ["opened", "escalated"]
    assert "0 escalated" in second.skip_message


@pytest.mark.parametrize(
    ("hour", "newest", "verdict", "said"),
    [
        (11, date(2026, 3, 4), "pass", "as new as it should be"),
        (13, date(2026, 3, 4), "fail", "2026-03-05 is missing"),
        (13, date(2026, 3, 5), "pass", "as new as it should be"),
        (13, date(2026, 3, 6), "pass", "as new as it should be"),
        (13, date(2026, 3, 1), "fail", "4 days are missing, 2026-03-02 to 2026-03-05"),
    ],
)
def test_yesterday_must_be_there_by_noon(hour: int, newest: date, verdict: str, said: str) -> None:
    now = datetime(2026, 3, 6, hour, 0, tzinfo=UTC)
    found = freshness_finding(newest, 12, now)
    assert found is not None
    assert (found.verdict, said in found.evidence) == (verdict, True)
    assert freshness_finding(None, 12, now) is None


def test_an_old_newest_day_opens_an_incident_and_a_new_one_closes_it(
    home: Home, instance: dg.DagsterInstance
) -> None:
    assert tick(instance, "freshness").skip_message == "No day has been made yet."
    today = datetime.now(UTC).date()

    def made(day: date) -> None:
        folder = home.lake / "events" / f"event_date={day}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    made(today - timedelta(days=9))
    first = tick(instance, "freshness")
    (one,) = open_incidents(StateLog(home.state / "state.sqlite"))
    assert (one.rule, one.subject, one.severity) == ("freshness", "events", "page")
    made(today - timedelta(days=1))
    tick(instance, "freshness", first.cursor)
    assert open_incidents(StateLog(home.state / "state.sqlite")) == ()


def ended(succeeded: bool, run_id: str, *days: int, **checks: bool) -> EndedRun:
    told = (date(2026, 3, days[0]), date(2026, 3, days[-1])) if days else None
    return EndedRun(
        run_id, "daily_facts", "daily_facts", date(2026, 3, 9), succeeded, "step x failed", told, checks
    )


def test_a_broken_check_is_closed_by_a_run_over_the_same_days_or_more(tmp_path: Path) -> None:
    state, now = StateLog(tmp_path / "state.sqlite"), datetime.now(UTC)

    def follow(run: EndedRun) -> set[str]:
        record_findings(state, findings_of_run(run, open_incidents(state)), now)
        return {f"{one.rule}/{one.subject}" for one in open_incidents(state)}

    broken = "conservation/events:2026-03-05..2026-03-06"
    failed = follow(ended(False, "a", 5, 6, conservation=False, contract=True))
    assert failed == {"run_failed/daily_facts", broken}
    assert follow(ended(True, "b", 6, 7, conservation=True, contract=True)) == {broken}
    assert follow(ended(True, "c", 4, 6, conservation=False)) == {
        broken,
        "conservation/events:2026-03-04..2026-03-06",
    }
    assert follow(ended(True, "d", 4, 9, conservation=True)) == set()
    assert len(incidents(state)) == 3


def test_a_brief_that_is_not_ready_wakes_nobody() -> None:
    assert findings_of_run(ended(False, "a", ready=False), ()) == ()
    assert [one.verdict for one in findings_of_run(ended(False, "a", ready=True), ())] == ["fail"]


@pytest.mark.parametrize("well", [True, False])
def test_runs_of_a_real_job_open_and_close(
    home: Home, instance: dg.DagsterInstance, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exp_pipeline.defs.watching import ended_run

    @dg.asset(check_specs=[dg.AssetCheckSpec("contract", asset="brittle", blocking=True)])
    def brittle() -> Iterator[Any]:
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(passed=well)

    @dg.asset(deps=[brittle])
    def below() -> None:
        if not well:
            raise RuntimeError("learner-123 must not be told")

    done = dg.materialize(
        [brittle, below],
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert done.success is well
    run = ended_run(instance, done.dagster_run, succeeded=well, ended=date(2026, 3, 9))
    assert run.checks == {"contract": well}
    if not well:
        assert "checks that failed: contract" in run.error
        assert "learner-123" not in run.error


def test_a_brief_is_planned_when_it_is_new_or_changed(home: Home, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("experiment", ["hint-ladder"])
    first = tick(instance, "changed_briefs")
    assert [one.tags["dagster/partition"] for one in first.run_requests] == ["hint-ladder"]
    second = tick(instance, "changed_briefs", first.cursor)
    assert second.skip_message == "No brief has changed."
    path = home.catalog / "experiments" / "hint-ladder.yaml"
    path.write_text(path.read_text() + "\n# a thought\n")
    third = tick(instance, "changed_briefs", first.cursor)
    assert [one.tags["dagster/partition"] for one in third.run_requests] == ["hint-ladder"]
    assert third.run_requests[0].run_key != first.run_requests[0].run_key
