"""An effect from sums over units or clusters, as days add them up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.estimators import TwoSums, ratios_within_strata, within_strata
from exp_pipeline.analysis.effects.methods import Answer
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.skew import ThirdMoments
from exp_pipeline.stats.moments_table import MomentsTable

FloatArray = NDArray[np.float64]

# Of units (or clusters): their number, sums of num and den, of their squares and product, of num cubed.
SUMS = ("n", "num", "den", "num_num", "den_den", "num_den", "num_num_num")


def effect_of_sums(
    metric: Metric, control: FloatArray, treatment: FloatArray, *, clustered: bool, level: float
) -> Answer:
    """By how much do two arms differ, by their sums? control, treatment: (strata, 7), columns as SUMS.

    Sums of clusters are compared as ratios (delta method); then den holds units where the metric has no
    denominator. Several strata enter as fixed effects, for units only: clusters must come in one. In the unit
    of the sums, without the metric's `per`. Raises ValueError for clusters in several strata.
    """
    kind = metric.estimand
    if control.shape[0] > 1:
        if clustered:
            raise ValueError(f"sums of clusters must come in one stratum, got {control.shape[0]}")
        names = ("num", "den") if kind == "ratio" else ("num",)
        two = TwoSums(_table(control, names), _table(treatment, names), (), level)
        return ratios_within_strata(two) if kind == "ratio" else within_strata(two)
    sides = control[0], treatment[0]
    if kind == "proportion" and not clustered:
        counts = [round(float(side[place])) for side in sides for place in (1, 0)]
        return difference_in_proportions(*counts, level=level)
    moments = [_table(side[None, :], ("num", "den")).group(0) for side in sides]
    if kind == "mean" and not clustered:
        shapes = [ThirdMoments.from_sums(round(side[0]), 0.0, *map(float, side[[1, 3, 6]])) for side in sides]
        return difference_in_means(
            *moments, outcome="num", control_shape=shapes[0], treatment_shape=shapes[1], level=level
        )
    return difference_in_ratios(*moments, numerator="num", denominator="den", level=level)


def _table(sums: FloatArray, names: tuple[str, ...]) -> MomentsTable:
    """Moments by stratum of num (and den): rows (strata, 7)."""
    n = np.round(sums[:, 0]).astype(np.int64)
    size = np.maximum(n, 1).astype(np.float64)
    means = np.where(n[:, None] > 0, sums[:, 1:3] / size[:, None], 0.0)
    raw = np.stack([sums[:, [3, 5]], sums[:, [5, 4]]], axis=1)
    products = np.where(
        n[:, None, None] > 0, raw - size[:, None, None] * means[:, :, None] * means[:, None, :], 0.0
    )
    diagonal = np.arange(2)
    products[:, diagonal, diagonal] = np.maximum(products[:, diagonal, diagonal], 0.0)
    k = len(names)
    return MomentsTable.of_sums(n, means[:, :k], products[:, :k, :k], names)
