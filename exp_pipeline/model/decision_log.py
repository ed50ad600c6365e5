"""The decision log: what readouts recommended, and what people decided."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import AwareDatetime, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.readout import Outcome, SegmentValue


class LoggedDecision(Noun):
    """One line of the decision log; it is never changed and never removed.

    kind: `recommended` by a readout's rules, or `decided` by people. by: the team that decided, or `rules`.
    because: the rules' summary, or the reason that people gave. rule: the rule that decided. recommended:
    what the readout recommended when people decided. planned: whether its data end at a planned look or the
    horizon. effects_hidden: whether the primary's effect was hidden at that moment. memo: the memo's page,
    relative to the data folder.
    """

    kind: Literal["recommended", "decided"]
    experiment: str
    title: str = ""
    snapshot: str
    as_of: date
    at: AwareDatetime
    outcome: Outcome
    arm: str | None = None
    segments: tuple[SegmentValue, ...] = ()
    by: str
    because: str
    rule: str = ""
    recommended: Outcome | None = None
    planned: bool
    effects_hidden: bool
    brief_digest: str
    code_version: str
    memo: str

    @model_validator(mode="after")
    def _people_are_named(self) -> LoggedDecision:
        if self.kind == "decided" and not (self.by.strip() and self.because.strip()):
            raise ValueError("a decision of people names its team (by) and its reason (because)")
        return self

    @property
    def differs(self) -> bool:
        """Whether people decided otherwise than the readout recommended."""
        return self.kind == "decided" and self.recommended is not None and self.recommended != self.outcome
