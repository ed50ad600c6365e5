"""What a readout decides: rules with their verdicts, one outcome for each arm and for the experiment."""

from __future__ import annotations

from typing import Literal

from exp_pipeline.model.base import Noun
from exp_pipeline.model.checks import Verdict

Outcome = Literal["ship", "ship_scoped", "extend", "iterate", "pause", "stop", "roll_back", "investigate"]


class RuleResult(Noun):
    """One decision rule: what it asks, the evidence it saw, and what it said.

    `forces` is the outcome that the rule would bring about by itself; None lets the next rule speak. The
    first rule that forces one decides; the rules after it are shown, and `reached` is false for them.
    """

    rule: str
    asks: str = ""
    evidence: str
    verdict: Verdict
    forces: Outcome | None = None
    reached: bool = True


class SegmentValue(Noun):
    """One value of a declared segment."""

    column: str
    value: str


class ArmDecision(Noun):
    """What to do with one treatment arm, and the rules that decided it, in their order.

    `decided_by` names the rule that decided. `segments` are those to ship to where the outcome is
    `ship_scoped`.
    """

    arm: str
    outcome: Outcome
    because: str
    rules: tuple[RuleResult, ...]
    decided_by: str = ""
    segments: tuple[SegmentValue, ...] = ()


class Decision(Noun):
    """The decision asked of the readout: one outcome for the experiment, one for each arm.

    `choice` says why this arm and no other, where more than one could be shipped.
    """

    outcome: Outcome
    arm: str | None
    summary: str
    arms: tuple[ArmDecision, ...]
    choice: str = ""
