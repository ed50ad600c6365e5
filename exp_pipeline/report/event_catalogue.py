"""The event catalogue as a page and as Markdown: what producers send, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

from exp_pipeline.model.event_docs import EventDoc, FieldDoc, RuleDoc
from exp_pipeline.report.pages import render

LEAD = (
    "What a producer may send, one entry for each event. Times are UTC. Ids of people and organisations are "
    "replaced by an HMAC at the door, raw text by its hash, length and language. Fields that are not listed "
    "are kept in `extra`: numbers and flags as they are, texts as a hash, unless the source says that they "
    "stay."
)
VERSIONS = (
    "`schema_version` is major.minor. A minor version only adds; rows of a newer one are welcome, and what "
    "they add is kept in `extra`.",
    "A major version changes a meaning. Each row is judged by the version that it names, and versions of one "
    "event stand in one table, where a field that changed is read with one meaning.",
    "A version that ends is refused from the day after its last day, by the day a row was received. A field "
    "that ends is never a reason to refuse a row.",
)
REASONS = (
    ("missing:<field>", "a field that must be filled is empty"),
    ("wrong_type:<field>", "a value cannot be read as the field's type"),
    ("not_allowed:<field>", "a value is none of those allowed"),
    ("out_of_range:<field>", "a number or time lies outside the field's range"),
    ("rule:<name>", "fields do not fit together"),
    ("unknown_event", "the event is not in this catalogue"),
    ("malformed_version", "`schema_version` is not major.minor"),
    ("unsupported_version", "the event has no such major version"),
    ("past_sunset", "the version had ended when the row was received"),
)


@dataclass(frozen=True, slots=True)
class EventEntry:
    """One event with all its major versions, the newest first."""

    versions: tuple[EventDoc, ...]

    @property
    def newest(self) -> EventDoc:
        return self.versions[0]

    @property
    def older(self) -> tuple[EventDoc, ...]:
        return self.versions[1:]


def entries_of(docs: Sequence[EventDoc]) -> tuple[EventEntry, ...]:
    """The events in the order given, the versions of each together, the newest first."""
    by_name: dict[str, list[EventDoc]] = {}
    for doc in docs:
        by_name.setdefault(doc.name, []).append(doc)
    return tuple(
        EventEntry(tuple(sorted(versions, key=lambda doc: -doc.major))) for versions in by_name.values()
    )


def shared_rules(docs: Sequence[EventDoc]) -> tuple[RuleDoc, ...]:
    """The rules that every version of every event keeps."""
    return tuple(rule for rule in docs[0].rules if all(rule in doc.rules for doc in docs)) if docs else ()


def own_fields(doc: EventDoc) -> tuple[FieldDoc, ...]:
    """The fields that mean something particular in the event: what it must fill first, the envelope last."""
    own = [field for field in doc.fields if field.own]
    return tuple(sorted(own, key=lambda field: (not field.required, field.envelope)))


def status(doc: EventDoc) -> str:
    """Whether a version is the one to send, one that ends, or one that may be sent beside it."""
    if doc.sunset is not None:
        return f"ends {doc.sunset}"
    return "current" if doc.newest else "still read"


def catalogue_html(docs: Sequence[EventDoc], *, metrics_known: bool = True) -> str:
    """The catalogue as one standalone page; usable without its script, which only filters.

    `metrics_known`: whether the metrics that use an event were looked for; if not, nothing is said of them.
    """
    return render(
        "event_catalogue.html.j2",
        entries=entries_of(docs),
        envelope=_envelope(docs),
        shared=shared_rules(docs),
        lead=LEAD,
        versions=VERSIONS,
        reasons=REASONS,
        status=status,
        own_fields=own_fields,
        worded=worded,
        metrics_known=metrics_known,
    )


def worded(text: str) -> Markup:
    """A text whose `quoted` parts are code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def catalogue_markdown(docs: Sequence[EventDoc], *, metrics_known: bool = True) -> str:
    """The catalogue as Markdown: what is shared once, then one section for each event."""
    parts = ["# Event catalogue", "", "Generated from the contracts by `exp events`.", "", LEAD, ""]
    if not docs:
        return "\n".join([*parts, "No events.", ""])
    entries, shared = entries_of(docs), shared_rules(docs)
    parts += ["| event | version | owner | states |", "|---|---|---|---|"]
    for entry in entries:
        told = ", ".join(f"{doc.version} ({status(doc)})" for doc in entry.versions)
        named = f"[{entry.newest.name}](#{entry.newest.name})"
        parts.append(f"| {named} | {told} | {entry.newest.owner} | {_cell(entry.newest.summary)} |")
    parts += ["", "## Versions", "", *(f"- {line}" for line in VERSIONS)]
    parts += ["", "## Why the contract refuses a row", "", "| reason | meaning |", "|---|---|"]
    parts += [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS]
    parts += [
        "",
        "## Envelope",
        "",
        "Every event may carry these fields, and keeps the rules below them.",
        "",
    ]
    parts += [*_table(_envelope(docs), everywhere=True), "", *_rules(shared)]
    for entry in entries:
        parts += ["", f"## {entry.newest.name}", "", entry.newest.meaning, ""]
        parts += [f"Owned by {entry.newest.owner}."]
        if metrics_known:
            parts += ["", _used(entry.newest)]
        for doc in entry.versions:
            parts += _version(doc, shared)
    return "\n".join(parts) + "\n"


def _envelope(docs: Sequence[EventDoc]) -> tuple[FieldDoc, ...]:
    return tuple(field for field in docs[0].fields if field.envelope) if docs else ()


def _used(doc: EventDoc) -> str:
    if not doc.metrics:
        return "No metric reads it by name."
    return "Metrics that use it: " + ", ".join(f"`{metric}`" for metric in doc.metrics) + "."


def _version(doc: EventDoc, shared: Sequence[RuleDoc]) -> list[str]:
    out = ["", f"### {doc.name} {doc.version}, {status(doc)}", ""]
    if not doc.newest:
        out += [doc.meaning, ""]
    if doc.replaced_by is not None:
        out += [f"Rows received after {doc.sunset} are refused. Send `{doc.replaced_by}` instead.", ""]
    out += _table(own_fields(doc))
    own_rules = [rule for rule in doc.rules if rule not in shared]
    if own_rules:
        out += ["", *_rules(own_rules)]
    return [*out, "", "```json", doc.sample_json, "```"]


def _rules(rules: Sequence[RuleDoc]) -> list[str]:
    return [f"- `{rule.name}`: {rule.meaning} (`{rule.expression}`)" for rule in rules]


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
            "yes" if (field.always if everywhere else field.required) else "",
            field.meaning + "".join(f" {note}" for note in notes(field)),
            field.unit,
            field.allowed,
            f"`{field.sample}`",
        ]
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return rows


def notes(field: FieldDoc) -> list[str]:
    """What else is to be said of a field: since when, until when, and how it is read."""
    found = []
    if field.since is not None:
        found.append(f"Since {field.since}.")
    if field.sunset is not None:
        found.append(f"Deprecated; to be sent until {_day(field.sunset)}.")
    if field.read_as is not None:
        found.append(f"Read as `{field.read_as}`.")
    return found


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")
