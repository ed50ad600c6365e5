"""Differences of quantiles, such as the 95th percentile of latency, over rows that belong to units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms, too_few_units
from exp_pipeline.stats.effects.relative import RelativeEffect
from exp_pipeline.stats.reference import one_sided_critical, require_level, two_sided_p, upper_tail, welch_df
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
_FEW_BEYOND = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class _ArmQuantile:
    """One arm: sorted rows (n,), quantile, and the clustered standard error of the share of rows below."""

    ordered: FloatArray
    quantile: float
    value: float
    share_se: float
    units: int

    def bounds(self, z: float) -> tuple[float, float] | None:
        """Which values lie as far out as a normal score z, read as a t? None past the data."""
        reach = one_sided_critical(upper_tail(z, math.inf), self.units - 1) * self.share_se
        low, high = self.quantile - reach, self.quantile + reach
        edge = 0.5 / self.ordered.shape[0]
        if low < edge or high > 1.0 - edge:
            return None
        return _interpolate(self.ordered, low), _interpolate(self.ordered, high)


def difference_in_quantiles(
    control_values: ArrayLike,
    control_unit: ArrayLike,
    treatment_values: ArrayLike,
    treatment_unit: ArrayLike,
    *,
    quantile: float,
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much does a quantile of the rows differ, when a unit has many rows?

    *_values: (n,) rows, *_unit: (n,) whole numbers saying whose row it is; a unit is in one arm. The share of
    rows below the quantile is a ratio of sums over units, so its variance is the delta method's by unit; the
    share's interval is read back through the order statistics (Woodruff 1952). The two arms' intervals are
    joined as in Zou and Donner (2008), which keeps them as lopsided as the data; p is the level at which the
    interval reaches zero, and where the data end before that, the level at which they end: then p is a bound
    from above, since no sample shows how far beyond its last row a quantile may lie. Quantiles interpolate
    linearly between rows. `n_*` are units, `se` is half the width of an arm's one-sigma interval, joined.
    NotEstimable with fewer than two units in an arm, too few units for bounds at `level`, or so many ties
    that the bounds coincide. Raises ValueError for shapes, values that are not finite, or a quantile outside
    (0, 1).
    """
    require_level(level)
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile!r}")
    method = "quantile"
    rows_c, units_c = _rows("control", control_values, control_unit)
    rows_t, units_t = _rows("treatment", treatment_values, treatment_unit)
    sizes_c, sizes_t = np.bincount(units_c), np.bincount(units_t)
    n_c, n_t = int(np.count_nonzero(sizes_c)), int(np.count_nonzero(sizes_t))
    refusal = too_few_units(method, n_c, n_t)
    if refusal is not None:
        return refusal
    control = _arm_quantile(rows_c, units_c, sizes_c, n_c, quantile)
    treatment = _arm_quantile(rows_t, units_t, sizes_t, n_t, quantile)
    if control.share_se == 0.0 and treatment.share_se == 0.0:
        return NotEstimable(method, "units do not differ in their share of rows below", n_c, n_t)
    score = one_sided_critical((1.0 - level) / 2.0, math.inf)
    far_c, far_t = control.bounds(score), treatment.bounds(score)
    if far_c is None or far_t is None:
        arm = "control" if far_c is None else "treatment"
        reason = f"too few units in the {arm} arm for an interval of the {quantile:g} quantile"
        return NotEstimable(method, reason, n_c, n_t)
    near_c, near_t = _one_sigma(control), _one_sigma(treatment)
    absolute = treatment.value - control.value
    low, high = _joined(control.value, treatment.value, far_c, far_t)
    se = math.hypot(near_c, near_t)
    if se == 0.0 or low == high:
        return NotEstimable(method, "too many rows share the value at the quantile", n_c, n_t)
    flags: tuple[str, ...] = ()
    if min(n_c, n_t) * min(quantile, 1.0 - quantile) < _FEW_BEYOND:
        flags = ("few units lie beyond the quantile: the interval is rough",)
    if min(far_c[0], far_t[0]) > 0.0:
        log_low, log_high = _joined(
            math.log(control.value),
            math.log(treatment.value),
            (math.log(far_c[0]), math.log(far_c[1])),
            (math.log(far_t[0]), math.log(far_t[1])),
        )
        ends = math.expm1(log_low), math.expm1(log_high)
        relative = RelativeEffect(absolute / control.value, *ends, "log-ratio")
    else:
        reason = "no relative effect: the quantile cannot be told from zero"
        relative = RelativeEffect(None, None, None, None, (reason,))
    return effect_of_arms(
        method,
        ArmSummary(n_c, control.value),
        ArmSummary(n_t, treatment.value),
        absolute,
        se,
        welch_df(near_c**2, n_c - 1, near_t**2, n_t - 1),
        relative,
        level=level,
        bounds=(low, high),
        p_value=_p_value(control, treatment, score),
        flags=flags,
    )


