"""Effects where whole clusters were randomised, or rows of one unit belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.contrast import independent_columns, standardised_difference
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.relative import relative_effect
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FEW_CLUSTERS = 50
FEW_CLUSTERS_PER_ARM = 20
# Below four degrees of freedom simulated sizes drift from nominal (Pustejovsky and Tipton 2018, section 5).
_SHAKY_DF = 4.0
# A leverage this close to one leaves nothing of the residual in that direction.
_FULL_LEVERAGE = 1.0 - 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """Rows sorted by cluster, columns (p) centred with the arm last, and the regression on them."""

    columns: FloatArray  # (n, p): intercept, strata, covariates, arm
    covariates: slice
    root: FloatArray  # (p, p): inverse of columns'columns = root root'
    starts: IntArray  # (G,) first row of each cluster
    coefficients: FloatArray  # (p,)
    residuals: FloatArray  # (n,)
    treated_share: float


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
    y = _finite("outcome", outcome)
    n = y.shape[0]
    arm = np.asarray(treated)
    if arm.shape != (n,) or (arm.dtype != np.bool_ and not np.isin(arm, (0, 1)).all()):
        raise ValueError(f"treated must hold {n} true or false values, got shape {arm.shape}")
    arm = arm.astype(np.bool_)
    groups = _codes("cluster", cluster, n)
    layers = None if strata is None else _codes("strata", strata, n)
    base = None if denominator is None else _finite("denominator", denominator)
    if base is not None and base.shape != (n,):
        raise ValueError(f"denominator must have shape ({n},), got {base.shape}")
    extra = np.zeros((n, 0)) if covariates is None else _finite("covariates", covariates, 2)
    if extra.shape[0] != n:
        raise ValueError(f"covariates must have {n} rows, got {extra.shape[0]}")

    n_t = int(arm.sum())
    n_c = n - n_t
    in_control = int(np.unique(groups[~arm]).size)
    in_treatment = int(np.unique(groups[arm]).size)
    total = int(groups.max()) + 1 if n else 0
    name = method
    if method == "auto":
        few = total < FEW_CLUSTERS or min(in_control, in_treatment) < FEW_CLUSTERS_PER_ARM
        name = "cr2" if few else "cr1"
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
    design, flags = _fit(values, arm, starts, extra, layers)
    if design is None:
        return NotEstimable(name, "strata or covariates determine the arm", n_c, n_t)
    spread = float(np.sum((values - values.mean()) ** 2))
    if np.sum(design.residuals**2) <= 1e-13 * spread or spread <= 1e-24 * np.sum(values**2):
        return NotEstimable(name, "the outcome has no spread that arm and covariates leave", n_c, n_t)

    notes = list(flags)
    if in_control + in_treatment > total:
        notes.append("some clusters have units in both arms")
    variances, df = _robust(design, name)
    if df is None or not variances[0] > 0.0:
        return NotEstimable(name, "too few clusters for a variance beside the strata", n_c, n_t)
    if df < _SHAKY_DF:
        notes.append(f"only {df:.1f} degrees of freedom: p-value and interval are rough")
    absolute = float(design.coefficients[-1])
    se = math.sqrt(variances[0])
    adjusted_c = float(design.coefficients[0]) - absolute * design.treated_share
    relative = relative_effect(
        adjusted_c,
        adjusted_c + absolute,
        variance_control=variances[1],
        variance_treatment=variances[2],
        covariance=variances[3],
        df=df,
        level=level,
    )
    reach = two_sided_critical(level, df) * se
    effect = Effect(
        method=name,
        n_control=n_c,
        n_treatment=n_t,
        mean_control=mean_c,
        mean_treatment=mean_t,
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(absolute / se, df),
        level=level,
        relative=relative.relative,
        relative_ci_lower=relative.lower,
        relative_ci_upper=relative.upper,
        relative_method=relative.method,
        standardised=None
        if base is not None or min(n_c, n_t) < 2
        else standardised_difference(
            absolute, float(y[~arm].var(ddof=1)), n_c, float(y[arm].var(ddof=1)), n_t
        ),
        variance_reduction=None,
        flags=tuple(notes) + relative.flags,
        clusters_control=in_control,
        clusters_treatment=in_treatment,
    )
    if extra.shape[1] == 0:
        return effect
    plain, _ = _fit(values, arm, starts, np.zeros((n, 0)), layers)
    if plain is None:
        return effect
    return replace(effect, variance_reduction=1.0 - variances[0] / _robust(plain, name)[0][0])


def _fit(
    values: FloatArray, arm: NDArray[np.bool_], starts: IntArray, extra: FloatArray, layers: IntArray | None
) -> tuple[_Design | None, tuple[str, ...]]:
    n = values.shape[0]
    share = float(arm.mean())
    blocks: list[NDArray[np.floating]] = [np.ones((n, 1))]
    dummies = 0
    if layers is not None:
        wide = (layers[:, None] == np.arange(1, int(layers.max()) + 1)[None, :]).astype(np.float64)
        blocks.append(wide - wide.mean(axis=0))
        dummies = wide.shape[1]
    # A covariate without spread would turn into rounding noise when scaled: leave it exactly zero.
    centred = extra - extra.mean(axis=0)
    size = np.sqrt(np.mean(centred**2, axis=0))
    centred = np.where(size <= 1e-13 * np.abs(extra.mean(axis=0)), 0.0, centred)
    blocks.append(centred / np.where(size > 0.0, size, 1.0))
    blocks.append((arm - share)[:, None])
    columns = np.hstack(blocks)
    kept = independent_columns(columns.T @ columns)
    last = columns.shape[1] - 1
    first_extra = 1 + dummies
    flags = tuple(
        f"covariate number {column - first_extra + 1} dropped: it does not vary or repeats the others"
        for column in range(first_extra, last)
        if column not in kept
    )
    if last not in kept:
        return None, flags
    columns = np.ascontiguousarray(columns[:, kept])
    begin = sum(column < first_extra for column in kept)
    root = np.linalg.inv(np.linalg.cholesky(columns.T @ columns)).T
    mean = float(values.mean())
    coefficients = root @ (root.T @ (columns.T @ (values - mean)))
    residuals = values - mean - columns @ coefficients
    # One step of refinement takes out what the normal equations lost to rounding.
    step = root @ (root.T @ (columns.T @ residuals))
    coefficients = coefficients + step
    residuals = residuals - columns @ step
    coefficients[0] += mean
    covariates = slice(begin, len(kept) - 1)
    return _Design(columns, covariates, root, starts, coefficients, residuals, share), flags


def _robust(design: _Design, method: str) -> tuple[tuple[float, float, float, float], float | None]:
    """Variances of effect, control and treatment value, the covariance of the two, and df of the effect."""
    n, p = design.columns.shape
    clusters = design.starts.shape[0]
    scores = np.add.reduceat(design.columns * design.residuals[:, None], design.starts, axis=0) @ design.root
    pick = np.zeros((2, p))
    pick[0, -1] = 1.0
    pick[1, 0], pick[1, -1] = 1.0, -design.treated_share
    directions = pick @ design.root  # effect, control value
    df: float | None
    if method == "cr1":
        if n <= p:
            return (0.0, 0.0, 0.0, 0.0), None
        influence = scores @ directions.T
        scale = clusters / (clusters - 1.0) * (n - 1.0) / (n - p)
        df = clusters - 1.0
    else:
        lifts, leverages = _adjustments(design)
        influence = np.einsum("gij,gj,ci->gc", lifts, scores, directions)
        scale = 1.0
        df = _satterthwaite(lifts, leverages, directions[0])
    effect, control = influence[:, 0], influence[:, 1]
    # The mean of the covariates, at which the arm values stand, varies from sample to sample.
    gamma = design.coefficients[design.covariates]
    drift = np.add.reduceat(design.columns[:, design.covariates] @ gamma, design.starts) / n
    control = control + drift
    treatment = control + effect
    return (
        scale * float(effect @ effect),
        scale * float(control @ control),
        scale * float(treatment @ treatment),
        scale * float(control @ treatment),
    ), df


def _adjustments(design: _Design) -> tuple[FloatArray, FloatArray]:
    """(I - K)^(-1/2) and K by cluster, (G, p, p), with K = root' X_g'X_g root.

    The n_g x n_g matrix (I - H_gg)^(-1/2) acts on the column space of X_g just as this p x p one does on the
    scores, so that no matrix of the size of a cluster is ever made.
    """
    rotated = design.columns @ design.root
    n = rotated.shape[0]
    ends = np.append(design.starts[1:], n)
    leverages = np.stack([rotated[a:b].T @ rotated[a:b] for a, b in zip(design.starts, ends, strict=True)])
    eigenvalues, vectors = np.linalg.eigh(leverages)
    eigenvalues = np.clip(eigenvalues, 0.0, 1.0)
    usable = eigenvalues < _FULL_LEVERAGE
    factors = np.where(usable, 1.0 / np.sqrt(np.where(usable, 1.0 - eigenvalues, 1.0)), 0.0)
    return np.einsum("gij,gj,gkj->gik", vectors, factors, vectors), leverages


def _satterthwaite(lifts: FloatArray, leverages: FloatArray, direction: FloatArray) -> float | None:
    """Degrees of freedom (sum of eigenvalues)^2 / sum of squares, for independent errors of one variance.

    The quadratic form's matrix has entries delta_gh d_g - b_g'b_h, with p-vectors b_g: its trace and norm
    need no G x G matrix.
    """
    lifted = lifts @ direction
    b = np.einsum("gij,gj->gi", leverages, lifted)
    d = np.einsum("gi,gi->g", lifted, b)
    squares = np.einsum("gi,gi->g", b, b)
    inner = b.T @ b
    trace = float(np.sum(d - squares))
    norm = float(np.sum(d * d) - 2.0 * np.sum(d * squares) + np.sum(inner * inner))
    if not (trace > 0.0 and norm > 0.0):
        return None
    return trace**2 / norm


def _finite(name: str, values: ArrayLike, dimensions: int = 1) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), got {array.ndim}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; handle missing values first")
    return array


def _codes(name: str, values: ArrayLike, n: int) -> IntArray:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    return np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(n)
