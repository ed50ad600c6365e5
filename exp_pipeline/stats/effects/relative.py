"""The relative effect and its interval, from two arm values and their variances."""

from __future__ import annotations

import math
from dataclasses import dataclass

from exp_pipeline.stats.reference import two_sided_critical

# Below this many standard errors from zero an arm's log is too skewed for a log-ratio interval (simulated
# coverage of the log-ratio falls under 93.5 % near 2.5, and is above 94 % from 3 on).
SECURE_SIGNAL = 3.0
# Lopsidedness of a log-ratio (see `log_lopsidedness`) from which one of its tails leaves 1.5-3.5 % for sure:
# simulated tails of normal means are 3.1 and 1.9 % there.
CALM_LOG = 0.3
NO_WIDTH = "no relative effect: treatment is zero in every unit, so its interval would have no width"


@dataclass(frozen=True, slots=True)
class RelativeEffect:
    """By how much of the control value did treatment differ? None where undefined; `flag` then says why."""

    relative: float | None
    lower: float | None
    upper: float | None
    method: str | None
    flags: tuple[str, ...] = ()


def log_lopsidedness(
    value_control: float,
    value_treatment: float,
    variance_control: float,
    variance_treatment: float,
    covariance: float = 0.0,
) -> float:
    """How lopsided does taking logs make the interval of a ratio, in units of skewness?

    3 (b^2 - a^2) / s, with a and b the relative standard errors of treatment and control and s that of the
    log ratio: the second-order term of both logs, whose share along the log ratio itself is a^2 and b^2. Zero
    for arms equally sure; beyond +-0.3 one end of a log-ratio interval errs noticeably more.
    """
    part_t, part_c = variance_treatment / value_treatment**2, variance_control / value_control**2
    square = part_t + part_c - 2.0 * covariance / (value_treatment * value_control)
    return 3.0 * (part_c - part_t) / math.sqrt(square) if square > 0.0 else 0.0


def relative_effect(
    value_control: float,
    value_treatment: float,
    *,
    variance_control: float,
    variance_treatment: float,
    covariance: float = 0.0,
    df: float,
    level: float,
    heavy_tailed: bool = False,
) -> RelativeEffect:
    """What is treatment / control - 1, and its interval?

    Variances are those of the two estimates, not of units. Log-ratio interval (delta method on log
    treatment - log control) when both values have one sign, each lies at least three standard errors
    from zero and neither is far less sure than the other (`log_lopsidedness` within 0.3); otherwise, and
    where the caller knows of heavy tails (see `skew`), Fieller's (1954) interval, which is exact for normal
    estimates and bounded as long as control differs from zero at `level`. With a
    control value that does not, or a treatment of zero without spread (0 of n), whose -100 % would come
    without any doubt, the relative effect is None. A negative control value is taken by its size,
    so that the sign is that of the absolute effect.
    """
    critical = two_sided_critical(level, df)
    if value_control == 0.0 or abs(value_control) <= critical * math.sqrt(variance_control):
        return RelativeEffect(
            None, None, None, None, ("no relative effect: the control value cannot be told from zero",)
        )
    flags: tuple[str, ...] = ()
    sign = math.copysign(1.0, value_control)
    if sign < 0:
        flags = ("the control value is negative: the relative effect is taken of its size",)
    change = (value_treatment - value_control) / value_control
    one_sign = value_treatment * value_control > 0.0
    secure = abs(value_control) >= SECURE_SIGNAL * math.sqrt(variance_control) and abs(
        value_treatment
    ) >= SECURE_SIGNAL * math.sqrt(variance_treatment)
    calm = secure and one_sign
    if calm:
        tilt = log_lopsidedness(
            value_control, value_treatment, variance_control, variance_treatment, covariance
        )
        calm = abs(tilt) <= CALM_LOG
    if calm and not heavy_tailed:
        variance_log = (
            variance_treatment / value_treatment**2
            + variance_control / value_control**2
            - 2.0 * covariance / (value_treatment * value_control)
        )
        reach = critical * math.sqrt(max(variance_log, 0.0))
        log_ratio = math.log1p(change)
        changes = (math.expm1(log_ratio - reach), math.expm1(log_ratio + reach))
        method = "log-ratio"
    else:
        # Roots of (treatment - r control)^2 = critical^2 Var(treatment - r control).
        a = value_control**2 - critical**2 * variance_control
        b = value_treatment * value_control - critical**2 * covariance
        c = value_treatment**2 - critical**2 * variance_treatment
        root = math.sqrt(max(b * b - a * c, 0.0))
        changes = ((b - root) / a - 1.0, (b + root) / a - 1.0)
        method = "fieller"
    low, high = sorted(sign * bound for bound in changes)
    if not low < high:
        return RelativeEffect(None, None, None, None, (*flags, NO_WIDTH))
    return RelativeEffect(sign * change, low, high, method, flags)


def hedges_correction(df: float) -> float:
    """By what is Cohen's d multiplied to be unbiased? Exact gamma form (Hedges 1981, equation 6e)."""
    if math.isinf(df):
        return 1.0
    if df <= 1.0:
        return math.nan
    return math.exp(math.lgamma(df / 2.0) - math.lgamma((df - 1.0) / 2.0) - 0.5 * math.log(df / 2.0))
