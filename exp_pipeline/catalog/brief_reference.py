"""Every field of a brief, for docs/briefs.md.

`python -m exp_pipeline.catalog.brief_reference docs/briefs.md` writes that part of the page again.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from exp_pipeline.catalog.brief_notes import SECTIONS
from exp_pipeline.model.brief import ANALYSIS_FIELDS, Brief
from exp_pipeline.model.names import IDENTIFIER, SLUG

MARK: Final = "## Fields\n"


def with_fields(page: str) -> str:
    """The page about briefs with its second half, from "Fields" on, made anew; the first is people's."""
    return page.partition(MARK)[0] + field_reference()


def field_reference() -> str:
    """Every field of a brief and of its parts, from the model and the notes on its fields."""
    lines = [MARK]
    nouns: dict[str, type[BaseModel]] = {}
    for title, notes in SECTIONS.items():
        lines += [f"### {title}", "", "| field | what it is for | value | default |", "|---|---|---|---|"]
        for name, note in notes.items():
            info = Brief.model_fields[name]
            lock = " 🔒" if name in ANALYSIS_FIELDS else ""
            lines.append(f"| `{name}`{lock} | {_cell(note)} | {_kind(info)} | {_default(info)} |")
            for noun in _nouns(info.annotation):
                nouns.setdefault(noun.__name__, noun)
        lines.append("")
    lines += ["## Parts", ""]
    for name, noun in nouns.items():
        lines += [f"### {name}", "", *_paragraphs(noun), ""]
        lines += ["| field | value | default |", "|---|---|---|"]
        lines += [
            f"| `{field}` | {_kind(info)} | {_default(info)} |" for field, info in noun.model_fields.items()
        ]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _paragraphs(noun: type[BaseModel]) -> list[str]:
    text = noun.__doc__ or ""
    return [" ".join(part.split()) for part in text.split("\n\n") for part in (part, "")][:-1]


def _nouns(kind: Any) -> Iterator[type[BaseModel]]:
    """The nouns that a field is made of, each followed by its own."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for info in kind.model_fields.values():
            yield from _nouns(info.annotation)
    for part in get_args(kind):
        yield from _nouns(part)


def _kind(info: FieldInfo) -> str:
    limits = [text for metadata in info.metadata for text in _limits(metadata)]
    return ", ".join([_words(info.annotation), *dict.fromkeys(limits)])


def _limits(metadata: Any) -> Iterator[str]:
    for name, word in (("gt", "more than"), ("ge", "at least"), ("lt", "less than"), ("le", "at most")):
        limit = getattr(metadata, name, None)
        if limit is not None:
            yield f"{word} {limit:g}"
    shortest = getattr(metadata, "min_length", None)
    if shortest:
        yield f"at least {shortest}" if shortest > 1 else "not empty"
    pattern = getattr(metadata, "pattern", None)
    if pattern == SLUG.pattern:
        yield "lower-case letters, digits and hyphens"
    elif pattern is not None and pattern != IDENTIFIER.pattern:
        yield "lower-case letters, digits and single underscores"


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        name = _words(parts[0])
        limits = [text for metadata in parts[1:] for text in _limits(metadata)]
        return ", ".join([name, *limits])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in parts if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of: {_words(parts[0])}"
    if origin is dict:
        return f"mapping to: {_words(parts[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    names = {str: "text", int: "whole number", float: "number", bool: "true, false", date: "day, YYYY-MM-DD"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True) if info.default is PydanticUndefined else info.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, tuple | dict):
        return f"`{', '.join(map(str, value))}`" if value else "empty"
    return f"`{value}`" if value != "" else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_fields(page.read_text()))
