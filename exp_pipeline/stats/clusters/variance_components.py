"""Intraclass correlation by restricted maximum likelihood, with its interval, also beside covariates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.contrast import independent_columns
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
# The ratio of variances is searched up to here: an ICC of 0.999999.
_LARGEST_RATIO = 1e6


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """How do units vary between and within clusters, and how alike are units of one cluster?

    between and within are variances; `between` and `icc` may be below zero by chance: then units of one
    cluster are less alike than units of two, and a plan takes 0. ci_*: interval of the icc. explained: share
    of the total variance that the covariates take off, 0 without any. method says how the interval was made.
    """

    method: str
    icc: float
    ci_lower: float
    ci_upper: float
    level: float
    between: float
    within: float
    mean: float
    clusters: int
    n: int
    mean_size: float
    size_cv: float
    explained: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """What the likelihood needs: cross products (p + 1) of columns and outcome, and their cluster sums."""

    sizes: FloatArray  # (G,)
    products: FloatArray  # (p + 1, p + 1), outcome last
    cluster_sums: FloatArray  # (G, p + 1)
    n: int
    p: int

    def pieces(self, ratio: float) -> tuple[float, FloatArray, float]:
        """Residual sum of squares, coefficients, minus twice the profile log likelihood (but for a constant).

        Harville (1977), with V = I + ratio J in each cluster and its inverse by Sherman and Morrison.
        """
        scale = 1.0 + self.sizes * ratio
        weighted = self.cluster_sums * (ratio / scale)[:, None]
        whole = self.products - self.cluster_sums.T @ weighted
        inner, cross = whole[:-1, :-1], whole[:-1, -1]
        beta: FloatArray = np.linalg.solve(inner, cross).astype(np.float64)
        rss = max(float(whole[-1, -1] - cross @ beta), 0.0)
        df = self.n - self.p
        log_det = float(np.linalg.slogdet(inner)[1])
        criterion = df * math.log(max(rss, 1e-300) / df) + float(np.log(scale).sum()) + log_det
        return rss, beta, criterion


def variance_components(
    values: ArrayLike, cluster: ArrayLike, *, covariates: ArrayLike | None = None, level: float = 0.95
) -> VarianceComponents | NotEstimable:
    """How alike are units of one cluster? REML of a one-way random-effects model.

    values, cluster: (n,), from history. covariates: (n, k), known before the period that the values are from;
    the icc is then that of what they leave unexplained, which is what a plan with adjustment needs. The
    ratio of variances is found on its whole range, below zero too, by Brent's method on the profile
    likelihood. The interval is Searle's exact one (F distribution) for clusters of one size and no
    covariates, else by profile likelihood. Shares may be given as 0 and 1: the icc is then on the scale of
    shares, which is what the design effect of a difference of shares needs, not that of a latent scale.
    NotEstimable for fewer than two clusters, no cluster with two units, or no spread within or at all.
    Raises ValueError for shapes, values that are not finite, or a level outside (0, 1).
    """
    from scipy import optimize

    require_level(level)
    y, codes, columns = _checked(values, cluster, covariates)
    sizes: FloatArray = np.bincount(codes, minlength=0).astype(np.float64)
    n, clusters = y.size, sizes.size
    if clusters < 2 or n <= clusters:
        reason = f"{clusters} clusters of {n} units tell nothing of how alike their units are"
        return NotEstimable("icc-reml", reason, n, 0)
    raw_mean = float(y.mean())
    y = y - raw_mean
    total = float(y @ y)
    if total <= 1e-24 * n * max(1.0, raw_mean**2):
        return NotEstimable("icc-reml", "units do not differ: there is no spread", n, 0)
    spread = math.sqrt(total / (n - 1))
    y = y / spread
    own = y - (np.bincount(codes, weights=y) / sizes)[codes]
    if float(own @ own) <= 1e-20 * n:
        return NotEstimable("icc-reml", "units of one cluster do not differ: no spread within", n, 0)
    design, dropped = _design(columns, n)
    sums = _sums(y, design, codes, sizes)
    if n - clusters < sums.p or clusters <= sums.p:
        reason = f"{clusters} clusters of {n} units are too few beside {sums.p - 1} covariates"
        return NotEstimable("icc-reml", reason, n, 0)
    floor = -1.0 / float(sizes.max())

    def criterion(position: float) -> float:
        return sums.pieces(_ratio(position, floor))[2]

    grid = np.linspace(-18.0, math.log(_LARGEST_RATIO), 60)
    found = [criterion(float(position)) for position in grid]
    best = int(np.argmin(found))
    bounds = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, grid.size - 1)])
    answer = optimize.minimize_scalar(criterion, bounds=bounds, method="bounded", options={"xatol": 1e-11})
    position = float(answer.x)
    ratio = _ratio(position, floor)
    rss, _, lowest = sums.pieces(ratio)
    within = rss / (n - sums.p)
    if within <= 1e-13:
        return NotEstimable("icc-reml", "the covariates leave nothing unexplained", n, 0)
    between = ratio * within
    icc = _icc(ratio)
    plain = not sums.p > 1
    equal = plain and float(np.ptp(sizes)) == 0.0
    flags = tuple(f"covariate number {place} does not vary or repeats others: left out" for place in dropped)
    if icc < 0.0:
        flags = (*flags, "the estimate is below zero, by chance; a plan takes 0")
    if equal:
        low, high = searle_interval(_f_ratio(y, codes, sizes), clusters, int(sizes[0]), level=level)
    else:
        low, high = _profile(criterion, position, lowest, floor, level)
    explained = 0.0
    if not plain:
        alone = _sums(y, np.ones((n, 1)), codes, sizes)
        unadjusted = variance_components(y, codes, level=level)
        if isinstance(unadjusted, VarianceComponents):
            before = unadjusted.within + max(unadjusted.between, 0.0)
            explained = 1.0 - (within + max(between, 0.0)) / before
        else:
            explained = 1.0 - within / (float(alone.products[-1, -1]) / (n - 1))
    return VarianceComponents(
        method="icc-reml-searle" if equal else "icc-reml-profile",
        icc=icc,
        ci_lower=low,
        ci_upper=high,
        level=level,
        between=between * spread**2,
        within=within * spread**2,
        mean=raw_mean,
        clusters=clusters,
        n=n,
        mean_size=n / clusters,
        size_cv=float(sizes.std(ddof=1) / sizes.mean()),
        explained=explained,
        flags=flags,
    )


def searle_interval(f_ratio: float, clusters: int, size: int, *, level: float = 0.95) -> tuple[float, float]:
    """Between which bounds does the ICC of equal clusters lie? Exact for normal values (Searle 1971).

    f_ratio: between over within mean square of a one-way analysis of variance.
    """
    from scipy import special

    df_between, df_within = clusters - 1, clusters * (size - 1)
    bounds = []
    for p in (0.5 + 0.5 * level, 0.5 - 0.5 * level):
        quantile = float(special.fdtri(df_between, df_within, p))
        scaled = f_ratio / quantile
        bounds.append((scaled - 1.0) / (scaled + size - 1.0))
    return bounds[0], bounds[1]


def _ratio(position: float, floor: float) -> float:
    """The search runs over the log of the ratio's distance from the lowest value it can have."""
    return floor + math.exp(position)


