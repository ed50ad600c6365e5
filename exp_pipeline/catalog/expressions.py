"""Whether the expressions that people write in measures and sources are safe, and speak of known columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from exp_pipeline.catalog.contents import Catalog
from exp_pipeline.catalog.documents import Document, Place, choices
from exp_pipeline.catalog.references import entries
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.metrics import Measure, Metric

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.schema import MappingSchema

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
_SYNTAX: Final = frozenset({
    "Column", "Identifier", "Literal", "Boolean", "Null", "Paren", "And", "Or", "Not", "EQ", "NEQ", "GT",
    "GTE", "LT", "LTE", "NullSafeEQ", "NullSafeNEQ", "Is", "In", "Between", "Case", "Add", "Sub", "Mul",
    "Div", "IntDiv", "Mod", "Neg", "DPipe", "Like", "ILike", "Interval", "Var", "AtTimeZone", "Bracket",
    "DataType", "DataTypeParam", "ColumnDef", "DateTrunc", "JSONPath", "JSONPathRoot", "JSONPathKey",
    "JSONPathSubscript", "JSONPathWildcard",
})  # fmt: skip
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
    context_columns: Collection[str] | None = None,
) -> tuple[Problem, ...]:
    """What is wrong with the expressions of a catalog, given the columns they may use with their SQL types.

    `where` and `of` of measures are checked against the columns of the table they look over. Allowed are
    comparisons, arithmetic and the functions in `FUNCTIONS`; no subquery, aggregate, window, table function
    or unknown column. `context_columns` are those a brief may use as segments, strata, conditions; where they
    are not given, that is not checked. Mappings of sources: `check_mappings`.
    """
    problems: list[Problem] = []
    for name, measure in catalog.measures.items():
        origin = catalog.origins["measure", name]
        columns = event_columns if measure.over == "events" else session_columns
        problems += _measure_problems(measure, origin.document, origin.place, columns)
    if context_columns is not None:
        for name, metric in catalog.metrics.items():
            origin = catalog.origins["metric", name]
            problems += _metric_problems(metric, origin.document, origin.place, context_columns)
        # Also of briefs that have other problems: all are told at once.
        for (kind, _), origin in catalog.origins.items():
            if kind == "brief":
                problems += context_problems(origin.document, context_columns)
    return tuple(problems)


def expression_fault(
    text: str, columns: Mapping[str, str], *, functions: Mapping[str, str] | None = None
) -> tuple[str, str] | None:
    """Why one expression is refused, as (message, what is allowed); None where it may be used.

    `functions` are allowed beside `FUNCTIONS`: each name with the node that sqlglot makes of it.
    """
    parsed = _parsed(text)
    if isinstance(parsed, tuple):
        return parsed
    return _forbidden(parsed, {**FUNCTIONS, **(functions or {})}) or _unknown_column(parsed, columns)


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


def _forbidden(expression: exp.Expr, functions: Mapping[str, str]) -> tuple[str, str] | None:
    from sqlglot import exp

    nodes = (_SYNTAX | frozenset(functions.values())) - {"Anonymous"}
    anonymous = {name for name, node in functions.items() if node == "Anonymous"}
    waiting = [(expression, 1)]
    while waiting:
        node, depth = waiting.pop(0)
        if depth > MAX_DEPTH:
            return "is nested too deeply", f"at most {MAX_DEPTH} levels"
        kind = type(node).__name__
        if node.comments:
            return "holds a comment", "the expression alone; write comments as YAML comments"
        if isinstance(node, exp.DataType):
            if (wrong := wrong_type(node)) is not None:
                hint, _ = choices(wrong.upper(), TYPES)
                return f"uses the type {wrong}{hint}", ", ".join(sorted(TYPES))
        elif isinstance(node, exp.Anonymous):
            if node.name.lower() not in anonymous:
                return _no_function(node.name.lower(), functions)
        elif kind not in nodes:
            name = node.sql(dialect="duckdb").partition("(")[0].lower()
            if isinstance(node, exp.Func) and name.isidentifier():
                return _no_function(name, functions)
            if kind == "Lambda":
                return (
                    "uses a lambda: within a call, -> is one",
                    "json_extract(column, '$.name') instead of ->",
                )
            return f"uses {_spoken(kind)}, which is not allowed here", _EXAMPLES
        waiting += [(child, depth + 1) for child in node.iter_expressions()]
    return None


def _no_function(name: str, functions: Mapping[str, str]) -> tuple[str, str]:
    hint, allowed = choices(name, functions)
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


def wrong_type(kind: exp.DataType) -> str | None:
    """The type as written, where it is none that columns may have; None where it is."""
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

    query = exp.select(sqlglot.parse_one(text, dialect="duckdb")).from_("t")
    for column in query.find_all(exp.Column):
        column.set("table", exp.to_identifier("t"))
    typed: Any = annotate_types(query, schema=_schema(tuple(columns.items())), dialect="duckdb")
    found = typed.expressions[0].type
    if found is None or found.this in (exp.DType.UNKNOWN, exp.DType.NULL, exp.DType.USERDEFINED):
        return None
    return _duckdb_name(found)


@lru_cache(maxsize=8)
def _schema(columns: tuple[tuple[str, str], ...]) -> MappingSchema:
    """Table `t` of these columns, as far as their types are told apart: many expressions are read over it."""
    from sqlglot.schema import MappingSchema

    known = {name: kind for name, kind in columns if kind.upper() in TYPES}
    return MappingSchema({"t": known}, dialect="duckdb")


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
        if (
            field == "of"
            and measure.aggregate in ("sum", "max", "min", "values", "histogram")
            and kind in _NO_NUMBERS
        ):
            yield document.problem(
                at, f"is {kind}, and {measure.aggregate} needs a number", allowed="a number"
            )


def _metric_problems(
    metric: Metric, document: Document, place: Place, context_columns: Collection[str]
) -> Iterator[Problem]:
    columns = dict.fromkeys(sorted(context_columns), "VARCHAR")
    for field, text in (("include", metric.include), ("exclude", metric.exclude)):
        if text is None:
            continue
        fault = expression_fault(text, columns)
        if fault is None and _type_of(text, columns) not in (None, "BOOLEAN"):
            fault = "is not a condition", "true or false, such as platform = 'web'"
        if fault is not None:
            yield document.problem((*place, field), fault[0], allowed=fault[1])


def context_problems(document: Document, context_columns: Collection[str]) -> Iterator[Problem]:
    """Segments, strata and conditions of a brief over columns that are not frozen at assignment."""
    sections = (
        ["segments"] if document.at(("table",)) is not None else ["segments", "eligibility", "exclusions"]
    )
    places = [(*place, "column") for section in sections for place in entries(document, (section,))]
    places += entries(document, ("strata",))
    for place in places:
        name = document.at(place)
        if isinstance(name, str) and name not in context_columns:
            hint, allowed = choices(name, context_columns)
            yield document.problem(place, f"unknown context column{hint}", allowed=allowed)
