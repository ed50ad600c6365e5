"""Differences of means and of proportions."""

from __future__ import annotations

import math
from dataclasses import replace

from exp_pipeline.stats.effects.contrast import ArmSummary, ArmValue, contrast, effect_of_arms, too_few_units
from exp_pipeline.stats.effects.relative import RelativeEffect, relative_effect
from exp_pipeline.stats.effects.skew import ThirdMoments, corrected_for_skewness
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect, NotEstimable

_Z_FAR = 1e6

# Successes and failures in each arm below which the intervals of shares leave 93.5-96.5 % in some worlds.
FEWEST_OF_A_KIND = 10
FEW_OF_A_KIND = "fewer than ten successes or failures in an arm: p-value and intervals are rough"


def difference_in_means(
    control: Moments,
    treatment: Moments,
    *,
    outcome: str,
    control_shape: ThirdMoments | None = None,
    treatment_shape: ThirdMoments | None = None,
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do the arms' means differ?

    Welch's t (1947): each arm has its own variance, Satterthwaite degrees of freedom. Units must be
    independent (see `clusters` if they were not randomised one by one). NotEstimable with fewer than two
    units in an arm or no spread in either arm. Raises ValueError for an unknown outcome, a level outside
    (0, 1), or shapes that are not of these units.

    With both shapes (third moments of the outcome by arm) skewness is looked at: unequal arms of skewed
    values get a corrected interval, others a flag (see `skew.corrected_for_skewness`). Without them the
    interval's two tails err alike only while |skewness| x |1/n_t^2 - 1/n_c^2| / (1/n_t + 1/n_c)^1.5 is
    below 0.1: equal arms, or exponential values at 285 + 2,565 units.
    """
    require_level(level)
    if (control_shape is None) != (treatment_shape is None):
        raise ValueError("control_shape and treatment_shape must both be given, or neither")
    for arm, moments, shape in (
        ("control", control, control_shape),
        ("treatment", treatment, treatment_shape),
    ):
        if shape is not None and shape.n != moments.n:
            raise ValueError(f"{arm}_shape must be of the same {moments.n} units, got {shape.n}")
    refusal = too_few_units("welch", control.n, treatment.n)
    if refusal is not None:
        return refusal
    if control.variance(outcome) == 0.0 and treatment.variance(outcome) == 0.0:
        return NotEstimable("welch", f"{outcome} has no spread in either arm", control.n, treatment.n)
    effect = contrast(
        "welch",
        ArmValue.of_mean(control, outcome),
        ArmValue.of_mean(treatment, outcome),
        level=level,
        standardise=True,
    )
    if isinstance(effect, NotEstimable) or control_shape is None or treatment_shape is None:
        return effect
    return corrected_for_skewness(effect, control_shape, treatment_shape)


def wilson_interval(successes: float, n: float, z: float) -> tuple[float, float]:
    """Between which proportions does a count of successes speak? Wilson (1927), no continuity correction."""
    share = successes / n
    centre = share + z * z / (2.0 * n)
    reach = z * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    scale = 1.0 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def newcombe_interval(
    control_successes: float, control_n: float, treatment_successes: float, treatment_n: float, z: float
) -> tuple[float, float]:
    """Between which differences do two counts speak? Newcombe (1998), method 10."""
    share_c, share_t = control_successes / control_n, treatment_successes / treatment_n
    low_c, high_c = wilson_interval(control_successes, control_n, z)
    low_t, high_t = wilson_interval(treatment_successes, treatment_n, z)
    gap = share_t - share_c
    return gap - math.hypot(share_t - low_t, high_c - share_c), gap + math.hypot(
        high_t - share_t, share_c - low_c
    )


def newcombe_ratio(
    control_successes: float, control_n: float, treatment_successes: float, treatment_n: float, z: float
) -> tuple[float, float]:
    """Between which ratios of treatment to control do two counts speak? Infinite above without successes.

    Newcombe's interval of treatment - r control, solved for the r at which it just reaches zero (Donner and
    Zou 2012, equation 9, "MOVER"): so it holds 1 exactly where Newcombe's interval of the difference holds 0.
    """
    share_c, share_t = control_successes / control_n, treatment_successes / treatment_n
    low_c, high_c = wilson_interval(control_successes, control_n, z)
    low_t, high_t = wilson_interval(treatment_successes, treatment_n, z)
    both = share_c * share_t
    near_t, far_t = low_t * (2.0 * share_t - low_t), high_t * (2.0 * share_t - high_t)
    near_c, far_c = low_c * (2.0 * share_c - low_c), high_c * (2.0 * share_c - high_c)
    below = both + math.sqrt(max(both**2 - near_t * far_c, 0.0))
    above = both + math.sqrt(max(both**2 - far_t * near_c, 0.0))
    return near_t / below if below > 0.0 else 0.0, above / near_c if near_c > 0.0 else math.inf


def _relative_share(x_c: int, n_c: int, x_t: int, n_t: int, level: float) -> RelativeEffect:
    """The relative effect of shares: by logs for large counts of arms equally sure, else by Newcombe's."""
    share_c, share_t = x_c / n_c, x_t / n_t
    variance_c, variance_t = share_c * (1.0 - share_c) / n_c, share_t * (1.0 - share_t) / n_t
    found = relative_effect(
        share_c,
        share_t,
        variance_control=variance_c,
        variance_treatment=variance_t,
        df=math.inf,
        level=level,
    )
    if found.relative is None:
        return found
    if found.method == "log-ratio" and min(x_c, n_c - x_c, x_t, n_t - x_t) >= FEWEST_OF_A_KIND:
        return found
    low, high = newcombe_ratio(x_c, n_c, x_t, n_t, two_sided_critical(level, math.inf))
    return replace(found, lower=low - 1.0, upper=high - 1.0, method="newcombe-ratio")


