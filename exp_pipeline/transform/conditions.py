"""Plain conditions over rows as arrays: comparisons with constants, null tests, and what joins them.

They give what the engine gives, with three values: true, false, unknown. All else is left to the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import sqlglot
from sqlglot import exp

from exp_pipeline.transform.columns import Flags, Places, Rows

# Rows at which something is asked; None stands for all of them.
At = Places | None


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a condition is true and where it is false; where neither, it is unknown."""

    true: Flags
    false: Flags


Condition = Callable[[Rows, At], Truth]

_WHOLE = frozenset(("BIGINT", "INTEGER", "SMALLINT", "TINYINT"))
_FLIPPED: Mapping[type[exp.Expr], type[exp.Expr]] = {
    exp.LT: exp.GT,
    exp.GT: exp.LT,
    exp.LTE: exp.GTE,
    exp.GTE: exp.LTE,
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
}


def array_condition(text: str, types: Mapping[str, str]) -> Condition | None:
    """A condition of SQL over columns of these types as one over arrays; None where it is not a plain one."""
    return _condition(sqlglot.parse_one(text, dialect="duckdb"), types)


def _condition(node: exp.Expr, types: Mapping[str, str]) -> Condition | None:
    node = node.unnest()
    if isinstance(node, exp.And | exp.Or):
        return _both(node, types)
    if isinstance(node, exp.Not):
        inner = _condition(node.this, types)
        return None if inner is None else _negated(inner)
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        name = _column(node.this, types)
        return None if name is None else _is_null(name, types[name])
    if isinstance(node, exp.In):
        return _within(node, types)
    if type(node) in _FLIPPED:
        return _comparison(node, types)
    name = _column(node, types)
    return _flag(name) if name is not None and types[name] == "BOOLEAN" else None


def _column(node: exp.Expr, types: Mapping[str, str]) -> str | None:
    node = node.unnest()
    if not isinstance(node, exp.Column) or node.table:
        return None
    # Names of columns do not tell upper from lower case.
    return next((name for name in types if name.lower() == node.name.lower()), None)


def _both(node: exp.And | exp.Or, types: Mapping[str, str]) -> Condition | None:
    left, right = _condition(node.this, types), _condition(node.expression, types)
    if left is None or right is None:
        return None
    every = isinstance(node, exp.And)

    def truth(rows: Rows, at: At) -> Truth:
        a, b = left(rows, at), right(rows, at)
        if every:
            return Truth(a.true & b.true, a.false | b.false)
        return Truth(a.true | b.true, a.false & b.false)

    return truth


def _negated(inner: Condition) -> Condition:
    def truth(rows: Rows, at: At) -> Truth:
        found = inner(rows, at)
        return Truth(found.false, found.true)

    return truth


def _flag(name: str) -> Condition:
    def truth(rows: Rows, at: At) -> Truth:
        column = rows.numbers(name, at)
        return _known(column.values, column.present)

    return truth


def _is_null(name: str, kind: str) -> Condition:
    def truth(rows: Rows, at: At) -> Truth:
        if kind == "VARCHAR":
            empty = rows.texts(name, at).codes < 0
        else:
            column = rows.numbers(name, at)
            empty = np.zeros(len(column.values), np.bool_) if column.present is None else ~column.present
        return Truth(empty, ~empty)

    return truth


def _known(true: Flags, present: Flags | None) -> Truth:
    if present is None:
        return Truth(true, ~true)
    return Truth(true & present, ~true & present)


def _constant(node: exp.Expr, kind: str) -> str | float | int | None:
    """A constant that a column of this type is compared with as it is; None for any other."""
    negative = isinstance(node, exp.Neg)
    literal = node.this if negative else node
    if not isinstance(literal, exp.Literal):
        return None
    if kind == "VARCHAR":
        return literal.name if literal.is_string and not negative else None
    if literal.is_string:
        return None
    # A whole number is compared with a fraction as decimals: the engine's business.
    if kind in _WHOLE and literal.is_int and abs(int(literal.name)) < 2**53:
        return -int(literal.name) if negative else int(literal.name)
    if kind == "DOUBLE":
        return -float(literal.name) if negative else float(literal.name)
    return None


def _comparison(node: exp.Expr, types: Mapping[str, str]) -> Condition | None:
    kind, left, right = type(node), node.this.unnest(), node.expression.unnest()
    if isinstance(right, exp.Column):
        kind, left, right = _FLIPPED[kind], right, left
    name = _column(left, types)
    value = None if name is None else _constant(right, types[name])
    if name is None or value is None:
        return None
    if isinstance(value, str):
        if kind not in (exp.EQ, exp.NEQ):
            return None
        equal = _texts_among(name, frozenset((value,)))
        return equal if kind is exp.EQ else _negated(equal)

    def truth(rows: Rows, at: At) -> Truth:
        column = rows.numbers(name, at)
        values = column.values
        # To the engine NaN is above every number, so that "above" is "not at most".
        if kind is exp.EQ:
            true = values == value
        elif kind is exp.NEQ:
            true = values != value
        elif kind is exp.LT:
            true = values < value
        elif kind is exp.LTE:
            true = values <= value
        elif kind is exp.GT:
            true = ~(values <= value)
        else:
            true = ~(values < value)
        return _known(true, column.present)

    return truth


def _texts_among(name: str, wanted: frozenset[str]) -> Condition:
    def truth(rows: Rows, at: At) -> Truth:
        column = rows.texts(name, at)
        found = column.among(wanted)[column.codes]
        return Truth(found, ~found & (column.codes >= 0))

    return truth


def _within(node: exp.In, types: Mapping[str, str]) -> Condition | None:
    name = _column(node.this, types)
    if name is None or node.args.get("query") is not None or not node.expressions:
        return None
    found = [_constant(one.unnest(), types[name]) for one in node.expressions]
    values = [value for value in found if value is not None]
    if len(values) != len(found):
        return None
    texts = frozenset(value for value in values if isinstance(value, str))
    if texts:
        return _texts_among(name, texts)

    def truth(rows: Rows, at: At) -> Truth:
        column = rows.numbers(name, at)
        return _known(np.isin(column.values, values), column.present)

    return truth
