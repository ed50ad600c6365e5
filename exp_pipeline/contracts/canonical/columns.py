"""What is said of one canonical column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

ColumnType = Literal["string", "integer", "float", "boolean", "timestamp"]
Sample = str | int | float | bool | datetime


@dataclass(frozen=True, slots=True)
class CanonicalColumn:
    """One canonical column: logical type, meaning, unit, a sample value, pandera's checks on it.

    `always`: never null, on any event. `identifier`: an id of a person or an organisation, which the door
    replaces by an HMAC. `derived`: computed by the pipeline, not sent by a producer. `reduces`: the raw text
    field of which this column keeps a hash, a length or a language. `sunset`: last day (ISO) of a deprecated
    column. `checks`: keyword arguments of `pandera.Field` (ge, le, isin, ne, ...).
    """

    name: str
    type: ColumnType
    description: str
    sample: Sample
    unit: str
    always: bool
    identifier: bool
    derived: bool
    reduces: str | None
    sunset: str | None
    checks: Mapping[str, Any]


def column(
    name: str,
    type: ColumnType,
    description: str,
    *,
    sample: Sample,
    unit: str = "",
    always: bool = False,
    filled: bool = False,
    identifier: bool = False,
    derived: bool = False,
    reduces: str | None = None,
    sunset: str | None = None,
    **checks: Any,
) -> CanonicalColumn:
    """What is one canonical column? `filled`: the empty string is refused."""
    if filled:
        checks["ne"] = ""
    return CanonicalColumn(
        name,
        type,
        description,
        sample,
        unit,
        always,
        identifier,
        derived,
        reduces,
        sunset,
        MappingProxyType(checks),
    )
