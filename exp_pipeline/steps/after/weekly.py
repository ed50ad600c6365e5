"""The weekly review: read from the lake, the state log and the catalog; kept as JSON and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from exp_pipeline.analysis.after.weekly import (
    in_order,
    last_whole_week,
    monday_of,
    refused,
    week_metric,
    week_quality,
    without_number,
)
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.weekly import (
    WeekChange,
    WeekDecision,
    WeekExperiment,
    WeekIncident,
    WeekMetric,
    WeekReview,
)
from exp_pipeline.report.weekly import weekly_html
from exp_pipeline.steps.after.holdout import holdouts_of_week
from exp_pipeline.steps.behaviour.facts import offer_learner_days
from exp_pipeline.steps.behaviour.learner_days import event_measures, session_measures
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.experiments.readouts import write_index
from exp_pipeline.steps.operating.flags import versions
from exp_pipeline.steps.operating.incidents import incidents
from exp_pipeline.steps.operating.life import life
from exp_pipeline.steps.operating.ramp_log import all_entries
from exp_pipeline.store.engine import quote
from exp_pipeline.store.files import write_text
from exp_pipeline.store.state import state_log
from exp_pipeline.transform import measures as measure_sql

FOLDER = "weekly"
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class WeekFiles:
    """Where a week's review lies, and what it says."""

    review: WeekReview
    html: Path
    json: Path


def weekly_review(bench: Workbench, now: datetime, week: str | None = None) -> WeekReview:
    """The review of an ISO week (the newest that is whole, unless named).

    Raises ExpError where no whole week is there yet, or the week named has no day of data, and ValueError for
    a text that is no week.
    """
    known = [day_of(one) for one in bench.lake.partitions("learner_days")]
    if not known:
        raise ExpError("no day has been made yet: materialize the daily assets first (`exp run`)")
    wanted = week or last_whole_week(known[-1])
    first = monday_of(wanted)
    both = Window(first - _WEEK, first + _WEEK)
    days = [one for one in known if both.first <= one < both.end]
    if not any(one >= first for one in days):
        raise ExpError(f"no day of {wanted} is in the lake; there are {known[0]} to {known[-1]}")
    return WeekReview(
        week=wanted,
        first=first,
        last=first + _WEEK - DAY,
        made_at=now.astimezone(UTC),
        days=sum(one >= first for one in days),
        days_before=sum(one < first for one in days),
        metrics=_metrics(bench, first, both),
        quality=week_quality(_verdicts(bench, both), first),
        incidents=_incidents(bench, first),
        decisions=_decisions(bench, first),
        changes=_changes(bench, first),
        experiments=_experiments(bench, now),
        holdouts=holdouts_of_week(bench.home, (one.name for one in bench.catalog.holdouts()), wanted),
    )


def write_weekly(bench: Workbench, now: datetime, week: str | None = None) -> WeekFiles:
    """Write a week's review as `readouts/weekly/<week>.json` and `.html`; the newest also `weekly.html`."""
    review = weekly_review(bench, now, week)
    folder = bench.home.readouts / FOLDER
    found = WeekFiles(review, folder / f"{review.week}.html", folder / f"{review.week}.json")
    write_text(found.json, review.model_dump_json(indent=1) + "\n")
    weeks = sorted((path.stem for path in folder.glob("*-W*.json")), reverse=True)
    write_text(found.html, weekly_html(review, weeks, root="../"))
    if weeks[0] == review.week:
        write_text(bench.home.readouts / "weekly.html", weekly_html(review, weeks, below=f"{FOLDER}/"))
        # The other pages lead here, and this one to them.
        write_index(bench)
    return found


def _inside(at: datetime, first: date) -> bool:
    start = datetime.combine(first, time(), UTC)
    return start <= at.astimezone(UTC) < start + _WEEK


