"""The review board as a page: which drafts wait for whom, the worthiest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pydantic import Field

from exp_pipeline.model.base import Noun
from exp_pipeline.report import numbers
from exp_pipeline.report.document import Text
from exp_pipeline.report.overview.index import said
from exp_pipeline.report.overview.listing import (
    LINKED,
    Filter,
    Heading,
    Href,
    Line,
    Listing,
    Order,
    PageName,
    Part,
    listing_html,
    values_of,
)


class ReviewRow(Noun):
    """One experiment on the board.

    `completeness` is the part of the brief that is filled in, from 0 to 1; `priority` is its score, higher
    first, None where nobody gave one; `waiting_for` are the reviews that are not given yet, `given` those
    that are; `gaps` says what the brief still lacks.
    """

    experiment: Text
    title: Text = ""
    owner: Text = ""
    risk_class: Text = ""
    state: Text = "draft"
    completeness: float = Field(ge=0.0, le=1.0)
    priority: float | None = None
    waiting_for: tuple[Text, ...] = ()
    given: tuple[Text, ...] = ()
    gaps: tuple[Text, ...] = ()
    since: date | None = None
    href: Href = ""


def review_board_html(rows: Sequence[ReviewRow], linked: Sequence[PageName] = LINKED) -> str:
    """What waits for which review, highest priority first; a count by review stands above it.

    `linked` names the pages that lie beside this one, to which it leads.
    """
    ordered = sorted(
        rows,
        key=lambda row: (row.priority is None, -(row.priority or 0.0), -row.completeness, row.experiment),
    )
    lines = tuple(_line(row) for row in ordered)
    waiting: dict[str, int] = {}
    for row in ordered:
        for kind in row.waiting_for:
            waiting[kind] = waiting.get(kind, 0) + 1
    by_review = sorted(waiting.items(), key=lambda one: (-one[1], one[0]))
    kinds = tuple((kind, said(kind)) for kind, _ in sorted(waiting.items()))
    found = (
        Filter(key="waiting", label="Waiting for", values=kinds) if len(kinds) > 1 else None,
        values_of(lines, "owner", "Owner"),
        values_of(lines, "risk", "Risk"),
        values_of(lines, "state", "State"),
    )
    listing = Listing(
        page="reviews",
        title="Review board",
        eyebrow=f"{len(lines)} brief{'' if len(lines) == 1 else 's'}",
        lead="Which briefs wait for which review, the highest priority first.",
        headings=(
            Heading(title="Experiment"),
            Heading(title="Priority", numeric=True),
            Heading(title="Complete", numeric=True),
            Heading(title="Waiting for"),
            Heading(title="Still lacks"),
            Heading(title="Owner"),
            Heading(title="Risk"),
            Heading(title="State"),
        ),
        lines=lines,
        filters=tuple(one for one in found if one is not None),
        orders=(
            Order(key="priority", label="Highest priority first", descending=True, numeric=True),
            Order(key="complete", label="Most complete first", descending=True, numeric=True),
            Order(key="since", label="Longest waiting first"),
            Order(key="title", label="Title"),
        ),
        empty="No brief waits for a review.",
        foot="Priority weighs impact, confidence, effort and risk; a brief starts only once nothing is open.",
        summary_title="What waits for whom" if by_review else "",
        summary=tuple((said(kind), f"{n} brief{'' if n == 1 else 's'}") for kind, n in by_review),
    )
    return listing_html(listing, linked)


def _line(row: ReviewRow) -> Line:
    asked = tuple(said(kind) for kind in row.waiting_for)
    given = (f"given: {', '.join(said(kind) for kind in row.given)}",) if row.given else ()
    since = (f"since {row.since.isoformat()}",) if row.since and asked else ()
    priority = "\N{EN DASH}" if row.priority is None else numbers.decimal(row.priority, 1)
    return Line(
        parts=(
            Part(
                text=row.title or row.experiment, href=row.href, under=(row.experiment,) if row.title else ()
            ),
            Part(text=priority),
            Part(text=numbers.percent(row.completeness, 0), share=row.completeness),
            Part(text=", ".join(asked) or "no review", under=(*since, *given)),
            Part(text="; ".join(row.gaps) or "nothing"),
            Part(text=row.owner or "\N{EN DASH}"),
            Part(text=row.risk_class or "\N{EN DASH}"),
            Part(text=said(row.state)),
        ),
        filters={
            "waiting": "|".join(row.waiting_for),
            "owner": row.owner,
            "risk": row.risk_class,
            "state": said(row.state),
        },
        order={
            "priority": "" if row.priority is None else repr(row.priority),
            "complete": repr(row.completeness),
            "since": row.since.isoformat() if row.since else "9999",
            "title": (row.title or row.experiment).lower(),
        },
    )
