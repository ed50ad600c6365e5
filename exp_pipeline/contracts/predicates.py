"""The contracts compiled to SQL: which rows are refused at columnar speed, and for which reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from threading import RLock
from typing import Any

import sqlglot
from sqlglot import exp

from exp_pipeline.contracts.events import event_majors, event_model, event_names, event_spec, schema_of

UNKNOWN_EVENT = "unknown_event"
MALFORMED_VERSION = "malformed_version"
UNSUPPORTED_VERSION = "unsupported_version"
PAST_SUNSET = "past_sunset"


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


_Key = tuple[str, int]

# What a row is comes before what is wrong with it: no version is judged by the ranges of another.
_FIRST = ("missing:event_name", "missing:schema_version", MALFORMED_VERSION, UNSUPPORTED_VERSION, PAST_SUNSET)
_RANK = {"missing": 0, "not_allowed": 1, "empty": 2, "out_of_range": 3, "rule": 4}

_OPPOSITE: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.LT: exp.GTE,
    exp.GTE: exp.LT,
    exp.GT: exp.LTE,
    exp.LTE: exp.GT,
}


def _place(rule: _Broken) -> tuple[int, int]:
    if rule.reason in _FIRST:
        return (_FIRST.index(rule.reason), 0)
    return (len(_FIRST), _RANK[rule.reason.split(":")[0]])


def _literal(value: Any) -> exp.Expr:
    if isinstance(value, datetime):
        return exp.cast(exp.Literal.string(value.isoformat(sep=" ")), "timestamp")
    literal: exp.Expr = exp.convert(value)
    return literal


def _not(good: exp.Expr) -> exp.Expr:
    """The opposite of a rule, NOT pushed down to its comparisons.

    DuckDB narrows its rows by one comparison after the other in an AND or OR, but works out all of what
    stands under a NOT. NULL stays NULL either way.
    """
    match good:
        case exp.Paren():
            return _not(good.this)
        case exp.Not():
            return exp.paren(good.this.copy())
        case exp.Or():
            return exp.and_(_not(good.left), _not(good.right))
        case exp.And():
            return exp.paren(exp.or_(_not(good.left), _not(good.right)))
        case exp.Binary() if type(good) in _OPPOSITE:
            return _OPPOSITE[type(good)](this=good.left.copy(), expression=good.right.copy())
        case _:
            return exp.not_(exp.paren(good.copy()))


def _matches(column: exp.Expr, pattern: str) -> exp.Expr:
    # `$` is the very end for polars and DuckDB; for Spark it may stand before a last line break.
    closed = pattern[:-1] + r"\z" if pattern.endswith("$") else pattern
    return exp.RegexpLike(this=column, expression=exp.Literal.string(closed))


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
            case "str_matches" if name == "schema_version":
                yield _Broken(MALFORMED_VERSION, exp.not_(_matches(sql, str(value))))
            case "str_startswith" if name == "schema_version":
                yield _Broken(UNSUPPORTED_VERSION, exp.not_(sql.like(f"{value}%")))
            case _:
                raise TypeError(f"column {name}: check {check.name} ({value!r}) cannot be compiled to SQL")
    if out:
        yield _Broken(f"out_of_range:{name}", exp.or_(*out))


@cache
def _refused(event_name: str, major: int) -> tuple[_Broken, ...]:
    """Everything the model of an event refuses."""
    schema = schema_of(event_model(event_name, major))
    rules = [rule for name, column in schema.columns.items() for rule in _column_rules(name, column)]
    for check in schema.checks:
        good = sqlglot.parse_one(check.statistics["sql"], read="duckdb")
        rules.append(_Broken(check.name, _not(good)))
    return tuple(rules)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Every event's rules in the order in which reasons are given: first what all or nearly all share.

    `common` are the rules of all events; `but` names those events (by major version) that a rule leaves out.
    `own` are the rest, by event and major version. The rules of `_FIRST` stand in neither.
    """

    common: tuple[tuple[_Broken, tuple[_Key, ...]], ...]
    own: dict[_Key, tuple[_Broken, ...]]


