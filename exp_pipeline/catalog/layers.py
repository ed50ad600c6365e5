"""Whether layers and briefs agree: each experiment in one layer, ranges apart, holdouts that can be kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from exp_pipeline.catalog.documents import Document, Place, choices
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.layers import Layer
from exp_pipeline.model.metrics import Metric

Read = tuple[Layer, Document]
Briefs = Mapping[str, tuple[Brief, Document]]


def layer_problems(layers: Sequence[Read], briefs: Briefs, declared: Collection[str]) -> Iterator[Problem]:
    """What is wrong within the layers' files, given every brief that could be read.

    declared: names of all briefs, also of broken ones, so that one mistake is not told twice.
    """
    seen: dict[str, str] = {}
    for layer, document in layers:
        for position, place in enumerate(layer.experiments):
            where: Place = ("experiments", position, "experiment")
            if place.experiment not in declared:
                hint, allowed = choices(place.experiment, declared)
                yield document.problem(where, f"unknown experiment{hint}", allowed=allowed)
                continue
            if place.experiment in seen:
                yield document.problem(where, f"is in layer {seen[place.experiment]} already; one is allowed")
                continue
            seen[place.experiment] = layer.name
            if place.experiment in briefs:
                brief = briefs[place.experiment][0]
                if brief.layer != layer.name:
                    said = "names no layer" if brief.layer is None else f"names layer {brief.layer}"
                    yield document.problem(
                        where, f"its brief {said}", allowed=f"layer: {layer.name} in the brief"
                    )
                if brief.randomisation_unit != layer.unit:
                    yield document.problem(
                        where,
                        f"is randomised by {brief.randomisation_unit}, and the layer draws by {layer.unit}",
                    )
        yield from _overlaps(layer, document, briefs)
    yield from _second_holdouts(layers)


def _overlaps(layer: Layer, document: Document, briefs: Briefs) -> Iterator[Problem]:
    """Ranges that share buckets while both experiments run; one without dates is taken to run always."""
    for position, place in enumerate(layer.experiments):
        for other in layer.experiments[:position]:
            first, end = place.buckets
            if first >= other.buckets[1] or other.buckets[0] >= end:
                continue
            one, two = briefs.get(place.experiment), briefs.get(other.experiment)
            if one is not None and two is not None and not _meet(one[0], two[0]):
                continue
            yield document.problem(
                ("experiments", position, "buckets"),
                f"{place.experiment} shares buckets with {other.experiment}, and both run at the same time",
                value=f"{first}, {end}",
                allowed=f"buckets outside {other.buckets[0]} to {other.buckets[1]}",
            )


def _meet(one: Brief, other: Brief) -> bool:
    return one.start < other.end and other.start < one.end


def _second_holdouts(layers: Sequence[Read]) -> Iterator[Problem]:
    known: dict[str, str] = {}
    for layer, document in layers:
        if layer.kind != "holdout":
            continue
        if layer.unit in known:
            yield document.problem(
                ("unit",) if ("unit",) in document.lines else ("kind",),
                f"holdout {known[layer.unit]} holds out by {layer.unit} already; one a unit is allowed",
                value=layer.unit,
            )
        known.setdefault(layer.unit, layer.name)


def holdout_metric_problems(
    layer: Layer, document: Document, metrics: Mapping[str, Metric], declared: Collection[str]
) -> Iterator[Problem]:
    """Metrics that a holdout cannot be measured by. declared: names of all metrics, also of broken ones."""
    for position, name in enumerate(layer.metrics):
        place: Place = ("metrics", position)
        if name not in declared:
            hint, allowed = choices(name, declared)
            yield document.problem(place, f"unknown metric{hint}", allowed=allowed)
        elif name in metrics and (not metrics[name].adds_up or metrics[name].type == "retention"):
            kind = metrics[name].type.replace("_", " ")
            yield document.problem(
                place,
                f"a {kind} is told since assignment, and nobody is assigned to a holdout",
                allowed="a mean, proportion, ratio, count rate or cost per outcome",
            )


def broken_holdout(brief: Brief, layers: Mapping[str, Document], broken: Collection[str]) -> str | None:
    """Which holdout of those that a brief keeps to has problems? Without it, its units would be let in.

    layers: every layer's file by name; broken: names of those with problems.
    """
    if brief.table is not None or brief.holdout != "respect":
        return None
    held = (name for name in sorted(broken) if name in layers and layers[name].at(("kind",)) == "holdout")
    return next(held, None)


def brief_layer_problems(
    brief: Brief, document: Document, layers: Sequence[Layer], declared: Collection[str]
) -> Iterator[Problem]:
    """What is wrong with a brief's layer and holdout. declared: names of all layers, also of broken ones."""
    if brief.table is not None:
        return
    known = {layer.name: layer for layer in layers}
    if brief.layer is not None:
        exclusive = [name for name in declared if name not in known or known[name].kind == "exclusive"]
        if brief.layer not in exclusive:
            hint, allowed = choices(brief.layer, exclusive)
            what = "is a holdout: no experiment is in it" if brief.layer in known else f"unknown layer{hint}"
            yield document.problem(("layer",), what, allowed=allowed)
        elif brief.layer in known and known[brief.layer].place_of(brief.name) is None:
            yield document.problem(
                ("layer",),
                f"layer {brief.layer} gives {brief.name} no buckets",
                allowed=f"an entry `experiment: {brief.name}` with buckets in the layer's file",
            )
    units = sorted({layer.unit for layer in layers if layer.kind == "holdout"})
    if brief.holdout == "respect" and units and brief.randomisation_unit not in units:
        yield document.problem(
            ("holdout",),
            f"cannot be kept: units are held out by {units[0]}, and {brief.name} is randomised by "
            f"{brief.randomisation_unit}",
            value=brief.holdout,
            allowed=f"holdout: exempt, or a holdout with unit: {brief.randomisation_unit}",
        )
