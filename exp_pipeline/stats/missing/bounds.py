"""What can the effect be when units are missing: bounds, and how different the missing would have to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, group_codes
from exp_pipeline.stats.reference import require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Arm = Literal["control", "treatment"]


@dataclass(frozen=True, slots=True)
class EffectBounds:
    """Between which bounds does the effect lie, whoever is missing?

    lower and upper hold the effect were samples endless. ci_* hold it at `level` (Imbens and Manski 2004).
    shares: of assigned units that are observed. always_observed: the share that would be observed in either
    arm, of whom Lee's bounds speak; None for bounds that speak of all units. trimmed_share: of the observed
    of `trimmed_arm` left out at one end.
    """

    method: str
    n_control: int
    n_treatment: int
    share_control: float
    share_treatment: float
    always_observed: float | None
    trimmed_arm: Arm | None
    trimmed_share: float
    lower: float
    upper: float
    se_lower: float
    se_upper: float
    df: float
    ci_lower: float
    ci_upper: float
    level: float
    flags: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
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


def lee_bounds(
    outcome: ArrayLike,
    observed: ArrayLike,
    treated: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> EffectBounds | NotEstimable:
    """Between which bounds lies the effect on those who would be observed in either arm? Lee (2009).

    outcome: (n,), whatever where not observed. observed, treated: (n,) true or false, one row a unit that was
    assigned. It supposes that assignment moves nobody into and others out of sight (monotonicity). In the arm
    with the larger share observed, its excess is trimmed at the top or the bottom; a unit on the edge counts
    in part. strata, (n,), known before assignment, tighten the bounds: trimmed within, then averaged over
    strata by their always observed; the arm to trim may differ between them. Standard errors from the
    influence of each unit on trimmed mean, trimmed share and weights, by cluster where given.

    NotEstimable where an arm has fewer than two observed units or clusters, or no spread.
    """
    require_level(level)
    sample = _sample(outcome, observed, treated, cluster)
    if isinstance(sample, NotEstimable):
        return NotEstimable("lee", sample.reason, sample.n_control, sample.n_treatment)
    n_c, n_t = int((~sample.arm).sum()), int(sample.arm.sum())
    n = sample.y.size
    layers = np.zeros(n, dtype=np.int64) if strata is None else group_codes("strata", strata, n)
    lows, highs, masses, trimmed, flags = [], [], [], [], []
    low_moves, high_moves, mass_moves = np.zeros(n), np.zeros(n), []
    left = 0
    for layer in range(int(layers.max()) + 1):
        here = np.flatnonzero(layers == layer)
        part = _lee(sample, here)
        if part is None:
            left += here.size
            continue
        low, high, low_move, high_move, kept, kept_move, cut = part
        mass = here.size / n * kept
        move = np.full(n, -mass / n)
        move[here] += kept / n + here.size / n * kept_move
        lows.append(low)
        highs.append(high)
        masses.append(mass)
        mass_moves.append(move)
        trimmed.append(cut)
        low_moves[here] = mass * low_move
        high_moves[here] = mass * high_move
    if not lows:
        return NotEstimable("lee", "no stratum has two observed units in each arm", n_c, n_t)
    if left:
        flags.append(f"{left} units are in strata with fewer than two observed in an arm: left out")
    total = sum(masses)
    lower = sum(mass * bound for mass, bound in zip(masses, lows, strict=True)) / total
    upper = sum(mass * bound for mass, bound in zip(masses, highs, strict=True)) / total
    for bound_low, bound_high, move in zip(lows, highs, mass_moves, strict=True):
        low_moves += (bound_low - lower) * move
        high_moves += (bound_high - upper) * move
    arms = {cut[0] for cut in trimmed if cut[1] > 0.0}
    if len(arms) > 1:
        flags.append("the arm with more observed differs between strata")
    arm: Arm | None = next(iter(arms)) if len(arms) == 1 else None
    share = sum(mass * cut[1] for mass, cut in zip(masses, trimmed, strict=True)) / total
    if share == 0.0:
        flags.append("as many are observed in each arm: nothing is trimmed")
    name = "lee" if strata is None else "lee-strata"
    return _bounds(
        name, sample, lower, upper, low_moves / total, high_moves / total, level, always=total,
        arm=arm, share=share, flags=tuple(flags),
    )  # fmt: skip


def worst_case_bounds(
    outcome: ArrayLike,
    observed: ArrayLike,
    treated: ArrayLike,
    *,
    lowest: float,
    highest: float,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> EffectBounds | NotEstimable:
    """Between which bounds lies the effect on all units, if the missing may have had any value there is?

    Manski (1990): the missing of one arm all at `lowest` and of the other all at `highest`, and the other way
    round. Supposes nothing but these two, which are ValueErrors when an observed value lies beyond them.
    """
    require_level(level)
    if not (math.isfinite(lowest) and math.isfinite(highest) and lowest < highest):
        raise ValueError(f"lowest and highest must be numbers, lowest first, got {lowest!r} and {highest!r}")
    sample = _sample(outcome, observed, treated, cluster)
    if isinstance(sample, NotEstimable):
        return NotEstimable("worst-case", sample.reason, sample.n_control, sample.n_treatment)
    values = sample.y[sample.seen]
    if values.min() < lowest or values.max() > highest:
        raise ValueError(
            f"observed outcomes must lie between lowest {lowest!r} and highest {highest!r}, "
            f"got {float(values.min())!r} to {float(values.max())!r}"
        )
    found = []
    for missing_t, missing_c in ((lowest, highest), (highest, lowest)):
        full = np.where(sample.seen, sample.y, np.where(sample.arm, missing_t, missing_c))
        mean_t, mean_c = float(full[sample.arm].mean()), float(full[~sample.arm].mean())
        move = np.where(
            sample.arm, (full - mean_t) / sample.arm.sum(), -(full - mean_c) / (~sample.arm).sum()
        )
        found.append((mean_t - mean_c, move))
    return _bounds(
        "worst-case", sample, found[0][0], found[1][0], found[0][1], found[1][1], level,
        always=None, arm=None, share=0.0, flags=(),
    )  # fmt: skip


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
    sample = _sample(outcome, observed, treated, cluster)
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


def imbens_manski(
    lower: float, upper: float, se_lower: float, se_upper: float, df: float, level: float
) -> float:
    """How many standard errors beyond the bounds hold the effect, wherever between them it lies?

    Imbens and Manski (2004, equation 6), with a t for the normal: two-sided for bounds that meet, one-sided
    for bounds far apart.
    """
    from scipy import special

    width = max(upper - lower, 0.0) / max(se_lower, se_upper)
    low, high = 0.0, two_sided_critical(level, df) + 1.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        covered = float(special.stdtr(df, middle + width) - special.stdtr(df, -middle))
        low, high = (middle, high) if covered < level else (low, middle)
    return 0.5 * (low + high)


def _sample(
    outcome: ArrayLike, observed: ArrayLike, treated: ArrayLike, cluster: ArrayLike | None
) -> _Sample | NotEstimable:
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
    return _Sample(y, seen, arm, groups.astype(np.int64), *clusters)


def _lee(
    sample: _Sample, here: NDArray[np.int64]
) -> tuple[float, float, FloatArray, FloatArray, float, FloatArray, tuple[Arm, float]] | None:
    """Bounds of some units, what each unit does to them, their always observed, and what was trimmed."""
    y, seen, arm = sample.y[here], sample.seen[here], sample.arm[here]
    held = [seen & ~arm, seen & arm]
    if min(int(side.sum()) for side in held) < 2:
        return None
    count = [int((~arm).sum()), int(arm.sum())]
    share = [float(held[0].sum()) / count[0], float(held[1].sum()) / count[1]]
    more = 1 if share[1] > share[0] else 0
    name: Arm = "treatment" if more else "control"
    kept = share[1 - more] / share[more]
    rate = [
        np.where(~arm, (seen - share[0]) / count[0], 0.0),
        np.where(arm, (seen - share[1]) / count[1], 0.0),
    ]
    kept_move = (rate[1 - more] - kept * rate[more]) / share[more]
    whole = held[1 - more]
    mean = float(y[whole].mean())
    whole_move = np.where(whole, (y - mean) / whole.sum(), 0.0)
    ends = []
    for sign in (1.0, -1.0):
        value, edge = _lowest(sign * y[held[more]], kept)
        clipped = np.minimum(sign * y, edge)
        middle = float(clipped[held[more]].mean())
        move = np.where(held[more], (clipped - middle) / kept / held[more].sum(), 0.0)
        if kept < 1.0:
            move = move + (edge - value) / kept * kept_move
        ends.append((sign * value, sign * move))
    way = 1.0 if more else -1.0
    both = [(way * (value - mean), way * (move - whole_move)) for value, move in ends]
    (low, low_move), (high, high_move) = both if more else both[::-1]
    return low, high, low_move, high_move, share[1 - more], rate[1 - more], (name, 1.0 - kept)


def _lowest(values: FloatArray, kept: float) -> tuple[float, float]:
    """Mean of the lowest share `kept` of the values, one of them in part, and the value at the edge."""
    ordered = np.sort(values)
    mass = kept * ordered.size
    # A count that is whole but for rounding is whole.
    if abs(mass - round(mass)) < 1e-9:
        mass = float(round(mass))
    full = int(mass)
    edge = float(ordered[min(full, ordered.size - 1)] if mass > full else ordered[full - 1])
    centre = float(ordered[0])
    total = float(np.sum(ordered[:full] - centre)) + (mass - full) * (edge - centre)
    return centre + total / mass, edge


def _bounds(
    method: str,
    sample: _Sample,
    lower: float,
    upper: float,
    low_moves: FloatArray,
    high_moves: FloatArray,
    level: float,
    *,
    always: float | None,
    arm: Arm | None,
    share: float,
    flags: tuple[str, ...],
) -> EffectBounds | NotEstimable:
    n_c, n_t = int((~sample.arm).sum()), int(sample.arm.sum())
    se_low, se_high = math.sqrt(sample.variance(low_moves)), math.sqrt(sample.variance(high_moves))
    if not (se_low > 0.0 and se_high > 0.0):
        return NotEstimable(method, "what is left after trimming has no spread", n_c, n_t)
    critical = imbens_manski(lower, upper, se_low, se_high, sample.df, level)
    return EffectBounds(
        method=method,
        n_control=n_c,
        n_treatment=n_t,
        share_control=float(sample.seen[~sample.arm].mean()),
        share_treatment=float(sample.seen[sample.arm].mean()),
        always_observed=always,
        trimmed_arm=arm,
        trimmed_share=share,
        lower=lower,
        upper=upper,
        se_lower=se_low,
        se_upper=se_high,
        df=sample.df,
        ci_lower=lower - critical * se_low,
        ci_upper=upper + critical * se_high,
        level=level,
        flags=flags,
    )


def _until_chance(
    absolute: float, slope: float, move: FloatArray, drift: FloatArray, critical: float, sample: _Sample
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
