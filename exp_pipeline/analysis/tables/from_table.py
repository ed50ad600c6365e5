"""A unit table from elsewhere, as the minimal analytic dataset of a readout (`exp analyze`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from exp_pipeline.analysis.tables.question import Asked, TableQuestion
from exp_pipeline.analysis.units import SEGMENT
from exp_pipeline.model.brief import Brief, TableMapping, TableMetric
from exp_pipeline.model.errors import Problem, SpecError
from exp_pipeline.model.metrics import Metric, denominator_column, numerator_column, pre_column
from exp_pipeline.model.readout import ExclusionCount

_MISSING = "(missing)"
_SHOWN = 10


class UnitTable(NamedTuple):
    """A foreign table as a dataset of units, and the metrics that its mapping describes."""

    mad: pl.DataFrame
    metrics: dict[str, Metric]


def mad_from_table(frame: pl.DataFrame, brief: Brief) -> UnitTable:
    """Which dataset of units, and which metrics, does a table from elsewhere make?

    frame: one row a unit, in columns that `brief.table` names. Arm values are compared as text with the keys
    of `table.arms` (without a mapping they must be the arms' own names). A unit with several rows keeps its
    first (by `assigned_at` where given, else by row); where they name different arms it is contaminated. Rows
    without a unit id are left out (see `exclusions_of_table`). Without an `exposed` column every unit is
    taken as exposed, and its `exposures` stay unknown. Raises SpecError with every problem found: a column
    that is not there, an arm value without an arm, a value that is not a number.
    """
    table = _mapping(brief)
    problems = [*_missing_columns(frame, brief, table), *_missing_metrics(brief, table)]
    if problems:
        raise SpecError(problems)
    arms = _arm_text(frame, table)
    columns = [arms]
    numbers, number_problems = _numbers(frame, brief, table)
    problems = [*_unknown_arms(arms, brief, table), *number_problems]
    times, time_problems = _times(frame, brief, table)
    problems += time_problems
    if problems:
        raise SpecError(problems)
    columns = [
        frame[table.unit_id].cast(pl.String).alias("unit_id"),
        arms.replace(table.arms).alias("arm") if table.arms else arms.alias("arm"),
        times.alias("assigned_at"),
        _text(frame, table.cluster, "cluster_id"),
        _text(frame, table.stratum, "stratum"),
        *_exposure(frame, table),
        *(_text(frame, column, f"{SEGMENT}{column}") for column in table.segments),
        *numbers,
    ]
    rows = pl.DataFrame(columns).drop_nulls("unit_id").with_row_index("row")
    rows = rows.sort("unit_id", "assigned_at", "row", nulls_last=True)
    contaminated = (pl.col("arm").n_unique().over("unit_id") > 1).alias("contaminated")
    units = rows.with_columns(contaminated).unique(subset="unit_id", keep="first", maintain_order=True)
    mad = units.drop("row").select(
        pl.lit(brief.name).alias("experiment"),
        pl.lit(brief.version).alias("version"),
        pl.col("unit_id", "arm", "assigned_at"),
        pl.col("assigned_at").dt.date().alias("assigned_date"),
        pl.col("cluster_id", "stratum", "contaminated", "exposed"),
        pl.lit(None, dtype=pl.Datetime("us")).alias("first_exposed_at"),
        pl.exclude("unit_id", "arm", "assigned_at", "cluster_id", "stratum", "contaminated", "exposed"),
    )
    return UnitTable(mad, {name: _metric(name, found, brief) for name, found in table.metrics.items()})


def exclusions_of_table(frame: pl.DataFrame, brief: Brief) -> tuple[ExclusionCount, ...]:
    """Which rows of the table did not become units of their own, by reason?"""
    table = _mapping(brief)
    nameless = frame[table.unit_id].null_count()
    named = frame.height - nameless
    repeated = named - frame[table.unit_id].drop_nulls().n_unique()
    counts = ((repeated, "a later row of a unit that was already there"), (nameless, "no unit id"))
    return tuple(ExclusionCount(kind="excluded", reason=reason, rows=rows) for rows, reason in counts if rows)


def question_of_brief(mad: pl.DataFrame, brief: Brief) -> TableQuestion:
    """What does a brief ask of the dataset that `mad_from_table` made, in the terms of `table_answer`?

    Every metric is an outcome. Clusters where the brief randomised them, strata where it names them,
    covariates and segments as it declares them, its planned shares.
    """
    table = _mapping(brief)
    outcomes = []
    for name in brief.metric_names():
        ratio = table.metrics[name].denominator is not None
        outcomes.append(Asked(numerator_column(name), denominator_column(name) if ratio else None, name))
    covariates: tuple[str, ...] = ()
    if brief.variance_reduction.method != "none":
        named = brief.variance_reduction.covariates or table.covariates
        covariates = tuple(pre_column(name) for name in named)
    return TableQuestion(
        arm="arm",
        outcomes=tuple(outcomes),
        control=brief.control,
        cluster="cluster_id" if brief.randomisation_unit != brief.analysis_unit else None,
        strata=("stratum",) if brief.strata and mad["stratum"].drop_nulls().n_unique() > 1 else (),
        covariates=covariates,
        received=None if table.received is None else "received",
        weight=None if table.weight is None else "weight",
        segments=tuple(f"{SEGMENT}{segment.column}" for segment in brief.segments),
        shares=brief.shares(),
        level=1.0 - brief.alpha,
        srm_alpha=brief.srm_alpha,
    )


def _problem(brief: Brief, field: str, value: str, message: str, allowed: str = "") -> Problem:
    return Problem(
        file=f"brief {brief.name}",
        line=None,
        field=f"table.{field}",
        value=value,
        message=message,
        allowed=allowed,
    )


def _mapping(brief: Brief) -> TableMapping:
    if brief.table is None:
        message = "the brief does not say where the table keeps units, arms and metrics"
        raise SpecError([_problem(brief, "unit_id", "", message)])
    return brief.table


def _missing_columns(frame: pl.DataFrame, brief: Brief, table: TableMapping) -> list[Problem]:
    named: list[tuple[str, str | None]] = [
        ("unit_id", table.unit_id),
        ("arm", table.arm),
        ("cluster", table.cluster),
        ("stratum", table.stratum),
        ("assigned_at", table.assigned_at),
        ("exposed", table.exposed),
        ("received", table.received),
        ("weight", table.weight),
    ]
    for name, metric in table.metrics.items():
        named += [(f"metrics.{name}.numerator", metric.numerator)]
        named += [(f"metrics.{name}.denominator", metric.denominator)]
    named += [(f"covariates[{position}]", name) for position, name in enumerate(table.covariates)]
    named += [(f"segments[{position}]", name) for position, name in enumerate(table.segments)]
    allowed = ", ".join(frame.columns)
    problems = [
        _problem(brief, field, column, "the table has no such column", allowed)
        for field, column in named
        if column is not None and column not in frame.columns
    ]
    if brief.randomisation_unit != brief.analysis_unit and table.cluster is None:
        message = (
            f"whole {brief.randomisation_unit} units were randomised, so the table must say which is whose"
        )
        problems.append(_problem(brief, "cluster", "", message, allowed))
    return problems


def _missing_metrics(brief: Brief, table: TableMapping) -> list[Problem]:
    allowed = ", ".join(sorted(table.metrics)) or "none is mapped"
    problems = [
        _problem(
            brief, "metrics", name, "the brief uses a metric that the table's mapping does not have", allowed
        )
        for name in brief.metric_names()
        if name not in table.metrics
    ]
    problems += [
        _problem(
            brief,
            f"metrics.{name}.denominator",
            "",
            "type ratio needs a denominator column",
            "a column of the table",
        )
        for name, metric in table.metrics.items()
        if metric.type == "ratio" and metric.denominator is None
    ]
    problems += [
        _problem(
            brief,
            f"metrics.{name}.denominator",
            metric.denominator or "",
            f"type {metric.type} has no denominator",
        )
        for name, metric in table.metrics.items()
        if metric.type != "ratio" and metric.denominator is not None
    ]
    problems += [
        _problem(
            brief, "segments", segment.column, "a declared segment is not mapped", ", ".join(table.segments)
        )
        for segment in brief.segments
        if segment.column not in table.segments
    ]
    problems += [
        _problem(
            brief, "covariates", name, "a covariate of the brief is not mapped", ", ".join(table.covariates)
        )
        for name in brief.variance_reduction.covariates
        if name not in table.covariates
    ]
    return problems


def _arm_text(frame: pl.DataFrame, table: TableMapping) -> pl.Series:
    values = frame[table.arm]
    if values.dtype.is_float() and (values.drop_nulls() == values.drop_nulls().round()).all():
        values = values.cast(pl.Int64)
    return values.cast(pl.String).fill_null(_MISSING)


def _unknown_arms(arms: pl.Series, brief: Brief, table: TableMapping) -> list[Problem]:
    names = list(brief.shares())
    problems = [
        _problem(brief, f"arms.{value}", arm, "the brief has no such arm", ", ".join(names))
        for value, arm in table.arms.items()
        if arm not in names
    ]
    allowed = list(table.arms) or names
    unknown = sorted(set(arms.unique().to_list()) - set(allowed))
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (" ..." if len(unknown) > _SHOWN else "")
        message = f"column {table.arm!r} holds values that belong to no arm"
        problems.append(_problem(brief, "arm", shown, message, ", ".join(allowed)))
    return problems


def _numbers(frame: pl.DataFrame, brief: Brief, table: TableMapping) -> tuple[list[pl.Series], list[Problem]]:
    wanted: list[tuple[str, str, str, bool]] = []
    for name, metric in table.metrics.items():
        only_01 = metric.type == "proportion"
        wanted.append((f"metrics.{name}.numerator", metric.numerator, numerator_column(name), only_01))
        if metric.denominator is not None:
            wanted.append(
                (f"metrics.{name}.denominator", metric.denominator, denominator_column(name), False)
            )
    for position, column in enumerate(table.covariates):
        wanted.append((f"covariates[{position}]", column, pre_column(column), False))
    for field, named in (("received", table.received), ("weight", table.weight)):
        if named is not None:
            wanted.append((field, named, field, False))
    series, problems = [], []
    for field, column, target, only_01 in wanted:
        values = _as_number(frame[column])
        wrong = frame[column].filter(
            values.is_null() & frame[column].is_not_null() & ~_says_missing(frame[column])
        )
        if wrong.len():
            message = f"column {column!r} must hold numbers; {wrong.len()} rows do not"
            problems.append(_problem(brief, field, str(wrong[0]), message, "a number, or nothing"))
        outside = values.drop_nulls().filter(~values.drop_nulls().is_in([0.0, 1.0]))
        if only_01 and outside.len():
            message = f"column {column!r} is a proportion's; {outside.len()} rows are neither 0 nor 1"
            problems.append(_problem(brief, field, f"{outside[0]:g}", message, "0, 1, or nothing"))
        series.append(values.alias(target))
    return series, problems


def _as_number(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    number = values.cast(pl.Float64, strict=False)
    return number.set(~number.is_finite(), None)


def _says_missing(values: pl.Series) -> pl.Series:
    """Which values are spelled "missing", as CSV files from elsewhere do?"""
    text = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    return text.is_in(["", "na", "nan", "null", "none", "."]).fill_null(True)


def _times(frame: pl.DataFrame, brief: Brief, table: TableMapping) -> tuple[pl.Series, list[Problem]]:
    kind = pl.Datetime("us")
    if table.assigned_at is None:
        return pl.Series("assigned_at", [None] * frame.height, dtype=kind), []
    values = frame[table.assigned_at]
    if values.dtype == pl.String:
        times = values.str.to_datetime(time_unit="us", strict=False)
    elif values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        times = values.cast(
            pl.Datetime("us", values.dtype.time_zone if isinstance(values.dtype, pl.Datetime) else None)
        )
    else:
        message = f"column {table.assigned_at!r} must hold dates or times, it holds {values.dtype}"
        return values, [
            _problem(brief, "assigned_at", str(values.dtype), message, "a date, a time, ISO text")
        ]
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None:
        times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    wrong = values.filter(times.is_null() & values.is_not_null())
    if wrong.len():
        message = f"column {table.assigned_at!r} must hold dates or times; {wrong.len()} rows do not"
        return times, [_problem(brief, "assigned_at", str(wrong[0]), message, "such as 2026-03-02T09:00:00")]
    return times, []


def _text(frame: pl.DataFrame, column: str | None, name: str) -> pl.Series:
    if column is None:
        return pl.Series(name, [None] * frame.height, dtype=pl.String)
    return frame[column].cast(pl.String).alias(name)


def _exposure(frame: pl.DataFrame, table: TableMapping) -> Iterable[pl.Series]:
    if table.exposed is None:
        yield pl.Series("exposed", [True] * frame.height, dtype=pl.Boolean)
        yield pl.Series("exposures", [None] * frame.height, dtype=pl.Int64)
        return
    values = frame[table.exposed]
    if values.dtype == pl.String:
        exposed = values.str.strip_chars().str.to_lowercase().is_in(["1", "true", "yes", "y", "t"])
    else:
        exposed = values.cast(pl.Float64) > 0
    exposed = exposed.fill_null(False)
    yield exposed.alias("exposed")
    yield exposed.cast(pl.Int64).alias("exposures")


def _metric(name: str, found: TableMetric, brief: Brief) -> Metric:
    guarded = name in [guardrail.metric for guardrail in brief.guardrails]
    of = f"{found.numerator} / {found.denominator}" if found.denominator else found.numerator
    return Metric(
        name=name,
        title=found.title or name.replace("_", " ").capitalize(),
        owner=brief.owner,
        definition=found.definition or f"Column {of} of the table, one value a unit.",
        type=found.type,
        numerator=name,
        denominator=f"{name}_denominator" if found.denominator is not None else None,
        direction=found.direction,
        kind="guardrail" if guarded else "output",
        display=found.display,
    )
