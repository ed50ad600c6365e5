"""The decision rules one by one: what each asks, the evidence it sees, and the outcome it forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.integrity.checks import brief_stands
from exp_pipeline.analysis.wording import difference_in_words, interval_in_words, listed, margin_in_words
from exp_pipeline.model.decision_rules import GuardrailsRule, IntegrityRule, LastingRule, ValueRule
from exp_pipeline.model.readout import (
    Estimate,
    GuardrailResult,
    Impact,
    IntegrityCheck,
    LockState,
    NoveltyContrast,
    NoveltyPoint,
    NoveltySplit,
    NoveltyTrend,
    Outcome,
    RuleResult,
    SegmentValue,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule says, which outcome it forces (None lets the next rule speak), and where it would ship.

    segments: of a rule that forces `ship_scoped`.
    """

    rule: RuleResult
    because: str = ""
    segments: tuple[SegmentValue, ...] = ()

    @property
    def outcome(self) -> Outcome | None:
        return self.rule.forces


@dataclass(frozen=True, slots=True)
class Course:
    """How does an arm's effect on the primary go on as units get used to it?

    contrast: the last complete week since assignment less the first. late: a late week by itself (see
    `late_week`). split: the days after the brief's split less those before. trend: the change a week, and
    where the effect settles.
    """

    contrast: NoveltyContrast | None = None
    late: NoveltyPoint | None = None
    split: NoveltySplit | None = None
    trend: NoveltyTrend | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A rule's name and what it asks: the two that stand beside every answer of it."""

    rule: str
    asks: str

    def passes(self, evidence: str, verdict: Verdict = "pass") -> Step:
        """The next rule may speak."""
        return Step(RuleResult(rule=self.rule, asks=self.asks, evidence=evidence, verdict=verdict))

    def forces(
        self,
        outcome: Outcome,
        evidence: str,
        because: str,
        verdict: Verdict = "fail",
        segments: tuple[SegmentValue, ...] = (),
    ) -> Step:
        """This rule decides, unless one before it did."""
        result = RuleResult(
            rule=self.rule, asks=self.asks, evidence=evidence, verdict=verdict, forces=outcome
        )
        return Step(result, because, segments)


def gain_of(row: Estimate, value: float | None) -> float | None:
    """A difference counted so that more is better."""
    return None if value is None else value if row.direction == "increase" else -value


def integrity_step(rule: IntegrityRule, integrity: Sequence[IntegrityCheck]) -> Step:
    """May the effects be believed?"""
    beside = [f"no warning of {listed(rule.stop_on_warnings)}"] if rule.stop_on_warnings else []
    beside += [f"{listed(rule.must_be_known)} known"] if rule.must_be_known else []
    question = Question("Integrity", f"Does every integrity check pass{_with(beside)}?")
    failed = [check for check in integrity if check.verdict == "fail"]
    warned = [check for check in integrity if check.verdict == "warn"]
    unknown = [check for check in integrity if check.verdict == "cannot_tell"]
    if failed:
        names = listed(check.title for check in failed)
        because = f"Integrity fails, so no effect is interpreted: {names}. {failed[0].evidence}"
        return question.forces("investigate", f"failed: {names}", because)
    stopping = [check for check in warned if check.name in rule.stop_on_warnings]
    stopping += [check for check in unknown if check.name in rule.must_be_known]
    if stopping:
        names = listed(check.title for check in stopping)
        because = f"The brief asks for more than warnings: {names}. {stopping[0].evidence}"
        return question.forces("investigate", f"not as the brief asks: {names}", because)
    held = {check.name for check in integrity}
    absent = [name for name in (*rule.stop_on_warnings, *rule.must_be_known) if name not in held]
    if absent:
        what = f"no check is called {listed(dict.fromkeys(absent))}"
        return question.forces(
            "investigate", what, f"The brief's integrity rule cannot be judged: {what}.", "cannot_tell"
        )
    parts = [f"{len(integrity) - len(warned) - len(unknown)} checks pass"]
    parts += [f"warnings: {listed(check.title for check in warned)}"] if warned else []
    parts += [f"not known: {listed(check.title for check in unknown)}"] if unknown else []
    return question.passes("; ".join(parts), "warn" if warned else "pass")


def breach_step(guardrails: Sequence[GuardrailResult]) -> Step:
    """Is a guardrail breached?"""
    question = Question("No guardrail breached", "Does no guardrail show harm beyond its margin?")
    killed = [result for result in guardrails if result.kill_triggered]
    failed = [result for result in guardrails if result.status == "fail"]
    if not killed and not failed:
        return question.passes(
            f"{len(guardrails)} guardrails, none breached" if guardrails else "the brief names no guardrail"
        )
    breached = killed + [result for result in failed if not result.kill_triggered]
    evidence = "; ".join(_breach(result) for result in breached)
    only_pause = all(result.kill_action == "pause" and result.kill_triggered for result in breached)
    because = f"A guardrail is breached, whatever the primary says: {evidence}."
    return question.forces("pause" if only_pause else "roll_back", evidence, because)