def _metrics(bench: Workbench, first: date, both: Window) -> tuple[WeekMetric, ...]:
    engine = bench.engine
    over_events, over_sessions = event_measures(bench), session_measures(bench)
    measures = {one.name: one for one in measure_sql.in_order((*over_events, *over_sessions))}
    rows, told = [], []
    for metric in bench.catalog.metrics.values():
        why = refused(metric, measures)
        if why:
            rows.append(without_number(metric, why))
        else:
            told.append(metric)
    offer_learner_days(bench, both)
    # `sessions` holds the days of both weeks here: whoever was a student in them.
    engine.build("students", "select distinct learner_key as unit_key from sessions where role = 'student'")
    for name, own in (("learner_day_sums", over_events), ("session_days", over_sessions)):
        added = [one for one in own if one.aggregate in ("count", "sum")]
        for end, start in (("", first), ("_before", both.first)):
            sums = "".join(f", {measure_sql.added_up(one, 's').sql(dialect='duckdb')}" for one in added)
            engine.build(
                f"{name}{end}_week",
                f"select s.unit_key{sums} from {quote(name)} as s inner join students as c "
                "on s.unit_key = c.unit_key where s.event_date >= $first_day and s.event_date < $end_day "
                "group by s.unit_key",
                {"first_day": start, "end_day": start + _WEEK},
            )
    for end in ("", "_before"):
        engine.build(
            f"active{end}",
            f"select unit_key from learner_day_sums{end}_week "
            f"union select unit_key from session_days{end}_week",
        )
    for metric in told:
        parts = []
        for wanted, part in ((metric.numerator, "num"), (metric.denominator, "den")):
            for end, alias in (("", "now"), ("_before", "past")):
                if wanted is None:
                    parts.append(f"0.0 as {part}{end}")
                    continue
                side = "l" if measures[wanted].over == "events" else "z"
                parts.append(f"cast({side}_{alias}.{quote(wanted)} as double) as {part}{end}")
        frame = engine.frame(
            "select a.unit_key is not null as now, b.unit_key is not null as before, "
            f"{', '.join(parts)} from active as a full outer join active_before as b "
            "on a.unit_key = b.unit_key "
            "left join learner_day_sums_week as l_now on a.unit_key = l_now.unit_key "
            "left join session_days_week as z_now on a.unit_key = z_now.unit_key "
            "left join learner_day_sums_before_week as l_past on b.unit_key = l_past.unit_key "
            "left join session_days_before_week as z_past on b.unit_key = z_past.unit_key "
            "order by coalesce(a.unit_key, b.unit_key)"
        )
        rows.append(week_metric(metric, frame))
    for name in (
        "learner_day_sums", "session_days", "students", "active", "active_before", "learner_day_sums_week",
        "session_days_week", "learner_day_sums_before_week", "session_days_before_week",
    ):  # fmt: skip
        engine.drop(name)
    return in_order(rows)


def _verdicts(bench: Workbench, both: Window) -> list[tuple[date, str, str]]:
    manifests = bench.lake.manifests("data_quality", [event_day(one) for one in both.days()])
    if not manifests:
        return []
    bench.read("quality_of_weeks", "data_quality", manifests)
    frame = bench.engine.frame("select event_date, rule, verdict from quality_of_weeks order by all")
    bench.engine.drop("quality_of_weeks")
    return [(row[0], row[1], row[2]) for row in frame.iter_rows()]


def _incidents(bench: Workbench, first: date) -> tuple[WeekIncident, ...]:
    end = datetime.combine(first + _WEEK, time(), UTC)
    found = []
    for one in incidents(state_log(bench.home)):
        opened = _inside(one.opened_at, first)
        closed = one.resolved_at is not None and _inside(one.resolved_at, first)
        if not (opened or closed) and not (
            one.opened_at < end and (one.resolved_at is None or one.resolved_at >= end)
        ):
            continue
        both = "opened and closed" if opened and closed else "opened" if opened else "closed"
        found.append(
            WeekIncident.model_validate(
                {
                    "rule": one.rule,
                    "subject": one.subject,
                    "severity": one.severity,
                    "what": both if opened or closed else "open",
                    "opened_at": one.opened_at,
                    "resolved_at": one.resolved_at,
                    "owner": one.owner,
                }
            )
        )
    return tuple(
        sorted(found, key=lambda one: (one.severity != "page", one.opened_at, one.rule, one.subject))
    )


def _decisions(bench: Workbench, first: date) -> tuple[WeekDecision, ...]:
    return tuple(
        WeekDecision(
            at=row.at, experiment=row.experiment, kind=row.kind, outcome=row.outcome, arm=row.arm or "",
            by=row.by,
        )
        for row in decisions(bench.home)
        if _inside(row.at, first)
    )  # fmt: skip


def _changes(bench: Workbench, first: date) -> tuple[WeekChange, ...]:
    log = state_log(bench.home)
    found = [
        WeekChange(
            at=one.at,
            kind="ramp",
            what=f"{one.experiment}: {one.action.replace('_', ' ')}, stage {one.stage} of {one.stages} "
            f"({one.phase}), {100 * one.traffic:g} % of traffic",
            by=one.by,
        )
        for _, one in all_entries(log)
        if _inside(one.at, first)
    ]
    for version in versions(log):
        if _inside(version.published_at, first):
            named = sorted({str(change.get("experiment")) for change in version.changes})
            what = f"version {version.version} of the flags" + (f": {', '.join(named)}" if named else "")
            found.append(WeekChange(at=version.published_at, kind="flags", what=what, by="the pipeline"))
    return tuple(sorted(found, key=lambda one: (one.at, one.kind, one.what)))


def _experiments(bench: Workbench, now: datetime) -> tuple[WeekExperiment, ...]:
    found = []
    for name, brief in sorted(bench.catalog.briefs.items()):
        if brief.table is not None:
            continue
        own = life(bench, brief, now)
        if own.now.state == "closed":
            continue
        coming = own.next
        found.append(
            WeekExperiment(
                experiment=name,
                title=brief.title,
                owner=brief.owner,
                state=own.now.label,
                since=own.now.since,
                next="" if coming is None else f"{coming.at:%Y-%m-%d}: {coming.what}",
            )
        )
    return tuple(found)
