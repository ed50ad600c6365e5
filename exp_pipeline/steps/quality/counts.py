"""What the data-quality rules need to know of some days: one pass a table, small frames of counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import polars as pl
from sqlglot import exp

from exp_pipeline.contracts.deprecations import Deprecation, deprecations
from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.quality import QualityPolicy
from exp_pipeline.steps.context import DAY, Workbench, day_of, event_day
from exp_pipeline.store.lake import Manifest
from exp_pipeline.store.totals import read_totals
from exp_pipeline.transform import queries

_TURN_EVENTS = ["tutor_turn_submitted", "tutor_turn_response_shown"]


@dataclass(frozen=True)
class DayCounts:
    """What was counted for some days, as small frames; their columns are those of the queries `quality_*`."""

    volumes: pl.DataFrame
    events: pl.DataFrame
    receipts: pl.DataFrame
    refusals: pl.DataFrame
    turns: pl.DataFrame
    sessions: pl.DataFrame
    feedback: pl.DataFrame
    appeals: pl.DataFrame
    exposures: pl.DataFrame
    tokens: pl.DataFrame
    totals: pl.DataFrame | None
    totals_trouble: str
    by_source: Mapping[date, Mapping[str, Mapping[str, int]]]
    newest_landed: date | None


def count_days(bench: Workbench, days: Sequence[date]) -> DayCounts:
    """Count what the rules need for some days: one pass a table over these days and their history."""
    policy = bench.catalog.policies.quality
    _check_policy(policy)
    past = sorted({day - timedelta(weeks=back) for day in days for back in range(policy.weeks + 1)})
    before = sorted({*days, *(day - DAY for day in days)})
    volumes = _over(bench, "events", past, queries.text_of("quality_volumes"))
    receipts = _over(bench, "events", past, _receipts_text(tuple(policy.receipt_fields)))
    events = _over(bench, "events", days, _events_text(_critical(policy), deprecations()))
    tokens = pl.DataFrame()
    if policy.gateway is not None:
        named: dict[str, object] = {"events": list(policy.gateway.events)}
        tokens = _over(bench, "events", days, queries.text_of("quality_tokens"), named)
    totals, trouble = _gateway(bench, policy)
    landed = bench.lake.partitions("landed")
    return DayCounts(
        volumes=volumes,
        events=events,
        receipts=receipts,
        refusals=_over(bench, "quarantine", days, queries.text_of("quality_refusals")),
        turns=_over(bench, "turns", before, queries.text_of("quality_turns")),
        sessions=_over(bench, "sessions", past, queries.text_of("quality_sessions")),
        feedback=_unknown_turns(
            bench, days, volumes, "feedback_given", _TURN_EVENTS, policy.turn_lookback_days
        ),
        appeals=_unknown_turns(
            bench, days, volumes, "safety_appealed", ["safety_flagged"], policy.flag_lookback_days
        ),
        exposures=_exposures(bench, days, volumes),
        tokens=tokens,
        totals=totals,
        totals_trouble=trouble,
        by_source={day: _by_source(bench.lake.manifest("events", event_day(day))) for day in days},
        newest_landed=day_of(landed[-1]) if landed else None,
    )


def _check_policy(policy: QualityPolicy) -> None:
    named = [
        *(f"critical.{event}: {field}" for event, fields in policy.critical.items() for field in fields),
        *(f"receipt_fields: {field}" for field in policy.receipt_fields),
        *(f"announced: {field}" for field in policy.announced),
    ]
    unknown = [one for one in named if one.rpartition(": ")[2] not in FIELDS]
    if unknown:
        raise ValueError(f"quality policy names fields that no event has: {'; '.join(unknown)}")


def _over(
    bench: Workbench,
    table: str,
    days: Sequence[date],
    text: str,
    parameters: Mapping[str, object] | None = None,
) -> pl.DataFrame:
    bench.read(table, table, bench.lake.manifests(table, [event_day(day) for day in days]))
    return bench.engine.frame(text, parameters)


@lru_cache(maxsize=16)
def _receipts_text(fields: tuple[str, ...]) -> str:
    columns = [exp.column(name, quoted=True) for name in fields]
    return queries.query_text(queries.with_slots(queries.load("quality_receipts"), {"receipt": columns}))


@lru_cache(maxsize=16)
def _events_text(critical: tuple[str, ...], ending: tuple[Deprecation, ...]) -> str:
    """For each critical field how many rows lack it, for what is deprecated how many use it."""
    counts = [
        *(
            _count_where(exp.column(name, quoted=True).is_(exp.null())).as_(f"empty_{name}")
            for name in critical
        ),
        *(_count_where(one.used()).as_(f"uses_{place}") for place, one in enumerate(ending)),
    ]
    return queries.query_text(queries.with_slots(queries.load("quality_events"), {"empty": counts}))


def _critical(policy: QualityPolicy) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field for fields in policy.critical.values() for field in fields))


def _count_where(condition: exp.Expr) -> exp.Expr:
    return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=condition))


def _unknown_turns(
    bench: Workbench,
    days: Sequence[date],
    volumes: pl.DataFrame,
    asks: str,
    answers: list[str],
    lookback_days: int,
) -> pl.DataFrame:
    """Events that name a turn which others should have named; read only for days that have such events."""
    wanted = _days_with(volumes, asks, days)
    if not wanted:
        return pl.DataFrame()
    around = sorted({day - DAY * back for day in wanted for back in range(lookback_days + 1)})
    bench.read("events", "events", bench.lake.manifests("events", [event_day(day) for day in around]))
    frame = bench.engine.frame(
        queries.text_of("quality_unknown_turns"),
        {"asks": asks, "answers": answers, "lookback_days": lookback_days, "first_day": wanted[0]},
    )
    return frame.filter(pl.col("event_date").is_in(wanted))


def looked_back(
    policy: QualityPolicy, counts: DayCounts, days: Sequence[date]
) -> dict[date, tuple[date, ...]]:
    """The earlier days whose turns were looked for, by day; only days with events that name one have any."""
    found: dict[date, tuple[date, ...]] = {}
    for event, back in (
        ("safety_appealed", policy.flag_lookback_days),
        ("feedback_given", policy.turn_lookback_days),
    ):
        for day in _days_with(counts.volumes, event, days):
            longer = tuple(day - DAY * step for step in range(1, back + 1))
            found[day] = max(found.get(day, ()), longer, key=len)
    return found


def _exposures(bench: Workbench, days: Sequence[date], volumes: pl.DataFrame) -> pl.DataFrame:
    wanted = _days_with(volumes, "experiment_exposed", days)
    if not wanted:
        return pl.DataFrame()
    known = [name for name in bench.lake.partitions("assignments") if name <= event_day(wanted[-1])]
    bench.read("assignments", "assignments", bench.lake.manifests("assignments", known))
    return _over(bench, "events", wanted, queries.text_of("quality_exposures"))


def _days_with(volumes: pl.DataFrame, event: str, days: Sequence[date]) -> list[date]:
    there = volumes.filter((pl.col("event_name") == event) & pl.col("event_date").is_in(list(days)))
    return sorted(set(there["event_date"].to_list()))


def _gateway(bench: Workbench, policy: QualityPolicy) -> tuple[pl.DataFrame | None, str]:
    if policy.gateway is None:
        return None, ""
    try:
        return read_totals(bench.home.root, policy.gateway.files), ""
    except StoreError as trouble:
        return None, str(trouble)


def _by_source(manifest: Manifest | None) -> Mapping[str, Mapping[str, int]]:
    facts = manifest.facts.get("by_source") if manifest is not None else None
    return facts if isinstance(facts, dict) else {}
