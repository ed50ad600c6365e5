"""Whether a metric's names point at something, and its measures and parts give what its type needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from exp_pipeline.catalog.documents import Document, Place
from exp_pipeline.catalog.references import entries, unknown_name
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.metrics import Aggregate, Measure, Metric, MetricType

_NUMBERS: tuple[Aggregate, ...] = ("count", "sum", "max", "distinct")
_SUMS: tuple[Aggregate, ...] = ("count", "sum", "distinct")
# What a numerator must give for each type of metric that has one.
_NUMERATORS: Mapping[MetricType, tuple[Aggregate, ...]] = {
    "mean": (*_NUMBERS, "min"),
    "proportion": _NUMBERS,
    "ratio": _SUMS,
    "count_rate": _SUMS,
    "cost_per_outcome": _SUMS,
    "quantile": ("values", "histogram"),
    "retention": _NUMBERS,
    "first_time_to": ("first",),
}
_WITH_OUT_OF: tuple[Aggregate, ...] = ("count", "sum")
_ALONE: tuple[Aggregate, ...] = ("sum", "max", "min")
_NO_PART: tuple[MetricType, ...] = ("quantile", "composite")


def metric_references(
    document: Document, place: Place, metrics: Collection[str], measures: Collection[str]
) -> list[Problem]:
    """Names in a metric that point nowhere: its measures, its parts, its counter-metric, its parent."""
    measured = [(*place, "numerator"), (*place, "denominator"), *entries(document, (*place, "steps"))]
    measured += [
        (*place, score, field) for score in ("pre", "post") if isinstance(document.at((*place, score)), dict)
        for field in ("points", "out_of")
    ]  # fmt: skip
    found = [unknown_name(document, one, "measure", measures) for one in measured]
    named = [(*part, "metric") for part in entries(document, (*place, "parts"))]
    named += [(*place, "counter_metric"), (*place, "drives")]
    found += [unknown_name(document, one, "metric", metrics) for one in named]
    return [problem for problem in found if problem is not None]


def metric_sense(
    metric: Metric, document: Document, place: Place, measures: Mapping[str, Measure]
) -> Iterator[Problem]:
    """Measures that do not give what the metric's type needs."""
    for at, name, allowed in _wanted(metric):
        measure = measures.get(name)
        if measure is None or measure.aggregate in allowed:
            continue
        message = f"type {metric.type} cannot be made of {name}, with aggregate {measure.aggregate}"
        if at == ("denominator",):
            message = f"{name} has aggregate {measure.aggregate}, which cannot be divided by"
        yield document.problem(
            (*place, *at), message, allowed=f"measures with aggregate {', '.join(allowed)}"
        )
    if metric.counter_metric == metric.name:
        yield document.problem((*place, "counter_metric"), "a metric cannot be its own counter-metric")


def _wanted(metric: Metric) -> Iterator[tuple[Place, str, tuple[Aggregate, ...]]]:
    """Each measure a metric names, where, and which aggregates it may have there."""
    if metric.numerator is not None:
        yield ("numerator",), metric.numerator, _NUMERATORS[metric.type]
    if metric.denominator is not None:
        yield ("denominator",), metric.denominator, _SUMS
    for position, step in enumerate(metric.steps):
        yield ("steps", position), step, ("first",)
    for which, score in (("pre", metric.pre), ("post", metric.post)):
        if score is not None:
            yield (which, "points"), score.points, _ALONE if score.out_of is None else _WITH_OUT_OF
            if score.out_of is not None:
                yield (which, "out_of"), score.out_of, _WITH_OUT_OF


def metric_company(
    metric: Metric, document: Document, place: Place, metrics: Mapping[str, Metric]
) -> Iterator[Problem]:
    """What does not fit between a metric and others: parts of a composite, the tree of what drives what."""
    for position, part in enumerate(metric.parts):
        other = metrics.get(part.metric)
        if other is not None and other.type in _NO_PART:
            yield document.problem(
                (*place, "parts", position, "metric"),
                f"a {other.type} has no value for one unit that could be a part",
                allowed=f"metrics of any type but {' and '.join(_NO_PART)}",
            )
    path = [metric.name]
    above = metrics.get(metric.drives or "")
    while above is not None and above.name not in path:
        path.append(above.name)
        above = metrics.get(above.drives or "")
    if above is not None and above.name == metric.name:
        yield document.problem((*place, "drives"), f"makes a circle: {' drives '.join((*path, metric.name))}")