@cache
def _plan() -> _Plan:
    keys = [(name, major) for name in event_names() for major in event_majors(name)]
    holders: dict[tuple[str, exp.Expr], list[_Key]] = {}
    for key in keys:
        for rule in _refused(*key):
            if rule.reason not in _FIRST:
                holders.setdefault((rule.reason, rule.bad), []).append(key)
    common = {
        _Broken(*rule): tuple(key for key in keys if key not in held)
        for rule, held in holders.items()
        # A later version that changes one column must not cost every other event a test of its own.
        if len(held) > len(keys) // 2
    }
    return _Plan(
        common=tuple(sorted(common.items(), key=lambda item: _place(item[0]))),
        own={
            key: tuple(sorted((r for r in _refused(*key) if not _left_to_others(r, common)), key=_place))
            for key in keys
        },
    )


def _left_to_others(rule: _Broken, common: dict[_Broken, tuple[_Key, ...]]) -> bool:
    return rule in common or rule.reason in _FIRST


def _is(key: _Key) -> exp.Expr:
    name, major = key
    return exp.and_(exp.column("event_name").eq(exp.Literal.string(name)), _of_major(major))


def _of_major(major: int) -> exp.Expr:
    return exp.column("schema_version").like(f"{major}.%")


def _unless(rule: _Broken, but: Sequence[_Key]) -> exp.Expr:
    if not but:
        return rule.bad.copy()
    return exp.and_(exp.paren(rule.bad.copy()), exp.not_(exp.paren(exp.or_(*(_is(key) for key in but)))))


def rejection_rules(event_name: str, major: int = 1) -> tuple[RejectionRule, ...]:
    """Why may a row of this event be refused, first reason first?

    The predicates are DuckDB SQL over the typed canonical columns (`fields.sql_types(derived=True)`).
    Raises ValueError for an event or version outside the taxonomy.
    """
    event_model(event_name, major)
    with _READING:
        plan, key = _plan(), (event_name, major)
        first = sorted((r for r in _refused(*key) if r.reason in _FIRST), key=_place)
    shared = [rule for rule, but in plan.common if key not in but]
    return tuple(
        RejectionRule(rule.reason, exp.func("COALESCE", rule.bad.copy(), exp.false()).sql(dialect="duckdb"))
        for rule in (*first, *shared, *plan.own[key])
    )


def _reasons(rules: Iterable[tuple[exp.Expr, str]]) -> exp.Case:
    case = exp.Case()
    for bad, reason in rules:
        case = case.when(bad, exp.Literal.string(reason), copy=False)
    return case


def _first_reason(rules: Sequence[_Broken]) -> exp.Expr:
    """The reason of the first rule that is broken, or NULL.

    Good rows are the many: one OR over all rules asks them everything at once, and only a row that fails it
    walks through the reasons one by one.
    """
    if not rules:
        return exp.null()
    reasons = _reasons((rule.bad.copy(), rule.reason) for rule in rules)
    if len(rules) == 1:
        return reasons
    return exp.Case().when(exp.or_(*(rule.bad.copy() for rule in rules), copy=False), reasons, copy=False)


def _sunset_rules(key: _Key) -> list[_Broken]:
    return [rule for rule in _refused(*key) if rule.reason == PAST_SUNSET]


