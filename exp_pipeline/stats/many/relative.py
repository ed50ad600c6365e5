"""Relative and standardised effects of many cells at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.effects.relative import CALM_LOG, NO_WIDTH, SECURE_SIGNAL
from exp_pipeline.stats.tails import hedges_corrections

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ManyRelative:
    """`RelativeEffect` for all cells; NaN where it holds None."""

    relative: FloatArray
    lower: FloatArray
    upper: FloatArray
    by: tuple[tuple[Mask, str], ...]
    flags: tuple[tuple[Mask, str], ...]


def many_relative(
    value_c: FloatArray,
    value_t: FloatArray,
    variance_c: FloatArray,
    variance_t: FloatArray,
    covariance: FloatArray,
    critical: FloatArray,
) -> ManyRelative:
    """By how much of the control value did treatment differ, cell by cell? `relative_effect`, on arrays."""
    defined = (value_c != 0.0) & (np.abs(value_c) > critical * np.sqrt(variance_c))
    base = np.where(defined, value_c, 1.0)
    sign = np.sign(base)
    change = (value_t - base) / base
    by_log = (
        (value_t * base > 0.0)
        & (np.abs(base) >= SECURE_SIGNAL * np.sqrt(variance_c))
        & (np.abs(value_t) >= SECURE_SIGNAL * np.sqrt(variance_t))
    )
    other = np.where(by_log, value_t, base)
    part_t, part_c = variance_t / other**2, variance_c / base**2
    variance_log = part_t + part_c - 2.0 * covariance / (other * base)
    spread = np.sqrt(np.where(variance_log > 0.0, variance_log, np.inf))
    by_log &= np.abs(3.0 * (part_c - part_t) / spread) <= CALM_LOG
    reach = critical * np.sqrt(np.maximum(variance_log, 0.0))
    log_ratio = np.log1p(np.where(by_log, change, 0.0))
    a = np.where(defined, base**2 - critical**2 * variance_c, 1.0)
    b = value_t * base - critical**2 * covariance
    c = value_t**2 - critical**2 * variance_t
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    with np.errstate(over="ignore"):
        first = sign * np.where(by_log, np.expm1(log_ratio - reach), (b - root) / a - 1.0)
        second = sign * np.where(by_log, np.expm1(log_ratio + reach), (b + root) / a - 1.0)
    wide = first != second
    known = defined & wide
    return ManyRelative(
        np.where(known, sign * change, np.nan),
        np.where(known, np.minimum(first, second), np.nan),
        np.where(known, np.maximum(first, second), np.nan),
        ((by_log, "log-ratio"), (~by_log, "fieller")),
        (
            (
                defined & (base < 0.0),
                "the control value is negative: the relative effect is taken of its size",
            ),
            (~defined, "no relative effect: the control value cannot be told from zero"),
            (defined & ~wide, NO_WIDTH),
        ),
    )


def many_standardised(absolute: FloatArray, pooled: FloatArray, df: FloatArray) -> FloatArray:
    """How many pooled standard deviations are the effects? Hedges' g; NaN without spread or df."""
    usable = (df >= 2) & (pooled > 0.0)
    correction = hedges_corrections(np.where(usable, df, 2.0))
    return np.where(usable, absolute / np.sqrt(np.where(usable, pooled, 1.0)) * correction, np.nan)
