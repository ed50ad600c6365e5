"""The door: raw rows of any source in, typed pseudonymous rows out.

Grain: one row per raw row and event rule that matched it, and one per raw row that could not be used, with the
reason. Nothing leaves here with a raw id or a raw text in a declared field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from exp_pipeline.model.sources import ITEM, ROW_NUMBER, EventRule, Source

RAW_COLUMNS = (ROW_NUMBER, "byte_offset", "reason", "extra")
# The row's place while the file's own columns, whatever their names, stand beside it.
ROW_PLACE = "#row"
# `part` tells apart the rows that one raw row became, and is a SMALLINT.
MOST_PARTS = 32_767
# A slice file per event day is written; rows whose clock is further off than any lateness setting share one.
OLDEST_LATE_DAYS = 60


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """The secret that pseudonyms are made with, and the public name of that secret."""

    key_id: str
    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) < 16:
            raise ValueError("the identity key must have at least 16 bytes; set EXP_HMAC_KEY to a long random text")

    def __repr__(self) -> str:
        return f"IdentityKey(key_id={self.key_id!r}, secret=…)"

    def pads(self) -> dict[str, bytes]:
        """The two padded keys of HMAC-SHA256 (RFC 2104), as the parameters `inner_pad` and `outer_pad`."""
        from hashlib import sha256

        key = self.secret if len(self.secret) <= 64 else sha256(self.secret).digest()
        padded = key.ljust(64, b"\0")
        return {
            "inner_pad": bytes(byte ^ 0x36 for byte in padded),
            "outer_pad": bytes(byte ^ 0x5C for byte in padded),
        }

    def pseudonym(self, raw_id: str) -> str:
        """The pseudonym of one raw id: 32 hex digits of HMAC-SHA256."""
        import hmac

        return hmac.new(self.secret, raw_id.encode(), "sha256").hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class TextReduction:
    """A raw text field and the columns that keep its hash and length, all that is left of it."""

    text: str
    hmac: str
    chars: str
    language: str


@dataclass(frozen=True, slots=True)
class DoorShape:
    """What the contract says about canonical columns: SQL types in order, which hold ids, which reduce a text."""

    types: Mapping[str, str]
    identifiers: Sequence[str]
    reductions: Sequence[TextReduction]

    def accepted(self) -> tuple[str, ...]:
        """Field names a mapping (or a canonical file) may fill: the columns and the raw texts."""
        return (*self.types, *(reduction.text for reduction in self.reductions))


def _expression(text: str) -> exp.Expr:
    """A mapping's expression; a cast that fails gives null (and so a quarantine row), never a stopped day."""

    def forgiving(node: exp.Expr) -> exp.Expr:
        if type(node) is exp.Cast:
            return exp.TryCast(this=node.this, to=node.args["to"])
        if isinstance(node, exp.StrToTime):
            return exp.func("try_strptime", node.this, node.args["format"], dialect="duckdb")
        return node

    return sqlglot.parse_one(text, dialect="duckdb").transform(forgiving)


def _duck(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, dialect="duckdb")


def source_columns(source: Source, shape: DoorShape) -> dict[str, str]:
    """Which raw columns a source reads, with their types; a canonical file may have any accepted field."""
    if source.identity:
        return {name: "VARCHAR" for name in shape.accepted()}
    return source.file_columns()


def _json_shape(kind: str | exp.DataType) -> object:
    """A column's type as `json_transform` wants it told: lists and structs as lists and objects."""
    parsed = exp.DataType.build(kind, dialect="duckdb")
    if parsed.this == exp.DType.ARRAY and parsed.expressions:
        return [_json_shape(parsed.expressions[0])]
    if parsed.this == exp.DType.STRUCT and all(isinstance(one, exp.ColumnDef) for one in parsed.expressions):
        return {one.name: _json_shape(one.args["kind"]) for one in parsed.expressions}
    return parsed.sql(dialect="duckdb")


