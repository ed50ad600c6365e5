"""Measures and metrics as people write them in `data/catalog/metrics`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier

MetricType = Literal["mean", "proportion", "ratio", "count_rate", "quantile"]
Aggregate = Literal["count", "sum", "max", "distinct", "values"]


class Measure(Noun):
    """An additive fact per unit and day, over filtered events or over the sessions that started that day.

    `where` and `of` are expressions over the columns of the table that `over` names. `values` keeps the
    values themselves, sorted, for quantiles that must know which unit each value came from.
    """

    name: Identifier
    description: str
    over: Literal["events", "sessions"] = "events"
    events: tuple[str, ...] = ()
    where: str | None = None
    aggregate: Aggregate = "count"
    of: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.aggregate == "count" and self.of is not None:
            raise ValueError("`of` has no meaning for aggregate count; leave it out, or use sum or distinct")
        if self.aggregate != "count" and self.of is None:
            raise ValueError(f"aggregate {self.aggregate} needs `of`: the column or expression it aggregates")
        if self.over == "sessions" and self.events:
            raise ValueError("`events` has no meaning for a measure over sessions")
        return self


class Metric(Noun):
    """A KPI spec: turns measures into one number per unit, and says how to read it."""

    name: Identifier
    title: str
    owner: str
    definition: str
    type: MetricType
    unit: Literal["learner"] = "learner"
    numerator: Identifier
    denominator: Identifier | None = None
    per: float = Field(default=1.0, gt=0)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    window_days: int | None = Field(default=None, ge=1, le=366)
    direction: Literal["increase", "decrease"]
    kind: Literal["north-star", "input", "output", "guardrail"]
    proximity: Literal["proximal", "distal"] = "proximal"
    heart: Literal["happiness", "engagement", "adoption", "retention", "task success"] | None = None
    display: Literal["share", "number", "ms", "usd", "minutes"] = "number"
    failure_modes: tuple[str, ...] = ()
    refresh: str = "daily"
    counter_metric: Identifier | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needs_denominator = self.type in ("ratio", "count_rate")
        if needs_denominator and self.denominator is None:
            raise ValueError(f"type {self.type} needs a denominator measure")
        if not needs_denominator and self.denominator is not None:
            raise ValueError(f"type {self.type} has no denominator; use ratio or count_rate")
        if (self.type == "quantile") != (self.quantile is not None):
            raise ValueError("`quantile` goes with type quantile, and only with it (for example 0.95)")
        return self

    def measures(self) -> tuple[str, ...]:
        """The measures this metric is made of, numerator first."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)


def numerator_column(metric: str) -> str:
    """Column of the minimal analytic dataset that holds a metric's numerator per unit."""
    return f"{metric}__num"


def denominator_column(metric: str) -> str:
    """Column that holds a ratio's denominator per unit."""
    return f"{metric}__den"


def values_column(metric: str) -> str:
    """Column that holds the list of single values of a quantile metric per unit."""
    return f"{metric}__values"


def mature_column(metric: str) -> str:
    """Column that says whether a unit has had the whole window of the metric."""
    return f"{metric}__mature"


def pre_column(measure: str) -> str:
    """Column that holds a measure summed over the days before assignment (a covariate)."""
    return f"pre__{measure}"
