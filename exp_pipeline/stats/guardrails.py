"""Guardrails: is the harm, if any, within what was agreed to be bearable?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from exp_pipeline.stats.reference import one_sided_critical, two_sided_critical, upper_tail
from exp_pipeline.stats.results import Effect, NotEstimable

Verdict = Literal["pass", "fail", "underpowered", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class GuardrailVerdict:
    """Does the guardrail hold? All harms are in the margin's unit, positive when treatment is worse.

    bound: the largest harm the data allow (one-sided, at 1 - alpha); lower_bound: the smallest. p_value: of
    the claim that harm is at least the margin; small means the guardrail holds. Numbers are None when the
    verdict is "cannot_tell".
    """

    verdict: Verdict
    reason: str
    margin: float
    margin_kind: Literal["absolute", "relative"]
    basis: Literal["interval", "point"]
    alpha: float
    harm_estimate: float | None
    bound: float | None
    lower_bound: float | None
    p_value: float | None


def non_inferiority(
    effect: Effect | NotEstimable,
    *,
    margin: float,
    margin_kind: Literal["absolute", "relative"] = "absolute",
    harm: Literal["increase", "decrease"],
    alpha: float = 0.05,
    basis: Literal["interval", "point"] = "interval",
) -> GuardrailVerdict:
    """Is treatment no worse than control by more than `margin`?

    margin: the largest bearable harm, at least 0, in the metric's unit ("absolute") or as a share of the
    control value ("relative"; 0.05 is five per cent). harm: the direction that hurts. With basis
    "interval":

    - pass: the one-sided upper bound of harm lies within the margin; wrong at most alpha of the time when
    the harm is the margin or more.
    - fail: harm is shown (its one-sided lower bound is above 0) and the best estimate is beyond the margin.
    Without any harm this happens at most alpha of the time. Waiting until the whole interval lies beyond
    the margin would let a change that is known to hurt, most likely too much, run on as "underpowered".
    - underpowered: anything else: the data allow harm beyond the margin and do not show it.
    - cannot_tell: there is no estimate, or no relative one.

    With basis "point" the estimate alone is compared with the margin: pass at or within it, fail beyond;
    for budgets that were agreed as plain numbers. It says nothing of how sure that is: the bound is still
    there.

    Bounds come from the effect's own interval, each side's distance scaled by critical values (on the log
    scale for a log-ratio interval), so that lopsided intervals keep their shape; for t intervals this is
    exact. Raises ValueError for a negative margin or an alpha outside (0, 0.5).
    """
    if not (math.isfinite(margin) and margin >= 0.0):
        raise ValueError(f"margin must be a number of at least 0, got {margin!r}")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha!r}")
    for name, value, allowed in (
        ("margin_kind", margin_kind, ("absolute", "relative")),
        ("harm", harm, ("increase", "decrease")),
        ("basis", basis, ("interval", "point")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed!r}, got {value!r}")

    def verdict(
        answer: Verdict,
        reason: str,
        numbers: tuple[float | None, float | None, float | None, float | None] = (None,) * 4,
    ) -> GuardrailVerdict:
        return GuardrailVerdict(answer, reason, margin, margin_kind, basis, alpha, *numbers)

    if isinstance(effect, NotEstimable):
        return verdict("cannot_tell", effect.reason)
    if margin_kind == "absolute":
        estimate, low, high = effect.absolute, effect.ci_lower, effect.ci_upper
    else:
        if effect.relative is None or effect.relative_ci_lower is None or effect.relative_ci_upper is None:
            return verdict("cannot_tell", "the control value cannot be told from zero: no relative harm")
        estimate, low, high = effect.relative, effect.relative_ci_lower, effect.relative_ci_upper
    logs = margin_kind == "relative" and effect.relative_method == "log-ratio" and low > -1.0
    # A log-ratio of a negative control value mirrors round zero; there the plain scale is used.
    logs = logs and effect.mean_control > 0.0

    def forth(value: float) -> float:
        return math.log1p(value) if logs else value

    def back(value: float) -> float:
        return math.expm1(value) if logs else value

    ratio = one_sided_critical(alpha, effect.df) / two_sided_critical(effect.level, effect.df)
    centre, down, up = forth(estimate), forth(estimate) - forth(low), forth(high) - forth(estimate)
    one_low, one_high = back(centre - ratio * down), back(centre + ratio * up)
    critical = two_sided_critical(effect.level, effect.df)
    if harm == "increase":
        worst, least, expected = one_high, one_low, estimate
        distance, width = forth(margin) - centre, up
    else:
        worst, least, expected = -one_low, -one_high, -estimate
        distance, width = (centre - forth(-margin) if margin < 1.0 or not logs else math.inf), down
    if not width > 0.0:
        return verdict("cannot_tell", "the interval has no width on the side of harm")
    p_value = upper_tail(critical * distance / width, effect.df)
    numbers = (expected, worst, least, p_value)
    if basis == "point":
        if expected <= margin:
            return verdict(
                "pass", "the estimated harm is within the margin (uncertainty not judged)", numbers
            )
        return verdict("fail", "the estimated harm is beyond the margin (uncertainty not judged)", numbers)
    if worst <= margin:
        return verdict("pass", "even the largest harm that the data allow is within the margin", numbers)
    if least > margin:
        return verdict("fail", "even the smallest harm that the data allow is beyond the margin", numbers)
    if least > 0.0 and expected > margin:
        return verdict("fail", "harm is shown, and its best estimate is beyond the margin", numbers)
    if least > 0.0:
        return verdict("underpowered", "harm is shown, but whether it is beyond the margin is not", numbers)
    return verdict("underpowered", "the data allow harm beyond the margin and do not show it", numbers)
