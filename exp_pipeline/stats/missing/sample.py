"""Assigned units of which some are not observed: checked once for all that may be asked of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, group_codes
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class MissingSample:
    """Which units were assigned, and what was seen of them? All (n,), one place a unit."""

    y: FloatArray  # (n,), 0 where missing
    seen: BoolArray
    arm: BoolArray
    groups: NDArray[np.int64]
    clusters_control: int
    clusters_treatment: int

    def variance(self, influence: FloatArray) -> float:
        """Of a sum of what units do (n,), by cluster; each arm's own correction for few clusters."""
        scale = np.where(
            self.arm,
            math.sqrt(self.clusters_treatment / (self.clusters_treatment - 1.0)),
            math.sqrt(self.clusters_control / (self.clusters_control - 1.0)),
        )
        sums = np.bincount(self.groups, weights=influence * scale)
        return float(sums @ sums)

    @property
    def df(self) -> float:
        return self.clusters_control + self.clusters_treatment - 2.0


def missing_sample(
    outcome: ArrayLike, observed: ArrayLike, treated: ArrayLike, cluster: ArrayLike | None
) -> MissingSample | NotEstimable:
    """Which sample is this? NotEstimable for an arm of one observed unit or cluster, or no spread.

    outcome, observed, treated, cluster: (n,). Raises ValueError for values that do not fit.
    """
    y = np.asarray(outcome, dtype=np.float64)
    if y.ndim != 1:
        raise ValueError(f"outcome must be one-dimensional, got shape {y.shape}")
    n = y.size
    seen, arm = arm_values("observed", observed, n), arm_values("treated", treated, n)
    groups = np.arange(n) if cluster is None else group_codes("cluster", cluster, n)
    y = np.where(seen, y, 0.0)
    if not np.isfinite(y).all():
        raise ValueError("outcome must be finite where it is observed")
    counts = int((~arm).sum()), int(arm.sum())
    clusters = [int(np.unique(groups[side]).size) for side in (~arm, arm)]
    for name, side, held in (("control", ~arm, clusters[0]), ("treatment", arm, clusters[1])):
        if int((seen & side).sum()) < 2 or held < 2:
            reason = f"the {name} arm has fewer than two observed units or clusters"
            return NotEstimable("bounds", reason, *counts)
    spread = sum(float(np.ptp(y[seen & side])) for side in (~arm, arm))
    if spread <= 1e-13 * float(np.abs(y).max()):
        return NotEstimable("bounds", "the observed outcomes have no spread within the arms", *counts)
    return MissingSample(y, seen, arm, groups.astype(np.int64), *clusters)
