"""Ingest: landed rows of event days to events, quarantine and exclusions, every row accounted for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from sqlglot import exp

from exp_pipeline.contracts.predicates import read_expressions, rejection_expression
from exp_pipeline.model.policies import ExclusionPolicy
from exp_pipeline.steps.context import Window, Workbench, Written, day_of, event_day, received_day
from exp_pipeline.steps.day_files import write_alone
from exp_pipeline.steps.identity import pseudonyms_of
from exp_pipeline.store.engine import Rows
from exp_pipeline.store.lake import Manifest, NewFile
from exp_pipeline.transform import queries
from exp_pipeline.transform.door import DoorShape, landed_columns

_JUDGED = ("suspicious", "busy_minutes", "refusals", "duplicates", "fates")
# A day's events go to one file up to this many rows, then to 2, 4, 8 … files by the learner key's top bits.
BUCKET_ROWS = 2_000_000


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
    engine, policies = bench.engine, bench.catalog.policies
    around = window.widened(policies.time.lateness_days, policies.time.lateness_days)
    manifests = landed_for(bench, around)
    bench.read("landed", "landed", manifests, tags=[day.isoformat() for day in around.days()])
    judge(bench, window)
    texts = _day_texts(landed_columns(bench.shape()))
    written = [one for day in window.days() for one in _write_day(bench, day, manifests, texts)]
    for name in _JUDGED:
        engine.drop(name)
    return written


def judge(bench: Workbench, window: Window) -> None:
    """Say why rows of table `landed` become no event: tables `refusals`, `duplicates` and `fates`.

    Rows of the window's event days are judged; rows around them serve to find duplicates.
    """
    engine, policies = bench.engine, bench.catalog.policies
    calls = {
        "contract_refusal": rejection_expression(),
        "payload_digest": payload_digest(bench.shape()),
        "exclusion_by_agent": _by_agent(policies.exclusion),
    }
    parameters = {
        "first_day": window.first,
        "end_day": window.end,
        "lateness_days": policies.time.lateness_days,
        "excluded_roles": list(policies.exclusion.roles),
        "excluded_learners": _excluded(bench, policies.exclusion),
        "events_per_minute": policies.exclusion.superhuman_events_per_minute,
    }
    for name in _JUDGED:
        text = queries.query_text(queries.with_calls(queries.load(name), calls))
        engine.build(name, text, {key: value for key, value in parameters.items() if f"${key}" in text})


@dataclass(frozen=True, slots=True)
class _DayTexts:
    """The queries of one day, parsed and extended once for a whole window."""

    session_cuts: str
    events: exp.Expr
    events_text: str
    quarantine: str
    exclusions: str


def _day_texts(columns: Mapping[str, str]) -> _DayTexts:
    # Only the day's own slices are opened for these; the window's view served the search for duplicates.
    renamed = {"landed": "landed_day"}
    read = read_expressions("l")
    events = queries.with_columns(
        _on(queries.load("events"), renamed),
        [
            exp.alias_(read[name], name, quoted=True)
            if name in read
            else exp.column(name, table="l", quoted=True)
            for name in event_columns(columns)
        ],
    )
    return _DayTexts(
        session_cuts=queries.query_text(_on(queries.load("session_cuts"), renamed)),
        events=events,
        events_text=queries.query_text(events),
        quarantine=queries.query_text(queries.load("quarantine")),
        exclusions=queries.query_text(queries.load("exclusions")),
    )


def _write_day(
    bench: Workbench, day: date, manifests: tuple[Manifest, ...], texts: _DayTexts
) -> list[Written]:
    started = time.monotonic()
    engine, partition = bench.engine, event_day(day)
    slices = bench.lake.paths(manifests, [day.isoformat()])
    engine.offer("landed_day", Rows(slices, landed_columns(bench.shape())))
    engine.build("session_cuts", texts.session_cuts, {"day": day})
    total = int(engine.row("select count(*) from landed_day")[0])
    facts: dict[str, object] = {"landed_rows": total, "by_source": _by_source(bench, day)}
    written = []
    files = []
    buckets = 1
    while total > buckets * BUCKET_ROWS:
        buckets *= 2
    for bucket in range(buckets):
        path = bench.lake.staging("events", partition)
        text = (
            texts.events_text if buckets == 1 else queries.query_text(_bucket(texts.events, bucket, buckets))
        )
        rows = engine.write(text, path, {"day": day})
        files.append(NewFile(path, f"bucket-{bucket:02d}-of-{buckets:02d}", rows))
    written.append(bench.commit("events", partition, files, started, facts=facts))
    for table, text in (("quarantine", texts.quarantine), ("exclusions", texts.exclusions)):
        started = time.monotonic()
        path = bench.lake.staging(table, partition)
        rows = write_alone(engine, text, path, {"day": day})
        written.append(bench.commit(table, partition, [NewFile(path, "all", rows)], started))
    engine.drop("session_cuts")
    return written


def _bucket(query: exp.Expr, bucket: int, buckets: int) -> exp.Expr:
    if not isinstance(query, exp.Select):
        raise ValueError("events.sql must be a select")
    # The top bits keep learner order across files: file after file is one sorted sequence.
    low = bucket * (2**64 // buckets)
    high = (bucket + 1) * (2**64 // buckets) - 1
    key = exp.column("learner_key", table="l")
    return query.where(exp.Between(this=key, low=exp.Literal.number(low), high=exp.Literal.number(high)))


def _on(query: exp.Expr, renamed: Mapping[str, str]) -> exp.Expr:
    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Table) and node.name in renamed:
            node.set("this", exp.to_identifier(renamed[node.name]))
        return node

    return query.transform(fill)


def event_columns(landed: Mapping[str, str]) -> list[str]:
    """The landed columns that an event keeps: all but what says why a row was refused."""
    return [name for name in landed if name not in ("reason", "byte_offset")]


def _by_source(bench: Workbench, day: date) -> dict[str, dict[str, int]]:
    """Rows landed and what became of them, by source; `kept` is counted apart, never derived."""
    engine = bench.engine
    counts: dict[str, dict[str, int]] = {}
    for source, rows in engine.connection.execute(
        "select source, count(*) from landed_day group by source order by source"
    ).fetchall():
        counts[source] = {"landed": rows, "kept": 0, "retry": 0, "quarantined": 0, "excluded": 0}
    for source, rows in engine.connection.execute(
        "select l.source, count(*) from landed_day as l anti join fates as f "
        "on l.received_date = f.received_date and l.file = f.file and l.row_number = f.row_number "
        "and l.part = f.part group by l.source"
    ).fetchall():
        counts[source]["kept"] = rows
    text = queries.query_text(queries.load("fate_counts"))
    for source, fate, reason, rows in engine.connection.execute(text, {"day": day}).fetchall():
        counts[source][fate] += rows
        counts[source][f"{fate}:{reason}"] = rows
    return counts


def payload_digest(shape: DoorShape) -> exp.Expr:
    """What an event says, as one digest: every canonical column but the time of receipt."""
    parts: list[exp.Expr] = [exp.Literal.string("\x1f")]
    for name in shape.types:
        if name != "received_at":
            value = exp.cast(exp.column(name, quoted=True), "varchar")
            parts.append(exp.func("coalesce", value, exp.Literal.string("\x00")))
    joined = exp.ConcatWs(expressions=parts)
    return exp.func("md5", joined, dialect="duckdb")


def _by_agent(policy: ExclusionPolicy) -> exp.Expr:
    agent = exp.func("lower", exp.column("user_agent", table="l"))
    tests = [
        exp.GT(
            this=exp.func("instr", agent, exp.Literal.string(part.lower()), dialect="duckdb"),
            expression=exp.Literal.number(0),
        )
        for part in policy.user_agent_contains
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
