"""Effects on many outcomes of the same clusters, from one set of sums by cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import (
    ClusterDesign,
    Correction,
    Method,
    arm_values,
    cluster_design,
    correct,
    covariate_rows,
    finite_values,
    method_for,
)
from exp_pipeline.stats.clusters.effects import SHAKY_DF
from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.effects.skew import unseen
from exp_pipeline.stats.moments_table import Grouping
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
Answer = Effect | NotEstimable

_NO_RESIDUAL = 1e-13
# Up to so many columns it is faster to sum each product over all clusters than each cluster's products.
_FEW_COLUMNS = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """The regression on one design, summed by cluster: gram (G, p, p) of its columns.

    groups: (n,) the cluster of each row as given; order: (n,) rows by cluster, as the design has them. level:
    (G, p) the value of columns that do not vary within clusters, None where some column does.
    """

    design: ClusterDesign
    correction: Correction
    gram: FloatArray
    total: FloatArray
    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    level: FloatArray | None


def many_clustered_differences(
    outcomes: Sequence[ArrayLike],
    treated: ArrayLike,
    cluster: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    method: Literal["auto", "cr1", "cr2"] = "auto",
    level: float = 0.95,
) -> tuple[Answer, ...]:
    """By how much do the arms differ in each outcome? `clusters.clustered_difference`, outcome by outcome.

    outcomes: each (n,), all complete on the same rows. The design, its sums by cluster and the correction
    for few clusters are made once; an outcome then costs one sum by cluster for each column of the design.
    Arguments, answers and errors otherwise as there.
    """
    require_level(level)
    if method not in ("auto", "cr1", "cr2"):
        raise ValueError(f"method must be 'auto', 'cr1' or 'cr2', got {method!r}")
    values = [finite_values("outcomes", one) for one in outcomes]
    n = np.asarray(cluster).shape[0]
    for one in values:
        if one.shape != (n,):
            raise ValueError(f"each of outcomes must have shape ({n},), got {one.shape}")
    arm = arm_values("treated", treated, n)
    groups, count = _dense("cluster", cluster)
    layers = None if strata is None else _dense("strata", strata)[0]
    extra = covariate_rows(covariates, n)
    n_t = int(arm.sum())
    n_c = n - n_t
    in_treatment = int(np.count_nonzero(np.bincount(groups[arm], minlength=count)))
    in_control = int(np.count_nonzero(np.bincount(groups[~arm], minlength=count)))
    name: Method = method_for(in_control, in_treatment, count) if method == "auto" else method

    def refused(reason: str) -> tuple[Answer, ...]:
        return (NotEstimable(name, reason, n_c, n_t),) * len(values)

    for label, units, clusters in (("control", n_c, in_control), ("treatment", n_t, in_treatment)):
        if units == 0:
            return refused(f"the {label} arm is empty")
        if clusters == 1:
            return refused(
                f"the {label} arm is one cluster: its effect cannot be told from the cluster's own"
            )
    grouping = Grouping.of(groups, count)
    order, starts = grouping.order, grouping.starts
    treated_rows = arm.astype(np.float64)
    arm, extra = arm[order], extra[order]
    layers = None if layers is None else layers[order]
    design, flags = cluster_design(arm, starts, extra, layers)
    if design is None:
        return refused("strata or covariates determine the arm")
    sums = _sums(design, name, groups, order)
    plain = None
    if extra.shape[1]:
        bare, _ = cluster_design(arm, starts, np.zeros((n, 0)), layers)
        plain = None if bare is None else _sums(bare, name, groups, order)
    if sums is None:
        return refused("too few clusters for a variance beside the strata")
    notes = list(flags)
    if in_control + in_treatment > count:
        notes.append("some clusters have units in both arms")
    if sums.correction.df < SHAKY_DF:
        notes.append(f"only {sums.correction.df:.1f} degrees of freedom: p-value and interval are rough")
    notes += unseen(in_control, in_treatment)
    in_arms = _Arms(treated_rows, n_c, n_t, in_control, in_treatment)
    found: list[Answer] = []
    for y in values:
        answer = _effect(sums, y, in_arms, name, tuple(notes), level)
        if isinstance(answer, Effect) and plain is not None:
            unadjusted = _moves(plain, y - y.mean())[1]
            answer = replace(answer, variance_reduction=1.0 - answer.se**2 / float(unadjusted @ unadjusted))
        found.append(answer)
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Arms:
    """treated: (n,) 1 or 0, rows as given; units and clusters of each arm."""

    treated: FloatArray
    n_c: int
    n_t: int
    clusters_c: int
    clusters_t: int

    def summaries(self, centre: float, centred: FloatArray) -> tuple[ArmSummary, ArmSummary]:
        """What is written down of control and of treatment? centred: (n,) outcomes less `centre`."""
        inside = centred * self.treated
        sum_t, squares_t = float(inside.sum()), float(np.square(inside).sum())
        sum_c, squares_c = float(centred.sum()) - sum_t, float(np.square(centred).sum()) - squares_t
        found = []
        for n, total, squares, clusters in (
            (self.n_c, sum_c, squares_c, self.clusters_c),
            (self.n_t, sum_t, squares_t, self.clusters_t),
        ):
            mean = total / n
            spread = max(squares - total * mean, 0.0) / (n - 1) if min(self.n_c, self.n_t) > 1 else None
            found.append(ArmSummary(n, centre + mean, spread, clusters))
        return found[0], found[1]


def _dense(name: str, values: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Codes from 0 without gaps, and how many."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got {array.ndim}")
    if np.issubdtype(array.dtype, np.integer) and array.size:
        first = int(array.min())
        if int(array.max()) - first < 4 * array.size:
            present = np.bincount(array - first) > 0
            return (np.cumsum(present) - 1)[array - first].astype(np.int64), int(present.sum())
    labels, codes = np.unique(array, return_inverse=True)
    return codes.reshape(array.shape).astype(np.int64), int(labels.size)


def _sums(
    design: ClusterDesign, name: Method, groups: NDArray[np.int64], order: NDArray[np.int64]
) -> _Sums | None:
    correction = correct(design, name)
    if correction is None:
        return None
    columns, starts = design.columns, design.starts
    p = columns.shape[1]
    ends = np.append(starts[1:], columns.shape[0])
    if p <= _FEW_COLUMNS:
        gram = np.empty((starts.shape[0], p, p))
        for a in range(p):
            for b in range(a + 1):
                gram[:, a, b] = gram[:, b, a] = np.add.reduceat(columns[:, a] * columns[:, b], starts)
    else:
        pieces = zip(starts.tolist(), ends.tolist(), strict=True)
        gram = np.stack([columns[a:b].T @ columns[a:b] for a, b in pieces])
    sizes = ends - starts
    first = columns[starts]
    flat = bool((np.repeat(first, sizes, axis=0) == columns).all())
    return _Sums(design, correction, gram, gram.sum(axis=0), groups, order, first if flat else None)


def _moves(sums: _Sums, centred: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Coefficients on an outcome less its mean, what each cluster moves in effect and control value, X'y."""
    design, correction = sums.design, sums.correction
    columns, root = design.columns, design.root
    by_cluster = np.empty((sums.gram.shape[0], columns.shape[1]))
    if sums.level is not None:
        whole = np.bincount(sums.groups, weights=centred, minlength=by_cluster.shape[0])
        by_cluster[:] = sums.level * whole[:, None]
    else:
        ordered = np.take(centred, sums.order)
        for column in range(columns.shape[1]):
            by_cluster[:, column] = np.add.reduceat(columns[:, column] * ordered, design.starts)
    against = by_cluster.sum(axis=0)
    coefficients = root @ (root.T @ against)
    # One step of refinement takes out what the normal equations lost to rounding.
    coefficients = coefficients + root @ (root.T @ (against - sums.total @ coefficients))
    scores = (by_cluster - sums.gram @ coefficients) @ root
    pick = np.zeros((2, columns.shape[1]))
    pick[0, -1] = 1.0
    pick[1, 0], pick[1, -1] = 1.0, -design.treated_share
    directions = pick @ root
    if correction.lifts is None:
        moves = scores @ directions.T
    else:
        moves = np.einsum("gij,gj,ci->gc", correction.lifts, scores, directions)
    gamma = coefficients[design.covariates]
    drift = sums.gram[:, 0, design.covariates] @ gamma / centred.shape[0]
    factor = math.sqrt(correction.factor)
    return coefficients, factor * moves[:, 0], factor * (moves[:, 1] + drift), against