def _icc(ratio: float) -> float:
    return ratio / (1.0 + ratio)


def _f_ratio(y: FloatArray, codes: NDArray[np.int64], sizes: FloatArray) -> float:
    means = np.bincount(codes, weights=y) / sizes
    between = float(np.sum(sizes * (means - y.mean()) ** 2)) / (sizes.size - 1)
    within = float(np.sum((y - means[codes]) ** 2)) / (y.size - sizes.size)
    return between / within


def _profile(
    criterion: Callable[[float], float], position: float, lowest: float, floor: float, level: float
) -> tuple[float, float]:
    """Where the profile likelihood falls by half a chi-square quantile on either side of its top."""
    from scipy import optimize, special

    allowed = float(special.chdtri(1, 1.0 - level))

    def excess(at: float) -> float:
        return criterion(at) - lowest - allowed

    ends = []
    for edge in (-30.0, math.log(_LARGEST_RATIO)):
        step, inside, outside = (-0.25 if edge < position else 0.25), position, position
        while excess(outside) < 0.0 and (outside > edge if step < 0 else outside < edge):
            inside, outside = outside, outside + step
            step *= 1.5
        if excess(outside) < 0.0:
            ends.append(edge)
            continue
        ends.append(float(optimize.brentq(excess, inside, outside, xtol=1e-10)))
    return _icc(_ratio(ends[0], floor)), _icc(_ratio(ends[1], floor))


def _checked(
    values: ArrayLike, cluster: ArrayLike, covariates: ArrayLike | None
) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    y = np.asarray(values, dtype=np.float64)
    labels = np.asarray(cluster)
    if y.ndim != 1 or labels.shape != y.shape:
        raise ValueError(
            f"values and cluster must be one-dimensional and of one length, got {y.shape} and {labels.shape}"
        )
    if not np.isfinite(y).all():
        raise ValueError("values must be finite; handle missing values first")
    columns = np.zeros((y.size, 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    if columns.ndim != 2 or columns.shape[0] != y.size:
        raise ValueError(f"covariates must have shape ({y.size}, k), got {columns.shape}")
    if not np.isfinite(columns).all():
        raise ValueError("covariates must be finite; see adjustment.fill_missing")
    codes = np.unique(labels, return_inverse=True)[1].astype(np.int64).reshape(y.shape)
    return y, codes, columns


def _design(columns: FloatArray, n: int) -> tuple[FloatArray, tuple[int, ...]]:
    """Intercept and scaled covariates; and the places (from 1) of those that tell nothing new."""
    if columns.shape[1] == 0:
        return np.ones((n, 1)), ()
    centred = columns - columns.mean(axis=0)
    products = centred.T @ centred
    kept = independent_columns(products)
    scaled = centred[:, kept] / np.sqrt(np.diag(products)[kept]) * math.sqrt(n)
    dropped = tuple(place + 1 for place in range(columns.shape[1]) if place not in set(kept))
    return np.column_stack([np.ones(n), scaled]), dropped


def _sums(y: FloatArray, design: FloatArray, codes: NDArray[np.int64], sizes: FloatArray) -> _Sums:
    both = np.column_stack([design, y])
    by_cluster: FloatArray = np.column_stack(
        [np.bincount(codes, weights=both[:, place], minlength=sizes.size) for place in range(both.shape[1])]
    ).astype(np.float64)
    return _Sums(sizes, both.T @ both, by_cluster, y.size, design.shape[1])
