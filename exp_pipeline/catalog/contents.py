"""What people wrote in `data/catalog` as one frozen object, and what is left of it without broken entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from exp_pipeline.catalog.digest import digest_of_metrics
from exp_pipeline.catalog.documents import Document, Place
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.intake import ReviewPolicy
from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.model.policies import Policies
from exp_pipeline.model.sources import Source

Kind = Literal["brief", "metric", "measure", "source", "layer", "calendar"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry of the catalog was written, so that later checks can name file and line."""

    document: Document
    place: Place


@dataclass(frozen=True)
class Catalog:
    """What people wrote in `data/catalog`, checked. `problems` is empty unless it was loaded leniently."""

    root: Path
    briefs: Mapping[str, Brief]
    metrics: Mapping[str, Metric]
    measures: Mapping[str, Measure]
    sources: tuple[Source, ...]
    policies: Policies
    problems: tuple[Problem, ...]
    files: Mapping[str, Path]
    origins: Mapping[tuple[Kind, str], Origin] = field(repr=False, compare=False, default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)
    calendars: Mapping[str, SchoolCalendar] = field(default_factory=dict)
    reviews: ReviewPolicy = field(default_factory=ReviewPolicy)

    def metrics_of(self, brief: Brief) -> dict[str, Metric]:
        """The metrics a brief's readout shows, in the brief's order; none for a brief over a unit table."""
        if brief.table is not None:
            return {}
        return {name: self.metrics[name] for name in brief.metric_names()}

    def dataset_metrics(self, brief: Brief) -> dict[str, Metric]:
        """The metrics that a brief's dataset holds: those its readout shows, then parts of composites."""
        shown = self.metrics_of(brief)
        parts = [part.metric for metric in shown.values() for part in metric.parts]
        return {**shown, **{name: self.metrics[name] for name in parts if name not in shown}}

    def measures_of(self, brief: Brief) -> dict[str, Measure]:
        """The measures a brief needs, each once: those of its metrics, then its covariates."""
        if brief.table is not None:
            return {}
        names = [name for metric in self.dataset_metrics(brief).values() for name in metric.measures()]
        return {name: self.measures[name] for name in (*names, *brief.variance_reduction.covariates)}

    def kept_measures(self) -> dict[str, Measure]:
        """The measures that every day is summed up with: kept always, or asked for by brief or holdout."""
        asked = {name for brief in self.briefs.values() for name in self.measures_of(brief)}
        asked |= {
            name for one in self.holdouts() for its in self.holdout_metrics(one) for name in its.measures()
        }
        return {name: one for name, one in self.measures.items() if one.keep == "always" or name in asked}

    def limits_of(self, brief: Brief) -> Limits:
        """What bounds a brief's units: its layer, and the holdout of its kind of unit unless it is exempt."""
        mine = [
            one
            for one in self.holdouts()
            if one.unit == brief.randomisation_unit and brief.holdout == "respect"
        ]
        return Limits(
            layer=None if brief.layer is None else self.layers.get(brief.layer),
            holdout=mine[0] if mine else None,
        )

    def holdouts(self) -> tuple[Layer, ...]:
        """The layers that hold units out of every experiment, by name."""
        return tuple(one for _, one in sorted(self.layers.items()) if one.kind == "holdout")

    def holdout_metrics(self, layer: Layer) -> tuple[Metric, ...]:
        """The metrics that a holdout is measured by: those that it names, else the north stars."""
        if layer.metrics:
            return tuple(self.metrics[name] for name in layer.metrics if name in self.metrics)
        return tuple(one for _, one in sorted(self.metrics.items()) if one.kind == "north-star")

    def calendar_of(self, brief: Brief) -> SchoolCalendar | None:
        """The school calendar that a brief's ramp keeps to; None where it names none."""
        return None if brief.calendar is None else self.calendars.get(brief.calendar)

    def metrics_digest(self, brief: Brief) -> str:
        """Which definitions of metrics and measures a brief's numbers rest on, as one digest."""
        return digest_of_metrics(brief, self.dataset_metrics(brief), self.measures_of(brief))


def without(catalog: Catalog, problems: Iterable[Problem]) -> Catalog:
    """The catalog less every entry that `problems` speak of, and less whatever rests on such an entry.

    For checks that run after loading, such as `check_expressions`: one bad measure takes its metrics and
    their briefs along, and no others. The problems are added to the catalog's own.
    """
    extra = tuple(problems)
    hit = {
        (kind, name)
        for (kind, name), origin in catalog.origins.items()
        if any(_speaks_of(problem, origin) for problem in extra)
    }
    measures = {name: one for name, one in catalog.measures.items() if ("measure", name) not in hit}
    metrics = {
        name: one
        for name, one in catalog.metrics.items()
        if ("metric", name) not in hit and all(measure in measures for measure in one.measures())
    }
    metrics = {
        name: one for name, one in metrics.items() if all(part.metric in metrics for part in one.parts)
    }
    briefs = {
        name: one
        for name, one in catalog.briefs.items()
        if ("brief", name) not in hit
        and (one.table is not None or all(metric in metrics for metric in one.metric_names()))
        and (one.table is not None or all(name in measures for name in one.variance_reduction.covariates))
    }
    sources = tuple(one for one in catalog.sources if ("source", one.name) not in hit)
    lost = [
        catalog.origins["brief", name].document.problem(
            ("name",), "left out: it rests on something that has problems"
        )
        for name in catalog.briefs
        if name not in briefs and ("brief", name) not in hit
    ]
    return replace(
        catalog,
        briefs=briefs,
        metrics=metrics,
        measures=measures,
        sources=sources,
        problems=(*catalog.problems, *extra, *lost),
        files={name: path for name, path in catalog.files.items() if name in briefs},
    )


def _speaks_of(problem: Problem, origin: Origin) -> bool:
    if problem.file != origin.document.file:
        return False
    if not origin.place:
        return True
    prefix = f"{origin.place[0]}[{origin.place[1]}]"
    return problem.field == prefix or problem.field.startswith(f"{prefix}.")
