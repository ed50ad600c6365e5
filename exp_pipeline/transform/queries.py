"""The SQL files as parsed queries: read once, extended with columns, and put into the form an engine runs.

Each file is one query in DuckDB's dialect with one stated grain; `query_text` gives it for DuckDB,
`spark_text` for Spark, where a construct that has no translation is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

import sqlglot
from sqlglot import exp

DIALECT = "duckdb"


@cache
def _parsed(name: str) -> exp.Expr:
    text = files("exp_pipeline.transform").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return sqlglot.parse_one(text, dialect=DIALECT)


def query_names() -> tuple[str, ...]:
    """The names of all SQL files, in order."""
    folder = files("exp_pipeline.transform").joinpath("sql")
    return tuple(
        sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
    )


def grain(name: str) -> str:
    """The first comment line of an SQL file: what one row is."""
    text = files("exp_pipeline.transform").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return text.splitlines()[0].removeprefix("--").strip()


def load(name: str) -> exp.Expr:
    """A fresh copy of a parsed SQL file, for the caller to extend."""
    return _parsed(name).copy()


@cache
def text_of(name: str) -> str:
    """An SQL file as DuckDB SQL, as it stands."""
    return query_text(_parsed(name))


def with_columns(query: exp.Expr, columns: Iterable[exp.Expr]) -> exp.Expr:
    """The query with columns appended to its outermost select."""
    if not isinstance(query, exp.Select):
        raise ValueError("columns can be appended to a select only")
    return query.select(*columns, append=True, copy=True)


def with_slots(query: exp.Expr, fillings: Mapping[str, Iterable[exp.Expr]]) -> exp.Expr:
    """The query with each select column `slot('name')` replaced by the columns given under that name.

    Raises ValueError where the names of the slots and of the fillings differ.
    """
    filled = query.copy()
    found: set[str] = set()
    for select in filled.find_all(exp.Select):
        kept: list[exp.Expr] = []
        for column in select.expressions:
            call = column.unalias()
            if isinstance(call, exp.Anonymous) and str(call.this).lower() == "slot":
                name = call.expressions[0].name
                found.add(name)
                kept.extend(fillings.get(name, ()))
            else:
                kept.append(column)
        select.set("expressions", kept)
    if found != set(fillings):
        raise ValueError(f"the query has slots {sorted(found)}, fillings were given for {sorted(fillings)}")
    return filled


def with_calls(query: exp.Expr, replacements: Mapping[str, exp.Expr]) -> exp.Expr:
    """The query with each call `name()` replaced by an expression.

    This is how what another room defines (a contract's predicate) enters a query: as a tree, never as text.
    """

    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Anonymous) and str(node.this).lower() in replacements:
            # `paren` wraps a copy.
            return exp.paren(replacements[str(node.this).lower()])
        return node

    return query.transform(fill)


def with_codes(query: exp.Expr, codes: Mapping[str, int]) -> exp.Expr:
    """The query with `event_code()` as one comparison chain over `event_name`, `code_of('x')` as its number.

    Comparing a small integer is cheaper than comparing names again for every measure.
    """
    none = exp.Literal.number(0)
    chain = exp.Case(this=exp.column("event_name"), default=none)
    for name, code in codes.items():
        chain = chain.when(exp.Literal.string(name), exp.Literal.number(code))
    numbered = exp.cast(chain if codes else none, "tinyint")

    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Anonymous) and str(node.this).lower() == "code_of":
            return exp.Literal.number(codes[node.expressions[0].name])
        return node

    return with_calls(query.transform(fill), {"event_code": numbered})


def query_text(query: exp.Expr) -> str:
    """The query as DuckDB SQL."""
    return query.sql(dialect=DIALECT)


def used_in(text: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """Those of the parameters that a query's text names: an engine refuses others."""
    return {name: value for name, value in parameters.items() if f"${name}" in text}


def spark_text(query: exp.Expr) -> str:
    """The query as Spark SQL; raises sqlglot's UnsupportedError for what has no translation."""
    return query.sql(dialect="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
