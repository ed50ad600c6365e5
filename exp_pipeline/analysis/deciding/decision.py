"""The decision: facts in, one outcome for each arm and for the experiment, with the rules in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.deciding.equity import equity_step
from exp_pipeline.analysis.deciding.primary import primary_question, primary_step
from exp_pipeline.analysis.deciding.rules import (
    Course,
    Question,
    Step,
    breach_step,
    gain_of,
    integrity_step,
    lasting_step,
    lock_step,
    shown_step,
    time_step,
    value_step,
)
from exp_pipeline.analysis.wording import difference_in_words, interval_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import (
    ArmDecision,
    Decision,
    Estimate,
    GuardrailResult,
    Impact,
    IntegrityCheck,
    LockState,
    Outcome,
    PowerAchieved,
)
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline.stats.results import NotEstimable

# Which arm speaks for the experiment: what ships first, then what needs a person soonest.
_FIRST: tuple[Outcome, ...] = (
    "ship", "ship_scoped", "investigate", "roll_back", "pause", "extend", "iterate", "stop",
)  # fmt: skip
_SHIPPING: tuple[Outcome, ...] = ("ship", "ship_scoped")
_HIDDEN = "hidden until effects may be seen"


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What is known of one treatment arm when the decision is taken?

    segments: the primary in each declared segment, p-values adjusted over all of them. course: how the effect
    goes on with time since assignment. bounds: of the primary for missing units, at the brief's level;
    nobody_missing says that none are needed.
    """

    arm: str
    guardrails: tuple[GuardrailResult, ...]
    primary: Estimate
    segments: tuple[Estimate, ...] = ()
    impact: Impact | None = None
    course: Course = field(default_factory=Course)
    bounds: EffectBounds | NotEstimable | None = None
    nobody_missing: bool = False


def decide(
    brief: Brief,
    *,
    lock: LockState,
    integrity: Sequence[IntegrityCheck],
    blinding: Blinding,
    arms: Sequence[ArmFacts],
    power: PowerAchieved | None = None,
    arms_compared: Sequence[Estimate] = (),
) -> Decision:
    """What should be done with the experiment and with each arm?

    Rules in order: integrity, guardrails, planned time, primary, guardrails shown to hold, lasting effect,
    equity, value, brief as locked. The first that forces an outcome decides; all are listed. An arm ships
    only when none forces anything else, so a breached guardrail, a failed check or a changed brief can never
    ship. arms_compared: the primary of arms against each other, where the brief asked for it; it is told, and
    does not choose.
    """
    decided = tuple(_decide_arm(brief, lock, integrity, blinding, facts, power) for facts in arms)
    order = {facts.arm: position for position, facts in enumerate(arms)}
    worth, what = _worth(arms, [choice.arm for choice in decided if choice.outcome in _SHIPPING])

    def place(choice: ArmDecision) -> tuple[int, float, int]:
        first = _FIRST.index(choice.outcome)
        # Gains must not be told by the choice of an arm while they are hidden.
        return first, 0.0 if blinding.blinded else -worth.get(choice.arm, 0.0), order[choice.arm]

    chosen = min(decided, key=place)
    alone = len(decided) == 1 or len({choice.outcome for choice in decided}) == 1
    shipping = chosen.outcome in _SHIPPING
    choice = _choice(chosen, decided, worth, what, arms_compared) if shipping else ""
    # What holds of every arm alike (integrity fails, too early) is said once.
    alike = len(decided) == 1 or (
        not shipping and len({(choice.outcome, choice.because) for choice in decided}) == 1
    )
    others = [] if alike else [f"{c.arm}: {said(c.outcome)}" for c in decided if c is not chosen]
    summary = chosen.because if alike else f"{chosen.arm}: {chosen.because}"
    summary += f" {choice}" if choice else ""
    if others:
        summary += f" Other arms: {'; '.join(others)}."
    return Decision(
        outcome=chosen.outcome,
        arm=chosen.arm if shipping or not alone else None,
        summary=summary,
        arms=decided,
        choice=choice,
    )


def said(outcome: Outcome) -> str:
    """How is an outcome said?"""
    return outcome.replace("_", " ")


