"""Rows of groups or panels, checked, and the effect that a regression on them gives."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import Method, finite_values, group_codes, method_for
from exp_pipeline.stats.clusters.effects import SHAKY_DF
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.quasi.regression import ClusteredFit, degrees, influence
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DESIGN = "difference-in-differences"
PARALLEL = (
    "without treatment, both groups would have changed alike (parallel trends)",
    "nobody changed because treatment was coming (no anticipation)",
    "who is in which group did not change because of treatment",
    "treating one group left the other alone (no interference)",
)
# Residuals of less than this share of the outcome's squares are rounding.
_ROUNDING = 1e-20


def whole_periods(period: ArrayLike, n: int) -> IntArray:
    """Which periods, as whole numbers, have n rows? Raises ValueError for anything else."""
    times = finite_values("period", period)
    if times.shape != (n,) or not np.array_equal(times, np.rint(times)):
        raise ValueError(
            f"period must hold {n} whole numbers, such as days or weeks, got shape {times.shape}"
        )
    return times.astype(np.int64)


def adoption_of(adopted: ArrayLike, unit: ArrayLike, n: int) -> FloatArray:
    """From which period is the unit of each of n rows treated (infinity: never)?

    Raises ValueError for another shape, values that are not whole, or two dates for one unit.
    """
    start = np.asarray(adopted, dtype=np.float64)
    if start.shape != (n,) or np.isnan(start).any():
        raise ValueError(f"adopted must hold {n} periods, infinity for never, got shape {start.shape}")
    finite = start[np.isfinite(start)]
    if not np.array_equal(finite, np.rint(finite)) or np.isneginf(start).any():
        raise ValueError("adopted must hold whole numbers, or infinity for never")
    units = group_codes("unit", unit, n)
    first = np.full(int(units.max()) + 1 if n else 0, np.nan)
    first[units] = start
    if not np.array_equal(first[units], start):
        where = np.asarray(unit)[np.flatnonzero(first[units] != start)[0]]
        raise ValueError(f"adopted must be one period for each unit; unit {where} has several")
    return start


def checked_rows(
    outcome: ArrayLike, cluster: ArrayLike | None, unit: ArrayLike | None, level: float, method: str
) -> tuple[FloatArray, IntArray]:
    """Which outcome, and which independent groups, have the rows? Raises ValueError for misuse."""
    require_level(level)
    if method not in ("auto", "cr1", "cr2"):
        raise ValueError(f"method must be 'auto', 'cr1' or 'cr2', got {method!r}")
    y = finite_values("outcome", outcome)
    n = y.size
    if n == 0:
        raise ValueError("outcome must have at least one row")
    if cluster is not None:
        return y, group_codes("cluster", cluster, n)
    return y, np.arange(n) if unit is None else group_codes("unit", unit, n)


def kept_rows(
    units: IntArray, times: IntArray, groups: IntArray
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which rows of units seen more than once remain, and what is said of the others?"""
    pairs = units * (int(times.max()) + 1) + times
    if np.unique(pairs).size < pairs.size:
        raise ValueError("unit and period must name each row once; sum up rows that share both")
    home = np.zeros(int(units.max()) + 1, dtype=np.int64)
    home[units] = groups
    if not np.array_equal(home[units], groups):
        raise ValueError("cluster must be the same in all rows of a unit")
    once = np.bincount(units)[units] == 1
    if once.all():
        return ~once, ()
    flag = f"{int(once.sum())} units seen in one period only are left out"
    return ~once, (flag,) if once.any() else ()


def renumbered(codes: IntArray) -> IntArray:
    """Which numbers from 0 without gaps stand for these?"""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64).reshape(codes.shape)


def adopts_in_turns(units: IntArray, times: IntArray, arm: NDArray[np.bool_]) -> bool:
    """Did units start at different times? Those seen with gaps count only where no one date fits them all."""
    first = np.full(int(units.max()) + 1, int(times.max()) + 1)
    np.minimum.at(first, units[arm], times[arm])
    changed = first <= times.max()
    before = times < first[units]
    last = np.full(first.size, -1)
    np.maximum.at(last, units[before], times[before])
    changed &= last >= 0
    return bool(changed.any() and last[changed].max() >= first[changed].min())


