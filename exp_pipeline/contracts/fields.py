"""The canonical columns as other rooms ask for them: what a producer may send, what the pipeline adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from exp_pipeline.contracts.canonical import CANONICAL
from exp_pipeline.contracts.canonical.columns import CanonicalColumn, ColumnType
from exp_pipeline.contracts.canonical.envelope import ENVELOPE

FieldType = ColumnType

_SQL_TYPES: dict[FieldType, str] = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP",
}

_BOUNDS = {
    "ge": ">=",
    "gt": ">",
    "le": "<=",
    "lt": "<",
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One canonical column: its logical type, meaning, unit, a sample value, and what may stand in it.

    `required`: no event may leave it empty. `identifier`: an id of a person or an organisation, which the
    door replaces by an HMAC. `derived`: computed by the pipeline, a producer does not send it. `reduces`: the
    raw text of which the column keeps a hash, a length or a language. `allowed`: the values that may stand in
    it, empty where it is free. `range`: its bounds, such as "0 to 1". `sunset`: last day (ISO) of a
    deprecated column.
    """

    name: str
    type: FieldType
    description: str
    unit: str
    sample: str | int | float | bool | datetime
    envelope: bool
    required: bool
    identifier: bool
    derived: bool
    reduces: str | None
    allowed: tuple[str, ...] = ()
    range: str = ""
    sunset: str | None = None


def allowed_values(column: CanonicalColumn) -> tuple[str, ...]:
    """Which values may stand in a column; empty where it is free."""
    return tuple(column.checks.get("isin", ()))


def range_of(column: CanonicalColumn) -> str:
    """The bounds of a column in words, such as `0 to 1` or `> 0 and <= 1`; empty where it has none."""
    bounds = {name: _shown(value) for name, value in column.checks.items() if name in _BOUNDS}
    if set(bounds) == {"ge", "le"}:
        return f"{bounds['ge']} to {bounds['le']}"
    return " and ".join(f"{_BOUNDS[name]} {value}" for name, value in bounds.items())


def _shown(bound: object) -> str:
    if isinstance(bound, datetime):
        return f"{bound:%Y-%m-%d}"
    return f"{bound:,.10g}" if isinstance(bound, int | float) else str(bound)


@cache
def _specs() -> dict[str, FieldSpec]:
    envelope = {column.name for column in ENVELOPE}
    return {
        column.name: FieldSpec(
            name=column.name,
            type=column.type,
            description=column.description,
            unit=column.unit,
            sample=column.sample,
            envelope=column.name in envelope,
            required=column.always,
            identifier=column.identifier,
            derived=column.derived,
            reduces=column.reduces,
            allowed=allowed_values(column),
            range=range_of(column),
            sunset=column.sunset,
        )
        for column in CANONICAL
    }


class _Fields(Mapping[str, FieldSpec]):
    """A read-only mapping of those columns that are (or are not) derived."""

    def __init__(self, derived: bool) -> None:
        self._derived = derived

    def _chosen(self) -> dict[str, FieldSpec]:
        return {name: spec for name, spec in _specs().items() if spec.derived == self._derived}

    def __getitem__(self, name: str) -> FieldSpec:
        return self._chosen()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen())

    def __len__(self) -> int:
        return len(self._chosen())


FIELDS: Mapping[str, FieldSpec] = _Fields(derived=False)
"""What a producer may send, by name, in the one order in which the columns are written everywhere."""

DERIVED: Mapping[str, FieldSpec] = _Fields(derived=True)
"""What the pipeline adds before the contract is checked: `occurred_at`."""


@dataclass(frozen=True, slots=True)
class ReducedText:
    """A raw text field that never reaches a table, and the columns that keep what is left of it."""

    name: str
    hmac: str
    chars: str
    language: str


def reduced_texts() -> tuple[ReducedText, ...]:
    """Which raw text fields does the door reduce, and to which columns?"""
    names = dict.fromkeys(spec.reduces for spec in FIELDS.values() if spec.reduces is not None)
    texts = []
    for name in names:
        columns = {spec.name.rsplit("_", 1)[1]: spec.name for spec in FIELDS.values() if spec.reduces == name}
        texts.append(ReducedText(name, columns["hmac"], columns["chars"], columns["language"]))
    return tuple(texts)


def raw_text() -> tuple[str, ...]:
    """Which fields hold raw text, that is: prompt, completion, answer_text, feedback_text."""
    return tuple(text.name for text in reduced_texts())


def identifiers() -> tuple[str, ...]:
    """Which columns hold ids of people or organisations, in column order?"""
    return tuple(spec.name for spec in FIELDS.values() if spec.identifier)


def sql_types(*, derived: bool = False) -> dict[str, str]:
    """Which DuckDB type has each column a producer may send?

    With `derived`, what the pipeline adds follows after them. TIMESTAMP is UTC in microseconds.
    """
    specs = [*FIELDS.values(), *(DERIVED.values() if derived else ())]
    return {spec.name: _SQL_TYPES[spec.type] for spec in specs}
