"""Ingest: landed rows of event days to events, quarantine and exclusions, every row accounted for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

from sqlglot import exp

from exp_pipeline.contracts.predicates import read_expressions, rejection_expression
from exp_pipeline.model.policies import ExclusionPolicy
from exp_pipeline.steps.context import (
    Window,
    Workbench,
    Written,
    day_of,
    door_shape,
    event_day,
    received_day,
)
from exp_pipeline.steps.ingest.day_files import write_alone
from exp_pipeline.steps.ingest.doubtful import TABLE, DoubtfulRows, Questions, Seen, handed_over
from exp_pipeline.steps.ingest.event_files import DayRows, LandedDay, write_events
from exp_pipeline.steps.origins import recording
from exp_pipeline.steps.people.identity import pseudonyms_of
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.transform import queries
from exp_pipeline.transform.door import DoorShape, landed_columns

_TABLES = ("events", "quarantine", "exclusions")
_FATES = ("suspicious", "busy_minutes", "refusals", "duplicates", "fates")


def landed_for(bench: Workbench, window: Window) -> tuple[Manifest, ...]:
    """The landed partitions that hold rows of the window's event days, in the order received."""
    wanted = {day.isoformat() for day in window.days()}
    lake = bench.lake
    earliest = received_day(window.first - timedelta(days=1))
    manifests = lake.manifests("landed", [name for name in lake.partitions("landed") if name >= earliest])
    return tuple(manifest for manifest in manifests if any(file.tag in wanted for file in manifest.files))


def conform(bench: Workbench, window: Window) -> list[Written]:
    """Settle the fate of every landed row of the window's days and write the three tables of each day.

    Each row becomes an event, a retry (counted), a quarantine row or an exclusion row; nothing else may
    happen to it. A duplicate is looked for among the landed rows of the lateness window around each day, so
    days may be done in any order, one by one or together, with the same result.
    """
    bench = recording(bench, _TABLES, window)
    reach = bench.catalog.policies.time.lateness_days
    around = window.widened(reach, reach)
    slices = _slices(bench, landed_for(bench, around), around)
    columns = landed_columns(bench.shape())
    texts = _texts(bench.catalog.policies.exclusion.user_agent_contains)
    doubtful = DoubtfulRows(
        bench,
        columns,
        slices,
        replace(texts.asked, parameters=queries.used_in(texts.asked.verdicts, _parameters(bench, window))),
        window,
        reach,
        bench.catalog.policies.exclusion.superhuman_events_per_minute,
    )
    written: list[Written] = []
    # One day's events are written while the next day is judged.
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: Future[Written] | None = None
        for day in window.days():
            landed = LandedDay(day, slices.get(day, ()), columns)
            ready = _settle_day(bench, landed, doubtful.look_at(landed), texts)
            if waiting is not None:
                written.append(waiting.result())
            waiting = pool.submit(_write_events, bench, ready)
            written += _write_refused(bench, day, texts)
            del landed, ready
        if waiting is not None:
            written.append(waiting.result())
    for name in (*_FATES, "landed", TABLE):
        bench.engine.drop(name)
    return sorted(written, key=lambda one: (one.partition, _TABLES.index(one.table)))


def _slices(
    bench: Workbench, manifests: tuple[Manifest, ...], window: Window
) -> dict[date, list[tuple[Path, int]]]:
    """The landed files of each event day of a window with their rows, in the order received."""
    found: dict[date, list[tuple[Path, int]]] = {}
    wanted = {day.isoformat(): day for day in window.days()}
    for manifest in manifests:
        for file in manifest.files:
            if file.tag in wanted:
                path = bench.lake.folder(manifest.table, manifest.partition) / file.name
                found.setdefault(wanted[file.tag], []).append((path, file.rows))
    return found


