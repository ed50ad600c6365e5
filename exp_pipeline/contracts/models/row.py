"""The canonical row as pandera models, made from `contracts.canonical`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

from exp_pipeline.contracts.canonical.columns import CanonicalColumn, ColumnType, Sample
from exp_pipeline.contracts.canonical.envelope import ENVELOPE
from exp_pipeline.contracts.canonical.statement import STATEMENT
from exp_pipeline.contracts.models.base import (
    Rule,
    add_rules,
    column,
    redefine,
    require,
    rule_check,
    schema_column,
)

Timestamp = Annotated[pl.Datetime, "us", None]

_TYPES: dict[ColumnType, Any] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "timestamp": Timestamp,
}

VERSION_PATTERN = "^(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)$"
PAST_SUNSET = "past_sunset"

ROW_RULES = (
    Rule(
        "occurred_before_received",
        # The first half says nothing new: it spares nearly every row the arithmetic of the second.
        "received_at >= occurred_at OR received_at >= occurred_at - INTERVAL '5 minutes'",
        "An event happened at most five minutes after the server received it, once the skew rule is applied.",
    ),
    Rule(
        "score_le_max_score", "score <= max_score", "A score is at most the highest score that was possible."
    ),
    Rule("ttft_le_latency", "ttft_ms <= latency_ms", "The first token came no later than the whole answer."),
)


def _types(columns: Iterable[CanonicalColumn]) -> dict[str, Any]:
    return {one.name: _TYPES[one.type] for one in columns}


def _fields(columns: Iterable[CanonicalColumn]) -> dict[str, Any]:
    return {one.name: schema_column(one) for one in columns}


def _paragraphs(model: type) -> str:
    """What a model's docstring says, one line for each paragraph, an empty line between."""
    text = inspect.cleandoc(model.__doc__ or "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _within(sunset: str) -> Rule:
    after = date.fromisoformat(sunset) + timedelta(days=1)
    return Rule(
        "within_sunset",
        f"received_at < TIMESTAMP '{after.isoformat()} 00:00:00'",
        f"A row of this version was received by {sunset}, the version's last day.",
    )


class Envelope(pa.DataFrameModel):
    """What every event says or may say about itself: what, when, who, where."""

    __annotations__ = _types(ENVELOPE)
    vars().update(_fields(ENVELOPE))


class CanonicalEvent(Envelope):
    """What any event may say, whichever it is: one meaning, one type and one range for each column."""

    __annotations__ = _types(STATEMENT)
    vars().update(_fields(STATEMENT))

    def __init_subclass__(
        cls,
        *,
        event: str = "",
        major: int = 1,
        owner: str = "",
        replaced_by: str | None = None,
        always: tuple[str, ...] = (),
        also: tuple[str, ...] = (),
        since: Mapping[int, tuple[str, ...]] | None = None,
        changed: Mapping[str, CanonicalColumn] | None = None,
        reads: Mapping[str, str] | None = None,
        deprecated: Mapping[str, str] | None = None,
        rules: tuple[Rule, ...] = (),
        sample: dict[str, Sample | None] | None = None,
        sunset: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a model of one major version of an event.

        `always` must be filled, `also` may be, `rules` must hold. `since` tells which further columns each
        minor version added; those may be filled, never must. `changed` are columns that mean something else
        in this version than in the canonical row, and `reads` says how such a column is read as the canonical
        one: an SQL expression over the columns as sent, so that whoever reads events meets one meaning.
        `deprecated` maps a column of the event to the last day (ISO) it should be sent. `sunset` is the last
        day (ISO) on which rows of this version may be received, `replaced_by` what to send instead.
        """
        if event:
            for changed_name, changed_column in (changed or {}).items():
                redefine(cls, changed_name, schema_column(changed_column), _TYPES[changed_column.type])
            require(cls, always)
            minors = dict(since or {})
            minor = max(minors, default=0)
            name = column(f"Always {event}.", sample=event, always=True, eq=event)
            version = column(
                f"Version of this contract: {major}.minor.",
                sample=f"{major}.{minor}",
                always=True,
                str_matches=VERSION_PATTERN,
                str_startswith=f"{major}.",
            )
            cls.__annotations__ = {**cls.__annotations__, "event_name": str, "schema_version": str}
            for attribute, field in (("event_name", name), ("schema_version", version)):
                field.__set_name__(cls, attribute)
                setattr(cls, attribute, field)
            add_rules(lambda attribute, check: setattr(cls, attribute, check), (*ROW_RULES, *rules))
            if sunset is not None:
                cls.within_sunset = rule_check(_within(sunset), name=PAST_SUNSET)  # type: ignore[attr-defined]
            cls.Config = type(
                "Config",
                (CanonicalEvent.Config,),
                {
                    "name": event,
                    "description": _paragraphs(cls),
                    "metadata": {
                        "major": major,
                        "minor": minor,
                        "owner": owner,
                        "always": always,
                        "also": (*also, *(name for names in minors.values() for name in names)),
                        "since": {name: f"{major}.{n}" for n, names in minors.items() for name in names},
                        "sample": dict(sample or {}),
                        "changed": MappingProxyType(dict(changed or {})),
                        "reads": MappingProxyType(dict(reads or {})),
                        "deprecated": MappingProxyType(dict(deprecated or {})),
                        "replaced_by": replaced_by,
                        "sunset": sunset,
                    },
                },
            )
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
