"""Data quality of days: every rule judged on each day, one table of findings."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import polars as pl

from exp_pipeline.analysis.quality import days as judging
from exp_pipeline.analysis.quality.days import Group, Judge
from exp_pipeline.contracts.deprecations import deprecations
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.quality import QualityFinding, QualityPolicy
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRuleName
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, event_day
from exp_pipeline.steps.ingest.day_files import write_alone
from exp_pipeline.steps.origins import also_reads, recording
from exp_pipeline.steps.quality import groups as groups_of
from exp_pipeline.steps.quality.counts import DayCounts, count_days, looked_back
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import NewFile

_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def judge_quality(bench: Workbench, window: Window) -> list[Written]:
    """Judge every rule on each day of the window that has events; writes `data_quality`.

    A day's findings depend on that day, on the same weekday of earlier weeks, on the day before and on which
    received days have landed, never on the window; the same lake gives the same bytes.
    """
    started = time.monotonic()
    days = [day for day in window.days() if bench.lake.manifest("events", event_day(day)) is not None]
    if not days:
        return []
    bench = recording(bench, ("data_quality",), window)
    counts = count_days(bench, days)
    bench = also_reads(bench, "data_quality", looked_back(bench.catalog.policies.quality, counts, days))
    found = [one for day in days for one in findings_of(bench, counts, day)]
    return write_findings(bench, found, days, started)


def findings_of(bench: Workbench, counts: DayCounts, day: date) -> list[QualityFinding]:
    """Every enabled rule's finding on one day, in the order of the rules."""
    policy = bench.catalog.policies.quality
    found = []
    for name, rule in QUALITY_RULES.items():
        if not policy.limits(name).enabled:
            continue
        judge = Judge(policy, name, day)
        ripe = day + timedelta(days=rule.ripe_after_days)
        if rule.ripe_after_days and (counts.newest_landed is None or counts.newest_landed < ripe):
            found.append(judge.cannot_tell("too_early", f"it can be told once {ripe} has landed"))
        else:
            found.append(_judged(bench, judge, counts, day))
    return found


def _judged(bench: Workbench, judge: Judge, counts: DayCounts, day: date) -> QualityFinding:
    name, policy = judge.name, bench.catalog.policies.quality
    if name in _SHARES_OF_EVENTS:
        column = _SHARES_OF_EVENTS[name]
        found = groups_of.cube(
            groups_of.rows_on(counts.events, day), column, "n_rows", ("event_name", "platform")
        )
        if name == "clock_skew":
            found = groups_of.with_future(found, groups_of.rows_on(counts.refusals, day))
        return judging.judge_share(judge, found, "events")
    if name == "volume":
        return judging.judge_volume(
            judge, groups_of.volume_groups(counts.volumes, day, policy), _weekday(day)
        )
    if name == "answered_turns":
        groups = groups_of.cube(
            groups_of.rows_on(counts.turns, day), "n_answered", "n_submitted", ("platform",)
        )
        return judging.judge_share(judge, groups, "submitted turns")
    if name == "orphan_responses":
        groups = groups_of.cube(
            groups_of.rows_on(counts.turns, day), "n_orphans", "n_responding", ("platform",)
        )
        return judging.judge_share(judge, groups, "turns with a response")
    if name == "responses_per_turn":
        columns = ("n_responses", "n_submitted", ("platform",), "n_responses_squared")
        today = groups_of.cube(groups_of.rows_on(counts.turns, day), *columns)
        past = groups_of.cube(groups_of.rows_on(counts.turns, day - DAY), *columns)
        return judging.judge_fall(judge, groups_of.beside(today, past), "turns", "the day before")
    if name == "explicit_ends":
        return judging.judge_fall(
            judge, groups_of.end_groups(counts.sessions, day, policy), "sessions", "usual"
        )
    if name == "critical_nulls":
        return judging.judge_share(judge, groups_of.empty_field_groups(counts, day, policy), "rows")
    if name in _REFUSED:
        return judging.judge_share(judge, groups_of.refused_groups(counts, day, name), "rows")
    if name == "retries":
        return judging.judge_share(
            judge, groups_of.fate_groups(counts.by_source[day], "retry"), "landed rows"
        )
    if name in ("orphan_feedback", "orphan_appeals"):
        frame = counts.feedback if name == "orphan_feedback" else counts.appeals
        what = "feedback on turns" if name == "orphan_feedback" else "appeals on turns"
        return judging.judge_share(
            judge, groups_of.cube(groups_of.rows_on(frame, day), "n_orphans", "n_rows", ("platform",)), what
        )
    if name == "orphan_exposures":
        groups = groups_of.cube(
            groups_of.rows_on(counts.exposures, day), "n_orphans", "n_rows", ("experiment",)
        )
        return judging.judge_share(judge, groups, "exposures")
    if name == "gateway_tokens":
        return _tokens(judge, counts, day, policy)
    if name == "receipt_drift":
        return _drift(bench, judge, counts, day)
    used = groups_of.deprecated_groups(groups_of.rows_on(counts.events, day))
    return judging.judge_deprecated(judge, used, {one.label: one.sunset for one in deprecations()})


