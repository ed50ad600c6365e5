"""What a reader finds in the three forms: tables and words taken back out of HTML, Markdown and JSON."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "hr", "img", "input", "link"}
SHAPES = {"line", "rect", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order, ids once; keeps tables, words, headings, tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.headings: list[int] = []
        self.words: list[str] = []
        self.shown: list[str] = []
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES, f"<{tag}/> closes itself outside SVG"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] not in ("style", "script"):
            self.shown.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def text(self) -> str:
        return " ".join("".join(self.shown).split())


def html_tables(text: str) -> list[list[list[str]]]:
    return Page(text).tables


def markdown_page(text: str) -> Page:
    """The page that a Markdown reader makes of a text, raw HTML allowed, as the worst reader allows it."""
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    return Page(html.replace("<hr />", "<hr>").replace("<br />", "<br>"))


def json_tables(text: str) -> list[list[list[str]]]:
    """Every table of the JSON form as rows of words, headings first."""
    memo: dict[str, Any] = json.loads(text)
    tables = [*memo["first_page"].values(), *memo["appendix"]]
    return [
        [
            [c["title"] for c in t["columns"]],
            *([row[c["key"]]["text"] for c in t["columns"]] for row in t["rows"]),
        ]
        for t in tables
        if t["rows"]
    ]
