"""Measures as SQL: each measure of the catalog is a column of one pass, added up over stretches and days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlglot
from sqlglot import exp

from exp_pipeline.model.metrics import Aggregate, Measure

# Sums of floats depend on their order, sums of decimals do not: a partition is always the same bytes. What
# the contract allows (up to 1e9) must fit with room for expressions, or one odd event would stop a day.
EXACT = "decimal(28, 9)"


_TYPES: dict[Aggregate, str] = {
    "count": "BIGINT",
    "sum": "DOUBLE",
    "max": "DOUBLE",
    "min": "DOUBLE",
    "first": "TIMESTAMP",
    "last": "TIMESTAMP",
    "distinct": "VARCHAR[]",
    "values": "DOUBLE[]",
    "histogram": "STRUCT(bin SMALLINT, n BIGINT)[]",
}
# The time of a row, by the table a measure looks over.
_MOMENT = {"events": "occurred_at", "sessions": "started_at"}


def _parse(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, dialect="duckdb")


def event_codes(measures: Iterable[Measure], also: Iterable[str] = ()) -> dict[str, int]:
    """A small number for each event name that measures (or a query itself) ask for, by name."""
    names = sorted({name for measure in measures for name in measure.events} | set(also))
    return {name: code for code, name in enumerate(names, start=1)}


def _condition(measure: Measure, codes: Mapping[str, int] | None) -> exp.Expr | None:
    parts: list[exp.Expr] = []
    if measure.events and codes is not None:
        wanted = sorted(codes[name] for name in measure.events)
        code = exp.column("event_code")
        parts.append(code.eq(wanted[0]) if len(wanted) == 1 else code.isin(*wanted))
    elif measure.events:
        parts.append(exp.column("event_name").isin(*sorted(measure.events)))
    if measure.where is not None:
        parts.append(exp.paren(_parse(measure.where)))
    return exp.and_(*parts) if parts else None


def column_type(measure: Measure) -> str:
    """SQL type of a measure's column: counts are BIGINT, sums and extremes DOUBLE, collections lists.

    A histogram is a list of bins with how many values fell into each, empty bins left out: bin 0 lies below
    the first edge, bin i from edge i to edge i + 1 (edges counted from 1). A bin may stand in it more than
    once, each time with another part's count.
    """
    return _TYPES[measure.aggregate]


def _bin_of(value: exp.Expr, edges: Sequence[float], below: int = 0) -> exp.Expr:
    """The number of a value's bin (how many edges are not above it), by halving: exact on every engine."""
    if not edges:
        return exp.Literal.number(below)
    middle = len(edges) // 2
    return (
        exp.Case()
        .when(
            exp.LT(this=value.copy(), expression=exp.cast(exp.Literal.number(repr(edges[middle])), "double")),
            _bin_of(value, edges[:middle], below),
        )
        .else_(_bin_of(value, edges[middle + 1 :], below + middle + 1))
    )


def _aggregate(measure: Measure) -> exp.Expr:
    if measure.aggregate == "count":
        return exp.Count(this=exp.Star())
    if measure.aggregate == "first":
        return exp.Min(this=exp.column(_MOMENT[measure.over]))
    if measure.aggregate == "last":
        return exp.Max(this=exp.column(_MOMENT[measure.over]))
    of = exp.paren(_parse(measure.of or ""))
    if measure.aggregate == "sum":
        return exp.Sum(this=exp.cast(of, EXACT))
    if measure.aggregate == "max":
        return exp.Max(this=exp.cast(of, "double"))
    if measure.aggregate == "min":
        return exp.Min(this=exp.cast(of, "double"))
    if measure.aggregate == "histogram":
        edges = measure.bins.boundaries() if measure.bins is not None else ()
        return exp.ArrayAgg(this=exp.cast(_bin_of(exp.cast(of, "double"), edges), "smallint"))
    kind = "varchar" if measure.aggregate == "distinct" else "double"
    return exp.ArrayAgg(this=exp.cast(of, kind))


def _counted(bins: exp.Expr) -> exp.Expr:
    """A list of bin numbers as a list of (bin, n), each bin once."""
    same = exp.Lambda(
        this=exp.column("x").eq(exp.column("b")), expressions=[exp.to_identifier("x")], colon=True
    )
    entry = exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier("bin"), expression=exp.column("b")),
            exp.PropertyEQ(
                this=exp.to_identifier("n"),
                expression=exp.ArraySize(this=exp.ArrayFilter(this=bins.copy(), expression=same)),
            ),
        ]
    )
    return exp.Transform(
        this=exp.func("list_distinct", bins, dialect="duckdb"),
        expression=exp.Lambda(this=entry, expressions=[exp.to_identifier("b")], colon=True),
    )


