"""Tails and quantiles of the reference distributions, exact far out in the tails."""

from __future__ import annotations

import math
import sys

import numpy as np

from exp_pipeline.stats.tails import chi_square_tails

# Past the range of floating point a p-value is given as this: 0 would claim a certainty that no test has.
SMALLEST_P = sys.float_info.min
# As many arms as any experiment has: their sums are short, and need no library.
_FEW_DF = 20


def require_level(level: float) -> None:
    """Is this a usable confidence level? Raises ValueError outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be a confidence between 0 and 1, such as 0.95, got {level!r}")


def upper_tail(statistic: float, df: float) -> float:
    """How likely is a t (df infinite: a normal) above `statistic`? Keeps its digits far out."""
    from scipy import special

    if math.isinf(df):
        return float(special.ndtr(-statistic))
    return float(special.stdtr(df, -statistic))


def two_sided_p(statistic: float, df: float) -> float:
    """How likely is a t (df infinite: a normal) at least this far from zero, on either side?"""
    return min(1.0, max(2.0 * upper_tail(abs(statistic), df), SMALLEST_P))


def one_sided_critical(alpha: float, df: float) -> float:
    """Beyond which value lies the upper `alpha` of a t (df infinite: a normal)?"""
    from scipy import special

    if math.isinf(df):
        return float(-special.ndtri(alpha))
    return float(-special.stdtrit(df, alpha))


def two_sided_critical(level: float, df: float) -> float:
    """How many standard errors on each side make an interval of confidence `level`?"""
    return one_sided_critical((1.0 - level) / 2.0, df)


def welch_df(
    variance_control: float, df_control: float, variance_treatment: float, df_treatment: float
) -> float:
    """How many degrees of freedom has a sum of two estimated variances? Welch (1947)."""
    share = variance_control / (variance_control + variance_treatment)
    return 1.0 / (share**2 / df_control + (1.0 - share) ** 2 / df_treatment)


def chi_square_tail(statistic: float, df: int) -> float:
    """How likely is a chi-square with `df` degrees of freedom above `statistic`?"""
    if 1 <= df <= _FEW_DF:
        tail = float(chi_square_tails(np.array([statistic]), np.array([df]))[0])
    else:
        from scipy import special

        tail = float(special.chdtrc(df, statistic))
    return min(1.0, max(tail, SMALLEST_P))
