"""A list of many things as one page: found by words, narrowed by filters, put in another order."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Annotated, Literal
from urllib.parse import urlsplit

from markupsafe import Markup
from pydantic import AfterValidator, Field

from exp_pipeline.model.base import Noun
from exp_pipeline.report.document import Text, Tone
from exp_pipeline.report.pages import render

PageName = Literal["index", "decisions", "reviews", "weekly", "quality"]
# Where the pages lie beside each other, and what the links between them say.
PAGES: dict[PageName, tuple[str, str]] = {
    "index": ("index.html", "Experiments"),
    "decisions": ("decisions.html", "Decision log"),
    "reviews": ("reviews.html", "Review board"),
    "weekly": ("weekly.html", "Weekly review"),
    "quality": ("quality/index.html", "Data quality"),
}
LINKED: tuple[PageName, ...] = ("index", "decisions", "reviews")


def _leads_to_a_page(href: str) -> str:
    if urlsplit(href).scheme not in ("", "http", "https", "file") or href.startswith("//"):
        raise ValueError(f"href {href!r} must be a relative path or an http, https or file address")
    return href


Href = Annotated[str, AfterValidator(_leads_to_a_page)]


class Part(Noun):
    """One cell of a line: its words, and perhaps a tone, an address, a share drawn as a bar, more lines.

    `tight` words stay on one line (a date).
    """

    text: Text
    tone: Tone | None = None
    href: Href = ""
    code: bool = False
    tight: bool = False
    share: float | None = None
    under: tuple[Text, ...] = ()


class Line(Noun):
    """One thing in a list. `filters` and `order` are what the page's controls read; `more` is only searched.

    A filter's value may be several, with a bar between them.
    """

    parts: tuple[Part, ...]
    filters: dict[str, Text] = Field(default_factory=dict)
    order: dict[str, str] = Field(default_factory=dict)
    more: Text = ""


class Heading(Noun):
    """One column of a list."""

    title: Text
    numeric: bool = False


class Filter(Noun):
    """One filter: the key of `Line.filters` that it reads, its label, and the values it offers."""

    key: Text
    label: Text
    values: tuple[tuple[Text, Text], ...]


class Order(Noun):
    """One order that a reader can choose, by a key of `Line.order`."""

    key: str
    label: Text
    descending: bool = False
    numeric: bool = False


class Listing(Noun):
    """A page that lists things: the order of `lines` is the one that a reader without a script sees.

    `notes` say under the lead what a reader must know of what is not in the list.
    """

    page: PageName
    title: Text
    eyebrow: Text
    lead: Text
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    filters: tuple[Filter, ...]
    orders: tuple[Order, ...]
    empty: Text
    foot: Text
    summary: tuple[tuple[Text, Text], ...] = ()
    summary_title: Text = ""
    notes: tuple[Text, ...] = ()


def values_of(lines: Sequence[Line], key: str, label: str) -> Filter | None:
    """A filter over the values that the lines have; None where all have the same one."""
    present = sorted({line.filters[key] for line in lines if line.filters.get(key)})
    return (
        Filter(key=key, label=label, values=tuple((one, one) for one in present))
        if len(present) > 1
        else None
    )


def listing_html(listing: Listing, linked: Sequence[PageName] = LINKED) -> str:
    """The page of a list. Readable as it is; its one script only finds, narrows and orders."""
    script = _script()
    shown = listing.page if listing.page in linked else None
    return render(
        "overview.html.j2",
        listing=listing,
        links=[(*PAGES[name], name == shown) for name in PAGES if name in linked],
        script=Markup(script),
        script_digest=b64encode(sha256(script.encode()).digest()).decode(),
    )


@cache
def _script() -> str:
    return (files("exp_pipeline.report") / "templates" / "overview.js").read_text(encoding="utf-8")
