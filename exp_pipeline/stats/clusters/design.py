"""Least squares on an arm with strata and covariates, and how each cluster moves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.contrast import independent_columns

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Method = Literal["cr1", "cr2"]

FEW_CLUSTERS = 50
FEW_CLUSTERS_PER_ARM = 20
# A leverage this close to one leaves nothing of the residual in that direction.
_FULL_LEVERAGE = 1.0 - 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class ClusterDesign:
    """Rows sorted by cluster, columns (p) centred with the arm last.

    columns: (n, p), intercept, strata, covariates, arm. covariates: where those stand. root: (p, p), the
    inverse of columns'columns is root root'. starts: (G,), first row of each cluster.
    """

    columns: FloatArray
    covariates: slice
    root: FloatArray
    starts: IntArray
    treated_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """Least squares of one outcome on a design: coefficients (p,), the effect last, and residuals (n,)."""

    coefficients: FloatArray
    residuals: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What is done for few clusters: lifts (G, p, p) for CR2, a factor for CR1, and the effect's df."""

    lifts: FloatArray | None
    factor: float
    df: float


@dataclass(frozen=True, slots=True, eq=False)
class Influence:
    """By how much does each cluster move the effect, and the control value? (G,) each, squares add up."""

    effect: FloatArray
    control: FloatArray


def finite_values(name: str, values: ArrayLike, dimensions: int = 1) -> FloatArray:
    """Which numbers are these? Raises ValueError for another shape or a value that is not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), got {array.ndim}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; handle missing values first")
    return array


def group_codes(name: str, values: ArrayLike, n: int) -> IntArray:
    """Which group, numbered from 0, has each of n rows? Raises ValueError for another shape."""
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    return np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(n)


def arm_values(name: str, values: ArrayLike, n: int) -> BoolArray:
    """Which of n rows are treated? Raises ValueError for anything but true, false, 0 and 1."""
    arm = np.asarray(values)
    if arm.shape != (n,) or (arm.dtype != np.bool_ and not np.isin(arm, (0, 1)).all()):
        raise ValueError(f"{name} must hold {n} true or false values, got shape {arm.shape}")
    return arm.astype(np.bool_)


def covariate_rows(covariates: ArrayLike | None, n: int) -> FloatArray:
    """Which covariates, (n, k), have the rows? Raises ValueError for another number of rows."""
    extra = np.zeros((n, 0)) if covariates is None else finite_values("covariates", covariates, 2)
    if extra.shape[0] != n:
        raise ValueError(f"covariates must have {n} rows, got {extra.shape[0]}")
    return extra


def method_for(control: int, treatment: int, total: int) -> Method:
    """Which variance suits so many clusters by arm and in all? CR2 where they are few."""
    few = total < FEW_CLUSTERS or min(control, treatment) < FEW_CLUSTERS_PER_ARM
    return "cr2" if few else "cr1"


def cluster_design(
    arm: BoolArray, starts: IntArray, extra: FloatArray, layers: IntArray | None
) -> tuple[ClusterDesign | None, tuple[str, ...]]:
    """Which columns are regressed on, and what is said of those left out? None if they determine the arm."""
    n = arm.shape[0]
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
    return ClusterDesign(columns, slice(begin, len(kept) - 1), root, starts, share), flags


def regress(design: ClusterDesign, values: FloatArray) -> Regression:
    """Which line fits `values` (n,)? Rows in the order of the design."""
    columns, root = design.columns, design.root
    mean = float(values.mean())
    coefficients = root @ (root.T @ (columns.T @ (values - mean)))
    residuals = values - mean - columns @ coefficients
    # One step of refinement takes out what the normal equations lost to rounding.
    step = root @ (root.T @ (columns.T @ residuals))
    coefficients = coefficients + step
    residuals = residuals - columns @ step
    coefficients[0] += mean
    return Regression(coefficients, residuals)


def correct(design: ClusterDesign, method: Method) -> Correction | None:
    """How are variances of this design corrected for the number of clusters? None if too few are left."""
    n, p = design.columns.shape
    clusters = design.starts.shape[0]
    if method == "cr1":
        if n <= p:
            return None
        return Correction(None, clusters / (clusters - 1.0) * (n - 1.0) / (n - p), clusters - 1.0)
    lifts, leverages = _adjustments(design)
    direction = np.zeros(p)
    direction[-1] = 1.0
    df = _satterthwaite(lifts, leverages, direction @ design.root)
    return None if df is None else Correction(lifts, 1.0, df)


def influence_of(design: ClusterDesign, fit: Regression, correction: Correction) -> Influence:
    """By how much does each cluster move the effect and the control value? Their squares are variances."""
    n, p = design.columns.shape
    scores = np.add.reduceat(design.columns * fit.residuals[:, None], design.starts, axis=0) @ design.root
    pick = np.zeros((2, p))
    pick[0, -1] = 1.0
    pick[1, 0], pick[1, -1] = 1.0, -design.treated_share
    directions = pick @ design.root  # effect, control value
    if correction.lifts is None:
        moves = scores @ directions.T
    else:
        moves = np.einsum("gij,gj,ci->gc", correction.lifts, scores, directions)
    # The mean of the covariates, at which the arm values stand, varies from sample to sample.
    gamma = fit.coefficients[design.covariates]
    drift = np.add.reduceat(design.columns[:, design.covariates] @ gamma, design.starts) / n
    factor = np.sqrt(correction.factor)
    return Influence(factor * moves[:, 0], factor * (moves[:, 1] + drift))


def _adjustments(design: ClusterDesign) -> tuple[FloatArray, FloatArray]:
    """(I - K)^(-1/2) and K by cluster, (G, p, p), with K = root' X_g'X_g root.

    The n_g x n_g matrix (I - H_gg)^(-1/2) acts on the column space of X_g just as this p x p one does on the
    scores, so that no matrix of the size of a cluster is ever made.
    """
    rotated = design.columns @ design.root
    n = rotated.shape[0]
    if design.starts.shape[0] == n:
        leverages = np.einsum("gi,gj->gij", rotated, rotated)
    else:
        ends = np.append(design.starts[1:], n)
        pieces = zip(design.starts, ends, strict=True)
        leverages = np.stack([rotated[a:b].T @ rotated[a:b] for a, b in pieces])
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
