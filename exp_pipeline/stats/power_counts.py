"""Spreads read from history, for outcomes whose estimator works on linearised values of units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.contrast import ArmValue
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.power_outcomes import Rate
from exp_pipeline.stats.results import NotEstimable


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
    return _spread(float(y.mean()), y)


def ratio_spread(numerators: ArrayLike, denominators: ArrayLike) -> Spread | NotEstimable:
    """What is the ratio of the units' totals, and how much does one unit's part in it vary?

    Delta method by unit (Deng, Knoblich and Lu 2018), as in `ratios.difference_in_ratios`. numerators,
    denominators: (n,), one row a unit.
    """
    parts = np.column_stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)])
    if not np.isfinite(parts).all():
        raise ValueError("numerators and denominators must be finite; handle missing values first")
    n = parts.shape[0]
    if n < 2:
        return NotEstimable("spread", f"{n} units have a value; a spread needs two", n, 0)
    base = float(parts[:, 1].mean())
    if base == 0.0:
        return NotEstimable("spread", "the denominator is zero in the history", n, 0)
    moments = Moments.from_array(parts, ("numerator", "denominator"))
    ratio = ArmValue.of_ratio(moments, "numerator", "denominator").value
    return _spread(ratio, (parts[:, 0] - ratio * parts[:, 1]) / base)


def quantile_spread(values: ArrayLike, units: ArrayLike, quantile: float) -> Spread | NotEstimable:
    """What is a quantile of all rows, and how much does one unit's part in it vary?

    values: (n,) rows, units: (n,) whose row each is. A unit's part is its rows below the quantile less their
    share of its rows, times the sparsity (one over the density there), over the mean rows of a unit. The
    sparsity is the slope of the quantile function over the bandwidth of Hall and Sheather (1988) for the
    number of units. NotEstimable where too few units reach around the quantile or ties leave no slope.
    """
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile!r}")
    rows = np.asarray(values, dtype=np.float64)
    owners = np.asarray(units)
    if rows.ndim != 1 or owners.shape != rows.shape or not np.isfinite(rows).all():
        raise ValueError("values and units must be one-dimensional, of one length, and values finite")
    codes = np.unique(owners, return_inverse=True)[1].reshape(rows.shape)
    n = int(codes.max()) + 1 if codes.size else 0
    if n < 2:
        return NotEstimable("spread", f"{n} units have a value; a spread needs two", n, 0)
    reach = hall_sheather(n, quantile)
    low, high = quantile - reach, quantile + reach
    if low <= 0.0 or high >= 1.0:
        return NotEstimable("spread", f"{n} units are too few around the {quantile:g} quantile", n, 0)
    ordered = np.sort(rows)
    value, below_value, above_value = np.quantile(ordered, [quantile, low, high])
    sparsity = float(above_value - below_value) / (high - low)
    if sparsity <= 0.0:
        return NotEstimable("spread", "too many rows share the value at the quantile", n, 0)
    per_unit = np.bincount(codes).astype(np.float64)
    below = rows <= value
    share = float(below.mean())
    part = (np.bincount(codes, weights=below) - share * per_unit) / per_unit.mean() * sparsity
    found = _spread(float(value), part)
    if isinstance(found, NotEstimable):
        return found
    # A slope over a bandwidth is known to about one part in the root of twice the units within it.
    slope_error = found.sd / math.sqrt(2.0 * max(n * 2.0 * reach, 1.0))
    return Spread(found.value, found.sd, n, math.hypot(found.sd_se, slope_error))


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


def _spread(value: float, parts: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Spread | NotEstimable:
    n = parts.size
    centred = parts - parts.mean()
    variance = float(centred @ centred) / (n - 1)
    if variance <= 1e-24 * max(1.0, value**2):
        return NotEstimable("spread", "units do not differ: there is no spread", n, 0)
    fourth = float(np.mean(centred**4)) / variance**2
    # Var(s^2) = s^4 (kurtosis - (n - 3) / (n - 1)) / n, and s is half of that in relative terms.
    relative = math.sqrt(max(fourth - (n - 3.0) / (n - 1.0), 0.0) / n)
    return Spread(value, math.sqrt(variance), n, 0.5 * relative * math.sqrt(variance))
