"""The door: mapped rows of any source in, typed pseudonymous rows out (`mapping` stands before it).

Grain: one row per row that came in. Nothing leaves here with a raw id or a raw text in a declared field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp

from exp_pipeline.model.sources import Source
from exp_pipeline.transform.identity import hmac_of
from exp_pipeline.transform.reduction import guarded, reduced_extra

# A slice file per event day is written; rows whose clock is further off than any lateness setting share one.
OLDEST_LATE_DAYS = 60
# A row's place: the number of its file among those that are read together, shifted, plus its byte offset.
FILE_SHIFT = 40
EARLIEST_STAMP = "2000-01-01"
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


# What the door itself works with, whether a batch of rows has it or not.
ALWAYS = frozenset(
    {"client_ts", "received_at", "learner_id", "locale", "experiment", "experiment_version", "unit_id"}
)


def narrowed(shape: DoorShape, filled: Sequence[str]) -> DoorShape:
    """The shape of rows that fill these columns only: what stays empty need not go through the door."""
    wanted = {*filled, *ALWAYS}
    reductions = tuple(one for one in shape.reductions if one.text in wanted)
    wanted.update(name for one in reductions for name in (one.hmac, one.chars, one.language))
    return DoorShape(
        types={name: kind for name, kind in shape.types.items() if name in wanted},
        identifiers=tuple(name for name in shape.identifiers if name in wanted),
        reductions=reductions,
    )


@lru_cache(maxsize=1024)
def is_scalar(kind: str) -> bool:
    """Whether a column of this type holds one value, not a list or an object."""
    parsed = exp.DataType.build(kind, dialect="duckdb")
    return not parsed.is_type("json", "struct", "map", "array", "list", "variant")


@lru_cache(maxsize=1024)
def is_text(kind: str) -> bool:
    """Whether a column of this type holds text."""
    return exp.DataType.build(kind, dialect="duckdb").is_type(*exp.DataType.TEXT_TYPES)


def fitted(value: exp.Expr, have: str, kind: str, time_zone: str = "UTC") -> exp.Expr:
    """A value of type `have` in type `kind`; null where it does not fit, `misfit` tells that from no value.

    An empty text is no value. A number for an integer column must be whole, any number finite, and a time a
    day of the years 1 to 9999; text without zone is read in `time_zone`.
    """
    if not is_scalar(have):
        return exp.cast(exp.null(), exp.DataType.build(kind, dialect="duckdb"))
    text = is_text(have)
    told = _told(value, have)
    match kind:
        case "VARCHAR":
            return exp.func("nullif", exp.cast(value.copy(), "varchar"), exp.Literal.string(""))
        case "TIMESTAMP":
            return _time(told, have, text, time_zone)
        case "BIGINT":
            if exp.DataType.build(have, dialect="duckdb").is_type(*exp.DataType.INTEGER_TYPES):
                return exp.TryCast(this=told, to=exp.DataType.build(kind))
            form = (
                "case when contains(x, '_') or try_cast(x as double) is distinct from try_cast(x as bigint) "
            )
            return _over(form + "then null else try_cast(x as bigint) end", exp.cast(told, "varchar"))
        case "DOUBLE":
            if text:
                return _over(
                    "case when isfinite(try_cast(x as double)) and not contains(x, '_') "
                    "then try_cast(x as double) end",
                    told,
                )
            return _over("case when isfinite(try_cast(x as double)) then try_cast(x as double) end", told)
        case "BOOLEAN":
            return _over("try_cast(cast(x as varchar) as boolean)", told)
    return exp.TryCast(this=told, to=exp.DataType.build(kind, dialect="duckdb"))


def misfit(value: exp.Expr, have: str, fit: exp.Expr) -> exp.Expr:
    """Whether a value is there that `fitted` could not use."""
    return exp.and_(exp.not_(_told(value, have).is_(exp.null())), fit.copy().is_(exp.null()))


def _told(value: exp.Expr, have: str) -> exp.Expr:
    if not is_text(have):
        return value.copy()
    return exp.func("nullif", exp.func("trim", value.copy()), exp.Literal.string(""))


def _over(form: str, value: exp.Expr, zone: str = "") -> exp.Expr:
    """A form of DuckDB SQL with `x` replaced by a value and `z` by a time zone."""

    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.name == "x":
            return value.copy()
        if isinstance(node, exp.Column) and node.name == "z":
            return exp.Literal.string(zone)
        return node

    return duck(form).transform(fill)


_REAL_DAY = "between timestamp '0001-01-01' and timestamp '9999-12-31 23:59:59.999999'"
_REAL_MOMENT = "between timestamptz '0001-01-01 00:00:00+00' and timestamptz '9999-12-31 23:59:59+00'"


def _time(value: exp.Expr, have: str, text: bool, zone: str) -> exp.Expr:
    """A time in UTC. One that says its zone is believed; the others are read in the source's zone."""
    with_zone = f"case when {{0}} {_REAL_MOMENT} then timezone('UTC', {{0}}) end"
    if exp.DataType.build(have, dialect="duckdb").is_type("timestamptz"):
        return _over(with_zone.format("x"), value)
    if text and zone == "UTC":
        return _over(with_zone.format("try_cast(x as timestamptz)"), value)
    plain = f"case when try_cast(x as timestamp) {_REAL_DAY} then try_cast(x as timestamp) end"
    if zone != "UTC":
        plain = f"timezone('UTC', timezone(z, {plain}))"
    if text:
        plain = (
            "case when regexp_matches(x, '([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$') and length(x) > 10 then "
            + with_zone.format("try_cast(x as timestamptz)")
            + f" else {plain} end"
        )
    elif exp.DataType.build(have, dialect="duckdb").is_type(*exp.DataType.NUMERIC_TYPES, "boolean"):
        return exp.cast(exp.null(), "timestamp")
    return _over(plain, value, zone)


