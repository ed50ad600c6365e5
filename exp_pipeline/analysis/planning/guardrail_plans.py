"""How many units each guardrail needs to pass, and how likely it passes when the brief ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from exp_pipeline.analysis.planning.arrivals import Steps, arrivals_of
from exp_pipeline.analysis.planning.baselines import Baseline, NoBaseline
from exp_pipeline.analysis.planning.question import Question, design_of, outcome_of, question_of
from exp_pipeline.model.brief import Brief, Guardrail
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.power.enrolment import EnrolmentCurve
from exp_pipeline.stats.power.margins import Harm, power_for_margin, units_for_margin


@dataclass(frozen=True, slots=True)
class GuardrailPlan:
    """How large must the experiment be for this guardrail to pass, if treatment does no harm?

    units_total: enrolled in all arms, for the brief's power in its weakest comparison. power_at_end: chance
    to pass when the brief ends as written. Both None, with a reason, where it cannot be told or is no test.
    """

    metric: str
    margin: float
    margin_kind: Literal["absolute", "relative"]
    units_total: int | None
    days: int | None
    power_at_end: float | None
    reason: str = ""


def guardrail_plan(
    brief: Brief,
    guardrail: Guardrail,
    metric: Metric,
    baseline: Baseline | NoBaseline,
    *,
    units_per_day: float | None = None,
    curve: EnrolmentCurve | None = None,
    days_needed: int | None = None,
    steps: Steps | None = None,
) -> GuardrailPlan:
    """What does this guardrail ask of the experiment's size? One-sided at the brief's alpha, no true harm.

    units_per_day, curve, days_needed, steps: as in `power_plan`.
    """

    def told(reason: str) -> GuardrailPlan:
        return GuardrailPlan(
            guardrail.metric, guardrail.margin, guardrail.margin_kind, None, None, None, reason
        )

    if guardrail.basis == "point":
        return told("judged by its estimate alone, which no size makes sure")
    if isinstance(baseline, NoBaseline):
        return told(baseline.reason)
    relative = guardrail.margin_kind == "relative"
    if relative and baseline.mean == 0.0:
        return told("its margin is a share of control's value, which is 0 in the history")
    harm: Harm = "increase" if metric.direction == "decrease" else "decrease"
    try:
        window = max(days_needed or metric.days_needed or 1, 1)
        arrivals = arrivals_of(brief, units_per_day, curve, window, steps)
        question = question_of(brief, metric, baseline, None)
        total = max(_total(question, arm, guardrail.margin, harm, relative) for arm in _pairs(brief))
    except ValueError as why:
        return told(str(why))
    chance = None
    if arrivals is not None:
        units = arrivals.counted((brief.end - brief.start).days)
        found = [_chance(question, arm, guardrail.margin, harm, relative, units) for arm in _pairs(brief)]
        chance = None if any(one is None for one in found) else min(one or 0.0 for one in found)
    return GuardrailPlan(
        metric=guardrail.metric,
        margin=guardrail.margin,
        margin_kind=guardrail.margin_kind,
        units_total=total,
        days=None if arrivals is None else arrivals.days_for(total),
        power_at_end=chance,
    )


def _pairs(brief: Brief) -> list[tuple[float, float]]:
    """Shares of control and of each treatment arm."""
    control = brief.shares()[brief.control]
    return [(control, arm.share) for arm in brief.treatments()]


def _total(question: Question, pair: tuple[float, float], margin: float, harm: Harm, relative: bool) -> int:
    control, treatment = pair
    found = units_for_margin(
        outcome_of(question),
        design_of(question, treatment / (control + treatment), question.icc, 0.0, treatments=1),
        margin=margin,
        harm=harm,
        baseline=question.baseline.mean if relative else None,
    )
    return math.ceil((found.n_control + found.n_treatment) / (control + treatment) - 1e-9)


def _chance(
    question: Question, pair: tuple[float, float], margin: float, harm: Harm, relative: bool, units: float
) -> float | None:
    control, treatment = pair
    try:
        return power_for_margin(
            outcome_of(question),
            design_of(question, treatment / (control + treatment), question.icc, 0.0, treatments=1),
            margin=margin,
            harm=harm,
            n_control=units * control,
            n_treatment=units * treatment,
            baseline=question.baseline.mean if relative else None,
        ).power
    except ValueError:
        # Too few units for any comparison: None says so.
        return None
