"""The decision: facts in, one outcome for each arm and for the experiment, with the rules in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.integrity.checks import brief_stands
from exp_pipeline.analysis.planning.power_achieved import absolute_size
from exp_pipeline.analysis.wording import difference_in_words, interval_in_words, listed, margin_in_words
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
    RuleResult,
    Verdict,
)

# Which arm speaks for the experiment: what ships first, then what needs a person soonest.
_FIRST: tuple[Outcome, ...] = (
    "ship", "ship_scoped", "investigate", "roll_back", "pause", "extend", "iterate", "stop",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What is known of one treatment arm when the decision is taken?"""

    arm: str
    guardrails: tuple[GuardrailResult, ...]
    primary: Estimate
    segments: tuple[Estimate, ...] = ()
    impact: Impact | None = None


@dataclass(frozen=True, slots=True)
class _Step:
    """What one rule says, and which outcome it forces (None lets the next rule speak)."""

    rule: RuleResult
    outcome: Outcome | None
    because: str = ""


def decide(
    brief: Brief,
    *,
    lock: LockState,
    integrity: Sequence[IntegrityCheck],
    blinding: Blinding,
    arms: Sequence[ArmFacts],
    power: PowerAchieved | None = None,
) -> Decision:
    """What should be done with the experiment and with each arm?

    Rules in order: integrity, guardrails, planned time, primary, guardrails shown to hold, equity, value,
    brief as locked. The first that forces an outcome decides; all are listed. An arm ships only when none
    forces anything else, so a breached guardrail, a failed check or a changed brief can never ship.
    """
    decided = tuple(_decide_arm(brief, lock, integrity, blinding, facts, power) for facts in arms)
    gains = {facts.arm: _gain(facts.primary, facts.primary.absolute) for facts in arms}
    order = {facts.arm: position for position, facts in enumerate(arms)}

    def place(choice: ArmDecision) -> tuple[int, float, int]:
        gain = gains[choice.arm]
        return _FIRST.index(choice.outcome), -(gain if gain is not None else 0.0), order[choice.arm]

    # Gains must not be told by the choice of an arm while they are hidden.
    chosen = min(decided, key=lambda c: (place(c)[0], order[c.arm]) if blinding.blinded else place(c))
    alone = len(decided) == 1 or len({choice.outcome for choice in decided}) == 1
    shipping = chosen.outcome in ("ship", "ship_scoped")
    others = [f"{c.arm}: {said(c.outcome)}" for c in decided if c is not chosen]
    summary = chosen.because if len(decided) == 1 else f"{chosen.arm}: {chosen.because}"
    if others:
        summary += f" Other arms: {'; '.join(others)}."
    return Decision(
        outcome=chosen.outcome,
        arm=chosen.arm if shipping or not alone else None,
        summary=summary,
        arms=decided,
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
    steps = [_integrity(integrity), _guardrails_hold(facts.guardrails), _time(blinding)]
    if blinding.blinded:
        hidden = "hidden until effects may be seen"
        steps += [
            _Step(
                RuleResult(rule=rule, evidence=hidden, verdict="cannot_tell"), "extend", "Effects are hidden."
            )
            for rule in ("Primary metric", "Equity", "Value")
        ]
    else:
        steps += [
            _primary(brief, facts.primary, blinding, power),
            _guardrails_shown(facts.guardrails),
            _equity(brief, facts.segments),
            _value(facts.impact),
        ]
    steps.append(_lock(lock))
    deciding = next((step for step in steps if step.outcome is not None), None)
    outcome: Outcome = "ship" if deciding is None or deciding.outcome is None else deciding.outcome
    because = deciding.because if deciding else _ship_because(facts)
    if outcome == "ship_scoped" and any(
        step.outcome is not None for step in steps if step.rule.rule != "Equity"
    ):
        later = next(step for step in steps if step.outcome is not None and step.rule.rule != "Equity")
        outcome, because = later.outcome or "investigate", later.because
    return ArmDecision(
        arm=facts.arm, outcome=outcome, because=because, rules=tuple(step.rule for step in steps)
    )


def _rule(rule: str, evidence: str, verdict: Verdict) -> RuleResult:
    return RuleResult(rule=rule, evidence=evidence, verdict=verdict)


def _integrity(integrity: Sequence[IntegrityCheck]) -> _Step:
    failed = [check for check in integrity if check.verdict == "fail"]
    warned = [check.title for check in integrity if check.verdict == "warn"]
    unknown = [check.title for check in integrity if check.verdict == "cannot_tell"]
    if failed:
        names = listed(check.title for check in failed)
        first = failed[0]
        because = f"Integrity fails, so no effect is interpreted: {names}. {first.evidence}"
        return _Step(_rule("Integrity", f"failed: {names}", "fail"), "investigate", because)
    parts = [f"{len(integrity) - len(warned) - len(unknown)} checks pass"]
    parts += [f"warnings: {listed(warned)}"] if warned else []
    parts += [f"not known: {listed(unknown)}"] if unknown else []
    return _Step(_rule("Integrity", "; ".join(parts), "warn" if warned else "pass"), None)


def _guardrails_hold(guardrails: Sequence[GuardrailResult]) -> _Step:
    killed = [result for result in guardrails if result.kill_triggered]
    failed = [result for result in guardrails if result.status == "fail"]
    if not killed and not failed:
        evidence = (
            f"{len(guardrails)} guardrails, none breached" if guardrails else "the brief names no guardrail"
        )
        return _Step(_rule("No guardrail breached", evidence, "pass"), None)
    breached = killed + [result for result in failed if not result.kill_triggered]
    evidence = "; ".join(_breach(result) for result in breached)
    only_pause = all(result.kill_action == "pause" and result.kill_triggered for result in breached)
    outcome: Outcome = "pause" if only_pause else "roll_back"
    because = f"A guardrail is breached, whatever the primary says: {evidence}."
    return _Step(_rule("No guardrail breached", evidence, "fail"), outcome, because)


def _breach(result: GuardrailResult) -> str:
    margin = margin_in_words(result.margin, result.margin_kind, result.display)
    if result.harm is None:
        harm = "harm"
    elif result.margin_kind == "relative":
        harm = f"harm of {100 * result.harm:.3g} %"
    else:
        harm = f"harm of {difference_in_words(result.harm, result.display).lstrip('+')}"
    return f"{result.title}: {harm} against a margin of {margin}"


def _time(blinding: Blinding) -> _Step:
    if blinding.planned:
        return _Step(_rule("Planned time", blinding.reason, "pass"), None)
    because = f"Keep running. {blinding.reason}"
    return _Step(_rule("Planned time", blinding.reason, "cannot_tell"), "extend", because)


def _gain(row: Estimate, value: float | None) -> float | None:
    """A difference counted so that more is better."""
    return None if value is None else value if row.direction == "increase" else -value


def _primary(brief: Brief, row: Estimate, blinding: Blinding, power: PowerAchieved | None) -> _Step:
    rule = "Primary metric"
    if not row.estimable or row.absolute is None:
        because = f"{row.title} cannot be estimated: {row.reason}."
        return _Step(_rule(rule, because, "cannot_tell"), "investigate", because)
    bounds = (row.ci_lower, row.ci_upper)
    interval = f"{100 * row.level:g} % interval"
    if blinding.many_looks and row.look_rule is not None:
        bounds = (row.look_lower, row.look_upper)
        interval = f"{100 * row.level:g} % interval for look {row.look}"
    elif blinding.many_looks:
        bounds, interval = (row.always_valid_lower, row.always_valid_upper), "always-valid interval"
    ends = sorted(gain for gain in (_gain(row, bound) for bound in bounds) if gain is not None)
    gain = _gain(row, row.absolute)
    if len(ends) < 2 or gain is None:
        because = f"{row.title} has no {interval}."
        return _Step(_rule(rule, because, "cannot_tell"), "investigate", because)
    lower, upper = ends
    shown = (
        f"{row.title} {difference_in_words(row.absolute, row.display)}, {interval} "
        f"{interval_in_words(bounds[0], bounds[1], row.display)}"
    )
    above_zero = lower > 0.0
    if above_zero and not blinding.many_looks and row.p_adjusted is not None:
        above_zero = row.p_adjusted < brief.alpha
    if upper < 0.0:
        because = f"The change makes the primary metric worse: {shown}."
        return _Step(_rule(rule, f"{shown}: worse than control", "fail"), "stop", because)
    if not above_zero:
        return _not_shown(brief, row, blinding, power, shown, upper)
    if brief.decision.primary_must_beat == "zero":
        return _Step(_rule(rule, f"{shown}: above zero", "pass"), None)
    return _against_threshold(brief, row, shown, gain, lower, upper)


def _not_shown(
    brief: Brief, row: Estimate, blinding: Blinding, power: PowerAchieved | None, shown: str, upper: float
) -> _Step:
    rule = _rule("Primary metric", f"{shown}: zero is not ruled out", "fail")
    hoped = absolute_size(brief.mde, row.mean_control)
    if hoped is not None and upper < abs(hoped):
        planned = difference_in_words(abs(hoped), row.display)
        because = f"An effect as large as planned ({planned}) is ruled out: {shown}."
        return _Step(rule, "stop", because)
    if not blinding.horizon_reached:
        return _Step(rule, "extend", f"At this look nothing is shown yet: {shown}.")
    weak = power is None or power.achieved_mde is None or power.achieved_mde > power.planned_mde
    if weak:
        return _Step(rule, "extend", f"The data cannot find the planned effect yet: {shown}.")
    return _Step(rule, "iterate", f"No effect is shown with the power that was planned: {shown}.")


def _against_threshold(
    brief: Brief, row: Estimate, shown: str, gain: float, lower: float, upper: float
) -> _Step:
    rule = "Primary metric"
    threshold = None
    if brief.practical_threshold is not None:
        threshold = absolute_size(brief.practical_threshold, row.mean_control)
    if threshold is None:
        because = "The brief asks the primary to beat a practical threshold and names none."
        return _Step(_rule(rule, because, "cannot_tell"), "investigate", because)
    threshold = abs(threshold)
    wanted = f"the practical threshold of {margin_in_words(threshold, 'absolute', row.display)}"
    by_point = brief.decision.threshold_basis == "point"
    if (gain if by_point else lower) >= threshold:
        what = "the estimate reaches" if by_point else "the whole interval reaches"
        return _Step(_rule(rule, f"{shown}: above zero, and {what} {wanted}", "pass"), None)
    evidence = f"{shown}: above zero, below {wanted}"
    if not by_point and gain >= threshold and upper > threshold:
        because = f"A gain is shown; whether it reaches {wanted} is not: {shown}."
        return _Step(_rule(rule, evidence, "fail"), "extend", because)
    return _Step(
        _rule(rule, evidence, "fail"), "iterate", f"A gain is shown, but it is below {wanted}: {shown}."
    )


def _guardrails_shown(guardrails: Sequence[GuardrailResult]) -> _Step:
    rule = "Guardrails shown to hold"
    open_ones = [result for result in guardrails if result.status in ("underpowered", "cannot_tell")]
    if not open_ones:
        evidence = (
            f"{len(guardrails)} of {len(guardrails)} hold" if guardrails else "the brief names no guardrail"
        )
        return _Step(_rule(rule, evidence, "pass"), None)
    told = "; ".join(
        f"{result.title} ({result.status.replace('_', ' ')}): {result.reason}" for result in open_ones
    )
    because = f"The primary passes, but not every guardrail is shown to hold: {told}."
    return _Step(_rule(rule, told, "cannot_tell"), "extend", because)


def _equity(brief: Brief, segments: Sequence[Estimate]) -> _Step:
    rule = "Equity"
    floors = {segment.column: segment.floor for segment in brief.segments if segment.floor is not None}
    if not floors:
        return _Step(_rule(rule, "the brief declares no floor", "pass"), None)
    below, unknown, fine = [], [], []
    for row in segments:
        floor = floors.get(row.segment or "")
        if floor is None:
            continue
        label = f"{row.segment} {row.segment_value}"
        value = row.absolute if floor.absolute is not None else row.relative
        limit = floor.absolute if floor.absolute is not None else floor.relative
        gain = _gain(row, value)
        if gain is None or limit is None:
            unknown.append(label)
        elif gain < limit:
            below.append(f"{label} ({difference_in_words(row.absolute, row.display)})")
        else:
            fine.append(label)
    if below:
        evidence = f"below the floor: {listed(below)}"
        if brief.decision.scoped_shipping and fine:
            because = f"Ship to {listed(fine)} only; {evidence}."
            return _Step(_rule(rule, evidence, "fail"), "ship_scoped", because)
        because = f"The gain is not shared: {evidence}."
        return _Step(_rule(rule, evidence, "fail"), "iterate", because)
    if not fine:
        because = "Floors are declared for segments, and no segment could be estimated."
        return _Step(_rule(rule, because, "cannot_tell"), "extend", because)
    evidence = f"{len(fine)} segments at or above their floor"
    if unknown:
        return _Step(_rule(rule, f"{evidence}; too small to tell: {listed(unknown)}", "warn"), None)
    return _Step(_rule(rule, evidence, "pass"), None)


def _value(impact: Impact | None) -> _Step:
    rule = "Value"
    if impact is None or impact.value is None:
        return _Step(_rule(rule, "the brief declares no value model", "pass"), None)
    shown = f"{impact.value:,.0f} {impact.currency} at full rollout"
    if impact.value_lower is not None and impact.value_upper is not None:
        shown += f" ({impact.value_lower:,.0f} to {impact.value_upper:,.0f})"
    if impact.value < 0.0:
        return _Step(
            _rule(rule, shown, "fail"), "iterate", f"Shipping would cost more than it brings: {shown}."
        )
    surely = impact.value_lower is not None and impact.value_lower >= 0.0
    return _Step(_rule(rule, shown, "pass" if surely else "warn"), None)


def _lock(lock: LockState) -> _Step:
    rule = "Brief as locked"
    if brief_stands(lock):
        return _Step(_rule(rule, "unchanged since the start", "pass"), None)
    if lock.locked_digest is None:
        what = "was never locked"
    elif lock.changes:
        what = f"was changed after the start ({listed(change.field for change in lock.changes)})"
    else:
        what = f"was locked when {lock.days_seen} days of data were already there"
    because = f"The rules would ship, but the brief {what}, so the result is exploratory."
    return _Step(_rule(rule, f"the brief {what}", "fail"), "investigate", because)


def _ship_because(facts: ArmFacts) -> str:
    row = facts.primary
    return (
        f"{row.title} {difference_in_words(row.absolute, row.display)} "
        f"({interval_in_words(row.ci_lower, row.ci_upper, row.display)}) and every guardrail holds."
    )
