"""Group-sequential boundaries: how far out must a look be, so that all looks together err at most alpha?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Family = Literal["obrien-fleming", "pocock", "kim-demets"]
Sides = Literal[1, 2]

# Standard errors around the drift within which paths are followed: what lies beyond weighs below 1e-18.
_REACH = 9.0
# An increment smaller than this gets its own marginal quantile, which spends at most as much.
_SMALLEST_FOLLOWED = 1e-17
# A look that brings (nearly) nothing new counts as one with this share more information.
_LEAST_STEP = 1e-3
_PANEL, _PANEL_NODES = 2.0, 10


@dataclass(frozen=True, slots=True)
class Spending:
    """How much of alpha may be used up by when?

    alpha is the whole error (of both sides if `sides` is 2, then half for each). Families, for one side and
    the share t of the planned information (Lan and DeMets 1983; Kim and DeMets 1987): "obrien-fleming"
    2 - 2 Phi(z(alpha/2) / sqrt t), "pocock" alpha log(1 + (e - 1) t), "kim-demets" alpha t^gamma.
    """

    family: Family = "obrien-fleming"
    alpha: float = 0.05
    sides: Sides = 2
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise ValueError(f"family must be one of {get_args(Family)!r}, got {self.family!r}")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha!r}")
        if self.sides not in (1, 2):
            raise ValueError(f"sides must be 1 or 2, got {self.sides!r}")
        if not 0.0 < self.gamma < math.inf:
            raise ValueError(f"gamma must be a positive number, got {self.gamma!r}")

    def spent(self, fraction: float) -> float:
        """How much of alpha (both sides together) is spent at this share of the planned information?"""
        from scipy import special

        t = min(max(fraction, 0.0), 1.0)
        one = self.alpha / self.sides
        if t == 0.0:
            return 0.0
        if t == 1.0:
            return self.alpha
        if self.family == "obrien-fleming":
            return self.sides * 2.0 * float(special.ndtr(special.ndtri(one / 2.0) / math.sqrt(t)))
        if self.family == "pocock":
            return self.sides * one * math.log1p((math.e - 1.0) * t)
        return self.sides * one * math.pow(t, self.gamma)


@dataclass(frozen=True, slots=True)
class Boundaries:
    """At each look: its share of the planned information, alpha spent so far, and the boundary.

    critical: in standard errors, on the normal scale; infinite where nothing is spent. Two-sided plans
    cross at +critical or -critical, one-sided ones at +critical. information: that of each look, which says
    how much looks have in common; the fractions themselves unless it was given apart.
    """

    fractions: tuple[float, ...]
    spent: tuple[float, ...]
    critical: tuple[float, ...]
    sides: Sides
    information: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """How likely is it to cross the upper, or the lower, boundary first at each look?"""

    upper: tuple[float, ...]
    lower: tuple[float, ...]


def boundaries(
    spending: Spending,
    fractions: Sequence[float],
    *,
    final: bool = False,
    information: Sequence[float] | None = None,
) -> Boundaries:
    """Which boundary does each look have, and how much of alpha is spent by then?

    fractions: information at the looks so far as a share of the plan's, increasing; above 1 where more came
    than was planned (over-running: the first look at or above 1 spends what is left, later ones have
    nothing). final: the last look is the last of all, so it spends what is left even below 1
    (under-running). information: of each look, on any scale, where alpha is spent by another clock (units,
    days) than precision grows by (Lan and DeMets 1989): only its ratios count. Boundaries of earlier looks
    never change by later ones. Numerical integration of the
    joint density (Armitage, McPherson and Rowe 1969) by Gauss-Legendre panels. Raises ValueError for
    fractions that are not positive and finite or that fall.
    """
    shares = _checked(fractions)
    known = shares if information is None else _checked(information, "information")
    if len(known) != len(shares):
        raise ValueError(f"information must have {len(shares)} values, one a look, got {len(known)}")
    return _boundaries(spending, shares, final, known)


def crossing(
    critical: Sequence[float],
    fractions: Sequence[float],
    *,
    drift: float = 0.0,
    sides: Sides = 2,
    lower: Sequence[float] | None = None,
) -> Crossing:
    """How likely is each look the first to cross, when z at full information (share 1) has mean `drift`?

    critical: upper boundaries in standard errors. Lower ones are at -critical if `sides` is 2, unless `lower`
    gives them (minus infinity for none).
    """
    shares = _checked(fractions)
    if lower is None:
        lower = [-bound if sides == 2 else -math.inf for bound in critical]
    for name, bounds in (("critical", critical), ("lower", lower)):
        if len(bounds) != len(shares):
            raise ValueError(f"{name} must have one value for each of {len(shares)} looks, got {len(bounds)}")
    ups, downs = [], []
    paths = _Paths(drift)
    for share, high, low in zip(shares, critical, lower, strict=True):
        paths.advance(share)
        ups.append(paths.above(high))
        downs.append(paths.below(low))
        paths.keep(low, high)
    return Crossing(tuple(ups), tuple(downs))


@dataclass(frozen=True, slots=True)
class Reach:
    """How likely are earlier crossings, and paths that reach the last look above, or below, a value there?"""

    crossed_upper: float
    crossed_lower: float
    above: float
    below: float


def reach_at(
    critical: Sequence[float], fractions: Sequence[float], statistic: float, *, drift: float, sides: Sides
) -> Reach:
    """Where do paths go until the last look, and on which side of `statistic` are they then?

    critical: the boundaries of the looks before the last; fractions: of all looks.
    """
    shares = _checked(fractions)
    if len(critical) != len(shares) - 1:
        raise ValueError(
            f"critical must have {len(shares) - 1} values, one less than looks, got {critical!r}"
        )
    paths = _Paths(drift)
    upper = lower = 0.0
    for share, bound in zip(shares[:-1], critical, strict=True):
        paths.advance(share)
        upper += paths.above(bound)
        lower += paths.below(-bound) if sides == 2 else 0.0
        paths.keep(-bound if sides == 2 else -math.inf, bound)
    paths.advance(shares[-1])
    return Reach(upper, lower, paths.above(statistic), paths.below(statistic))


def _checked(fractions: Sequence[float], name: str = "fractions") -> tuple[float, ...]:
    if not len(fractions):
        raise ValueError(f"{name} must hold at least one look, got none")
    steps: list[float] = []
    for position, fraction in enumerate(fractions):
        if not 0.0 < fraction < math.inf:
            raise ValueError(f"{name} must be positive numbers, got {fraction!r} at look {position + 1}")
        before = fractions[position - 1] if position else 0.0
        if fraction < before:
            raise ValueError(f"{name} must not fall, got {fraction!r} after {before!r}")
        steps.append(max(float(fraction), steps[-1] * (1.0 + _LEAST_STEP)) if steps else float(fraction))
    return tuple(steps)


@lru_cache(maxsize=512)
def _boundaries(
    spending: Spending, fractions: tuple[float, ...], final: bool, information: tuple[float, ...]
) -> Boundaries:
    spent: list[float] = []
    critical: list[float] = []
    paths = _Paths(0.0)
    for position, fraction in enumerate(fractions):
        last = final and position == len(fractions) - 1
        total = spending.alpha if last else spending.spent(fraction)
        increment = (total - (spent[-1] if spent else 0.0)) / spending.sides
        paths.advance(information[position])
        bound = paths.quantile(increment)
        paths.keep(-bound if spending.sides == 2 else -math.inf, bound)
        spent.append(total)
        critical.append(bound)
    return Boundaries(fractions, tuple(spent), tuple(critical), spending.sides, information)


@lru_cache(maxsize=1)
def _gauss() -> tuple[FloatArray, FloatArray]:
    at, weight = np.polynomial.legendre.leggauss(_PANEL_NODES)
    return at, weight


class _Paths:
    """The joint density of paths that crossed nothing yet, on the z scale, carried from look to look.

    `_nodes` and `_mass` (weight times density) stand for the paths kept at the look before; empty before
    the first. drift: mean of z at information 1.
    """

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._before = 0.0
        self._now = 0.0
        self._nodes: FloatArray = np.zeros(1)
        self._mass: FloatArray = np.ones(1)
        self._kept = -math.inf, math.inf

    def advance(self, information: float) -> None:
        """On to the next look, with the paths kept at the one before."""
        if self._now > 0.0:
            self._settle(information - self._now)
        self._before, self._now = self._now, information

    def _standardised(self, z: FloatArray | float) -> FloatArray:
        """Standard errors of the newest increment from each node to each z: (z, node)."""
        step = self._now - self._before
        moved = (
            np.atleast_1d(z)[:, None] * math.sqrt(self._now)
            - self._nodes[None, :] * math.sqrt(self._before)
            - self._drift * step
        )
        result: FloatArray = moved / math.sqrt(step)
        return result

    def above(self, z: float) -> float:
        from scipy import special

        if math.isinf(z):
            return 0.0 if z > 0.0 else float(self._mass.sum())
        return float(special.ndtr(-self._standardised(z))[0] @ self._mass)

    def below(self, z: float) -> float:
        from scipy import special

        if math.isinf(z):
            return 0.0 if z < 0.0 else float(self._mass.sum())
        return float(special.ndtr(self._standardised(z))[0] @ self._mass)

    def _density(self, z: FloatArray) -> FloatArray:
        scale = math.sqrt(self._now / (self._now - self._before) / (2.0 * math.pi))
        result: FloatArray = np.exp(-0.5 * self._standardised(z) ** 2) @ self._mass * scale
        return result

    def keep(self, low: float, high: float) -> None:
        """Which paths go on: those between the bounds."""
        self._kept = low, high

    def _settle(self, next_step: float) -> None:
        centre = self._drift * math.sqrt(self._now)
        low, high = max(self._kept[0], centre - _REACH), min(self._kept[1], centre + _REACH)
        if not low < high:
            self._nodes, self._mass = np.zeros(1), np.zeros(1)
            return
        # Panels as fine as the narrower of the step that led here and the one that follows.
        width = _PANEL * math.sqrt(min(self._now - self._before, next_step) / self._now)
        edges = np.linspace(low, high, math.ceil((high - low) / width) + 1)
        at, weight = _gauss()
        half = 0.5 * np.diff(edges)[:, None]
        nodes = ((edges[:-1, None] + half) + half * at).ravel()
        self._mass = self._density(nodes) * (half * weight).ravel()
        self._nodes = nodes

    def quantile(self, probability: float) -> float:
        """The z above which paths weigh `probability`; infinite if that is nothing."""
        from scipy import optimize, special

        if probability <= 0.0:
            return math.inf
        marginal = float(-special.ndtri(probability))
        if self._before == 0.0 or probability < _SMALLEST_FOLLOWED:
            return marginal
        lowest = marginal - 1.0
        while self.above(lowest) < probability:
            if lowest < -_REACH:
                return lowest
            lowest -= 1.0

        def missing(z: float) -> float:
            weight = self.above(z)
            return (math.log(weight) if weight > 0.0 else -745.0) - math.log(probability)

        return float(optimize.brentq(missing, lowest, marginal + 1e-9, xtol=1e-13, rtol=1e-14))
