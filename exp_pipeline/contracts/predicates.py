"""The contracts compiled to SQL: which rows are refused at columnar speed, and for which reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlglot
from sqlglot import exp

from exp_pipeline.contracts.events import event_majors, event_model, event_names

UNKNOWN_EVENT = "unknown_event"
UNSUPPORTED_VERSION = "unsupported_version"


@dataclass(frozen=True, slots=True)
class RejectionRule:
    """One way to break a contract: a stable reason, and DuckDB SQL, true for a bad row and never NULL."""

    reason: str
    predicate: str


@dataclass(frozen=True, slots=True)
class _Broken:
    """A reason, and an expression that is true for a bad row; NULL counts as false."""

    reason: str
    bad: exp.Expr


_RANK = {"missing": 0, UNSUPPORTED_VERSION: 1, "not_allowed": 2, "empty": 3, "out_of_range": 4, "rule": 5}


def _literal(value: Any) -> exp.Expr:
    if isinstance(value, datetime):
        return exp.cast(exp.Literal.string(value.isoformat(sep=" ")), "timestamp")
    literal: exp.Expr = exp.convert(value)
    return literal


def _column_rules(name: str, column: Any) -> Iterable[_Broken]:
    """What a pandera column refuses. Raises TypeError for a check that has no SQL here."""
    sql = exp.column(name)
    if not column.nullable:
        yield _Broken(f"missing:{name}", sql.is_(exp.null()))
    out: list[exp.Expr] = []
    for check in column.checks:
        (value,) = check.statistics.values()
        match check.name:
            case "greater_than_or_equal_to":
                out.append(exp.LT(this=sql, expression=_literal(value)))
            case "greater_than":
                out.append(exp.LTE(this=sql, expression=_literal(value)))
            case "less_than_or_equal_to":
                out.append(exp.GT(this=sql, expression=_literal(value)))
            case "less_than":
                out.append(exp.GTE(this=sql, expression=_literal(value)))
            case "isin":
                others = (exp.NEQ(this=sql, expression=_literal(one)) for one in value)
                yield _Broken(f"not_allowed:{name}", exp.and_(*others))
            case "not_equal_to" if value == "":
                yield _Broken(f"empty:{name}", sql.eq(exp.Literal.string("")))
            case "equal_to" if name == "event_name":
                continue
            case "str_startswith" if name == "schema_version":
                yield _Broken(UNSUPPORTED_VERSION, exp.not_(sql.like(f"{value}%")))
            case _:
                raise TypeError(f"column {name}: check {check.name} ({value!r}) cannot be compiled to SQL")
    if out:
        yield _Broken(f"out_of_range:{name}", exp.or_(*out))


@cache
def _compiled(event_name: str, major: int) -> tuple[_Broken, ...]:
    """Everything the model of an event refuses, in the order in which reasons are given."""
    schema = event_model(event_name, major).to_schema()
    rules = [rule for name, column in schema.columns.items() for rule in _column_rules(name, column)]
    for check in schema.checks:
        good = sqlglot.parse_one(check.statistics["sql"], read="duckdb")
        rules.append(_Broken(check.name, exp.not_(exp.paren(good))))
    return tuple(sorted(rules, key=lambda rule: _RANK[rule.reason.split(":")[0]]))


def rejection_rules(event_name: str, major: int = 1) -> tuple[RejectionRule, ...]:
    """Why may a row of this event be refused, first reason first?

    The predicates are DuckDB SQL over the typed canonical columns (`fields.sql_types(derived=True)`).
    Raises ValueError for an event or version outside the taxonomy.
    """
    return tuple(
        RejectionRule(rule.reason, exp.func("COALESCE", rule.bad, exp.false()).sql(dialect="duckdb"))
        for rule in _compiled(event_name, major)
    )


def _first_reason(rules: Sequence[_Broken], otherwise: exp.Expr) -> exp.Expr:
    """The reason of the first rule that is broken.

    Good rows are the many: one OR over all rules asks them everything at once, and only a row that fails it
    walks through the reasons one by one.
    """
    if not rules:
        return otherwise
    reasons = exp.Case()
    for rule in rules:
        reasons = reasons.when(rule.bad.copy(), exp.Literal.string(rule.reason), copy=False)
    if len(rules) == 1:
        return reasons.else_(otherwise, copy=False)
    any_bad = exp.or_(*(rule.bad.copy() for rule in rules), copy=False)
    return exp.Case().when(any_bad, reasons, copy=False).else_(otherwise, copy=False)


@cache
def _expression() -> exp.Expr:
    keys = [(name, major) for name in event_names() for major in event_majors(name)]
    compiled = {key: _compiled(*key) for key in keys}
    everywhere = set.intersection(*({(r.reason, r.bad) for r in rules} for rules in compiled.values()))
    common = [rule for rule in compiled[keys[0]] if (rule.reason, rule.bad) in everywhere]

    def own(key: tuple[str, int]) -> exp.Expr:
        kept = [
            r
            for r in compiled[key]
            if (r.reason, r.bad) not in everywhere and r.reason != UNSUPPORTED_VERSION
        ]
        return _first_reason(kept, exp.null())

    by_event = exp.Case(this=exp.column("event_name"))
    for name in event_names():
        majors = event_majors(name)
        if len(majors) == 1 and any(rule.reason == UNSUPPORTED_VERSION for rule in common):
            then = own((name, majors[0]))
        else:
            versions = exp.Case()
            for major in majors:
                is_major = exp.column("schema_version").like(f"{major}.%")
                versions = versions.when(is_major, own((name, major)), copy=False)
            then = versions.else_(exp.Literal.string(UNSUPPORTED_VERSION), copy=False)
        by_event = by_event.when(exp.Literal.string(name), then, copy=False)
    by_event = by_event.else_(exp.Literal.string(UNKNOWN_EVENT), copy=False)
    return _first_reason(common, by_event)


def rejection_expression() -> exp.Expr:
    """For which reason is a row refused? One expression for all events: the first reason, or NULL.

    A name outside the taxonomy gives `unknown_event`, a major version that nobody declared
    `unsupported_version`. What all events share is asked once, in front. The caller may change the
    expression; it is a copy.
    """
    return _expression().copy()


@cache
def rejection_sql() -> str:
    """The text of `rejection_expression()` in DuckDB's dialect."""
    return _expression().sql(dialect="duckdb")
