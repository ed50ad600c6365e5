"""A draft of a brief, before it is a file: what is wrong with it, and how it is written down."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from exp_pipeline.catalog.brief_notes import SECTIONS
from exp_pipeline.catalog.brief_rules import STAND_INS, review_problems
from exp_pipeline.catalog.calendars import calendar_problems, ramp_problems
from exp_pipeline.catalog.contents import Catalog
from exp_pipeline.catalog.documents import Document, Place, means_text
from exp_pipeline.catalog.expressions import context_problems
from exp_pipeline.catalog.references import brief_references, brief_sense
from exp_pipeline.catalog.wording import parse_noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.errors import Problem

_WIDTH: Final = 108
# Letters and plain punctuation that YAML reads as they stand, wherever in a line they are.
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9 _./()%+;-]*[A-Za-z0-9_./()%+])?")
_SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def draft_problems(
    fields: Mapping[str, Any], catalog: Catalog, context_columns: Collection[str] | None = None
) -> tuple[Brief | None, list[Problem]]:
    """The brief that these fields make, and everything that loading it from a file would refuse.

    fields: plain data, as YAML gives it. Problems name fields; there are no lines yet.
    """
    name = str(fields.get("name", "draft"))
    document = _document(fields, name)
    brief, problems = parse_noun(Brief, document, stand_ins=STAND_INS)
    problems += brief_references(document, catalog.metrics, catalog.measures)
    if context_columns is not None:
        problems += context_problems(document, context_columns)
    if brief is not None:
        problems += brief_sense(brief, document, catalog.measures)
        problems += review_problems(brief, document, [kind.name for kind in catalog.reviews.kinds])
        problems += ramp_problems(brief, document)
        problems += calendar_problems(brief, document, catalog.calendars, list(catalog.calendars))
    return brief, problems


def draft_text(fields: Mapping[str, Any]) -> str:
    """A brief as commented YAML: sections in their order, each field under what it is for.

    fields: plain data by name of the brief's fields; those that are not given are left out. What is read from
    the text is equal to `fields`.
    """
    lines = [
        *_comment(
            "A brief is a contract: what is promised about one experiment before it starts. Once it has "
            "started, changes to the design, the metrics or the rules are shown in the memo."
        ),
        *_comment("Every field that can be written here, with its default: docs/briefs.md."),
    ]
    for title, notes in SECTIONS.items():
        given = [field for field in notes if field in fields]
        if given:
            lines += ["", f"# --- {title}"]
        for field in given:
            lines += _comment(notes[field])
            lines += _entry(field, fields[field], 0)
    unknown = [field for field in fields if all(field not in notes for notes in SECTIONS.values())]
    for field in unknown:
        lines += _entry(field, fields[field], 0)
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2, break_long_words=False)]


def _entry(key: str, value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    name = _text(key, anywhere=False)
    flow = _flow(value)
    if flow is not None and len(indent) + len(name) + len(flow) + 2 <= _WIDTH:
        return [f"{indent}{name}: {flow}"]
    if isinstance(value, Mapping):
        return [
            f"{indent}{name}:",
            *(line for k, v in value.items() for line in _entry(str(k), v, depth + 1)),
        ]
    if isinstance(value, list):
        return [f"{indent}{name}:", *(line for one in value for line in _item(one, depth + 1))]
    return [f"{indent}{name}: {_scalar(value, anywhere=True)}"]


def _item(value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    flow = _flow(value)
    if flow is not None and len(indent) + len(flow) + 2 <= _WIDTH:
        return [f"{indent}- {flow}"]
    if isinstance(value, Mapping):
        inner = [line for k, v in value.items() for line in _entry(str(k), v, depth + 1)]
        return [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
    if isinstance(value, list):
        return [f"{indent}-", *(line for one in value for line in _item(one, depth + 1))]
    return [f"{indent}- {_scalar(value, anywhere=True)}"]


def _flow(value: Any) -> str | None:
    """A value on one line; None for what reads better in a block: mappings and lists that hold others."""
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        if any(isinstance(one, Mapping | list) and one for one in value.values()):
            return None
        if sum(isinstance(one, str) and " " in one for one in value.values()) > 1:
            return None
        return (
            "{" + ", ".join(f"{_text(str(k), anywhere=False)}: {_inner(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list):
        if any(isinstance(one, Mapping | list) for one in value):
            return None
        return "[" + ", ".join(_inner(one) for one in value) + "]"
    return _scalar(value, anywhere=True)


def _inner(value: Any) -> str:
    return (
        ("{}" if isinstance(value, Mapping) else "[]")
        if value in ({}, [])
        else _scalar(value, anywhere=False)
    )


def _scalar(value: Any, *, anywhere: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return _text(str(value), anywhere=anywhere)


def _text(text: str, *, anywhere: bool) -> str:
    """Text as YAML: as it stands where that is safe (`anywhere`: after a colon on a line of its own)."""
    safe = _SIMPLE.fullmatch(text) or (anywhere and _PLAIN.fullmatch(text))
    if safe and means_text(text):
        return text
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    code = ord(char)
    if 0x20 <= code < 0x7F or (0xA0 <= code < 0xD800 and code not in (0x2028, 0x2029)):
        return char
    if 0xE000 <= code <= 0xFFFD and code != 0xFEFF:
        return char
    return f"\\U{code:08X}"


def _document(fields: Mapping[str, Any], name: str) -> Document:
    """Plain data as if it had been read from a file of the draft's name."""
    places = list(_places(fields, ()))
    return Document(
        file="(draft)",
        path=Path(f"{name}.yaml"),
        data=dict(fields),
        lines={(): 1, **{place: position for position, (place, _) in enumerate(places, start=2)}},
        texts={place: _shown(value) for place, value in places if not isinstance(value, Mapping | list)},
    )


def _shown(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _places(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if place:
        yield place, value
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _places(one, (*place, str(key)))
    elif isinstance(value, list):
        for position, one in enumerate(value):
            yield from _places(one, (*place, position))
