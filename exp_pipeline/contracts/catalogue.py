"""The event catalogue: every event of the taxonomy as data and as Markdown, read off the contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from exp_pipeline.contracts.events import EventSpec, RuleSpec, event_specs
from exp_pipeline.contracts.fields import FIELDS, FieldSpec, FieldType

Value = str | int | float | bool | datetime


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field of one event, in words.

    `own`: it has a meaning particular to the event. `allowed`: the values or the range that may stand in it,
    empty where it is free.
    """

    name: str
    type: FieldType
    required: bool
    envelope: bool
    own: bool
    meaning: str
    unit: str
    allowed: str
    sample: str


@dataclass(frozen=True, slots=True)
class EventDoc:
    """One event of the taxonomy in one major version, with a sample payload that keeps the contract.

    `sample` holds typed values (times as UTC datetimes without zone); `sample_json` is the same payload as a
    producer sends it, one JSON object. `metrics` are the names of the metrics that use the event, if told.
    """

    name: str
    major: int
    owner: str
    meaning: str
    fields: tuple[FieldDoc, ...]
    rules: tuple[RuleSpec, ...]
    sample: Mapping[str, Value]
    sample_json: str
    metrics: tuple[str, ...]
    sunset: str | None


def event_catalogue(metrics: Mapping[str, Sequence[str]] | None = None) -> tuple[EventDoc, ...]:
    """What is every event, which fields has it, who owns it, what does it look like?

    `metrics` maps an event name to the metrics that use it; ValueError for an event outside the taxonomy.
    """
    used = dict(metrics or {})
    specs = event_specs()
    unknown = sorted(set(used) - {spec.name for spec in specs})
    if unknown:
        raise ValueError(f"metrics name events that are not in the taxonomy: {', '.join(unknown)}")
    return tuple(_event_doc(spec, tuple(used.get(spec.name, ()))) for spec in specs)


def catalogue_markdown(docs: Sequence[EventDoc]) -> str:
    """The catalogue as one Markdown page: the shared envelope once, then one section for each event."""
    if not docs:
        return "# Event catalogue\n\nNo events.\n"
    shared = [rule for rule in docs[0].rules if all(rule in doc.rules for doc in docs)]
    parts = [
        "# Event catalogue",
        "",
        "Generated from the contracts. Times are UTC. Ids of people and organisations are replaced by an "
        "HMAC at the door, raw text by its hash, length and language.",
        "",
        "## Envelope",
        "",
        "Every event may carry these fields, and keeps the rules below them.",
        "",
        *_table([field for field in docs[0].fields if field.envelope], everywhere=True),
        "",
        *_rules(shared),
    ]
    for doc in docs:
        parts += ["", f"## {doc.name}", "", doc.meaning, "", f"Version {doc.major}, owned by {doc.owner}."]
        if doc.sunset is not None:
            parts.append(f"Deprecated; it can be sent until {doc.sunset}.")
        if doc.metrics:
            parts.append("Used by " + ", ".join(f"`{metric}`" for metric in doc.metrics) + ".")
        own_rules = [rule for rule in doc.rules if rule not in shared]
        parts += ["", *_table([field for field in doc.fields if field.own])]
        if own_rules:
            parts += ["", *_rules(own_rules)]
        parts += ["", "```json", doc.sample_json, "```"]
    return "\n".join(parts) + "\n"


def _rules(rules: Sequence[RuleSpec]) -> list[str]:
    return [f"- `{rule.name}`: {rule.meaning} (`{rule.expression}`)" for rule in rules]


def _event_doc(spec: EventSpec, metrics: tuple[str, ...]) -> EventDoc:
    named = {*spec.required, *spec.optional}
    chosen = [field for field in FIELDS.values() if field.name in named]
    sample: dict[str, Value] = {}
    for field in chosen:
        if field.name not in spec.required and field.name not in spec.own:
            continue
        changed = spec.changed.get(field.name)
        value = spec.sample.get(field.name, changed.sample if changed is not None else field.sample)
        if value is not None:
            sample[field.name] = value
    sample |= {"event_name": spec.name, "schema_version": f"{spec.major}.{spec.minor}"}
    text = {name: _sent(value) for name, value in sample.items()}
    return EventDoc(
        name=spec.name,
        major=spec.major,
        owner=spec.owner,
        meaning=spec.description,
        fields=tuple(_field_doc(field, spec) for field in chosen),
        rules=spec.rules,
        sample=sample,
        sample_json=json.dumps(text, indent=2, ensure_ascii=False),
        metrics=metrics,
        sunset=spec.sunset,
    )


def _field_doc(field: FieldSpec, spec: EventSpec) -> FieldDoc:
    meaning = field.description
    if field.reduces is not None:
        meaning += f" A producer may send the text itself as `{field.reduces}`; the door reduces it."
    if field.identifier:
        meaning += " Replaced by an HMAC at the door."
    if field.sunset is not None:
        meaning += f" Deprecated; it can be sent until {field.sunset}."
    return FieldDoc(
        name=field.name,
        type=field.type,
        required=field.name in spec.required,
        envelope=field.envelope,
        own=field.name in spec.own,
        meaning=meaning,
        unit=field.unit,
        allowed=", ".join(field.allowed) or field.range,
        sample=str(_sent(field.sample)),
    )


def _sent(value: Value) -> str | int | float | bool:
    return value.isoformat(timespec="milliseconds") + "Z" if isinstance(value, datetime) else value


def _table(fields: Sequence[FieldDoc], *, everywhere: bool = False) -> list[str]:
    """A Markdown table of fields; with `everywhere`, required is what every event must fill."""
    rows = [
        "| field | type | required | meaning | unit | allowed | sample |",
        "|---|---|---|---|---|---|---|",
    ]
    for field in fields:
        cells = [
            f"`{field.name}`",
            field.type,
            "yes" if (FIELDS[field.name].required if everywhere else field.required) else "",
            field.meaning,
            field.unit,
            field.allowed,
            f"`{field.sample}`",
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows
