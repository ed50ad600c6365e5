"""Metrics as SQL: measures of unit-days become every metric's parts per unit, in one pass over unit-days.

Two layers of columns. Sums stand in a grouped query over unit-days `d` of units `u` (and, for what lies
before assignment, over learner-days `p`); columns stand in the query of one row a unit over their totals
`t`, the totals before assignment `b`, and `u`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlglot
from sqlglot import exp

from exp_pipeline.model.metrics import (
    Measure,
    Metric,
    Part,
    Score,
    denominator_column,
    included_column,
    mature_column,
    numerator_column,
    score_column,
    step_column,
    values_column,
)
from exp_pipeline.transform.measures import added_up

HOUR = 3_600_000_000
_UNIT = {"hours": HOUR, "days": 24 * HOUR}


def own(column: str, table: str) -> exp.Column:
    """A column of a table, its name kept as it is written."""
    return exp.column(column, table=table, quoted=True)


def number(value: float) -> exp.Expr:
    """A number as a double, written so that every engine reads the same one."""
    return exp.cast(exp.Literal.number(repr(float(value))), "double")


def _day(offset: int) -> exp.Expr:
    """So many days after the unit's assignment day."""
    return exp.Add(this=exp.column("assigned_date", table="u"), expression=exp.Literal.number(offset))


def hidden(metric: Metric, part: str) -> str:
    """A column of the totals that the dataset does not show."""
    return f"{metric.name}___{part}"


