"""One effect at any level: its interval stretched, and its distance from any claimed value."""

from __future__ import annotations

import math

from exp_pipeline.stats.effects.means import newcombe_interval, newcombe_ratio
from exp_pipeline.stats.reference import one_sided_critical, two_sided_critical, upper_tail
from exp_pipeline.stats.results import Effect

# Beyond this many standard errors a normal tail is no longer a floating-point number.
_FARTHEST = 37.0
_BEYOND_ALL = 1e6


def bounds_at(effect: Effect, tail: float) -> tuple[float, float]:
    """Between which values does the effect lie, if each side may err with probability `tail`?

    The effect's own interval at another level: exact for t and normal intervals and for Newcombe's; any
    other interval keeps its shape (each side's distance times the ratio of t quantiles).
    """
    return stretched(effect, one_sided_critical(tail, effect.df))


def stretched(effect: Effect, critical: float) -> tuple[float, float]:
    """Which bounds lie `critical` of the effect's own (t or normal) standard errors away? See `bounds_at`."""
    if effect.method == "proportion-newcombe":
        return _newcombe(effect, critical)
    below, above = _sides(effect)
    return effect.absolute - critical * below, effect.absolute + critical * above


def statistic_against(effect: Effect, value: float = 0.0) -> float:
    """How far is the effect above `value`, in standard errors of a normal with the same tail probability?

    The inverse of `bounds_at`: the value is a bound at the tail of a normal beyond this number. At few
    degrees of freedom this is the significance-level approach (a t of 2.1 at 12 degrees counts as a normal
    with the same p-value).
    """
    return as_normal(distance_from(effect, value), effect.df)


def distance_from(effect: Effect, value: float = 0.0) -> float:
    """How many of its own (t or normal) standard errors is the effect above `value`? See `stretched`."""
    if effect.method == "proportion-newcombe":
        return _newcombe_statistic(effect, value)
    below, above = _sides(effect)
    gap = effect.absolute - value
    return gap / (below if gap > 0.0 else above)


def relative_distance_from(effect: Effect, value: float) -> float | None:
    """How many of its own standard errors is the relative effect above `value`? None without one.

    The inverse of `relative_stretched`; for Fieller the t statistic of treatment - (1 + value) control.
    """
    ends = _relative_ends(effect)
    if ends is None or effect.relative is None:
        return None
    own = two_sided_critical(effect.level, effect.df)
    low, high = ends
    middle, at = effect.relative, value
    if effect.relative_method == "log-ratio":
        sign = math.copysign(1.0, effect.mean_control)
        # The log of a negative control's ratio mirrors the order of the ends.
        if sign * value <= -1.0:
            return math.copysign(_BEYOND_ALL, sign)
        middle, at, low, high = (sign * math.log1p(sign * end) for end in (middle, at, low, high))
    elif effect.relative_method == "newcombe-ratio":
        return _newcombe_statistic(effect, value, relative=True)
    else:
        variances = _fieller_variances(effect, own)
        if variances is not None:
            ratio = 1.0 + math.copysign(1.0, effect.mean_control) * value
            spread = math.sqrt(variances[1] + ratio**2 * variances[0])
            return (effect.mean_treatment - ratio * effect.mean_control) / spread
    side = middle - low if middle > at else high - middle
    return (middle - at) * own / side


def as_normal(statistic: float, df: float) -> float:
    """Which normal deviate has the tail probability of this t? Cut at 37 standard errors."""
    from scipy import special

    if math.isinf(df):
        return max(-_FARTHEST, min(_FARTHEST, statistic))
    tail = upper_tail(abs(statistic), df)
    size = min(_FARTHEST, float(-special.ndtri(tail))) if tail > 0.0 else _FARTHEST
    return math.copysign(size, statistic)


def relative_bounds_at(effect: Effect, tail: float) -> tuple[float, float] | None:
    """Between which relative effects, if each side may err with probability `tail`? None without one.

    See `relative_stretched`.
    """
    return relative_stretched(effect, one_sided_critical(tail, effect.df))


def relative_stretched(effect: Effect, critical: float) -> tuple[float, float] | None:
    """Which relative effects lie `critical` standard errors away? None where there is no relative effect.

    A log-ratio interval is stretched on the log scale, exactly, and Newcombe's made anew; Fieller's is
    solved again from the arms' variances where they can be had from the effect, else each side is stretched
    by the ratio of quantiles.
    """
    relative = _relative_ends(effect)
    if relative is None or effect.relative is None:
        return None
    own = two_sided_critical(effect.level, effect.df)
    low, high = relative
    if effect.relative_method == "log-ratio":
        sign = math.copysign(1.0, effect.mean_control)
        middle = math.log1p(sign * effect.relative)
        ends = sorted((math.log1p(sign * low), math.log1p(sign * high)))
        reached = (
            middle - (middle - ends[0]) * critical / own,
            middle + (ends[1] - middle) * critical / own,
        )
        changes = sorted(sign * _expm1(end) for end in reached)
        return changes[0], changes[1]
    if effect.relative_method == "newcombe-ratio":
        return _newcombe(effect, critical, relative=True)
    solved = _fieller(effect, own, critical)
    if solved is not None:
        return solved
    ratio = critical / own
    return effect.relative - (effect.relative - low) * ratio, effect.relative + (
        high - effect.relative
    ) * ratio