def typed_rows(source: Source, shape: DoorShape, have: Mapping[str, str] | None = None) -> exp.Select:
    """Table `mapped` to typed canonical columns; a value that does not fit gives `wrong_type:<field>`.

    `have` maps columns of `mapped` to the types they have (text, where it does not say).
    """
    have = have or {}
    wrong = exp.Case()
    result = exp.select("part", "row_number", "byte_offset", "extra")
    texts = {reduction.text: "VARCHAR" for reduction in shape.reductions}
    for name, kind in {**shape.types, **texts}.items():
        own, given = exp.column(name, quoted=True), have.get(name, "VARCHAR")
        fit = fitted(own, given, kind, source.zone_of(name))
        result.append("expressions", fit.as_(name, quoted=True))
        if kind != "VARCHAR" or not is_scalar(given):
            wrong.when(misfit(own, given, fit), exp.Literal.string(f"wrong_type:{name}"), copy=False)
    return result.select(exp.func("coalesce", exp.column("reason"), wrong).as_("reason")).from_(
        "mapped", copy=False
    )


def pseudonymous_rows(source: Source, shape: DoorShape) -> exp.Select:
    """Tables `typed`, `identities`, `buckets` to landed rows: ids replaced, texts reduced, times settled.

    What stands in `byte_offset` until here is a row's place (see FILE_SHIFT). Parameters: inner_pad,
    outer_pad, source, files (their names, in order), received_date, skew_microseconds, key_id.
    """
    reduced = {reduction.hmac: reduction for reduction in shape.reductions}
    lengths = {reduction.chars: reduction for reduction in shape.reductions}
    languages = {reduction.language: reduction for reduction in shape.reductions}
    inner = exp.select(
        duck("cast($source as varchar)").as_("source"),
        duck(f"list_extract($files, (t.byte_offset >> {FILE_SHIFT}) + 1)").as_("file"),
        exp.column("row_number", table="t"),
        duck("cast(t.part as smallint)").as_("part"),
        duck(
            f"t.byte_offset & {(1 << FILE_SHIFT) - 1}" if source.format != "parquet" else "null::bigint"
        ).as_("byte_offset"),
        exp.column("reason", table="t"),
        reduced_extra(exp.column("extra", table="t"), source.extra_keep).as_("extra"),
        duck("cast($received_date as date)").as_("received_date"),
        duck("cast($key_id as varchar)").as_("key_id"),
        exp.column("id_key", table="id_learner_id").as_("learner_key"),
    )
    for name, kind in shape.types.items():
        own = exp.column(name, table="t", quoted=True)
        value: exp.Expr = own
        if name in shape.identifiers:
            value = exp.column("pseudonym", table=f"id_{name}")
        elif name in reduced:
            sent = guarded(name, own, own, one_word=True)
            value = exp.func("coalesce", hmac_of(exp.column(reduced[name].text, table="t")), sent)
        elif name in lengths:
            value = exp.func("coalesce", exp.func("length", exp.column(lengths[name].text, table="t")), own)
        elif name in languages:
            locale = duck("case when t.x is not null then lower(split_part(t.locale, '-', 1)) end").transform(
                lambda node, text=languages[name].text: (
                    exp.column(text, table="t") if isinstance(node, exp.Column) and node.name == "x" else node
                )
            )
            value = exp.func("coalesce", guarded(name, own, own, one_word=True), locale)
        elif kind == "VARCHAR":
            value = guarded(name, own, exp.column("learner_id", table="t", quoted=True))
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
    # A stamp that cannot be one (before the first servers here, after the landing) says nothing.
    stamped = f"case when received_at >= date '{EARLIEST_STAMP}' and received_at < received_date + 2 "
    arrived = stamped + "then cast(received_at as date) end" if source.history else "received_date"
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