def _rows(arm: str, values: ArrayLike, unit: ArrayLike) -> tuple[FloatArray, NDArray[np.int64]]:
    rows = np.asarray(values, dtype=np.float64)
    owners = np.asarray(unit)
    if rows.ndim != 1 or owners.shape != rows.shape:
        raise ValueError(
            f"{arm}_values and {arm}_unit must be one-dimensional and of one length, "
            f"got {rows.shape} and {owners.shape}"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{arm}_values must be finite; handle missing values first")
    if rows.size == 0:
        return rows, np.zeros(0, dtype=np.int64)
    if np.issubdtype(owners.dtype, np.integer):
        first = owners.min()
        if int(owners.max()) - int(first) < 4 * rows.size:
            return rows, (owners - first).astype(np.int64, copy=False)
    return rows, np.unique(owners, return_inverse=True)[1].astype(np.int64).reshape(rows.shape)


def _arm_quantile(
    rows: FloatArray,
    units: NDArray[np.int64],
    sizes: NDArray[np.int64],
    n_units: int,
    quantile: float,
) -> _ArmQuantile:
    """sizes: rows of each unit, 0 for numbers that no unit has."""
    ordered = np.sort(rows)
    value = _interpolate(ordered, quantile)
    # The rows on the rarer side are counted by unit; the others are what is left of the unit.
    rare_above = quantile > 0.5
    rare = np.flatnonzero(rows > value if rare_above else rows <= value)
    by_unit = np.bincount(units[rare], minlength=sizes.shape[0])
    below_per_unit = sizes - by_unit if rare_above else by_unit
    share = float(rows.shape[0] - rare.size if rare_above else rare.size) / rows.shape[0]
    excess = (below_per_unit - share * sizes)[sizes > 0]
    n = rows.shape[0]
    variance = float(excess @ excess) * n_units / (n_units - 1.0) / n**2
    # Scaled to the variance that holds when the share is `quantile`: ties and few rows leave it elsewhere.
    actual = share * (1.0 - share)
    scale = quantile * (1.0 - quantile) / actual if actual > 0.0 else 0.0
    return _ArmQuantile(ordered, quantile, value, math.sqrt(variance * scale), n_units)


def _interpolate(ordered: FloatArray, quantile: float) -> float:
    place = quantile * (ordered.shape[0] - 1)
    lower = int(place)
    upper = min(lower + 1, ordered.shape[0] - 1)
    return float(ordered[lower] + (place - lower) * (ordered[upper] - ordered[lower]))


def _one_sigma(arm: _ArmQuantile) -> float:
    low = max(arm.quantile - arm.share_se, 0.0)
    high = min(arm.quantile + arm.share_se, 1.0)
    return (_interpolate(arm.ordered, high) - _interpolate(arm.ordered, low)) / 2.0


def _joined(
    value_c: float, value_t: float, bounds_c: tuple[float, float], bounds_t: tuple[float, float]
) -> tuple[float, float]:
    gap = value_t - value_c
    return (
        gap - math.hypot(value_t - bounds_t[0], bounds_c[1] - value_c),
        gap + math.hypot(bounds_t[1] - value_t, value_c - bounds_c[0]),
    )


def _p_value(control: _ArmQuantile, treatment: _ArmQuantile, start: float) -> float:
    gap = treatment.value - control.value
    if gap == 0.0:
        return 1.0

    def reach(z: float) -> float | None:
        bounds_c, bounds_t = control.bounds(z), treatment.bounds(z)
        if bounds_c is None or bounds_t is None:
            return None
        low, high = _joined(control.value, treatment.value, bounds_c, bounds_t)
        return gap - low if gap > 0 else high - gap

    inside, outside = 0.0, start
    while True:
        size = reach(outside)
        if size is None or size >= abs(gap) or outside > 1e3:
            break
        inside = outside
        outside *= 1.5
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        size = reach(middle)
        if size is not None and size < abs(gap):
            inside = middle
        else:
            outside = middle
    return two_sided_p(inside, math.inf)