def scale_of(effect: Effect) -> float:
    """What is the effect's standard error, from its interval where one arm without spread has none?"""
    if effect.se > 0.0:
        return effect.se
    return (effect.ci_upper - effect.ci_lower) / (2.0 * two_sided_critical(effect.level, effect.df))


def relative_mean(effect: Effect, value: float) -> float:
    """Which mean has the statistic of "no effect", in standard errors, if the relative effect is `value`?

    On the log scale for a log-ratio; else the value of control over the standard error of the effect.
    """
    ends = _relative_ends(effect)
    if ends is not None and effect.relative_method == "log-ratio":
        sign = math.copysign(1.0, effect.mean_control)
        width = abs(math.log1p(sign * ends[1]) - math.log1p(sign * ends[0]))
        se_log = width / (2.0 * two_sided_critical(effect.level, effect.df))
        return sign * math.log1p(sign * value) / se_log
    return value * abs(effect.mean_control) / scale_of(effect)


def _relative_ends(effect: Effect) -> tuple[float, float] | None:
    """The ends of the relative interval; None without one, or where it has no width."""
    low, high = effect.relative_ci_lower, effect.relative_ci_upper
    if effect.relative is None or low is None or high is None or not low < effect.relative < high:
        return None
    return low, high


def _expm1(value: float) -> float:
    return math.expm1(value) if value < 700.0 else math.inf


def _sides(effect: Effect) -> tuple[float, float]:
    own = two_sided_critical(effect.level, effect.df)
    below, above = (effect.absolute - effect.ci_lower) / own, (effect.ci_upper - effect.absolute) / own
    usable = all(math.isfinite(side) and side > 0.0 for side in (below, above))
    if not usable or max(abs(below - effect.se), abs(above - effect.se)) <= 1e-9 * effect.se:
        return effect.se, effect.se
    return below, above


def _newcombe(effect: Effect, critical: float, *, relative: bool = False) -> tuple[float, float]:
    x_c, x_t = (
        round(effect.mean_control * effect.n_control),
        round(effect.mean_treatment * effect.n_treatment),
    )
    if relative:
        low, high = newcombe_ratio(x_c, effect.n_control, x_t, effect.n_treatment, critical)
        return low - 1.0, high - 1.0
    return newcombe_interval(x_c, effect.n_control, x_t, effect.n_treatment, critical)


def _newcombe_statistic(effect: Effect, value: float, *, relative: bool = False) -> float:
    estimate = effect.relative if relative and effect.relative is not None else effect.absolute
    above = estimate >= value
    if estimate == value:
        return 0.0

    def reaches(z: float) -> bool:
        low, high = _newcombe(effect, z, relative=relative)
        return low <= value if above else high >= value

    inside, outside = 0.0, _FARTHEST
    if not reaches(outside):
        return math.copysign(_FARTHEST, estimate - value)
    for _ in range(80):
        middle = 0.5 * (inside + outside)
        if reaches(middle):
            outside = middle
        else:
            inside = middle
    return math.copysign(inside, estimate - value)


def _fieller_variances(effect: Effect, own: float) -> tuple[float, float] | None:
    """The arms' variances, had back from the two ends of Fieller's interval; None where that cannot be."""
    if effect.relative_ci_lower is None or effect.relative_ci_upper is None:
        return None
    c, t = effect.mean_control, effect.mean_treatment
    sign = math.copysign(1.0, c)
    first, second = 1.0 + sign * effect.relative_ci_lower, 1.0 + sign * effect.relative_ci_upper
    if first + second == 0.0 or t == 0.0:
        return None
    a = 2.0 * t * c / (first + second)
    variance_c = (c**2 - a) / own**2
    variance_t = (t**2 - a * first * second) / own**2
    # Adjusted values and shared clusters have a covariance, which two ends cannot tell.
    if min(variance_c, variance_t) < 0.0 or abs(variance_c + variance_t - effect.se**2) > 1e-6 * effect.se**2:
        return None
    return variance_c, variance_t


def _fieller(effect: Effect, own: float, critical: float) -> tuple[float, float] | None:
    """Fieller's interval at another level, for two uncorrelated arms."""
    variances = _fieller_variances(effect, own)
    if variances is None:
        return None
    c, t = effect.mean_control, effect.mean_treatment
    sign = math.copysign(1.0, c)
    a = c**2 - critical**2 * variances[0]
    if a <= 0.0:
        return -math.inf, math.inf
    root = math.sqrt(max((t * c) ** 2 - a * (t**2 - critical**2 * variances[1]), 0.0))
    ends = sorted(sign * ((t * c + way * root) / a - 1.0) for way in (-1.0, 1.0))
    return ends[0], ends[1]
