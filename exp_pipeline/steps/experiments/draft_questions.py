"""The questions of `exp new`, in the order in which one thinks: what and why, whom and when, what decides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from exp_pipeline.catalog import Catalog
from exp_pipeline.catalog.documents import Place, choices
from exp_pipeline.catalog.drafts import draft_problems
from exp_pipeline.model.brief import Hypothesis, Receipt
from exp_pipeline.model.errors import Problem
from exp_pipeline.model.intake import Intake
from exp_pipeline.steps.experiments import draft_answers as answers

Fields = dict[str, Any]
_DAY = timedelta(days=1)
_LENGTH = 28 * _DAY
_LEAD = 14 * _DAY
_HYPOTHESIS = tuple(Hypothesis.model_fields)
_INTAKE = tuple(Intake.model_fields)


@dataclass(frozen=True, slots=True)
class Drafting:
    """What questions are asked of: the catalog, today, and what is known of how many units come a day.

    context: columns that are frozen at assignment.
    """

    catalog: Catalog
    today: date
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One question: its key, where its answer goes, what to ask and why, and how the answer is read.

    read: raises ValueError for what cannot be read. show: the inverse. default: an answer to propose; None
    where only the author can say. offer: names that may be answered, each with a word on it. optional: "none"
    leaves the field out. judgement: the proposal stands for nobody's opinion, so it is never taken unasked.
    """

    key: str
    place: Place
    ask: str
    explain: str
    read: Callable[[str], Any] = answers.words
    show: Callable[[Any], str] = str
    default: str | None = None
    offer: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False
    judgement: bool = False

    def answered(self, fields: Mapping[str, Any], text: str) -> Fields:
        """The draft with this answer. Raises ValueError for an answer that cannot be read."""
        said = text.strip()
        if self.optional and said.casefold() in ("", "none"):
            return _without(fields, self.place)
        whole: Fields = _put(fields, self.place, self.read(said))
        return whole

    def is_there(self, fields: Mapping[str, Any]) -> bool:
        """Whether the draft answers it already."""
        return _at(fields, self.place) is not None

    def not_offered(self, text: str) -> str:
        """What to say of an answer that is none of those offered; empty where it is one."""
        if text.strip() in self.offer:
            return ""
        hint, allowed = choices(text.strip(), self.offer)
        return f"{text.strip()!r} is not one of the choices{hint}; allowed: {allowed}"

    def proposed(self, fields: Mapping[str, Any]) -> str | None:
        """What to propose: what the draft says already, else the default."""
        value = _at(fields, self.place)
        return self.default if value is None else self.show(value)


def questions(drafting: Drafting, fields: Callable[[], Fields]) -> Iterator[Question]:
    """The questions one after the other. fields: the draft so far, asked anew before each question."""
    yield from _why_questions()
    yield from _design_questions(drafting, fields)
    yield from _metric_questions(drafting, fields)
    if "table" in fields():
        yield _threshold_question()
        yield from _icc_question(fields)
        return
    yield from _size_questions(fields)
    yield from _trust_questions(drafting, fields)


def problems_of(before: Mapping[str, Any], after: Mapping[str, Any], drafting: Drafting) -> list[Problem]:
    """What is wrong with a draft after an answer that was not wrong with it before."""
    known = {(one.field, one.message) for one in _judged(before, drafting)}
    return [one for one in _judged(after, drafting) if (one.field, one.message) not in known]


def _judged(fields: Mapping[str, Any], drafting: Drafting) -> list[Problem]:
    return draft_problems(filled_up(fields, drafting), drafting.catalog, drafting.context)[1]


def filled_up(fields: Mapping[str, Any], drafting: Drafting) -> Fields:
    """A draft with stand-ins for what is not answered yet, so that the rest can be judged and asked."""
    whole = {**_filler(drafting, fields), **fields}
    for part, stand_ins in (
        ("hypothesis", dict.fromkeys(_HYPOTHESIS, "…")),
        ("intake", dict.fromkeys(_INTAKE, 3)),
    ):
        if isinstance(fields.get(part), Mapping):
            whole[part] = {**stand_ins, **fields[part]}
    return whole


def _filler(drafting: Drafting, fields: Mapping[str, Any]) -> Fields:
    start = _monday(drafting.today + _LEAD)
    if isinstance(fields.get("start"), str):
        start = date.fromisoformat(fields["start"])
    taken = {fields.get("primary"), *fields.get("secondary", ()), *fields.get("counter_metrics", ())}
    taken |= {one.get("metric") for one in fields.get("guardrails", ())}
    known = fields["table"]["metrics"] if "table" in fields else sorted(drafting.catalog.metrics)
    primary = next((name for name in known if name not in taken), "unnamed")
    return {
        "name": "draft",
        "title": "…",
        "hypothesis": dict.fromkeys(_HYPOTHESIS, "…"),
        "owner": "…",
        "on_call": "…",
        "risk_class": "low",
        "randomisation_unit": "learner",
        "arms": [{"name": "control", "share": 0.5}, {"name": "treatment", "share": 0.5}],
        "control": fields["arms"][0]["name"] if fields.get("arms") else "control",
        "start": start.isoformat(),
        "end": (start + _LENGTH).isoformat(),
        "primary": primary,
        "mde": {"absolute": 0.05},
    }


