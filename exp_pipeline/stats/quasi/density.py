"""Whether units pile up on one side of a cutoff, as they do where they can choose their side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import finite_values
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]

DESIGN = "density at the cutoff"
# McCrary (2008), section 3.2: for a triangular kernel at a boundary.
_BOUNDARY = 3.348
_FEWEST_ROWS = 20


@dataclass(frozen=True, slots=True)
class DensityJump:
    """Are there more units just above the cutoff than just below it?

    Densities at the cutoff from either side, in units per unit of the running variable over n; `jump` is the
    upper less the lower. A small p-value speaks for units that chose their side; a large one does not prove
    that none did.
    """

    design: str
    below: float
    above: float
    jump: float
    se: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    bandwidth: float
    n_below: int
    n_above: int
    flags: tuple[str, ...] = ()


def density_jump(
    running: ArrayLike, *, cutoff: float = 0.0, bandwidth: float | None = None, level: float = 0.95
) -> DensityJump | NotEstimable:
    """Does the density of the running variable jump at the cutoff?

    running: (n,). McCrary's (2008) test with bins of no width and one order more: the boundary kernel of a
    local quadratic, so that a bent density is not taken for a jump at the bandwidth that suits a local linear
    one (the idea of robust bias correction). The density is then a plain mean over units, and its variance
    exact. bandwidth: by default McCrary's rule from a quartic histogram on each side, the mean of both.
    Normal reference.

    NotEstimable for fewer than 20 units on a side within the bandwidth. Raises ValueError for values that do
    not fit.
    """
    require_level(level)
    x = finite_values("running", running)
    if not math.isfinite(cutoff):
        raise ValueError(f"cutoff must be finite, got {cutoff!r}")
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0.0):
        raise ValueError(f"bandwidth must be a positive number, got {bandwidth!r}")
    at = np.sort(x - cutoff)
    n = at.size
    sides = (-at[at < 0.0][::-1], at[at >= 0.0])
    counts = sides[0].size, sides[1].size
    if min(counts) < _FEWEST_ROWS:
        reason = f"{counts[0]} units below and {counts[1]} from the cutoff; a density needs {_FEWEST_ROWS}"
        return NotEstimable(DESIGN, reason, *counts)
    h = _bandwidth(at, sides) if bandwidth is None else bandwidth
    within = [int((side < h).sum()) for side in sides]
    if min(within) < _FEWEST_ROWS:
        reason = f"{within[0]} units below and {within[1]} above within {h:.4g} of the cutoff; too few"
        return NotEstimable(DESIGN, reason, *counts)
    flags: tuple[str, ...] = ()
    if np.unique(at).size < 0.8 * n:
        flags = ("many units share a value of the running variable: heaps may look like a jump",)
    sums, squares = [], []
    for side in sides:
        kernel = _boundary_kernel(side[side < h] / h) / h
        sums.append(float(kernel.sum()) / n)
        squares.append(float(kernel @ kernel) / n)
    below, above = sums
    jump = above - below
    se = math.sqrt((squares[0] + squares[1] - jump**2) / (n - 1.0))
    reach = two_sided_critical(level, math.inf) * se
    return DensityJump(
        design=DESIGN,
        below=below,
        above=above,
        jump=jump,
        se=se,
        ci_lower=jump - reach,
        ci_upper=jump + reach,
        p_value=two_sided_p(jump / se, math.inf),
        level=level,
        bandwidth=h,
        n_below=within[0],
        n_above=within[1],
        flags=flags,
    )


def _boundary_kernel(u: FloatArray) -> FloatArray:
    """Triangular weights times the quadratic that integrates to 1 and has no first and second moment."""
    moments = np.array([1.0 / ((k + 1.0) * (k + 2.0)) for k in range(5)])
    gram = moments[np.add.outer(np.arange(3), np.arange(3))]
    coefficients = np.linalg.solve(gram, np.array([1.0, 0.0, 0.0]))
    return np.asarray((1.0 - u) * (np.vander(u, 3, increasing=True) @ coefficients), dtype=np.float64)


def _bandwidth(at: FloatArray, sides: tuple[FloatArray, FloatArray]) -> float:
    n = at.size
    width = 2.0 * float(at.std(ddof=1)) / math.sqrt(n)
    found = []
    for side in sides:
        longest = float(side[-1])
        if longest == 0.0:
            return width
        # In units of the side's length, where the quartic's powers are of one size.
        bins = max(math.ceil(longest / width), 6)
        place = np.minimum((side / longest * bins).astype(np.int64), bins - 1)
        heights = np.bincount(place, minlength=bins) / (n * (longest / bins))
        middle = (np.arange(bins) + 0.5) / bins
        powers = np.vander(middle, 5, increasing=True)
        fit = np.linalg.lstsq(powers, heights, rcond=None)[0]
        error = float(np.sum((heights - powers @ fit) ** 2)) / max(bins - 5, 1)
        bend = (2.0 * fit[2] + 6.0 * fit[3] * middle + 12.0 * fit[4] * middle**2) / longest**2
        total = float(np.sum(bend**2))
        found.append(
            min(_BOUNDARY * (error * longest / total) ** 0.2, longest)
            if total > 0.0 and error > 0.0
            else longest
        )
    return sum(found) / 2.0
