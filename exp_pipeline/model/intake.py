"""What a draft is judged by before it starts: its expected worth, and the reviews it needs and has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier

RiskClass = Literal["low", "medium", "high"]
IntakeState = Literal["draft", "locked", "over"]


class Intake(Noun):
    """How much a change would matter, how sure one is of it, and what it costs: each from 1 (little) to 5."""

    impact: int = Field(ge=1, le=5)
    confidence: int = Field(ge=1, le=5)
    effort: int = Field(ge=1, le=5)


class Review(Noun):
    """One review that was given: its kind, the team that gave it, the day, and what it said."""

    kind: Identifier
    by: str = Field(min_length=1)
    day: date
    note: str = ""


class ReviewKind(Noun):
    """One kind of review: what the reviewer asks, and the team that answers."""

    name: Identifier
    asks: str = Field(min_length=1)
    team: str = ""


class RequiredReviews(Noun):
    """Kinds of review that a change needs before it starts, by its risk class."""

    low: tuple[Identifier, ...] = ("peer",)
    medium: tuple[Identifier, ...] = ("peer", "data")
    high: tuple[Identifier, ...] = ("peer", "data", "privacy", "safety")


_KINDS = (
    ReviewKind(name="peer", asks="Does the design answer the question, and would one act on the answer?"),
    ReviewKind(name="data", asks="Are the metrics sound, do their events arrive, is the power enough?"),
    ReviewKind(name="privacy", asks="Is only what is needed logged, and is nobody recognisable in it?"),
    ReviewKind(name="safety", asks="What could harm a learner, and would the guardrails see it in time?"),
)


class ReviewPolicy(Noun):
    """Which reviews there are, and which of them a change needs before it starts."""

    kinds: tuple[ReviewKind, ...] = Field(default=_KINDS, min_length=1)
    required: RequiredReviews = RequiredReviews()

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = [kind.name for kind in self.kinds]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"kinds must have different names: {', '.join(twice)}")
        for risk in ("low", "medium", "high"):
            unknown = [kind for kind in self.needed(risk) if kind not in names]
            if unknown:
                raise ValueError(
                    f"required.{risk} may name only declared kinds ({', '.join(names)}), not: {unknown[0]}"
                )
        return self

    def needed(self, risk_class: RiskClass) -> tuple[str, ...]:
        """Which kinds of review does a change of this risk class need?"""
        return {"low": self.required.low, "medium": self.required.medium, "high": self.required.high}[
            risk_class
        ]


@dataclass(frozen=True, slots=True)
class IntakeRow:
    """One brief in the queue of a review board.

    state: a draft may still be changed; locked, it runs or waits for its first day; over, its end has come.
    waits_for: kinds of review that its risk class needs and that nobody gave (or gave for another design).
    """

    experiment: str
    version: int
    title: str
    owner: str
    risk_class: RiskClass
    start: date
    end: date
    state: IntakeState
    completeness: float
    missing: tuple[str, ...]
    priority: float | None
    priority_because: str
    reviewed: tuple[str, ...]
    waits_for: tuple[str, ...]
