"""What operating looks like in numbers: freshness, incidents, ramps, age of readouts, cost of a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

from exp_pipeline.model.ramps import Status, folded
from exp_pipeline.notify.channels import Channel
from exp_pipeline.report.after import DRIFT, kept_share
from exp_pipeline.report.prometheus import Gauge, Sample, prometheus_text
from exp_pipeline.steps.after.drift import findings
from exp_pipeline.steps.after.durability import durability_rows
from exp_pipeline.steps.context import Workbench, day_of, event_day
from exp_pipeline.steps.operating.delivery import channel_health
from exp_pipeline.steps.operating.incidents import open_incidents
from exp_pipeline.steps.operating.mirror import VARIABLE as MIRROR
from exp_pipeline.steps.operating.mirror import standing
from exp_pipeline.steps.operating.ramp_log import entries_of
from exp_pipeline.store.files import write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.mirror_places import place_of
from exp_pipeline.store.state import state_log

FILE = "exp_pipeline.prom"
VARIABLE = "EXP_METRICS_DIR"
TABLES = ("landed", "events", "sessions", "unit_days", "data_quality")
# How a ramp stands, as a number.
STATUSES: tuple[Status, ...] = ("not_started", "on", "paused", "rolled_back", "closed")


def gauges(
    bench: Workbench, channels: Sequence[Channel], now: datetime, environment: Mapping[str, str] | None = None
) -> tuple[Gauge, ...]:
    """Every gauge at a moment; those of a mirror where the environment names one.

    Raises ValueError where `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"now must carry a time zone, got {now.isoformat()}")
    log = state_log(bench.home)
    ongoing = Counter((one.rule, one.severity) for one in open_incidents(log))
    health = channel_health(log, channels, now)
    newest = {table: _newest(bench, table) for table in TABLES}
    found = [
        Gauge(
            "exp_newest_day_age_seconds",
            "Seconds since the end of the newest day of a table (UTC).",
            [Sample(_age(day, now), {"table": table}) for table, day in newest.items() if day is not None],
        ),
        Gauge(
            "exp_newest_day_rows",
            "Rows of the newest day of a table.",
            [Sample(_rows(bench, table, day), {"table": table}) for table, day in newest.items() if day],
        ),
        Gauge(
            "exp_incidents_open",
            "Incidents that are open or taken, by rule and severity.",
            [
                Sample(count, {"rule": rule, "severity": severity})
                for (rule, severity), count in ongoing.items()
            ]
            or [Sample(0.0)],
        ),
        Gauge(
            "exp_messages_waiting",
            "Messages that a channel has not taken yet.",
            [Sample(one.waiting, {"channel": one.channel}) for one in health],
        ),
        Gauge(
            "exp_readout_age_seconds",
            "Seconds since the end of the last day of an experiment's newest readout.",
            [Sample(age, {"experiment": name}) for name, age in _readouts(bench, now).items()],
        ),
        *_ramps(bench),
    ]
    found += _after(bench)
    found += _mirror(bench.home, environment, now)
    cost = _cost_per_session(bench, newest["sessions"])
    if cost is not None:
        found.append(
            Gauge(
                "exp_cost_per_session_usd",
                "Cost of the newest day's responses by its sessions, in US dollars.",
                [Sample(cost)],
            )
        )
    return tuple(found)


def write_gauges(
    bench: Workbench, channels: Sequence[Channel], now: datetime, environment: Mapping[str, str]
) -> Path:
    """Write the gauges' file whole, into the folder that EXP_METRICS_DIR names or below the home's state."""
    folder = Path(environment[VARIABLE]) if environment.get(VARIABLE) else bench.home.state
    path = folder / FILE
    write_text(path, prometheus_text(gauges(bench, channels, now, environment)))
    return path


def _newest(bench: Workbench, table: str) -> date | None:
    names = bench.lake.partitions(table)
    return day_of(names[-1]) if names else None


def _rows(bench: Workbench, table: str, day: date) -> int:
    partition = f"received_date={day}" if table == "landed" else event_day(day)
    manifest = bench.lake.manifest(table, partition)
    return manifest.rows if manifest is not None else 0


def _age(day: date, now: datetime) -> float:
    end = datetime.combine(day, time.min, tzinfo=UTC).timestamp() + 86_400
    return max(now.timestamp() - end, 0.0)


def _readouts(bench: Workbench, now: datetime) -> dict[str, float]:
    """Age of the newest snapshot of each experiment that has one."""
    marts, found = Marts(bench.home.marts), {}
    for name in sorted(bench.catalog.briefs):
        snapshot = marts.current(name)
        record = marts.record(name, snapshot) if snapshot is not None else None
        if record is not None:
            found[name] = _age(date.fromisoformat(str(record["as_of"])), now)
    return found


def _ramps(bench: Workbench) -> list[Gauge]:
    log = state_log(bench.home)
    stages, traffic, statuses = [], [], []
    for name, brief in sorted(bench.catalog.briefs.items()):
        entries = entries_of(log, brief)
        if not entries:
            continue
        state = folded(entries)
        here = {"experiment": name}
        traffic.append(Sample(state.traffic, here))
        stages.append(Sample(state.stage, here))
        statuses.append(Sample(STATUSES.index(state.status), here))
    return [
        Gauge("exp_ramp_stage", "The stage of an experiment's ramp, the first being 1.", stages),
        Gauge("exp_ramp_traffic", "The share of traffic that a ramp lets in.", traffic),
        Gauge("exp_ramp_status", f"How a ramp stands: {', '.join(STATUSES)} as 0, 1, ...", statuses),
    ]


def _after(bench: Workbench) -> list[Gauge]:
    """What goes on after shipping, as it was last judged: drift, and effects measured again."""
    verdicts = Counter(one.verdict for one in findings(bench.home))
    kept = []
    for name in sorted(bench.catalog.briefs):
        newest = {row.arm: row for row in durability_rows(bench.home, name) if row.against == "control"}
        for arm, row in sorted(newest.items()):
            share = kept_share(row)
            if share is not None:
                labels = {"experiment": name, "arm": arm, "weeks": str(row.days_after_end // 7)}
                kept.append(Sample(share, labels))
    return [
        Gauge(
            "exp_drift_findings",
            "What was watched for drift on the newest day that was judged, by verdict.",
            [Sample(verdicts[one], {"verdict": one}) for one in DRIFT] if verdicts else (),
        ),
        Gauge(
            "exp_durability_effect_kept",
            "The effect at the newest look after the end as a share of the effect at the end.",
            kept,
        ),
    ]


def _mirror(home: Home, environment: Mapping[str, str] | None, now: datetime) -> list[Gauge]:
    """How far a mirror is behind, by what lies here alone: no network."""
    url = (environment or {}).get(MIRROR, "").strip()
    if not url:
        return []
    try:
        mirror = place_of(url).name
    except ValueError:
        # The sensor of the mirror tells of it; the other numbers must not wait for that.
        return []
    stand = standing(home, mirror, now)
    return [
        Gauge(
            "exp_mirror_lag_seconds",
            "Seconds since the oldest change that the mirror does not hold; 0 where it holds all.",
            [Sample(stand.lag_seconds)],
        ),
        Gauge("exp_mirror_waiting", "Changes that the mirror does not hold.", [Sample(stand.waiting)]),
    ]


def _cost_per_session(bench: Workbench, day: date | None) -> float | None:
    if day is None or bench.lake.manifest("turns", event_day(day)) is None:
        return None
    bench.read("turns_of_day", "turns", bench.lake.manifests("turns", [event_day(day)]))
    (cost,) = bench.engine.row("select sum(cost_usd)::double from turns_of_day")
    sessions = _rows(bench, "sessions", day)
    return float(cost) / sessions if cost is not None and sessions else None