def _expression() -> exp.Expr:
    plan = _plan()
    first = {rule.reason: rule for rule in _refused(*next(iter(plan.own))) if rule.reason in _FIRST}
    name, version = exp.column("event_name"), exp.column("schema_version")
    majors: dict[int, list[str]] = {}
    for event, major in plan.own:
        majors.setdefault(major, []).append(event)
    known_name = exp.In(this=name.copy(), expressions=[exp.Literal.string(one) for one in event_names()])
    supported = exp.or_(
        *(
            exp.and_(
                _of_major(major),
                exp.In(this=name.copy(), expressions=[exp.Literal.string(one) for one in events]),
            )
            for major, events in majors.items()
        )
    )
    # Versions that every event has are known by their text; others are looked at more closely.
    everyday = [
        exp.Literal.string(f"{major}.{minor}")
        for major, events in majors.items()
        if len(events) == len(event_names())
        for minor in range(1 + max(event_spec(event, major).minor for event in events))
    ]
    odd_version = exp.and_(
        exp.not_(exp.In(this=version.copy(), expressions=everyday)) if everyday else exp.true(),
        exp.paren(
            exp.or_(first[MALFORMED_VERSION].bad.copy(), exp.not_(exp.paren(supported.copy())), copy=False)
        ),
    )
    anything = exp.or_(
        first["missing:event_name"].bad.copy(),
        first["missing:schema_version"].bad.copy(),
        odd_version,
        *(_unless(rule, but) for rule, but in plan.common),
        copy=False,
    )
    ladder = _reasons(
        [
            *((first[reason].bad.copy(), reason) for reason in _FIRST if reason.startswith("missing")),
            (first[MALFORMED_VERSION].bad.copy(), MALFORMED_VERSION),
            (exp.not_(known_name), UNKNOWN_EVENT),
            (exp.not_(exp.paren(supported)), UNSUPPORTED_VERSION),
            *(
                (exp.and_(_is(key), rule.bad.copy()), rule.reason)
                for key in plan.own
                for rule in _sunset_rules(key)
            ),
            *((_unless(rule, but), rule.reason) for rule, but in plan.common),
        ]
    )
    by_event = exp.Case(this=name)
    for event in event_names():
        own = {
            major: _first_reason([*_sunset_rules((event, major)), *plan.own[event, major]])
            for major in event_majors(event)
        }
        then = next(iter(own.values()))
        if len(own) > 1:
            then = exp.Case()
            for major, reason in own.items():
                then = then.when(_of_major(major), reason, copy=False)
        by_event = by_event.when(exp.Literal.string(event), then, copy=False)
    by_event = by_event.else_(exp.Literal.string(UNKNOWN_EVENT), copy=False)
    return exp.Case().when(anything, ladder, copy=False).else_(by_event, copy=False)


_READING = RLock()


@cache
def _compiled() -> exp.Expr:
    return _expression()


def rejection_expression() -> exp.Expr:
    """For which reason is a row refused? One expression for all events: the first reason, or NULL.

    A version that is not major.minor gives `malformed_version`, a name outside the taxonomy `unknown_event`,
    a major version that nobody declared `unsupported_version`, a row received after the last day of its
    version `past_sunset`; a newer minor version than the known ones is welcome. What all events share is
    asked once, in front. The caller may change the expression; it is a copy. Safe to ask for from any thread.
    """
    with _READING:
        return _compiled().copy()


@cache
def _text() -> str:
    return _compiled().sql(dialect="duckdb")


def rejection_sql() -> str:
    """The text of `rejection_expression()` in DuckDB's dialect. Safe to ask for from any thread."""
    with _READING:
        return _text()


def read_expressions(table: str | None = None) -> dict[str, exp.Expr]:
    """How are columns read whose meaning differs between versions, so that each has one meaning?

    For each such column an expression over the canonical columns as they were sent (of `table`, if named):
    the column itself, but for the versions that declare how theirs is read.
    """
    cases: dict[str, exp.Case] = {}
    for name in event_names():
        for major in event_majors(name):
            for column, sql in event_spec(name, major).reads.items():
                read = exp.cast(sqlglot.parse_one(sql, read="duckdb"), "double")
                cases[column] = cases.get(column, exp.Case()).when(_is((name, major)), read, copy=False)
    found: dict[str, exp.Expr] = {}
    for column, case in cases.items():
        found[column] = case.else_(exp.column(column), copy=False)
        for named in found[column].find_all(exp.Column):
            named.set("this", exp.to_identifier(named.name, quoted=True))
            if table is not None:
                named.set("table", exp.to_identifier(table))
    return found
