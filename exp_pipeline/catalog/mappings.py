"""Whether the mappings of sources speak of columns, fields and values that exist, and fill what they must."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final
from zoneinfo import available_timezones

from exp_pipeline.catalog.contents import Catalog
from exp_pipeline.catalog.documents import Document, Place, choices
from exp_pipeline.catalog.expressions import TYPES, expression_fault, wrong_type
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.sources import EventRule, Filling, Source

# Functions that mappings may call beside those of every expression: raw rows hold lists and JSON.
SOURCE_FUNCTIONS: Final[Mapping[str, str]] = {
    "array_length": "ArraySize", "attribute": "Anonymous", "flatten": "Flatten",
    "json_array_length": "Anonymous", "json_exists": "Anonymous", "json_type": "JSONType",
    "list_extract": "Anonymous", "list_position": "Anonymous", "list_value": "Array", "lpad": "Pad",
    "make_timestamp_us": "Anonymous",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventFields:
    """What mappings may fill, told by the contracts.

    `types`: SQL type of each field that a producer may send, raw texts included. `required`: the fields that
    an event must fill, by event. `allowed`: the values of fields that have a list of them. `reduced`: the
    columns that the door makes of a raw text, by the text's field.
    """

    types: Mapping[str, str]
    required: Mapping[str, Sequence[str]]
    allowed: Mapping[str, Sequence[str]]
    reduced: Mapping[str, Sequence[str]]


def check_mappings(catalog: Catalog, fields: EventFields) -> tuple[Problem, ...]:
    """What is wrong with the mappings of a catalog's sources, all of it, each with file, line and value."""
    problems: list[Problem] = []
    for source in catalog.sources:
        problems += mapping_problems(source, catalog.origins["source", source.name].document, fields)
    return tuple(problems)


def mapping_problems(source: Source, document: Document, fields: EventFields) -> Iterator[Problem]:
    """What is wrong with one source's mapping."""
    if source.identity:
        return
    for name, kind in source.columns.items():
        yield from _column_problems(name, kind, document)
    for place, text in source.expressions():
        fault = expression_fault(text, source.columns, functions=SOURCE_FUNCTIONS)
        if fault is not None:
            yield document.problem(place, fault[0], allowed=fault[1])
    levels: list[tuple[Place, Filling]] = [((), source)]
    levels += [(("events", position), rule) for position, rule in enumerate(source.events)]
    for place, level in levels:
        yield from _filling_problems(level, document, place, fields)
    yield from _value_problems(source, document, fields)
    yield from _zone_problems(source, document, fields)
    yield from _event_problems(source, document, fields)


def _column_problems(name: str, kind: str, document: Document) -> Iterator[Problem]:
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    place: Place = ("columns", name)
    if any(character in '"\\' or not character.isprintable() for character in name):
        yield document.problem(
            place, "a column's name must hold no quote, backslash or control character", value=name
        )
    try:
        parsed = exp.DataType.build(kind, dialect="duckdb")
        known = all(wrong_type(node) is None for node in parsed.find_all(exp.DataType))
    except (SqlglotError, ValueError):
        known = False
    if not known:
        hint, _ = choices(kind.upper(), TYPES)
        yield document.problem(
            place, f"is not a type of a raw column{hint}", allowed=", ".join(sorted(TYPES))
        )


def _filling_problems(
    level: Filling, document: Document, place: Place, fields: EventFields
) -> Iterator[Problem]:
    for section, names in (("constants", level.constants), ("fields", level.fields)):
        for name in names:
            at = (*place, section, name)
            if name == "event_name":
                yield document.problem(
                    at, "is not filled here", allowed="`event_name` in an entry of `events`, or `event_names`"
                )
            elif name not in fields.types:
                hint, allowed = choices(name, fields.types)
                yield document.problem(at, f"is not a field of an event{hint}", allowed=allowed, value=name)
    for name, value in level.constants.items():
        yield from _unfit_value(document, (*place, "constants", name), name, value, fields)


def _value_problems(source: Source, document: Document, fields: EventFields) -> Iterator[Problem]:
    filled = source.filled().union(*(source.filled(rule) for rule in source.events)) - {"event_name"}
    for name, replacements in source.values.items():
        at: Place = ("values", name)
        if name not in filled:
            hint, allowed = choices(name, filled)
            yield document.problem(at, f"no rule fills this field{hint}", allowed=allowed, value=name)
            continue
        for raw, ours in replacements.items():
            yield from _unfit_value(document, (*at, raw), name, ours, fields)


def _unfit_value(
    document: Document, place: Place, name: str, value: object, fields: EventFields
) -> Iterator[Problem]:
    """A value written out that can never be one of its field."""
    allowed, kind = fields.allowed.get(name, ()), fields.types.get(name, "VARCHAR")
    if allowed and str(value) not in allowed:
        hint, listed = choices(str(value), allowed)
        yield document.problem(place, f"is not a value of {name}{hint}", allowed=listed)
        return
    text = str(value).strip().lower()
    number = not isinstance(value, bool) and _is_number(text)
    if (kind in ("BIGINT", "DOUBLE") and not number) or (
        kind == "BOOLEAN" and text not in ("true", "false", "1", "0")
    ):
        wanted = {"BIGINT": "a whole number", "DOUBLE": "a number", "BOOLEAN": "true, false"}[kind]
        yield document.problem(place, f"does not fit {name}", allowed=wanted)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@cache
def _zones() -> frozenset[str]:
    """The time zones that a source may name: looked up in the file system once."""
    return frozenset(available_timezones() | {"UTC"})


def _zone_problems(source: Source, document: Document, fields: EventFields) -> Iterator[Problem]:
    zones = _zones()
    written: list[tuple[Place, str]] = [(("time_zone",), source.time_zone)]
    written += [(("time_zones", name), zone) for name, zone in source.time_zones.items()]
    for place, zone in written:
        if zone not in zones:
            hint, _ = choices(zone, zones)
            yield document.problem(
                place, f"is not a time zone{hint}", allowed="an IANA name, such as Europe/Paris"
            )
    times = [name for name, kind in fields.types.items() if kind == "TIMESTAMP"]
    for name in source.time_zones:
        if name not in times:
            hint, allowed = choices(name, times)
            yield document.problem(
                ("time_zones", name), f"is not a time of an event{hint}", allowed=allowed, value=name
            )


def _event_problems(source: Source, document: Document, fields: EventFields) -> Iterator[Problem]:
    """Events outside the taxonomy, and those of which every one would lack a field its contract requires."""
    made: list[tuple[Place, str, EventRule | None]] = [
        (("events", position, "event_name"), rule.event_name, rule)
        for position, rule in enumerate(source.events)
    ]
    made += [(("event_names", raw), name, None) for raw, name in source.event_names.items()]
    for place, name, rule in made:
        if name not in fields.required:
            hint, allowed = choices(name, fields.required)
            yield document.problem(place, f"unknown event{hint}", allowed=allowed)
            continue
        filled = set(source.filled(rule))
        for text in fields.reduced:
            if text in filled:
                filled |= set(fields.reduced[text])
        missing = [one for one in fields.required.get(name, ()) if one not in filled]
        if missing:
            yield document.problem(
                place,
                f"every {name} would be quarantined: nothing fills {', '.join(missing)}",
                allowed="a line for each in `fields` or `constants`, of the source or of this event",
            )