def _effect(
    sums: _Sums, y: FloatArray, arms: _Arms, name: Method, notes: tuple[str, ...], level: float
) -> Answer:
    n_c, n_t = arms.n_c, arms.n_t
    centre = float(y.mean())
    centred = y - centre
    spread = float(np.square(centred).sum())
    coefficients, moves_e, moves_c, against = _moves(sums, centred)
    left = spread - float(coefficients @ against)
    if left <= _NO_RESIDUAL * spread or spread <= 1e-24 * (spread + y.shape[0] * centre**2):
        return NotEstimable(name, "the outcome has no spread that arm and covariates leave", n_c, n_t)
    variance = float(moves_e @ moves_e)
    if not variance > 0.0:
        return NotEstimable(name, "too few clusters for a variance beside the strata", n_c, n_t)
    df = sums.correction.df
    absolute, se = float(coefficients[-1]), math.sqrt(variance)
    value_c = centre + float(coefficients[0]) - absolute * sums.design.treated_share
    moves_t = moves_c + moves_e
    relative = relative_effect(
        value_c,
        value_c + absolute,
        variance_control=float(moves_c @ moves_c),
        variance_treatment=float(moves_t @ moves_t),
        covariance=float(moves_c @ moves_t),
        df=df,
        level=level,
    )
    control, treatment = arms.summaries(centre, centred)
    return effect_of_arms(name, control, treatment, absolute, se, df, relative, level=level, flags=notes)
