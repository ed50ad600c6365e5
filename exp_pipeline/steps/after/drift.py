"""Drift: the days counted once each, judged against their own weeks, and told as incidents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from exp_pipeline.analysis.after.drift import judge_drift
from exp_pipeline.model.after import DriftDay, DriftFinding
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.incidents import Finding
from exp_pipeline.steps.context import Workbench, day_of, event_day
from exp_pipeline.steps.operating.incidents import record_findings
from exp_pipeline.store.files import write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log
from exp_pipeline.transform import queries

FOLDER = "after"
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Drift:
    """What was judged: the newest ripe day, its findings, and the days that had to be counted for it."""

    day: date | None
    findings: tuple[DriftFinding, ...]
    counted: int
    opened: int


def drift_file(home: Home) -> Path:
    """Where the newest findings stand."""
    return home.marts / FOLDER / "drift.json"


def judge(bench: Workbench, now: datetime, day: date | None = None) -> Drift:
    """Judge the newest day (or the one named), write its findings, and open or close incidents.

    A day is counted again only where the lake's files of it changed. Nothing is opened for a named day that
    is not the newest: what is past cannot be acted on.
    """
    known = [day_of(one) for one in bench.lake.partitions("turns")]
    ripe = [one for one in known if bench.lake.manifest("events", event_day(one)) is not None]
    if day is not None and day not in ripe:
        raise ValueError(f"day {day} has no turns; there are: {_span(ripe)}")
    if not ripe:
        return Drift(None, (), 0, 0)
    policy, quality = bench.catalog.policies.drift, bench.catalog.policies.quality
    judged = day or ripe[-1]
    wanted = [one for one in ripe if timedelta(0) <= judged - one <= timedelta(days=_WEEK * policy.weeks)]
    days, counted = _counted(bench, wanted)
    free = {
        field
        for brief in bench.catalog.briefs.values()
        if brief.table is None and brief.start <= judged < brief.end
        for field in brief.receipt.may_differ
    }
    found = judge_drift(
        days, judged, policy, free=free, fields=quality.receipt_fields, announced=quality.announced
    )
    opened = 0
    if judged == ripe[-1]:
        content = [one.model_dump(mode="json") for one in found]
        write_text(drift_file(bench.home), json.dumps(content, indent=1, sort_keys=True) + "\n")
        told = [_finding(one, policy.owner) for one in found]
        opened = len(record_findings(state_log(bench.home), told, now))
    return Drift(judged, found, counted, opened)


def findings(home: Home) -> tuple[DriftFinding, ...]:
    """What was found on the newest day that was judged; nothing where none was."""
    path = drift_file(home)
    rows = json.loads(path.read_bytes()) if path.is_file() else []
    return tuple(DriftFinding.model_validate(one) for one in rows)


def _finding(one: DriftFinding, owner: str) -> Finding:
    """A warning neither opens nor closes; only what is past the farther line wakes nobody but opens."""
    over = one.verdict == "fail" and one.change is not None and one.threshold
    off = abs(one.change or 0.0) / (one.threshold or 1.0) - 1.0 if over else 0.0
    return Finding(
        rule="drift",
        subject="".join(sign if "!" <= sign <= "~" else "_" for sign in one.subject)[:200],
        day=one.day,
        verdict="cannot_tell" if one.verdict == "warn" else one.verdict,
        severity="warn",
        evidence=one.evidence,
        number=one.value,
        threshold=one.threshold,
        badness=max(off, 0.0),
        owner=owner,
    )


def _span(days: Sequence[date]) -> str:
    return f"{days[0]} to {days[-1]}" if days else "none"


def _counted(bench: Workbench, wanted: Sequence[date]) -> tuple[list[DriftDay], int]:
    """The counts of days: those kept whose files have not changed, and the others counted now."""
    path = bench.home.marts / FOLDER / "drift_days.json"
    kept = _kept(path)
    marks = {one: _content(bench, one) for one in wanted}
    new = [one for one in wanted if one not in kept or kept[one].content != marks[one]]
    for start in range(0, len(new), _WEEK):
        for one in _count(bench, new[start : start + _WEEK], marks):
            kept[one.day] = one
    if new:
        oldest = wanted[-1] - timedelta(days=2 * _WEEK * bench.catalog.policies.drift.weeks)
        content = [kept[one].model_dump(mode="json") for one in sorted(kept) if one >= oldest]
        write_text(path, json.dumps(content, sort_keys=True) + "\n")
    return [kept[one] for one in wanted if one in kept], len(new)


def _kept(path: Path) -> dict[date, DriftDay]:
    """The counts that are kept; none where the file is missing or of an earlier form: they are made again."""
    try:
        rows = [DriftDay.model_validate(one) for one in json.loads(path.read_bytes())]
    except (FileNotFoundError, ValueError):
        return {}
    return {one.day: one for one in rows}


def _content(bench: Workbench, day: date) -> str:
    found = [bench.lake.manifest(table, event_day(day)) for table in ("events", "turns", "sessions")]
    fields = sorted(bench.catalog.policies.quality.receipt_fields)
    return digest_of([fields, *("" if one is None else one.content_digest for one in found)])[:24]


def _count(bench: Workbench, days: Sequence[date], marks: dict[date, str]) -> list[DriftDay]:
    from sqlglot import exp

    fields = bench.catalog.policies.quality.receipt_fields
    names = [event_day(one) for one in days]
    bench.read("turns", "turns", bench.lake.manifests("turns", names))
    turns = bench.engine.frame(queries.query_text(queries.load("drift_turns")))
    bench.read("events", "events", bench.lake.manifests("events", names))
    volumes = bench.engine.frame(queries.query_text(queries.load("quality_volumes")))
    columns = [exp.column(name, quoted=True) for name in fields]
    query = queries.with_slots(queries.load("quality_receipts"), {"receipt": columns})
    receipts = bench.engine.frame(queries.query_text(query))
    for name in ("turns", "events"):
        bench.engine.drop(name)
    by_day = {row["event_date"]: row for row in turns.iter_rows(named=True)}
    return [_day(bench, one, marks[one], by_day.get(one), volumes, receipts) for one in days]


def _day(
    bench: Workbench,
    day: date,
    mark: str,
    turns: dict[str, object] | None,
    volumes: pl.DataFrame,
    receipts: pl.DataFrame,
) -> DriftDay:
    own = receipts.filter(pl.col("event_date") == day)
    flags = volumes.filter((pl.col("event_date") == day) & (pl.col("event_name") == "safety_flagged"))
    sessions = bench.lake.manifest("sessions", event_day(day))
    row = turns or {}
    versions = {
        field: {
            str(value): int(rows)
            for value, rows in own.drop_nulls(field)
            .group_by(field)
            .agg(pl.col("n_rows").sum())
            .sort(field)
            .iter_rows()
        }
        for field in bench.catalog.policies.quality.receipt_fields
    }
    return DriftDay.model_validate(
        {
            "day": day,
            "content": mark,
            "turns": row.get("n_turns") or 0,
            "answered": row.get("n_answered") or 0,
            "responses": int(own["n_rows"].sum()),
            "sessions": 0 if sessions is None else sessions.rows,
            "safety_flags": int(flags["n_rows"].sum()),
            "latency_p50_ms": row.get("latency_p50_ms"),
            "latency_p95_ms": row.get("latency_p95_ms"),
            "tokens_in": int(str(row.get("tokens_in") or 0)),
            "tokens_out": int(str(row.get("tokens_out") or 0)),
            "cost_usd": float(str(row.get("cost_usd") or 0)),
            "versions": versions,
        }
    )
