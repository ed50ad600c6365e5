"""How alike units of one cluster are, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class IntraclassCorrelation:
    """How alike are units of one cluster? `icc` from a one-way ANOVA; it may be below zero by chance.

    mean_size and size_cv (standard deviation over mean, of the clusters themselves) feed the design effect.
    """

    icc: float
    clusters: int
    n: int
    mean_size: float
    size_cv: float
    between_mean_square: float
    within_mean_square: float


def design_effect(icc: float, mean_size: float, size_cv: float = 0.0) -> float:
    """By how much do clusters inflate the variance? 1 + ((1 + cv^2) m - 1) icc (Eldridge and others 2006).

    An icc below zero counts as zero, so that a chance estimate never shrinks a plan.
    """
    if not -1.0 <= icc <= 1.0:
        raise ValueError(f"icc must lie between -1 and 1, got {icc!r}")
    if not mean_size >= 1.0:
        raise ValueError(f"mean_size must be at least 1 unit a cluster, got {mean_size!r}")
    if not size_cv >= 0.0:
        raise ValueError(f"size_cv must be at least 0, got {size_cv!r}")
    return 1.0 + max(0.0, (1.0 + size_cv**2) * mean_size - 1.0) * max(icc, 0.0)


def intraclass_correlation(values: ArrayLike, cluster: ArrayLike) -> IntraclassCorrelation:
    """How alike are units of one cluster? One-way ANOVA estimator for unequal sizes (Donner 1986).

    values, cluster: (n,), from history, one arm or before any treatment. Raises ValueError for fewer than two
    clusters, no cluster with two units, no spread, or values that are not finite.
    """
    y = np.asarray(values, dtype=np.float64)
    labels = np.asarray(cluster)
    if y.ndim != 1 or labels.shape != y.shape:
        raise ValueError(f"values and cluster must be one-dimensional and of one length, got {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError("values must be finite; handle missing values first")
    codes = np.unique(labels, return_inverse=True)[1].reshape(y.shape)
    sizes = np.bincount(codes).astype(np.float64)
    n, clusters = y.size, sizes.size
    if clusters < 2 or n <= clusters:
        raise ValueError(
            f"cluster must give at least two clusters, one with two units, got {clusters} and {n}"
        )
    y = y - y.mean()
    means = np.bincount(codes, weights=y) / sizes
    between = float(np.sum(sizes * (means - y.mean()) ** 2)) / (clusters - 1)
    within = float(np.sum((y - means[codes]) ** 2)) / (n - clusters)
    typical = (n - float(np.sum(sizes**2)) / n) / (clusters - 1)
    total = between + (typical - 1.0) * within
    if total <= 0.0:
        raise ValueError("values must differ between units, got one value")
    return IntraclassCorrelation(
        icc=(between - within) / total,
        clusters=clusters,
        n=n,
        mean_size=n / clusters,
        size_cv=float(sizes.std(ddof=1) / sizes.mean()),
        between_mean_square=between,
        within_mean_square=within,
    )
