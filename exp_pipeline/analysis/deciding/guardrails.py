"""Guardrails of each arm: the verdict, and whether a kill rule acts."""

from __future__ import annotations

from typing import Literal

from exp_pipeline.analysis.effects.estimates import planned_units
from exp_pipeline.analysis.effects.methods import Answer
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief, Guardrail
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import GuardrailResult
from exp_pipeline.stats.gates.guardrails import (
    GuardrailVerdict,
    KillVerdict,
    NeededUnits,
    kill_verdict,
    non_inferiority,
)
from exp_pipeline.stats.reference import one_sided_critical
from exp_pipeline.stats.results import Effect, NotEstimable


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
        power=brief.power,
    )
    status, reason, estimate = verdict.verdict, verdict.reason, verdict.harm_estimate
    if isinstance(effect, NotEstimable) and guardrail.basis == "point" and same_value:
        status, reason, estimate = "pass", "every unit of both arms has the same value: no harm was seen", 0.0
    kill = None
    if guardrail.kill is not None and isinstance(effect, Effect):
        kill = kill_verdict(
            effect,
            margin=guardrail.margin,
            margin_kind=guardrail.margin_kind,
            harm=harm,
            planned_n=planned_units(brief),
            alpha=guardrail.kill.alpha,
        )
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
        kill_triggered=kill is not None and kill.answer == "kill",
        reason="; ".join((reason, *_settled_by(verdict.needed), *_of_kill_rule(kill))),
        needed_units=None
        if verdict.needed is None
        else max(verdict.needed.n_control, verdict.needed.n_treatment),
        detectable_harm=_detectable(effect, verdict, brief),
    )


def _detectable(effect: Answer, verdict: GuardrailVerdict, brief: Brief) -> float | None:
    """Which margin could these data have shown to hold, were there no harm, with the brief's power?

    The reach of the one-sided bound is a critical value of standard errors; power asks for more of them.
    """
    if isinstance(effect, NotEstimable) or verdict.bound is None or verdict.harm_estimate is None:
        return None
    critical = one_sided_critical(brief.alpha, effect.df)
    more = one_sided_critical(1.0 - brief.power, effect.df)
    return (verdict.bound - verdict.harm_estimate) * (critical + more) / critical


def _settled_by(needed: NeededUnits | None) -> tuple[str, ...]:
    """How many units would end an underpowered verdict, in words?"""
    if needed is None:
        return ()
    larger = max(needed.n_control, needed.n_treatment)
    what = "it would hold" if needed.towards == "pass" else "the breach would show"
    return (
        f"if harm is as estimated, {what} with {larger:,} units in the larger arm "
        f"({needed.factor:.1f} times today's; probability {100 * needed.power:g} %)",
    )


def _of_kill_rule(kill: KillVerdict | None) -> tuple[str, ...]:
    """What a kill rule says, unless it only goes on watching."""
    if kill is None or kill.answer == "continue":
        return ()
    said = {"kill": "kill rule", "wait": "kill rule waits", "cannot_tell": "kill rule cannot be judged"}
    return (f"{said[kill.answer]}: {kill.reason}",)


def all_the_same(units: MetricUnits, arms: tuple[str, str]) -> bool:
    """Has every unit of two arms, both of them with units, the same value of a metric?"""
    frame = units.frame
    numbers = []
    for arm in arms:
        part = frame.filter(frame["arm"] == arm)
        values = part["values"].explode() if units.metric.estimand == "quantile" else part["num"]
        numbers.append(set(values.unique().to_list()))
    return len(numbers[0]) == 1 and numbers[0] == numbers[1]
