"""The taxonomy of events as plain data, and the way to the pandera model of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exp_pipeline.contracts.canonical.columns import CanonicalColumn
    from exp_pipeline.contracts.models.row import CanonicalEvent


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A cross-field rule: an SQL expression that is true or unknown on every good row, and what it says."""

    name: str
    expression: str
    meaning: str


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event of the taxonomy in one major version, with all that its minor versions added.

    `minor` is the newest minor version, `since` the version that added a column, for those it did not have
    from the start.
    `required` are the columns it must fill, `optional` those it may fill, envelope included in both; `own`
    are those of either that have a meaning particular to it; all in column order. `rules` are the cross-field
    rules it must keep. `sample` overrides the columns' sample values where those do not fit together (None:
    left out). `changed` are columns with another meaning than in the canonical row, and `reads` gives for
    each the SQL expression, over the columns as sent, that is the canonical one. `deprecated` maps columns to
    the last day (ISO) they should be sent, `sunset` is that day of the version itself, `replaced_by` says
    what to send instead.
    """

    name: str
    major: int
    minor: int
    owner: str
    description: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    own: tuple[str, ...]
    since: Mapping[str, str]
    rules: tuple[RuleSpec, ...]
    sample: Mapping[str, str | int | float | bool | datetime | None]
    changed: Mapping[str, CanonicalColumn]
    reads: Mapping[str, str]
    deprecated: Mapping[str, str]
    sunset: str | None
    replaced_by: str | None

    @property
    def version(self) -> str:
        """The newest version, major.minor."""
        return f"{self.major}.{self.minor}"


@cache
def _models() -> dict[tuple[str, int], type[CanonicalEvent]]:
    from exp_pipeline.contracts.models import base, v1, v2

    models: dict[tuple[str, int], type[CanonicalEvent]] = {}
    for model in (*v1.EVENTS, *v2.EVENTS):
        stated = base.facts(model)
        key = (stated["name"], stated["major"])
        if key in models:
            raise ValueError(f"event {key[0]} has two models of major version {key[1]}")
        models[key] = model
    return models


def event_model(event_name: str, major: int = 1) -> type[CanonicalEvent]:
    """Which pandera model is the contract of this event?

    Raises ValueError for a name or version outside the taxonomy.
    """
    models = _models()
    if (event_name, major) in models:
        return models[event_name, major]
    majors = [version for name, version in models if name == event_name]
    if majors:
        raise ValueError(f"event {event_name} has no major version {major}; it has {majors}")
    raise ValueError(f"event_name {event_name!r} is not in the taxonomy; allowed: {', '.join(event_names())}")


_READING = RLock()
_SCHEMAS: dict[type, Any] = {}


def schema_of(model: type[Any]) -> Any:
    """Which pandera schema is this model? Read once, by one thread, and shared by all.

    Pandera reads a model's checks from the class and removes them there while it does; two threads that read
    one model for the first time would each get a part.
    """
    with _READING:
        if model not in _SCHEMAS:
            _SCHEMAS[model] = model.to_schema()
        return _SCHEMAS[model]


@cache
def event_names() -> tuple[str, ...]:
    """Which events are in the taxonomy, in its order?"""
    return tuple(dict.fromkeys(name for name, _ in _models()))


def event_majors(event_name: str) -> tuple[int, ...]:
    """Which major versions of an event can be read, oldest first? Raises ValueError for an unknown name."""
    majors = tuple(sorted(major for name, major in _models() if name == event_name))
    if not majors:
        event_model(event_name)
    return majors


@cache
def event_spec(event_name: str, major: int = 1) -> EventSpec:
    """What does this event state, who owns it, and which columns and rules has it?"""
    from exp_pipeline.contracts.models.base import facts

    model = event_model(event_name, major)
    schema, stated = schema_of(model), facts(model)
    envelope = set(_envelope())
    optional = {name for name in stated["also"]} | envelope
    unknown = optional - set(schema.columns)
    if unknown:
        raise ValueError(f"event {event_name}: {sorted(unknown)} are no canonical columns")
    strange = {*stated["changed"]} ^ {*stated["reads"]} | {*stated["deprecated"]} - optional
    if strange:
        raise ValueError(
            f"event {event_name} {major}: {sorted(strange)} must be columns of the event, and what "
            "is changed must say how it is read"
        )
    return EventSpec(
        name=event_name,
        major=major,
        minor=stated["minor"],
        owner=stated["owner"],
        description=schema.description or "",
        required=tuple(name for name, column in schema.columns.items() if not column.nullable),
        optional=tuple(
            name for name, column in schema.columns.items() if column.nullable and name in optional
        ),
        own=tuple(name for name in schema.columns if name in {*stated["always"], *stated["also"]}),
        since=stated["since"],
        rules=tuple(
            RuleSpec(check.name.removeprefix("rule:"), check.statistics["sql"], check.description)
            for check in schema.checks
            if check.name.startswith("rule:")
        ),
        sample=stated["sample"],
        changed=stated["changed"],
        reads=stated["reads"],
        deprecated=stated["deprecated"],
        sunset=stated["sunset"],
        replaced_by=stated["replaced_by"],
    )


def event_specs() -> tuple[EventSpec, ...]:
    """All events of the taxonomy, in its order, every major version."""
    return tuple(event_spec(name, major) for name in event_names() for major in event_majors(name))


@cache
def _envelope() -> tuple[str, ...]:
    from exp_pipeline.contracts.models.row import Envelope

    return tuple(schema_of(Envelope).columns)
