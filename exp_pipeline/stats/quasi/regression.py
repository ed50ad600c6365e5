"""Least squares with several coefficients, their covariance by cluster, and its degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.clusters.design import Method
from exp_pipeline.stats.effects.contrast import independent_columns

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FULL_LEVERAGE = 1.0 - 1e-10
# More directions at once than this make the tables of `joint_degrees` large.
_LARGEST_TABLE = 1500


@dataclass(frozen=True, slots=True, eq=False)
class ClusteredFit:
    """Least squares of one outcome: which columns were kept, and how each cluster moves the coefficients.

    kept: numbers of the p columns that are not sums of those before. coefficients: (p,). root: (p, p) with
    root root' the inverse of columns'columns. scores: (G, p), rotated by root. leverages, lifts: (G, p, p)
    for CR2, None for CR1, whose `factor` is put on the covariance. residual_share: what is left of the
    outcome's squares.
    """

    kept: tuple[int, ...]
    coefficients: FloatArray
    residuals: FloatArray
    root: FloatArray
    scores: FloatArray
    leverages: FloatArray | None
    lifts: FloatArray | None
    factor: float
    clusters: int
    residual_share: float


def clustered_fit(
    columns: FloatArray, values: FloatArray, groups: IntArray, method: Method, *, absorbed: int = 0
) -> ClusteredFit | None:
    """Which coefficients fit values (n,) on columns (n, p), rows by cluster 0..G-1? None with nothing left.

    Constants nested in clusters may have been taken out of both before: CR2 is then the same as with them
    (Pustejovsky and Tipton 2018, theorem 2, for independent working errors). CR1 has the factor
    G/(G-1) x (n-1)/(n-p-absorbed).
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.sqrt(np.mean(columns**2, axis=0))
    scaled = columns[order] / np.where(sizes > 0.0, sizes, 1.0)
    y = values[order]
    kept = tuple(independent_columns(scaled.T @ scaled))
    if not kept:
        return None
    scaled, sizes = np.ascontiguousarray(scaled[:, list(kept)]), sizes[list(kept)]
    n, p = scaled.shape
    clusters = int(groups.max()) + 1
    if n <= p + absorbed or clusters < 2:
        return None
    root = np.linalg.inv(np.linalg.cholesky(scaled.T @ scaled)).T
    coefficients = root @ (root.T @ (scaled.T @ y))
    residuals = y - scaled @ coefficients
    for _ in range(2):  # What the normal equations lost to rounding.
        step = root @ (root.T @ (scaled.T @ residuals))
        coefficients, residuals = coefficients + step, residuals - scaled @ step
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    rotated = scaled @ root
    scores = np.add.reduceat(rotated * residuals[:, None], starts, axis=0)
    leverages = lifts = None
    factor = clusters / (clusters - 1.0) * (n - 1.0) / (n - p - absorbed)
    if method == "cr2":
        ends = np.append(starts[1:], n)
        leverages = np.stack([rotated[a:b].T @ rotated[a:b] for a, b in zip(starts, ends, strict=True)])
        eigenvalues, vectors = np.linalg.eigh(leverages)
        usable = eigenvalues < _FULL_LEVERAGE
        powers = np.where(usable, 1.0 / np.sqrt(np.where(usable, 1.0 - eigenvalues, 1.0)), 0.0)
        lifts = (vectors * powers[:, None, :]) @ vectors.transpose(0, 2, 1)
        factor = 1.0
    total = float(y @ y)
    share = float(residuals @ residuals) / total if total > 0.0 else 0.0
    back = np.empty(n)
    back[order] = residuals
    return ClusteredFit(
        kept=kept,
        coefficients=coefficients / sizes,
        residuals=back,
        root=root / sizes[:, None],
        scores=scores,
        leverages=leverages,
        lifts=lifts,
        factor=factor,
        clusters=clusters,
        residual_share=share,
    )


def influence(fit: ClusteredFit, contrasts: FloatArray) -> FloatArray:
    """By how much does each cluster move q sums of coefficients, contrasts (q, p)? (G, q), squares add up."""
    directions = contrasts @ fit.root
    if fit.lifts is None:
        return np.asarray(np.sqrt(fit.factor) * (fit.scores @ directions.T))
    return np.asarray(np.einsum("gij,gj,qi->gq", fit.lifts, fit.scores, directions, optimize=True))


def degrees(fit: ClusteredFit, contrasts: FloatArray) -> FloatArray:
    """How many degrees of freedom has each variance, (q,)? G - 1 for CR1, else Satterthwaite's; 0 if none."""
    if fit.lifts is None or fit.leverages is None:
        return np.full(contrasts.shape[0], fit.clusters - 1.0)
    found = np.zeros(contrasts.shape[0])
    for row, direction in enumerate(contrasts @ fit.root):
        lifted = fit.lifts @ direction
        b = np.einsum("gij,gj->gi", fit.leverages, lifted)
        own = np.einsum("gi,gi->g", lifted, b)
        squares = np.einsum("gi,gi->g", b, b)
        trace = float(np.sum(own - squares))
        norm = float(np.sum(own * own) - 2.0 * np.sum(own * squares) + np.sum((b.T @ b) ** 2))
        if trace > 0.0 and norm > 0.0:
            found[row] = trace**2 / norm
    return found


def joint_degrees(fit: ClusteredFit, contrasts: FloatArray) -> float:
    """How many degrees of freedom has the covariance of q sums together? 0 where that cannot be told.

    G - 1 for CR1; for CR2 eta of "HTZ" (Tipton and Pustejovsky 2015), matched to
    the total variance of the covariance estimate under independent errors.
    """
    if fit.lifts is None or fit.leverages is None:
        return fit.clusters - 1.0
    q = contrasts.shape[0]
    plain = contrasts @ fit.root
    if q * plain.shape[1] > _LARGEST_TABLE:
        return float(degrees(fit, contrasts).min())
    values, vectors = np.linalg.eigh(plain @ plain.T)
    if values[0] <= 1e-12 * values[-1]:
        return 0.0
    directions = (vectors / np.sqrt(values)).T @ plain
    lifted = np.einsum("gij,qj->gqi", fit.lifts, directions)
    b = np.einsum("gij,gqj->gqi", fit.leverages, lifted)
    own = np.einsum("gsi,gti->gst", lifted, b)
    squares = np.einsum("gsi,gti->gst", b, b)
    flat = b.reshape(b.shape[0], -1)
    crossed = flat.T @ flat
    table = crossed.reshape(q, plain.shape[1], q, plain.shape[1])
    trace_own, trace_squares = np.einsum("gss->g", own), np.einsum("gss->g", squares)
    first = float(np.sum(trace_own**2 - 2.0 * trace_own * trace_squares) + np.sum(crossed**2))
    second = float(np.sum(own * own) - 2.0 * np.sum(own * squares))
    second += float(np.einsum("sctd,tcsd->", table, table))
    total = first + second
    return q * (q + 1.0) / total if total > 0.0 else 0.0


def demeaned(values: FloatArray, codes: IntArray) -> FloatArray:
    """What is left of values (n,) or (n, k) without the mean of each of the groups 0..U-1?"""
    wide = values.reshape(values.shape[0], -1)
    units = int(codes.max()) + 1
    counts = np.bincount(codes, minlength=units)
    out = wide
    for _ in range(2):  # The second pass takes out what rounding of large means left.
        means = np.column_stack(
            [np.bincount(codes, weights=column, minlength=units) / counts for column in out.T]
        )
        out = out - means[codes]
    return out.reshape(values.shape)
