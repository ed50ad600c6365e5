"""All that is known of one metric: its measures and columns with their SQL, what it reads, who uses it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from exp_pipeline.catalog import Catalog
from exp_pipeline.contracts.fields import sql_types
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.steps.experiments.dictionary import columns_of_metric
from exp_pipeline.transform import measures as measure_sql
from exp_pipeline.transform import metrics as metric_sql
from exp_pipeline.transform import pre_period


@dataclass(frozen=True, slots=True)
class MeasureSheet:
    """A measure: the columns it reads, its SQL over a day's rows, whether days are summed up with it."""

    measure: Measure
    fields: tuple[str, ...]
    sql: str
    kept: bool


@dataclass(frozen=True, slots=True)
class ColumnSheet:
    """A column of the minimal analytic dataset: unit, meaning, SQL over a unit's totals (`t`, `b`)."""

    name: str
    unit: str
    definition: str
    sql: str


@dataclass(frozen=True, slots=True)
class MetricSheet:
    """A metric and everything around it.

    `measures` includes those of a composite's parts. `totals` are the columns of the query over unit-days
    (`d`; `p` before assignment, `f` for what counts after it) that the dataset's columns are made of, as
    name -> SQL. `used_by` is experiment -> part it plays there. `guards` are the metrics whose counter-metric
    it is.
    """

    metric: Metric
    measures: tuple[MeasureSheet, ...]
    totals: dict[str, str]
    columns: tuple[ColumnSheet, ...]
    events: tuple[str, ...]
    used_by: dict[str, str]
    driven_by: tuple[str, ...]
    guards: tuple[str, ...]


def metric_sheet(catalog: Catalog, name: str) -> MetricSheet:
    """Everything about one metric. Raises ExpError for one that is not in the catalog, naming those near."""
    if name not in catalog.metrics:
        from exp_pipeline.catalog.documents import choices

        hint, _ = choices(name, catalog.metrics)
        raise ExpError(f"there is no metric {name!r}{hint}; `exp metrics` lists them all")
    metric = catalog.metrics[name]
    everyone = {name: metric, **{part.metric: catalog.metrics[part.metric] for part in metric.parts}}
    names = dict.fromkeys(one for each in everyone.values() for one in each.measures())
    measures = [catalog.measures[one] for one in names]
    kept = catalog.kept_measures()
    totals = [
        *metric_sql.metric_sums(everyone.values(), catalog.measures),
        *pre_period.pre_score_sums(everyone.values(), catalog.measures),
    ]
    told = columns_of_metric(metric, {one: catalog.measures[one] for one in metric.measures()})
    shown = metric_sql.metric_columns([name], everyone, catalog.measures)
    return MetricSheet(
        metric=metric,
        measures=tuple(
            MeasureSheet(
                one,
                tuple(sorted(measure_sql.read_columns([one], _columns_read(one)))),
                _text(measure_sql.over_rows(one)),
                one.name in kept,
            )
            for one in measures
        ),
        totals={one.alias: _text(one) for one in totals},
        columns=tuple(ColumnSheet(one.alias, *told[one.alias], _text(one)) for one in shown),
        events=tuple(sorted({event for one in measures for event in one.events})),
        used_by={
            brief.name: role
            for brief in catalog.briefs.values()
            if (role := role_of(catalog, brief.name, name))
        },
        driven_by=tuple(sorted(one.name for one in catalog.metrics.values() if one.drives == name)),
        guards=tuple(sorted(one.name for one in catalog.metrics.values() if one.counter_metric == name)),
    )


def _text(column: exp.Expr) -> str:
    """The expression of a column, without its name."""
    return column.unalias().sql(dialect="duckdb", pretty=True, max_text_width=66)


def _columns_read(measure: Measure) -> dict[str, str]:
    return dict(sql_types(derived=True)) if measure.over == "events" else dict(table_columns("sessions"))


def role_of(catalog: Catalog, experiment: str, name: str) -> str | None:
    """What part a metric plays in an experiment: primary, secondary, guardrail, or a part of a composite."""
    brief = catalog.briefs[experiment]
    if brief.table is not None:
        return None
    if brief.primary == name:
        return "primary"
    if name in brief.secondary:
        return "secondary"
    if name in (one.metric for one in brief.guardrails):
        return "guardrail"
    if name in brief.counter_metrics:
        return "counter"
    shown = catalog.metrics_of(brief)
    if name in shown:
        return "shown"
    return "part" if any(name == part.metric for one in shown.values() for part in one.parts) else None