def _why_questions() -> Iterator[Question]:
    yield Question("title", ("title",), "Title", "A short name for people.")
    for key, ask, explain in (
        ("change", "If we …", "What will be different, such as: show a worked example first."),
        ("population", "… for whom", "Such as: students of grade 7."),
        ("context", "… in which context", "Where in the product, such as: the fractions unit."),
        ("moves", "… then what moves, by how much", "Such as: mastery rises by at least 5 points."),
        ("because", "… because", "Why you believe so."),
        ("without_harming", "… without harming", "What must not get worse."),
    ):
        yield Question(key, ("hypothesis", key), ask, explain)
    yield Question("owner", ("owner",), "Owner", "The team that decides.")
    yield Question("on_call", ("on_call",), "On call", "The team that is called when a guardrail breaks.")
    yield Question(
        "decision_asked", ("decision_asked",), "Decision asked", "The question that the memo answers."
    )
    yield Question(
        "risk_class",
        ("risk_class",),
        "Risk class",
        "How much harm a mistake could do; it decides which reviews are needed.",
        default="low",
        offer={
            "low": "a mistake is a nuisance",
            "medium": "a mistake costs learning; needs a guardrail",
            "high": "a mistake can harm; needs a kill rule and a ramp too",
        },
    )


def _design_questions(drafting: Drafting, fields: Callable[[], Fields]) -> Iterator[Question]:
    yield Question(
        "randomisation_unit",
        ("randomisation_unit",),
        "Who is drawn",
        "Whole classes where pupils of a class would notice each other's arm.",
        default="learner",
        offer={"learner": "each learner alone", "class": "whole classes; needs more learners"},
    )
    yield Question(
        "arms",
        ("arms",),
        "Arms",
        "Names between commas, control first; percentages where shares are uneven: control 50, a 30, b 20.",
        read=lambda text: answers.arms(text, fields().get("arms", ())),
        show=answers.arms_words,
        default="control, treatment",
    )
    told = [arm["name"] for arm in fields()["arms"]]
    kept = fields().get("control")
    yield Question(
        "control",
        ("control",),
        "Control",
        "The arm that the others are compared with.",
        default=kept if kept in told else told[0],
        offer=dict.fromkeys(told, ""),
    )
    for position, name in enumerate(told):
        yield Question(
            f"arm.{name}",
            ("arms", position, "description"),
            f"What {name} does",
            "In words, for the memo.",
            default="The product as it is." if name == fields()["control"] else None,
        )
    yield Question(
        "start",
        ("start",),
        "First day",
        "UTC, YYYY-MM-DD. A Monday, because weekdays differ.",
        read=answers.day,
        default=_monday(drafting.today + _LEAD).isoformat(),
    )
    start = date.fromisoformat(fields()["start"])
    yield Question(
        "end",
        ("end",),
        "End",
        "The first day after the experiment; whole weeks. Effects stay hidden until then.",
        read=answers.day,
        default=(start + _LENGTH).isoformat(),
    )


def _metric_questions(drafting: Drafting, fields: Callable[[], Fields]) -> Iterator[Question]:
    metrics = drafting.catalog.metrics
    offered = {name: metric.title for name, metric in sorted(metrics.items()) if metric.kind != "guardrail"}
    guarding = {name: metric.title for name, metric in sorted(metrics.items()) if metric.kind == "guardrail"}
    if "table" in fields():
        offered = guarding = {name: one["title"] for name, one in fields()["table"]["metrics"].items()}
    yield Question("primary", ("primary",), "Primary metric", "The one that decides.", offer=offered)
    yield Question(
        "mde",
        ("mde",),
        "Smallest effect worth finding",
        "In the metric's unit (0.05 is 5 percentage points), or `relative 0.05` for 5 % of control's value.",
        read=answers.effect,
        show=answers.effect_words,
    )
    yield Question(
        "secondary",
        ("secondary",),
        "Secondary metrics",
        "They explain; names between commas.",
        read=answers.names,
        show=_listed,
        default="none",
        offer=offered,
        optional=True,
    )
    high = fields()["risk_class"] == "high"
    yield Question(
        "guardrails",
        ("guardrails",),
        "Guardrails",
        "Metric and the harm that is still acceptable, between commas, such as: p95_latency_ms 0.1 relative. "
        "`kill` stops without a person, `point` judges the estimate (for what is too rare to test).",
        read=answers.guardrails,
        show=answers.guardrails_words,
        default=None if high or fields()["risk_class"] == "medium" else "none",
        offer=guarding,
        optional=not high,
    )
    primary = metrics.get(fields()["primary"])
    taken = {*fields().get("secondary", ()), *(one["metric"] for one in fields().get("guardrails", ()))}
    gamed = primary.counter_metric if primary is not None else None
    yield Question(
        "counter_metrics",
        ("counter_metrics",),
        "Counter-metrics",
        "What would get worse if the primary were gamed; watched, they decide nothing.",
        read=answers.names,
        show=_listed,
        default=gamed if gamed is not None and gamed not in taken else "none",
        offer=offered | guarding,
        optional=True,
    )
    if "table" in fields():
        return
    yield Question(
        "segments",
        ("segments",),
        "Segments",
        "Columns known at assignment by which the effect is shown apart; with the least effect that each "
        "value may have where you set one, such as: platform -0.05.",
        read=answers.segments,
        show=answers.segments_words,
        default="none",
        offer=dict.fromkeys(drafting.context, ""),
        optional=True,
    )


