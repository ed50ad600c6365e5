"""Spreads read from history, for outcomes whose estimator works on linearised values of units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.power.outcomes import Rate
from exp_pipeline.stats.reference import one_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """A value of history's units and how much one unit's part in it varies.

    value: mean, ratio or quantile. sd: of a unit's linearised value, so that sd^2 / n is the variance of the
    value. n: units that it was read from. sd_se: standard error of `sd` (from the fourth moment, so that a
    long tail widens it).
    """

    value: float
    sd: float
    n: int
    sd_se: float


def mean_spread(values: ArrayLike) -> Spread | NotEstimable:
    """What is the mean of units, and how much does one vary? values: (n,), finite."""
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or not np.isfinite(y).all():
        raise ValueError("values must be one-dimensional and finite; handle missing values first")
    if y.size < 2:
        return NotEstimable("spread", f"{y.size} units have a value; a spread needs two", y.size, 0)
    return spread_of_parts(float(y.mean()), y)


def ratio_spread(numerators: ArrayLike, denominators: ArrayLike) -> Spread | NotEstimable:
    """What is the ratio of the units' totals, and how much does one unit's part in it vary?

    Delta method by unit (Deng, Knoblich and Lu 2018), as in `ratios.difference_in_ratios`. numerators,
    denominators: (n,), one row a unit.
    """
    value, parts = ratio_parts(numerators, denominators)
    return value if isinstance(value, NotEstimable) else spread_of_parts(value, parts)


def ratio_parts(numerators: ArrayLike, denominators: ArrayLike) -> tuple[float | NotEstimable, FloatArray]:
    """What is the ratio of totals, and what is each unit's part (n,) in it?"""
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if above.ndim != 1 or above.shape != below.shape:
        raise ValueError(f"numerators and denominators must be of one length, got {above.shape}")
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        raise ValueError("numerators and denominators must be finite; handle missing values first")
    n = above.size
    if n < 2:
        return NotEstimable("spread", f"{n} units have a value; a spread needs two", n, 0), np.zeros(0)
    base = float(below.mean())
    if base == 0.0:
        return NotEstimable("spread", "the denominator is zero in the history", n, 0), np.zeros(0)
    ratio = float(above.mean()) / base
    return ratio, (above - ratio * below) / base


def quantile_spread(
    values: ArrayLike, units: ArrayLike, quantile: float, *, planned_units: float | None = None
) -> Spread | NotEstimable:
    """What is a quantile of all rows, and how much does one unit's part in it vary?

    values: (n,) rows, units: (n,) whose row each is; see `quantile_parts`. NotEstimable where too few units
    reach around the quantile or ties leave no slope. planned_units: of an arm, where known: the spread is
    then that of an interval from so many units, which reaches further up a long tail than the slope at the
    quantile says. Plan once without, and once more with what that came to.
    """
    value, parts, slope_error = quantile_parts(values, units, quantile, planned_units=planned_units)
    if isinstance(value, NotEstimable):
        return value
    found = spread_of_parts(value, parts)
    if isinstance(found, NotEstimable):
        return found
    return Spread(found.value, found.sd, found.n, math.hypot(found.sd_se, slope_error * found.sd))


