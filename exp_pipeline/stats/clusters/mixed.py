"""The effect by a linear mixed model: clusters have levels of their own, and sites effects of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import (
    arm_values,
    cluster_design,
    covariate_rows,
    finite_values,
    group_codes,
)
from exp_pipeline.stats.clusters.mixed_information import Curvature, MixedSums, curvature
from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
DfMethod = Literal["kenward-roger", "satterthwaite"]

_SHAKY_DF = 4.0
# Clusters' spread is searched up to so many times that within: an ICC of 0.999999.
_LARGEST_ROOT = 1e3


@dataclass(frozen=True, slots=True)
class MixedEffect:
    """What is the effect, and how do clusters differ in level and in effect?

    between: variance of clusters' levels (in control where effects vary too). within: variance of units of
    one cluster. effect_variance and correlation (of level and effect): None unless effects may vary by site.
    icc: between over between and within.
    """

    effect: Effect
    between: float
    within: float
    icc: float
    effect_variance: float | None
    correlation: float | None
    flags: tuple[str, ...] = ()


def mixed_difference(
    outcome: ArrayLike,
    treated: ArrayLike,
    cluster: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    effect_varies: bool = False,
    df_method: DfMethod = "kenward-roger",
    level: float = 0.95,
) -> MixedEffect | NotEstimable:
    """By how much do the arms differ, when clusters have normal levels (and with `effect_varies` effects)?

    outcome, treated (bool), cluster, strata: (n,). covariates: (n, k). REML by the profiled likelihood of
    sums by cluster (Bates and others 2015, section 3), so that cost grows with clusters and not with their
    size. "kenward-roger" (1997): standard error and degrees of freedom that know that variances are
    estimated, from expected information. "satterthwaite": unadjusted error, observed information. Where the
    variance between clusters comes out as 0 its uncertainty still counts in the first, not in the second.
    A large cluster weighs less here than by its units: where effects go with the size of clusters, this
    estimates another mean than `clustered_difference`.

    NotEstimable for an arm in one cluster, no cluster with two units, no spread within, or `effect_varies`
    where fewer than three clusters have both arms. Raises ValueError for shapes or values that do not fit.
    """
    require_level(level)
    if df_method not in ("kenward-roger", "satterthwaite"):
        raise ValueError(f"df_method must be 'kenward-roger' or 'satterthwaite', got {df_method!r}")
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("treated", treated, n)
    groups = group_codes("cluster", cluster, n)
    layers = None if strata is None else group_codes("strata", strata, n)
    extra = covariate_rows(covariates, n)
    name = "mixed-slopes" if effect_varies else "mixed"
    n_t, n_c = int(arm.sum()), int(n - arm.sum())
    in_control, in_treatment = np.unique(groups[~arm]), np.unique(groups[arm])
    for label, held in (("control", in_control), ("treatment", in_treatment)):
        if held.size < 2:
            reason = (
                f"the {label} arm is {held.size} clusters: its effect cannot be told from a cluster's own"
            )
            return NotEstimable(name, reason, n_c, n_t)
    both = np.intersect1d(in_control, in_treatment).size
    if effect_varies and both < 3:
        reason = f"{both} clusters have both arms: how effects vary between them cannot be told"
        return NotEstimable(name, reason, n_c, n_t)
    order = np.argsort(groups, kind="stable")
    groups, arm, y, extra = groups[order], arm[order], y[order], extra[order]
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    design, notes = cluster_design(arm, starts, extra, None if layers is None else layers[order])
    if design is None:
        return NotEstimable(name, "strata or covariates determine the arm", n_c, n_t)
    centre = float(y.mean())
    spread = float(y.std())
    if spread <= 1e-13 * float(np.abs(y).max()):
        return NotEstimable(name, "the outcome has no spread", n_c, n_t)
    inner = np.column_stack([np.ones(n), arm]) if effect_varies else np.ones((n, 1))
    sums = MixedSums.of(design.columns, (y - centre) / spread, inner, starts)
    if n - starts.size < 2 or n <= sums.p + 1 or starts.size <= inner.shape[1]:
        return NotEstimable(name, f"{n} units in {starts.size} clusters are too few", n_c, n_t)
    root = _fitted(sums)
    if root is None:
        return NotEstimable(name, "the design explains the outcome fully: no spread is left", n_c, n_t)
    bends = curvature(sums, root)
    if bends.within <= 1e-13 or float(np.abs(root).max()) >= 0.99 * _LARGEST_ROOT:
        return NotEstimable(name, "units of one cluster do not differ: no spread within", n_c, n_t)
    pick = np.zeros(sums.p)
    pick[-1] = 1.0
    covariance, df = _inference(bends, pick, df_method)
    if df is None or not covariance[-1, -1] > 0.0:
        return NotEstimable(name, "too few clusters for a variance", n_c, n_t)
    psi = root @ root.T * bends.within * spread**2
    within = bends.within * spread**2
    flags = list(notes)
    if psi[0, 0] <= 1e-8 * within:
        flags.append("clusters do not differ beyond chance: their variance is estimated as 0")
    if effect_varies and psi[1, 1] <= 1e-8 * within:
        flags.append("effects do not vary between clusters beyond chance: their variance is estimated as 0")
    if df < _SHAKY_DF:
        flags.append(f"only {df:.1f} degrees of freedom: p-value and interval are rough")
    absolute = float(bends.beta[-1]) * spread
    covariance = covariance * spread**2
    se = math.sqrt(float(covariance[-1, -1]))
    control = np.zeros(sums.p)
    control[0], control[-1] = 1.0, -design.treated_share
    value = float(control @ bends.beta) * spread + centre
    treatment = control + pick
    relative = relative_effect(
        value,
        value + absolute,
        variance_control=float(control @ covariance @ control),
        variance_treatment=float(treatment @ covariance @ treatment),
        covariance=float(control @ covariance @ treatment),
        df=df,
        level=level,
    )
    effect = effect_of_arms(
        name,
        ArmSummary.of_rows(y[~arm], int(in_control.size)),
        ArmSummary.of_rows(y[arm], int(in_treatment.size)),
        absolute,
        se,
        df,
        relative,
        level=level,
        flags=tuple(flags),
    )
    between = float(psi[0, 0])
    slopes = correlation = None
    if effect_varies:
        slopes = float(psi[1, 1])
        size = math.sqrt(between * slopes)
        correlation = float(psi[0, 1]) / size if size > 1e-8 * within else None
    return MixedEffect(
        effect, between, within, between / (between + within), slopes, correlation, tuple(flags)
    )


def _inference(bends: Curvature, pick: FloatArray, df_method: DfMethod) -> tuple[FloatArray, float | None]:
    """Covariance of the coefficients (p, p) and the degrees of freedom of one of them."""
    phi = bends.phi
    variance = float(pick @ phi @ pick)
    gradient = np.array([float(pick @ phi @ part @ phi @ pick) for part in bends.first])
    information = bends.expected if df_method == "kenward-roger" else bends.observed
    # A variance estimated as 0 does not move in the observed likelihood: its root stands still.
    free = np.ones(gradient.size, dtype=np.bool_)
    if df_method == "satterthwaite":
        free[1:] = bends.interior
    scale = np.sqrt(np.abs(np.diag(information)[free]))
    held = information[np.ix_(free, free)] / np.outer(scale, scale)
    ends = np.linalg.eigvalsh(held)
    if not ends[0] > 1e-12:
        return phi, None
    known = np.linalg.inv(held) / np.outer(scale, scale)
    moved = float(gradient[free] @ known @ gradient[free])
    df = 2.0 * variance**2 / moved if moved > 0.0 else None
    if df_method == "satterthwaite":
        return phi, df
    total = np.zeros_like(phi)
    for i in range(gradient.size):
        for j in range(gradient.size):
            total += known[i, j] * (bends.second[i][j] - bends.first[i] @ phi @ bends.first[j])
    return phi + 2.0 * phi @ ((total + total.T) / 2.0) @ phi, df


def _fitted(sums: MixedSums) -> FloatArray | None:
    """Where is the likelihood highest? As a root (q, q) of clusters' covariance over the variance within."""
    from scipy import optimize

    if sums.criterion(np.zeros((sums.q, sums.q))) is None:
        return None

    plain = MixedSums(sums.whole, sums.inner[:, :1, :1], sums.crossed[:, :1], sums.n)

    def of_level(size: float) -> float:
        found = plain.criterion(np.array([[size]]))
        return math.inf if found is None else found

    grid = np.concatenate([[0.0], np.geomspace(1e-3, _LARGEST_ROOT, 50)])
    values = [of_level(float(size)) for size in grid]
    best = int(np.argmin(values))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, grid.size - 1)])
    answer = optimize.minimize_scalar(
        of_level, bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    )
    size = float(answer.x)
    if of_level(0.0) <= of_level(size) + 1e-12:
        size = 0.0
    if sums.q == 1:
        return np.array([[_polished_one(of_level, size)]])

    def of_all(at: FloatArray) -> float:
        found = sums.criterion(_root(at))
        return 1e300 if found is None else found

    found = []
    for slope, tilt in ((0.3, 0.0), (1.0, 0.0), (0.5, 0.5), (0.5, -0.5)):
        start = np.array([max(size, 0.1), tilt * max(size, 0.1), slope * max(size, 0.1)])
        step = optimize.minimize(
            of_all, start, method="L-BFGS-B", bounds=((0.0, None), (None, None), (0.0, None)),
            options={"ftol": 1e-15, "gtol": 1e-9},
        )  # fmt: skip
        found.append((float(step.fun), step.x))
    start = min(found, key=lambda item: item[0])[1]
    for _ in range(3):
        step = optimize.minimize(
            of_all, start, method="Nelder-Mead", bounds=((0.0, None), (None, None), (0.0, None)),
            options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 600},
        )  # fmt: skip
        start = step.x
    return _root(np.where(np.abs(start) < 1e-6, 0.0, start))


def _polished_one(of_level: Callable[[float], float], size: float) -> float:
    """One Newton step on the criterion, whose flat top hides the last digits from a search."""
    if size < 1e-4:
        return 0.0 if size < 1e-6 else size
    h = 1e-3 * size
    values = [of_level(size + step * h) for step in (-2, -1, 0, 1, 2)]
    slope = (values[0] - 8 * values[1] + 8 * values[3] - values[4]) / (12 * h)
    bend = (-values[0] + 16 * values[1] - 30 * values[2] + 16 * values[3] - values[4]) / (12 * h * h)
    step = -slope / bend if bend > 0.0 else 0.0
    return size + step if abs(step) < 1e-3 * size else size


def _root(at: FloatArray) -> FloatArray:
    if at.size == 1:
        return np.array([[float(at[0])]])
    return np.array([[float(at[0]), 0.0], [float(at[1]), float(at[2])]])
