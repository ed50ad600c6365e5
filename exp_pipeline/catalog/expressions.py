"""Whether the expressions that people write in measures and sources are safe, and speak of known columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from exp_pipeline.catalog.documents import Document, Place, choices
from exp_pipeline.catalog.loading import Catalog
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.metrics import Measure
from exp_pipeline.model.sources import Source

if TYPE_CHECKING:
    from sqlglot import exp

MAX_CHARACTERS: Final = 2_000
MAX_DEPTH: Final = 60

# Functions people may call, and the node that sqlglot makes of each. All of them look at one row, give the
# same value for the same row, and open nothing.
FUNCTIONS: Final[Mapping[str, str]] = {
    "abs": "Abs", "cast": "Cast", "ceil": "Ceil", "coalesce": "Coalesce", "concat": "Concat",
    "concat_ws": "ConcatWs", "contains": "Contains", "date_add": "DateAdd", "date_diff": "DateDiff",
    "date_part": "Anonymous", "date_trunc": "TimestampTrunc", "dayofweek": "DayOfWeek",
    "ends_with": "EndsWith", "epoch": "TimeToUnix", "epoch_ms": "UnixToTime", "epoch_ns": "Anonymous",
    "epoch_us": "Anonymous", "extract": "Extract", "floor": "Floor", "greatest": "Greatest", "hour": "Hour",
    "if": "If", "json_extract": "JSONExtract", "json_extract_string": "JSONExtractScalar", "least": "Least",
    "left": "Left", "length": "Length", "list_contains": "ArrayContains", "ln": "Ln", "lower": "Lower",
    "make_timestamp": "UnixToTime", "make_timestamp_ms": "Anonymous", "make_timestamp_ns": "Anonymous",
    "md5": "MD5", "month": "Month", "nullif": "Nullif", "power": "Pow", "regexp_extract": "RegexpExtract",
    "regexp_matches": "RegexpLike", "regexp_replace": "RegexpReplace", "replace": "Replace",
    "right": "Right", "round": "Round", "sha256": "SHA2", "split_part": "SplitPart", "sqrt": "Sqrt",
    "starts_with": "StartsWith", "str_split": "Split", "strftime": "TimeToStr", "strptime": "StrToTime",
    "substring": "Substring", "timezone": "Anonymous", "to_milliseconds": "Anonymous",
    "to_seconds": "Anonymous", "to_timestamp": "UnixToTime", "trim": "Trim", "try_cast": "TryCast",
    "try_strptime": "Anonymous", "upper": "Upper", "year": "Year",
}  # fmt: skip
_ANONYMOUS: Final = frozenset(name for name, node in FUNCTIONS.items() if node == "Anonymous")
_SYNTAX: Final = frozenset({
    "Column", "Identifier", "Literal", "Boolean", "Null", "Paren", "And", "Or", "Not", "EQ", "NEQ", "GT",
    "GTE", "LT", "LTE", "NullSafeEQ", "NullSafeNEQ", "Is", "In", "Between", "Case", "Add", "Sub", "Mul",
    "Div", "IntDiv", "Mod", "Neg", "DPipe", "Like", "ILike", "Interval", "Var", "AtTimeZone", "Bracket",
    "DataType", "DataTypeParam", "ColumnDef", "DateTrunc", "JSONPath", "JSONPathRoot", "JSONPathKey",
    "JSONPathSubscript",
})  # fmt: skip
_NODES: Final = (_SYNTAX | frozenset(FUNCTIONS.values())) - {"Anonymous"}
TYPES: Final = frozenset({
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ",
    "INTERVAL", "JSON", "UUID", "STRUCT", "LIST", "MAP",
})  # fmt: skip
# What sqlglot calls the types that DuckDB calls otherwise.
_DUCKDB_NAMES: Final = {
    "INT": "INTEGER", "UINT": "UINTEGER", "INT128": "HUGEINT", "TEXT": "VARCHAR", "ARRAY": "LIST",
    "TIMESTAMPNTZ": "TIMESTAMP", "TIMESTAMP_S": "TIMESTAMP", "TIMESTAMP_MS": "TIMESTAMP",
    "TIMESTAMP_NS": "TIMESTAMP",
}  # fmt: skip
_NO_NUMBERS: Final = frozenset({
    "VARCHAR", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "UUID", "JSON", "STRUCT", "LIST",
    "MAP",
})  # fmt: skip
_EXAMPLES: Final = "comparisons, arithmetic, case, and functions such as coalesce, lower or date_diff"


def check_expressions(
    catalog: Catalog,
    event_columns: Mapping[str, str],
    session_columns: Mapping[str, str],
    *,
    event_fields: Collection[str] | None = None,
    context_columns: Collection[str] | None = None,
) -> tuple[Problem, ...]:
    """What is wrong with the expressions of a catalog, given the columns they may use with their SQL types.

    `where` and `of` of measures are checked against the columns of the table they look over, `when` and
    `fields` of sources against the raw columns the source declares. Allowed are comparisons, arithmetic and
    the functions in `FUNCTIONS`; no subquery, aggregate, window, table function or unknown column.
    `event_fields` are the canonical fields a source may fill; `context_columns` those a brief may use as
    segments and strata. Where one is not given, that is not checked.
    """
    problems: list[Problem] = []
    for name, measure in catalog.measures.items():
        origin = catalog.origins["measure", name]
        columns = event_columns if measure.over == "events" else session_columns
        problems += _measure_problems(measure, origin.document, origin.place, columns)
    for source in catalog.sources:
        problems += _source_problems(source, catalog.origins["source", source.name].document, event_fields)
    if context_columns is not None:
        for name in catalog.briefs:
            problems += _context_problems(catalog.origins["brief", name].document, context_columns)
    return tuple(problems)


def expression_fault(text: str, columns: Mapping[str, str]) -> tuple[str, str] | None:
    """Why one expression is refused, as (message, what is allowed); None where it may be used."""
    parsed = _parsed(text)
    if isinstance(parsed, tuple):
        return parsed
    return _forbidden(parsed) or _unknown_column(parsed, columns)


def _parsed(text: str) -> exp.Expr | tuple[str, str]:
    import sqlglot
    from sqlglot.errors import SqlglotError

    if not text.strip():
        return "is empty", "an expression over the declared columns"
    if len(text) > MAX_CHARACTERS:
        return f"is {len(text):,} characters long", f"at most {MAX_CHARACTERS:,} characters"
    try:
        statements = sqlglot.parse(text, dialect="duckdb")
    except SqlglotError:
        return "is not an expression", "one SQL expression, such as correct and score > 0"
    except RecursionError:
        return "is nested too deeply", "a shorter expression"
    if len(statements) != 1 or statements[0] is None:
        return "is more than one expression", "one SQL expression, without a semicolon"
    return statements[0]


def _forbidden(expression: exp.Expr) -> tuple[str, str] | None:
    from sqlglot import exp

    waiting = [(expression, 1)]
    while waiting:
        node, depth = waiting.pop(0)
        if depth > MAX_DEPTH:
            return "is nested too deeply", f"at most {MAX_DEPTH} levels"
        kind = type(node).__name__
        if node.comments:
            return "holds a comment", "the expression alone; write comments as YAML comments"
        if isinstance(node, exp.DataType):
            if (wrong := _wrong_type(node)) is not None:
                hint, _ = choices(wrong.upper(), TYPES)
                return f"uses the type {wrong}{hint}", ", ".join(sorted(TYPES))
        elif isinstance(node, exp.Anonymous):
            if node.name.lower() not in _ANONYMOUS:
                return _no_function(node.name.lower())
        elif kind not in _NODES:
            name = node.sql(dialect="duckdb").partition("(")[0].lower()
            if isinstance(node, exp.Func) and name.isidentifier():
                return _no_function(name)
            return f"uses {_spoken(kind)}, which is not allowed here", _EXAMPLES
        waiting += [(child, depth + 1) for child in node.iter_expressions()]
    return None


def _no_function(name: str) -> tuple[str, str]:
    hint, allowed = choices(name, FUNCTIONS)
    return f"calls {name}(), which is not allowed here{hint}", allowed


def _spoken(kind: str) -> str:
    words = {
        "Select": "a query",
        "Subquery": "a query",
        "Window": "a window",
        "Star": "*",
        "Lambda": "a lambda",
    }
    words |= {
        "Placeholder": "a parameter",
        "Parameter": "a parameter",
        "Alias": "an alias",
        "Table": "a table",
    }
    words |= {"Struct": "a struct", "Array": "a list", "Command": "a command", "Exists": "a query"}
    return words.get(kind, kind.upper())


def _duckdb_name(kind: exp.DataType) -> str:
    from sqlglot import exp

    name = str(kind.this.value) if isinstance(kind.this, exp.DType) else str(kind.this)
    return _DUCKDB_NAMES.get(name, name)


def _wrong_type(kind: exp.DataType) -> str | None:
    return None if _duckdb_name(kind) in TYPES else kind.sql(dialect="duckdb")


def _unknown_column(expression: exp.Expr, columns: Mapping[str, str]) -> tuple[str, str] | None:
    from sqlglot import exp

    for column in expression.find_all(exp.Column):
        name = column.parts[0].name
        if name not in columns:
            hint, allowed = choices(name, columns)
            return f"unknown column {name}{hint}", allowed
        if len(column.parts) > 1 and not columns[name].upper().startswith("STRUCT"):
            return f"{name} has no fields (it is {columns[name]})", "a column that is a STRUCT"
    return None


def _type_of(text: str, columns: Mapping[str, str]) -> str | None:
    """The SQL type an expression gives, as far as it can be told without running it."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.optimizer.annotate_types import annotate_types

    known = {name: kind for name, kind in columns.items() if kind.upper() in TYPES}
    query = exp.select(sqlglot.parse_one(text, dialect="duckdb")).from_("t")
    for column in query.find_all(exp.Column):
        column.set("table", exp.to_identifier("t"))
    typed: Any = annotate_types(query, schema={"t": known}, dialect="duckdb")
    found = typed.expressions[0].type
    if found is None or found.this in (exp.DType.UNKNOWN, exp.DType.NULL, exp.DType.USERDEFINED):
        return None
    return _duckdb_name(found)