def raw_from_lines(source: Source, shape: DoorShape) -> exp.Select:
    """NDJSON lines (table `raw_lines`) to raw columns: valid objects are split up, undeclared keys go to `extra`."""
    columns = source_columns(source, shape)
    structure = json.dumps({name: _json_shape(kind) for name, kind in columns.items()})
    checked = _duck(
        "select row_number, byte_offset, line, case when reason is not null then reason "
        "when not json_valid(line) then 'not_json' when json_type(line) <> 'OBJECT' then 'not_an_object' end as reason "
        "from raw_lines"
    )
    known = exp.tuple_(*(exp.Literal.string(name) for name in columns))
    undeclared = _duck("list_filter(json_keys(line), lambda k: not k in ('x'))")
    for found in undeclared.find_all(exp.In):
        found.set("expressions", known.expressions)
    split = (
        exp.select("row_number", "byte_offset", "reason")
        .select(exp.func("json_transform", exp.column("line"), exp.Literal.string(structure), dialect="duckdb").as_("r"))
        .select(undeclared.as_("undeclared"))
        .select("line")
        .from_(exp.to_table("usable"), copy=False)
    )
    usable = _duck("select row_number, byte_offset, reason, case when reason is null then line end as line from checked")
    extra = _duck(
        "case when len(undeclared) > 0 then '{' || array_to_string(list_transform(undeclared, "
        "lambda k: cast(to_json(k) as varchar) || ':' || "
        "cast(json_extract(line, '/' || replace(replace(k, '~', '~0'), '/', '~1')) as varchar)), ',') || '}' end"
    )
    result = exp.select("row_number", "byte_offset", "reason").select(extra.as_("extra")).from_("split", copy=False)
    for name in columns:
        result.append("expressions", exp.Dot(this=exp.column("r"), expression=exp.to_identifier(name, quoted=True)).as_(name, quoted=True))
    return result.with_("checked", checked, copy=False).with_("usable", usable, copy=False).with_("split", split, copy=False)


def raw_from_table(source: Source, shape: DoorShape, present: Mapping[str, str]) -> exp.Select:
    """Rows of a CSV or Parquet file (table `raw_table`, their place in column ROW_PLACE) to raw columns.

    `present` maps the file's columns to their types. What the source does not declare goes to `extra`.
    A canonical file may lack optional columns; a mapped one must have every column it names (checked before).
    """
    columns = source_columns(source, shape)
    rest = [name for name in present if name not in columns]
    result = exp.select(exp.column(ROW_PLACE, quoted=True).as_(ROW_NUMBER)).select(
        exp.cast(exp.null(), "bigint").as_("byte_offset"), exp.cast(exp.null(), "varchar").as_("reason")
    )
    if rest:
        packed = exp.func(
            "struct_pack",
            *(exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=exp.column(name, quoted=True)) for name in rest),
            dialect="duckdb",
        )
        result.append("expressions", exp.cast(exp.func("to_json", packed, dialect="duckdb"), "varchar").as_("extra"))
    else:
        result.append("expressions", exp.cast(exp.null(), "varchar").as_("extra"))
    for name, kind in columns.items():
        value = exp.column(name, quoted=True) if name in present else exp.null()
        if name not in present or not source.identity:
            value = exp.TryCast(this=value, to=exp.DataType.build(kind, dialect="duckdb"))
        result.append("expressions", value.as_(name, quoted=True))
    return result.from_("raw_table", copy=False)


def _most_items(source: Source) -> int:
    return MOST_PARTS // (len(source.events) + 1)


def _columns_read(source: Source) -> set[str]:
    texts = [*source.fields.values()]
    for rule in source.events:
        texts += [*rule.fields.values(), *([rule.when] if rule.when is not None else [])]
    return {column.parts[0].name for text in texts for column in _duck(text).find_all(exp.Column)}


