"""The door: mapped rows of any source in, typed pseudonymous rows out (`mapping` stands before it).

Grain: one row per row that came in. Nothing leaves here with a raw id or a raw text in a declared field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from exp_pipeline.model.sources import Source
from exp_pipeline.transform.identity import hmac_of

# A slice file per event day is written; rows whose clock is further off than any lateness setting share one.
OLDEST_LATE_DAYS = 60
# What the table `buckets` gives for a unit of an experiment (see `steps.unit_buckets`).
BUCKET_COLUMNS: Mapping[str, str] = {
    "arm_bucket": "BIGINT",
    "traffic_bucket": "BIGINT",
    "bucket_scheme": "VARCHAR",
    "layer_bucket": "BIGINT",
    "holdout_bucket": "BIGINT",
    "layer_draws": "VARCHAR",
}


@dataclass(frozen=True, slots=True)
class TextReduction:
    """A raw text field and the columns that keep its hash and length, all that is left of it."""

    text: str
    hmac: str
    chars: str
    language: str


@dataclass(frozen=True, slots=True)
class DoorShape:
    """What the contract says of canonical columns: types in order, which hold ids, which reduce a text."""

    types: Mapping[str, str]
    identifiers: Sequence[str]
    reductions: Sequence[TextReduction]

    def accepted(self) -> tuple[str, ...]:
        """Field names a mapping (or a canonical file) may fill: the columns and the raw texts."""
        return (*self.types, *(reduction.text for reduction in self.reductions))


def duck(text: str) -> exp.Expr:
    """A piece of DuckDB SQL as a tree."""
    return sqlglot.parse_one(text, dialect="duckdb")


def _typed(name: str, kind: str, time_zone: str) -> exp.Expr:
    raw = exp.column(name, quoted=True)
    if kind == "VARCHAR":
        # An empty text says nothing: it is a missing value.
        return exp.func("nullif", exp.cast(raw, "varchar"), exp.Literal.string(""))
    if kind != "TIMESTAMP":
        return exp.TryCast(this=raw, to=exp.DataType.build(kind, dialect="duckdb"))
    text = exp.cast(raw.copy(), "varchar")
    zone = exp.Literal.string(time_zone)
    parsed = duck(
        "case when regexp_matches(t, '([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$') and length(t) > 10 "
        "then timezone('UTC', try_cast(t as timestamptz)) "
        "else timezone('UTC', timezone(z, try_cast(t as timestamp))) end"
    )

    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.name == "t":
            return text.copy()
        if isinstance(node, exp.Column) and node.name == "z":
            return zone.copy()
        return node

    return parsed.transform(fill)


def typed_rows(source: Source, shape: DoorShape) -> exp.Select:
    """Table `mapped` to typed canonical columns; a value that does not fit gives `wrong_type:<field>`."""
    wrong = exp.Case()
    result = exp.select("part", "row_number", "byte_offset", "extra")
    for name, kind in shape.types.items():
        typed = _typed(name, kind, source.zone_of(name))
        result.append("expressions", typed.as_(name, quoted=True))
        if kind != "VARCHAR":
            broken = exp.and_(
                exp.column(name, quoted=True).is_(exp.null()).not_(), typed.copy().is_(exp.null())
            )
            wrong.when(broken, exp.Literal.string(f"wrong_type:{name}"), copy=False)
    for reduction in shape.reductions:
        result.append(
            "expressions", exp.cast(exp.column(reduction.text, quoted=True), "varchar").as_(reduction.text)
        )
    return result.select(exp.func("coalesce", exp.column("reason"), wrong).as_("reason")).from_(
        "mapped", copy=False
    )


def pseudonymous_rows(source: Source, shape: DoorShape) -> exp.Select:
    """Tables `typed`, `identities`, `buckets` to landed rows: ids replaced, texts reduced, times settled.

    Parameters: inner_pad, outer_pad, source, file, received_date, skew_microseconds, key_id.
    """
    reduced = {reduction.hmac: reduction for reduction in shape.reductions}
    lengths = {reduction.chars: reduction for reduction in shape.reductions}
    languages = {reduction.language: reduction for reduction in shape.reductions}
    inner = exp.select(
        duck("cast($source as varchar)").as_("source"),
        duck("cast($file as varchar)").as_("file"),
        exp.column("row_number", table="t"),
        duck("cast(t.part as smallint)").as_("part"),
        exp.column("byte_offset", table="t"),
        exp.column("reason", table="t"),
        exp.column("extra", table="t"),
        duck("cast($received_date as date)").as_("received_date"),
        duck("cast($key_id as varchar)").as_("key_id"),
        exp.column("id_key", table="id_learner_id").as_("learner_key"),
    )
    for name in shape.types:
        own = exp.column(name, table="t", quoted=True)
        value: exp.Expr = own
        if name in shape.identifiers:
            value = exp.column("pseudonym", table=f"id_{name}")
        elif name in reduced:
            value = exp.func("coalesce", hmac_of(exp.column(reduced[name].text, table="t")), own)
        elif name in lengths:
            value = exp.func("coalesce", exp.func("length", exp.column(lengths[name].text, table="t")), own)
        elif name in languages:
            locale = duck("case when t.x is not null then lower(split_part(t.locale, '-', 1)) end").transform(
                lambda node, text=languages[name].text: (
                    exp.column(text, table="t") if isinstance(node, exp.Column) and node.name == "x" else node
                )
            )
            value = exp.func("coalesce", own, locale)
        inner.append("expressions", value.as_(name, quoted=True))
    for name in BUCKET_COLUMNS:
        inner.append("expressions", exp.column(name, table="buckets"))
    inner.from_(exp.to_table("typed").as_("t"), copy=False)
    for name in shape.identifiers:
        inner.join(
            exp.to_table("identities").as_(f"id_{name}"),
            on=exp.EQ(
                this=exp.column(name, table="t", quoted=True),
                expression=exp.column("raw_id", table=f"id_{name}"),
            ),
            join_type="left",
            copy=False,
        )
    inner.join(
        exp.to_table("buckets"),
        on=duck(
            "t.experiment = buckets.experiment and t.experiment_version = buckets.experiment_version "
            "and t.unit_id = buckets.unit_id"
        ),
        join_type="left",
        copy=False,
    )
    timed = (
        exp.select("*")
        .select(
            duck("client_ts > received_at + to_microseconds(cast($skew_microseconds as bigint))").as_("ahead")
        )
        .from_(inner.subquery("named", copy=False), copy=False)
    )
    settled = (
        exp.select(exp.Star(except_=[exp.to_identifier("ahead")]))
        .select(duck("case when ahead then received_at else client_ts end").as_("occurred_at"))
        .select(duck("coalesce(ahead, false)").as_("clock_skewed"))
        .from_(timed.subquery("timed", copy=False), copy=False)
    )
    arrived = "cast(received_at as date)" if source.history else "received_date"
    dated = (
        exp.select("*")
        .select(duck(f"coalesce({arrived}, received_date)").as_("arrived_date"))
        .select(duck("cast(occurred_at as date)").as_("occurred_date"))
        .from_(settled.subquery("settled", copy=False), copy=False)
    )
    # Far-off days would each make a slice of their own; they wait under the day they arrived.
    far = (
        "occurred_date is null or occurred_date > arrived_date + 1 "
        f"or occurred_date < arrived_date - {OLDEST_LATE_DAYS}"
    )
    return (
        exp.select(exp.Star(except_=[exp.to_identifier("occurred_date"), exp.to_identifier("reason")]))
        .select(
            duck(
                "case when reason is not null then reason when occurred_date is null then null "
                f"when occurred_date < arrived_date - {OLDEST_LATE_DAYS} then 'too_late' "
                "when occurred_date > arrived_date + 1 then 'from_the_future' end"
            ).as_("reason")
        )
        .select(duck(f"case when {far} then arrived_date else occurred_date end").as_("event_date"))
        .from_(dated.subquery("dated", copy=False), copy=False)
    )


def landed_columns(shape: DoorShape) -> dict[str, str]:
    """Columns and SQL types of the landed table, in order."""
    return {
        "source": "VARCHAR",
        "file": "VARCHAR",
        "row_number": "BIGINT",
        "part": "SMALLINT",
        "byte_offset": "BIGINT",
        "reason": "VARCHAR",
        "received_date": "DATE",
        "arrived_date": "DATE",
        "event_date": "DATE",
        "key_id": "VARCHAR",
        "learner_key": "UBIGINT",
        "occurred_at": "TIMESTAMP",
        "clock_skewed": "BOOLEAN",
        **shape.types,
        **BUCKET_COLUMNS,
        "extra": "VARCHAR",
    }
