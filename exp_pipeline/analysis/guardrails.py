"""Guardrails of each arm: the verdict, and whether a kill rule acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exp_pipeline.analysis.estimates import planned_units
from exp_pipeline.analysis.methods import Answer
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief, Guardrail, KillRule
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import GuardrailResult
from exp_pipeline.stats.guardrails import non_inferiority
from exp_pipeline.stats.results import Effect, NotEstimable
from exp_pipeline.stats.sequential import AlwaysValidInterval, always_valid_interval

# The always-valid bound rests on a normal approximation, which needs some dozens of units (or some clusters).
FEWEST_UNITS_TO_KILL = 50
FEWEST_CLUSTERS_TO_KILL = 10


@dataclass(frozen=True, slots=True)
class KillVerdict:
    """Does a kill rule act, and why?"""

    triggered: bool
    reason: str


def kill_verdict(
    effect: Effect, guardrail: Guardrail, metric: Metric, brief: Brief, rule: KillRule
) -> KillVerdict:
    """Is harm beyond the margin shown, at a level that daily looks do not use up?

    One-sided always-valid bound at the rule's alpha. A relative margin is taken of the size of control's
    value.
    """
    if min(effect.n_control, effect.n_treatment) < FEWEST_UNITS_TO_KILL:
        return KillVerdict(False, f"kill rule waits for {FEWEST_UNITS_TO_KILL} units in each arm")
    clusters = (effect.clusters_control, effect.clusters_treatment)
    if any(count is not None and count < FEWEST_CLUSTERS_TO_KILL for count in clusters):
        return KillVerdict(False, f"kill rule waits for {FEWEST_CLUSTERS_TO_KILL} clusters in each arm")
    margin = guardrail.margin * (abs(effect.mean_control) if guardrail.margin_kind == "relative" else 1.0)
    hurts_upward = metric.direction == "decrease"
    bound = always_valid_interval(
        effect,
        planned_n=planned_units(brief),
        level=1.0 - rule.alpha,
        side="lower" if hurts_upward else "upper",
    )
    if not isinstance(bound, AlwaysValidInterval):
        return KillVerdict(False, f"kill rule cannot be judged: {bound.reason}")
    least_harm = bound.lower if hurts_upward else -bound.upper
    if least_harm > margin:
        return KillVerdict(
            True, f"kill rule: harm beyond the margin is shown at the level {rule.alpha:g}, at any look"
        )
    return KillVerdict(False, "")


def guardrail_result(
    guardrail: Guardrail, metric: Metric, arm: str, effect: Answer, brief: Brief, *, same_value: bool = False
) -> GuardrailResult:
    """Does a guardrail hold in one arm?

    same_value: no unit of either arm differs from the others (say, no safety flag anywhere). Then there is no
    interval; against a plain budget (basis "point") the harm is nil and the guardrail holds, otherwise it
    cannot be told.
    """
    harm: Literal["increase", "decrease"] = "decrease" if metric.direction == "increase" else "increase"
    verdict = non_inferiority(
        effect,
        margin=guardrail.margin,
        margin_kind=guardrail.margin_kind,
        harm=harm,
        alpha=brief.alpha,
        basis=guardrail.basis,
    )
    status, reason, estimate = verdict.verdict, verdict.reason, verdict.harm_estimate
    if isinstance(effect, NotEstimable) and guardrail.basis == "point" and same_value:
        status, reason, estimate = "pass", "every unit of both arms has the same value: no harm was seen", 0.0
    kill = KillVerdict(False, "")
    if guardrail.kill is not None and isinstance(effect, Effect):
        kill = kill_verdict(effect, guardrail, metric, brief, guardrail.kill)
    return GuardrailResult(
        metric=metric.name,
        title=metric.title,
        arm=arm,
        status=status,
        basis=guardrail.basis,
        margin=guardrail.margin,
        margin_kind=guardrail.margin_kind,
        display=metric.display,
        harm=estimate,
        harm_bound=verdict.bound,
        p_value=verdict.p_value,
        kill_action=guardrail.kill.action if guardrail.kill else None,
        kill_triggered=kill.triggered,
        reason="; ".join(part for part in (reason, kill.reason) if part),
    )


def all_the_same(units: MetricUnits, arms: tuple[str, str]) -> bool:
    """Has every unit of two arms, both of them with units, the same value of a metric?"""
    frame = units.frame
    numbers = []
    for arm in arms:
        part = frame.filter(frame["arm"] == arm)
        values = part["values"].explode() if units.metric.estimand == "quantile" else part["num"]
        numbers.append(set(values.unique().to_list()))
    return len(numbers[0]) == 1 and numbers[0] == numbers[1]
