"""What can the effect be when units are missing? Bounds that suppose little (Lee) or nothing (Manski)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import group_codes
from exp_pipeline.stats.missing.sample import FloatArray, MissingSample, missing_sample
from exp_pipeline.stats.reference import require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable

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
    sample = missing_sample(outcome, observed, treated, cluster)
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
    sample = missing_sample(outcome, observed, treated, cluster)
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


def _lee(
    sample: MissingSample, here: NDArray[np.int64]
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
    sample: MissingSample,
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
