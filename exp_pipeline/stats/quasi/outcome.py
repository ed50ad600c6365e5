"""What every design without randomisation hands back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.reference import SMALLEST_P, two_sided_critical, two_sided_p

FloatArray = NDArray[np.float64]

NOT_RANDOMISED = "not randomised: an effect only if the assumptions hold"


@dataclass(frozen=True, slots=True)
class QuasiEffect:
    """What changed with treatment, under a design that did not randomise it?

    `design` names the design, `label` says that it is not randomised and `assumptions` what must hold, a
    sentence each. `absolute` is in the outcome's own unit, `se` its standard error, `df` the degrees of
    freedom of the t reference (infinity means normal). `n_*` count rows of analysis, `clusters_*` what the
    standard error takes as independent (None where those are the rows).
    """

    design: str
    method: str
    n_control: int
    n_treatment: int
    absolute: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    assumptions: tuple[str, ...]
    flags: tuple[str, ...] = ()
    clusters_control: int | None = None
    clusters_treatment: int | None = None
    label: str = NOT_RANDOMISED


@dataclass(frozen=True, slots=True)
class Point:
    """What is one estimate of several, such as the effect at one distance from adoption?

    `se`, `df`, the interval and `p_value` are None where they cannot be had; `reason` then says why.
    """

    at: int
    estimate: float
    se: float | None
    df: float | None
    ci_lower: float | None
    ci_upper: float | None
    p_value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WaldTest:
    """Are several numbers all zero? F with the two degrees of freedom."""

    f: float
    df_numerator: int
    df_denominator: float
    p_value: float


def point(at: int, estimate: float, se: float, df: float, level: float) -> Point:
    """Which point has this standard error? One without spread is told apart, with no interval."""
    if not (se > 0.0 and df > 0.0):
        return Point(at, estimate, None, None, None, None, None, "no spread to tell an error from")
    reach = two_sided_critical(level, df) * se
    return Point(at, estimate, se, df, estimate - reach, estimate + reach, two_sided_p(estimate / se, df))


def hotelling(gap: FloatArray, covariance: FloatArray, eta: float) -> WaldTest | None:
    """Are all q of `gap` zero, if `covariance` (q, q) has `eta` degrees of freedom? None if too few.

    F = (eta - q + 1) / (eta q) x Wald with q and eta - q + 1 degrees of freedom.
    """
    q = gap.size
    scale = np.sqrt(np.diag(covariance))
    if q == 0 or not (scale > 0.0).all() or not eta - q + 1.0 > 0.0:
        return None
    correlation = covariance / np.outer(scale, scale)
    if np.linalg.eigvalsh(correlation)[0] <= 1e-10:
        return None
    wald = float(gap / scale @ np.linalg.solve(correlation, gap / scale))
    factor = 1.0 if np.isinf(eta) else (eta - q + 1.0) / eta
    return WaldTest(factor * wald / q, q, eta - q + 1.0, f_tail(factor * wald / q, q, eta - q + 1.0))


def f_tail(f: float, numerator: float, denominator: float) -> float:
    """How likely is an F above `f`? A denominator of infinity means a chi-square over its numerator."""
    from scipy import special

    if np.isinf(denominator):
        return max(float(special.chdtrc(numerator, numerator * f)), SMALLEST_P)
    return max(float(special.fdtrc(numerator, denominator, f)), SMALLEST_P)
