"""Effects by comparing each unit with those of the other group that were as likely to be treated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows, finite_values
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.quasi.propensity import SCORE_MODEL, UNCONFOUNDED, propensity_scores
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DESIGN = "propensity score matching"
# Distances of this share of the logits' size are ties: rounding, or the same covariates.
_TIE = 1e-12
_FEW_MATCHED = 20


@dataclass(frozen=True, slots=True, eq=False)
class MatchedEffect:
    """What is the effect on matched units, and with what weight does each unit count?

    weights: (n,), summing to one in each arm: for `balance.balance_table`. `unmatched` units had nobody
    within the caliper.
    """

    effect: QuasiEffect
    weights: FloatArray
    matched: int
    unmatched: int


@dataclass(frozen=True, slots=True, eq=False)
class _Matches:
    """For each asking unit: its matches are order[low:high] of the offering ones (high = low: none)."""

    order: IntArray
    low: IntArray
    high: IntArray


def matched_effect(
    outcome: ArrayLike,
    treated: ArrayLike,
    covariates: ArrayLike,
    *,
    k: int = 1,
    caliper: float | None = 0.2,
    estimand: Literal["att", "ate"] = "att",
    ridge: float = 0.0,
    level: float = 0.95,
) -> MatchedEffect | NotEstimable:
    """By how much do units differ from the k nearest of the other group, by the log-odds of treatment?

    outcome: (n,), treated (bool), covariates, ridge as in `propensity.propensity_scores`. Matching is with
    replacement, so that no order of units matters; all at the distance of the k-th count alike. caliper: the
    largest distance, in standard deviations of the log-odds (the root of the groups' mean variance; Austin
    2011 takes 0.2); None for any distance. Units without a match are left out and counted. estimand "att"
    matches the treated, "ate" everybody.

    The standard error is that of Abadie and Imbens (2006), with the outcome's variance at each unit from it
    and its nearest neighbour in its own group; it takes scores as known, which for "ate" is never too short
    in large samples (Abadie and Imbens 2016). Normal reference.

    NotEstimable where scores are, where fewer than two units have a match, or without spread. Raises
    ValueError for shapes or values that do not fit.
    """
    require_level(level)
    if not (isinstance(k, int) and k >= 1):
        raise ValueError(f"k must be a whole number from 1 up, got {k!r}")
    if caliper is not None and not (caliper > 0.0 and math.isfinite(caliper)):
        raise ValueError(f"caliper must be a positive number of standard deviations or None, got {caliper!r}")
    if estimand not in ("att", "ate"):
        raise ValueError(f"estimand must be 'att' or 'ate' for matching, got {estimand!r}")
    y = finite_values("outcome", outcome)
    n = y.size
    arm, extra = arm_values("treated", treated, n), covariate_rows(covariates, n)
    score = propensity_scores(arm, extra, ridge=ridge)
    if isinstance(score, NotEstimable):
        return score
    counts = int(n - arm.sum()), int(arm.sum())
    if min(counts) < 2:
        return NotEstimable(DESIGN, "a group has one unit: no neighbour tells its variance", *counts)
    logits = score.logits
    spread = math.sqrt((float(logits[arm].var(ddof=1)) + float(logits[~arm].var(ddof=1))) / 2.0)
    reach = math.inf if caliper is None else caliper * spread
    asking = [arm] if estimand == "att" else [arm, ~arm]
    centre = float(y.mean())
    values = y - centre
    gains, used = np.full(n, np.nan), np.zeros(n)
    squares = np.zeros(n)
    for side in asking:
        found = _nearest(logits, side, ~side, k, reach)
        places, counts_matched = np.flatnonzero(side), found.high - found.low
        has = counts_matched > 0
        total = np.concatenate([[0.0], np.cumsum(values[found.order])])
        size = np.where(has, counts_matched, 1)
        other = (total[found.high] - total[found.low]) / size
        sign = 1.0 if side is arm else -1.0
        gains[places[has]] = sign * (values[places[has]] - other[has])
        used[found.order] += _shares(found, 1.0 / size, has)
        squares[found.order] += _shares(found, 1.0 / size**2, has)
    kept = np.isfinite(gains)
    matched = int(kept.sum())
    unmatched = sum(int(side.sum()) for side in asking) - matched
    if matched < 2:
        reason = f"no overlap: {matched} units have a match within the caliper"
        return NotEstimable(DESIGN, reason, *counts)
    absolute = float(gains[kept].mean())
    variance = float(np.sum((gains[kept] - absolute) ** 2))
    noise = _local_variance(logits, values, arm)
    own = kept.astype(np.float64)
    # Each unit's outcome enters with own + used; own^2 is already in the spread of gains.
    variance += float(np.sum(noise * (used**2 + 2.0 * own * used - squares)))
    variance /= matched**2
    if not variance > 1e-24 * max(float(values @ values) / n, 1e-6 * centre**2):
        return NotEstimable(DESIGN, "the outcome has no spread that is left to compare", *counts)
    total_weight = own + used
    weights = total_weight / np.where(arm, total_weight[arm].sum(), total_weight[~arm].sum())
    flags = score.flags
    if unmatched:
        flags += (f"{unmatched} of {unmatched + matched} units have no match: the effect is not theirs",)
    if matched < _FEW_MATCHED:
        flags += (f"only {matched} units are matched: p-value and interval are rough",)
    heavy = float(used.max())
    if heavy > 0.1 * matched:
        flags += (f"one unit is the match of {heavy:.0f} others: the estimate hangs on it",)
    if estimand == "att":
        flags += ("the standard error takes scores as known; for the treated it may err to either side",)
    se = math.sqrt(variance)
    width = two_sided_critical(level, math.inf) * se
    whom = "the matched treated units" if estimand == "att" else "all units with a match"
    effect = QuasiEffect(
        design=DESIGN,
        method=f"matched-1:{k}-{estimand}",
        n_control=int((total_weight[~arm] > 0.0).sum()),
        n_treatment=int((total_weight[arm] > 0.0).sum()),
        absolute=absolute,
        se=se,
        df=math.inf,
        ci_lower=absolute - width,
        ci_upper=absolute + width,
        p_value=two_sided_p(absolute / se, math.inf),
        level=level,
        assumptions=(*UNCONFOUNDED, SCORE_MODEL, f"the effect is that on {whom}"),
        flags=flags,
    )
    return MatchedEffect(effect, weights, matched, unmatched)


def _nearest(logits: FloatArray, asking: BoolArray, offering: BoolArray, k: int, reach: float) -> _Matches:
    places = np.flatnonzero(offering)
    order = places[np.argsort(logits[places], kind="stable")]
    line = logits[order]
    wanted = logits[asking]
    tie = _TIE * max(1.0, float(np.max(np.abs(logits))))
    at = np.searchsorted(line, wanted)
    around = at[:, None] + np.arange(-k, k)[None, :]
    inside = (around >= 0) & (around < line.size)
    gaps = np.where(inside, np.abs(line[np.clip(around, 0, line.size - 1)] - wanted[:, None]), np.inf)
    gaps.sort(axis=1)
    # Fewer than k on offer: all of them.
    last = gaps[:, min(k, line.size) - 1]
    limit = np.minimum(last, reach) + tie
    low = np.searchsorted(line, wanted - limit, side="left")
    high = np.searchsorted(line, wanted + limit, side="right")
    return _Matches(order, low, np.maximum(high, low))


def _shares(found: _Matches, each: FloatArray, has: BoolArray) -> FloatArray:
    """What each of the offering units, in order, collects from those who ask."""
    steps = np.zeros(found.order.size + 1)
    np.add.at(steps, found.low[has], each[has])
    np.subtract.at(steps, found.high[has], each[has])
    collected = np.cumsum(steps)[:-1]
    asked = np.zeros(found.order.size + 1, dtype=np.int64)
    np.add.at(asked, found.low[has], 1)
    np.subtract.at(asked, found.high[has], 1)
    # What rounding leaves for a unit that nobody chose is nothing.
    return np.where(np.cumsum(asked)[:-1] > 0, collected, 0.0)


def _local_variance(logits: FloatArray, values: FloatArray, arm: BoolArray) -> FloatArray:
    """The outcome's variance among each unit and its nearest neighbours in its own group (ties alike)."""
    out = np.zeros(values.size)
    for side in (arm, ~arm):
        # The unit itself is the nearest of all: the second nearest tells the neighbours.
        found = _nearest(logits, side, side, 2, math.inf)
        many = found.high - found.low
        ordered = values[found.order]
        total = np.concatenate([[0.0], np.cumsum(ordered)])
        squares = np.concatenate([[0.0], np.cumsum(ordered**2)])
        mean = (total[found.high] - total[found.low]) / many
        spread = (squares[found.high] - squares[found.low]) - many * mean**2
        out[side] = np.maximum(spread, 0.0) / (many - 1.0)
    return out