def _threshold_question() -> Question:
    return Question(
        "practical_threshold",
        ("practical_threshold",),
        "Effect from which you would act",
        "Written as the smallest effect worth finding; none where any gain is enough.",
        read=answers.effect,
        show=answers.effect_words,
        default="none",
        optional=True,
    )


def _size_questions(fields: Callable[[], Fields]) -> Iterator[Question]:
    yield _threshold_question()
    yield Question(
        "expected_units_per_day",
        ("expected_units_per_day",),
        "New units a day",
        "How many enter a day; none lets history tell.",
        read=answers.number,
        show=lambda value: f"{value:g}",
        default="none",
        optional=True,
    )
    yield Question(
        "attrition",
        ("attrition",),
        "Share that is lost",
        "Units whose outcome will not be seen, such as 0.05.",
        read=answers.number,
        show=lambda value: f"{value:g}",
        default="0.0",
    )
    yield from _icc_question(fields)


def _icc_question(fields: Callable[[], Fields]) -> Iterator[Question]:
    if fields()["randomisation_unit"] == "class":
        yield Question(
            "icc",
            ("icc",),
            "Intraclass correlation",
            "How alike learners of one class are; `exp plan` shows that of history. 0.05 to 0.2 is usual.",
            read=answers.number,
            show=lambda value: f"{value:g}",
            default="0.1",
        )


def _trust_questions(drafting: Drafting, fields: Callable[[], Fields]) -> Iterator[Question]:
    kept = [str(one) for one in _receipt_fields()]
    yield Question(
        "may_differ",
        ("receipt", "may_differ"),
        "Versions that may differ",
        "Between the arms; every other must be equal, and is checked. Names between commas.",
        read=answers.names,
        show=_listed,
        default="none",
        offer=dict.fromkeys(kept, ""),
    )
    yield Question(
        "new_logging",
        ("new_logging",),
        "New logging",
        "Are events or bucketing new? Then an A/A result is asked for before the start.",
        read=answers.yes_or_no,
        show=lambda value: "yes" if value else "no",
        default="no",
    )
    high = fields()["risk_class"] == "high"
    yield Question(
        "ramp",
        ("ramp",),
        "Ramp",
        "Percentages of traffic in which it is let in, the last one 100, such as: 1 5 25 100.",
        read=answers.stages,
        show=answers.stages_words,
        default="1 5 25 100" if high else "none",
        optional=not high,
    )
    if drafting.catalog.calendars:
        offered = {name: one.title for name, one in drafting.catalog.calendars.items()}
        yield Question(
            "calendar",
            ("calendar",),
            "School calendar",
            "When schools are open; a ramp keeps to it.",
            default="none",
            offer=offered,
            optional=True,
        )
    for key, explain in (
        ("impact", "How much would it matter, from 1 (little) to 5?"),
        ("confidence", "How sure are you of it, from 1 (a guess) to 5?"),
        ("effort", "What does it cost to build and run, from 1 (days) to 5 (months)?"),
    ):
        yield Question(
            key, ("intake", key), key.capitalize(), explain, read=answers.whole, default="3", judgement=True
        )


def _receipt_fields() -> Collection[str]:
    from typing import get_args

    return get_args(get_args(Receipt.model_fields["may_differ"].annotation)[0])


def _listed(value: Collection[str]) -> str:
    return ", ".join(value) or "none"


def _monday(day: date) -> date:
    return day + (-day.weekday() % 7) * _DAY


def _at(fields: Any, place: Place) -> Any:
    for step in place:
        try:
            fields = fields[step]
        except (KeyError, IndexError, TypeError):
            return None
    return fields


def _put(fields: Any, place: Place, value: Any) -> Any:
    """A copy of plain data with a value at a place."""
    if not place:
        return value
    head, rest = place[0], place[1:]
    if isinstance(head, int):
        return [_put(one, rest, value) if position == head else one for position, one in enumerate(fields)]
    held = fields if isinstance(fields, Mapping) else {}
    return {**held, head: _put(held.get(head), rest, value)}


def _without(fields: Mapping[str, Any], place: Place) -> Fields:
    """A copy of a draft without what is at a place."""
    head, rest = str(place[0]), place[1:]
    if rest and isinstance(fields.get(head), Mapping):
        return {**fields, head: _without(fields[head], rest)}
    return {name: value for name, value in fields.items() if name != head}
