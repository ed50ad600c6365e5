"""Reads one YAML file into plain data that remembers its lines, and refuses what could hurt the reader."""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import Problem

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 16
MAX_ALIASES: Final = 20
MAX_NODES: Final = 20_000
SHOWN_VALUE: Final = 60
SHOWN_CHOICES: Final = 12

Step = str | int
Place = tuple[Step, ...]

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"^[-+]?[0-9]{1,18}$")
_NUMBER = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?$")
_TAB_INDENT = re.compile(r"^ *\t")


@dataclass(frozen=True, slots=True)
class Document:
    """One file as plain data (dict, list, text, number, true/false, None) with the line of every field.

    Days stay text (`2026-03-09`) until a model asks for a day. `lines` and `texts` are keyed by the path to
    a field, such as `("guardrails", 1, "margin")`; lines count from 1.
    """

    file: str
    path: Path
    data: Any
    lines: Mapping[Place, int] = field(repr=False)
    texts: Mapping[Place, str] = field(repr=False)

    def line(self, place: Place) -> int:
        """On which line a field stands; for a field that is missing, the line of what should hold it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def at(self, place: Place) -> Any:
        """What stands at a place; None where nothing does."""
        value = self.data
        for step in place:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def problem(
        self,
        place: Place,
        message: str,
        *,
        allowed: str = "",
        value: str | None = None,
        shown: str | None = None,
    ) -> Problem:
        """A problem at a place, with its file, line and the value as the author wrote it."""
        text = self.text(place) if value is None else value
        return Problem(
            self.file, self.line(place), shown or field_path(place), shorten(text), message, allowed
        )

    def text(self, place: Place) -> str:
        """The author's own text at a place; empty for lists, mappings and what is missing."""
        return self.texts.get(place, "")


def field_path(place: Place) -> str:
    """How a field is named to its author: `guardrails[1].margin`."""
    parts: list[str] = []
    for step in place:
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}" if parts else step)
    return "".join(parts) or "(file)"


def shorten(text: str) -> str:
    """One line of at most 60 characters, so that a long value does not hide the message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_VALUE else flat[: SHOWN_VALUE - 1] + "…"


def choices(wanted: str, known: Iterable[str]) -> tuple[str, str]:
    """What to offer for a name that is not known: (", did you mean …?" or "", the names allowed)."""
    names = sorted(known)
    folded = {name.casefold(): name for name in reversed(names)}
    near = [folded[one] for one in difflib.get_close_matches(wanted.casefold(), folded, n=3, cutoff=0.6)]
    hint = f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
    if len(names) <= SHOWN_CHOICES:
        return hint, ", ".join(names) or "none is declared"
    listed = near or names[:SHOWN_CHOICES]
    return hint, f"{', '.join(listed)}, … ({len(names)} in all)"


def read_document(path: Path, *, file: str, within: Path | None = None) -> Document | Problem:
    """What a YAML file says, or the one problem that keeps it from being read.

    Refused: links that leave `within`, anything but a regular file, more than 1 MB, text that is not UTF-8,
    tags, merge keys, repeated keys, depth above 16, and anchors that unfold to more than 20,000 values.
    """
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        return Problem(
            file, None, "(file)", "", "is a link that leaves the catalog folder; put the file itself there"
        )
    raw = _bytes_of(path, file)
    if isinstance(raw, Problem):
        return raw
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Problem(file, line, "(file)", "", f"is not UTF-8 text (byte {error.start})")
    builder = _Builder(file)
    try:
        return builder.build(text, path)
    except _Refused as refused:
        return refused.problem
    except yaml.YAMLError as error:
        return _syntax_problem(error, text, file)


def _bytes_of(path: Path, file: str) -> bytes | Problem:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        return Problem(file, None, "(file)", "", f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return Problem(file, None, "(file)", "", "is not a regular file")
    with os.fdopen(descriptor, "rb") as handle:
        raw = handle.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        return Problem(file, None, "(file)", "", "is too large", f"at most {MAX_BYTES:,} bytes")
    return raw


def state_of(root: Path) -> str:
    """Which files lie in the folders of a catalog, since when, and what they hold, as one digest.

    Equal where nothing has changed. Times alone would miss an edit within one tick of a coarse clock; what
    they hold alone, an edit while the catalog is being read that is taken back after.
    """
    marks: list[list[object]] = [[root.is_dir()]]
    for path in sorted(root.glob("*/[!.]*")):
        try:
            since = path.lstat().st_mtime_ns
        except FileNotFoundError:
            continue
        raw = _bytes_of(path, path.name)
        held = raw.message if isinstance(raw, Problem) else hashlib.sha256(raw).hexdigest()
        marks.append([path.relative_to(root).as_posix(), since, held])
    return digest_of(marks)


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else None
    lines = text.split("\n")
    if line is not None and line <= len(lines) and _TAB_INDENT.match(lines[line - 1]):
        return Problem(file, line, "(file)", "", "is indented with a tab; YAML wants spaces")
    reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
    shown = lines[line - 1] if line is not None and line <= len(lines) else ""
    return Problem(file, line, "(file)", shorten(shown), f"is not valid YAML: {reason}")


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


@dataclass(slots=True)
class _Node:
    """One value: plain, or a list or mapping whose children carry the line of their key or item."""

    kind: Literal["plain", "list", "mapping"]
    line: int
    value: Any = None
    text: str = ""
    size: int = 1
    height: int = 1
    children: dict[Step, tuple[int, _Node]] = field(default_factory=dict)

    def plain(self) -> Any:
        if self.kind == "mapping":
            return {step: child.plain() for step, (_, child) in self.children.items()}
        if self.kind == "list":
            return [child.plain() for _, child in self.children.values()]
        return self.value

    def walk(self, place: Place = ()) -> Iterator[tuple[Place, int, _Node]]:
        for step, (line, child) in self.children.items():
            yield (*place, step), line, child
            yield from child.walk((*place, step))


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been read yet, and the key that waits for its value."""

    node: _Node
    anchor: str | None
    key: tuple[str, int] | None = None


