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
from exp_pipeline.transform.door import DoorShape, duck, fitted, is_scalar, is_text, misfit
from exp_pipeline.transform.raw_expressions import expression

RAW_COLUMNS = (ROW_NUMBER, "byte_offset", "reason", "extra")
# What we know of a row while the file's own columns, whatever their names, stand beside it.
ROW_IN_FILE, ROW_PLACE, ROW_REASON = "#row", "#place", "#reason"
PARSED_FILLED = "#filled"
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


def empty_raw(source: Source, shape: DoorShape) -> exp.Select:
    """Table `raw` without a row."""
    whole = exp.select(*(duck(f"cast(null as bigint) as {name}") for name in (ROW_NUMBER, "byte_offset")))
    whole = whole.select(*(duck(f"cast(null as varchar) as {name}") for name in ("reason", "extra")))
    for name, kind in source_columns(source, shape).items():
        nothing = exp.cast(exp.null(), exp.DataType.build(kind, dialect="duckdb"))
        whole.append("expressions", nothing.as_(name, quoted=True))
    return whole.where(exp.false())


def _in_types(
    result: exp.Select,
    columns: Mapping[str, str],
    values: Mapping[str, tuple[exp.Expr, str]],
    reason: exp.Expr,
) -> exp.Select:
    """Columns (from a value and the type it has) in their declared types, and `reason`.

    A value that does not fit gives `wrong_type:<column>` where there is no reason yet.
    """
    wrong = exp.Case()
    for name, kind in columns.items():
        if name not in values:
            absent = exp.cast(exp.null(), exp.DataType.build(kind, dialect="duckdb"))
            result.append("expressions", absent.as_(name, quoted=True))
            continue
        value, have = values[name]
        if is_scalar(kind):
            fit = fitted(value, have, kind)
            if not is_text(kind) or not is_scalar(have):
                broken = misfit(value, have, fit)
                wrong.when(broken, exp.Literal.string(f"wrong_type:{name}"), copy=False)
        else:
            fit = exp.TryCast(this=value.copy(), to=exp.DataType.build(kind, dialect="duckdb"))
        result.append("expressions", fit.as_(name, quoted=True))
    if wrong.args.get("ifs"):
        reason = exp.func("coalesce", reason, wrong)
    return result.select(reason.as_("reason"))


def _read_as(kind: str) -> str:
    """How a column is read from JSON: one value as its text, so that what does not fit can be told apart."""
    return "VARCHAR" if is_scalar(kind) else kind


def raw_from_lines(source: Source, shape: DoorShape) -> exp.Select:
    """Lines of NDJSON (table `raw_lines`), looked at one by one, to raw columns.

    A key that nobody declared goes to `extra` with its value; a null says nothing and counts as absent.
    Refused are what is no JSON object, a key that comes again with a value (`duplicate_key`), and a list or
    an object where one value belongs (`wrong_type:<column>`).
    """
    columns = source_columns(source, shape)
    structure = json.dumps({name: _json_shape(_read_as(kind)) for name, kind in columns.items()})
    scalars = [name for name, kind in columns.items() if is_scalar(kind)]
    checked = duck(
        "select row_number, byte_offset, line, case when reason is not null then reason "
        "when not json_valid(line) then 'not_json' "
        "when json_type(line) <> 'OBJECT' then 'not_an_object' end as fault from raw_lines"
    )
    keyed = duck(
        "select row_number, byte_offset, fault, line, "
        "json_keys(line) as keys, json_type(line, '$.*') as types "
        "from (select row_number, byte_offset, fault, case when fault is null then line end as line "
        "from checked) as usable"
    )
    split = duck(
        "select row_number, byte_offset, fault, line, keys, types, list_filter(keys, lambda k, i: "
        "types[i] <> 'NULL' and not list_contains(known, k)) as undeclared, "
        "list_filter(keys, lambda k, i: types[i] in ('OBJECT', 'ARRAY') and list_contains(scalars, k)) "
        "as nested, "
        "len(list_distinct(keys)) < len(keys) and len(list_filter(keys, lambda k, i: "
        "types[i] <> 'NULL' and list_position(keys, k) < i)) > 0 as twice from keyed"
    )
    lists = {"known": list(columns), "scalars": scalars}
    split = split.transform(
        lambda node: (
            exp.array(*(exp.Literal.string(name) for name in lists[node.name]), dialect="duckdb")
            if isinstance(node, exp.Column) and node.name in lists
            else node
        )
    )
    read = (
        exp.select("row_number", "byte_offset", "line", "undeclared")
        .select(
            duck(
                "case when fault is not null then fault when twice then 'duplicate_key' "
                "when len(nested) > 0 then 'wrong_type:' || nested[1] end"
            ).as_("fault")
        )
        .select(
            exp.func(
                "json_transform", exp.column("line"), exp.Literal.string(structure), dialect="duckdb"
            ).as_("r")
        )
        .from_("split", copy=False)
    )
    extra = duck(
        "case when len(undeclared) > 0 then '{' || array_to_string(list_transform(undeclared, "
        "lambda k: cast(to_json(k) as varchar) || ':' || "
        "cast(json_extract(line, '/' || replace(replace(k, '~', '~0'), '/', '~1')) as varchar)), ',') "
        "|| '}' end"
    )
    result = exp.select("row_number", "byte_offset").select(extra.as_("extra")).from_("read", copy=False)
    values: dict[str, tuple[exp.Expr, str]] = {
        name: (
            exp.Dot(this=exp.column("r"), expression=exp.to_identifier(name, quoted=True)),
            _read_as(kind),
        )
        for name, kind in columns.items()
    }
    result = _in_types(result, columns, values, exp.column("fault"))
    for name, query in (("checked", checked), ("keyed", keyed), ("split", split), ("read", read)):
        result = result.with_(name, query, copy=False)
    return result


