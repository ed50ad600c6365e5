"""Effects in several cells at once (segments, periods) and how they vary together, by cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows, finite_values, group_codes
from exp_pipeline.stats.effects.contrast import independent_columns
from exp_pipeline.stats.reference import SMALLEST_P, require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
_CLUSTERS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class JointEffects:
    """What did treatment change in each of K cells, and how do the K estimates vary together?

    effects: (K,) treatment minus control. covariance: (K, K), CR2 by cluster. n_*, clusters_*: (K,).
    mean_*: (K,) unadjusted. left_out: cells without an effect, each with its reason. pulls: (G, 2K), which
    share of a cell's control (first K) and treatment (last K) rows each cluster has: what degrees of freedom
    need.
    """

    names: tuple[str, ...]
    effects: FloatArray
    covariance: FloatArray
    n_control: NDArray[np.int64]
    n_treatment: NDArray[np.int64]
    clusters_control: NDArray[np.int64]
    clusters_treatment: NDArray[np.int64]
    mean_control: FloatArray
    mean_treatment: FloatArray
    clusters: int
    left_out: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    pulls: FloatArray


@dataclass(frozen=True, slots=True)
class ContrastOfCells:
    """What is one sum of the cells' effects, with Satterthwaite degrees of freedom?"""

    estimate: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float


@dataclass(frozen=True, slots=True)
class JointTest:
    """Are several sums of the cells' effects all zero? `wald` before, `f` after the correction."""

    wald: float
    f: float
    df_numerator: int
    df_denominator: float
    p_value: float


