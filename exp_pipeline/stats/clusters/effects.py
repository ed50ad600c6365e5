"""Effects where whole clusters were randomised, or rows of one unit belong together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.clusters.design import (
    FEW_CLUSTERS,
    FEW_CLUSTERS_PER_ARM,
    Method,
    arm_values,
    cluster_design,
    correct,
    covariate_rows,
    finite_values,
    group_codes,
    influence_of,
    method_for,
    regress,
)
from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.effects.skew import unseen
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

__all__ = ["FEW_CLUSTERS", "FEW_CLUSTERS_PER_ARM", "clustered_difference"]

# Below four degrees of freedom simulated sizes drift from nominal (Pustejovsky and Tipton 2018, section 5).
SHAKY_DF = 4.0


def clustered_difference(
    outcome: ArrayLike,
    treated: ArrayLike,
    cluster: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    denominator: ArrayLike | None = None,
    method: Literal["auto", "cr1", "cr2"] = "auto",
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do the arms differ, when units of one cluster are alike?

    outcome, treated (bool), cluster (whole numbers), strata (whole numbers), denominator: (n,), one row a
    unit of analysis. covariates: (n, k), measured before assignment, without gaps (see
    `adjustment.fill_missing`). Least squares of outcome on arm, covariates and one constant a stratum; with
    `denominator`, of the ratio linearised by row (delta method). All rows weigh alike, so the effect is that
    on the average unit.

    "cr2" is the bias-reduced variance of Bell and McCaffrey (2002) with Satterthwaite degrees of freedom as
    in Pustejovsky and Tipton (2018), working model of independent errors. "cr1" is Liang and Zeger's with
    the factor G/(G-1) x (n-1)/(n-p) (Cameron and Miller 2015, section II.B) and a t with G - 1 degrees of
    freedom. "auto" takes cr2 below 50 clusters, or 20 in an arm, and cr1 otherwise. Both use sums by cluster
    only: cost grows with n p + G p^3.

    NotEstimable for an empty arm, an arm in one cluster only, an arm that strata or covariates determine, or
    no spread. Raises ValueError for shapes that do not fit, values that are not finite, an unknown method.
    """
    require_level(level)
    if method not in ("auto", "cr1", "cr2"):
        raise ValueError(f"method must be 'auto', 'cr1' or 'cr2', got {method!r}")
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("treated", treated, n)
    groups = group_codes("cluster", cluster, n)
    layers = None if strata is None else group_codes("strata", strata, n)
    base = None if denominator is None else finite_values("denominator", denominator)
    if base is not None and base.shape != (n,):
        raise ValueError(f"denominator must have shape ({n},), got {base.shape}")
    extra = covariate_rows(covariates, n)

    n_t = int(arm.sum())
    n_c = n - n_t
    in_control = int(np.unique(groups[~arm]).size)
    in_treatment = int(np.unique(groups[arm]).size)
    total = int(groups.max()) + 1 if n else 0
    name: Method = method_for(in_control, in_treatment, total) if method == "auto" else method
    for label, count, clusters in (("control", n_c, in_control), ("treatment", n_t, in_treatment)):
        if count == 0:
            return NotEstimable(name, f"the {label} arm is empty", n_c, n_t)
        if clusters == 1:
            reason = f"the {label} arm is one cluster: its effect cannot be told from the cluster's own"
            return NotEstimable(name, reason, n_c, n_t)

    order = np.argsort(groups, kind="stable")
    groups, arm, y, extra = groups[order], arm[order], y[order], extra[order]
    layers = None if layers is None else layers[order]
    values, mean_c, mean_t = y, float(y[~arm].mean()), float(y[arm].mean())
    if base is not None:
        base = base[order]
        if base[~arm].sum() == 0.0 or base[arm].sum() == 0.0:
            return NotEstimable(name, "the denominator is zero in an arm", n_c, n_t)
        values = np.empty(n)
        for side in (~arm, arm):
            ratio = y[side].sum() / base[side].sum()
            values[side] = ratio + (y[side] - ratio * base[side]) / base[side].mean()
        mean_c, mean_t = float(values[~arm].mean()), float(values[arm].mean())

    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    design, flags = cluster_design(arm, starts, extra, layers)
    if design is None:
        return NotEstimable(name, "strata or covariates determine the arm", n_c, n_t)
    fit = regress(design, values)
    spread = float(np.sum((values - values.mean()) ** 2))
    if np.sum(fit.residuals**2) <= 1e-13 * spread or spread <= 1e-24 * np.sum(values**2):
        return NotEstimable(name, "the outcome has no spread that arm and covariates leave", n_c, n_t)

    notes = list(flags)
    if in_control + in_treatment > total:
        notes.append("some clusters have units in both arms")
    correction = correct(design, name)
    moves = None if correction is None else influence_of(design, fit, correction)
    variance = 0.0 if moves is None else float(moves.effect @ moves.effect)
    if correction is None or moves is None or not variance > 0.0:
        return NotEstimable(name, "too few clusters for a variance beside the strata", n_c, n_t)
    df = correction.df
    if df < SHAKY_DF:
        notes.append(f"only {df:.1f} degrees of freedom: p-value and interval are rough")
    notes += unseen(in_control, in_treatment)
    absolute = float(fit.coefficients[-1])
    se = math.sqrt(variance)
    moves_t = moves.control + moves.effect
    adjusted_c = float(fit.coefficients[0]) - absolute * design.treated_share
    relative = relative_effect(
        adjusted_c,
        adjusted_c + absolute,
        variance_control=float(moves.control @ moves.control),
        variance_treatment=float(moves_t @ moves_t),
        covariance=float(moves.control @ moves_t),
        df=df,
        level=level,
    )
    spreads: list[float | None] = [None, None]
    if base is None and min(n_c, n_t) >= 2:
        spreads = [float(y[~arm].var(ddof=1)), float(y[arm].var(ddof=1))]
    effect = effect_of_arms(
        name,
        ArmSummary(n_c, mean_c, spreads[0], in_control),
        ArmSummary(n_t, mean_t, spreads[1], in_treatment),
        absolute,
        se,
        df,
        relative,
        level=level,
        flags=tuple(notes),
    )
    if extra.shape[1] == 0:
        return effect
    plain, _ = cluster_design(arm, starts, np.zeros((n, 0)), layers)
    simpler = None if plain is None else correct(plain, name)
    if plain is None or simpler is None:
        return effect
    unadjusted = influence_of(plain, regress(plain, values), simpler).effect
    return replace(effect, variance_reduction=1.0 - variance / float(unadjusted @ unadjusted))
