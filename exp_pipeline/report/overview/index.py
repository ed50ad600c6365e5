"""The index page: every experiment, its decision and its memo."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from exp_pipeline.model.base import Noun
from exp_pipeline.model.life import LIFE_WORDS, LifeState
from exp_pipeline.model.readout import Outcome, Readout
from exp_pipeline.report.document import Text, Tone
from exp_pipeline.report.facts import memo_document
from exp_pipeline.report.overview.listing import (
    LINKED,
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
    href: Href
    stale: bool = False
    risk_class: Text = ""
    state: LifeState = "running"


def index_entry(
    readout: Readout, href: str, *, stale: bool = False, state: LifeState | None = None
) -> IndexEntry:
    """What does the index say of one readout?

    `state` is the experiment's own (`running`, `shipping`, ...); without one it is `running` until the
    horizon and `horizon` from then on. Raises ValueError for an address that is not one of a page.
    """
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
        risk_class=memo.risk_class,
        state=state or ("horizon" if memo.horizon_reached else "running"),
    )


def index_html(
    entries: Sequence[IndexEntry], linked: Sequence[PageName] = LINKED, *, unreadable: Sequence[str] = ()
) -> str:
    """All experiments on one page, newest data first; usable without its script.

    `linked` names the pages that lie beside this one, to which it leads; `unreadable` the experiments that
    have a readout which cannot be relied on: the page says that they are left out.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.as_of.toordinal(), entry.experiment))
    lines = tuple(_line(entry) for entry in ordered)
    found = (
        values_of(lines, "outcome", "Decision"),
        values_of(lines, "owner", "Owner"),
        values_of(lines, "risk", "Risk"),
        values_of(lines, "state", "State"),
    )
    count = len(lines)
    listing = Listing(
        page="index",
        title="Experiments",
        eyebrow=f"{count} experiment{'' if count == 1 else 's'}",
        lead="Each experiment with its newest readout; the title leads to the memo.",
        headings=tuple(
            Heading(title=title)
            for title in ("Experiment", "Decision", "Primary effect", "Owner", "Risk", "State", "Data to")
        ),
        lines=lines,
        filters=tuple(one for one in found if one is not None),
        orders=(
            Order(key="day", label="Newest data first", descending=True),
            Order(key="day", label="Oldest data first"),
            Order(key="title", label="Title"),
            Order(key="urgency", label="Decision, most urgent first", numeric=True),
            Order(key="risk", label="Risk, highest first", descending=True, numeric=True),
            Order(key="owner", label="Owner"),
        ),
        empty="No experiment has a readout yet.",
        notes=tuple(
            f"{name} is left out: its stored readout is not what was sealed. `exp readout {name}` puts it "
            "back or says what differs."
            for name in unreadable
        ),
        foot="Effects are shown only after a planned look, and only where integrity holds.",
    )
    return listing_html(listing, linked)


_URGENCY: tuple[Outcome, ...] = (
    "roll_back", "pause", "investigate", "stop", "ship", "ship_scoped", "iterate", "extend",
)  # fmt: skip
_RISKS = ("low", "medium", "high")


def _line(entry: IndexEntry) -> Line:
    effects = ("Effects are hidden.",) if entry.blinded else entry.primary or ("No estimate yet.",)
    stale = ("Stale: its inputs have changed since; materialize it again.",) if entry.stale else ()
    risk = _RISKS.index(entry.risk_class) if entry.risk_class in _RISKS else -1
    return Line(
        parts=(
            Part(text=entry.title, href=entry.href, under=(entry.experiment, *stale)),
            Part(text=entry.label, tone=entry.tone),
            Part(text=effects[0], under=effects[1:]),
            Part(text=entry.owner),
            Part(text=entry.risk_class),
            Part(text=LIFE_WORDS[entry.state]),
            Part(text=entry.as_of.isoformat(), tight=True),
        ),
        filters={
            "outcome": entry.label,
            "owner": entry.owner,
            "risk": entry.risk_class,
            "state": LIFE_WORDS[entry.state],
        },
        order={
            "day": entry.as_of.isoformat(),
            "title": entry.title.lower(),
            "urgency": str(_URGENCY.index(entry.outcome)),
            "risk": str(risk),
            "owner": entry.owner.lower(),
        },
    )


def said(name: str) -> str:
    """How is a name said ("data_privacy" is "data privacy")?"""
    return name.replace("_", " ")
