"""Metrics as SQL: measures of unit-days become numerators, denominators and value lists per unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from exp_pipeline.model.metrics import (
    Measure,
    Metric,
    denominator_column,
    mature_column,
    numerator_column,
    pre_column,
    values_column,
)
from exp_pipeline.transform.measures import added_up


def _in_window(metric: Metric, column: exp.Expr) -> exp.Expr:
    if metric.window_days is None:
        return column
    end = exp.Add(
        this=exp.column("assigned_date", table="u"), expression=exp.Literal.number(metric.window_days)
    )
    return exp.Case().when(exp.LT(this=exp.column("event_date", table="d"), expression=end), column)


def _windowed(metric: Metric, measure: Measure, name: str) -> exp.Expr:
    """A measure added up over the metric's window, counted from the day of assignment (included)."""
    total = added_up(measure, "d").unalias()

    def narrow(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.name == measure.name and node.table == "d":
            return _in_window(metric, node)
        return node

    value = total.transform(narrow)
    if measure.aggregate == "distinct":
        value = exp.func("len", value, dialect="duckdb")
    return value.as_(name, quoted=True)


def metric_sums(metrics: Sequence[Metric], measures: Mapping[str, Measure]) -> list[exp.Expr]:
    """The columns of a grouped query over unit-days (`d`) of units (`u`): each metric's parts per unit."""
    columns = []
    for metric in metrics:
        first = values_column(metric.name) if metric.type == "quantile" else numerator_column(metric.name)
        columns.append(_windowed(metric, measures[metric.numerator], first))
        if metric.denominator is not None:
            columns.append(_windowed(metric, measures[metric.denominator], denominator_column(metric.name)))
    return columns


def metric_columns(metrics: Sequence[Metric]) -> list[exp.Expr]:
    """The columns of the dataset (totals `t`, units `u`); a unit with no activity has done nothing: 0.

    A metric with a window is mature where its last day lies before `$known_until` (a day, excluded).
    """
    columns: list[exp.Expr] = []
    zero = exp.cast(exp.Literal.number(0), "double")
    for metric in metrics:
        if metric.type == "quantile":
            name = values_column(metric.name)
            columns.append(exp.column(name, table="t", quoted=True).as_(name, quoted=True))
        else:
            names = [numerator_column(metric.name)]
            if metric.denominator is not None:
                names.append(denominator_column(metric.name))
            for name in names:
                value = exp.cast(exp.column(name, table="t", quoted=True), "double")
                columns.append(exp.func("coalesce", value, zero.copy()).as_(name, quoted=True))
        if metric.window_days is None:
            mature: exp.Expr = exp.true()
        else:
            end = exp.Add(
                this=exp.column("assigned_date", table="u"), expression=exp.Literal.number(metric.window_days)
            )
            mature = exp.LTE(
                this=end, expression=exp.cast(exp.Parameter(this=exp.var("known_until")), "date")
            )
        columns.append(mature.as_(mature_column(metric.name), quoted=True))
    return columns


def covariate_sums(measures: Sequence[Measure]) -> list[exp.Expr]:
    """The columns of a grouped query over learner-days (`p`) before assignment: each covariate per unit."""
    return [
        added_up(measure, "p").unalias().as_(pre_column(measure.name), quoted=True) for measure in measures
    ]


def covariate_columns(measures: Sequence[Measure]) -> list[exp.Expr]:
    """The covariates as columns of the dataset; null where a unit was not seen before its assignment."""
    return [
        exp.cast(exp.column(pre_column(measure.name), table="b", quoted=True), "double").as_(
            pre_column(measure.name), quoted=True
        )
        for measure in measures
    ]