def raw_items(source: Source) -> exp.Expr:
    """Table `raw` with one row for each element of the source's list (column `item`, counted from 0 in `item_place`).

    A row with nothing to take apart stays one row, and so does one with more elements than `part` can tell
    apart; the latter is refused as `too_many_items`. Raises ValueError for a source without `unnest`.
    """
    if source.unnest is None:
        raise ValueError(f"source {source.name} has no `unnest`")
    kind = exp.DataType.build(source.columns[ITEM], dialect="duckdb")
    items = exp.TryCast(
        this=exp.paren(_expression(source.unnest)),
        to=exp.DataType(this=exp.DType.ARRAY, expressions=[kind], nested=True),
    )
    # A column that no rule reads stays behind: the list itself above all, or each element would carry all.
    read = [name for name in source.file_columns() if name in _columns_read(source)]
    names = [exp.column(name, quoted=True) for name in (ROW_NUMBER, "byte_offset", "extra", *read)]
    listed = exp.select(*names, "reason", items.as_("taken_apart")).from_("raw", copy=False)
    many = f"len(taken_apart) > {_most_items(source)}"
    whole = (
        exp.select(*(name.copy() for name in names))
        .select(_duck(f"case when reason is not null then reason when {many} then 'too_many_items' end").as_("reason"))
        .select(_duck("cast(0 as bigint)").as_("item_place"), exp.cast(exp.null(), kind.copy()).as_(ITEM))
        .select(exp.true().as_("no_item"))
        .from_("listed", copy=False)
        .where(_duck(f"reason is not null or taken_apart is null or len(taken_apart) = 0 or {many}"), copy=False)
    )
    taken = (
        exp.select(*(name.copy() for name in names))
        .select("reason", _duck("unnest(generate_series(0, len(taken_apart) - 1))").as_("item_place"))
        .select(_duck("unnest(taken_apart)").as_(ITEM), exp.false().as_("no_item"))
        .from_("listed", copy=False)
        .where(_duck(f"reason is null and len(taken_apart) between 1 and {_most_items(source)}"), copy=False)
    )
    return exp.union(whole, taken, distinct=False).with_("listed", listed, copy=False)


def _mapped(shape: DoorShape, source: Source, rule: EventRule | None, part: int) -> exp.Select:
    """Raw rows to the fields of one event rule, before typing; with no rule, canonical fields as they are."""
    values: dict[str, exp.Expr] = {}
    if rule is None:
        values = {name: exp.column(name, quoted=True) for name in shape.accepted()}
    else:
        written = {**source.fields, **rule.fields}
        values = {name: _expression(written[name]) for name in shape.accepted() if name in written}
        values["event_name"] = exp.Literal.string(rule.event_name)
    result = exp.select(_part(source, part).as_("part"), *RAW_COLUMNS)
    for name in shape.accepted():
        result.append("expressions", values.get(name, exp.null()).as_(name, quoted=True))
    result = result.from_(_rows_of(source), copy=False).where(_duck("reason is null"))
    if source.unnest is not None:
        result = result.where(_duck("not no_item"))
    return result if rule is None or rule.when is None else result.where(_expression(rule.when))


def _part(source: Source, rule: int) -> exp.Expr:
    """Which row of its raw row this is: 0 where no rule made it, else the rule, counted on from item to item."""
    if source.unnest is None:
        return exp.Literal.number(rule)
    return _duck(f"item_place * {len(source.events) + 1} + {rule}")


def _rows_of(source: Source) -> str:
    return "raw" if source.unnest is None else "raw_items"


def _leftover(source: Source, shape: DoorShape) -> exp.Select:
    """Raw rows (or items of them) that make no event: unreadable ones, and those that no rule wants."""
    result = exp.select(_part(source, 0).as_("part"), ROW_NUMBER, "byte_offset")
    if source.identity or any(rule.when is None for rule in source.events):
        unwanted: exp.Expr = exp.false()
    else:
        matched = exp.or_(*(_expression(rule.when) for rule in source.events if rule.when is not None))
        unwanted = exp.func("coalesce", exp.not_(exp.paren(matched)), exp.true())
    result.append("expressions", _duck("coalesce(reason, 'no_event_rule')").as_("reason"))
    result.append("expressions", exp.column("extra"))
    for name in shape.accepted():
        result.append("expressions", exp.null().as_(name, quoted=True))
    if source.unnest is not None:
        unwanted = exp.or_(exp.column("no_item"), unwanted)
    return result.from_(_rows_of(source), copy=False).where(exp.or_(_duck("reason is not null"), unwanted))