def narrowed(total: exp.Expr, measure: Measure, table: str, condition: exp.Expr) -> exp.Expr:
    """A measure's total over those rows of a group only for which a condition holds."""

    def narrow(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.name == measure.name and node.table == table:
            return exp.Case().when(condition.copy(), node)
        return node

    return total.transform(narrow)


def _windowed(measure: Measure, first: int, end: int | None, name: str) -> exp.Expr:
    """A measure added up over the days from `first` to `end` (excluded) since assignment."""
    date = exp.column("event_date", table="d")
    bounds: list[exp.Expr] = []
    if first > 0:
        bounds.append(exp.GTE(this=date, expression=_day(first)))
    if end is not None:
        bounds.append(exp.LT(this=date, expression=_day(end)))

    value = added_up(measure, "d").unalias()
    if bounds:
        value = narrowed(value, measure, "d", exp.and_(*bounds))
    if measure.aggregate == "distinct":
        value = exp.ArraySize(this=value)
    return value.as_(name, quoted=True)


def _gathered(measure: Measure, end: int, name: str) -> exp.Expr:
    """The daily times of a measure in the window, as a list."""
    column = own(measure.name, "d")
    there = exp.and_(
        column.is_(exp.null()).not_(), exp.LT(this=exp.column("event_date", table="d"), expression=_day(end))
    )
    times = exp.Filter(this=exp.ArrayAgg(this=column.copy()), expression=exp.Where(this=there))
    return times.as_(name, quoted=True)


def metric_sums(metrics: Iterable[Metric], measures: Mapping[str, Measure]) -> list[exp.Expr]:
    """The columns of a grouped query over unit-days (`d`) of units (`u`): each metric's parts per unit."""
    columns: list[exp.Expr] = []
    for metric in metrics:
        end = metric.window_days
        if metric.type == "funnel":
            columns += [
                _gathered(measures[step], end or 0, hidden(metric, f"times{place}"))
                for place, step in enumerate(metric.steps, start=1)
            ]
        elif metric.type == "gain":
            for which, score in _scores(metric):
                if which == "pre" and metric.pre_taken == "before":
                    continue
                columns += [
                    _windowed(measures[name], 0, end, hidden(metric, f"{which}{place}"))
                    for place, name in enumerate(score.measures())
                ]
        elif metric.numerator is not None:
            first = values_column if metric.type == "quantile" else numerator_column
            columns.append(
                _windowed(
                    measures[metric.numerator], metric.from_day or 0, metric.days_needed, first(metric.name)
                )
            )
            if metric.denominator is not None:
                name = denominator_column(metric.name)
                columns.append(_windowed(measures[metric.denominator], 0, end, name))
    return columns


def _scores(metric: Metric) -> list[tuple[str, Score]]:
    found = (("pre", metric.pre), ("post", metric.post))
    return [(which, score) for which, score in found if score is not None]


def _zero_if_none(column: str) -> exp.Expr:
    value = exp.cast(own(column, "t"), "double")
    return exp.func("coalesce", value, number(0.0))


def _numerator(metric: Metric, measures: Mapping[str, Measure]) -> exp.Expr:
    """A unit that did nothing has done 0; the smallest of nothing is not 0, and so not there."""
    name = numerator_column(metric.name)
    measure = measures[metric.numerator or ""]
    return exp.cast(own(name, "t"), "double") if measure.aggregate == "min" else _zero_if_none(name)


def _time_to(metric: Metric) -> exp.Expr:
    """From assignment to the first time, at most the window; the window itself where there was none.

    A session that was running at the assignment began before it, and counts as 0.
    """
    unit = _UNIT[metric.time_unit]
    whole = number((metric.window_days or 0) * 24 * HOUR / unit)
    first = own(numerator_column(metric.name), "t")
    passed = exp.func(
        "date_diff",
        exp.Literal.string("microsecond"),
        exp.column("assigned_at", table="u"),
        first,
        dialect="duckdb",
    )
    taken = exp.Div(this=exp.cast(passed, "double"), expression=number(unit))
    least = exp.func("least", taken, whole.copy(), dialect="duckdb")
    inside = exp.func("greatest", least, number(0.0), dialect="duckdb")
    return exp.Case().when(first.copy().is_(exp.null()), whole).else_(inside)


def _step_time(metric: Metric, place: int) -> exp.Expr:
    """When a unit took step `place`: the first daily time that is not before the step taken last; or null."""
    times: exp.Expr = own(hidden(metric, f"times{place}"), "t")
    if place > 1:
        after = exp.Lambda(
            this=exp.GTE(this=exp.column("x"), expression=_step_time(metric, place - 1)),
            expressions=[exp.to_identifier("x")],
            colon=True,
        )
        times = exp.ArrayFilter(this=times, expression=after)
    return exp.ArrayMin(this=times)


def _score(metric: Metric, which: str, score: Score) -> exp.Expr:
    table = "b" if which == "pre" and metric.pre_taken == "before" else "t"
    points = exp.cast(own(hidden(metric, f"{which}0"), table), "double")
    if score.out_of is None:
        return points
    possible = exp.cast(own(hidden(metric, f"{which}1"), table), "double")
    return exp.Div(this=points, expression=exp.func("nullif", possible, number(0.0)))


def _gain(metric: Metric) -> exp.Expr:
    """Null where a score is missing, or where the first one left no room."""
    scores = {which: exp.paren(_score(metric, which, score)) for which, score in _scores(metric)}
    pre, post, highest = scores["pre"], scores["post"], number(metric.highest)
    won = exp.paren(exp.Sub(this=post, expression=pre.copy()))
    room = exp.paren(exp.Sub(this=highest, expression=pre.copy()))
    share = exp.Div(this=won, expression=room)
    return exp.Case().when(exp.LT(this=pre.copy(), expression=highest.copy()), share)


def unit_value(metric: Metric, measures: Mapping[str, Measure], metrics: Mapping[str, Metric]) -> exp.Expr:
    """A metric's value for one unit, in the metric's own unit; null where the unit has none."""
    if metric.estimand == "proportion":
        return (
            exp.Case()
            .when(exp.GT(this=value_column(metric, measures, metrics), expression=number(0.0)), number(1.0))
            .else_(number(0.0))
        )
    value = value_column(metric, measures, metrics)
    if metric.denominator is not None:
        base = exp.func("nullif", _zero_if_none(denominator_column(metric.name)), number(0.0))
        value = exp.Div(this=value, expression=base)
    return value if metric.per == 1.0 else exp.Mul(this=exp.paren(value), expression=number(metric.per))


def _scaled(part: Part, measures: Mapping[str, Measure], metrics: Mapping[str, Metric]) -> exp.Expr:
    value = unit_value(metrics[part.metric], measures, metrics)
    if part.if_missing is not None:
        value = exp.func("coalesce", value, number(part.if_missing))
    place = exp.Div(
        this=exp.paren(exp.Sub(this=exp.paren(value), expression=number(part.worst))),
        expression=number(part.best - part.worst),
    )
    # Not `least` and `greatest`: DuckDB's pass over nulls, and a unit without a value has no composite.
    inside = (
        exp.Case()
        .when(exp.LT(this=place, expression=number(0.0)), number(0.0))
        .when(exp.GT(this=place.copy(), expression=number(1.0)), number(1.0))
        .else_(place.copy())
    )
    return exp.Mul(this=number(part.weight), expression=exp.paren(inside))


def value_column(metric: Metric, measures: Mapping[str, Measure], metrics: Mapping[str, Metric]) -> exp.Expr:
    """What the dataset's numerator column of a metric holds: its numerator, or its value per unit."""
    if metric.type == "funnel":
        last = _step_time(metric, len(metric.steps))
        return exp.Case().when(last.is_(exp.null()), number(0.0)).else_(number(1.0))
    if metric.type == "first_time_to":
        return _time_to(metric)
    if metric.type == "gain":
        return _gain(metric)
    if metric.type == "composite":
        parts = [_scaled(part, measures, metrics) for part in metric.parts]
        total = parts[0]
        for part in parts[1:]:
            total = exp.Add(this=total, expression=part)
        return exp.paren(total)
    return _numerator(metric, measures)


def metric_columns(
    names: Sequence[str], metrics: Mapping[str, Metric], measures: Mapping[str, Measure]
) -> list[exp.Expr]:
    """The columns of the dataset (totals `t`, before `b`, units `u`) for the named metrics.

    `metrics` holds them and the parts of composites. A unit with no activity has done nothing: 0. A metric
    with a window is mature where its last day lies before `$known_until` (a day, excluded), a composite where
    all its parts are.
    """
    columns: list[exp.Expr] = []
    for name in names:
        metric = metrics[name]
        if metric.estimand == "quantile":
            column = values_column(name)
            values = own(column, "t")
            measure = measures[metric.numerator or ""]
            shown = _with_edges(values, measure) if measure.aggregate == "histogram" else values
            columns.append(shown.as_(column, quoted=True))
        else:
            columns.append(value_column(metric, measures, metrics).as_(numerator_column(name), quoted=True))
        if metric.denominator is not None:
            column = denominator_column(name)
            columns.append(_zero_if_none(column).as_(column, quoted=True))
        if metric.type == "funnel":
            columns += [
                _step_time(metric, place).is_(exp.null()).not_().as_(step_column(name, place), quoted=True)
                for place in range(1, len(metric.steps) + 1)
            ]
        if metric.type == "gain":
            columns += [
                _score(metric, which, score).as_(
                    score_column(name, "pre" if which == "pre" else "post"), quoted=True
                )
                for which, score in _scores(metric)
            ]
        columns.append(_mature(metric, metrics).as_(mature_column(name), quoted=True))
        included = _included(metric, metrics)
        if included is not None:
            columns.append(included.as_(included_column(name), quoted=True))
    return columns


def _edge_of(place: exp.Expr, edges: Sequence[exp.Expr], first: int = 0) -> exp.Expr:
    """The entry of `edges` at a place (from 0), by halving: engines do not agree on how a list is indexed."""
    if len(edges) == 1:
        return edges[0].copy()
    middle = len(edges) // 2
    below = exp.LT(this=place.copy(), expression=exp.Literal.number(first + middle))
    return (
        exp.Case()
        .when(below, _edge_of(place, edges[:middle], first))
        .else_(_edge_of(place, edges[middle:], first + middle))
    )


def _with_edges(bins: exp.Expr, measure: Measure) -> exp.Expr:
    """Bins as (low, high, n): what a reader needs no definition for; null where a bin has no edge."""
    edges = [number(edge) for edge in (measure.bins.boundaries() if measure.bins is not None else ())]
    none: exp.Expr = exp.cast(exp.null(), "double")

    def field(name: str) -> exp.Expr:
        return exp.Dot(this=exp.column("x"), expression=exp.to_identifier(name))

    entries = {
        "low": _edge_of(field("bin"), [none, *edges]),
        "high": _edge_of(field("bin"), [*edges, none]),
        "n": field("n"),
    }
    shown = exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.to_identifier(name), expression=value) for name, value in entries.items()
        ]
    )
    return exp.Transform(
        this=bins, expression=exp.Lambda(this=shown, expressions=[exp.to_identifier("x")], colon=True)
    )