class _Builder:
    """Builds nodes from the stream of parse events: no recursion, so that depth can be refused in time."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.anchors: dict[str, _Node] = {}
        self.stack: list[_Open] = []
        self.root: _Node | None = None
        self.aliases = 0

    def build(self, text: str, path: Path) -> Document:
        documents = 0
        events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refuse(line, "holds a second YAML document; one file is one document")
            else:
                self._take(event, line)
        if self.root is None:
            return Document(self.file, path, None, {(): 1}, {})
        found = list(self.root.walk())
        lines: dict[Place, int] = {(): self.root.line, **{place: line for place, line, _ in found}}
        texts = {place: node.text for place, _, node in found if node.text}
        return Document(self.file, path, self.root.plain(), lines, texts)

    def _refuse(self, line: int, message: str, *, value: str = "", allowed: str = "") -> _Refused:
        steps: list[Step] = []
        for opened in self.stack:
            if opened.node.kind == "list":
                steps.append(len(opened.node.children))
            elif opened.key is not None:
                steps.append(opened.key[0])
        return _Refused(Problem(self.file, line, field_path(tuple(steps)), shorten(value), message, allowed))

    def _take(self, event: Any, line: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event, line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            opened = self.stack.pop()
            self._put(opened.node, opened.anchor, opened.node.line)

    def _waits_for_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].node.kind == "mapping" and self.stack[-1].key is None

    def _open(self, event: Any, line: int) -> None:
        self._no_tag(event, line)
        if self._waits_for_key():
            raise self._refuse(line, "a key must be plain text, not a list or a mapping")
        if len(self.stack) >= MAX_DEPTH:
            raise self._refuse(line, "is nested too deeply", allowed=f"at most {MAX_DEPTH} levels")
        kind: Literal["list", "mapping"] = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
        self.stack.append(_Open(_Node(kind, line), event.anchor))

    def _alias(self, anchor: str, line: int) -> None:
        if self._waits_for_key():
            raise self._refuse(line, "a key must be plain text, not an alias", value=f"*{anchor}")
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise self._refuse(
                line, "too many aliases; write the values out", allowed=f"at most {MAX_ALIASES} a file"
            )
        node = self.anchors.get(anchor)
        if node is None:
            hint, allowed = choices(anchor, self.anchors)
            raise self._refuse(
                line, f"is an alias without an anchor{hint}", value=f"*{anchor}", allowed=allowed
            )
        self._put(node, None, line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._no_tag(event, line)
        text = str(event.value)
        plain = bool(event.implicit[0])
        if not self._waits_for_key():
            value = _scalar_value(text) if plain else text
            self._put(_Node("plain", line, value, text), event.anchor, line)
            return
        top = self.stack[-1]
        top.key = (text, line)
        if text == "<<" and plain:
            raise self._refuse(line, "merge keys are not read; write the fields out")
        if text in top.node.children:
            raise self._refuse(line, f"is given twice; first on line {top.node.children[text][0]}")

    def _no_tag(self, event: Any, line: int) -> None:
        if event.tag not in (None, "!"):
            raise self._refuse(line, "has a tag; only plain YAML is read", value=str(event.tag))

    def _put(self, node: _Node, anchor: str | None, line: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        parent = top.node
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.size > MAX_NODES:
            raise self._refuse(line, "unfolds to too many values", allowed=f"at most {MAX_NODES:,}")
        # Aliases deepen a value without deepening the text, so the height counts too.
        if parent.height > MAX_DEPTH + 1:
            raise self._refuse(line, "is nested too deeply", allowed=f"at most {MAX_DEPTH} levels")
        if top.key is None:
            parent.children[len(parent.children)] = (line, node)
        else:
            parent.children[top.key[0]] = (top.key[1], node)
            top.key = None


def means_text(text: str) -> bool:
    """Whether a plain word stays the text that it is when it is read."""
    return bool(_scalar_value(text) == text)


def _scalar_value(text: str) -> Any:
    """What a plain word means: the rules of YAML 1.2's core schema, so that `no` and `12:30` stay text."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
