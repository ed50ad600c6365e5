"""The effect at each distance from adoption, and whether the groups parted before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import covariate_rows, group_codes
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED, Point, QuasiEffect, WaldTest, hotelling, point
from exp_pipeline.stats.quasi.panel import (
    DESIGN,
    PARALLEL,
    adoption_of,
    checked_rows,
    chosen_method,
    difference_effect,
    kept_rows,
    nothing_left,
    one_cluster,
    renumbered,
    whole_periods,
    without_rounding,
)
from exp_pipeline.stats.quasi.regression import clustered_fit, degrees, demeaned, influence, joint_degrees
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EventStudy:
    """What was the effect at each distance from adoption, and was there a trend before?

    `points` are against the last period before adoption (`reference`), those before it with a distance
    below `reference`. covariance: (K, K) of the points. `average` is the mean effect over all periods from
    adoption on. `pretrend` tests whether all points before are zero; None, with a flag, where it cannot be.
    """

    design: str
    points: tuple[Point, ...]
    covariance: FloatArray
    reference: int
    average: QuasiEffect
    pretrend: WaldTest | None
    assumptions: tuple[str, ...]
    flags: tuple[str, ...] = ()
    label: str = NOT_RANDOMISED


def event_study(
    outcome: ArrayLike,
    unit: ArrayLike,
    period: ArrayLike,
    adopted: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    method: Literal["auto", "cr1", "cr2"] = "auto",
    level: float = 0.95,
) -> EventStudy | NotEstimable:
    """What was the effect in each period since adoption, and did the groups part before it?

    outcome, unit: (n,), period (whole numbers): (n,), adopted: (n,), the period from which the unit of this
    row is treated, infinity for never. All who adopt do so in one period; with several dates the
    coefficients mix each other up (Sun and Abraham 2021) and `staggered.staggered_effects` answers. cluster,
    covariates, method as in `panel_difference`.

    NotEstimable for several dates, no period before, nobody untreated, one cluster on a side, or no spread.
    Raises ValueError for shapes or values that do not fit.
    """
    y, groups = checked_rows(outcome, cluster, unit, level, method)
    n = y.size
    extra = covariate_rows(covariates, n)
    when, start = whole_periods(period, n), adoption_of(adopted, unit, n)
    units = group_codes("unit", unit, n)
    keep, flags = kept_rows(units, group_codes("period", when, n), groups)
    y, extra, when, start = y[keep], extra[keep], when[keep], start[keep]
    units, groups = renumbered(units[keep]), renumbered(groups[keep])
    start = np.where(start > when.max(initial=0), np.inf, start)
    ever = np.isfinite(start)
    name = f"{DESIGN}-event-study"
    counts = int(y.size - ever.sum()), int(ever.sum())
    dates = np.unique(start[ever])
    if dates.size != 1:
        reason = "nobody adopts" if dates.size == 0 else "adoption has several dates: use staggered_effects"
        return NotEstimable(name, reason, *counts)
    in_control, in_treatment = np.unique(groups[~ever]).size, np.unique(groups[ever]).size
    few = one_cluster(name, in_control, in_treatment, counts)
    if few is not None:
        return few
    relative = (when - int(dates[0])).astype(np.int64)
    distances = np.unique(relative)
    if not (distances < 0).any():
        return NotEstimable(name, "there is no period before adoption", *counts)
    reference = int(distances[distances < 0].max())
    # A distance that one group only was seen at has no comparison.
    shown = [int(e) for e in distances if e != reference and {*ever[relative == e]} == {True, False}]
    if {*ever[relative == reference]} != {True, False}:
        return NotEstimable(name, f"one group has no rows at the reference period {reference}", *counts)
    if len(shown) + 1 < distances.size:
        flags += ("periods in which one group has no rows have no point",)
    if not any(e >= 0 for e in shown):
        return NotEstimable(name, "no period after adoption has rows of both groups", *counts)
    chosen = chosen_method(method, in_control, in_treatment, groups)
    wide = (relative[:, None] == distances[distances != reference]).astype(np.float64)
    dose = (relative[:, None] == np.array(shown)) & ever[:, None]
    raw = np.column_stack([wide, extra, dose])
    columns = without_rounding(demeaned(raw, units), raw)
    values = demeaned(y, units)
    fit = clustered_fit(columns, values, groups, chosen, absorbed=1)
    places = [columns.shape[1] - len(shown) + j for j in range(len(shown))]
    if fit is None or not set(places) <= set(fit.kept):
        return NotEstimable(name, "units, periods and covariates determine treatment", *counts)
    if nothing_left(fit, values, y - y.mean()):
        return NotEstimable(name, "the outcome has no spread that units and periods leave", *counts)
    picks = np.zeros((len(shown), len(fit.kept)))
    picks[np.arange(len(shown)), [fit.kept.index(place) for place in places]] = 1.0
    moves = influence(fit, picks)
    covariance = moves.T @ moves
    estimates = picks @ fit.coefficients
    spread, df = np.sqrt(np.diag(covariance)), degrees(fit, picks)
    points = tuple(
        point(e, float(estimates[j]), float(spread[j]), float(df[j]), level) for j, e in enumerate(shown)
    )
    post = np.array([e >= 0 for e in shown])
    average = difference_effect(
        fit,
        None,
        y - y.mean(),
        f"event-study-{chosen}",
        counts,
        (in_control, in_treatment),
        PARALLEL,
        flags,
        level,
        contrast=(post / post.sum()) @ picks,
    )
    if isinstance(average, NotEstimable):
        return average
    pretrend = None
    if not post.all():
        before = picks[~post]
        pretrend = hotelling(estimates[~post], covariance[np.ix_(~post, ~post)], joint_degrees(fit, before))
        if pretrend is None:
            flags += ("too few clusters to test all points before adoption at once",)
    else:
        flags += ("one period before adoption: whether trends were parallel cannot be seen",)
    return EventStudy(DESIGN, points, covariance, reference, average, pretrend, PARALLEL, flags)
