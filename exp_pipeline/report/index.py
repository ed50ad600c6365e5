"""The index page: every experiment, its decision and its memo, with a filter in the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from urllib.parse import urlsplit

from pydantic import field_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import Outcome, Readout
from exp_pipeline.report.document import Text, Tone
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.pages import render
from exp_pipeline.report.wording import OUTCOMES


class IndexEntry(Noun):
    """One line of the index. `primary` is empty while effects are hidden; `href` leads to the memo."""

    experiment: Text
    title: Text
    owner: Text
    outcome: Outcome
    label: Text
    tone: Tone
    primary: tuple[Text, ...]
    blinded: bool
    as_of: date
    href: str
    stale: bool = False

    @field_validator("href")
    @classmethod
    def _leads_to_a_page(cls, href: str) -> str:
        if urlsplit(href).scheme not in ("", "http", "https", "file") or href.startswith("//"):
            raise ValueError(f"href {href!r} must be a relative path or an http, https or file address")
        return href


def index_entry(readout: Readout, href: str, *, stale: bool = False) -> IndexEntry:
    """What does the index say of one readout? Raises ValueError for an address that is not one of a page."""
    memo = memo_document(readout)
    several = len(memo.primary) > 1
    label, tone, _ = OUTCOMES[memo.decision.outcome]
    return IndexEntry(
        experiment=memo.experiment,
        title=memo.title,
        owner=memo.owner,
        outcome=memo.decision.outcome,
        label=label,
        tone=tone,
        primary=tuple(f"{f'{e.arm}: ' if several else ''}{e.sentence}" for e in memo.primary),
        blinded=memo.blinding.hidden,
        as_of=memo.as_of,
        href=href,
        stale=stale,
    )


def index_html(entries: Sequence[IndexEntry]) -> str:
    """All experiments on one page, newest data first; usable without its script, which only filters."""
    ordered = sorted(entries, key=lambda entry: (-entry.as_of.toordinal(), entry.experiment))
    present = {entry.outcome for entry in entries}
    outcomes = [(outcome, label) for outcome, (label, _, _) in OUTCOMES.items() if outcome in present]
    return render("index.html.j2", entries=ordered, outcomes=outcomes)