def difference_in_proportions(
    control_successes: int, control_n: int, treatment_successes: int, treatment_n: int, *, level: float = 0.95
) -> Effect | NotEstimable:
    """By how much do the arms' shares of successes differ?

    `se` is Wald's with each arm's own share. The interval is Newcombe's (1998, method 10), which keeps its
    coverage for small counts and never leaves [-1, 1], where Wald's fails; at thousands of units they
    agree. The p-value is the one at which that interval just reaches zero, so that the two never disagree.
    The relative interval is the log-ratio's for ten successes and failures in each arm and arms about
    equally sure (`relative.log_lopsidedness`), else `newcombe_ratio`. Fewer than ten of a kind are flagged.
    NotEstimable for an empty arm and where neither arm has both outcomes. Raises ValueError for counts that
    are negative or larger than n.
    """
    require_level(level)
    method = "proportion-newcombe"
    for arm, successes, n in (
        ("control", control_successes, control_n),
        ("treatment", treatment_successes, treatment_n),
    ):
        if not 0 <= successes <= n:
            raise ValueError(f"{arm}_successes must lie between 0 and {arm}_n = {n}, got {successes}")
    refusal = too_few_units(method, control_n, treatment_n)
    if refusal is not None:
        return refusal
    share_c, share_t = control_successes / control_n, treatment_successes / treatment_n
    spread_c, spread_t = share_c * (1.0 - share_c), share_t * (1.0 - share_t)
    if spread_c == 0.0 and spread_t == 0.0:
        reason = (
            "all units of both arms have the same outcome"
            if share_c == share_t
            else "the arm tells the outcome completely: no spread within either arm"
        )
        return NotEstimable(method, reason, control_n, treatment_n)
    flags: tuple[str, ...] = ()
    if spread_c == 0.0 or spread_t == 0.0:
        flags = ("one arm has only one outcome: its standard error is zero, read the interval",)
    rarest = min(
        control_successes,
        control_n - control_successes,
        treatment_successes,
        treatment_n - treatment_successes,
    )
    if rarest < FEWEST_OF_A_KIND:
        flags = (*flags, FEW_OF_A_KIND)
    absolute = share_t - share_c
    variance_c, variance_t = spread_c / control_n, spread_t / treatment_n
    low, high = newcombe_interval(
        control_successes,
        control_n,
        treatment_successes,
        treatment_n,
        two_sided_critical(level, math.inf),
    )
    relative = _relative_share(control_successes, control_n, treatment_successes, treatment_n, level)
    return effect_of_arms(
        method,
        ArmSummary(control_n, share_c, spread_c * control_n / (control_n - 1)),
        ArmSummary(treatment_n, share_t, spread_t * treatment_n / (treatment_n - 1)),
        absolute,
        math.sqrt(variance_c + variance_t),
        math.inf,
        relative,
        level=level,
        bounds=(low, high),
        p_value=_newcombe_p(control_successes, control_n, treatment_successes, treatment_n),
        flags=flags,
    )


def _newcombe_p(control_successes: int, control_n: int, treatment_successes: int, treatment_n: int) -> float:
    gap = treatment_successes / treatment_n - control_successes / control_n
    if gap == 0.0:
        return 1.0

    def nearest_bound(z: float) -> float:
        low, high = newcombe_interval(control_successes, control_n, treatment_successes, treatment_n, z)
        return low if gap > 0 else -high

    inside, outside = 0.0, 1.0
    while nearest_bound(outside) > 0.0 and outside < _Z_FAR:
        inside, outside = outside, 2.0 * outside
    for _ in range(200):
        middle = 0.5 * (inside + outside)
        if middle in (inside, outside):
            break
        if nearest_bound(middle) > 0.0:
            inside = middle
        else:
            outside = middle
    return two_sided_p(inside, math.inf)
