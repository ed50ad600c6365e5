"""Raw rows of any source to the canonical fields of their events, by the source's mapping.

Grain: one row per raw row (or element of its list) and event rule that matched it, and one per raw row that
could not be used, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from exp_pipeline.model.sources import IGNORED, ITEM, ROW_NUMBER, Constant, EventRule, Filling, Source
from exp_pipeline.transform.door import DoorShape, duck
from exp_pipeline.transform.raw_expressions import expression

RAW_COLUMNS = (ROW_NUMBER, "byte_offset", "reason", "extra")
# The row's place while the file's own columns, whatever their names, stand beside it.
ROW_PLACE = "#row"
ANY_OTHER = "*"
# `part` tells apart the rows that one raw row became, and is a SMALLINT.
MOST_PARTS = 32_767


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
    """NDJSON lines (table `raw_lines`) to raw columns; keys that nobody declared go to `extra`."""
    columns = source_columns(source, shape)
    structure = json.dumps({name: _json_shape(kind) for name, kind in columns.items()})
    checked = duck(
        "select row_number, byte_offset, line, case when reason is not null then reason "
        "when not json_valid(line) then 'not_json' "
        "when json_type(line) <> 'OBJECT' then 'not_an_object' end as reason "
        "from raw_lines"
    )
    known = exp.tuple_(*(exp.Literal.string(name) for name in columns))
    undeclared = duck("list_filter(json_keys(line), lambda k: not k in ('x'))")
    for found in undeclared.find_all(exp.In):
        found.set("expressions", known.expressions)
    split = (
        exp.select("row_number", "byte_offset", "reason")
        .select(
            exp.func(
                "json_transform", exp.column("line"), exp.Literal.string(structure), dialect="duckdb"
            ).as_("r")
        )
        .select(undeclared.as_("undeclared"))
        .select("line")
        .from_(exp.to_table("usable"), copy=False)
    )
    usable = duck(
        "select row_number, byte_offset, reason, case when reason is null then line end as line from checked"
    )
    extra = duck(
        "case when len(undeclared) > 0 then '{' || array_to_string(list_transform(undeclared, "
        "lambda k: cast(to_json(k) as varchar) || ':' || "
        "cast(json_extract(line, '/' || replace(replace(k, '~', '~0'), '/', '~1')) as varchar)), ',') "
        "|| '}' end"
    )
    result = (
        exp.select("row_number", "byte_offset", "reason")
        .select(extra.as_("extra"))
        .from_("split", copy=False)
    )
    for name in columns:
        result.append(
            "expressions",
            exp.Dot(this=exp.column("r"), expression=exp.to_identifier(name, quoted=True)).as_(
                name, quoted=True
            ),
        )
    return (
        result.with_("checked", checked, copy=False)
        .with_("usable", usable, copy=False)
        .with_("split", split, copy=False)
    )


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
            *(
                exp.PropertyEQ(
                    this=exp.to_identifier(name, quoted=True), expression=exp.column(name, quoted=True)
                )
                for name in rest
            ),
            dialect="duckdb",
        )
        result.append(
            "expressions", exp.cast(exp.func("to_json", packed, dialect="duckdb"), "varchar").as_("extra")
        )
    else:
        result.append("expressions", exp.cast(exp.null(), "varchar").as_("extra"))
    for name, kind in columns.items():
        value: exp.Expr = exp.column(name, quoted=True) if name in present else exp.null()
        if name not in present or not source.identity:
            value = exp.TryCast(this=value, to=exp.DataType.build(kind, dialect="duckdb"))
        result.append("expressions", value.as_(name, quoted=True))
    return result.from_("raw_table", copy=False)


def _most_items(source: Source) -> int:
    return MOST_PARTS // (source.makers() + 1)


def _columns_read(source: Source) -> set[str]:
    texts = [text for place, text in source.expressions() if place != ("unnest",)]
    return {column.parts[0].name for text in texts for column in duck(text).find_all(exp.Column)}


def unread_columns(source: Source) -> tuple[str, ...]:
    """The declared columns of the file that no expression of the source reads, in order."""
    read = _columns_read(source)
    if source.unnest is not None:
        read |= {column.parts[0].name for column in duck(source.unnest).find_all(exp.Column)}
    return tuple(name for name in source.file_columns() if name not in read)


def raw_items(source: Source) -> exp.Expr:
    """Table `raw` with one row for each element of the source's list: `item`, counted from 0 in `item_place`.

    A row with nothing to take apart stays one row, and so does one with more elements than `part` can tell
    apart; the latter is refused as `too_many_items`. Raises ValueError for a source without `unnest`.
    """
    if source.unnest is None:
        raise ValueError(f"source {source.name} has no `unnest`")
    kind = exp.DataType.build(source.columns[ITEM], dialect="duckdb")
    items = exp.TryCast(
        this=exp.paren(expression(source.unnest, source)),
        to=exp.DataType(this=exp.DType.ARRAY, expressions=[kind], nested=True),
    )
    # A column that no rule reads stays behind: the list itself above all, or each element would carry all.
    read = [name for name in source.file_columns() if name in _columns_read(source)]
    names = [exp.column(name, quoted=True) for name in (ROW_NUMBER, "byte_offset", "extra", *read)]
    listed = exp.select(*names, "reason", items.as_("taken_apart")).from_("raw", copy=False)
    many = f"len(taken_apart) > {_most_items(source)}"
    whole = (
        exp.select(*(name.copy() for name in names))
        .select(
            duck(f"case when reason is not null then reason when {many} then 'too_many_items' end").as_(
                "reason"
            )
        )
        .select(duck("cast(0 as bigint)").as_("item_place"), exp.cast(exp.null(), kind.copy()).as_(ITEM))
        .select(exp.true().as_("no_item"))
        .from_("listed", copy=False)
        .where(
            duck(f"reason is not null or taken_apart is null or len(taken_apart) = 0 or {many}"), copy=False
        )
    )
    taken = (
        exp.select(*(name.copy() for name in names))
        .select("reason", duck("unnest(generate_series(0, len(taken_apart) - 1))").as_("item_place"))
        .select(duck("unnest(taken_apart)").as_(ITEM), exp.false().as_("no_item"))
        .from_("listed", copy=False)
        .where(duck(f"reason is null and len(taken_apart) between 1 and {_most_items(source)}"), copy=False)
    )
    return exp.union(whole, taken, distinct=False).with_("listed", listed, copy=False)


@dataclass(frozen=True, slots=True)
class _Maker:
    """One way to make an event from a row: when, its name, and a value for each field it fills."""

    when: exp.Expr | None
    event_name: exp.Expr
    values: Mapping[str, exp.Expr]


def _makers(source: Source, shape: DoorShape) -> list[_Maker]:
    makers = [
        _Maker(
            None if rule.when is None else expression(rule.when, source),
            exp.Literal.string(rule.event_name),
            _values(source, shape, rule),
        )
        for rule in source.events
    ]
    if source.event_name is not None:
        # Last, so that a row's other events keep their places when a name is added to the list.
        name = exp.cast(expression(source.event_name, source), "varchar")
        listed = exp.In(this=name, expressions=[exp.Literal.string(one) for one in source.event_names])
        makers.append(_Maker(listed, _replaced(name, source.event_names), _values(source, shape, None)))
    return makers


def _values(source: Source, shape: DoorShape, rule: EventRule | None) -> dict[str, exp.Expr]:
    """The fields that an event of a rule fills, each as text where the rules could differ in its type."""
    levels: list[Filling] = [source, *([rule] if rule is not None else [])]
    found: dict[str, exp.Expr] = {}
    for level in levels:
        found |= {name: exp.convert(value) for name, value in level.constants.items()}
        found |= {name: expression(text, source) for name, text in level.fields.items()}
    for name, replacements in source.values.items():
        if name in found:
            found[name] = _replaced(exp.cast(found[name], "varchar"), replacements)
    as_text = {name for name, kind in shape.types.items() if kind in ("VARCHAR", "TIMESTAMP")}
    return {
        name: exp.cast(value, "varchar") if name in as_text else value
        for name, value in found.items()
        if name in shape.accepted()
    }


def _replaced(value: exp.Expr, replacements: Mapping[str, Constant]) -> exp.Expr:
    """A text with the listed values put in other words; any other stays, or gets the word for `*`."""

    def word(ours: Constant) -> exp.Expr:
        return exp.Literal.string(str(ours).lower() if isinstance(ours, bool) else str(ours))

    chain = exp.Case(this=value, default=value.copy())
    if ANY_OTHER in replacements:
        present = exp.not_(value.copy().is_(exp.null()))
        chain.set("default", exp.Case().when(present, word(replacements[ANY_OTHER])))
    for raw, ours in replacements.items():
        if raw != ANY_OTHER:
            chain = chain.when(exp.Literal.string(raw), word(ours), copy=False)
    return chain


def _ignored(source: Source) -> exp.Expr | None:
    """The reason for which a row is left out on purpose; null where it is not."""
    if not source.ignore:
        return None
    chain = exp.Case()
    for rule in source.ignore:
        reason = exp.Literal.string(f"{IGNORED}:{rule.reason}")
        chain = chain.when(expression(rule.when, source), reason, copy=False)
    return chain


def _mapped(shape: DoorShape, source: Source, maker: _Maker | None, part: int) -> exp.Select:
    """Raw rows to the fields of one event rule, before typing; with no rule, canonical fields as they are."""
    values: Mapping[str, exp.Expr] = {}
    if maker is None:
        values = {name: exp.column(name, quoted=True) for name in shape.accepted()}
    else:
        values = {**maker.values, "event_name": maker.event_name}
    result = exp.select(_part(source, part).as_("part"), *RAW_COLUMNS)
    for name in shape.accepted():
        result.append("expressions", values.get(name, exp.null()).as_(name, quoted=True))
    result = result.from_(_rows_of(source), copy=False).where(duck("reason is null"))
    if source.unnest is not None:
        result = result.where(duck("not no_item"))
    if (ignored := _ignored(source)) is not None:
        result = result.where(exp.paren(ignored).is_(exp.null()))
    return result if maker is None or maker.when is None else result.where(maker.when.copy())


def _part(source: Source, rule: int) -> exp.Expr:
    """Which row of its raw row this is: 0 where no rule made it, else the rule, counted on over the items."""
    if source.unnest is None:
        return exp.Literal.number(rule)
    return duck(f"item_place * {source.makers() + 1} + {rule}")


def _rows_of(source: Source) -> str:
    return "raw" if source.unnest is None else "raw_items"


def _leftover(source: Source, shape: DoorShape, makers: Sequence[_Maker]) -> exp.Select:
    """Raw rows (or items of them) that make no event: unreadable, ignored, or wanted by no rule."""
    result = exp.select(_part(source, 0).as_("part"), ROW_NUMBER, "byte_offset")
    if source.identity or any(maker.when is None for maker in makers):
        unwanted: exp.Expr = exp.false()
    else:
        matched = exp.or_(*(maker.when.copy() for maker in makers if maker.when is not None))
        unwanted = exp.func("coalesce", exp.not_(exp.paren(matched)), exp.true())
    reasons: list[exp.Expr] = [exp.column("reason"), exp.Literal.string("no_event_rule")]
    if source.unnest is not None:
        unwanted = exp.or_(exp.column("no_item"), unwanted)
    if (ignored := _ignored(source)) is not None:
        reasons.insert(1, ignored)
        unwanted = exp.or_(unwanted, exp.not_(exp.paren(ignored.copy()).is_(exp.null())))
    result.append("expressions", exp.func("coalesce", *reasons).as_("reason"))
    result.append("expressions", exp.column("extra"))
    for name in shape.accepted():
        result.append("expressions", exp.null().as_(name, quoted=True))
    return result.from_(_rows_of(source), copy=False).where(exp.or_(duck("reason is not null"), unwanted))


def mapped_rows(source: Source, shape: DoorShape) -> exp.Expr:
    """Table `raw` (`raw_items` with `unnest`) to canonical fields, in whatever type the source gave them."""
    makers = [] if source.identity else _makers(source, shape)
    query: exp.Expr = _leftover(source, shape, makers)
    for part, maker in enumerate(makers or [None], start=1):
        query = exp.union(query, _mapped(shape, source, maker, part), distinct=False)
    return query