def _breach(result: GuardrailResult) -> str:
    margin = margin_in_words(result.margin, result.margin_kind, result.display)
    if result.harm is None:
        harm = "harm"
    elif result.margin_kind == "relative":
        harm = f"harm of {100 * result.harm:.3g} %"
    else:
        harm = f"harm of {difference_in_words(result.harm, result.display).lstrip('+')}"
    return f"{result.title}: {harm} against a margin of {margin}"


def time_step(blinding: Blinding) -> Step:
    """Do the data end where a decision was planned?"""
    question = Question("Planned time", "Do the data end at a planned look or at the horizon?")
    if blinding.planned:
        return question.passes(blinding.reason)
    return question.forces(
        "extend", blinding.reason, f"Keep running. {blinding.reason}", verdict="cannot_tell"
    )


def shown_step(rule: GuardrailsRule, guardrails: Sequence[GuardrailResult]) -> Step:
    """Is every guardrail shown to hold? One that is not is never said to have passed."""
    question = Question(
        "Guardrails shown to hold", "Is every guardrail shown to hold, not only not breached?"
    )
    open_ones = [result for result in guardrails if result.status in ("underpowered", "cannot_tell")]
    if not open_ones:
        return question.passes(
            f"{len(guardrails)} of {len(guardrails)} hold" if guardrails else "the brief names no guardrail"
        )
    told = "; ".join(
        f"{result.title} ({result.status.replace('_', ' ')}): {result.reason}" for result in open_ones
    )
    within = all(
        result.status == "underpowered" and result.harm is not None and result.harm < result.margin
        for result in open_ones
    )
    if rule.underpowered == "say" and within:
        return question.passes(f"not shown, and the brief lets that be said only: {told}", "warn")
    outcome: Outcome = "extend" if rule.underpowered == "say" else rule.underpowered
    because = f"The primary passes, but not every guardrail is shown to hold: {told}."
    return question.forces(outcome, told, because, verdict="cannot_tell")


def late_week(points: Sequence[NoveltyPoint]) -> NoveltyPoint | None:
    """Which week of one arm speaks for later ones? The last that half as many units of each arm have had.

    As the week that most have had, that is: the very last week is often that of the few who came first.
    """
    known = [point for point in points if point.estimable]
    control = max((point.n_control for point in known), default=0)
    treatment = max((point.n_treatment for point in known), default=0)
    full = [point for point in known if 2 * point.n_control >= control and 2 * point.n_treatment >= treatment]
    return max(full, key=lambda point: point.week, default=None)


def lasting_step(rule: LastingRule, row: Estimate, alpha: float, course: Course) -> Step:
    """Does the effect last? It does not where it is shown to fall and no gain is shown in the end.

    Where it falls, the end is both where it settles and the late week by itself: weeks that are averaged to
    say where an effect settles may hold the rest of what wears off.
    """
    what = "Is a gain still shown in the end" if rule.must_be_shown else "Is the gain not shown to wear off"
    question = Question("Lasting effect", f"{what}, by time since assignment?")
    if rule.off:
        return question.passes("the brief does not ask this", "cannot_tell")
    ends, where = _in_the_end(row, course)
    if ends is None:
        if rule.must_be_shown:
            because = f"The brief asks for a gain that lasts, and that cannot be told: {where}."
            return question.forces("extend", where, because, verdict="cannot_tell")
        return question.passes(where, "cannot_tell")
    shown = f"{where} {interval_in_words(ends[0], ends[1], row.display)} (as gain)"
    if ends[1] < 0.0:
        because = f"The gain does not last: {shown}."
        return question.forces(rule.fading, f"worse than control {shown}", because)
    falls = _fall(row, alpha, course)
    last = _ends_of_week(row, course.late)
    if falls and (ends[0] <= 0.0 or (last is not None and last[0] <= 0.0)):
        if ends[0] > 0.0 and last is not None and course.late is not None:
            shown = (
                f"in week {course.late.week + 1} {interval_in_words(last[0], last[1], row.display)} (as gain)"
            )
        because = f"The gain wears off: {falls}; {shown}, which does not rule out zero."
        return question.forces(rule.fading, f"{falls}; {shown}", because)
    if rule.must_be_shown and ends[0] <= 0.0:
        because = f"A gain that lasts is not shown yet: {shown}."
        return question.forces("extend", shown, because, verdict="cannot_tell")
    if falls:
        return question.passes(f"{falls}, and a gain is still there {shown}", "warn")
    return question.passes(f"not shown to wear off; {shown}")