def _mature(metric: Metric, metrics: Mapping[str, Metric]) -> exp.Expr:
    longest = days_needed(metric, metrics)
    if longest is None:
        return exp.true()
    return exp.LTE(
        this=_day(longest), expression=exp.cast(exp.Parameter(this=exp.var("known_until")), "date")
    )


def days_needed(metric: Metric, metrics: Mapping[str, Metric]) -> int | None:
    """Days that must have passed since assignment before a unit counts; a composite's, its parts' longest."""
    found = [metric.days_needed, *(metrics[part.metric].days_needed for part in metric.parts)]
    return max((days for days in found if days is not None), default=None)


def included_columns(metrics: Mapping[str, Metric]) -> list[exp.Expr]:
    """Columns over units `u`: whether each metric lets a unit count; none for metrics that let all."""
    found = ((name, _included(metric, metrics)) for name, metric in metrics.items())
    return [value.as_(included_column(name), quoted=True) for name, value in found if value is not None]


def _included(metric: Metric, metrics: Mapping[str, Metric]) -> exp.Expr | None:
    """Whether a unit counts by what was known at its assignment; None where every unit does."""
    conditions: list[exp.Expr] = []
    for one in (metric, *(metrics[part.metric] for part in metric.parts)):
        if one.include is not None:
            conditions.append(exp.func("coalesce", _of_unit(one.include), exp.false()))
        if one.exclude is not None:
            conditions.append(exp.func("coalesce", _of_unit(one.exclude), exp.false()).not_())
    return exp.and_(*conditions) if conditions else None


