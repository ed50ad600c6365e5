"""What a readout recommends, as one line of the decision log."""

from __future__ import annotations

from datetime import UTC, datetime

from exp_pipeline.analysis.deciding.blinding import blinding_of
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.readout import ArmDecision, Readout

BY_RULES = "rules"


def logged_recommendation(readout: Readout, *, at: datetime, memo: str) -> LoggedDecision:
    """Which line of the log says what a readout recommends, by which rule, on which data?

    Pure: the same readout, moment and memo give the same line. at: when it is logged, with its time zone.
    memo: its page, relative to the data folder. Raises ValueError where `at` carries no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"at must carry a time zone, got {at.isoformat()}")
    speaking = arm_that_speaks(readout, readout.decision.arm)
    return LoggedDecision(
        kind="recommended",
        experiment=readout.experiment,
        title=readout.brief.title,
        snapshot=readout.provenance.snapshot,
        as_of=readout.as_of,
        at=at.astimezone(UTC),
        outcome=readout.decision.outcome,
        arm=readout.decision.arm,
        segments=() if speaking is None else speaking.segments,
        by=BY_RULES,
        because=readout.decision.summary,
        rule=deciding_rule(speaking),
        planned=at_planned_time(readout),
        effects_hidden=readout.blinded,
        brief_digest=readout.provenance.brief_digest,
        code_version=readout.provenance.code_version,
        memo=memo,
    )


def at_planned_time(readout: Readout) -> bool:
    """Do a readout's data end at a planned look or the horizon?"""
    return blinding_of(
        readout.brief, readout.lock, readout.as_of, readout.integrity, readout.unblinded_because
    ).planned


def arm_that_speaks(readout: Readout, arm: str | None) -> ArmDecision | None:
    """The decision for an arm; without one, the first arm's whose outcome is the experiment's."""
    arms = readout.decision.arms
    if arm is not None:
        return next((one for one in arms if one.arm == arm), None)
    return next((one for one in arms if one.outcome == readout.decision.outcome), None)


def deciding_rule(arm: ArmDecision | None) -> str:
    """Which rule decided for an arm? Readouts of earlier versions do not name it: the first that objected."""
    if arm is None:
        return ""
    return arm.decided_by or next((rule.rule for rule in arm.rules if rule.verdict != "pass"), "")
