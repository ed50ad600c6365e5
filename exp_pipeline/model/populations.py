"""Which of the units that were assigned belong in the analysis: eligibility and exclusions of a brief."""

from __future__ import annotations

from pydantic import Field

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Identifier


class Condition(Noun):
    """Units for whom this column of the context frozen at assignment holds one of these values.

    A unit of whom the value is not known does not fulfil a condition.
    """

    column: Identifier
    values: tuple[str, ...] = Field(min_length=1)
    reason: str = ""


class Exclusion(Condition):
    """Units that are left out, because a column of the context frozen at assignment holds one of these.

    A unit of whom the value is not known is not left out: what is not known is no reason to exclude.
    """

    reason: str = Field(min_length=1)


class UnitsLeftOut(Noun):
    """Units that were assigned and are not analysed, by arm, for one reason that the brief gave."""

    reason: str
    units: dict[str, int]