def _of_unit(text: str) -> exp.Expr:
    """A condition on frozen context as one over the columns of `u`."""

    def qualified(node: exp.Expr) -> exp.Expr:
        return exp.column(node.name, table="u") if isinstance(node, exp.Column) else node

    return exp.paren(sqlglot.parse_one(text, dialect="duckdb").transform(qualified))


def has_weeks(metric: Metric) -> bool:
    """Whether a metric has parts in each week since assignment; others are one number per unit."""
    return metric.type == "quantile" or metric.adds_up


def week_sums(metrics: Iterable[Metric], measures: Mapping[str, Measure]) -> list[exp.Expr]:
    """The columns of a query over unit-days grouped by unit and week: parts of metrics that have weeks."""
    everywhere = [
        metric.model_copy(update={"from_day": None}) if metric.type == "retention" else metric
        for metric in metrics
    ]
    return metric_sums([metric for metric in everywhere if has_weeks(metric)], measures)


def week_columns(metrics: Iterable[Metric], measures: Mapping[str, Measure]) -> list[exp.Expr]:
    """The columns of a query of one row a unit and week: numerators, denominators and values."""
    columns: list[exp.Expr] = []
    for metric in metrics:
        if not has_weeks(metric):
            continue
        kept = (
            values_column(metric.name) if metric.type == "quantile" else numerator_column(metric.name),
            *((denominator_column(metric.name),) if metric.denominator is not None else ()),
        )
        plain = metric.model_copy(update={"include": None, "exclude": None})
        named = metric_columns([metric.name], {metric.name: plain}, measures)
        columns += [column for column in named if column.alias in kept]
    return columns
