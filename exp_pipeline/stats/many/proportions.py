"""Thousands of differences of shares at once: `difference_in_proportions`, on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.effects.means import (
    FEW_OF_A_KIND,
    FEWEST_OF_A_KIND,
    difference_in_proportions,
)
from exp_pipeline.stats.many.effects import ManyEffects
from exp_pipeline.stats.many.relative import ManyRelative, many_relative, many_standardised
from exp_pipeline.stats.reference import SMALLEST_P, require_level
from exp_pipeline.stats.tails import normal_critical, normal_tails

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

_HALVINGS = 80
_Z_FAR = 1e6


def many_proportions(
    control_successes: NDArray[np.integer],
    control_n: NDArray[np.integer],
    treatment_successes: NDArray[np.integer],
    treatment_n: NDArray[np.integer],
    *,
    level: float = 0.95,
) -> ManyEffects:
    """By how much do shares of successes differ, cell by cell? `difference_in_proportions`."""
    require_level(level)
    x_c, n_c, x_t, n_t = (
        np.asarray(part).astype(np.float64)
        for part in (control_successes, control_n, treatment_successes, treatment_n)
    )
    for arm, x, n in (("control", x_c, n_c), ("treatment", x_t, n_t)):
        wrong = np.flatnonzero((x < 0) | (x > n))
        if wrong.size:
            place = int(wrong[0])
            raise ValueError(
                f"{arm}_successes must lie between 0 and {arm}_n, "
                f"got {x[place]:g} of {n[place]:g} in cell {place}"
            )
    safe_c, safe_t = np.maximum(n_c, 2.0), np.maximum(n_t, 2.0)
    share_c, share_t = x_c / safe_c, x_t / safe_t
    spread_c, spread_t = share_c * (1.0 - share_c), share_t * (1.0 - share_t)
    regular = (n_c >= 2) & (n_t >= 2) & ((spread_c > 0.0) | (spread_t > 0.0))
    absolute = share_t - share_c
    variance_c, variance_t = spread_c / safe_c, spread_t / safe_t
    z = normal_critical((1.0 - level) / 2.0)
    low, high = _newcombe(share_c, safe_c, share_t, safe_t, np.full(absolute.shape, z))
    infinite = np.full(absolute.shape, np.inf)
    rarest = np.minimum(np.minimum(x_c, n_c - x_c), np.minimum(x_t, n_t - x_t))
    few = rarest < FEWEST_OF_A_KIND
    relative = _relative(share_c, safe_c, share_t, safe_t, few, z)
    pooled = (
        (n_c - 1) * spread_c * safe_c / (safe_c - 1) + (n_t - 1) * spread_t * safe_t / (safe_t - 1)
    ) / np.maximum(n_c + n_t - 2, 1.0)
    one_sided = (spread_c == 0.0) | (spread_t == 0.0)
    flag = "one arm has only one outcome: its standard error is zero, read the interval"
    special_cells = {
        int(place): difference_in_proportions(
            int(x_c[place]), int(n_c[place]), int(x_t[place]), int(n_t[place]), level=level
        )
        for place in np.flatnonzero(~regular)
    }
    return ManyEffects(
        "proportion-newcombe",
        level,
        n_c.astype(np.int64),
        n_t.astype(np.int64),
        share_c,
        share_t,
        absolute,
        np.sqrt(variance_c + variance_t),
        infinite,
        low,
        high,
        _newcombe_p(share_c, safe_c, share_t, safe_t, regular),
        relative.relative,
        relative.lower,
        relative.upper,
        relative.by,
        many_standardised(absolute, pooled, n_c + n_t - 2),
        np.full(absolute.shape, np.nan),
        ((one_sided, flag), (few, FEW_OF_A_KIND), *relative.flags),
        special_cells,
    )


def _newcombe(
    share_c: FloatArray, n_c: FloatArray, share_t: FloatArray, n_t: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    low_c, high_c = _wilson(share_c, n_c, z)
    low_t, high_t = _wilson(share_t, n_t, z)
    gap = share_t - share_c
    return (
        gap - np.hypot(share_t - low_t, high_c - share_c),
        gap + np.hypot(high_t - share_t, share_c - low_c),
    )


def _relative(
    share_c: FloatArray, n_c: FloatArray, share_t: FloatArray, n_t: FloatArray, few: Mask, z: float
) -> ManyRelative:
    """`means._relative_share`, on arrays: by logs where counts are many and arms equally sure."""
    variance_c, variance_t = share_c * (1.0 - share_c) / n_c, share_t * (1.0 - share_t) / n_t
    critical = np.full(share_c.shape, z)
    found = many_relative(share_c, share_t, variance_c, variance_t, 0.0 * share_c, critical)
    by_log = found.by[0][0] & ~few
    low_c, high_c = _wilson(share_c, n_c, critical)
    low_t, high_t = _wilson(share_t, n_t, critical)
    both = share_c * share_t
    near_t, far_t = low_t * (2.0 * share_t - low_t), high_t * (2.0 * share_t - high_t)
    near_c, far_c = low_c * (2.0 * share_c - low_c), high_c * (2.0 * share_c - high_c)
    below = both + np.sqrt(np.maximum(both**2 - near_t * far_c, 0.0))
    above = both + np.sqrt(np.maximum(both**2 - far_t * near_c, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(below > 0.0, near_t / below, 0.0) - 1.0
        high = np.where(near_c > 0.0, above / near_c, np.inf) - 1.0
    known = ~np.isnan(found.relative)
    return ManyRelative(
        found.relative,
        np.where(by_log | ~known, found.lower, low),
        np.where(by_log | ~known, found.upper, high),
        ((by_log, "log-ratio"), (~by_log, "newcombe-ratio")),
        found.flags,
    )


def _wilson(share: FloatArray, n: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    centre = share + z * z / (2.0 * n)
    reach = z * np.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    scale = 1.0 + z * z / n
    return np.maximum(0.0, (centre - reach) / scale), np.minimum(1.0, (centre + reach) / scale)


def _newcombe_p(
    share_c: FloatArray, n_c: FloatArray, share_t: FloatArray, n_t: FloatArray, wanted: Mask
) -> FloatArray:
    """The p-value at which Newcombe's interval just reaches zero, by halving."""
    p = np.ones(share_c.shape)
    todo = np.flatnonzero(wanted & (share_t != share_c))
    # By symmetry the larger share may stand for treatment.
    flip = share_t[todo] < share_c[todo]
    small, n_small = np.where(flip, share_t[todo], share_c[todo]), np.where(flip, n_t[todo], n_c[todo])
    large, n_large = np.where(flip, share_c[todo], share_t[todo]), np.where(flip, n_c[todo], n_t[todo])

    def above_zero(z: FloatArray) -> Mask:
        return _newcombe(small, n_small, large, n_large, z)[0] > 0.0

    inside, outside = np.zeros(todo.size), np.ones(todo.size)
    growing = above_zero(outside)
    while growing.any():
        inside = np.where(growing, outside, inside)
        outside = np.where(growing, 2.0 * outside, outside)
        growing &= above_zero(outside) & (outside < _Z_FAR)
    for _ in range(_HALVINGS):
        middle = 0.5 * (inside + outside)
        if not ((middle != inside) & (middle != outside)).any():
            break
        above = above_zero(middle)
        inside, outside = np.where(above, middle, inside), np.where(above, outside, middle)
    p[todo] = np.clip(2.0 * normal_tails(inside), SMALLEST_P, 1.0)
    return p
