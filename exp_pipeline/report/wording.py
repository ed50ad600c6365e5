"""The words that stand for outcomes, statuses and verdicts, and the tone each is said in."""

from __future__ import annotations

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import GuardrailStatus, Outcome, Verdict
from exp_pipeline.report.document import Cell, Tone

OUTCOMES: dict[Outcome, tuple[str, Tone, str]] = {
    "ship": ("Ship", "good", "Ship {arm} to everyone who is eligible."),
    "ship_scoped": ("Ship to some", "good", "Ship {arm} to the named segments only."),
    "extend": ("Extend", "calm", "Keep {arm} running: the evidence is not in yet."),
    "iterate": ("Iterate", "warn", "Do not ship {arm} as it is; change it and test again."),
    "pause": ("Pause", "warn", "Pause {arm}."),
    "stop": ("Stop", "bad", "Stop {arm} and stay with control."),
    "roll_back": ("Roll back", "bad", "Take {arm} back to control."),
    "investigate": ("Investigate", "warn", "Find out what went wrong in {arm} before any effect is read."),
}
VERDICTS: dict[Verdict, tuple[str, Tone]] = {
    "pass": ("Pass", "good"),
    "warn": ("Warn", "warn"),
    "fail": ("Fail", "bad"),
    "cannot_tell": ("Cannot tell", "calm"),
}
GUARDRAILS: dict[GuardrailStatus, tuple[str, Tone]] = {
    "pass": ("Within margin", "good"),
    "fail": ("Breached", "bad"),
    "underpowered": ("Underpowered", "warn"),
    "cannot_tell": ("Cannot tell", "calm"),
}
ACTIONS = {"pause": "pause", "roll_back": "roll back"}


def verdict_cell(verdict: Verdict) -> Cell:
    """How is a verdict printed in a table?"""
    label, tone = VERDICTS[verdict]
    return Cell(text=label, tone=tone)


def outcome_sentence(outcome: Outcome, arm: str | None, brief: Brief) -> str:
    """What does an outcome ask people to do, in one sentence?"""
    named = arm or (brief.treatments()[0].name if len(brief.treatments()) == 1 else "the experiment")
    return OUTCOMES[outcome][2].format(arm=named)


def listed(words: list[str]) -> str:
    """How do several things read in a sentence ("a, b and c")?"""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def quoted(name: str) -> str:
    """How does a name stand in a sentence?"""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{name}\N{RIGHT DOUBLE QUOTATION MARK}"
