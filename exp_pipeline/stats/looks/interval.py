"""One call for the interval of a look, whatever the rule for looking: fixed, spending or always valid.

    rule = FixedHorizon(alpha=0.05, side="both")
         | SpendingPlan(planned_n=8000, family="obrien-fleming", alpha=0.05, side="both")
         | AlwaysValid(planned_n=8000, alpha=0.05, side="both")
    look_interval(rule, effects, final=False, earlier_n=()) -> LookInterval | NotEstimable

effects: one for each look so far, oldest first, each on all units until then. After the end,
`group_sequential.stopped_trial(plan, effects, final=True)` has the median-unbiased estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from exp_pipeline.stats.looks.always_valid import AlwaysValidInterval, Side, always_valid_interval
from exp_pipeline.stats.looks.group_sequential import SpendingPlan, sequential_look
from exp_pipeline.stats.pivot import bounds_at, relative_bounds_at, statistic_against
from exp_pipeline.stats.reference import one_sided_critical, upper_tail
from exp_pipeline.stats.results import Effect, NotEstimable

RuleName = Literal["fixed", "spending", "always-valid"]


@dataclass(frozen=True, slots=True)
class FixedHorizon:
    """One planned look: every interval is the plain one. Looking more often breaks its promise."""

    alpha: float = 0.05
    side: Side = "both"

    def __post_init__(self) -> None:
        _check(self.alpha, self.side)


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    """Any number of looks at any time, tuned to be narrowest at `planned_n` units of both arms."""

    planned_n: int
    alpha: float = 0.05
    side: Side = "both"

    def __post_init__(self) -> None:
        _check(self.alpha, self.side)
        if self.planned_n < 2:
            raise ValueError(f"planned_n must be at least 2 units, got {self.planned_n}")


LookRule = FixedHorizon | SpendingPlan | AlwaysValid


@dataclass(frozen=True, slots=True)
class LookInterval:
    """What may be said at this look, under the rule for looking that was chosen before the start?

    lower and upper: the effect's interval with the rule's promise over all looks, infinite on a side that
    was not asked for; relative_* the same for the relative effect, None where there is none. critical: how
    many standard errors the bound is away (on the normal scale for spending, else of the effect's own t).
    p_value: for no effect, to be compared with alpha at this look (fixed: plain; spending: repeated;
    always-valid: the smallest so far). crossed: no effect is ruled out at this look; first_crossed: the
    first look (from 1) that did. alpha_spent and information_fraction: None where the rule has none.
    """

    rule: RuleName
    look: int
    n: int
    lower: float
    upper: float
    relative_lower: float | None
    relative_upper: float | None
    critical: float
    p_value: float
    crossed: bool
    first_crossed: int | None
    alpha_spent: float | None
    information_fraction: float | None
    level: float
    side: Side


def look_interval(
    rule: LookRule,
    effects: Sequence[Effect | NotEstimable],
    *,
    final: bool = False,
    earlier_n: Sequence[int] = (),
) -> LookInterval | NotEstimable:
    """Between which bounds does the effect lie at the newest look?

    final: no more looks will come (a spending plan then spends all that is left). earlier_n: units of both
    arms at looks before the first of `effects`, where the effects of then are not at hand. NotEstimable
    where the newest effect is, where alpha is spent, and where an always-valid rule cannot rule out anything
    yet. Raises ValueError without effects.
    """
    if not effects:
        raise ValueError("effects must hold one effect for each look so far, got none")
    if isinstance(rule, SpendingPlan):
        return _spending(rule, effects, final, earlier_n)
    newest = effects[-1]
    if isinstance(newest, NotEstimable):
        return newest
    if isinstance(rule, FixedHorizon):
        return _fixed(rule, effects, newest, len(earlier_n))
    return _always(rule, effects, newest, len(earlier_n))


def _spending(
    rule: SpendingPlan, effects: Sequence[Effect | NotEstimable], final: bool, earlier_n: Sequence[int]
) -> LookInterval | NotEstimable:
    found = sequential_look(rule, effects, final=final, earlier_n=earlier_n)
    if isinstance(found, NotEstimable):
        return found
    return LookInterval(
        "spending",
        found.look,
        found.n,
        found.lower,
        found.upper,
        found.relative_lower,
        found.relative_upper,
        found.critical,
        found.p_value,
        found.crossed,
        found.first_crossed,
        found.alpha_spent,
        found.information_fraction,
        found.level,
        found.side,
    )


def _fixed(
    rule: FixedHorizon, effects: Sequence[Effect | NotEstimable], newest: Effect, earlier: int
) -> LookInterval:
    tail = rule.alpha / 2.0 if rule.side == "both" else rule.alpha
    low, high = bounds_at(newest, tail)
    relative = relative_bounds_at(newest, tail)
    p_values = [_fixed_p(effect, rule.side) if isinstance(effect, Effect) else None for effect in effects]
    return _interval(
        "fixed",
        rule,
        newest,
        (low, high),
        relative,
        one_sided_critical(tail, newest.df),
        _fixed_p(newest, rule.side),
        p_values,
        earlier,
    )


def _fixed_p(effect: Effect, side: Side) -> float:
    if side == "both":
        return effect.p_value
    statistic = statistic_against(effect)
    return upper_tail(statistic if side == "lower" else -statistic, math.inf)


def _always(
    rule: AlwaysValid, effects: Sequence[Effect | NotEstimable], newest: Effect, earlier: int
) -> LookInterval | NotEstimable:
    answers = [
        always_valid_interval(effect, planned_n=rule.planned_n, level=1.0 - rule.alpha, side=rule.side)
        for effect in effects
    ]
    found = answers[-1]
    if isinstance(found, NotEstimable):
        return found
    p_values: list[float | None] = []
    smallest = 1.0
    for answer in answers:
        if isinstance(answer, AlwaysValidInterval):
            smallest = min(smallest, answer.p_value)
        p_values.append(smallest if isinstance(answer, AlwaysValidInterval) else None)
    relative = None
    if found.relative_lower is not None and found.relative_upper is not None:
        relative = (found.relative_lower, found.relative_upper)
    return _interval(
        "always-valid",
        rule,
        newest,
        (found.lower, found.upper),
        relative,
        found.radius,
        smallest,
        p_values,
        earlier,
    )


def _interval(
    name: RuleName,
    rule: FixedHorizon | AlwaysValid,
    newest: Effect,
    bounds: tuple[float, float],
    relative: tuple[float, float] | None,
    critical: float,
    p_value: float,
    p_values: Sequence[float | None],
    earlier: int,
) -> LookInterval:
    below, above = rule.side == "upper", rule.side == "lower"
    first = next(
        (look for look, p in enumerate(p_values, start=earlier + 1) if p is not None and p <= rule.alpha),
        None,
    )
    lower, upper = -math.inf if below else bounds[0], math.inf if above else bounds[1]
    return LookInterval(
        rule=name,
        look=earlier + len(p_values),
        n=newest.n_control + newest.n_treatment,
        lower=lower,
        upper=upper,
        relative_lower=None if relative is None else (-math.inf if below else relative[0]),
        relative_upper=None if relative is None else (math.inf if above else relative[1]),
        critical=critical,
        p_value=p_value,
        crossed=lower > 0.0 or upper < 0.0,
        first_crossed=first,
        alpha_spent=None,
        information_fraction=None,
        level=1.0 - rule.alpha,
        side=rule.side,
    )


def _check(alpha: float, side: Side) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}")
    if side not in ("both", "lower", "upper"):
        raise ValueError(f"side must be 'both', 'lower' or 'upper', got {side!r}")
