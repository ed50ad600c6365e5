"""The column dictionary of a snapshot: what every column means, in which unit, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from exp_pipeline.catalog import Catalog
from exp_pipeline.contracts.table_columns import column_docs
from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.metrics import (
    Measure,
    Metric,
    denominator_column,
    included_column,
    mature_column,
    numerator_column,
    pre_column,
    score_column,
    step_column,
    values_column,
)
from exp_pipeline.steps.context import Workbench
from exp_pipeline.store.engine import text_literal
from exp_pipeline.store.marts import Marts

COLUMNS = "columns.json"
File = Literal["mad", "weeks", "days"]

_UNITS = {"sum": "sum of {of}", "max": "largest {of}", "min": "smallest {of}", "distinct": "different {of}"}
_COVARIATE_UNITS = {"distinct": "different values", "values": "mean", "first": "days", "last": "days"}
_SOURCES = {
    "exposed": "exposures",
    "first_exposed_at": "exposures",
    "exposures": "exposures",
    "observed_days": "unit_days",
}
_WEEK_COLUMNS = {
    "week": ("Week since the unit's assignment, from 0; the assignment day is the first of week 0.", "weeks"),
    "first_day": ("First day of that week (UTC).", "day"),
    "complete": ("Whether the data reach the end of that week.", "yes or no"),
    "observed_days": ("Days of that week on which the unit did anything.", "days"),
}


class ColumnNote(Noun):
    """One column of a snapshot's file.

    `provenance` says what it is made from: the source `table`, and where it applies the `metric` and
    `measures` with the digests of their definitions (so that two snapshots can be compared).
    """

    file: File
    name: str
    type: str
    unit: str
    definition: str
    provenance: dict[str, str | dict[str, str]]


def file_columns(bench: Workbench, path: Path) -> dict[str, str]:
    """The columns of a Parquet file with their SQL types, in order."""
    described = bench.engine.connection.execute(
        f"describe select * from read_parquet({text_literal(str(path))}, hive_partitioning = false)"
    ).fetchall()
    return {str(row[0]): str(row[1]) for row in described}


def dictionary_of(
    catalog: Catalog, brief: Brief, covariates: Sequence[Measure], columns: Mapping[File, Mapping[str, str]]
) -> list[dict[str, object]]:
    """What each column of a snapshot's files means, in the files' own order, as plain data.

    columns: file -> column -> SQL type. Raises ExpError for a column that nothing defines: a dataset without
    meaning is not written.
    """
    known: dict[File, dict[str, _Entry]] = {
        "mad": {**_fixed(), **_of_metrics(catalog, brief), **_of_covariates(covariates, brief)},
        "weeks": {**_fixed(), **_of_weeks(), **_of_metrics(catalog, brief)},
        "days": {**_fixed(), **_of_days(catalog.measures_of(brief).values())},
    }
    notes: list[dict[str, object]] = []
    for file, types in columns.items():
        for name, kind in types.items():
            if name not in known[file]:
                raise ExpError(f"column {name} of {file} has no definition")
            entry = known[file][name]
            note = ColumnNote(
                file=file,
                name=name,
                type=kind,
                unit=entry.unit,
                definition=entry.definition,
                provenance=entry.provenance,
            )
            notes.append(note.model_dump(mode="json"))
    return notes


def read_dictionary(bench: Workbench, experiment: str, snapshot: str | None = None) -> tuple[ColumnNote, ...]:
    """The column dictionary of a snapshot (the current one, unless named).

    Raises ExpError where there is no such snapshot, or none with a dictionary.
    """
    marts = Marts(bench.home.marts)
    name = snapshot or marts.current(experiment)
    path = marts.folder(experiment, name) / COLUMNS if name else None
    if path is None or not path.is_file():
        raise ExpError(
            f"no column dictionary for {experiment}, snapshot {name or '(none)'}; materialize `mad` first"
        )
    return tuple(ColumnNote.model_validate(note) for note in json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class _Entry:
    unit: str
    definition: str
    provenance: dict[str, str | dict[str, str]]


def _fixed() -> dict[str, _Entry]:
    kinds = {"BOOLEAN": "yes or no", "TIMESTAMP": "UTC time", "DATE": "day", "BIGINT": "number"}
    return {
        doc.name: _Entry(
            kinds.get(doc.sql_type, "text"), doc.description, {"table": _SOURCES.get(doc.name, "units")}
        )
        for doc in column_docs("mad")
    }


def _of_weeks() -> dict[str, _Entry]:
    return {
        name: _Entry(unit, text, {"table": "unit_days" if name == "observed_days" else "units"})
        for name, (text, unit) in _WEEK_COLUMNS.items()
    }


def _of_days(measures: Iterable[Measure]) -> dict[str, _Entry]:
    found = {"event_date": _Entry("day", "UTC day, from the assignment day on.", {"table": "unit_days"})}
    for measure in measures:
        found[measure.name] = _Entry(
            unit_of(measure), measure.description, {"table": "unit_days", "measures": _digests([measure])}
        )
    return found


def _of_covariates(covariates: Iterable[Measure], brief: Brief) -> dict[str, _Entry]:
    days = brief.variance_reduction.pre_days
    found = {}
    for measure in covariates:
        table = "learner_days" if measure.over == "events" else "sessions"
        found[pre_column(measure.name)] = _Entry(
            _COVARIATE_UNITS.get(measure.aggregate, unit_of(measure)),
            f"Over the {days} days before the assignment day: {measure.description} "
            "Null where the unit was not seen in them.",
            {"table": table, "measures": _digests([measure])},
        )
    return found


def _of_metrics(catalog: Catalog, brief: Brief) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for metric in catalog.dataset_metrics(brief).values():
        measures = {name: catalog.measures[name] for name in metric.measures()}
        provenance: dict[str, str | dict[str, str]] = {
            "metric": metric.name,
            "metric_digest": metric.digest()[:12],
            "measures": _digests(measures.values()),
            "table": "unit_days",
        }
        if metric.parts:
            provenance["parts"] = {
                part.metric: catalog.metrics[part.metric].digest()[:12] for part in metric.parts
            }
        for name, (unit, text) in columns_of_metric(metric, measures).items():
            found[name] = _Entry(unit, f"{metric.title}: {text}", provenance)
    return found


def columns_of_metric(metric: Metric, measures: Mapping[str, Measure]) -> dict[str, tuple[str, str]]:
    """Unit and meaning of each column that one metric may have in the dataset, by name."""
    name, window = metric.name, _window(metric)
    found: dict[str, tuple[str, str]] = {}
    if metric.estimand == "quantile":
        measure = measures[metric.numerator or ""]
        bins = measure.aggregate == "histogram"
        held = (
            "how many values lie from low up to high, by bin; add up bins that come twice"
            if bins
            else ("every single value, sorted")
        )
        found[values_column(name)] = (unit_of(measure), f"{held}, {window}. {measure.description}")
    else:
        found[numerator_column(name)] = _value(metric, measures, window)
    if metric.denominator is not None:
        measure = measures[metric.denominator]
        found[denominator_column(name)] = (unit_of(measure), f"denominator, {window}. {measure.description}")
    for place, step in enumerate(metric.steps, start=1):
        text = f"whether the unit took step {place} ({step}) after those before it, {window}."
        found[step_column(name, place)] = ("yes or no", text)
    if metric.pre is not None and metric.post is not None:
        found[score_column(name, "pre")] = (
            "score",
            f"the score {metric.pre_taken} assignment that comes first.",
        )
        found[score_column(name, "post")] = ("score", f"the score that comes second, {window}.")
    found[mature_column(name)] = ("yes or no", "whether the unit has had the whole window.")
    told = " and ".join(
        text
        for text in (
            f"include: {metric.include}" if metric.include else "",
            f"exclude: {metric.exclude}" if metric.exclude else "",
        )
        if text
    )
    found[included_column(name)] = ("yes or no", f"whether the unit counts ({told or 'as its parts say'}).")
    return found


def _window(metric: Metric) -> str:
    if metric.type == "first_time_to":
        return f"at most {metric.window_days} times 24 hours after assignment"
    first = f"from day {metric.from_day}" if metric.from_day else "from the moment of assignment"
    return f"{first} to the end of day {metric.window_days - 1}" if metric.window_days else f"{first} on"


def _value(metric: Metric, measures: Mapping[str, Measure], window: str) -> tuple[str, str]:
    """Unit and meaning of the numerator column."""
    if metric.type == "funnel":
        return "1 or 0", f"1 where the unit took every step in order, {window}. {metric.definition}"
    if metric.type == "first_time_to":
        unit = metric.time_unit
        return unit, f"{unit} from assignment to the first time, the whole window where it never came."
    if metric.type == "gain":
        return (
            "share of what was left to gain",
            f"(post - pre) / ({metric.highest:g} - pre); null without both scores, or with pre at the top.",
        )
    if metric.type == "composite":
        parts = "; ".join(
            f"{part.weight:g} x {part.metric} from {part.worst:g} (0) to {part.best:g} (1), {part.because}"
            for part in metric.parts
        )
        return "0 to 1", f"weighted mean of {parts}"
    measure = measures[metric.numerator or ""]
    counted = " Units above zero count." if metric.estimand == "proportion" else ""
    return unit_of(measure), f"numerator, {window}. {measure.description}{counted}"


def unit_of(measure: Measure) -> str:
    """The unit of a measure, in words."""
    if measure.aggregate == "count":
        return measure.over
    if measure.aggregate in ("first", "last"):
        return "UTC time"
    return _UNITS.get(measure.aggregate, "{of}").format(of=measure.of)


def _digests(measures: Iterable[Measure]) -> dict[str, str]:
    return {measure.name: measure.definition_digest()[:12] for measure in measures}
