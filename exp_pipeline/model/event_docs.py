"""Events of the taxonomy in words: what the contracts tell and the catalogue prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

SentValue = str | int | float | bool | datetime


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field of one version of an event.

    `required`: this version must fill it; `always`: every event must. `envelope`: any event may carry it.
    `own`: it has a meaning particular to the event. `allowed`: the values or the range that may stand in it,
    empty where it is free. `since`: the minor version that added it, None for the first. `sunset`: its last
    day (ISO), where it is deprecated. `read_as`: the SQL expression by which it is read as the column of that
    name in the table of events, None where it is read as it is.
    """

    name: str
    type: str
    required: bool
    always: bool
    envelope: bool
    own: bool
    meaning: str
    unit: str
    allowed: str
    sample: str
    since: str | None = None
    sunset: str | None = None
    read_as: str | None = None


@dataclass(frozen=True, slots=True)
class RuleDoc:
    """One rule between the fields of an event: an SQL expression that good rows fulfil, and what it says."""

    name: str
    expression: str
    meaning: str


@dataclass(frozen=True, slots=True)
class EventDoc:
    """One event of the taxonomy in one major version, with a sample payload that keeps the contract.

    `version` is the newest of the major version, `newest`: no higher major version can be read. `sample`
    holds typed values (times as UTC datetimes without zone); `sample_json` is the same payload as a producer
    sends it, one JSON object. `metrics` are the names of the metrics that use the event, if told. `sunset` is
    the version's last day (ISO), `replaced_by` what to send instead.
    """

    name: str
    major: int
    version: str
    newest: bool
    owner: str
    meaning: str
    fields: tuple[FieldDoc, ...]
    rules: tuple[RuleDoc, ...]
    sample: Mapping[str, SentValue]
    sample_json: str
    metrics: tuple[str, ...]
    sunset: str | None
    replaced_by: str | None

    @property
    def summary(self) -> str:
        """The first sentence of what it states."""
        return self.meaning.split("\n\n", 1)[0]