def raw_from_parsed(source: Source, shape: DoorShape, present: Sequence[str]) -> exp.Select:
    """Plain lines as the engine read them (tables `parsed`, `parsed_places`) to raw columns.

    `parsed` holds the columns `present` as text, and in PARSED_FILLED how many of them a row fills. A row
    that fills just as many as its line has weight is wholly known; the others are not taken from here.
    """
    columns = source_columns(source, shape)
    result = exp.select("q.row_number", "q.place as byte_offset").select(
        exp.cast(exp.null(), "varchar").as_("extra")
    )
    values: dict[str, tuple[exp.Expr, str]] = {
        name: (exp.column(name, table="p", quoted=True), "VARCHAR") for name in present
    }
    result = _in_types(result, columns, values, exp.cast(exp.null(), "varchar"))
    return result.from_(duck("select 1 from parsed as p").args["from_"].this, copy=False).join(
        exp.to_table("parsed_places").as_("q"),
        on=exp.and_(
            exp.column("rowid", table="p").eq(exp.column("place_in_batch", table="q")),
            exp.column(PARSED_FILLED, table="p", quoted=True).eq(exp.column("weight", table="q")),
            exp.GT(this=exp.column("weight", table="q"), expression=exp.Literal.number(0)),
        ),
        copy=False,
    )


def raw_from_table(source: Source, shape: DoorShape, present: Mapping[str, str]) -> exp.Select:
    """Rows of a CSV or Parquet file (table `raw_table`) to raw columns.

    Beside the file's own columns `raw_table` has ROW_IN_FILE, ROW_PLACE and ROW_REASON. `present` maps the
    file's columns to their types. What the source does not declare goes to `extra`. A canonical file may
    lack optional columns; a mapped one must have every column it names (checked before).
    """
    columns = source_columns(source, shape)
    rest = [name for name in present if name not in columns]
    result = exp.select(exp.column(ROW_IN_FILE, quoted=True).as_(ROW_NUMBER)).select(
        exp.column(ROW_PLACE, quoted=True).as_("byte_offset")
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
        extra: exp.Expr = exp.cast(exp.func("to_json", packed, dialect="duckdb"), "varchar")
        some = exp.or_(*(exp.not_(exp.column(name, quoted=True).is_(exp.null())) for name in rest))
        extra = exp.Case().when(some, extra, copy=False)
    else:
        extra = exp.cast(exp.null(), "varchar")
    result = result.select(extra.as_("extra"))
    reason = exp.column(ROW_REASON, quoted=True)
    if source.identity:
        for name, kind in columns.items():
            own: exp.Expr = exp.column(name, quoted=True)
            absent = exp.cast(exp.null(), exp.DataType.build(kind, dialect="duckdb"))
            result.append("expressions", (own if name in present else absent).as_(name, quoted=True))
        result = result.select(reason.as_("reason"))
    else:
        values: dict[str, tuple[exp.Expr, str]] = {
            name: (exp.column(name, quoted=True), present[name]) for name in columns if name in present
        }
        result = _in_types(result, columns, values, reason)
    return result.from_("raw_table", copy=False)


def _most_items(source: Source) -> int:
    return MOST_PARTS // (source.makers() + 1)


def columns_read(source: Source) -> set[str]:
    """The columns that the rules of a source read; its `unnest` apart."""
    texts = [text for place, text in source.expressions() if place != ("unnest",)]
    return {column.parts[0].name for text in texts for column in duck(text).find_all(exp.Column)}


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
    read = [name for name in source.file_columns() if name in columns_read(source)]
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


def ignored_reason(source: Source) -> exp.Expr | None:
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
    result = result.from_(rows_of(source), copy=False).where(duck("reason is null"))
    if source.unnest is not None:
        result = result.where(duck("not no_item"))
    if (ignored := ignored_reason(source)) is not None:
        result = result.where(exp.paren(ignored).is_(exp.null()))
    return result if maker is None or maker.when is None else result.where(maker.when.copy())


def _part(source: Source, rule: int) -> exp.Expr:
    """Which row of its raw row this is: 0 where no rule made it, else the rule, counted on over the items."""
    if source.unnest is None:
        return exp.Literal.number(rule)
    return duck(f"item_place * {source.makers() + 1} + {rule}")


def rows_of(source: Source) -> str:
    """The table that the rules of a source look at."""
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
    if (ignored := ignored_reason(source)) is not None:
        reasons.insert(1, ignored)
        unwanted = exp.or_(unwanted, exp.not_(exp.paren(ignored.copy()).is_(exp.null())))
    result.append("expressions", exp.func("coalesce", *reasons).as_("reason"))
    result.append("expressions", exp.column("extra"))
    for name in shape.accepted():
        result.append("expressions", exp.null().as_(name, quoted=True))
    return result.from_(rows_of(source), copy=False).where(exp.or_(duck("reason is not null"), unwanted))


def mapped_rows(source: Source, shape: DoorShape) -> exp.Expr:
    """Table `raw` (`raw_items` with `unnest`) to canonical fields, in whatever type the source gave them."""
    makers = [] if source.identity else _makers(source, shape)
    query: exp.Expr = _leftover(source, shape, makers)
    for part, maker in enumerate(makers or [None], start=1):
        query = exp.union(query, _mapped(shape, source, maker, part), distinct=False)
    return query