def stops(units: IntArray, times: IntArray, arm: NDArray[np.bool_]) -> bool:
    """Is some unit untreated after it was treated?"""
    order = np.lexsort((times, units))
    same = np.diff(units[order]) == 0
    return bool((np.diff(arm[order].astype(int))[same] < 0).any())


def without_rounding(columns: FloatArray, raw: NDArray[np.generic]) -> FloatArray:
    """Columns that demeaning leaves nothing of become exactly zero, not rounding to be scaled up."""
    size = np.sqrt(np.mean(columns**2, axis=0))
    floor = 1e-12 * np.sqrt(np.mean(np.asarray(raw, dtype=np.float64) ** 2, axis=0))
    return np.where(size <= floor, 0.0, columns)


def chosen_method(
    method: Literal["auto", "cr1", "cr2"], control: int, treatment: int, groups: IntArray
) -> Method:
    """Which variance suits so many clusters, unless it was named?"""
    return method_for(control, treatment, int(groups.max()) + 1) if method == "auto" else method


def one_cluster(name: str, control: int, treatment: int, counts: tuple[int, int]) -> NotEstimable | None:
    """Why is there no effect, where a group is one cluster or none? None where both have two."""
    for side, clusters in (("control", control), ("treated", treatment)):
        if clusters < 2:
            what = "has no rows" if clusters == 0 else "is one cluster"
            reason = f"the {side} group {what}: an effect cannot be told from the group's own change"
            return NotEstimable(name, reason, *counts)
    return None


def dropped_covariates(fit: ClusteredFit | None, first: int, count: int) -> tuple[str, ...]:
    """What is said of covariates, at columns from `first` on, that were not kept?"""
    kept = () if fit is None else fit.kept
    return tuple(
        f"covariate number {j + 1} dropped: it does not vary or repeats the others"
        for j in range(count)
        if first + j not in kept
    )


def nothing_left(fit: ClusteredFit, values: FloatArray, whole: FloatArray) -> bool:
    """Is what the design leaves of the outcome only rounding?"""
    # Against the outcome itself, as taking means out may have left rounding only.
    return float(fit.residuals @ fit.residuals) <= _ROUNDING * max(
        float(whole @ whole), float(values @ values)
    )


def difference_effect(
    fit: ClusteredFit | None,
    place: int | None,
    whole: FloatArray,
    method: str,
    counts: tuple[int, int],
    clusters: tuple[int, int],
    assumptions: tuple[str, ...],
    flags: tuple[str, ...],
    level: float,
    contrast: FloatArray | None = None,
) -> QuasiEffect | NotEstimable:
    """Which effect is the coefficient at `place`, or this `contrast` of those kept?"""
    name = f"{DESIGN}-{method}"
    if fit is None or (place is not None and place not in fit.kept):
        return NotEstimable(name, "units, periods or covariates determine treatment", *counts)
    if nothing_left(fit, whole, whole):
        return NotEstimable(name, "the outcome has no spread that the design leaves", *counts)
    pick = np.zeros((1, len(fit.kept)))
    if place is not None:
        pick[0, fit.kept.index(place)] = 1.0
    else:
        pick[0] = contrast
    move = influence(fit, pick)[:, 0]
    se, df = math.sqrt(float(move @ move)), float(degrees(fit, pick)[0])
    if not (se > 0.0 and df > 0.0):
        return NotEstimable(name, "too few clusters for a variance", *counts)
    if df < SHAKY_DF:
        flags += (f"only {df:.1f} degrees of freedom: p-value and interval are rough",)
    absolute = float(pick[0] @ fit.coefficients)
    reach = two_sided_critical(level, df) * se
    return QuasiEffect(
        design=DESIGN,
        method=method,
        n_control=counts[0],
        n_treatment=counts[1],
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(absolute / se, df),
        level=level,
        assumptions=assumptions,
        flags=flags,
        clusters_control=clusters[0],
        clusters_treatment=clusters[1],
    )