def quantile_parts(
    values: ArrayLike, units: ArrayLike, quantile: float, *, planned_units: float | None = None
) -> tuple[float | NotEstimable, FloatArray, float]:
    """What is a quantile of all rows, each unit's part (units,) in it, and how sure is its slope?

    A unit's part is the number of its rows below the quantile less their share of its rows, times the
    sparsity (one over the density there), over the mean rows of a unit; units in the order of their labels.
    The sparsity is the slope of the quantile function over the bandwidth of Hall and Sheather (1988) for the
    number of units, or, if wider, over a 95 % interval from `planned_units` in an arm. The last number is the
    relative error of that slope.
    """
    if planned_units is not None and not planned_units >= 2.0:
        raise ValueError(f"planned_units must be at least 2, got {planned_units!r}")
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile!r}")
    rows = np.asarray(values, dtype=np.float64)
    owners = np.asarray(units)
    if rows.ndim != 1 or owners.shape != rows.shape or not np.isfinite(rows).all():
        raise ValueError("values and units must be one-dimensional, of one length, and values finite")
    codes = np.unique(owners, return_inverse=True)[1].reshape(rows.shape)
    n = int(codes.max()) + 1 if codes.size else 0

    def refused(reason: str) -> tuple[NotEstimable, FloatArray, float]:
        return NotEstimable("spread", reason, n, 0), np.zeros(0), 0.0

    if n < 2:
        return refused(f"{n} units have a value; a spread needs two")
    reach = hall_sheather(n, quantile)
    if planned_units is not None:
        per_unit = np.bincount(codes).astype(np.float64)
        own = np.bincount(codes, weights=rows <= np.quantile(rows, quantile)) - quantile * per_unit
        share_se = float(own.std(ddof=1)) / per_unit.mean() / math.sqrt(planned_units)
        reach = max(reach, one_sided_critical(0.025, math.inf) * share_se)
    low, high = quantile - reach, quantile + reach
    if low <= 0.0 or high >= 1.0:
        return refused(f"{n} units are too few around the {quantile:g} quantile")
    value, below_value, above_value = np.quantile(rows, [quantile, low, high])
    sparsity = float(above_value - below_value) / (high - low)
    if sparsity <= 0.0:
        return refused("too many rows share the value at the quantile")
    per_unit = np.bincount(codes).astype(np.float64)
    below = rows <= value
    share = float(below.mean())
    if share == 1.0:
        return refused(f"the {quantile:g} quantile is the largest value there is, which many rows share")
    # Ties leave the share below elsewhere than at the quantile: scaled to the variance that holds there.
    scale = math.sqrt(quantile * (1.0 - quantile) / (share * (1.0 - share)))
    parts = (np.bincount(codes, weights=below) - share * per_unit) / per_unit.mean() * (sparsity * scale)
    # A slope over a bandwidth is known to about one part in the root of twice the units within it.
    return float(value), parts, 1.0 / math.sqrt(2.0 * max(2.0 * reach * n, 1.0))


def hall_sheather(n: int, quantile: float, level: float = 0.95) -> float:
    """Over how much of the distribution should the slope at a quantile be taken? Hall and Sheather (1988)."""
    from scipy import special

    z = float(special.ndtri(quantile))
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    normal = float(special.ndtri(0.5 + 0.5 * level))
    return float(
        n ** (-1.0 / 3.0) * normal ** (2.0 / 3.0) * (1.5 * density**2 / (2.0 * z * z + 1.0)) ** (1 / 3)
    )


def rate_of_history(events: ArrayLike, exposures: ArrayLike) -> Rate | NotEstimable:
    """What are rate, exposure and dispersion of history's units? events, exposures: (n,), one row a unit.

    dispersion by moments, 0 where the counts vary no more than Poisson counts would.
    """
    spread = ratio_spread(events, exposures)
    if isinstance(spread, NotEstimable):
        return spread
    exposure = np.asarray(exposures, dtype=np.float64)
    mean, cv = float(exposure.mean()), float(exposure.std() / exposure.mean())
    if spread.value <= 0.0:
        return NotEstimable("spread", "there was no event in the history", spread.n, 0)
    beyond = spread.sd**2 - spread.value / mean
    dispersion = max(beyond, 0.0) / (spread.value**2 * (1.0 + cv**2))
    return Rate(spread.value, exposure=mean, exposure_cv=cv, dispersion=dispersion)


def spread_of_parts(value: float, parts: FloatArray) -> Spread | NotEstimable:
    """How much do these parts (n,) of units vary, and how sure is that?"""
    n = parts.size
    centred = parts - parts.mean()
    variance = float(centred @ centred) / (n - 1)
    if variance <= 1e-24 * max(1.0, value**2):
        return NotEstimable("spread", "units do not differ: there is no spread", n, 0)
    fourth = float(np.mean(centred**4)) / variance**2
    # Var(s^2) = s^4 (kurtosis - (n - 3) / (n - 1)) / n, and s is half of that in relative terms.
    relative = math.sqrt(max(fourth - (n - 3.0) / (n - 1.0), 0.0) / n)
    return Spread(value, math.sqrt(variance), n, 0.5 * relative * math.sqrt(variance))
