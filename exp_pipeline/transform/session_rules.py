"""Where the sessions of some sources follow a rule of their own."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

_OBJECTIVE, _CHANGED = "learning_objective_id", "objective_changed"


def without_objectives(query: exp.Expr, sources: Collection[str]) -> exp.Expr:
    """A query over table `events` (alias e) in which events of these sources have no learning objective.

    For them `learning_objective_id` is empty and `objective_changed` false wherever the query takes them from
    the table, so that a new objective cuts no session of theirs. The query itself where `sources` is empty.
    """
    if not sources:
        return query
    theirs = exp.In(
        this=exp.column("source", table="e"),
        expressions=[exp.Literal.string(name) for name in sorted(sources)],
    )
    changed = query.copy()
    for column in list(changed.find_all(exp.Column)):
        if column.table != "e" or column.name not in (_OBJECTIVE, _CHANGED):
            continue
        own = exp.not_(exp.func("coalesce", theirs.copy(), exp.false()))
        kept = column.copy()
        value = exp.and_(kept, own) if column.name == _CHANGED else exp.Case().when(own, kept)
        column.replace(value.as_(column.name) if isinstance(column.parent, exp.Select) else value)
    return changed
