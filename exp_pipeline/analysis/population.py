"""Which assigned units a brief analyses: its eligibility and exclusions, on the context of assignment."""

from __future__ import annotations

import polars as pl

from exp_pipeline.analysis.wording import listed
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.populations import Condition, Exclusion, UnitsLeftOut

# Columns of the context that was frozen at assignment begin so in a dataset.
CONTEXT = "segment__"


def context_columns(brief: Brief) -> tuple[str, ...]:
    """Which columns of the frozen context do eligibility and exclusions read? Each once, in order."""
    rules: tuple[Condition, ...] = (*brief.eligibility, *brief.exclusions)
    return tuple(dict.fromkeys(rule.column for rule in rules))


def split_population(units: pl.DataFrame, brief: Brief) -> tuple[pl.DataFrame, tuple[UnitsLeftOut, ...]]:
    """Who is analysed, and who is left out for which reason?

    units: one row a unit, with `arm` and a column "segment__<name>" for each that the brief's eligibility and
    exclusions name. A unit counts under the first reason that applies to it: conditions in the brief's order
    (a value that is not known does not fulfil one), then exclusions. Only what was known at assignment is
    looked at, so arms stay comparable. Reasons that apply to nobody are not listed. Raises ValueError when
    there are units and a column is missing.
    """
    wanted = context_columns(brief)
    if not wanted:
        return units, ()
    absent = [name for name in wanted if f"{CONTEXT}{name}" not in units.columns]
    if absent:
        if units.height:
            known = listed(name.removeprefix(CONTEXT) for name in units.columns if name.startswith(CONTEXT))
            raise ValueError(
                f"eligibility and exclusions read {listed(absent)}, which the units do not carry; "
                f"they carry: {known or 'no context'}"
            )
        return units, ()
    rules = [rule for one in brief.eligibility for rule in _condition_rules(one)]
    rules += [_exclusion_rule(one) for one in brief.exclusions]
    first = pl.coalesce(
        *(pl.when(applies).then(pl.lit(place)) for place, (_, applies) in enumerate(rules)),
        pl.lit(len(rules)),
    )
    placed = units.with_columns(first.alias("_place"))
    counts: dict[int, dict[str, int]] = {}
    left = placed.filter(pl.col("_place") < len(rules))
    for place, arm, number in left.group_by("_place", "arm").len().iter_rows():
        counts.setdefault(int(place), {})[str(arm)] = int(number)
    found = tuple(
        UnitsLeftOut(reason=reason, units={arm: counts[place].get(arm, 0) for arm in brief.shares()})
        for place, (reason, _) in enumerate(rules)
        if place in counts
    )
    return placed.filter(pl.col("_place") == len(rules)).drop("_place"), found


def _condition_rules(one: Condition) -> list[tuple[str, pl.Expr]]:
    value = pl.col(f"{CONTEXT}{one.column}").cast(pl.String)
    why = f": {one.reason}" if one.reason else ""
    return [
        (f"{one.column} not known{why}", value.is_null()),
        (f"{one.column} other than {_either(one.values)}{why}", ~value.is_in(list(one.values))),
    ]


def _exclusion_rule(one: Exclusion) -> tuple[str, pl.Expr]:
    value = pl.col(f"{CONTEXT}{one.column}").cast(pl.String)
    return f"{one.column} {_either(one.values)}: {one.reason}", value.is_in(list(one.values))


def _either(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def left_out_sentence(left_out: tuple[UnitsLeftOut, ...]) -> str | None:
    """Of whom does a readout not speak, because its brief leaves them out? None where of nobody."""
    if not left_out:
        return None
    total = sum(sum(one.units.values()) for one in left_out)
    reasons = listed(f"{sum(one.units.values()):,} ({one.reason})" for one in left_out)
    return f"{total:,} assigned units are not analysed, as the brief says: {reasons}."
