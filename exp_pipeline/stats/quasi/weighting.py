"""Effects by weighting units with their propensity, alone or with a model of the outcome."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows, finite_values, group_codes
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.quasi.propensity import (
    DESIGN,
    SCORE_MODEL,
    UNCONFOUNDED,
    Estimand,
    Propensity,
    propensity_scores,
)
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# One unit with more than this share of its arm's weight makes the estimate its own.
_HEAVY = 0.1
_FOR = {
    "ate": "the effect is that on all units",
    "att": "the effect is that on those who were treated",
    "overlap": "the effect is that on units that might as well have been treated as not (overlap weights)",
}


def score_weights(scores: ArrayLike, treated: ArrayLike, estimand: Estimand = "ate") -> FloatArray:
    """With what weight does each unit count, (n,), so that the groups resemble each other? Sums to 1 by arm.

    "ate": 1/e and 1/(1 - e), both groups like all units. "att": 1 and e/(1 - e), controls like the treated.
    "overlap": 1 - e and e, both like those who could have gone either way (Li, Morgan and Zaslavsky 2018).
    Weights that sum to one in each arm make stabilised and plain weights the same.
    """
    _require_estimand(estimand)
    e = finite_values("scores", scores)
    arm = arm_values("treated", treated, e.size)
    if ((e <= 0.0) | (e >= 1.0)).any():
        raise ValueError("scores must lie strictly between 0 and 1")
    if arm.all() or not arm.any():
        raise ValueError("treated must hold both groups")
    raw, _ = _raw_weights(e, arm, estimand)
    return np.asarray(raw / np.where(arm, raw[arm].sum(), raw[~arm].sum()), dtype=np.float64)


def weighted_effect(
    outcome: ArrayLike,
    treated: ArrayLike,
    covariates: ArrayLike,
    *,
    estimand: Estimand = "ate",
    ridge: float = 0.0,
    trim: tuple[float, float] | None = None,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> QuasiEffect | NotEstimable:
    """By how much do groups differ once weights make them alike in their covariates?

    outcome: (n,), treated (bool), covariates, ridge as in `propensity.propensity_scores`; weights as in
    `score_weights`. trim: scores outside are left out and the model is fitted again to the rest (Crump and
    others 2009 take 0.1 to 0.9). The standard error takes into account that scores are estimated (sandwich of
    all estimating equations, Lunceford and Davidian 2004), by cluster if given, with the factor G/(G - 1); t
    with Welch's degrees of freedom from the arms' effective sizes, at most G - 1.

    NotEstimable where scores are, where trimming leaves an arm fewer than two units, or without spread.
    Raises ValueError for shapes or values that do not fit.
    """
    ready = _ready(outcome, treated, covariates, estimand, ridge, trim, cluster, level)
    if isinstance(ready, NotEstimable):
        return ready
    y, arm, _, score, groups, flags = ready
    x, e = score.columns, score.scores
    raw, slope = _raw_weights(e, arm, estimand)
    total = np.where(arm, raw[arm].sum(), raw[~arm].sum())
    weights, drift = raw / total, slope / total
    means = [float(weights[side] @ y[side]) for side in (~arm, arm)]
    gap = y - np.where(arm, means[1], means[0])
    sign = np.where(arm, 1.0, -1.0)
    moves = sign * weights * gap + score.moves @ (x.T @ (sign * drift * gap))
    return _found(
        f"weighted-{estimand}",
        means[1] - means[0],
        moves,
        weights,
        y,
        arm,
        groups,
        cluster,
        estimand,
        (SCORE_MODEL,),
        flags,
        level,
    )


def doubly_robust_effect(
    outcome: ArrayLike,
    treated: ArrayLike,
    covariates: ArrayLike,
    *,
    estimand: Estimand = "ate",
    ridge: float = 0.0,
    trim: tuple[float, float] | None = None,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> QuasiEffect | NotEstimable:
    """By how much do groups differ, if either the model of treatment or that of the outcome is right?

    Arguments as in `weighted_effect`; estimand "ate" or "att". The outcome is predicted by least squares on
    the covariates in each arm, and what predictions miss is weighted by propensity (augmented inverse
    weighting, Robins, Rotnitzky and Zhao 1994; for "att" Mercatanti and Li 2014). The sandwich takes in all
    three models, so that it holds also where one of them is wrong.

    NotEstimable and ValueError as in `weighted_effect`, and for fewer units in an arm than covariates.
    """
    if estimand == "overlap":
        raise ValueError("estimand must be 'ate' or 'att' for the doubly robust effect, got 'overlap'")
    ready = _ready(outcome, treated, covariates, estimand, ridge, trim, cluster, level)
    if isinstance(ready, NotEstimable):
        return ready
    y, arm, _, score, groups, flags = ready
    x, e, n = score.columns, score.scores, y.size
    counts = int(n - arm.sum()), int(arm.sum())
    fits = []
    for side in (~arm, arm):
        inside = x[side]
        gram = inside.T @ inside
        if side.sum() <= x.shape[1] or np.linalg.cond(gram) > 1e13:
            reason = "covariates do not vary enough in an arm for a model of the outcome there"
            return NotEstimable(f"{DESIGN} doubly robust", reason, *counts)
        middle = float(y[side].mean())
        slopes = np.linalg.solve(gram, inside.T @ (y[side] - middle))
        slopes[0] += middle
        left = np.where(side, y - x @ slopes, 0.0)
        fits.append((x @ slopes, np.linalg.solve(gram, (x * left[:, None]).T).T))
    (m0, moves0), (m1, moves1) = fits
    raw, slope = _raw_weights(e, arm, estimand)
    missed = np.where(arm, y - m1, -(y - m0))
    if estimand == "ate":
        parts = m1 - m0 + raw * missed
        absolute = float(parts.mean())
        moves = (parts - absolute) / n
        moves += score.moves @ (x.T @ (slope * missed)) / n
        moves += moves1 @ (x.T @ (1.0 - arm * raw)) / n - moves0 @ (x.T @ (1.0 - ~arm * raw)) / n
    else:
        treatment = counts[1]
        parts = np.where(arm, y - m0, raw * missed)
        absolute = float(parts.sum() / treatment)
        moves = (parts - arm * absolute) / treatment
        moves += score.moves @ (x.T @ (slope * missed)) / treatment
        moves += moves0 @ (x.T @ np.where(arm, -1.0, raw)) / treatment
    weights = raw / np.where(arm, raw[arm].sum(), raw[~arm].sum())
    either = "the model of treatment or the straight lines of the outcome are right (one of them is enough)"
    return _found(
        f"doubly-robust-{estimand}",
        absolute,
        moves,
        weights,
        y,
        arm,
        groups,
        cluster,
        estimand,
        (either,),
        flags,
        level,
    )


def _require_estimand(estimand: str) -> None:
    if estimand not in _FOR:
        raise ValueError(f"estimand must be 'ate', 'att' or 'overlap', got {estimand!r}")


def _raw_weights(e: FloatArray, arm: BoolArray, estimand: Estimand) -> tuple[FloatArray, FloatArray]:
    """Weights, and their slopes in the log-odds of the score."""
    if estimand == "ate":
        return np.where(arm, 1.0 / e, 1.0 / (1.0 - e)), np.where(arm, -(1.0 - e) / e, e / (1.0 - e))
    if estimand == "att":
        return np.where(arm, 1.0, e / (1.0 - e)), np.where(arm, 0.0, e / (1.0 - e))
    return np.where(arm, 1.0 - e, e), np.where(arm, -1.0, 1.0) * e * (1.0 - e)


def _ready(
    outcome: ArrayLike,
    treated: ArrayLike,
    covariates: ArrayLike,
    estimand: Estimand,
    ridge: float,
    trim: tuple[float, float] | None,
    cluster: ArrayLike | None,
    level: float,
) -> tuple[FloatArray, BoolArray, FloatArray, Propensity, IntArray, tuple[str, ...]] | NotEstimable:
    require_level(level)
    _require_estimand(estimand)
    y = finite_values("outcome", outcome)
    n = y.size
    arm, extra = arm_values("treated", treated, n), covariate_rows(covariates, n)
    groups = np.arange(n) if cluster is None else group_codes("cluster", cluster, n)
    score = propensity_scores(arm, extra, ridge=ridge)
    if isinstance(score, NotEstimable):
        return score
    flags: tuple[str, ...] = ()
    if trim is not None:
        low, high = trim
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"trim must be two scores with 0 <= low < high <= 1, got {trim!r}")
        keep = (score.scores >= low) & (score.scores <= high)
        y, arm, extra, groups = y[keep], arm[keep], extra[keep], groups[keep]
        counts = int(arm.size - arm.sum()), int(arm.sum())
        if min(counts) < 2:
            reason = f"no overlap: trimming leaves {counts[0]} control and {counts[1]} treated units"
            return NotEstimable(DESIGN, reason, *counts)
        if not keep.all():
            flags = (f"{int((~keep).sum())} units with scores outside {low:g} to {high:g} are left out",)
        groups = np.unique(groups, return_inverse=True)[1].astype(np.int64).reshape(-1)
        score = propensity_scores(arm, extra, ridge=ridge)
        if isinstance(score, NotEstimable):
            return score
    counts = int(arm.size - arm.sum()), int(arm.sum())
    for side, name in ((~arm, "control"), (arm, "treated")):
        if np.unique(groups[side]).size < 2:
            reason = f"the {name} group is one {'unit' if cluster is None else 'cluster'}"
            return NotEstimable(DESIGN, reason, *counts)
    return y, arm, extra, score, groups, flags + score.flags


def _found(
    method: str,
    absolute: float,
    moves: FloatArray,
    weights: FloatArray,
    y: FloatArray,
    arm: BoolArray,
    groups: IntArray,
    cluster: ArrayLike | None,
    estimand: Estimand,
    model: tuple[str, ...],
    flags: tuple[str, ...],
    level: float,
) -> QuasiEffect | NotEstimable:
    counts = int(arm.size - arm.sum()), int(arm.sum())
    clusters = int(groups.max()) + 1
    summed = np.bincount(groups, weights=moves, minlength=clusters)
    variance = float(summed @ summed) * clusters / (clusters - 1.0)
    centred = y - y.mean()
    if not variance > 1e-24 * max(float(centred @ centred), 1e-6 * float(y @ y)) / y.size:
        return NotEstimable(
            f"{DESIGN} {method}", "the outcome has no spread that is left to compare", *counts
        )
    parts, sizes = [], []
    for side in (~arm, arm):
        parts.append(float(moves[side] @ moves[side]))
        held = np.bincount(groups[side], weights=weights[side])
        sizes.append(float(held.sum() ** 2 / (held @ held)))
    spread = sum(part**2 / max(size - 1.0, 0.5) for part, size in zip(parts, sizes, strict=True))
    df = min(sum(parts) ** 2 / spread, clusters - 1.0)
    for name, side, size in (("control", ~arm, sizes[0]), ("treated", arm, sizes[1])):
        if float(weights[side].max()) > _HEAVY and side.sum() > 2.0 / _HEAVY:
            flags += (
                f"one {name} unit has {100 * float(weights[side].max()):.0f} % of the weight "
                f"(effective size {size:.0f}): trim, or use overlap weights",
            )
    se = math.sqrt(variance)
    reach = two_sided_critical(level, df) * se
    inside = [int(np.unique(groups[side]).size) for side in (~arm, arm)]
    return QuasiEffect(
        design=DESIGN,
        method=method,
        n_control=counts[0],
        n_treatment=counts[1],
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(absolute / se, df),
        level=level,
        assumptions=(*UNCONFOUNDED, *model, _FOR[estimand]),
        flags=flags,
        clusters_control=None if cluster is None else inside[0],
        clusters_treatment=None if cluster is None else inside[1],
    )