def joint_effects(
    outcome: ArrayLike,
    treated: ArrayLike,
    cell: ArrayLike,
    cluster: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    denominator: ArrayLike | None = None,
) -> JointEffects | NotEstimable:
    """By how much do the arms differ in each cell, when a cluster may have rows in several cells?

    outcome, treated (bool), cell (segment or period), cluster: (n,), one row a unit and cell. Least squares
    on cells and cells by arm, variance CR2 (Bell and McCaffrey 2002): in this design a cluster's leverage
    is diagonal in the cells and arms, so that cost grows with rows, not with their squares, at any number of
    clusters. With `denominator` the ratio of sums, linearised by cell and arm. covariates: (n, k), measured
    before assignment, one slope each in all cells and arms; slopes are then taken as known.

    A cell with an arm of fewer than two clusters is left out with a reason. NotEstimable where fewer than two
    cells are left. Raises ValueError for shapes or values that do not fit.
    """
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("treated", treated, n)
    labels = np.asarray(cell)
    codes = group_codes("cell", labels, n)
    groups = group_codes("cluster", cluster, n)
    extra = covariate_rows(covariates, n)
    base = None if denominator is None else finite_values("denominator", denominator)
    if base is not None and base.shape != (n,):
        raise ValueError(f"denominator must have shape ({n},), got {base.shape}")
    found = np.unique(labels)
    cells, total = found.size, int(groups.max()) + 1 if n else 0
    slot = codes + cells * arm
    pairs = np.unique(slot * max(total, 1) + groups)
    held = np.bincount(pairs // max(total, 1), minlength=2 * cells)
    bases = np.ones(2 * cells) if base is None else np.bincount(slot, weights=base, minlength=2 * cells)
    kept, left = [], []
    for place in range(cells):
        reason = None
        for name, side in (("control", place), ("treatment", cells + place)):
            if held[side] < 2:
                reason = f"the {name} arm has {held[side]} clusters here; a spread needs at least two"
            elif bases[side] == 0.0:
                reason = f"the denominator is zero in the {name} arm"
        if reason is None:
            kept.append(place)
        else:
            left.append((str(found[place]), reason))
    n_c, n_t = int(n - arm.sum()), int(arm.sum())
    if len(kept) < 2:
        reason = f"{len(kept)} cells have two clusters in each arm; comparing effects needs two cells"
        return NotEstimable("cells-cr2", reason, n_c, n_t)
    use = np.isin(codes, kept)
    renamed = np.full(cells, -1)
    renamed[kept] = np.arange(len(kept))
    k = len(kept)
    slot = renamed[codes[use]] + k * arm[use]
    groups = np.unique(groups[use], return_inverse=True)[1].astype(np.int64).reshape(-1)
    clusters = int(groups.max()) + 1
    values = y[use]
    count = np.bincount(slot, minlength=2 * k).astype(np.float64)
    if base is not None:
        scale = np.bincount(slot, weights=base[use], minlength=2 * k)
        ratio = np.bincount(slot, weights=values, minlength=2 * k) / scale
        values = ratio[slot] + (values - ratio[slot] * base[use]) * (count / scale)[slot]
    raw = _means(values, slot, count)
    residual, flags, shift = _without_covariates(values, extra[use], slot, count)
    means = raw - shift
    own = residual - _means(residual, slot, count)[slot]
    spread = float(np.sum((values - raw[slot]) ** 2))
    tiny = 1e-26 * float(np.sum(values**2))
    if spread <= tiny or float(np.sum(own**2)) <= max(1e-13 * spread, tiny):
        return NotEstimable("cells-cr2", "the outcome has no spread within cells and arms", n_c, n_t)
    joined = groups * (2 * k) + slot
    moved = np.bincount(joined, weights=own, minlength=clusters * 2 * k).reshape(clusters, 2 * k) / count
    pulls: FloatArray = (
        np.bincount(joined, minlength=clusters * 2 * k).reshape(clusters, 2 * k) / count
    ).astype(np.float64)
    lifted = moved / np.sqrt(1.0 - pulls)
    influence = lifted[:, k:] - lifted[:, :k]
    held = np.count_nonzero(pulls, axis=0)
    return JointEffects(
        names=tuple(str(found[place]) for place in kept),
        effects=means[k:] - means[:k],
        covariance=influence.T @ influence,
        n_control=count[:k].astype(np.int64),
        n_treatment=count[k:].astype(np.int64),
        clusters_control=held[:k],
        clusters_treatment=held[k:],
        mean_control=raw[:k],
        mean_treatment=raw[k:],
        clusters=clusters,
        left_out=tuple(left),
        flags=flags,
        pulls=pulls,
    )


def contrast_of_cells(
    joint: JointEffects, weights: ArrayLike, *, level: float = 0.95
) -> ContrastOfCells | NotEstimable:
    """What is the sum of the cells' effects with these weights (K,), such as late minus early?

    Satterthwaite degrees of freedom for the contrast (Pustejovsky and Tipton 2018). NotEstimable without
    spread. Raises ValueError for weights that are all zero or of another shape.
    """
    require_level(level)
    c = _weights(joint, weights)[0]
    estimate = float(c @ joint.effects)
    variance = float(c @ joint.covariance @ c)
    counts = int(joint.n_control.sum()), int(joint.n_treatment.sum())
    df = _degrees(joint, c[None, :])
    if not variance > 0.0 or df is None:
        return NotEstimable("contrast of cells", "too few clusters for a variance", *counts)
    se = math.sqrt(variance)
    reach = two_sided_critical(level, df) * se
    return ContrastOfCells(
        estimate, se, df, estimate - reach, estimate + reach, two_sided_p(estimate / se, df), level
    )


def joint_test(joint: JointEffects, contrasts: ArrayLike) -> JointTest | NotEstimable:
    """Are these q sums of effects, contrasts (q, K), all zero?

    Wald statistic with the Hotelling approximation "HTZ" of Tipton and Pustejovsky (2015): F with q and
    eta - q + 1 degrees of freedom, eta matched to the total variance of the covariance estimate under
    independent errors. NotEstimable where clusters are too few for it, or contrasts repeat one another.
    """
    from scipy import special

    wanted = _weights(joint, contrasts)
    q = wanted.shape[0]
    counts = int(joint.n_control.sum()), int(joint.n_treatment.sum())
    inner = wanted @ joint.covariance @ wanted.T
    eta = _degrees(joint, wanted)
    values = np.linalg.eigvalsh(inner)
    if eta is None or eta - q + 1.0 <= 0.0 or values[0] <= 1e-12 * values[-1]:
        return NotEstimable("wald-htz", f"too few clusters to test {q} differences at once", *counts)
    gap = wanted @ joint.effects
    wald = float(gap @ np.linalg.solve(inner, gap))
    df = eta - q + 1.0
    f = df / (eta * q) * wald
    return JointTest(wald, f, q, df, max(float(special.fdtrc(q, df, f)), SMALLEST_P))


def differences(k: int) -> FloatArray:
    """Which contrasts say that k effects are one? (k - 1, k), each against the last."""
    return np.hstack([np.eye(k - 1), -np.ones((k - 1, 1))])


def _weights(joint: JointEffects, weights: ArrayLike) -> FloatArray:
    rows = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    k = len(joint.names)
    if rows.ndim != 2 or rows.shape[1] != k or not np.isfinite(rows).all():
        raise ValueError(f"weights must be finite with {k} columns, one a cell, got shape {rows.shape}")
    if not np.abs(rows).sum(axis=1).all():
        raise ValueError("weights of a contrast must not all be zero")
    return rows


def _degrees(joint: JointEffects, wanted: FloatArray) -> float | None:
    """eta of HTZ; with one contrast Satterthwaite's degrees of freedom.

    In cells scaled by the root of their size, what cluster g does in contrast s is p_sg, and
    p_sg'p_th = delta_gh U_st,g - b_sg'b_th with U diagonal sums and b = pull lift direction.
    """
    q, k = wanted.shape
    sizes = np.concatenate([joint.n_control, joint.n_treatment]).astype(np.float64)
    scaled = np.hstack([-wanted, wanted])
    working = (scaled / sizes) @ scaled.T
    values, vectors = np.linalg.eigh(working)
    if values[0] <= 1e-12 * values[-1]:
        return None
    directions = (vectors / np.sqrt(values)).T @ (scaled / np.sqrt(sizes))  # (q, 2K)
    first = second = 0.0
    crossed = np.zeros((q * 2 * k, q * 2 * k))
    for start in range(0, joint.clusters, _CLUSTERS_AT_ONCE):
        pulls = joint.pulls[start : start + _CLUSTERS_AT_ONCE]
        lift = 1.0 / np.sqrt(1.0 - pulls)
        b = (pulls * lift)[:, None, :] * directions[None, :, :]  # (g, q, 2K)
        u = np.einsum("gc,sc,tc->gst", pulls * lift**2, directions, directions)
        bb = np.einsum("gsc,gtc->gst", b, b)
        flat = b.reshape(b.shape[0], -1)
        crossed += flat.T @ flat
        trace_u, trace_b = np.einsum("gss->g", u), np.einsum("gss->g", bb)
        first += float(np.sum(trace_u**2 - 2.0 * trace_u * trace_b))
        second += float(np.sum(u * u) - 2.0 * np.sum(u * bb))
    first += float(np.sum(crossed**2))
    table = crossed.reshape(q, 2 * k, q, 2 * k)
    second += float(np.einsum("sctd,tcsd->", table, table))
    total = first + second
    return q * (q + 1.0) / total if total > 0.0 else None


def _means(values: FloatArray, slot: NDArray[np.int64], count: FloatArray) -> FloatArray:
    first = np.bincount(slot, weights=values, minlength=count.size) / count
    rest = np.bincount(slot, weights=values - first[slot], minlength=count.size) / count
    return np.asarray(first + rest, dtype=np.float64)


def _without_covariates(
    values: FloatArray, extra: FloatArray, slot: NDArray[np.int64], count: FloatArray
) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """What is left of the values, what is said of covariates, and by how much each mean moves (2K,)."""
    if extra.shape[1] == 0:
        return values, (), np.zeros(count.size)
    within = np.column_stack(
        [extra[:, j] - _means(extra[:, j], slot, count)[slot] for j in range(extra.shape[1])]
    )
    # Less spread within cells than rounding of the values is none.
    floor = 1e-26 * np.sum(extra**2, axis=0)
    gram = within.T @ within
    gram[:, np.diag(gram) <= floor] = 0.0
    gram[np.diag(gram) == 0.0, :] = 0.0
    kept = independent_columns(gram)
    flags = tuple(
        f"covariate number {j + 1} dropped: it does not vary or repeats the others"
        for j in range(extra.shape[1])
        if j not in kept
    )
    if not kept:
        return values, flags, np.zeros(count.size)
    own = values - _means(values, slot, count)[slot]
    theta = np.linalg.lstsq(within[:, kept], own, rcond=None)[0]
    told = (extra[:, kept] - extra[:, kept].mean(axis=0)) @ theta
    return values - told, flags, _means(told, slot, count)
