"""The decision log as a page: what was recommended and decided, when, by which rule, on which snapshot."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.report.overview.listing import (
    LINKED,
    Heading,
    Line,
    Listing,
    Order,
    PageName,
    Part,
    listing_html,
    values_of,
)
from exp_pipeline.report.wording import OUTCOMES, listed

_DIGEST_SHOWN = 12
_KINDS = {"recommended": "Recommended", "decided": "Decided"}


def decision_log_html(
    rows: Sequence[LoggedDecision], linked: Sequence[PageName] = LINKED, *, root: str = "readouts/"
) -> str:
    """The log as a page, newest first. `rows` come as they were appended, the oldest first.

    The page lies in the folder `root` of the data folder, to which the addresses of memos are relative.
    `linked` names the pages that lie beside this one, to which it leads.
    """
    lines = tuple(_line(number, row, root) for number, row in reversed(list(enumerate(rows, start=1))))
    found = (
        values_of(lines, "kind", "Kind"),
        values_of(lines, "outcome", "Outcome"),
        values_of(lines, "experiment", "Experiment"),
        values_of(lines, "by", "By"),
    )
    headings = ("No.", "Day", "Experiment", "Arm", "Outcome", "Because", "Rule", "By", "Data")
    listing = Listing(
        page="decisions",
        title="Decision log",
        eyebrow=f"{len(lines)} entr{'y' if len(lines) == 1 else 'ies'}",
        lead="What the rules recommended and what people decided, on which data. Rows are only ever added.",
        headings=tuple(Heading(title=title, numeric=title == "No.") for title in headings),
        lines=lines,
        filters=tuple(one for one in found if one is not None),
        orders=(
            Order(key="number", label="Newest first", descending=True, numeric=True),
            Order(key="number", label="Oldest first", numeric=True),
            Order(key="experiment", label="Experiment"),
            Order(key="outcome", label="Outcome"),
        ),
        empty="Nothing was decided yet.",
        foot="A snapshot is the frozen data; a brief's digest is the promise that the decision was held to.",
    )
    return listing_html(listing, linked)


def _line(number: int, row: LoggedDecision, root: str) -> Line:
    label, tone, _ = OUTCOMES[row.outcome]
    under = []
    if row.segments:
        under.append(f"for {listed([f'{one.column} {one.value}' for one in row.segments])}")
    if row.differs and row.recommended is not None:
        under.append(f"recommended was: {OUTCOMES[row.recommended][0].lower()}")
    if not row.planned:
        under.append("not at a planned look")
    if row.effects_hidden:
        under.append("effects were hidden")
    return Line(
        parts=(
            Part(text=str(number)),
            Part(text=row.at.date().isoformat(), tight=True, under=(_KINDS[row.kind].lower(),)),
            Part(
                text=row.title or row.experiment,
                href=row.memo.removeprefix(root),
                under=(row.experiment,) if row.title else (),
            ),
            Part(text=row.arm or "all"),
            Part(text=label, tone=tone, under=tuple(under)),
            Part(text=row.because),
            Part(text=row.rule or "\N{EN DASH}"),
            Part(text="the rules" if row.by == "rules" else row.by),
            Part(
                text=row.snapshot,
                code=True,
                under=(f"to {row.as_of}", f"brief {row.brief_digest[:_DIGEST_SHOWN]}"),
            ),
        ),
        filters={"kind": _KINDS[row.kind], "outcome": label, "experiment": row.experiment, "by": row.by},
        order={"number": str(number), "experiment": row.experiment.lower(), "outcome": label.lower()},
        more=f"{row.brief_digest} {row.code_version}",
    )
