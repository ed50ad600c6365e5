"""Estimates and guardrails as a memo shows them: formatted once, suppressed where they must be."""

from __future__ import annotations

import math

from exp_pipeline.model.readout import Estimate, GuardrailResult, Readout
from exp_pipeline.report import numbers
from exp_pipeline.report.cells import NONE
from exp_pipeline.report.document import Cell, Effect, GuardrailView
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import WITHHELD, Screen
from exp_pipeline.report.wording import ACTIONS, GUARDRAILS


def effect_decimals(estimate: Estimate) -> int:
    """How many decimals do this estimate's numbers need?"""
    spread = None
    if estimate.ci_lower is not None and estimate.ci_upper is not None:
        spread = estimate.ci_upper - estimate.ci_lower
    return numbers.decimals_for(estimate.display, spread, estimate.absolute, estimate.mean_control)


def effect_view(estimate: Estimate, screen: Screen, decimals: int | None = None) -> Effect:
    """How is one estimate shown? `decimals` overrides the digits, so that rows of one table agree."""
    withheld = screen.withholds(estimate)
    known = estimate.absolute is not None and math.isfinite(estimate.absolute)
    shown = estimate.estimable and not withheld and known
    reason = "" if shown else _reason(estimate, screen, withheld)
    digits = effect_decimals(estimate) if decimals is None else decimals
    display = estimate.display

    def of(text: str, value: float | None) -> Cell:
        return NONE if not shown or value is None else Cell(text=text, value=value)

    def between(text: str, lower: float | None, upper: float | None) -> Cell:
        return (
            NONE if not shown or lower is None or upper is None else Cell(text=text, lower=lower, upper=upper)
        )

    e = estimate
    absolute = of(numbers.change(e.absolute, display, digits), e.absolute)
    interval = between(numbers.interval(e.ci_lower, e.ci_upper, display, digits), e.ci_lower, e.ci_upper)
    control = of(numbers.level(e.mean_control, display, digits), e.mean_control)
    treatment = of(numbers.level(e.mean_treatment, display, digits), e.mean_treatment)
    detail = _detail(e, interval, control, treatment)
    return Effect(
        metric=e.metric,
        title=e.title,
        role=e.role,
        arm=e.arm,
        control=e.control,
        segment=e.segment,
        segment_value=e.segment_value,
        shown=shown,
        reason=reason,
        sentence=f"{e.title} {absolute.text} {detail}".rstrip() if shown else f"{e.title}: {reason}",
        detail=detail if shown else "",
        favourable=_favourable(e) if shown else None,
        confirmatory=e.confirmatory,
        interval_level=e.level,
        method=e.method,
        window_days=e.window_days,
        n_control=_units(e, e.n_control, screen, withheld),
        n_treatment=_units(e, e.n_treatment, screen, withheld),
        waiting=screen.units(e.waiting),
        clusters=NONE if e.clusters is None else Cell(text=numbers.count(e.clusters), value=e.clusters),
        mean_control=control,
        mean_treatment=treatment,
        absolute=absolute,
        interval=interval,
        always_valid=between(
            numbers.interval(e.always_valid_lower, e.always_valid_upper, display, digits),
            e.always_valid_lower,
            e.always_valid_upper,
        ),
        relative=of(numbers.relative(e.relative), e.relative),
        relative_interval=between(
            numbers.relative_interval(e.relative_ci_lower, e.relative_ci_upper),
            e.relative_ci_lower,
            e.relative_ci_upper,
        ),
        p_value=of(numbers.p_value(e.p_value), e.p_value),
        p_adjusted=of(numbers.p_value(e.p_adjusted), e.p_adjusted),
        variance_reduction=of(numbers.percent(e.variance_reduction), e.variance_reduction),
        notes=(() if e.confirmatory else ("exploratory",)) + e.flags,
    )