def judge(bench: Workbench, window: Window) -> None:
    """Say why rows of table `landed` become no event: tables `refusals`, `duplicates` and `fates`.

    Rows of the window's event days are judged; rows around them serve to find duplicates.
    """
    _judge(bench, window, _judging(bench.catalog.policies.exclusion.user_agent_contains))


def _judge(bench: Workbench, window: Window, texts: Mapping[str, str]) -> None:
    parameters = _parameters(bench, window)
    for name, text in texts.items():
        bench.engine.build(name, text, queries.used_in(text, parameters))


@cache
def _judging(agents: tuple[str, ...], known: bool = False) -> dict[str, str]:
    """The queries that settle fates, in their order; `known`: a column tells what the contract says."""
    calls = dict(_calls(agents))
    if known:
        calls["contract_refusal"] = exp.column("refusal", table="l")
    return {name: queries.query_text(queries.with_calls(queries.load(name), calls)) for name in _FATES}


@cache
def _calls(agents: tuple[str, ...]) -> Mapping[str, exp.Expr]:
    """What the queries' calls stand for; queries take copies of it."""
    return {
        "contract_refusal": rejection_expression(),
        "payload_digest": payload_digest(door_shape()),
        "exclusion_by_agent": _by_agent(agents),
    }


def _parameters(bench: Workbench, window: Window) -> dict[str, object]:
    policies = bench.catalog.policies
    return {
        "first_day": window.first,
        "end_day": window.end,
        "lateness_days": policies.time.lateness_days,
        "excluded_roles": list(policies.exclusion.roles),
        "excluded_learners": _excluded(bench, policies.exclusion),
        "events_per_minute": policies.exclusion.superhuman_events_per_minute,
        "correction_sources": sorted(source.name for source in bench.catalog.sources if source.correction),
    }


@dataclass(frozen=True, slots=True)
class _Texts:
    """The queries of a window: made before any thread starts, since sqlglot is not safe to begin in two."""

    asked: Questions
    judging: Mapping[str, str]
    quarantine: str
    exclusions: str
    fate_counts: str


@cache
def _texts(agents: tuple[str, ...]) -> _Texts:
    verdicts = queries.with_calls(queries.load("verdicts"), _calls(agents))
    doubtful = queries.with_columns(
        queries.with_calls(queries.load("doubtful"), _calls(agents)),
        [exp.column(name, table="l", quoted=True) for name in landed_columns(door_shape())],
    )
    replaced = {name: _replaced(name, read) for name, read in read_expressions("l").items()}
    read = {column.name for query in (verdicts, *replaced.values()) for column in query.find_all(exp.Column)}
    return _Texts(
        asked=Questions(
            arrivals=queries.query_text(queries.load("arrivals")),
            verdicts=queries.query_text(verdicts),
            doubtful=queries.query_text(doubtful),
            replaced={name: queries.query_text(query) for name, query in replaced.items()},
            columns=[name for name in landed_columns(door_shape()) if name in read],
            parameters={},
        ),
        judging=_judging(agents, known=True),
        quarantine=queries.query_text(queries.load("quarantine")),
        exclusions=queries.query_text(queries.load("exclusions")),
        fate_counts=queries.query_text(queries.load("fate_counts")),
    )