_SHARES_OF_EVENTS: Mapping[QualityRuleName, str] = {
    "arrival_2h": "n_within_2h",
    "arrival_24h": "n_within_24h",
    "late_rows": "n_late",
    "clock_skew": "n_skewed",
}
_REFUSED: frozenset[QualityRuleName] = frozenset(
    ("contract_breaks", "unreadable_rows", "conflicting_duplicates", "too_late_rows")
)


def _weekday(day: date) -> str:
    return _WEEKDAYS[day.weekday()]


def _tokens(judge: Judge, counts: DayCounts, day: date, policy: QualityPolicy) -> QualityFinding:
    if policy.gateway is None:
        return judge.cannot_tell("not_configured", "the policy names no totals of the gateway")
    if counts.totals is None:
        return judge.cannot_tell("unreadable_totals", counts.totals_trouble)
    theirs = counts.totals.filter(pl.col("day") == day)
    if not theirs.height:
        return judge.cannot_tell("not_configured", f"no file of {policy.gateway.files} has totals of {day}")
    ours = {row["model_name"]: row for row in groups_of.rows_on(counts.tokens, day).iter_rows(named=True)}
    groups = []
    for column, way in (("tokens_in", "in"), ("tokens_out", "out")):
        logged = sum(int(row[column]) for row in ours.values())
        groups.append(Group(f"tokens {way}", float(logged), float(theirs[column].sum())))
        for row in theirs.iter_rows(named=True) if theirs.height > 1 else ():
            own = ours.get(row["model_name"])
            logged = int(own[column]) if own else 0
            groups.append(
                Group(f"{groups_of.shown(row['model_name'])} {way}", float(logged), float(row[column]))
            )
    return judging.judge_totals(judge, groups, "tokens")


def _drift(bench: Workbench, judge: Judge, counts: DayCounts, day: date) -> QualityFinding:
    policy = bench.catalog.policies.quality
    free = {
        field
        for brief in bench.catalog.briefs.values()
        if brief.table is None and brief.start <= day < brief.end
        for field in brief.receipt.may_differ
    }
    known: set[str] = set()
    past = counts.receipts.filter(pl.col("event_date").is_in(groups_of.history(day, policy)))
    today = groups_of.rows_on(counts.receipts, day)
    responses = float(today["n_rows"].sum())
    groups = []
    for field in policy.receipt_fields:
        before = past.filter(pl.col(field).is_not_null()).group_by(field).agg(pl.col("n_rows").sum())
        # A few rows of the next version, from a clock that is off or a trial, do not make it known.
        often = before.filter(pl.col("n_rows") >= judge.limits.minimum_rows)
        settled = {*often[field].to_list(), *policy.announced.get(field, ())}
        sums = today.filter(pl.col(field).is_not_null()).group_by(field).agg(pl.col("n_rows").sum())
        for value, rows in sums.sort(field).iter_rows():
            name = f"{field}={groups_of.shown(value)}"
            groups.append(Group(name, float(rows), responses))
            if value in settled or field in free:
                known.add(name)
    return judging.judge_drift(judge, groups, known, past["event_date"].n_unique(), responses)


def _row(found: QualityFinding) -> dict[str, object]:
    carriers = [one.model_dump(mode="json", exclude_none=True) for one in found.carriers]
    return {
        "event_date": found.day,
        "rule": found.rule,
        "subject": found.subject,
        "value": found.value,
        "threshold": found.threshold,
        "unit": found.unit,
        "n_rows": found.rows,
        "verdict": found.verdict,
        "reason": found.reason,
        "owner": found.owner,
        "opens": found.opens,
        "evidence": found.evidence,
        "carriers": json.dumps(carriers, ensure_ascii=False, sort_keys=True),
    }


_KINDS = {"VARCHAR": pl.String, "BIGINT": pl.Int64, "DOUBLE": pl.Float64, "DATE": pl.Date}


def write_findings(
    bench: Workbench, findings: Sequence[QualityFinding], days: Sequence[date], started: float
) -> list[Written]:
    """Make findings the content of `data_quality` for these days; a day without findings is left empty."""
    rows = [_row(one) for one in findings]
    columns = table_columns("data_quality")
    frame = pl.DataFrame(rows, schema={name: _KINDS[kind] for name, kind in columns.items()}, orient="row")
    bench.engine.offer_frame("judged", frame)
    names = ", ".join(quote(name) for name in columns)
    written = []
    for day in days:
        path = bench.lake.staging("data_quality", event_day(day))
        own = f"event_date = {text_literal(day.isoformat())}::date"
        text = f"select {names} from judged where {own} order by all"
        count = write_alone(bench.engine, text, path)
        facts = _facts([row for row in rows if row["event_date"] == day])
        written.append(
            bench.commit("data_quality", event_day(day), [NewFile(path, "all", count)], started, facts=facts)
        )
        started = time.monotonic()
    bench.engine.drop("judged")
    return written


def _facts(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """How many rules gave each verdict, and each rule's number: the UI plots numbers over partitions."""
    verdicts = ("pass", "warn", "fail", "cannot_tell")
    facts: dict[str, object] = {
        f"rules_{verdict}": sum(row["verdict"] == verdict for row in rows) for verdict in verdicts
    }
    return facts | {f"rule/{row['rule']}": row["value"] for row in rows if row["value"] is not None}
