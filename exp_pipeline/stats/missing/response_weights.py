"""The effect on all units when some are missing, by weighting the observed that resemble them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows, finite_values, group_codes
from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms, independent_columns
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.reference import require_level, welch_df
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# A unit that stands for more than this many of its arm makes the answer hang on few.
LOUD_WEIGHT = 20.0
# Observed units in the smaller arm from which intervals cover 93.5-96.5 % (two covariates, a third missing);
# with 18 they cover 91 %.
FEWEST_OBSERVED = 50
_STEPS = 60


@dataclass(frozen=True, slots=True)
class WeightedEffect:
    """What is the effect on all units, if units alike in the covariates are missing by chance?

    effect: weighted (Hajek); its means of arms are unweighted. effective_n_*: units that would give as sharp
    a mean without weights (Kish). largest_weight: how many units of its arm one observed unit stands for.
    """

    effect: Effect
    effective_n_control: float
    effective_n_treatment: float
    largest_weight: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _ArmMean:
    mean: float
    move: FloatArray
    probability: FloatArray
    effective_n: float
    largest: float


def response_weighted_difference(
    outcome: ArrayLike,
    observed: ArrayLike,
    treated: ArrayLike,
    covariates: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> WeightedEffect | NotEstimable:
    """By how much do the arms differ, when each observed unit is weighted by 1 / chance of being observed?

    outcome: (n,), whatever where missing. observed, treated: (n,) true or false. covariates: (n, k), measured
    before assignment, without gaps. Chances by a logistic regression in each arm. The standard error knows
    that they are estimated: each unit moves both the weighted mean and the regression (stacked estimating
    equations: Lunceford and Davidian 2004; Stefanski and Boos 2002), summed by cluster where given. It
    supposes that whoever is missing is so by chance among units alike in the covariates.

    NotEstimable where an arm has fewer than two observed units or clusters, or where covariates tell exactly
    who is missing (no overlap). Raises ValueError for shapes or values that do not fit.
    """
    require_level(level)
    rows = finite_values("covariates", covariates, 2)
    n = rows.shape[0]
    rows = covariate_rows(rows, n)
    y = np.asarray(outcome, dtype=np.float64)
    if y.shape != (n,):
        raise ValueError(f"outcome must have shape ({n},), got {y.shape}")
    seen, arm = arm_values("observed", observed, n), arm_values("treated", treated, n)
    y = np.where(seen, y, 0.0)
    if not np.isfinite(y).all():
        raise ValueError("outcome must be finite where it is observed")
    groups = np.arange(n) if cluster is None else group_codes("cluster", cluster, n)
    counts = int((seen & ~arm).sum()), int((seen & arm).sum())
    sides, clusters, flags = [], [], []
    for name, side in (("control", ~arm), ("treatment", arm)):
        held = int(np.unique(groups[side & seen]).size)
        if held < 2:
            reason = f"the {name} arm has fewer than two observed units or clusters"
            return NotEstimable("ipw", reason, *counts)
        found, notes = _arm_mean(y[side], seen[side], rows[side])
        if found is None:
            return NotEstimable("ipw", f"{notes[0]} in the {name} arm", *counts)
        flags += [f"{note} in the {name} arm" for note in notes]
        sides.append(found)
        clusters.append(int(np.unique(groups[side]).size))
    control, treatment = sides
    variances = []
    moves = np.zeros((2, n))
    for place, (found, side) in enumerate(zip(sides, (~arm, arm), strict=True)):
        moves[place, side] = found.move * math.sqrt(clusters[place] / (clusters[place] - 1.0))
    total = int(groups.max()) + 1
    sums = np.vstack([np.bincount(groups, weights=row, minlength=total) for row in moves])
    variances = np.sum(sums**2, axis=1)
    covariance = float(sums[0] @ sums[1])
    variance = float(variances.sum()) - 2.0 * covariance
    size = max(abs(control.mean), abs(treatment.mean))
    if not variance > 1e-26 * size**2:
        return NotEstimable("ipw", "the observed outcomes have no spread", *counts)
    df = welch_df(float(variances[0]), clusters[0] - 1.0, float(variances[1]), clusters[1] - 1.0)
    absolute, se = treatment.mean - control.mean, math.sqrt(variance)
    relative = relative_effect(
        control.mean,
        treatment.mean,
        variance_control=float(variances[0]),
        variance_treatment=float(variances[1]),
        covariance=covariance,
        df=df,
        level=level,
    )
    plain = [y[seen & side] for side in (~arm, arm)]
    if min(counts) < FEWEST_OBSERVED:
        flags.append(f"{min(counts)} observed units in an arm: the interval is somewhat too narrow")
    loudest = max(control.largest, treatment.largest)
    if loudest > LOUD_WEIGHT:
        flags.append(f"one observed unit stands for {loudest:.0f} of its arm: the answer hangs on few units")
    counted = clusters if cluster is not None else (None, None)
    effect = effect_of_arms(
        "ipw",
        ArmSummary.of_rows(plain[0], counted[0]),
        ArmSummary.of_rows(plain[1], counted[1]),
        absolute,
        se,
        df,
        relative,
        level=level,
        flags=tuple(flags),
    )
    return WeightedEffect(effect, control.effective_n, treatment.effective_n, loudest, tuple(flags))


def _arm_mean(
    y: FloatArray, seen: BoolArray, rows: FloatArray
) -> tuple[_ArmMean, list[str]] | tuple[None, list[str]]:
    """The weighted mean of one arm and what each of its units does to it; or why there is none."""
    n = y.size
    centred = rows - rows.mean(axis=0)
    size = np.sqrt(np.mean(centred**2, axis=0))
    largest = np.abs(rows).max(axis=0) if rows.shape[1] else np.zeros(0)
    centred = np.where(size <= 1e-13 * largest, 0.0, centred) / np.where(size > 0.0, size, 1.0)
    kept = [0] if seen.all() else _telling(centred)
    notes = [
        f"covariate number {place} dropped: it does not vary or repeats the others"
        for place in range(1, 1 + rows.shape[1])
        if place not in kept and not seen.all()
    ]
    x = np.column_stack([np.ones(n), centred])[:, kept]
    if seen.all():
        probability = np.ones(n)
    else:
        fitted = logistic(x, seen)
        if fitted is None:
            return None, ["covariates tell exactly who is missing: nobody stands for them"]
        probability = fitted
    weights = np.where(seen, 1.0 / probability, 0.0)
    total = float(weights.sum())
    centre = float(y[seen].mean())
    mean = centre + float(weights @ np.where(seen, y - centre, 0.0)) / total
    gaps = np.where(seen, y - mean, 0.0)
    move = weights * gaps
    if not seen.all():
        information = (x * (probability * (1.0 - probability))[:, None]).T @ x
        slope = -((weights * (1.0 - probability) * gaps) @ x)
        move = move + x @ np.linalg.solve(information, slope) * (seen - probability)
    return _ArmMean(
        mean, move / total, probability, total**2 / float(weights @ weights), float(weights.max())
    ), notes


def _telling(centred: FloatArray) -> list[int]:
    """Which columns, the constant being column 0, tell something new?"""
    return [0, *(1 + place for place in independent_columns(centred.T @ centred))]


def logistic(x: FloatArray, yes: BoolArray) -> FloatArray | None:
    """Which chances (n,) has a logistic regression? None where it has no top (separation).

    x: (n, p) with a constant. Newton's method with halved steps.
    """
    beta = np.zeros(x.shape[1])
    share = float(yes.mean())
    beta[0] = math.log(share / (1.0 - share)) if 0.0 < share < 1.0 else 0.0
    target = yes.astype(np.float64)

    def log_likelihood(at: FloatArray) -> float:
        score = x @ at
        return float(target @ score - np.logaddexp(0.0, score).sum())

    best = log_likelihood(beta)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -700.0, 700.0)))
        gradient = x.T @ (target - chance)
        information = (x * (chance * (1.0 - chance))[:, None]).T @ x
        ends = np.linalg.eigvalsh(information)
        if not ends[0] > 1e-13 * x.shape[0]:
            return None
        step = np.linalg.solve(information, gradient)
        if float(gradient @ step) < 1e-20 * x.shape[0]:
            return chance
        fraction = 1.0
        while fraction > 1e-6 and log_likelihood(beta + fraction * step) < best - 1e-12 * abs(best):
            fraction *= 0.5
        beta = beta + fraction * step
        best = log_likelihood(beta)
    return None