def _replaced(name: str, read: exp.Expr) -> exp.Expr:
    """Where a column is read otherwise than it was sent: places and values."""
    sent = exp.column(name, table="l", quoted=True)
    differing = exp.select("l.place").select(exp.alias_(read, "value")).from_("landed AS l")
    return differing.where(exp.NullSafeNEQ(this=read.copy(), expression=sent)).order_by("l.place")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A day whose rows have been settled: what is written, under which temporary names, with what facts."""

    rows: DayRows
    columns: Mapping[str, str]
    staging: tuple[Path, ...]
    facts: Mapping[str, dict[str, int]]
    started: float


def _settle_day(bench: Workbench, landed: LandedDay, seen: Seen, texts: _Texts) -> _Ready:
    started = time.monotonic()
    engine, day = bench.engine, landed.day
    engine.alias("landed", TABLE)
    _judge(bench, Window.of(day, day), texts.judging)
    dropped = engine.arrays(
        f"select r.place from {TABLE} as r inner join fates as f on r.received_date = f.received_date "
        "and r.file = f.file and r.row_number = f.row_number and r.part = f.part "
        "where f.event_date = $day order by r.place",
        {"day": day},
    )["place"]
    rows = DayRows(landed, dropped, handed_over(landed, seen.uses, dropped), seen.replaced)
    staging = tuple(bench.lake.staging("events", event_day(day)) for _ in range(landed.buckets))
    kept = {name: landed.columns[name] for name in event_columns(landed.columns)}
    counts = {
        source: {"landed": count, "kept": 0, "retry": 0, "quarantined": 0, "excluded": 0}
        for source, count in seen.by_source.items()
    }
    for source, fate, reason, count in engine.connection.execute(texts.fate_counts, {"day": day}).fetchall():
        counts[source][fate] += count
        counts[source][f"{fate}:{reason}"] = count
    return _Ready(rows, kept, staging, counts, started)


def _write_events(bench: Workbench, ready: _Ready) -> Written:
    """Write and commit one day's events; touches no connection, so it may run beside other queries."""
    files = list(write_events(ready.rows, ready.columns, ready.staging))
    counts = {source: dict(fates) for source, fates in ready.facts.items()}
    for file in files:
        for source, rows in file.by_source.items():
            counts[source]["kept"] += rows
    return bench.commit(
        "events",
        event_day(ready.rows.landed.day),
        [NewFile(file.path, file.tag, file.rows) for file in files],
        ready.started,
        facts={
            "landed_rows": sum(fates["landed"] for fates in counts.values()),
            "by_source": counts,
        },
    )


def _write_refused(bench: Workbench, day: date, texts: _Texts) -> list[Written]:
    written = []
    for table, text in (("quarantine", texts.quarantine), ("exclusions", texts.exclusions)):
        started = time.monotonic()
        path = bench.lake.staging(table, event_day(day))
        rows = write_alone(bench.engine, text, path, {"day": day})
        written.append(bench.commit(table, event_day(day), [NewFile(path, "all", rows)], started))
    return written


def event_columns(landed: Mapping[str, str]) -> list[str]:
    """The landed columns that an event keeps: all but what says why a row was refused."""
    return [name for name in landed if name not in ("reason", "byte_offset")]


def payload_digest(shape: DoorShape) -> exp.Expr:
    """What an event says, as one digest: every canonical column but the time of receipt."""
    parts: list[exp.Expr] = [exp.Literal.string("\x1f")]
    for name in shape.types:
        if name != "received_at":
            value = exp.cast(exp.column(name, quoted=True), "varchar")
            parts.append(exp.func("coalesce", value, exp.Literal.string("\x00")))
    joined = exp.ConcatWs(expressions=parts)
    return exp.func("md5", joined, dialect="duckdb")


def _by_agent(agents: tuple[str, ...]) -> exp.Expr:
    agent = exp.func("lower", exp.column("user_agent", table="l"))
    tests = [
        exp.GT(
            this=exp.func("instr", agent, exp.Literal.string(part.lower()), dialect="duckdb"),
            expression=exp.Literal.number(0),
        )
        for part in agents
    ]
    return exp.or_(*tests) if tests else exp.false()


def _excluded(bench: Workbench, policy: ExclusionPolicy) -> list[str]:
    return pseudonyms_of(bench, policy.learner_ids)


def lateness(manifests: tuple[Manifest, ...]) -> dict[str, int]:
    """How many landed rows of each event day arrived by received day; for late shares."""
    counts: dict[str, int] = {}
    for manifest in manifests:
        for file in manifest.files:
            if day_of(manifest.partition).isoformat() > file.tag:
                counts[file.tag] = counts.get(file.tag, 0) + file.rows
    return counts
