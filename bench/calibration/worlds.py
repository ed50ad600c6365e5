"""Where outcomes come from: shapes with known mean and skewness, arms of any size, classes of any make-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.calibration.cases import Array, Random
from exp_pipeline.stats.moments_table import MomentsTable

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """A distribution of outcomes: normal, exponential or lognormal, with a share of zeros mixed in.

    sigma: the sd of the log, for lognormal. Normal outcomes have mean 0 and sd 1, exponential ones mean 1.
    """

    kind: str
    zeros: float = 0.0
    sigma: float = 1.0

    @property
    def name(self) -> str:
        """The shape in words."""
        base = f"lognormal ({self.sigma:g})" if self.kind == "lognormal" else self.kind
        return f"{self.zeros:.0%} zeros, else {base}" if self.zeros else base

    def _moment(self, order: int) -> float:
        if self.kind == "normal":
            whole = {1: 0.0, 2: 1.0, 3: 0.0}[order]
        elif self.kind == "exponential":
            whole = float(math.factorial(order))
        else:
            whole = math.exp(order**2 * self.sigma**2 / 2.0)
        return (1.0 - self.zeros) * whole

    @property
    def mean(self) -> float:
        """The true mean."""
        return self._moment(1)

    @property
    def variance(self) -> float:
        """The true variance."""
        return self._moment(2) - self.mean**2

    @property
    def skewness(self) -> float:
        """The true skewness."""
        m = self.mean
        third = self._moment(3) - 3.0 * m * self._moment(2) + 2.0 * m**3
        return float(third / self.variance**1.5)

    def draw(self, random: Random, size: tuple[int, ...]) -> Array:
        """So many outcomes, in this shape."""
        if self.kind == "normal":
            values = random.standard_normal(size)
        elif self.kind == "exponential":
            values = random.exponential(size=size)
        else:
            values = np.exp(self.sigma * random.standard_normal(size))
        if self.zeros:
            values *= random.random(size) >= self.zeros
        return values

    def lopsidedness(self, n_control: int, n_treatment: int) -> float:
        """The skewness of a difference of two means of such outcomes."""
        tilt = 1.0 / n_treatment**2 - 1.0 / n_control**2
        return float(self.skewness * tilt / (1.0 / n_treatment + 1.0 / n_control) ** 1.5)


NORMAL = Shape("normal")
EXPONENTIAL = Shape("exponential")
LOGNORMAL = Shape("lognormal")
ZEROS = Shape("exponential", zeros=0.8)
HEAVY = Shape("lognormal", sigma=1.5)


def table_of(values: Array, names: tuple[str, ...]) -> MomentsTable:
    """The moments of each run. values: (runs, n, k) or, for one variable, (runs, n)."""
    rows = values[:, :, None] if values.ndim == 2 else values
    runs, n, _ = rows.shape
    means = rows.mean(axis=1)
    away = rows - means[:, None, :]
    products = np.swapaxes(away, 1, 2) @ away
    return MomentsTable.of_sums(np.full(runs, n, dtype=np.int64), means, products, names)


def sizes_of(random: Random, classes: int, mean: float, cv: float, least: int = 2) -> Ints:
    """How many units has each class? Gamma-distributed around the mean, or all alike."""
    if cv == 0.0:
        return np.full(classes, round(mean), dtype=np.int64)
    drawn = random.gamma(1.0 / cv**2, mean * cv**2, classes)
    return np.maximum(np.rint(drawn), least).astype(np.int64)


def in_classes(random: Random, cluster: Ints, icc: float) -> Array:
    """Outcomes of variance 1 that are alike within classes. cluster: (n,) from 0."""
    common = math.sqrt(icc) * random.standard_normal(int(cluster.max()) + 1)
    return np.asarray(
        common[cluster] + math.sqrt(1.0 - icc) * random.standard_normal(cluster.size), dtype=np.float64
    )
