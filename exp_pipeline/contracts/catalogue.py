"""The event catalogue: every version of every event of the taxonomy in words, read off the contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from exp_pipeline.contracts.events import EventSpec, event_majors, event_specs
from exp_pipeline.contracts.fields import FIELDS, FieldSpec, allowed_values, range_of
from exp_pipeline.model.event_docs import EventDoc, FieldDoc, RuleDoc, SentValue


def event_catalogue(metrics: Mapping[str, Sequence[str]] | None = None) -> tuple[EventDoc, ...]:
    """What is every event in every version, which fields has it, who owns it, what does it look like?

    In the order of the taxonomy, the newest version of an event first. `metrics` maps an event name to the
    metrics that use it; ValueError for an event outside the taxonomy.
    """
    used = dict(metrics or {})
    specs = event_specs()
    names = list(dict.fromkeys(spec.name for spec in specs))
    unknown = sorted(set(used) - set(names))
    if unknown:
        raise ValueError(f"metrics name events that are not in the taxonomy: {', '.join(unknown)}")
    ordered = sorted(specs, key=lambda spec: (names.index(spec.name), -spec.major))
    return tuple(_event_doc(spec, tuple(used.get(spec.name, ()))) for spec in ordered)


def _event_doc(spec: EventSpec, metrics: tuple[str, ...]) -> EventDoc:
    named = {*spec.required, *spec.optional}
    chosen = [field for field in FIELDS.values() if field.name in named]
    sample: dict[str, SentValue] = {}
    for field in chosen:
        if field.name not in spec.required and field.name not in spec.own:
            continue
        value = spec.sample.get(field.name, _as_sent(field, spec).sample)
        if value is not None and field.name not in spec.deprecated:
            sample[field.name] = value
    sample |= {"event_name": spec.name, "schema_version": spec.version}
    text = {name: _json_value(value) for name, value in sample.items()}
    return EventDoc(
        name=spec.name,
        major=spec.major,
        version=spec.version,
        newest=spec.major == event_majors(spec.name)[-1],
        owner=spec.owner,
        meaning=spec.description,
        fields=tuple(_field_doc(field, spec) for field in chosen),
        rules=tuple(RuleDoc(rule.name, rule.expression, rule.meaning) for rule in spec.rules),
        sample=sample,
        sample_json=json.dumps(text, indent=2, ensure_ascii=False),
        metrics=metrics,
        sunset=spec.sunset,
        replaced_by=spec.replaced_by,
    )


def _as_sent(field: FieldSpec, spec: EventSpec) -> FieldSpec:
    """The field as this version means it, which may differ from the canonical column."""
    changed = spec.changed.get(field.name)
    if changed is None:
        return field
    return replace(
        field,
        description=changed.description,
        unit=changed.unit,
        sample=changed.sample,
        allowed=allowed_values(changed),
        range=range_of(changed),
    )


def _field_doc(field: FieldSpec, spec: EventSpec) -> FieldDoc:
    sent = _as_sent(field, spec)
    meaning = sent.description
    if sent.reduces is not None:
        meaning += f" A producer may send the text itself as `{sent.reduces}`; the door reduces it."
    if sent.identifier:
        meaning += " Replaced by an HMAC at the door."
    return FieldDoc(
        name=sent.name,
        type=sent.type,
        required=sent.name in spec.required,
        always=sent.required,
        envelope=sent.envelope,
        own=sent.name in spec.own,
        meaning=meaning,
        unit=sent.unit,
        allowed=", ".join(sent.allowed) or sent.range,
        sample=shown if isinstance(shown := _json_value(sent.sample), str) else json.dumps(shown),
        since=spec.since.get(sent.name),
        sunset=spec.deprecated.get(sent.name, sent.sunset),
        read_as=spec.reads.get(sent.name),
    )


def _json_value(value: SentValue) -> str | int | float | bool:
    return value.isoformat(timespec="milliseconds") + "Z" if isinstance(value, datetime) else value