def _decide_arm(
    brief: Brief,
    lock: LockState,
    integrity: Sequence[IntegrityCheck],
    blinding: Blinding,
    facts: ArmFacts,
    power: PowerAchieved | None,
) -> ArmDecision:
    rules = brief.decision
    steps = [
        integrity_step(rules.integrity, integrity),
        breach_step(facts.guardrails),
        time_step(blinding),
        *(_hidden(brief, facts) if blinding.blinded else _of_effects(brief, facts, blinding, power)),
        lock_step(lock),
    ]
    forcing = [place for place, step in enumerate(steps) if step.outcome is not None]
    # Shipping to some still asks what the rules after it ask.
    deciding = next((place for place in forcing if steps[place].outcome != "ship_scoped"), None)
    scoped = next((place for place in forcing if steps[place].outcome == "ship_scoped"), None)
    last = deciding if deciding is not None else len(steps)
    shown = tuple(
        step.rule if place <= last else step.rule.model_copy(update={"reached": False})
        for place, step in enumerate(steps)
    )
    decider = steps[deciding] if deciding is not None else steps[scoped] if scoped is not None else None
    if decider is None or decider.outcome is None:
        question = primary_question(brief)
        return ArmDecision(
            arm=facts.arm, outcome="ship", because=_ship_because(facts), rules=shown, decided_by=question.rule
        )
    return ArmDecision(
        arm=facts.arm,
        outcome=decider.outcome,
        because=decider.because,
        rules=shown,
        decided_by=decider.rule.rule,
        segments=decider.segments,
    )


def _of_effects(brief: Brief, facts: ArmFacts, blinding: Blinding, power: PowerAchieved | None) -> list[Step]:
    rules = brief.decision
    return [
        primary_step(
            brief, facts.primary, blinding, power, facts.bounds, nobody_missing=facts.nobody_missing
        ),
        shown_step(rules.guardrails, facts.guardrails),
        lasting_step(rules.lasting, facts.primary, brief.alpha, facts.course),
        equity_step(brief, facts.segments, blinding),
        value_step(rules.value, facts.impact),
    ]


def _hidden(brief: Brief, facts: ArmFacts) -> list[Step]:
    """The rules that read effects, none of which may tell one; guardrails are shown at any time."""
    primary, *later = [
        question.forces("extend", _HIDDEN, "Effects are hidden.", verdict="cannot_tell")
        for question in (
            primary_question(brief),
            Question("Lasting effect", "Does the gain last?"),
            Question("Equity", "Is every declared segment at or above its floor?"),
            Question("Value", "Is shipping worth it?"),
        )
    ]
    return [primary, shown_step(brief.decision.guardrails, facts.guardrails), *later]


def _worth(arms: Sequence[ArmFacts], shipping: Sequence[str]) -> tuple[dict[str, float], str]:
    """What is each arm worth, so that the better of two can be chosen, and in what is that counted?

    In expected value where every arm that could be shipped has one, else in gain of the primary.
    """
    values = {
        facts.arm: facts.impact.value
        for facts in arms
        if facts.impact is not None and facts.impact.value is not None
    }
    if shipping and all(arm in values for arm in shipping):
        return values, "expected value"
    gains = {facts.arm: gain_of(facts.primary, facts.primary.absolute) for facts in arms}
    return {arm: gain for arm, gain in gains.items() if gain is not None}, "gain in the primary"


def _choice(
    chosen: ArmDecision,
    decided: Sequence[ArmDecision],
    worth: dict[str, float],
    what: str,
    arms_compared: Sequence[Estimate],
) -> str:
    """Why is this arm shipped and not another that could be? Empty where it is the only one."""
    rivals = [arm for arm in decided if arm is not chosen and arm.outcome in _SHIPPING]
    if not rivals:
        return ""
    told = []
    for rival in rivals:
        own, other = worth.get(chosen.arm, 0.0), worth.get(rival.arm, 0.0)
        if chosen.outcome != rival.outcome:
            why = "which could be shipped to some only"
        elif own == other:
            why = f"which has the same {what} and comes later in the brief"
        else:
            why = f"whose {what} is smaller"
        told.append(f"{rival.arm}, {why}{_compared(chosen.arm, rival.arm, arms_compared)}")
    return f"{chosen.arm} is chosen over {'; over '.join(told)}."


def _compared(arm: str, rival: str, rows: Sequence[Estimate]) -> str:
    for row in rows:
        if {row.arm, row.control} != {arm, rival} or row.ci_lower is None or row.ci_upper is None:
            continue
        shown = "shown" if row.ci_lower > 0.0 or row.ci_upper < 0.0 else "not shown"
        interval = interval_in_words(row.ci_lower, row.ci_upper, row.display)
        return f" (a difference between the two is {shown}: {row.arm} against {row.control} {interval})"
    return ""


def _ship_because(facts: ArmFacts) -> str:
    row = facts.primary
    held = (
        "every guardrail holds"
        if all(result.status == "pass" for result in facts.guardrails)
        else "no guardrail is breached, though not every one is shown to hold"
    )
    return (
        f"{row.title} {difference_in_words(row.absolute, row.display)} "
        f"({interval_in_words(row.ci_lower, row.ci_upper, row.display)}) and {held}."
    )
