"""Sums of products of three variables, for the skewness of anything that is linear in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.moments import Moments

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cubes:
    """What must be known of a group's rows so that third moments of sums of variables need no rows?

    moments: of the k variables. triples: (k, k, k) sums over units of the product of three deviations from
    the means, the same in any order of its indices: k (k + 1) (k + 2) / 6 different numbers (4 of two
    variables). They add like `Moments`. Raises ValueError for a shape that does not fit or
    numbers that are not finite.
    """

    moments: Moments
    triples: FloatArray

    def __post_init__(self) -> None:
        triples = np.array(self.triples, dtype=np.float64, copy=True)
        k = len(self.moments.names)
        if triples.shape != (k, k, k) or not np.isfinite(triples).all():
            raise ValueError(f"triples must be finite, of shape ({k}, {k}, {k}), got {triples.shape}")
        triples.flags.writeable = False
        object.__setattr__(self, "triples", triples)

    @classmethod
    def from_array(cls, values: ArrayLike, names: Sequence[str]) -> Cubes:
        """Which sums have these rows? values: (n, k), one row a unit; errors as `Moments.from_array`."""
        moments = Moments.from_array(values, names)
        rows = np.asarray(values, dtype=np.float64).reshape(moments.n, len(names))
        away = rows - moments.means
        return cls(moments, np.einsum("ni,nj,nk->ijk", away, away, away, optimize=True))

    def __add__(self, other: Cubes) -> Cubes:
        """Which sums have both groups together? (Pébay 2008, for several variables)"""
        names = self.moments.names
        if other.moments.names != names:
            other = other.linear({name: {name: 1.0} for name in names})
        both = self.moments + other.moments
        return Cubes(both, self._about(both.means) + other._about(both.means))

    def _about(self, point: FloatArray) -> FloatArray:
        """Triples of deviations from another point than the means."""
        gap, products = self.moments.means - point, self.moments.products
        if self.moments.n == 0:
            return self.triples
        return np.asarray(
            self.triples
            + np.einsum("i,jk->ijk", gap, products)
            + np.einsum("j,ik->ijk", gap, products)
            + np.einsum("k,ij->ijk", gap, products)
            + self.moments.n * np.einsum("i,j,k->ijk", gap, gap, gap)
        )

    def linear(self, combinations: Mapping[str, Mapping[str, float]]) -> Cubes:
        """Which sums have these sums of variables? As `Moments.linear`."""
        names = self.moments.names
        weights = np.array([[terms.get(name, 0.0) for name in names] for terms in combinations.values()])
        # Unknown names are refused there.
        moments = self.moments.linear(combinations)
        triples = np.einsum("ijk,ai,bj,ck->abc", self.triples, weights, weights, weights, optimize=True)
        return Cubes(moments, triples)

    def third(self, weights: Mapping[str, float]) -> float:
        """What is the unbiased third central moment of this sum of variables? Needs three units."""
        n = self.moments.n
        whole = self.linear({"sum": weights})
        return float(whole.triples[0, 0, 0]) * n / ((n - 1) * (n - 2))
