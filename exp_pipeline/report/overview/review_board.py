"""The review board as a page: which drafts wait for whom, the worthiest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exp_pipeline.model.intake import IntakeRow
from exp_pipeline.report import numbers
from exp_pipeline.report.overview.index import said
from exp_pipeline.report.overview.listing import (
    LINKED,
    Filter,
    Heading,
    Line,
    Listing,
    Order,
    PageName,
    Part,
    listing_html,
    values_of,
)


def review_board_html(
    rows: Sequence[IntakeRow],
    linked: Sequence[PageName] = LINKED,
    *,
    pages: Mapping[str, str] | None = None,
    teams: Mapping[str, str] | None = None,
) -> str:
    """What waits for which review, highest priority first; a count by review stands above it.

    `linked` names the pages that lie beside this one, to which it leads; `pages` gives the address of the
    memo of those experiments that have one, `teams` who gives a kind of review. Raises ValueError for an
    address that is not one of a page.
    """
    ordered = sorted(
        rows,
        key=lambda row: (row.priority is None, -(row.priority or 0.0), -row.completeness, row.experiment),
    )
    lines = tuple(_line(row, (pages or {}).get(row.experiment, "")) for row in ordered)
    waiting: dict[str, int] = {}
    for row in ordered:
        for kind in row.waits_for:
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
            Order(key="start", label="Soonest start first"),
            Order(key="title", label="Title"),
        ),
        empty="No brief waits for a review.",
        foot="Priority weighs impact, confidence, effort and risk; a brief starts only once nothing is open.",
        summary_title="What waits for whom" if by_review else "",
        summary=tuple(
            (f"{said(kind)} review", _asked(n, (teams or {}).get(kind, ""))) for kind, n in by_review
        ),
    )
    return listing_html(listing, linked)


def _asked(briefs: int, team: str) -> str:
    return f"{briefs} brief{'' if briefs == 1 else 's'}" + (f", asked of {team}" if team else "")


def _line(row: IntakeRow, href: str) -> Line:
    asked = tuple(said(kind) for kind in row.waits_for)
    priority = "\N{EN DASH}" if row.priority is None else numbers.decimal(row.priority, 1)
    return Line(
        parts=(
            Part(text=row.title or row.experiment, href=href, under=(row.experiment,) if row.title else ()),
            Part(text=priority),
            Part(text=numbers.percent(row.completeness, 0), share=row.completeness),
            Part(text=", ".join(asked) or "no review", under=tuple(f"given: {one}" for one in row.reviewed)),
            Part(text="; ".join(row.missing) or "nothing"),
            Part(text=row.owner or "\N{EN DASH}"),
            Part(text=row.risk_class),
            Part(text=row.state, tight=True, under=(f"starts {row.start.isoformat()}",)),
        ),
        filters={
            "waiting": "|".join(row.waits_for),
            "owner": row.owner,
            "risk": row.risk_class,
            "state": row.state,
        },
        order={
            "priority": "" if row.priority is None else repr(row.priority),
            "complete": repr(row.completeness),
            "start": row.start.isoformat(),
            "title": (row.title or row.experiment).lower(),
        },
    )
