"""Local polynomials on one side of a cutoff, and the bandwidth that serves the jump best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NEIGHBOURS = 3
# Silverman's constant for a triangular kernel (Calonico, Cattaneo and Farrell 2020, section 4.1).
_PILOT = 2.576
# Two distances this close, relatively, are the same distance.
_SAME = math.sqrt(np.finfo(np.float64).eps)
# Where more than this share of values repeat, a bandwidth must hold ten different ones.
_MANY_REPEATS = 0.2
_FEWEST_VALUES = 10


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of the cutoff: distances from it (n,), rising, and m outcomes (n, m)."""

    at: FloatArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Bandwidths:
    """How far from the cutoff do rows count, for the jump (`main`) and for its bias (`bias`)?"""

    main: float
    bias: float


@dataclass(frozen=True, slots=True)
class _Pieces:
    variance: float
    bias: float
    regularisation: float


def triangular(at: FloatArray, h: float) -> FloatArray:
    """With what weight do distances count within `h`?"""
    u = np.abs(at) / h
    return np.where(u <= 1.0, (1.0 - u) / h, 0.0)


def powers(at: FloatArray, order: int) -> FloatArray:
    """1, x, ..., x^order, (n, order + 1)."""
    return np.vander(at, order + 1, increasing=True)


def gram_inverse(at: FloatArray, weights: FloatArray, order: int) -> FloatArray | None:
    """The inverse of R'WR for a polynomial of this order; None where too few values are there."""
    inside = weights > 0.0
    if np.unique(at[inside]).size < order + 1:
        return None
    # In units of the farthest distance, so that powers are of one size.
    scale = float(np.max(np.abs(at[inside])))
    r = powers(at[inside] / scale, order)
    upper = np.linalg.qr(r * np.sqrt(weights[inside])[:, None], mode="r")
    if np.min(np.abs(np.diag(upper))) <= 1e-13 * np.max(np.abs(np.diag(upper))):
        return None
    root = np.linalg.inv(upper) / scale ** np.arange(order + 1)[:, None]
    return np.asarray(root @ root.T, dtype=np.float64)


def neighbour_residuals(at: FloatArray, values: FloatArray) -> FloatArray:
    """How far is each row, (n, m), from the mean of its three nearest (ties alike), in units of one error?

    sqrt(J / (J + 1)) (y - mean of J neighbours), Abadie and Imbens (2006). at: (n,) rising.
    """
    n = at.size
    starts = np.searchsorted(at, at, side="left")
    ends = np.searchsorted(at, at, side="right")
    low, high = starts.copy(), ends.copy()
    wanted = min(NEIGHBOURS, n - 1)
    while True:
        open_ = np.flatnonzero(high - low - 1 < wanted)
        if open_.size == 0:
            break
        below, above = low[open_] > 0, high[open_] < n
        left = np.where(below, at[open_] - at[np.maximum(low[open_] - 1, 0)], np.inf)
        right = np.where(above, at[np.minimum(high[open_], n - 1)] - at[open_], np.inf)
        both = below & above
        close = np.zeros(open_.size, dtype=np.bool_)
        close[both] = np.abs(left[both] - right[both]) <= np.maximum(left[both], right[both]) * _SAME
        go_left, go_right = close | (left < right), close | (right < left)
        rows = open_[go_left]
        low[rows] = starts[low[rows] - 1]
        rows = open_[go_right]
        high[rows] = ends[high[rows]]
    count = (high - low - 1).astype(np.float64)
    centred = values - values.mean(axis=0)
    total = np.vstack([np.zeros(values.shape[1]), np.cumsum(centred, axis=0)])
    others = (total[high] - total[low] - centred) / count[:, None]
    return np.asarray(np.sqrt(count / (count + 1.0))[:, None] * (centred - others), dtype=np.float64)


