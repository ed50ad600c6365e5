"""Plans where whole clusters are randomised: their sizes, their number, and what no size can mend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.clusters.variance_components import VarianceComponents
from exp_pipeline.stats.power.design import Design
from exp_pipeline.stats.power.outcomes import Outcome
from exp_pipeline.stats.power.search import MOST_UNITS, bisect, round_up
from exp_pipeline.stats.power.units import Direction, PowerPlan, effect_for, power_for


@dataclass(frozen=True, slots=True)
class ClusterSizes:
    """How large are clusters? `cv` is the standard deviation of sizes over their mean."""

    clusters: int
    mean: float
    cv: float


def cluster_sizes(cluster: ArrayLike) -> ClusterSizes:
    """How large are the clusters of these units? cluster: (n,), which one each unit is in."""
    labels = np.asarray(cluster)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"cluster must be one-dimensional with at least one unit, got {labels.shape}")
    sizes = np.unique(labels, return_counts=True)[1].astype(np.float64)
    cv = float(sizes.std(ddof=1) / sizes.mean()) if sizes.size > 1 else 0.0
    return ClusterSizes(sizes.size, float(sizes.mean()), cv)


def with_history(
    design: Design, sizes: ClusterSizes, plain: VarianceComponents, adjusted: VarianceComponents | None = None
) -> Design:
    """The design with clusters as history has them; with `adjusted`, for an analysis with those covariates.

    What covariates take off between clusters counts more than what they take off within: so the adjusted
    design takes both the share that they explain and the icc of what is left. An icc below zero counts as 0.
    """
    found = plain if adjusted is None else adjusted
    reduction = 0.0 if adjusted is None else min(max(adjusted.explained, 0.0), 1.0 - 1e-9)
    return replace(
        design,
        cluster_size=sizes.mean,
        cluster_size_cv=sizes.cv,
        icc=min(max(found.icc, 0.0), 1.0),
        variance_reduction=reduction,
    )


def size_for_clusters(
    outcome: Outcome, design: Design, *, effect: float, clusters_control: int, clusters_treatment: int
) -> PowerPlan:
    """How many units must each cluster have, when there are only so many clusters?

    Raises ValueError where no size would do: beyond some, more units of the same clusters tell nothing new.
    """
    if min(clusters_control, clusters_treatment) < 2:
        raise ValueError(
            f"clusters_control and clusters_treatment must be at least 2, "
            f"got {clusters_control} and {clusters_treatment}"
        )

    def plan(size: float) -> PowerPlan:
        sized = replace(design, cluster_size=size)
        return power_for(
            outcome,
            sized,
            effect=effect,
            n_control=clusters_control * size,
            n_treatment=clusters_treatment * size,
        )

    def reached(size: float) -> float:
        return plan(size).power - design.power

    if reached(1.0) >= 0.0:
        return plan(1.0)
    high = 2.0
    while reached(high) < 0.0:
        high *= 2.0
        if high > MOST_UNITS:
            raise ValueError(
                f"clusters are too few: {clusters_control} and {clusters_treatment} of any size do not reach "
                f"the power that was asked for"
            )
    return plan(float(round_up(bisect(reached, high / 2.0, high))))


def effect_of_endless_clusters(
    outcome: Outcome,
    design: Design,
    *,
    clusters_control: int,
    clusters_treatment: int,
    direction: Direction = "increase",
) -> float:
    """What is the smallest effect that so many clusters find, however many units each has?

    With an icc above zero it stays above zero: only more clusters, not more units, bring it down.
    """
    if design.icc <= 0.0:
        raise ValueError(f"icc must be above 0, or every effect is found in the end; got {design.icc!r}")
    size = 1e9
    endless = replace(design, cluster_size=size)
    found = effect_for(
        outcome,
        endless,
        n_control=math.ceil(clusters_control * size),
        n_treatment=math.ceil(clusters_treatment * size),
        direction=direction,
    )
    return found.effect
