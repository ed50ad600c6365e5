"""The rule of the primary metric: above zero, and above the practical threshold where the brief asks."""

from __future__ import annotations

from dataclasses import dataclass

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.deciding.rules import Question, Step, gain_of
from exp_pipeline.analysis.planning.power_achieved import absolute_size
from exp_pipeline.analysis.wording import difference_in_words, interval_in_words, margin_in_words
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate, PowerAchieved
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline.stats.results import NotEstimable


@dataclass(frozen=True, slots=True)
class Gains:
    """What is known of a gain: its estimate, the interval that is judged, and both in words.

    Counted so that more is better. above_zero: whether zero is ruled out, corrections for several arms
    included. least: the smallest estimate that missing units allow.
    """

    estimate: float
    least: float
    lower: float
    upper: float
    above_zero: bool
    shown: str


def primary_question(brief: Brief) -> Question:
    """What does the brief ask of the primary metric?"""
    rule = brief.decision.primary
    asks = "Is the primary metric above zero by its interval"
    if rule.must_beat == "threshold":
        by = "its estimate" if rule.by == "point" else "its whole interval"
        asks += f", and at or above the practical threshold by {by}"
    if brief.missing_data == "bounds":
        asks += ", whoever is missing"
    return Question("Primary metric", f"{asks}?")


def primary_step(
    brief: Brief,
    row: Estimate,
    blinding: Blinding,
    power: PowerAchieved | None,
    bounds: EffectBounds | NotEstimable | None,
    *,
    nobody_missing: bool,
) -> Step:
    """Is the primary metric better by enough?"""
    question = primary_question(brief)
    if not row.estimable or row.absolute is None:
        because = f"{row.title} cannot be estimated: {row.reason}."
        return question.forces("investigate", because, because, verdict="cannot_tell")
    gains = gains_of(brief, row, blinding)
    if isinstance(gains, str):
        return question.forces("investigate", gains, gains, verdict="cannot_tell")
    if brief.missing_data == "bounds" and not nobody_missing:
        if not isinstance(bounds, EffectBounds):
            why = bounds.reason if isinstance(bounds, NotEstimable) else "none were computed"
            because = f"The brief judges {row.title} by bounds for missing units, and there are none: {why}."
            return question.forces("investigate", because, because, verdict="cannot_tell")
        gains = _whoever_is_missing(row, gains, bounds)
    if gains.upper < 0.0:
        because = f"The change makes the primary metric worse: {gains.shown}."
        return question.forces("stop", f"{gains.shown}: worse than control", because)
    if not gains.above_zero:
        return _not_shown(question, brief, row, blinding, power, gains)
    if brief.decision.primary.must_beat == "zero":
        return question.passes(f"{gains.shown}: above zero")
    return _against_threshold(question, brief, row, gains)


def gains_of(brief: Brief, row: Estimate, blinding: Blinding) -> Gains | str:
    """What is known of one effect as gain, by the interval that this look may judge? Else why it is not."""
    bounds = (row.ci_lower, row.ci_upper)
    interval = f"{100 * row.level:g} % interval"
    if blinding.many_looks and row.look_rule is not None:
        bounds = (row.look_lower, row.look_upper)
        interval = f"{100 * row.level:g} % interval for look {row.look}"
    elif blinding.many_looks:
        bounds, interval = (row.always_valid_lower, row.always_valid_upper), "always-valid interval"
    ends = sorted(gain for gain in (gain_of(row, bound) for bound in bounds) if gain is not None)
    gain = gain_of(row, row.absolute)
    if len(ends) < 2 or gain is None:
        return f"{row.title} has no {interval}."
    above_zero = ends[0] > 0.0
    if above_zero and not blinding.many_looks and row.p_adjusted is not None:
        above_zero = row.p_adjusted < brief.alpha
    shown = (
        f"{row.title} {difference_in_words(row.absolute, row.display)}, {interval} "
        f"{interval_in_words(bounds[0], bounds[1], row.display)}"
    )
    return Gains(gain, gain, ends[0], ends[1], above_zero, shown)


def threshold_of(brief: Brief, row: Estimate) -> float | None:
    """How large is the practical threshold in the metric's own unit? None where there is none."""
    if brief.practical_threshold is None:
        return None
    size = absolute_size(brief.practical_threshold, row.mean_control)
    return None if size is None else abs(size)


def _whoever_is_missing(row: Estimate, gains: Gains, bounds: EffectBounds) -> Gains:
    """The gain that stands whoever is missing: the worse end of each is taken."""
    set_ends = sorted((gain_of(row, bounds.lower) or 0.0, gain_of(row, bounds.upper) or 0.0))
    ends = sorted((gain_of(row, bounds.ci_lower) or 0.0, gain_of(row, bounds.ci_upper) or 0.0))
    shown = (
        f"{gains.shown}; whoever is missing ({bounds.method}) "
        f"{interval_in_words(bounds.ci_lower, bounds.ci_upper, row.display)}"
    )
    return Gains(
        estimate=gains.estimate,
        least=min(gains.least, set_ends[0]),
        lower=min(gains.lower, ends[0]),
        upper=max(gains.upper, ends[1]),
        above_zero=gains.above_zero and ends[0] > 0.0,
        shown=shown,
    )


def _not_shown(
    question: Question,
    brief: Brief,
    row: Estimate,
    blinding: Blinding,
    power: PowerAchieved | None,
    gains: Gains,
) -> Step:
    evidence = f"{gains.shown}: zero is not ruled out"
    hoped = absolute_size(brief.mde, row.mean_control)
    if hoped is not None and gains.upper < abs(hoped):
        planned = difference_in_words(abs(hoped), row.display)
        because = f"An effect as large as planned ({planned}) is ruled out: {gains.shown}."
        return question.forces("stop", evidence, because)
    if not blinding.horizon_reached:
        return question.forces("extend", evidence, f"At this look nothing is shown yet: {gains.shown}.")
    if power is None or power.achieved_mde is None or power.achieved_mde > power.planned_mde:
        because = f"The data cannot find the planned effect yet: {gains.shown}."
        return question.forces("extend", evidence, because)
    because = f"No effect is shown with the power that was planned: {gains.shown}."
    return question.forces("iterate", evidence, because)


def _against_threshold(question: Question, brief: Brief, row: Estimate, gains: Gains) -> Step:
    threshold = threshold_of(brief, row)
    if threshold is None:
        because = "The brief asks the primary to beat a practical threshold and names none."
        return question.forces("investigate", because, because, verdict="cannot_tell")
    wanted = f"the practical threshold of {margin_in_words(threshold, 'absolute', row.display)}"
    by_point = brief.decision.primary.by == "point"
    if (gains.least if by_point else gains.lower) >= threshold:
        what = "the estimate reaches" if by_point else "the whole interval reaches"
        return question.passes(f"{gains.shown}: above zero, and {what} {wanted}")
    evidence = f"{gains.shown}: above zero, below {wanted}"
    if not by_point and gains.least >= threshold:
        because = f"A gain is shown; whether it reaches {wanted} is not: {gains.shown}."
        return question.forces("extend", evidence, because)
    return question.forces("iterate", evidence, f"A gain is shown, but it is below {wanted}: {gains.shown}.")