def mapped_rows(source: Source, shape: DoorShape) -> exp.Expr:
    """Table `raw` (`raw_items` for a source with `unnest`) to canonical fields, in whatever type they have there."""
    rules: tuple[EventRule | None, ...] = source.events or (None,)
    query: exp.Expr = _leftover(source, shape)
    for part, rule in enumerate(rules, start=1):
        query = exp.union(query, _mapped(shape, source, rule, part), distinct=False)
    return query


def _typed(name: str, kind: str, time_zone: str) -> exp.Expr:
    raw = exp.column(name, quoted=True)
    if kind == "VARCHAR":
        # An empty text says nothing: it is a missing value.
        return exp.func("nullif", exp.cast(raw, "varchar"), exp.Literal.string(""))
    if kind != "TIMESTAMP":
        return exp.TryCast(this=raw, to=exp.DataType.build(kind, dialect="duckdb"))
    text = exp.cast(raw.copy(), "varchar")
    zone = exp.Literal.string(time_zone)
    parsed = _duck(
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
    """Table `mapped` to typed canonical columns; a value that does not fit its type gives `wrong_type:<field>`."""
    wrong = exp.Case()
    result = exp.select("part", "row_number", "byte_offset", "extra")
    for name, kind in shape.types.items():
        typed = _typed(name, kind, source.time_zone)
        result.append("expressions", typed.as_(name, quoted=True))
        if kind != "VARCHAR":
            broken = exp.and_(exp.column(name, quoted=True).is_(exp.null()).not_(), typed.copy().is_(exp.null()))
            wrong.when(broken, exp.Literal.string(f"wrong_type:{name}"), copy=False)
    for reduction in shape.reductions:
        result.append("expressions", exp.cast(exp.column(reduction.text, quoted=True), "varchar").as_(reduction.text))
    return result.select(exp.func("coalesce", exp.column("reason"), wrong).as_("reason")).from_("mapped", copy=False)


_HMAC = "sha256($outer_pad || unhex(sha256($inner_pad || encode(x))))"


def _hmac_of(column: exp.Expr) -> exp.Expr:
    return _duck(_HMAC).transform(
        lambda node: column.copy() if isinstance(node, exp.Column) and node.name == "x" else node
    )


def identities(shape: DoorShape) -> exp.Select:
    """Distinct raw ids of table `typed` with their pseudonym and 64-bit key; parameters inner_pad, outer_pad."""
    everyone: exp.Expr | None = None
    for name in shape.identifiers:
        one = exp.select(exp.column(name, quoted=True).as_("raw_id")).distinct().from_("typed", copy=False).where(
            exp.column(name, quoted=True).is_(exp.null()).not_()
        )
        everyone = one if everyone is None else exp.union(everyone, one, distinct=True)
    if everyone is None:
        raise ValueError("shape.identifiers must name at least one column")
    hashed = exp.select("raw_id", _hmac_of(exp.column("raw_id")).as_("digest")).from_(everyone.subquery("ids", copy=False), copy=False)
    return (
        exp.select("raw_id", _duck("left(digest, 32)").as_("pseudonym"))
        .select(_duck("cast('0x' || left(digest, 16) as ubigint)").as_("id_key"))
        .from_(hashed.subquery("hashed", copy=False), copy=False)
    )


def pseudonymous_rows(source: Source, shape: DoorShape) -> exp.Select:
    """Tables `typed`, `identities`, `buckets` to landed rows: ids replaced, texts reduced, times settled.

    Parameters: inner_pad, outer_pad, source, file, received_date, skew_microseconds, key_id.
    """
    reduced = {reduction.hmac: reduction for reduction in shape.reductions}
    lengths = {reduction.chars: reduction for reduction in shape.reductions}
    languages = {reduction.language: reduction for reduction in shape.reductions}
    inner = exp.select(
        _duck("cast($source as varchar)").as_("source"),
        _duck("cast($file as varchar)").as_("file"),
        exp.column("row_number", table="t"),
        _duck("cast(t.part as smallint)").as_("part"),
        exp.column("byte_offset", table="t"),
        exp.column("reason", table="t"),
        exp.column("extra", table="t"),
        _duck("cast($received_date as date)").as_("received_date"),
        _duck("cast($key_id as varchar)").as_("key_id"),
        exp.column("id_key", table="id_learner_id").as_("learner_key"),
    )
    for name in shape.types:
        own = exp.column(name, table="t", quoted=True)
        value: exp.Expr = own
        if name in shape.identifiers:
            value = exp.column("pseudonym", table=f"id_{name}")
        elif name in reduced:
            value = exp.func("coalesce", _hmac_of(exp.column(reduced[name].text, table="t")), own)
        elif name in lengths:
            value = exp.func("coalesce", exp.func("length", exp.column(lengths[name].text, table="t")), own)
        elif name in languages:
            locale = _duck("case when t.x is not null then lower(split_part(t.locale, '-', 1)) end").transform(
                lambda node, text=languages[name].text: (
                    exp.column(text, table="t") if isinstance(node, exp.Column) and node.name == "x" else node
                )
            )
            value = exp.func("coalesce", own, locale)
        inner.append("expressions", value.as_(name, quoted=True))
    inner.append("expressions", exp.column("arm_bucket", table="buckets"))
    inner.append("expressions", exp.column("traffic_bucket", table="buckets"))
    inner.from_(exp.to_table("typed").as_("t"), copy=False)
    for name in shape.identifiers:
        inner.join(
            exp.to_table("identities").as_(f"id_{name}"),
            on=exp.EQ(this=exp.column(name, table="t", quoted=True), expression=exp.column("raw_id", table=f"id_{name}")),
            join_type="left",
            copy=False,
        )
    inner.join(
        exp.to_table("buckets"),
        on=_duck(
            "t.experiment = buckets.experiment and t.experiment_version = buckets.experiment_version "
            "and t.unit_id = buckets.unit_id"
        ),
        join_type="left",
        copy=False,
    )
    timed = (
        exp.select("*")
        .select(_duck("client_ts > received_at + to_microseconds(cast($skew_microseconds as bigint))").as_("ahead"))
        .from_(inner.subquery("named", copy=False), copy=False)
    )
    settled = (
        exp.select(exp.Star(except_=[exp.to_identifier("ahead")]))
        .select(_duck("case when ahead then received_at else client_ts end").as_("occurred_at"))
        .select(_duck("coalesce(ahead, false)").as_("clock_skewed"))
        .from_(timed.subquery("timed", copy=False), copy=False)
    )
    arrived = "cast(received_at as date)" if source.history else "received_date"
    dated = (
        exp.select("*")
        .select(_duck(f"coalesce({arrived}, received_date)").as_("arrived_date"))
        .select(_duck("cast(occurred_at as date)").as_("occurred_date"))
        .from_(settled.subquery("settled", copy=False), copy=False)
    )
    # Far-off days would each make a slice of their own; they wait under the day they arrived.
    far = f"occurred_date is null or occurred_date > arrived_date + 1 or occurred_date < arrived_date - {OLDEST_LATE_DAYS}"
    return (
        exp.select(exp.Star(except_=[exp.to_identifier("occurred_date"), exp.to_identifier("reason")]))
        .select(
            _duck(
                "case when reason is not null then reason when occurred_date is null then null "
                f"when occurred_date < arrived_date - {OLDEST_LATE_DAYS} then 'too_late' "
                "when occurred_date > arrived_date + 1 then 'from_the_future' end"
            ).as_("reason")
        )
        .select(_duck(f"case when {far} then arrived_date else occurred_date end").as_("event_date"))
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
        "arm_bucket": "BIGINT",
        "traffic_bucket": "BIGINT",
        "extra": "VARCHAR",
    }
