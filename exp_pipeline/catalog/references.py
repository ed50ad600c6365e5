"""Whether names in one file point at something in another, and whether fields make sense together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from zoneinfo import available_timezones

from exp_pipeline.catalog.brief_rules import novelty_problems, population_problems
from exp_pipeline.catalog.documents import Document, Place, choices
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.metrics import Aggregate, Measure

# How the path of every landed file begins, below the landing folder.
RECEIVED = "received_date="
_COVARIATES: tuple[Aggregate, ...] = (
    "count", "sum", "max", "min", "first", "last", "distinct", "values",
)  # fmt: skip


def unknown_name(document: Document, place: Place, kind: str, known: Iterable[str]) -> Problem | None:
    """The problem with a name that nothing carries, with the closest names; None where it is known."""
    name, names = document.at(place), set(known)
    if not isinstance(name, str) or name in names:
        return None
    hint, allowed = choices(name, names)
    return document.problem(place, f"unknown {kind}{hint}", allowed=allowed)


def entries(document: Document, place: Place) -> Iterator[Place]:
    """The places of a list's entries; none where no list stands there."""
    given = document.at(place)
    if isinstance(given, list):
        yield from ((*place, position) for position in range(len(given)))


def brief_references(
    document: Document, metrics: Collection[str], measures: Collection[str]
) -> list[Problem]:
    """Names in a brief that point nowhere: metrics and covariates.

    Looks at the document, not the parsed brief, so that other mistakes do not hide these. A brief over a
    unit table names its own metrics and covariates.
    """
    table = document.at(("table",))
    covariate = "measure"
    if isinstance(table, dict):
        own, columns = table.get("metrics"), table.get("covariates")
        metrics = own if isinstance(own, dict) else ()
        measures = (
            [column for column in columns if isinstance(column, str)] if isinstance(columns, list) else ()
        )
        covariate = "column among table.covariates"
    places = [("primary",), *entries(document, ("secondary",))]
    places += [(*guardrail, "metric") for guardrail in entries(document, ("guardrails",))]
    places += entries(document, ("counter_metrics",))
    found = [unknown_name(document, place, "metric", metrics) for place in places]
    covariates = entries(document, ("variance_reduction", "covariates"))
    found += [unknown_name(document, place, covariate, measures) for place in covariates]
    return [problem for problem in found if problem is not None]


def brief_sense(brief: Brief, document: Document, measures: Mapping[str, Measure]) -> Iterator[Problem]:
    """Fields of one valid brief that do not fit each other or the world."""
    stem = document.path.stem
    if brief.name != stem:
        yield document.problem(
            ("name",), f"differs from the file's name `{document.path.name}`", allowed=stem
        )
    zones = _zones()
    if brief.time_zone not in zones:
        hint, _ = choices(brief.time_zone, zones)
        yield document.problem(
            ("time_zone",), f"is not a time zone{hint}", allowed="an IANA name, such as Europe/Paris"
        )
    for position in range(1, len(brief.looks)):
        if brief.looks[position] <= brief.looks[position - 1]:
            yield document.problem(
                ("looks", position), f"must come after the look before it, {brief.looks[position - 1]}"
            )
    for position, day in enumerate(brief.blackout_days):
        if not brief.start <= day < brief.end:
            allowed = f"from {brief.start} to the day before {brief.end}"
            yield document.problem(
                ("blackout_days", position), "lies outside the experiment", allowed=allowed
            )
    for position in range(1, len(brief.ramp)):
        if brief.ramp[position].traffic <= brief.ramp[position - 1].traffic:
            before = brief.ramp[position - 1].traffic
            yield document.problem(
                ("ramp", position, "traffic"), f"must be more than the stage before it, {before:g}"
            )
    yield from population_problems(brief, document)
    yield from novelty_problems(brief, document)
    if brief.table is not None:
        return
    if brief.variance_reduction.method == "cuped" and "variance_reduction" in document.data:
        if not brief.variance_reduction.covariates:
            yield document.problem(
                ("variance_reduction", "covariates"),
                "cuped needs at least one measure",
                allowed="or method: none",
            )
        for position, name in enumerate(brief.variance_reduction.covariates):
            measure = measures.get(name)
            if measure is not None and measure.aggregate not in _COVARIATES:
                yield document.problem(
                    ("variance_reduction", "covariates", position),
                    f"a covariate is one number a unit, and {name} has aggregate {measure.aggregate}",
                    allowed=f"measures with aggregate {', '.join(_COVARIATES)}",
                )


@cache
def _zones() -> frozenset[str]:
    """The names of all time zones; looking them up walks through hundreds of files."""
    return frozenset(available_timezones() | {"UTC"})


def measure_references(
    document: Document, place: Place, event_names: Collection[str] | None
) -> list[Problem]:
    """Events of a measure that the taxonomy does not have (nothing is checked where it is not given)."""
    if event_names is None:
        return []
    found = [
        unknown_name(document, entry, "event", event_names) for entry in entries(document, (*place, "events"))
    ]
    return [problem for problem in found if problem is not None]


def source_references(document: Document) -> list[Problem]:
    """Files of a source that no landing file can be."""
    found: list[Problem] = []
    files = document.at(("files",))
    allowed = "a glob below the landing folder, such as received_date=*/tutor/*.ndjson*"
    if isinstance(files, str) and "://" in files:
        found.append(
            document.problem(
                ("files",), "is a URL, and files are read from the landing folder only", allowed=allowed
            )
        )
    elif isinstance(files, str) and (
        files.startswith(("/", "~")) or "\\" in files or ".." in files.split("/")
    ):
        found.append(document.problem(("files",), "points outside the landing folder", allowed=allowed))
    elif isinstance(files, str) and not files.startswith((RECEIVED, "*", "?", "[")):
        found.append(
            document.problem(
                ("files",),
                "matches no landing file: their paths begin with received_date=YYYY-MM-DD/",
                allowed=f"such as received_date=*/{files}",
            )
        )
    return found
