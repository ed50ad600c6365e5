"""Sensors that watch and tell: verdicts, runs, freshness, messages; and those that ask for due work.

Each tick first looks at names, sizes and times of change, and goes on only where one of them is new. A tick
that is killed is evaluated again from the cursor before it; what it had recorded is known by its digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from exp_pipeline.defs.automation import RANGE_END, RANGE_START, daily_facts
from exp_pipeline.defs.late_data import UNFINISHED
from exp_pipeline.defs.specs import spec
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.incidents import Incident
from exp_pipeline.model.policies import IncidentPolicy
from exp_pipeline.notify.routing import channels_from
from exp_pipeline.notify.runs import EndedRun, findings_of_run
from exp_pipeline.notify.webhook import webhook_from
from exp_pipeline.steps.context import Window, day_of
from exp_pipeline.steps.opening import home_from, open_catalog, workbench
from exp_pipeline.steps.operating.flag_delivery import deliver_flags, pending_versions
from exp_pipeline.steps.operating.freshness import freshness_finding
from exp_pipeline.steps.operating.gauges import VARIABLE, write_gauges
from exp_pipeline.steps.operating.incidents import ACTIONS, FINDINGS, open_incidents, record_findings
from exp_pipeline.steps.operating.watch import TABLES, follow_verdicts, tell
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST
from exp_pipeline.store.landing import RECEIVED, received_days
from exp_pipeline.store.state import StateLog, state_log

VERDICTS = (*TABLES, "data_quality")
# Rules on late data judge a day only when it is ripe: their newest verdict is some days older than others'.
VERDICT_DAYS = 8
# A file that changed this recently may still be on its way.
SETTLED = timedelta(seconds=30)
# Events come for three days after their own.
LATE_DAYS = timedelta(days=3)
# Names the landed files that a run was asked for; after a failed run it is asked for again after 1, 2, 4 ...
# minutes, at most an hour, for as long as it takes: whatever is mended, the days come without a hand.
LANDED, PAUSE, LONGEST = "exp/landed", timedelta(minutes=1), timedelta(hours=1)
INCIDENTS = dg.AssetKey("incidents")
SHOWN = 50


@dg.sensor(job=daily_facts, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED)
def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Asks for received days that have landed whole and are newer than the newest that was read: one run.

    A day has landed whole when nothing in its folder has changed for half a minute. Days read before are
    for the sensor `late_data`.
    """
    home, now = home_from(os.environ), datetime.now(UTC)
    read = [
        day_of(entry.name)
        for entry in home.lake.glob("landed/received_date=*")
        if (entry / MANIFEST).is_file()
    ]
    newest = max(read, default=date.min)
    new = [day for day in received_days(home.landing) if newest < day < now.date()]
    settled = [day for day in new if _settled(home.landing / f"{RECEIVED}{day.isoformat()}", now)]
    waiting = sorted(set(new) - set(settled))
    if waiting:
        return dg.SkipReason(f"Files of {waiting[0]} are still on their way.")
    if not settled:
        return dg.SkipReason("No new received day.")
    first = max(min(settled) - LATE_DAYS, _first_day())
    marks = [_marks((home.landing / f"{RECEIVED}{day.isoformat()}").rglob("*")) for day in settled]
    landed = digest_of([json.dumps(marks)])[:24]
    going_on = context.instance.get_run_records(
        dg.RunsFilter(job_name=daily_facts.name, statuses=list(UNFINISHED)), limit=50
    )
    if any(LANDED in record.dagster_run.tags for record in going_on):
        return dg.SkipReason("A run over landed days is going on: looked at again after it.")
    before = context.instance.get_run_records(dg.RunsFilter(tags={LANDED: landed}), limit=1000)
    failed = [record.update_timestamp for record in before]
    if failed:
        again = max(failed) + min(PAUSE * (1 << min(len(failed) - 1, 20)), LONGEST)
        if now < again:
            times = "once" if len(failed) == 1 else f"{len(failed)} times"
            return dg.SkipReason(
                f"Runs over these days failed {times}: asked for again at {again:%H:%M} UTC."
            )
    run = dg.RunRequest(
        run_key=f"landed-{landed}-{len(failed)}",
        tags={RANGE_START: first.isoformat(), RANGE_END: max(settled).isoformat(), LANDED: landed},
    )
    return dg.SensorResult(run_requests=[run])


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def verdicts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Turns daily verdicts (sample ratios, guardrails, data quality) into incidents.

    The run that judges a day does so itself; this finds what a killed run left, once.
    """
    home = home_from(os.environ)
    newest = {table: _newest_days(home, table) for table in VERDICTS}
    seen = digest_of([json.dumps({table: _manifest_marks(home, table, newest[table]) for table in VERDICTS})])
    if context.cursor == seen:
        return dg.SkipReason("No verdict is new.")
    days = [day for found in newest.values() for day in found]
    if not days:
        context.update_cursor(seen)
        return dg.SkipReason("No day has been judged yet.")
    now = datetime.now(UTC)
    with DuckDBResource(database=":memory:").get_connection() as connection:
        connection.execute("set memory_limit = '256MB'")
        with workbench(home, connection, run_id="verdicts", environment=os.environ, threads=1) as bench:
            window = Window.of(max(days) - timedelta(days=VERDICT_DAYS - 1), max(days))
            done = follow_verdicts(bench, window, now, channels_from(os.environ, home.notifications))
    context.update_cursor(seen)
    return dg.SkipReason(", ".join(f"{count} {name}" for name, count in done.items()))


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.STOPPED)
def freshness(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Opens an incident where the newest complete day is older than the policy allows; closes it after."""
    home, now = home_from(os.environ), datetime.now(UTC)
    newest = _newest_days(home, "events", least=1)
    finding = freshness_finding(newest[-1] if newest else None, _policy(home).fresh_within_hours, now)
    if finding is None:
        return dg.SkipReason("No day has been made yet.")
    key = finding.digest()
    if context.cursor != key:
        record_findings(state_log(home), [finding], now)
        context.update_cursor(key)
    return dg.SkipReason(finding.evidence)


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def notifications(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Sends what waits, says again what nobody took in time, and shows open incidents as an asset."""
    home, now = home_from(os.environ), datetime.now(UTC)
    state = state_log(home)
    newest = _newest_entry(state)
    if newest == 0:
        return dg.SkipReason("There has been no incident.")
    before: Mapping[str, object] = json.loads(context.cursor) if context.cursor else {}
    if before.get("newest") == newest and not before.get("restless"):
        return dg.SkipReason("Nothing has happened since the last look.")
    done = tell(state, channels_from(os.environ, home.notifications), _policy(home), now)
    ongoing = open_incidents(state)
    shown = digest_of([one.canonical_json() for one in ongoing])
    restless = bool(done["waiting"] or done["failed"]) or any(one.status == "open" for one in ongoing)
    cursor = json.dumps({"newest": _newest_entry(state), "shown": shown, "restless": restless})
    told = ", ".join(f"{count} {name}" for name, count in done.items())
    if before.get("shown") == shown:
        context.update_cursor(cursor)
        return dg.SkipReason(told)
    return dg.SensorResult(cursor=cursor, asset_events=[_incidents_asset(ongoing)], skip_reason=told)


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def flag_webhook(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Sends versions of flags that their receiver has not taken yet; the tick of ramps does so at once."""
    receiver = webhook_from(os.environ)
    if receiver is None:
        return dg.SkipReason("No receiver is set.")
    log = state_log(home_from(os.environ))
    if not pending_versions(log, receiver):
        return dg.SkipReason("The receiver has every version.")
    done = deliver_flags(log, receiver, datetime.now(UTC))
    trouble = f"; {done.error}" if done.error else ""
    return dg.SkipReason(f"{len(done.sent)} sent, {done.waiting} waiting{trouble}")


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def prometheus(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Writes the numbers of operating as Prometheus text, into the folder EXP_METRICS_DIR; off without it."""
    if not os.environ.get(VARIABLE):
        return dg.SkipReason(f"{VARIABLE} names no folder.")
    home, now = home_from(os.environ), datetime.now(UTC)
    with DuckDBResource(database=":memory:").get_connection() as connection:
        connection.execute("set memory_limit = '256MB'")
        with workbench(home, connection, run_id="prometheus", environment=os.environ, threads=1) as bench:
            path = write_gauges(bench, channels_from(os.environ, home.notifications), now, os.environ)
    return dg.SkipReason(f"Written: {path.name}")


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.FAILURE,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Opens an incident for a job that failed, and for a blocking check that stopped it.",
)
def failed_runs(context: dg.RunStatusSensorContext) -> dg.SkipReason:
    return _follow_run(context, succeeded=False)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes the incidents of a job that succeeds again.",
)
def succeeded_runs(context: dg.RunStatusSensorContext) -> dg.SkipReason:
    return _follow_run(context, succeeded=True)


def _follow_run(context: dg.RunStatusSensorContext, *, succeeded: bool) -> dg.SkipReason:
    home, now = home_from(os.environ), datetime.now(UTC)
    state = state_log(home)
    ongoing = open_incidents(state)
    run = ended_run(context.instance, context.dagster_run, succeeded=succeeded, ended=now.date())
    if succeeded and not ongoing:
        return dg.SkipReason("Nothing is open.")
    changed = record_findings(state, findings_of_run(run, ongoing), now)
    return dg.SkipReason(f"{len(changed)} incidents changed by run {run.run_id[:8]}")


def ended_run(instance: dg.DagsterInstance, run: dg.DagsterRun, *, succeeded: bool, ended: date) -> EndedRun:
    """What findings need to know of a run that ended, out of its tags and events."""
    partition = run.tags.get("dagster/partition")
    job = run.job_name if not run.job_name.startswith("__") else "assets"
    if job == "assets" and run.asset_selection:
        names = sorted(key.to_user_string() for key in run.asset_selection)
        job = f"assets:{names[0]}" + (f"+{len(names) - 1}" if len(names) > 1 else "")
    days = None
    if RANGE_START in run.tags and RANGE_END in run.tags:
        days = (date.fromisoformat(run.tags[RANGE_START]), date.fromisoformat(run.tags[RANGE_END]))
    checks: dict[str, bool] = {}
    kinds = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    error = "the run ended without a word: was its process killed?"
    for record in instance.get_records_for_run(run.run_id, of_type=kinds, limit=200).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            checks[found.check_name] = found.passed
        else:
            kind = event.step_failure_data.error
            error = f"step {event.step_key} failed" + (f" ({kind.cls_name})" if kind else "")
    failed = sorted(name for name, passed in checks.items() if not passed)
    if failed and not succeeded:
        error += f"; checks that failed: {', '.join(failed[:4])}"
    subject = f"{job}:{partition}" if partition and days is None else job
    return EndedRun(run.run_id, job, subject, ended, succeeded, error, days, checks)


def _incidents_asset(ongoing: Sequence[Incident]) -> dg.AssetMaterialization:
    """Open incidents as the newest materialization of an asset, so that the UI shows them as a table."""
    records = [
        dg.TableRecord(
            {
                "what": f"{one.severity}: {one.rule}",
                "subject": one.subject,
                "since": one.since.isoformat(),
                "state": f"taken by {one.acknowledged_by}" if one.acknowledged_by else one.status,
                "owner": one.owner,
            }
        )
        for one in ongoing[:SHOWN]
    ]
    columns = ["what", "subject", "since", "state", "owner"]
    table = dg.MetadataValue.table(
        records=records, schema=dg.TableSchema([dg.TableColumn(name) for name in columns])
    )
    pages = sum(one.severity == "page" for one in ongoing)
    # A cell has no room for a sentence: what was seen, and what to do, stands in a list of its own.
    seen = [
        f"- **{one.rule} on {one.subject}**: {one.evidence}. First: {one.first_action}. `{one.runbook}`"
        for one in ongoing[:SHOWN]
    ]
    return dg.AssetMaterialization(
        INCIDENTS,
        metadata={
            "open": len(ongoing),
            "pages": pages,
            "incidents": table,
            "what_was_seen": dg.MetadataValue.md("\n".join(seen) or "Nothing is open."),
        },
    )


incidents = spec(
    "incidents",
    group="integrity",
    description="What is broken now, worst first. Kept by the sensor `notifications`; taken on, silenced and "
    "explained with `exp incidents`.",
    grain="One row per open incident.",
)


# A job of planning alone: what a changed brief asks for.
planning = dg.define_asset_job(
    "planning",
    selection=dg.AssetSelection.assets("brief", "readiness", "power_plan"),
    description="Whether a brief is ready, and how many units and weeks it needs.",
)


@dg.sensor(job=planning, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def changed_briefs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Plans an experiment again when its brief is new or has changed.

    Its first tick only notes the briefs that were planned before.
    """
    folder = home_from(os.environ).catalog / "experiments"
    partitions = set(context.instance.get_dynamic_partitions("experiment"))
    now = {
        path.stem: digest_of([path.read_text(encoding="utf-8", errors="replace")])[:32]
        for path in sorted(folder.glob("*.y*ml"))
        if path.stem in partitions and path.is_file()
    }
    before: Mapping[str, str] = json.loads(context.cursor) if context.cursor else {}
    due = [name for name in now if before.get(name) != now[name]]
    if not context.cursor:
        planned = set(context.instance.get_materialized_partitions(dg.AssetKey("readiness")))
        due = [name for name in due if name not in planned]
    cursor = json.dumps(now, sort_keys=True)
    if not due:
        context.update_cursor(cursor)
        return dg.SkipReason("No brief has changed.")
    requests = [
        dg.RunRequest(run_key=f"brief-{name}-{now[name]}", tags={"dagster/partition": name}) for name in due
    ]
    return dg.SensorResult(run_requests=requests, cursor=cursor)


def _newest_entry(state: StateLog) -> int:
    """Where the log of findings and of what people did ends; 0 where it is empty."""
    found = (state.newest(kind) for kind in (FINDINGS, ACTIONS))
    return max((one.entry_id for one in found if one is not None), default=0)


def _policy(home: Home) -> IncidentPolicy:
    """The policy of incidents, read anew only where a policy file has changed."""
    return _read_policy(home.catalog, json.dumps(_marks(home.catalog.glob("policies/*"))))


@lru_cache(maxsize=1)
def _read_policy(catalog: Path, marks: str) -> IncidentPolicy:
    return open_catalog(catalog).policies.incidents


def _first_day() -> date:
    from exp_pipeline.defs import partitions as parts

    return parts.first_day()


def _settled(folder: Path, now: datetime) -> bool:
    """Whether nothing in a folder has changed for a while; a name that begins with a dot is on its way."""
    newest = 0.0
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            return False
        if path.is_file():
            newest = max(newest, path.stat().st_mtime)
    return newest > 0 and now.timestamp() - newest >= SETTLED.total_seconds()


def _newest_days(home: Home, table: str, *, least: int = VERDICT_DAYS) -> list[date]:
    """The newest days of a table that were written, oldest first, without reading any."""
    folder = home.lake / table
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    written = [name for name in names[-4 * least :] if (folder / name / MANIFEST).is_file()]
    return [day_of(name) for name in written[-least:]]


def _manifest_marks(home: Home, table: str, days: Iterable[date]) -> list[tuple[str, int, int]]:
    return _marks(home.lake / table / f"event_date={day.isoformat()}" / MANIFEST for day in days)


def _marks(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    found = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(found)


SENSORS = [
    landing,
    verdicts,
    freshness,
    notifications,
    flag_webhook,
    prometheus,
    failed_runs,
    succeeded_runs,
    changed_briefs,
]