def best_bandwidths(sides: tuple[Side, Side]) -> tuple[Bandwidths, bool] | None:
    """Which bandwidths make the squared error of the jump smallest, and do many values repeat?

    The direct plug-in rule with regularisation of Calonico, Cattaneo and Titiunik (2014) as revised in
    Calonico, Cattaneo and Farrell (2020): one bandwidth for both sides, local linear with a quadratic bias,
    triangular kernel, nearest-neighbour variances, of the first outcome. None where a pilot fit has too few
    values.
    """
    at = np.concatenate([side.at for side in sides])
    deviation = float(at.std(ddof=1))
    if not deviation > 0.0:
        return None
    sides = (Side(sides[0].at / deviation, sides[0].values), Side(sides[1].at / deviation, sides[1].values))
    spread = min(1.0, _quartile_gap(at) / deviation / 1.349)
    different = [np.unique(np.abs(side.at)) for side in sides]
    pilot = _PILOT * spread * float(sum(one.size for one in different)) ** -0.2
    ranges = [float(np.max(np.abs(side.at))) for side in sides]
    most = max(ranges)
    least = 0.0
    repeated = any(
        1.0 - one.size / side.at.size >= _MANY_REPEATS for one, side in zip(different, sides, strict=True)
    )
    if repeated:
        least = max(float(one[min(_FEWEST_VALUES, one.size) - 1]) for one in different) * (1.0 + _SAME)

    pilot = max(min(pilot, most), least)
    if not pilot > 0.0:
        return None

    def chosen(
        order: int, derivative: int, bias_order: int, bias_h: list[float], scale: float
    ) -> float | None:
        parts = [
            _pieces(side, order, derivative, bias_order, pilot, h, scale)
            for side, h in zip(sides, bias_h, strict=True)
        ]
        left, right = parts
        if left is None or right is None:
            return None
        # Derivatives of odd order see the left side mirrored only through their signs: biases subtract.
        bottom = (right.bias - left.bias) ** 2 + scale * (right.regularisation + left.regularisation)
        if not bottom > 0.0:
            return None
        return min(float(((left.variance + right.variance) / bottom) ** (1.0 / (2 * order + 3))), most)

    third = chosen(3, 3, 4, [one * (1.0 + _SAME) for one in ranges], 0.0)
    if third is not None:
        third = max(third, least)
    bias = None if third is None else chosen(2, 2, 3, [third, third], 1.0)
    main = None if bias is None else chosen(1, 0, 2, [bias, bias], 1.0)
    if main is None or bias is None:
        return None
    return Bandwidths(main * deviation, bias * deviation), repeated


def _quartile_gap(at: FloatArray) -> float:
    """The upper less the lower quartile, means of two where a count is whole (Hyndman and Fan's type 2)."""
    low, high = np.quantile(at, (0.25, 0.75), method="averaged_inverted_cdf")
    return float(high - low)


def _pieces(
    side: Side,
    order: int,
    derivative: int,
    bias_order: int,
    h: float,
    bias_h: float,
    scale: float,
) -> _Pieces | None:
    """Variance and bias of one derivative at the cutoff, as the plug-in rule needs them."""
    weights = triangular(side.at, h)
    inverse = gram_inverse(side.at, weights, order)
    bias_weights = triangular(side.at, bias_h)
    bias_inverse = gram_inverse(side.at, bias_weights, bias_order)
    if inverse is None or bias_inverse is None:
        return None
    inside = weights > 0.0
    at, w, values = side.at[inside], weights[inside], side.values[inside]
    weighed = powers(at, order) * w[:, None]
    pull = weighed @ inverse[derivative]
    variance = float(np.sum((pull * (neighbour_residuals(at, values)[:, 0])) ** 2))
    constant = h**derivative * float(inverse[derivative] @ (weighed.T @ (at / h) ** (order + 1)))
    inside = bias_weights > 0.0
    at, w, values = side.at[inside], bias_weights[inside], side.values[inside]
    weighed = powers(at, bias_order) * w[:, None]
    pull = weighed @ bias_inverse[-1]
    slope = float(pull @ values[:, 0])
    gap = order + 1 - derivative
    extra = 0.0
    if scale > 0.0:
        own = weighed @ bias_inverse[order + 1]
        extra = 3.0 * constant**2 * float(np.sum((own * (neighbour_residuals(at, values)[:, 0])) ** 2))
    return _Pieces(
        (2 * derivative + 1) * h ** (2 * derivative + 1) * variance,
        math.sqrt(2.0 * gap) * constant * slope,
        2.0 * gap * extra * scale,
    )
