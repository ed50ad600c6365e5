"""Sums that can be added: n, means and centred products of several variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

ROUNDING = 64.0 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What must be known of a group's rows so that means, variances and regressions need no rows?

    n: units. means: (k,) means. products: (k, k) sums over units of the product of deviations from the means
    (so products / (n - 1) is the sample covariance). names: the k variables. Arrays are copied and made
    read-only. Raises ValueError for shapes that do not fit, repeated names, a negative n, or a number that is
    not finite.
    """

    n: int
    means: FloatArray
    products: FloatArray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        names = tuple(self.names)
        means = np.array(self.means, dtype=np.float64, copy=True)
        products = np.array(self.products, dtype=np.float64, copy=True)
        k = len(names)
        if self.n < 0 or self.n != int(self.n):
            raise ValueError(f"n must be a whole number of units, 0 or more, got {self.n!r}")
        if len(set(names)) != k:
            raise ValueError(f"names must differ from one another, got {names!r}")
        if means.shape != (k,) or products.shape != (k, k):
            raise ValueError(
                f"means and products must have shapes ({k},) and ({k}, {k}) for {k} names, "
                f"got {means.shape} and {products.shape}"
            )
        if not (np.isfinite(means).all() and np.isfinite(products).all()):
            raise ValueError(f"means and products of {names!r} must be finite numbers")
        products = (products + products.T) / 2.0
        means.flags.writeable = False
        products.flags.writeable = False
        object.__setattr__(self, "n", int(self.n))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "products", products)

    @classmethod
    def from_array(cls, values: ArrayLike, names: Sequence[str]) -> Moments:
        """Which moments have these rows? values: (n, k), one row a unit; (n,) is one variable.

        Two passes: the mean, then the products of what is left, with the remainder of the mean taken out once
        more (Chan, Golub and LeVeque 1983, "corrected two-pass"), so that a mean of 1e8 costs no digits.
        Raises ValueError for a value that is not finite: decide about missing values before calling.
        """
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim == 1:
            rows = rows[:, None]
        k = len(names)
        if rows.ndim != 2 or rows.shape[1] != k:
            raise ValueError(f"values must have shape (n, {k}) for names {tuple(names)!r}, got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"values of {tuple(names)!r} must be finite; handle missing values first")
        n = rows.shape[0]
        if n == 0:
            return cls(0, np.zeros(k), np.zeros((k, k)), tuple(names))
        means = rows.mean(axis=0)
        deviations = rows - means
        remainder = deviations.mean(axis=0)
        products = deviations.T @ deviations - n * np.outer(remainder, remainder)
        return cls(n, means + remainder, products, tuple(names))

    def __add__(self, other: Moments) -> Moments:
        """Which moments have both groups together? Names must be the same, in any order."""
        other = self._aligned(other)
        n = self.n + other.n
        if n == 0:
            return self
        gap = other.means - self.means
        # Weighted from both sides, so that a + b and b + a round alike.
        means = (self.n * self.means + other.n * other.means) / n
        products = self.products + other.products + np.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, means, products, self.names)

    def __sub__(self, other: Moments) -> Moments:
        """Which moments remain when `other`, a part of this group, is taken out?"""
        other = self._aligned(other)
        n = self.n - other.n
        if n < 0:
            raise ValueError(f"cannot take {other.n} units out of {self.n}")
        k = len(self.names)
        if n == 0:
            return Moments(0, np.zeros(k), np.zeros((k, k)), self.names)
        if other.n == 0:
            return self
        means = self.means + (self.means - other.means) * (other.n / n)
        gap = means - other.means
        products = self.products - other.products - np.outer(gap, gap) * (n * other.n / self.n)
        if n == 1:
            products = np.zeros((k, k))
        diagonal = np.arange(k)
        products[diagonal, diagonal] = np.maximum(products[diagonal, diagonal], 0.0)
        return Moments(n, means, products, self.names)

    def select(self, names: Sequence[str]) -> Moments:
        """Which moments have only these variables, in this order?"""
        where = [self._position(name) for name in names]
        return Moments(self.n, self.means[where], self.products[np.ix_(where, where)], tuple(names))

    def mean(self, name: str) -> float:
        """What is the mean of `name`? Raises ValueError when there are no units."""
        if self.n == 0:
            raise ValueError(f"mean of {name!r} needs at least one unit, got 0")
        return float(self.means[self._position(name)])

    def covariance(self, a: str, b: str) -> float:
        """What is the sample covariance (divisor n - 1) of two variables? Needs two units."""
        if self.n < 2:
            raise ValueError(f"covariance of {a!r} and {b!r} needs at least two units, got {self.n}")
        return float(self.products[self._position(a), self._position(b)] / (self.n - 1))

    def variance(self, name: str) -> float:
        """What is the sample variance (divisor n - 1) of `name`? Exactly 0 when only rounding is left."""
        value = max(self.covariance(name, name), 0.0)
        floor = (ROUNDING * abs(self.mean(name))) ** 2
        return value if value > floor else 0.0

    def linear(self, combinations: Mapping[str, Mapping[str, float]]) -> Moments:
        """Which moments have these sums of variables? As in `{"net": {"gain": 1.0, "cost": -0.5}}`."""
        weights = np.zeros((len(combinations), len(self.names)))
        for row, terms in enumerate(combinations.values()):
            for name, weight in terms.items():
                weights[row, self._position(name)] += weight
        products = weights @ self.products @ weights.T
        return Moments(self.n, weights @ self.means, products, tuple(combinations))

    def _position(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"name must be one of {self.names!r}, got {name!r}") from None

    def _aligned(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            raise ValueError(f"only Moments go with Moments, got {type(other).__name__}")
        if other.names == self.names:
            return other
        if set(other.names) != set(self.names):
            raise ValueError(f"names must be the same variables, got {self.names!r} and {other.names!r}")
        return other.select(self.names)
