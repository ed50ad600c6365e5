"""How likely was each unit to be treated, given what was known before, and who resembles whom?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows
from exp_pipeline.stats.effects.contrast import independent_columns
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Estimand = Literal["ate", "att", "overlap"]

DESIGN = "propensity score"
UNCONFOUNDED = (
    "whatever moved both treatment and the outcome is among the covariates (no unmeasured confounding)",
    "covariates were measured before treatment",
    "every kind of unit could have been treated and could have been left untreated (overlap)",
    "one unit's treatment left the others alone (no interference)",
)
SCORE_MODEL = "the logit of treatment is a straight line in the covariates as given"
_STEPS = 60
# Newton's last step is of the order of the square of the one before.
_CONVERGED = 1e-8
# A log-odds this far out is a unit whose treatment the covariates all but decide.
_DECIDED = 25.0


@dataclass(frozen=True, slots=True, eq=False)
class Propensity:
    """How likely was each unit to be treated?

    scores: (n,) strictly between 0 and 1. columns: (n, p), a constant and the kept covariates in standard
    units; coefficients (p,) on them. moves: (n, p), by how much each unit moves the coefficients.
    """

    scores: FloatArray
    logits: FloatArray
    columns: FloatArray
    coefficients: FloatArray
    moves: FloatArray
    ridge: float
    flags: tuple[str, ...]


def propensity_scores(
    treated: ArrayLike, covariates: ArrayLike, *, ridge: float = 0.0
) -> Propensity | NotEstimable:
    """How likely was each unit to be treated, by logistic regression on its covariates?

    treated (bool): (n,), covariates: (n, k), without gaps; add squares or products as further columns.
    Newton steps (iteratively reweighted least squares) to the maximum of the likelihood less ridge/2 x the
    squares of the slopes of covariates in standard units.

    NotEstimable for an empty arm, covariates that do not vary, separation (covariates decide treatment, so
    slopes have no end) and, with ridge, scores of the arms that do not overlap. Raises ValueError for shapes
    or values that do not fit.
    """
    if not (np.isfinite(ridge) and ridge >= 0.0):
        raise ValueError(f"ridge must be a finite number from 0 up, got {ridge!r}")
    arm = np.asarray(treated)
    n = arm.shape[0] if arm.ndim == 1 else 0
    arm = arm_values("treated", treated, n)
    extra = covariate_rows(covariates, n)
    counts = int(n - arm.sum()), int(arm.sum())
    if min(counts) == 0:
        return NotEstimable(
            DESIGN, f"the {'control' if counts[0] == 0 else 'treated'} group is empty", *counts
        )
    columns, flags = standard_columns(extra)
    p = columns.shape[1]
    if p == 1:
        return NotEstimable(DESIGN, "no covariate varies: there is nothing to weigh by", *counts)
    if n <= p:
        return NotEstimable(DESIGN, f"{n} units are too few for {p - 1} covariates", *counts)
    penalty = np.diag(np.append(0.0, np.full(p - 1, ridge)))
    coefficients = _newton(columns, arm.astype(np.float64), penalty)
    separated = "covariates separate the groups: some kinds of units were always or never treated"
    if coefficients is None:
        return NotEstimable(DESIGN, separated, *counts)
    logits = columns @ coefficients
    scores = _logistic(logits)
    if float(np.max(np.abs(logits))) > _DECIDED and ridge == 0.0:
        return NotEstimable(DESIGN, separated, *counts)
    if logits[arm].min() > logits[~arm].max() or logits[arm].max() < logits[~arm].min():
        return NotEstimable(DESIGN, "no overlap: the scores of the two groups have no common range", *counts)
    information = (columns * (scores * (1.0 - scores))[:, None]).T @ columns + penalty
    moves = np.asarray(
        np.linalg.solve(information, (columns * (arm - scores)[:, None]).T).T, dtype=np.float64
    )
    outside = int(np.sum(logits[arm] > logits[~arm].max()) + np.sum(logits[~arm] < logits[arm].min()))
    if outside:
        flags += (f"{outside} units have scores beyond all of the other group: they have no like there",)
    return Propensity(scores, logits, columns, coefficients, moves, float(ridge), flags)


def standard_columns(extra: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """Which columns, a constant and covariates in standard units, remain of these, and what of the others?"""
    n = extra.shape[0]
    centred = extra - extra.mean(axis=0)
    centred = centred - centred.mean(axis=0)
    size = np.sqrt(np.mean(centred**2, axis=0))
    varies = size > 1e-13 * np.abs(extra).max(axis=0, initial=0.0)
    scaled = np.where(varies, centred / np.where(varies, size, 1.0), 0.0)
    kept = independent_columns(scaled.T @ scaled)
    flags = tuple(
        f"covariate number {j + 1} dropped: it does not vary or repeats the others"
        for j in range(extra.shape[1])
        if j not in kept
    )
    return np.column_stack([np.ones(n), scaled[:, kept]]), flags


def _logistic(logits: FloatArray) -> FloatArray:
    from scipy import special

    return np.asarray(special.expit(logits), dtype=np.float64)


def _newton(columns: FloatArray, arm: FloatArray, penalty: FloatArray) -> FloatArray | None:
    """The penalised maximum; None where it is not reached, as with separation."""

    def objective(at: FloatArray) -> float:
        logits = columns @ at
        return float(np.sum(np.logaddexp(0.0, logits) - arm * logits) + 0.5 * at @ penalty @ at)

    share = float(arm.mean())
    found = np.zeros(columns.shape[1])
    found[0] = np.log(share / (1.0 - share))
    value = objective(found)
    for _ in range(_STEPS):
        scores = _logistic(columns @ found)
        slope = columns.T @ (arm - scores) - penalty @ found
        bend = (columns * (scores * (1.0 - scores))[:, None]).T @ columns + penalty
        if np.linalg.cond(bend) > 1e14:
            return None
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while objective(found + size * step) > value + 1e-12 * abs(value) and size > 1e-4:
            size *= 0.5
        found = found + size * step
        value = objective(found)
        if float(np.max(np.abs(step))) < _CONVERGED:
            return found
    return None
