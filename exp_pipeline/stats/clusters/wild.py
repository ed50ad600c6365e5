"""Effects of few clusters without a reference distribution: the wild cluster bootstrap."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import (
    ClusterDesign,
    arm_values,
    cluster_design,
    covariate_rows,
    finite_values,
    group_codes,
    regress,
)
from exp_pipeline.stats.inversion import DrawnStatistics, sums_of_scores
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
Weights = Literal["auto", "rademacher", "webb"]

# Below this many clusters two-point weights give too few different statistics (Webb 2023, section 3).
FEW_FOR_TWO_POINTS = 12
# With fewer treated (or control) clusters than this, imposing the null makes the test far too timid
# (MacKinnon and Webb 2018, section 4).
FEW_FOR_THE_NULL = 4
_WEBB = (-math.sqrt(1.5), -1.0, -math.sqrt(0.5), math.sqrt(0.5), 1.0, math.sqrt(1.5))
# Weights held at once, so that many clusters do not need much memory.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class WildBootstrap:
    """What does the bootstrap say of the effect?

    `se` is CR1's and `statistic` = absolute / se. A bound is None, with a flag, where no effect can be
    excluded on that side at `level`. `draws` counts bootstrap samples; `enumerated` says that they are all
    there are, so that nothing is random.
    """

    method: str
    n_control: int
    n_treatment: int
    clusters: int
    absolute: float
    se: float
    statistic: float
    p_value: float
    ci_lower: float | None
    ci_upper: float | None
    level: float
    draws: int
    enumerated: bool
    flags: tuple[str, ...] = ()


def wild_cluster_bootstrap(
    outcome: ArrayLike,
    treated: ArrayLike,
    cluster: ArrayLike,
    *,
    seed: int,
    covariates: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    weights: Weights = "auto",
    draws: int = 9_999,
    level: float = 0.95,
) -> WildBootstrap | NotEstimable:
    """How sure is the effect, when clusters are too few for any t reference?

    Arguments as in `clusters.clustered_difference`. Restricted wild cluster bootstrap of the CR1 statistic:
    residuals under the null, one random sign or weight a cluster (Cameron, Gelbach and Miller 2008), from
    sums by cluster (Roodman, Nielsen, MacKinnon and Webb 2019), two-sided and symmetric. The interval holds
    the effects that the same test does not reject. "auto" takes Rademacher signs from 12 clusters on, and
    Webb's six points below; all combinations are gone through where they are no more than `draws`.

    NotEstimable as in `clustered_difference`. Raises ValueError for shapes, values, weights or draws
    (at least 99) that do not fit.
    """
    require_level(level)
    if weights not in ("auto", "rademacher", "webb"):
        raise ValueError(f"weights must be 'auto', 'rademacher' or 'webb', got {weights!r}")
    if draws < 99:
        raise ValueError(f"draws must be at least 99, got {draws}")
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("treated", treated, n)
    groups = group_codes("cluster", cluster, n)
    layers = None if strata is None else group_codes("strata", strata, n)
    extra = covariate_rows(covariates, n)
    n_t = int(arm.sum())
    counts = (n - n_t, n_t)
    total = int(groups.max()) + 1 if n else 0
    kind = ("rademacher" if total >= FEW_FOR_TWO_POINTS else "webb") if weights == "auto" else weights
    name = f"wild-{kind}"
    by_arm = []
    for label, side in (("control", ~arm), ("treatment", arm)):
        if not side.any():
            return NotEstimable(name, f"the {label} arm is empty", *counts)
        by_arm.append(int(np.unique(groups[side]).size))
        if by_arm[-1] == 1:
            reason = f"the {label} arm is one cluster: its effect cannot be told from the cluster's own"
            return NotEstimable(name, reason, *counts)

    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    design, flags = cluster_design(
        arm[order], starts, extra[order], None if layers is None else layers[order]
    )
    if design is None:
        return NotEstimable(name, "strata or covariates determine the arm", *counts)
    fit = regress(design, y[order])
    spread = float(np.sum((y - y.mean()) ** 2))
    if np.sum(fit.residuals**2) <= 1e-13 * spread or spread <= 1e-24 * np.sum(y**2):
        return NotEstimable(name, "the outcome has no spread that arm and covariates leave", *counts)
    rows, columns = design.columns.shape
    if rows <= columns:
        return NotEstimable(name, "too few units for a variance beside the strata", *counts)

    points = _WEBB if kind == "webb" else (-1.0, 1.0)
    enumerated = len(points) ** total <= draws
    if enumerated:
        picked = np.array(list(itertools.product(points, repeat=total)))
    else:
        rng = np.random.default_rng(seed)
        picked = np.asarray(points)[rng.integers(0, len(points), size=(draws, total))]
    statistics = bootstrap_statistics(design, fit.residuals, picked, exact=enumerated)
    if not statistics.se > 0.0:
        return NotEstimable(name, "too few clusters for a variance beside the strata", *counts)
    absolute = float(fit.coefficients[-1])
    scale = math.sqrt(total / (total - 1.0) * (rows - 1.0) / (rows - columns))
    lower, upper = statistics.bounds(1.0 - level)
    notes = list(flags)
    if min(by_arm) < FEW_FOR_THE_NULL:
        notes.append(f"an arm has {min(by_arm)} clusters: the bootstrap rarely rejects, read CR2 beside it")
    if lower is None or upper is None:
        notes.append("clusters are too few to bound the effect on both sides at this level")
    return WildBootstrap(
        method=name,
        n_control=counts[0],
        n_treatment=counts[1],
        clusters=total,
        absolute=absolute,
        se=statistics.se * scale,
        statistic=absolute / (statistics.se * scale),
        p_value=statistics.p_value(-absolute),
        ci_lower=None if lower is None else absolute + lower,
        ci_upper=None if upper is None else absolute + upper,
        level=level,
        draws=picked.shape[0],
        enumerated=enumerated,
        flags=tuple(notes),
    )


def bootstrap_statistics(
    design: ClusterDesign, residuals: FloatArray, weights: FloatArray, *, exact: bool
) -> DrawnStatistics:
    """Which statistics do these weights (B, G) give, at any hypothetical effect?

    Restricted residuals are straight lines in the effect, so each bootstrap coefficient is one too, and its
    CR1 variance a parabola: no bootstrap sample is ever made. The factor of CR1 is left out on both sides.
    """
    others, arm = design.columns[:, :-1], design.columns[:, -1]
    root = np.linalg.inv(np.linalg.cholesky(others.T @ others)).T
    basis = others @ root
    partial = arm - basis @ (basis.T @ arm)
    size = float(partial @ partial)
    sums = np.add.reduceat(
        np.column_stack(
            [
                partial * residuals,
                partial * partial,
                basis * residuals[:, None],
                basis * partial[:, None],
            ]
        ),
        design.starts,
        axis=0,
    )
    q = basis.shape[1]
    moved, own, loose, tied = sums[:, 0], sums[:, 1], sums[:, 2 : 2 + q], sums[:, 2 + q :]
    parts = []
    step = max(1, _CHUNK // max(weights.shape[1], 1))
    for begin in range(0, weights.shape[0], step):
        w = weights[begin : begin + step]
        top, top_slope = w @ moved / size, w @ own / size
        scores = w * moved - (w @ loose) @ tied.T - top[:, None] * own
        slopes = w * own - (w @ tied) @ tied.T - top_slope[:, None] * own
        parts.append(sums_of_scores(top, top_slope, scores, slopes, size))
    return DrawnStatistics.joined(parts, se=math.sqrt(float(moved @ moved)) / size, exact=exact)
