"""What a draft is judged by before it starts: its expected worth, and the reviews that it was given."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier


class Intake(Noun):
    """How much a change would matter, how sure one is of it, and what it costs: each from 1 (little) to 5."""

    impact: int = Field(ge=1, le=5)
    confidence: int = Field(ge=1, le=5)
    effort: int = Field(ge=1, le=5)


class Review(Noun):
    """One review that was given: its kind, the team that gave it, the day, and what it said."""

    kind: Identifier
    by: str = Field(min_length=1)
    on: date
    note: str = ""