def _measure_problems(
    measure: Measure, document: Document, place: Place, columns: Mapping[str, str]
) -> Iterator[Problem]:
    for field, text in (("where", measure.where), ("of", measure.of)):
        if text is None:
            continue
        at = (*place, field)
        fault = expression_fault(text, columns)
        if fault is not None:
            yield document.problem(at, fault[0], allowed=fault[1])
            continue
        kind = _type_of(text, columns)
        if field == "where" and kind not in (None, "BOOLEAN"):
            yield document.problem(
                at, f"is {kind}, not a condition", allowed="true or false, such as correct"
            )
        if field == "of" and measure.aggregate in ("sum", "max", "values") and kind in _NO_NUMBERS:
            yield document.problem(
                at, f"is {kind}, and {measure.aggregate} needs a number", allowed="a number"
            )


def _source_problems(
    source: Source, document: Document, event_fields: Collection[str] | None
) -> Iterator[Problem]:
    if source.identity:
        return
    for name, kind in source.columns.items():
        yield from _column_problems(name, kind, document)
    written: list[tuple[Place, str]] = [(("fields", name), text) for name, text in source.fields.items()]
    for position, rule in enumerate(source.events):
        if rule.when is not None:
            written.append((("events", position, "when"), rule.when))
        written += [(("events", position, "fields", name), text) for name, text in rule.fields.items()]
    if source.unnest is not None:
        written.append((("unnest",), source.unnest))
    for place, text in written:
        fault = expression_fault(text, source.columns)
        if fault is not None:
            yield document.problem(place, fault[0], allowed=fault[1])
        field = str(place[-1])
        if event_fields is not None and place[-2:-1] == ("fields",) and field not in event_fields:
            hint, allowed = choices(field, event_fields)
            yield document.problem(place, f"is not a field of an event{hint}", allowed=allowed, value=field)


def _column_problems(name: str, kind: str, document: Document) -> Iterator[Problem]:
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    place: Place = ("columns", name)
    if any(character in '"\\' or not character.isprintable() for character in name):
        yield document.problem(
            place, "a column's name must hold no quote, backslash or control character", value=name
        )
    try:
        parsed = exp.DataType.build(kind, dialect="duckdb")
        known = all(_wrong_type(node) is None for node in parsed.find_all(exp.DataType))
    except (SqlglotError, ValueError):
        known = False
    if not known:
        hint, _ = choices(kind.upper(), TYPES)
        yield document.problem(
            place, f"is not a type of a raw column{hint}", allowed=", ".join(sorted(TYPES))
        )


def _context_problems(document: Document, context_columns: Collection[str]) -> Iterator[Problem]:
    segments, strata = document.at(("segments",)) or [], document.at(("strata",)) or []
    places: list[Place] = [("segments", position, "column") for position in range(len(segments))]
    places += [("strata", position) for position in range(len(strata))]
    for place in places:
        name = document.at(place)
        if isinstance(name, str) and name not in context_columns:
            hint, allowed = choices(name, context_columns)
            yield document.problem(place, f"unknown context column{hint}", allowed=allowed)
