"""What is known of a unit from before its assignment, as SQL: covariates, and scores of gains.

Sums stand in a grouped query over learner-days `p` of units `u`; `f` is what counts as after the assignment
on the assignment day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlglot import exp

from exp_pipeline.model.metrics import Measure, Metric, pre_column
from exp_pipeline.transform.measures import EXACT, added_up
from exp_pipeline.transform.metrics import HOUR, hidden, narrowed, number, own

SEEN = "seen_before"


def covariate_sums(measures: Sequence[Measure]) -> list[exp.Expr]:
    """The columns of a grouped query over learner-days (`p`): whether there are any, and each covariate."""
    date = exp.column("event_date", table="p")
    before = exp.and_(
        exp.LT(this=date, expression=exp.column("assigned_date", table="u")),
        exp.GTE(this=date.copy(), expression=exp.column("pre_start", table="u")),
    )
    columns: list[exp.Expr] = [exp.Max(this=before.copy()).as_(SEEN)]
    for measure in measures:
        total = narrowed(added_up(measure, "p").unalias(), measure, "p", before)
        columns.append(total.as_(pre_column(measure.name), quoted=True))
    return columns


def pre_score_sums(metrics: Iterable[Metric], measures: Mapping[str, Measure]) -> list[exp.Expr]:
    """Scores from before assignment: over learner-days (`p`), beside what counts after it that day (`f`).

    A score out of possible points includes what the unit did on its assignment day before it was assigned:
    the learner's whole day less what counts as after. Points alone are taken from the days before only.
    """
    columns: list[exp.Expr] = []
    for metric in metrics:
        if metric.pre is None or metric.pre_taken == "after":
            continue
        for place, name in enumerate(metric.pre.measures()):
            measure = measures[name]
            value = _pre_points(metric, measure, whole=metric.pre.out_of is None)
            columns.append(value.as_(hidden(metric, f"pre{place}"), quoted=True))
    return columns


def _pre_points(metric: Metric, measure: Measure, *, whole: bool) -> exp.Expr:
    date, assigned = exp.column("event_date", table="p"), exp.column("assigned_date", table="u")
    recent = exp.GTE(
        this=date, expression=exp.Sub(this=assigned, expression=exp.Literal.number(metric.pre_days))
    )
    earlier = exp.and_(exp.LT(this=date.copy(), expression=assigned.copy()), recent)
    day = own(measure.name, "p")
    if whole:
        return narrowed(added_up(measure, "p").unalias(), measure, "p", earlier)
    exact = exp.cast(day, EXACT)
    after = exp.func(
        "coalesce", exp.cast(own(measure.name, "f"), EXACT), exp.cast(exp.Literal.number(0), EXACT)
    )
    same = date.copy().eq(assigned.copy())
    counted = exp.Case().when(earlier, exact).when(same, exp.Sub(this=exact.copy(), expression=after))
    return exp.cast(exp.Sum(this=counted), "double")


def covariate_columns(measures: Sequence[Measure]) -> list[exp.Expr]:
    """The covariates as numbers; null where a unit was not seen before its assignment.

    distinct: how many different values. values: their mean. first, last: days from then to the assignment.
    """
    columns = []
    for measure in measures:
        column = own(pre_column(measure.name), "b")
        value: exp.Expr = column
        if measure.aggregate == "distinct":
            value = exp.ArraySize(this=column)
        elif measure.aggregate == "values":
            value = exp.Div(this=exp.ArraySum(this=column), expression=exp.ArraySize(this=column.copy()))
        elif measure.aggregate in ("first", "last"):
            passed = exp.func(
                "date_diff",
                exp.Literal.string("microsecond"),
                column,
                exp.column("assigned_at", table="u"),
                dialect="duckdb",
            )
            value = exp.Div(this=exp.cast(passed, "double"), expression=number(24 * HOUR))
        seen = exp.Case().when(exp.column(SEEN, table="b"), exp.cast(value, "double"))
        columns.append(seen.as_(pre_column(measure.name), quoted=True))
    return columns
