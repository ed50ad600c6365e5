"""Measures as SQL: each measure of the catalog is a column of one pass, added up over bouts and days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlglot
from sqlglot import exp

from exp_pipeline.model.metrics import Aggregate, Measure

# Sums of floats depend on their order, sums of decimals do not: a partition is always the same bytes. What
# the contract allows (up to 1e9) must fit with room for expressions, or one odd event would stop a day.
_EXACT = "decimal(28, 9)"


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
    """SQL type of a measure's column: counts are BIGINT, sums and maxima DOUBLE, collections lists."""
    types: dict[Aggregate, str] = {
        "count": "BIGINT",
        "sum": "DOUBLE",
        "max": "DOUBLE",
        "distinct": "VARCHAR[]",
        "values": "DOUBLE[]",
    }
    return types[measure.aggregate]


def _aggregate(measure: Measure) -> exp.Expr:
    if measure.aggregate == "count":
        return exp.Count(this=exp.Star())
    of = exp.paren(_parse(measure.of or ""))
    if measure.aggregate == "sum":
        return exp.Sum(this=exp.cast(of, _EXACT))
    if measure.aggregate == "max":
        return exp.Max(this=exp.cast(of, "double"))
    kind = "varchar" if measure.aggregate == "distinct" else "double"
    collected = exp.cast(of, kind)
    return exp.ArrayAgg(this=collected)


def over_rows(measure: Measure, codes: Mapping[str, int] | None = None) -> exp.Expr:
    """A measure over the rows of a group of events or sessions, as one aliased column.

    With `codes`, the event is asked for by its number in a column `event_code`, else by name.
    """
    aggregate: exp.Expr = _aggregate(measure)
    condition = _condition(measure, codes)
    collection = measure.aggregate in ("distinct", "values")
    if collection:
        present = exp.paren(_parse(measure.of or "")).is_(exp.null()).not_()
        condition = present if condition is None else exp.and_(condition, present)
    if condition is not None:
        aggregate = exp.Filter(this=aggregate, expression=exp.Where(this=condition))
    if measure.aggregate == "distinct":
        # Cheaper than an aggregate that keeps a set for each group.
        aggregate = exp.func("list_distinct", aggregate, dialect="duckdb")
    if collection:
        aggregate = exp.func("list_sort", aggregate, dialect="duckdb")
    elif measure.aggregate == "sum":
        aggregate = exp.cast(aggregate, "double")
    return aggregate.as_(measure.name, quoted=True)


def added_up(measure: Measure, table: str) -> exp.Expr:
    """A measure's column added up over the rows of a group (bouts of a day, days of a window)."""
    column = exp.column(measure.name, table=table, quoted=True)
    if measure.aggregate == "count":
        value: exp.Expr = exp.cast(
            exp.func("coalesce", exp.Sum(this=column), exp.Literal.number(0)), "bigint"
        )
    elif measure.aggregate == "sum":
        value = exp.cast(exp.Sum(this=exp.cast(column, _EXACT)), "double")
    elif measure.aggregate == "max":
        value = exp.Max(this=column)
    else:
        gathered = exp.func("flatten", exp.ArrayAgg(this=column), dialect="duckdb")
        if measure.aggregate == "distinct":
            gathered = exp.func("list_distinct", gathered, dialect="duckdb")
        value = exp.func("list_sort", gathered, dialect="duckdb")
    return value.as_(measure.name, quoted=True)


def on_its_day(measure: Measure, *, own: str, first: str) -> exp.Expr:
    """A measure's column for one unit and day: from `first` on the assignment day, later from `own`."""
    value: exp.Expr = (
        exp.Case()
        .when(
            exp.column("event_date", table="d").eq(exp.column("assigned_date", table="u")),
            exp.column(measure.name, table=first, quoted=True),
        )
        .else_(exp.column(measure.name, table=own, quoted=True))
    )
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
    """Which of the known columns the measures read."""
    found: set[str] = set()
    for measure in measures:
        for text in (measure.where, measure.of):
            if text is not None:
                found.update(column.name for column in _parse(text).find_all(exp.Column))
    return found & set(known)
