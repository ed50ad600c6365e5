"""How different would the missing have to be for a finding to fall?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.missing.sample import FloatArray, MissingSample, missing_sample
from exp_pipeline.stats.reference import require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable


@dataclass(frozen=True, slots=True)
class TippingPoint:
    """How different from the observed of their arm would the missing have to be for the finding to fall?

    absolute: the effect if missing units were like the observed of their arm. to_zero_*: by how much the
    missing of one arm must differ for an effect of 0; `opposite`: of both arms, treated and control moving
    apart by the same amount. to_chance_*: the same until the interval includes 0; None where it does already,
    or where no amount will do. *_in_sd: in standard deviations of the observed.
    """

    absolute: float
    ci_lower: float
    ci_upper: float
    to_zero_treatment: float | None
    to_zero_opposite: float | None
    to_chance_treatment: float | None
    to_chance_opposite: float | None
    to_chance_treatment_in_sd: float | None
    to_chance_opposite_in_sd: float | None
    level: float


def tipping_point(
    outcome: ArrayLike,
    observed: ArrayLike,
    treated: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> TippingPoint | NotEstimable:
    """How different would the missing have to be for the effect to vanish, or to be lost in chance?

    The mean of an arm is that of its observed plus (share missing) x (by how much its missing differ). The
    variance with that amount is a parabola in it, so that the tipping points are roots, not a grid.
    "opposite" is an amount against the finding in both arms.
    """
    require_level(level)
    sample = missing_sample(outcome, observed, treated, cluster)
    if isinstance(sample, NotEstimable):
        return NotEstimable("tipping-point", sample.reason, sample.n_control, sample.n_treatment)
    moves, lost_moves, means, lost = [], [], [], []
    for side in (~sample.arm, sample.arm):
        seen = side & sample.seen
        mean, count, n = float(sample.y[seen].mean()), int(seen.sum()), int(side.sum())
        moves.append(np.where(seen, (sample.y - mean) / count, 0.0))
        lost_moves.append(np.where(side, ((~sample.seen) - (n - count) / n) / n, 0.0))
        means.append(mean)
        lost.append((n - count) / n)
    absolute = means[1] - means[0]
    move = moves[1] - moves[0]
    spread = math.sqrt(
        (float(np.sum((sample.y[sample.seen & ~sample.arm] - means[0]) ** 2))
         + float(np.sum((sample.y[sample.seen & sample.arm] - means[1]) ** 2)))
        / (int(sample.seen.sum()) - 2)
    )  # fmt: skip
    critical = two_sided_critical(level, sample.df)
    reach = critical * math.sqrt(sample.variance(move))
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, weights in (("treatment", (0.0, 1.0)), ("opposite", (-1.0, 1.0))):
        slope = weights[0] * -lost[0] + weights[1] * lost[1]
        drift = weights[1] * lost_moves[1] - weights[0] * lost_moves[0]
        to_zero = -absolute / slope if slope > 0.0 else None
        to_chance = None
        if slope > 0.0 and abs(absolute) > reach:
            to_chance = _until_chance(absolute, slope, move, drift, critical, sample)
        found[name] = to_zero, to_chance
    chance_t, chance_o = found["treatment"][1], found["opposite"][1]
    return TippingPoint(
        absolute=absolute,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        to_zero_treatment=found["treatment"][0],
        to_zero_opposite=found["opposite"][0],
        to_chance_treatment=chance_t,
        to_chance_opposite=chance_o,
        to_chance_treatment_in_sd=None if chance_t is None else chance_t / spread,
        to_chance_opposite_in_sd=None if chance_o is None else chance_o / spread,
        level=level,
    )


def _until_chance(
    absolute: float, slope: float, move: FloatArray, drift: FloatArray, critical: float, sample: MissingSample
) -> float | None:
    """The amount nearest 0 at which (absolute + slope d)^2 = critical^2 Var(move + d drift)."""
    base, far = sample.variance(move), sample.variance(drift)
    cross = (sample.variance(move + drift) - base - far) / 2.0
    square = slope**2 - critical**2 * far
    linear = absolute * slope - critical**2 * cross
    constant = absolute**2 - critical**2 * base
    if square == 0.0:
        return -constant / (2.0 * linear) if linear != 0.0 else None
    inside = linear**2 - square * constant
    if inside < 0.0:
        return None
    roots = [(-linear - math.sqrt(inside)) / square, (-linear + math.sqrt(inside)) / square]
    against = [root for root in roots if root * absolute < 0.0]
    return min(against, key=abs) if against else None
