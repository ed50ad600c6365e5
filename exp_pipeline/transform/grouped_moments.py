"""Moments of several metrics by group, in SQL: the same sums that `analysis.grouped` makes from columns.

Two readings of the rows: each group's means, then sums of products of what lies beside them, so that values
far from zero lose no digits. The rest of the mean (what rounding left of it) is taken out by the reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

UNKNOWN = "unknown"
_ROWS, _CENTRES = "counted_rows", "centres"


@dataclass(frozen=True, slots=True)
class Summed:
    """Which columns of a table of units make one metric's moments?

    variables: columns that must all hold a number for a unit to count. filled: covariates, 0 where missing,
    each followed in the moments by its indicator "<name>_missing". counted: columns of true and false that
    must hold.
    """

    name: str
    variables: tuple[str, ...]
    filled: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The variables of the moments, in order."""
        marks = (part for name in self.filled for part in (name, f"{name}_missing"))
        return (*self.variables, *marks)


def moments_query(table: str, arm: str, keys: Sequence[str], metrics: Sequence[Summed]) -> exp.Expr:
    """Which query sums every metric by arm and keys?

    One row a group that has rows, in the order of arm and keys (as text; a missing key is "unknown", rows
    without an arm are left out). Columns: arm, key_0, ..., and for metric number m with variables a, b:
    m<m>_n, m<m>_centre_<a>, m<m>_rest_<a> (sum beside the centre), m<m>_product_<a>_<b> with b <= a,
    m<m>_cube (sum of the first variable's cubes beside the centre).
    Raises ValueError for a table without metrics.
    """
    if not metrics:
        raise ValueError("metrics must hold at least one metric, got none")
    names = ["arm", *(f"key_{place}" for place in range(len(keys)))]
    rows = exp.select(
        exp.alias_(_text(arm), "arm"),
        *(
            exp.alias_(exp.func("coalesce", _text(key), exp.Literal.string(UNKNOWN)), name)
            for key, name in zip(keys, names[1:], strict=True)
        ),
        *(
            exp.alias_(value, _value(number, place))
            for number, metric in enumerate(metrics)
            for place, value in enumerate(_values(metric))
        ),
    ).from_(exp.Table(this=exp.to_identifier(table, quoted=True)))
    rows = rows.where(exp.column(arm, quoted=True).is_(exp.null()).not_())
    spans = [(number, len(metric.names())) for number, metric in enumerate(metrics)]
    grouped = [exp.column(name) for name in names]
    centres = exp.select(
        *grouped,
        *(
            exp.alias_(exp.func("avg", exp.column(_value(number, place))), _centre(number, place))
            for number, count in spans
            for place in range(count)
        ),
    )
    centres = centres.from_(_ROWS).group_by(*[column.copy() for column in grouped])
    sums: list[exp.Expr] = []
    for number, count in spans:
        sums.append(exp.alias_(exp.func("count", exp.column(_value(number, 0), table="r")), f"m{number}_n"))
        for a in range(count):
            centre = exp.func("min", exp.column(_centre(number, a), table="c"))
            sums.append(exp.alias_(centre, f"m{number}_centre_{a}"))
            sums.append(exp.alias_(exp.func("sum", _beside(number, a)), f"m{number}_rest_{a}"))
            sums += [
                exp.alias_(
                    exp.func("sum", exp.Mul(this=_beside(number, a), expression=_beside(number, b))),
                    f"m{number}_product_{a}_{b}",
                )
                for b in range(a + 1)
            ]
        square = exp.Mul(this=_beside(number, 0), expression=_beside(number, 0))
        cube = exp.Mul(this=square, expression=_beside(number, 0))
        sums.append(exp.alias_(exp.func("sum", cube), f"m{number}_cube"))
    joined = exp.and_(
        *(exp.EQ(this=exp.column(name, table="r"), expression=exp.column(name, table="c")) for name in names)
    )
    query = (
        exp.select(*(exp.column(name, table="r") for name in names), *sums)
        .from_(exp.to_table(_ROWS).as_("r"))
        .join(exp.to_table(_CENTRES).as_("c"), on=joined)
        .group_by(*(exp.column(name, table="r") for name in names))
        .order_by(*(exp.column(name, table="r") for name in names))
    )
    return query.with_(_ROWS, as_=rows).with_(_CENTRES, as_=centres)


def _text(column: str) -> exp.Expr:
    return exp.cast(exp.column(column, quoted=True), "varchar")


def _value(number: int, place: int) -> str:
    return f"v{number}_{place}"


def _centre(number: int, place: int) -> str:
    return f"c{number}_{place}"


def _beside(number: int, place: int) -> exp.Expr:
    value, centre = (
        exp.column(_value(number, place), table="r"),
        exp.column(_centre(number, place), table="c"),
    )
    return exp.Paren(this=exp.Sub(this=value, expression=centre))


def _values(metric: Summed) -> list[exp.Expr]:
    """The variables of one metric, null in rows that do not count for it."""
    known: list[exp.Expr] = [
        exp.column(name, quoted=True).is_(exp.null()).not_() for name in metric.variables
    ]
    known += [
        exp.func("coalesce", exp.cast(exp.column(name, quoted=True), "boolean"), exp.false())
        for name in metric.counted
    ]
    counts = exp.and_(*known)

    def number(column: exp.Expr) -> exp.Expr:
        return exp.Case().when(counts.copy(), exp.cast(column, "double"))

    found = [number(exp.column(name, quoted=True)) for name in metric.variables]
    for name in metric.filled:
        column = exp.column(name, quoted=True)
        found.append(number(exp.func("coalesce", column, exp.Literal.number(0))))
        found.append(number(exp.Case().when(column.copy().is_(exp.null()), exp.Literal.number(1)).else_("0")))
    return found
