"""The queue of drafts: how complete each brief is, how much it promises, and which reviews it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.intake import Intake, IntakeRow, IntakeState, RiskClass

# What a change of higher risk must promise more of, to come before one of lower risk.
RISK_WEIGHT: Mapping[RiskClass, float] = {"low": 1.0, "medium": 0.8, "high": 0.6}
_BEST = 25.0
# Words that stand where somebody meant to write something.
_EMPTY_WORDS = frozenset({"", "?", "…", "...", "tbd", "todo", "tba", "n/a", "none", "xxx", "-"})
_ORDER: tuple[RiskClass, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a reviewer looks for in a brief: its field, in words, and from which risk class on."""

    field: str
    wanted: str
    met: Callable[[Brief], bool]
    risk: RiskClass = "low"


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of what a reviewer needs is in a brief: a share, and what is missing."""

    share: float
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is not in a brief."""

    field: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.field}: {self.wanted}"


@dataclass(frozen=True, slots=True)
class Priority:
    """How much a change promises for its cost and risk, from 0 to 100; None where nobody said, and why."""

    score: float | None
    because: str


def completeness(brief: Brief) -> Completeness:
    """What share of what a reviewer needs does a brief hold, and what is missing?

    Every need of the brief's risk class counts alike. Words such as "tbd" count as missing.
    """
    rank = _ORDER.index(brief.risk_class)
    asked = [need for need in NEEDS if _ORDER.index(need.risk) <= rank]
    missing = tuple(Missing(need.field, need.wanted) for need in asked if not need.met(brief))
    return Completeness((len(asked) - len(missing)) / len(asked), missing)


def priority(brief: Brief) -> Priority:
    """How much does a change promise for its effort and risk?

    Impact x confidence / effort, each from 1 to 5, as a share of the most that there can be, times a weight
    of the risk class; in hundredths.
    """
    given = brief.intake
    if given is None:
        return Priority(None, "the brief gives no intake: impact, confidence, effort")
    weight = RISK_WEIGHT[brief.risk_class]
    score = 100.0 * weight * _promise(given) / _BEST
    told = f"impact {given.impact} x confidence {given.confidence} / effort {given.effort}"
    told += "" if weight == 1.0 else f", times {weight:g} for {brief.risk_class} risk"
    return Priority(round(score, 1), told)


def intake_row(
    brief: Brief, *, locked: bool, newest: date | None, reviewed: Sequence[str], waits_for: Sequence[str]
) -> IntakeRow:
    """Where does one brief stand? newest: the newest day of data."""
    share, promise = completeness(brief), priority(brief)
    state: IntakeState = "draft"
    if newest is not None and newest >= brief.end:
        state = "over"
    elif locked:
        state = "locked"
    return IntakeRow(
        experiment=brief.name,
        version=brief.version,
        title=brief.title,
        owner=brief.owner,
        risk_class=brief.risk_class,
        start=brief.start,
        end=brief.end,
        state=state,
        completeness=round(share.share, 3),
        missing=tuple(str(one) for one in share.missing),
        priority=promise.score,
        priority_because=promise.because,
        reviewed=tuple(reviewed),
        waits_for=tuple(waits_for),
    )


def in_queue_order(rows: Sequence[IntakeRow]) -> tuple[IntakeRow, ...]:
    """Which comes first? Drafts before others, then the highest priority, then the earliest start."""
    ranks = {"draft": 0, "locked": 1, "over": 2}

    def place(row: IntakeRow) -> tuple[int, float, date, str]:
        return (
            ranks[row.state],
            -(row.priority if row.priority is not None else -1.0),
            row.start,
            row.experiment,
        )

    return tuple(sorted(rows, key=place))


def _promise(given: Intake) -> float:
    return given.impact * given.confidence / given.effort


def _said(*texts: str) -> bool:
    return all(" ".join(text.split()).casefold() not in _EMPTY_WORDS for text in texts)


def _hypothesis(brief: Brief) -> bool:
    told = brief.hypothesis
    return _said(told.change, told.population, told.context, told.moves, told.because, told.without_harming)


NEEDS: tuple[Need, ...] = (
    Need("hypothesis", "all six parts in words", _hypothesis),
    Need("title", "a name for people", lambda brief: _said(brief.title)),
    Need(
        "decision_asked", "the question that the memo will answer", lambda brief: _said(brief.decision_asked)
    ),
    Need("owner", "the team that decides", lambda brief: _said(brief.owner)),
    Need("on_call", "who is called when a guardrail breaks", lambda brief: _said(brief.on_call)),
    Need(
        "arms",
        "what each arm does, in words",
        lambda brief: all(_said(arm.description) for arm in brief.arms),
    ),
    Need(
        "mde",
        "the smallest effect worth finding",
        lambda brief: bool(brief.mde.absolute or brief.mde.relative),
    ),
    Need(
        "practical_threshold",
        "the effect from which on one would act",
        lambda brief: brief.practical_threshold is not None,
    ),
    Need("guardrails", "what must not get worse, and by how much", lambda brief: bool(brief.guardrails)),
    Need(
        "expected_units_per_day",
        "how many units come a day",
        lambda brief: brief.expected_units_per_day is not None or brief.table is not None,
    ),
    Need(
        "icc",
        "how alike learners of one class are",
        lambda brief: brief.randomisation_unit == brief.analysis_unit or brief.icc > 0.0,
    ),
    Need(
        "receipt",
        "which versions may differ between the arms",
        lambda brief: "receipt" in brief.model_fields_set or brief.table is not None,
    ),
    Need("intake", "impact, confidence and effort, 1 to 5 each", lambda brief: brief.intake is not None),
    Need("segments", "for whom the effect must be seen apart", lambda brief: bool(brief.segments), "medium"),
    Need(
        "counter_metrics",
        "what would get worse if the primary were gamed",
        lambda brief: bool(brief.counter_metrics),
        "medium",
    ),
    Need(
        "value",
        "what a unit is worth, and how many there are",
        lambda brief: brief.value.value_per_unit != 0.0 and brief.value.eligible_population > 0,
        "medium",
    ),
    Need("ramp", "the stages in which it is let in", lambda brief: bool(brief.ramp), "medium"),
    Need(
        "guardrails[].kill",
        "when it is stopped without a person",
        lambda brief: any(guardrail.kill for guardrail in brief.guardrails),
        "medium",
    ),
    Need(
        "segments[].floor",
        "how much worse a segment may fare",
        lambda brief: any(segment.floor is not None for segment in brief.segments),
        "high",
    ),
    Need("calendar", "when schools are open", lambda brief: brief.calendar is not None, "high"),
)