def _in_the_end(row: Estimate, course: Course) -> tuple[tuple[float, float] | None, str]:
    """The interval of the gain in the end, and where that is; without one, why not."""
    trend, late = course.trend, course.late
    if trend is not None and trend.estimable:
        ends = _ends(row, trend.steady_lower, trend.steady_upper)
        if ends is not None:
            return ends, "where it settles"
    ends = _ends_of_week(row, late)
    if ends is not None and late is not None:
        return ends, f"in week {late.week + 1}"
    reasons = [one.reason for one in (trend, late, course.contrast) if one is not None and one.reason]
    return None, reasons[0] if reasons else "time since assignment is not known"


def _fall(row: Estimate, alpha: float, course: Course) -> str:
    """How is the gain shown to fall, in words? Empty where it is not.

    One comparison is asked, so that one chance of a false alarm is run: the slope over all weeks where it is
    known, else the brief's split, else the last complete week against the first.
    """
    contrast, split, trend = course.contrast, course.split, course.trend
    change: float | None = None
    p: float | None = None
    what = ""
    if trend is not None and trend.estimable and trend.slope is not None:
        change, p, what = trend.slope, trend.p_value, "a week"
    elif split is not None and split.estimable and split.absolute is not None:
        change, p, what = split.absolute, split.p_value, f"after {split.split_days} days, against before"
    elif contrast is not None and contrast.estimable:
        change, p, what = contrast.absolute, contrast.p_value, "in the last complete week, against the first"
    gain = gain_of(row, change)
    if gain is None or gain >= 0.0 or p is None or p >= alpha:
        return ""
    return f"the gain changes by {difference_in_words(gain, row.display)} {what}"


def _ends_of_week(row: Estimate, week: NoveltyPoint | None) -> tuple[float, float] | None:
    return None if week is None or not week.estimable else _ends(row, week.ci_lower, week.ci_upper)


def _ends(row: Estimate, lower: float | None, upper: float | None) -> tuple[float, float] | None:
    gains = sorted(gain for bound in (lower, upper) if (gain := gain_of(row, bound)) is not None)
    return (gains[0], gains[1]) if len(gains) == 2 else None


def value_step(rule: ValueRule, impact: Impact | None) -> Step:
    """Is shipping worth what it costs?"""
    least = f"at least {rule.at_least:,.0f}" if rule.at_least else "no loss"
    whole = "Does the whole interval of value say" if rule.must == "surely_gain" else "Is the expected value"
    question = Question("Value", f"{whole} {least} at full rollout?")
    if rule.off:
        return question.passes("the brief does not ask this", "cannot_tell")
    asks_more = rule.must == "surely_gain" or rule.at_least > 0.0
    if impact is None or impact.value is None:
        evidence = "the brief declares no value model"
        if asks_more:
            because = f"The brief asks for a value and it cannot be told: {evidence}."
            return question.forces("investigate", evidence, because, verdict="cannot_tell")
        return question.passes(evidence)
    shown = f"{impact.value:,.0f} {impact.currency} at full rollout"
    if impact.value_lower is not None and impact.value_upper is not None:
        shown += f" ({impact.value_lower:,.0f} to {impact.value_upper:,.0f})"
    if impact.value < rule.at_least:
        why = f"Shipping brings less than {rule.at_least:,.0f}" if rule.at_least else ""
        why = why or "Shipping would cost more than it brings"
        return question.forces("iterate", shown, f"{why}: {shown}.")
    surely = impact.value_lower is not None and impact.value_lower >= rule.at_least
    if rule.must == "surely_gain" and not surely:
        because = f"That shipping is worth it is not shown yet: {shown}."
        return question.forces("extend", shown, because, verdict="cannot_tell")
    return question.passes(shown, "pass" if surely else "warn")


def lock_step(lock: LockState) -> Step:
    """Does the brief stand as it was locked?"""
    question = Question("Brief as locked", "Was the brief locked in time, and is it unchanged since?")
    if brief_stands(lock):
        return question.passes("unchanged since the start")
    if lock.locked_digest is None:
        what = "was never locked"
    elif lock.changes:
        what = f"was changed after the start ({listed(change.field for change in lock.changes)})"
    else:
        what = f"was locked when {lock.days_seen} days of data were already there"
    because = f"The rules would ship, but the brief {what}, so the result is exploratory."
    return question.forces("investigate", f"the brief {what}", because)


def _with(parts: Sequence[str]) -> str:
    return f", with {listed(parts)}" if parts else ""
