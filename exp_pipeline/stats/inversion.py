"""A distribution of statistics that is known at every hypothetical effect, and the interval it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Statistics that are equal in exact arithmetic may differ by rounding; they count as equal.
_TIE = 1e-9
_GRID = 32
_FAR = 1e4


def sums_of_scores(
    top: FloatArray, top_slope: FloatArray, scores: FloatArray, slopes: FloatArray, size: float | FloatArray
) -> FloatArray:
    """What `DrawnStatistics` needs of b draws, (5, b): scores and slopes by cluster (b, G), over `size`."""
    squares = [np.einsum("bg,bg->b", a, b) / size**2 for a, b in ((scores, scores), (scores, slopes))]
    return np.stack([top, top_slope, *squares, np.einsum("bg,bg->b", slopes, slopes) / size**2])


@dataclass(frozen=True, slots=True, eq=False)
class DrawnStatistics:
    """B statistics, each a function of d = hypothetical effect less the estimate.

    statistic(d) = (top - d top_slope) / sqrt(square - 2 d square_slope + d^2 square_curve), all (B,). The
    observed one is -d / se. exact: whether the draws are all there can be, the observed one among them.
    """

    top: FloatArray
    top_slope: FloatArray
    square: FloatArray
    square_slope: FloatArray
    square_curve: FloatArray
    se: float
    exact: bool

    @classmethod
    def joined(cls, parts: Sequence[FloatArray], *, se: float, exact: bool) -> DrawnStatistics:
        """The statistics of several lots of draws, each (5, b) as `sums_of_scores` gives them."""
        top, top_slope, square, square_slope, square_curve = np.concatenate(parts, axis=1)
        return cls(top, top_slope, square, square_slope, square_curve, se, exact)

    def p_value(self, away: float) -> float:
        """How often is a drawn statistic at least as far from zero as the observed, if d were `away`?

        Where draws are a sample, the observed one is counted with them (Davison and Hinkley 1997, equation
        4.11), so that p is never 0.
        """
        top = self.top - away * self.top_slope
        square = self.square - 2.0 * away * self.square_slope + away * away * self.square_curve
        # Cross-multiplied, so that a draw without spread needs no division.
        extreme = top * top * self.se**2 >= away * away * np.maximum(square, 0.0) * (1.0 - _TIE)
        count = int(np.count_nonzero(extreme))
        return count / self.top.size if self.exact else (count + 1) / (self.top.size + 1)

    def bounds(self, alpha: float) -> tuple[float | None, float | None]:
        """Between which d is p above `alpha`? None where it stays above however far one goes.

        p is a step function and need not fall evenly: the outermost crossing on a grid is refined.
        """
        return self._bound(alpha, -1.0), self._bound(alpha, 1.0)

    def _bound(self, alpha: float, side: float) -> float | None:
        outside = self.se
        while self.p_value(side * outside) > alpha:
            outside *= 2.0
            if outside > _FAR * self.se:
                return None
        grid = np.linspace(0.0, outside, _GRID + 1)
        place = max(k for k in range(_GRID) if self.p_value(side * grid[k]) > alpha)
        inside, outside = float(grid[place]), float(grid[place + 1])
        for _ in range(60):
            middle = 0.5 * (inside + outside)
            if self.p_value(side * middle) > alpha:
                inside = middle
            else:
                outside = middle
        return side * outside
