"""Reads the whole catalog: briefs, metrics, measures, sources and policies, with every problem at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from exp_pipeline.catalog.brief_rules import STAND_INS, review_problems
from exp_pipeline.catalog.calendars import calendar_problems, ramp_problems
from exp_pipeline.catalog.contents import Catalog, Kind, Origin
from exp_pipeline.catalog.documents import Document, Place, choices, read_document
from exp_pipeline.catalog.layers import (
    brief_layer_problems,
    broken_holdout,
    holdout_metric_problems,
    layer_problems,
)
from exp_pipeline.catalog.metric_rules import metric_company, metric_references, metric_sense
from exp_pipeline.catalog.quality_references import quality_references
from exp_pipeline.catalog.references import (
    brief_references,
    brief_sense,
    measure_references,
    source_references,
)
from exp_pipeline.catalog.wording import parse_noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.errors import Problem, SpecError
from exp_pipeline.model.intake import ReviewPolicy
from exp_pipeline.model.layers import Layer
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.model.policies import Policies
from exp_pipeline.model.sources import Source

SUFFIXES = (".yaml", ".yml")
# The policy file that says who reviews what; all other policies are one file.
REVIEWS = "reviews"


def load_catalog(root: Path, strict: bool = True, *, event_names: Collection[str] | None = None) -> Catalog:
    """What stands in the catalog folder `root`. Raises SpecError with all problems over all files.

    With `strict=False` what is broken is left out, with everything that rests on it, and listed in
    `problems`; the rest is as good as before. Broken policies always raise: no day can be run without them.
    `event_names`, if given, are the events that measures may name.
    """
    reader = _Reader(root, strict, event_names)
    reader.read()
    if reader.problems and (strict or reader.fatal):
        raise SpecError(sorted(reader.problems, key=lambda problem: (problem.file, problem.line or 0)))
    return reader.catalog()


def load_brief(path: Path, metrics: Mapping[str, Metric] | None) -> Brief:
    """The brief in one file. Raises SpecError with all its problems.

    Its metrics must be among `metrics` (or, for a brief over a unit table, among its own `table.metrics`);
    with neither, metric names are not checked. The file may have any name.
    """
    document = read_document(path, file=str(path))
    if isinstance(document, Problem):
        raise SpecError([document])
    brief, problems = parse_noun(Brief, document, stand_ins=STAND_INS)
    if document.at(("table",)) is not None or metrics is not None:
        covariates = document.at(("variance_reduction", "covariates"))
        trusted = (
            [name for name in covariates if isinstance(name, str)] if isinstance(covariates, list) else []
        )
        problems += brief_references(document, metrics or {}, trusted)
    if brief is not None:
        problems += [one for one in brief_sense(brief, document, {}) if one.field != "name"]
    if brief is None or problems:
        raise SpecError(sorted(problems, key=lambda problem: problem.line or 0))
    return brief


class _Reader:
    """One reading of a catalog folder."""

    def __init__(self, root: Path, strict: bool, event_names: Collection[str] | None) -> None:
        self.root = root
        self.strict = strict
        self.event_names = event_names
        self.problems: list[Problem] = []
        self.fatal = False
        self.origins: dict[tuple[Kind, str], Origin] = {}
        self.broken: dict[tuple[Kind, str], Problem] = {}
        self.measures: dict[str, Measure] = {}
        self.metrics: dict[str, Metric] = {}
        self.briefs: dict[str, Brief] = {}
        self.layers: dict[str, Layer] = {}
        self.calendars: dict[str, SchoolCalendar] = {}
        self.sources: dict[str, Source] = {}
        self.policies = Policies()
        self.reviews = ReviewPolicy()

    def read(self) -> None:
        if not self.root.is_dir():
            self.problems.append(
                Problem(str(self.root), None, "(folder)", "", "there is no catalog folder here")
            )
            self.fatal = True
            return
        metric_files = self._documents("metrics")
        self._read_measures(metric_files)
        self._read_metrics(metric_files)
        layers = self._read_layers()
        self._read_calendars()
        policy_files = self._policy_documents()
        self._read_reviews(policy_files)
        self._read_briefs(layers)
        self._read_sources()
        self._read_policies(policy_files)

    def catalog(self) -> Catalog:
        broken = self.broken
        briefs = {name: one for name, one in sorted(self.briefs.items()) if ("brief", name) not in broken}
        return Catalog(
            root=self.root,
            briefs=briefs,
            metrics={name: one for name, one in self.metrics.items() if ("metric", name) not in broken},
            measures={name: one for name, one in self.measures.items() if ("measure", name) not in broken},
            sources=tuple(one for name, one in self.sources.items() if ("source", name) not in broken),
            policies=self.policies,
            problems=tuple(sorted(self.problems, key=lambda problem: (problem.file, problem.line or 0))),
            files={name: self.origins["brief", name].document.path for name in briefs},
            origins=dict(self.origins),
            layers={name: one for name, one in sorted(self.layers.items()) if ("layer", name) not in broken},
            calendars={
                name: one for name, one in sorted(self.calendars.items()) if ("calendar", name) not in broken
            },
            reviews=self.reviews,
        )

    def _documents(self, folder: str) -> list[Document]:
        found: list[Document] = []
        if not (self.root / folder).is_dir():
            return found
        for path in sorted((self.root / folder).iterdir()):
            if path.suffix not in SUFFIXES or path.name.startswith("."):
                continue
            document = read_document(path, file=str(path), within=self.root)
            if isinstance(document, Problem):
                self.problems.append(document)
            else:
                found.append(document)
        return found

    def _report(self, key: tuple[Kind, str] | None, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.problems.append(problem)
            if key is not None:
                self.broken.setdefault(key, problem)

    def _declare(self, kind: Kind, document: Document, place: Place) -> str | None:
        """The name of an entry, told apart from its namesakes; None where it has none or another holds it."""
        name = document.at((*place, "name"))
        if not isinstance(name, str):
            return None
        first = self.origins.get((kind, name))
        if first is not None:
            where = f"{first.document.file}:{first.document.line((*first.place, 'name'))}"
            self.problems.append(document.problem((*place, "name"), f"another {kind} has this name: {where}"))
            return None
        self.origins[kind, name] = Origin(document, place)
        return name

    def _entries(self, documents: Iterable[Document], section: str) -> list[tuple[Document, Place]]:
        found: list[tuple[Document, Place]] = []
        for document in documents:
            entries = document.at((section,))
            if isinstance(entries, list):
                found += [(document, (section, position)) for position in range(len(entries))]
            elif entries is not None:
                self.problems.append(
                    document.problem((section,), "must be a list", allowed="entries that begin with -")
                )
        return found

    def _read_measures(self, documents: list[Document]) -> None:
        for document in documents:
            if not isinstance(document.data, dict):
                self.problems.append(document.problem((), "must hold lists named `measures` and `metrics`"))
                continue
            for key in document.data:
                if key not in ("measures", "metrics"):
                    hint, allowed = choices(key, ("measures", "metrics"))
                    self.problems.append(document.problem((key,), f"is not a field{hint}", allowed=allowed))
        for document, place in self._entries(documents, "measures"):
            name = self._declare("measure", document, place)
            measure, problems = parse_noun(Measure, document, place)
            problems += measure_references(document, place, self.event_names)
            self._report(None if name is None else ("measure", name), problems)
            if measure is not None and name is not None:
                self.measures[name] = measure

    def _read_metrics(self, documents: list[Document]) -> None:
        entries = self._entries(documents, "metrics")
        declared = [
            (document, place, self._declare("metric", document, place)) for document, place in entries
        ]
        metric_names = self._names("metric")
        for document, place, name in declared:
            metric, problems = parse_noun(Metric, document, place)
            problems += metric_references(document, place, metric_names, self._names("measure"))
            if metric is not None:
                problems += metric_sense(metric, document, place, self.measures)
            key: tuple[Kind, str] | None = None if name is None else ("metric", name)
            self._report(key, problems)
            if metric is not None and name is not None and key is not None:
                self.metrics[name] = metric
                broken = next((one for one in metric.measures() if ("measure", one) in self.broken), None)
                if broken is not None:
                    self.broken.setdefault(key, self.broken["measure", broken])
        for document, place, name in declared:
            if name is None or name not in self.metrics:
                continue
            metric = self.metrics[name]
            self._report(("metric", name), metric_company(metric, document, place, self.metrics))
            lost = next(
                (part.metric for part in metric.parts if ("metric", part.metric) in self.broken), None
            )
            if lost is not None:
                self.broken.setdefault(("metric", name), self.broken["metric", lost])

    def _names(self, kind: Kind) -> set[str]:
        return {name for found, name in self.origins if found == kind}

    def _read_layers(self) -> list[tuple[Layer, Document]]:
        read: list[tuple[Layer, Document]] = []
        for document in self._documents("layers"):
            name = self._declare("layer", document, ())
            layer, problems = parse_noun(Layer, document)
            if layer is not None and layer.name != document.path.stem:
                problems.append(
                    document.problem(
                        ("name",),
                        f"differs from the file's name `{document.path.name}`",
                        allowed=document.path.stem,
                    )
                )
            self._report(None if name is None else ("layer", name), problems)
            if layer is not None and name is not None:
                self.layers[name] = layer
                read.append((layer, document))
        return read

    def _read_calendars(self) -> None:
        for document in self._documents("calendars"):
            name = self._declare("calendar", document, ())
            calendar, problems = parse_noun(SchoolCalendar, document)
            if calendar is not None and calendar.name != document.path.stem:
                message = f"differs from the file's name `{document.path.name}`"
                problems.append(document.problem(("name",), message, allowed=document.path.stem))
            self._report(None if name is None else ("calendar", name), problems)
            if calendar is not None and name is not None:
                self.calendars[name] = calendar

    def _read_briefs(self, layers: list[tuple[Layer, Document]]) -> None:
        read: list[tuple[Brief, Document]] = []
        documents = self._documents("experiments")
        # Of two briefs with one name, the file that is named after it keeps it.
        for document in sorted(documents, key=lambda one: one.at(("name",)) != one.path.stem):
            name = self._declare("brief", document, ())
            brief, problems = parse_noun(Brief, document, stand_ins=STAND_INS)
            problems += brief_references(document, self._names("metric"), self._names("measure"))
            if brief is not None:
                problems += brief_sense(brief, document, self.measures)
                problems += review_problems(brief, document, [kind.name for kind in self.reviews.kinds])
                problems += ramp_problems(brief, document)
                problems += calendar_problems(brief, document, self.calendars, self._names("calendar"))
            key: tuple[Kind, str] | None = None if name is None else ("brief", name)
            if brief is not None and name is not None and key is not None:
                self.briefs[name] = brief
                read.append((brief, document))
                if brief.table is None and not problems and not self.strict:
                    problems = self._leans_on_broken(brief, document)
            self._report(key, problems)
        self._check_layers(layers, read)

    def _check_layers(self, layers: list[tuple[Layer, Document]], read: list[tuple[Brief, Document]]) -> None:
        found = layer_problems(layers, {one.name: (one, file) for one, file in read}, self._names("brief"))
        names = {document.file: layer.name for layer, document in layers}
        for problem in found:
            self._report(("layer", names[problem.file]), [problem])
        for layer, document in layers:
            unfit = holdout_metric_problems(layer, document, self.metrics, self._names("metric"))
            self._report(("layer", layer.name), list(unfit))
        files = {name: one.document for (kind, name), one in self.origins.items() if kind == "layer"}
        bad = [name for name in files if ("layer", name) in self.broken]
        for brief, document in read:
            problems = list(
                brief_layer_problems(brief, document, [one for one, _ in layers], self._names("layer"))
            )
            broken = None if brief.layer is None else self.broken.get(("layer", brief.layer))
            if not problems and broken is not None and not self.strict:
                message = f"left out: layer {brief.layer} has problems, see {_where(broken)}"
                problems = [document.problem(("layer",), message)]
            held = broken_holdout(brief, files, bad)
            if not problems and held is not None and not self.strict:
                where = _where(self.broken["layer", held])
                message = f"left out: holdout {held}, which it keeps to, has problems, see {where}"
                problems = [document.problem(("name",), message)]
            self._report(("brief", brief.name), problems)

    def _leans_on_broken(self, brief: Brief, document: Document) -> list[Problem]:
        used: list[tuple[Kind, str]] = [("metric", name) for name in brief.metric_names()]
        used += [("measure", name) for name in brief.variance_reduction.covariates]
        used += [("calendar", brief.calendar)] if brief.calendar is not None else []
        return [
            document.problem(
                ("name",), f"left out: {kind} {name} has problems, see {_where(self.broken[kind, name])}"
            )
            for kind, name in used
            if (kind, name) in self.broken
        ]

    def _read_sources(self) -> None:
        for document in self._documents("sources"):
            name = self._declare("source", document, ())
            source, problems = parse_noun(Source, document)
            problems += source_references(document)
            self._report(None if name is None else ("source", name), problems)
            if source is not None and name is not None:
                self.sources[name] = source

    def _policy_documents(self) -> list[Document]:
        before = len(self.problems)
        documents = self._documents("policies")
        self.fatal = self.fatal or len(self.problems) > before
        return documents

    def _read_reviews(self, documents: list[Document]) -> None:
        for document in documents:
            if document.path.stem == REVIEWS:
                policy, problems = parse_noun(ReviewPolicy, document)
                self.problems += problems
                self.reviews = policy or self.reviews

    def _read_policies(self, documents: list[Document]) -> None:
        before = len(self.problems)
        documents = [one for one in documents if one.path.stem != REVIEWS]
        for document in documents[1:]:
            message = f"policies are one file, and {documents[0].file} is there already"
            self.problems.append(document.problem((), message))
        if documents:
            policies, problems = parse_noun(Policies, documents[0])
            self.problems += problems
            if policies is not None:
                self.problems += quality_references(documents[0], policies.quality, self.event_names)
            self.policies = policies or self.policies
        self.fatal = self.fatal or len(self.problems) > before


def _where(problem: Problem) -> str:
    return f"{problem.file}:{problem.line}" if problem.line else problem.file