def over_rows(measure: Measure, codes: Mapping[str, int] | None = None) -> exp.Expr:
    """A measure over the rows of a group of events or sessions, as one aliased column.

    With `codes`, the event is asked for by its number in a column `event_code`, else by name.
    """
    aggregate: exp.Expr = _aggregate(measure)
    condition = _condition(measure, codes)
    collection = measure.aggregate in ("distinct", "values", "histogram")
    if collection:
        present = exp.paren(_parse(measure.of or "")).is_(exp.null()).not_()
        condition = present if condition is None else exp.and_(condition, present)
    if condition is not None:
        aggregate = exp.Filter(this=aggregate, expression=exp.Where(this=condition))
    if measure.aggregate == "distinct":
        # Cheaper than an aggregate that keeps a set for each group.
        aggregate = exp.func("list_distinct", aggregate, dialect="duckdb")
    elif measure.aggregate == "histogram":
        aggregate = _counted(aggregate)
    if collection:
        aggregate = exp.func("list_sort", aggregate, dialect="duckdb")
    elif measure.aggregate == "sum":
        aggregate = exp.cast(aggregate, "double")
    return aggregate.as_(measure.name, quoted=True)


def added_up(measure: Measure, table: str) -> exp.Expr:
    """A measure's column added up over the rows of a group (stretches of a day, days of a window)."""
    column = exp.column(measure.name, table=table, quoted=True)
    if measure.aggregate == "count":
        value: exp.Expr = exp.cast(
            exp.func("coalesce", exp.Sum(this=column), exp.Literal.number(0)), "bigint"
        )
    elif measure.aggregate == "sum":
        value = exp.cast(exp.Sum(this=exp.cast(column, EXACT)), "double")
    elif measure.aggregate in ("max", "last"):
        value = exp.Max(this=column)
    elif measure.aggregate in ("min", "first"):
        value = exp.Min(this=column)
    else:
        gathered = exp.func("flatten", exp.ArrayAgg(this=column), dialect="duckdb")
        if measure.aggregate == "distinct":
            gathered = exp.func("list_distinct", gathered, dialect="duckdb")
        value = exp.func("list_sort", gathered, dialect="duckdb")
    return value.as_(measure.name, quoted=True)


def alone(measure: Measure, table: str) -> exp.Expr:
    """A measure's column as `added_up` gives it where a group has one row."""
    column: exp.Expr = exp.column(measure.name, table=table, quoted=True)
    if measure.aggregate == "count":
        column = exp.cast(exp.func("coalesce", column, exp.Literal.number(0)), "bigint")
    elif measure.aggregate == "sum":
        column = exp.cast(exp.cast(column, EXACT), "double")
    elif measure.aggregate in ("distinct", "values", "histogram"):
        empty = exp.cast(
            exp.Array(expressions=[]), exp.DataType.build(column_type(measure), dialect="duckdb")
        )
        column = exp.func("coalesce", column, empty)
    return column.as_(measure.name, quoted=True)


def of_a_day(measure: Measure, table: str) -> exp.Expr:
    """A measure's column of one unit and day; no activity is a count of 0, and nothing else."""
    value: exp.Expr = exp.column(measure.name, table=table, quoted=True)
    if measure.aggregate == "count":
        value = exp.func("coalesce", value, exp.Literal.number(0))
    return value.as_(measure.name, quoted=True)


def in_order(measures: Iterable[Measure], over: str | None = None) -> tuple[Measure, ...]:
    """Measures by name, so that columns always stand in the same order; those over one table, if named."""
    return tuple(sorted((m for m in measures if over is None or m.over == over), key=lambda m: m.name))


def column_types(measures: Iterable[Measure]) -> dict[str, str]:
    """Columns and SQL types of a table's measures, in order."""
    return {measure.name: column_type(measure) for measure in in_order(measures)}


def read_columns(measures: Sequence[Measure], known: Mapping[str, str]) -> set[str]:
    """Which of the known columns the measures read; SQL does not tell upper from lower case."""
    found: set[str] = set()
    for measure in measures:
        if measure.aggregate in ("first", "last"):
            found.add(_MOMENT[measure.over])
        for text in (measure.where, measure.of):
            if text is not None:
                found.update(column.name.lower() for column in _parse(text).find_all(exp.Column))
    return {name for name in known if name.lower() in found}
