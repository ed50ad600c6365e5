"""Intervals that stay valid however often one looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

Side = Literal["both", "lower", "upper"]


@dataclass(frozen=True, slots=True)
class AlwaysValidInterval:
    """Which effects has no look so far ruled out?

    lower, upper: the bounds at this look, infinite on a side that was not asked for. p_value: always valid
    for the effect 0 at this look; keep the smallest over looks. planned_n: the units (both arms) at which
    the interval is narrowest.
    """

    lower: float
    upper: float
    p_value: float
    level: float
    side: Side
    planned_n: int
    n: int


def always_valid_interval(
    effect: Effect | NotEstimable,
    *,
    planned_n: int,
    level: float = 0.95,
    side: Side = "both",
) -> AlwaysValidInterval | NotEstimable:
    """Between which bounds does the effect lie at every look together, with confidence `level`?

    Normal-mixture confidence sequence (Robbins 1970; Howard and others 2021, equation 14; with an estimated
    variance, Waudby-Smith and others 2024), its mixture tuned to be narrowest at `planned_n` units of both
    arms. "lower" and "upper" use the one-sided (half-normal) mixture: one bound at the whole 1 - level, for
    kill rules. It rests on a normal approximation at the first look too: start after some dozens of units
    in each arm. Looks must use all units so far and the same estimator. Raises ValueError for a planned_n
    below 2 or an unknown side.
    """
    require_level(level)
    if planned_n < 2:
        raise ValueError(f"planned_n must be at least 2 units, got {planned_n}")
    if side not in ("both", "lower", "upper"):
        raise ValueError(f"side must be 'both', 'lower' or 'upper', got {side!r}")
    if isinstance(effect, NotEstimable):
        return effect
    if effect.se <= 0.0:
        reason = "the standard error is zero"
        return NotEstimable("always-valid", reason, effect.n_control, effect.n_treatment)
    n = effect.n_control + effect.n_treatment
    alpha = 1.0 - level
    # Information relative to the mixture's, at this look: se^2 is taken to fall as 1 / n.
    information = _best_information(alpha if side == "both" else 2.0 * alpha) * n / planned_n
    statistic = effect.absolute / effect.se
    if side == "both":
        radius = math.sqrt((1.0 + 1.0 / information) * (math.log1p(information) - 2.0 * math.log(alpha)))
        log_martingale = 0.5 * (statistic**2 * information / (1.0 + information) - math.log1p(information))
    else:
        radius = _one_sided_radius(alpha, information)
        toward = statistic if side == "lower" else -statistic
        log_martingale = _log_half_normal(toward, information)
    return AlwaysValidInterval(
        lower=-math.inf if side == "upper" else effect.absolute - radius * effect.se,
        upper=math.inf if side == "lower" else effect.absolute + radius * effect.se,
        p_value=math.exp(-max(log_martingale, 0.0)),
        level=level,
        side=side,
        planned_n=planned_n,
        n=n,
    )


def _best_information(alpha: float) -> float:
    """The x that makes (1 + 1/x) log((1 + x) / alpha^2) smallest: x = -W(-alpha^2 / e) - 1, lower branch."""
    from scipy import special

    argument = -(min(alpha, 0.99) ** 2) / math.e
    return float(-special.lambertw(argument, k=-1).real - 1.0)


def _log_half_normal(statistic: float, information: float) -> float:
    from scipy import special

    shrink = information / (1.0 + information)
    return (
        math.log(2.0)
        + float(special.log_ndtr(statistic * math.sqrt(shrink)))
        + 0.5 * (statistic**2 * shrink - math.log1p(information))
    )


def _one_sided_radius(alpha: float, information: float) -> float:
    target = -math.log(alpha)
    low, high = 0.0, 1.0
    while _log_half_normal(high, information) < target:
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        if _log_half_normal(middle, information) < target:
            low = middle
        else:
            high = middle
    return high