def guardrail_view(result: GuardrailResult, readout: Readout, screen: Screen) -> GuardrailView:
    """How is one guardrail shown: its harm and bound as they stand, and as parts of the margin?"""
    label, tone = GUARDRAILS[result.status]
    withheld = any(
        screen.withholds(e) for e in readout.estimates if e.metric == result.metric and e.arm == result.arm
    )
    harm, bound = (None, None) if withheld else (result.harm, result.harm_bound)
    display: Display = result.display
    relative = result.margin_kind == "relative"
    spread = None if harm is None or bound is None else 2 * abs(bound - harm)
    scale: Display = "share" if relative else display
    margin_decimals = numbers.exact_decimals(scale, result.margin)
    digits = max(numbers.decimals_for(scale, spread, harm, result.margin), margin_decimals)
    digits = min(digits, margin_decimals + 1)

    def written(value: float | None, decimals: int, signed: bool = True) -> Cell:
        if value is None:
            return NONE
        if relative and not signed:
            return Cell(text=numbers.round_percent(value), value=value)
        if relative:
            return Cell(text=numbers.relative(value, decimals), value=value)
        write = numbers.change if signed else numbers.amount
        return Cell(text=write(value, display, decimals), value=value)

    def part(value: float | None) -> Cell:
        return (
            NONE
            if value is None
            else Cell(text=numbers.percent(value / result.margin, 0), value=value / result.margin)
        )

    harm_cell, bound_cell = written(harm, digits), written(bound, digits)
    margin_cell = written(result.margin, margin_decimals, signed=False)
    reason = (
        f"Fewer than {screen.minimum} units in a cell; numbers are {WITHHELD}." if withheld else result.reason
    )
    kill = "none"
    if result.kill_action is not None:
        kill = f"{ACTIONS[result.kill_action]}{' (triggered)' if result.kill_triggered else ''}"
    return GuardrailView(
        metric=result.metric,
        title=result.title,
        arm=result.arm,
        status=result.status,
        label=label,
        tone=tone,
        sentence=_guardrail_sentence(harm_cell, bound_cell, margin_cell, result.basis),
        basis=result.basis,
        harm=harm_cell,
        bound=bound_cell,
        margin=margin_cell,
        margin_used=part(harm),
        bound_used=part(bound),
        p_value=NONE
        if withheld or result.p_value is None
        else Cell(text=numbers.p_value(result.p_value), value=result.p_value),
        kill=kill,
        reason=reason,
    )


def _reason(estimate: Estimate, screen: Screen, withheld: bool) -> str:
    if estimate.segment is None and withheld:
        return f"{WITHHELD}: {screen.few_units}"
    if withheld:
        return f"{WITHHELD}: {screen.few_units}, or it would give such a cell away"
    return f"not estimable: {estimate.reason or 'no reason was given'}"


def _units(estimate: Estimate, n: int, screen: Screen, withheld: bool) -> Cell:
    """One mark for all withheld values of a segment, nobody included.

    "< 10" beside a total would narrow a cell down, and a nought beside it would tell that no other is one.
    """
    if estimate.suppressed or screen.hides(estimate.segment or "", estimate.segment_value or ""):
        return Cell(text=WITHHELD)
    return screen.beside(n, withheld)


def _detail(estimate: Estimate, interval: Cell, control: Cell, treatment: Cell) -> str:
    text = ""
    if interval.text != NONE.text:
        text = f"({numbers.round_percent(estimate.level)} interval {interval.text})"
    if control.value is not None and treatment.value is not None:
        # With covariates the difference of the arms' values is not the effect: the line says which is which.
        raw = "as observed " if estimate.adjusted else ""
        effect = " adjusted for what was known before" if estimate.adjusted and text else ""
        text += f"{effect}{', ' if text else ''}{raw}{control.text} \N{RIGHTWARDS ARROW} {treatment.text}"
    return text


def _favourable(estimate: Estimate) -> bool | None:
    """True or False only where the interval leaves zero out."""
    if estimate.ci_lower is None or estimate.ci_upper is None or estimate.ci_lower <= 0 <= estimate.ci_upper:
        return None
    return (estimate.ci_lower > 0) == (estimate.direction == "increase")


def _guardrail_sentence(harm: Cell, bound: Cell, margin: Cell, basis: str) -> str:
    if harm.value is None:
        return f"no harm can be worked out, allowed {margin.text}"
    if basis == "point" or bound.value is None:
        return f"harm {harm.text}, allowed {margin.text} (judged on the estimate)"
    return f"harm {harm.text}, at worst {bound.text}, allowed {margin.text}"
