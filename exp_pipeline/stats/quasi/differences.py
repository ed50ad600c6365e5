"""Difference-in-differences: those who got it against those who did not, before against after."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows, group_codes
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.quasi.panel import (
    DESIGN,
    PARALLEL,
    adopts_in_turns,
    checked_rows,
    chosen_method,
    difference_effect,
    dropped_covariates,
    kept_rows,
    one_cluster,
    renumbered,
    stops,
    without_rounding,
)
from exp_pipeline.stats.quasi.regression import clustered_fit, demeaned
from exp_pipeline.stats.results import NotEstimable

IntArray = NDArray[np.int64]

SAME_EFFECT = "the effect is the same for early and late adopters and does not grow with time"


def two_period_difference(
    outcome: ArrayLike,
    treated: ArrayLike,
    after: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    method: Literal["auto", "cr1", "cr2"] = "auto",
    level: float = 0.95,
) -> QuasiEffect | NotEstimable:
    """By how much more did the treated group change than the other?

    outcome, treated (bool: the group), after (bool): (n,), one row an observation, of the same units twice
    or of others. cluster: (n,), what is independent; without it each row is, which is wrong for units seen
    twice. covariates: (n, k), which treatment does not change. Least squares of the outcome on group, time,
    both and covariates; variances as in `clusters.clustered_difference`.

    NotEstimable for an empty cell, a group in one cluster, or no spread. Raises ValueError for shapes or
    values that do not fit.
    """
    y, groups = checked_rows(outcome, cluster, None, level, method)
    n = y.size
    arm, later = arm_values("treated", treated, n), arm_values("after", after, n)
    extra = covariate_rows(covariates, n)
    counts = int(n - arm.sum()), int(arm.sum())
    for name, side in (("control", ~arm), ("treated", arm)):
        for when, half in (("before", ~later), ("after", later)):
            if not (side & half).any():
                return NotEstimable(f"{DESIGN}-2x2", f"no rows of the {name} group {when} treatment", *counts)
    in_control, in_treatment = np.unique(groups[~arm]).size, np.unique(groups[arm]).size
    few = one_cluster(f"{DESIGN}-2x2", in_control, in_treatment, counts)
    if few is not None:
        return few
    chosen = chosen_method(method, in_control, in_treatment, groups)
    centred = extra - extra.mean(axis=0)
    both = (arm & later)[:, None].astype(np.float64)
    columns = np.column_stack([np.ones(n), arm, later, centred, both])
    shift = float(y.mean())
    fit = clustered_fit(columns, y - shift, groups, chosen)
    flags = _repeats(groups, arm, later, cluster)
    return difference_effect(
        fit,
        columns.shape[1] - 1,
        y - shift,
        f"2x2-{chosen}",
        counts,
        (in_control, in_treatment),
        PARALLEL,
        flags + dropped_covariates(fit, 3, extra.shape[1]),
        level,
    )


def panel_difference(
    outcome: ArrayLike,
    unit: ArrayLike,
    period: ArrayLike,
    treated: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    method: Literal["auto", "cr1", "cr2"] = "auto",
    level: float = 0.95,
) -> QuasiEffect | NotEstimable:
    """What did treatment change, with a constant for each unit and each period (two-way fixed effects)?

    outcome, unit, period, treated (bool: treated in this period): (n,), one row a unit and period; periods
    may be missing. cluster: (n,), by default the unit; a unit must lie in one cluster. covariates: (n, k),
    which treatment does not change. Units are taken out by their means, periods enter as columns, so an
    unbalanced panel is exact. Units seen once say nothing and are left out, with a flag.

    NotEstimable where treatment never changes within units, in one cluster only, or leaves no spread.
    Raises ValueError for shapes that do not fit, two rows of a unit and period, or a unit in two clusters.
    """
    y, groups = checked_rows(outcome, cluster, unit, level, method)
    n = y.size
    arm = arm_values("treated", treated, n)
    extra = covariate_rows(covariates, n)
    units, times = group_codes("unit", unit, n), group_codes("period", period, n)
    keep, flags = kept_rows(units, times, groups)
    if not keep.any():
        counts = int(n - arm.sum()), int(arm.sum())
        return NotEstimable(f"{DESIGN}-panel", "every unit is seen in one period only", *counts)
    y, arm, extra, times = y[keep], arm[keep], extra[keep], times[keep]
    units, groups = renumbered(units[keep]), renumbered(groups[keep])
    counts = int(arm.size - arm.sum()), int(arm.sum())
    name = f"{DESIGN}-panel"
    dose = demeaned(arm.astype(np.float64), units)
    moved = np.unique(groups[np.abs(dose) > 1e-9])
    others = int(np.unique(groups).size - moved.size)
    if moved.size == 0:
        return NotEstimable(name, "treatment never changes within a unit", *counts)
    if moved.size == 1:
        reason = "one cluster changes treatment: its effect cannot be told from the cluster's own"
        return NotEstimable(name, reason, *counts)
    if others == 0:
        flags += ("every unit was treated at some time: the comparison is of early with late ones",)
    elif others == 1:
        flags += ("one cluster was never treated: its own changes count as everybody's",)
    assumptions: tuple[str, ...] = PARALLEL
    if adopts_in_turns(units, times, arm):
        assumptions = (*PARALLEL, SAME_EFFECT)
        flags += ("units adopted at different times: see staggered.staggered_effects",)
    if stops(units, times, arm):
        flags += ("some units stopped being treated: the effect is taken to end at once",)
    chosen = chosen_method(method, max(others, 1), moved.size, groups)
    wide = (times[:, None] == np.arange(1, int(times.max()) + 1)).astype(np.float64)
    columns = np.column_stack([demeaned(np.column_stack([wide, extra]), units), dose])
    columns = without_rounding(columns, np.column_stack([wide, extra, arm]))
    values = demeaned(y, units)
    fit = clustered_fit(columns, values, groups, chosen, absorbed=1)
    return difference_effect(
        fit,
        columns.shape[1] - 1,
        y - y.mean(),
        f"panel-{chosen}",
        counts,
        (others, int(moved.size)),
        assumptions,
        flags + dropped_covariates(fit, wide.shape[1], extra.shape[1]),
        level,
    )


def _repeats(
    groups: IntArray, arm: NDArray[np.bool_], later: NDArray[np.bool_], cluster: ArrayLike | None
) -> tuple[str, ...]:
    if cluster is None:
        return ("each row is taken as independent: name the cluster where units are seen twice",)
    spread = np.unique(groups[arm]).size + np.unique(groups[~arm]).size > np.unique(groups).size
    return ("some clusters have rows of both groups",) if spread else ()
