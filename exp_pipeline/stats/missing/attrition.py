"""Who is missing: shares by arm and segment, and how the missing differ from the observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, finite_values, group_codes
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.contrast import independent_columns
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.groups.heterogeneity import (
    Heterogeneity,
    Interaction,
    heterogeneity,
    heterogeneity_of_rows,
)
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import SMALLEST_P
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Attrition:
    """Which share of units is missing, and do the arms differ in it? `effect` is of the share missing."""

    n_control: int
    n_treatment: int
    missing_control: int
    missing_treatment: int
    share: float
    effect: Effect | NotEstimable


@dataclass(frozen=True, slots=True)
class AttritionBySegment:
    """Which share is missing in each segment, and does the arms' difference vary over segments?"""

    segments: tuple[tuple[str, Attrition], ...]
    interaction: Interaction | NotEstimable


@dataclass(frozen=True, slots=True)
class BaselineGap:
    """How do the observed differ from the missing at the start, in one arm, in one covariate?

    `standardised` is observed less missing over the standard deviation of the whole arm.
    """

    covariate: str
    arm: str
    mean_observed: float
    mean_missing: float
    standardised: float | None
    p_value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SelectionTest:
    """Is being missing related to the covariates? F with the degrees of freedom of clusters."""

    f: float
    df_numerator: int
    df_denominator: int
    p_value: float


@dataclass(frozen=True, slots=True)
class BaselineOfMissing:
    """Who is missing? gaps: one a covariate and arm.

    related: is being missing related to any covariate in either arm? differential: is it related otherwise in
    one arm than in the other? That is what biases a comparison of the observed.
    """

    gaps: tuple[BaselineGap, ...]
    related: SelectionTest | NotEstimable
    differential: SelectionTest | NotEstimable
    flags: tuple[str, ...] = ()


def attrition(
    observed: ArrayLike, treated: ArrayLike, *, cluster: ArrayLike | None = None, level: float = 0.95
) -> Attrition:
    """Are as many units missing in each arm?

    observed, treated: (n,) true or false, one row a unit that was assigned. By unit the difference of two
    shares (see `difference_in_proportions`); with cluster, (n,), that of `clustered_difference`.
    """
    seen, arm, groups = _checked(observed, treated, cluster)
    missing = ~seen
    n_t, lost_t = int(arm.sum()), int((missing & arm).sum())
    n_c, lost_c = int((~arm).sum()), int((missing & ~arm).sum())
    effect: Effect | NotEstimable
    if groups is None:
        effect = difference_in_proportions(lost_c, n_c, lost_t, n_t, level=level)
    else:
        effect = clustered_difference(missing.astype(np.float64), arm, groups, level=level)
    share = (lost_c + lost_t) / seen.size if seen.size else 0.0
    return Attrition(n_c, n_t, lost_c, lost_t, share, effect)


def attrition_by_segment(
    observed: ArrayLike,
    treated: ArrayLike,
    segment: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    level: float = 0.95,
) -> AttritionBySegment:
    """In which segments are units missing, and is the difference between arms larger in some?

    segment: (n,), frozen at assignment. The interaction test is that of `heterogeneity`, by cluster where
    there are clusters. A segment where nobody or everybody is missing takes no part in it.
    """
    seen, arm, groups = _checked(observed, treated, cluster)
    labels = np.asarray(segment)
    codes = group_codes("segment", labels, seen.size)
    found = []
    for place, name in enumerate(np.unique(labels)):
        here = codes == place
        own = None if groups is None else groups[here]
        found.append((str(name), attrition(seen[here], arm[here], cluster=own, level=level)))
    varied: Heterogeneity | NotEstimable
    if groups is None:
        varied = heterogeneity({name: part.effect for name, part in found}, shrinkage="plug-in", level=level)
    else:
        varied = heterogeneity_of_rows(
            (~seen).astype(np.float64), arm, labels, groups, shrinkage="plug-in", level=level
        )
    return AttritionBySegment(
        tuple(found), varied.interaction if isinstance(varied, Heterogeneity) else varied
    )


def baseline_of_missing(
    covariates: ArrayLike,
    names: Sequence[str],
    observed: ArrayLike,
    treated: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
) -> BaselineOfMissing:
    """How do the missing differ from the observed at the start, and otherwise in one arm than in the other?

    covariates: (n, k), measured before assignment, without gaps (see `adjustment.fill_missing`). Gaps are
    tested one by one (Welch, or by cluster). Both tests of all covariates together are Wald's on a regression
    of being missing on arm, covariates and their products, robust by unit or cluster (CR3, close to the
    jackknife: CR1 errs in 10 % at 30 clusters), F with clusters less one degrees of freedom. Raises
    ValueError for shapes that do not fit.
    """
    seen, arm, groups = _checked(observed, treated, cluster)
    rows = finite_values("covariates", covariates, 2)
    if rows.shape != (seen.size, len(names)):
        raise ValueError(f"covariates must have shape ({seen.size}, {len(names)}), got {rows.shape}")
    gaps = []
    for place, name in enumerate(names):
        for label, side in (("control", ~arm), ("treatment", arm)):
            own = None if groups is None else groups[side]
            gaps.append(_gap(name, label, rows[side, place], seen[side], own))
    related, differential, flags = _selection(rows, seen, arm, groups)
    return BaselineOfMissing(tuple(gaps), related, differential, flags)


def _checked(
    observed: ArrayLike, treated: ArrayLike, cluster: ArrayLike | None
) -> tuple[BoolArray, BoolArray, NDArray[np.int64] | None]:
    size = np.asarray(observed).shape
    if len(size) != 1:
        raise ValueError(f"observed must be one-dimensional, got shape {size}")
    n = size[0]
    groups = None if cluster is None else group_codes("cluster", cluster, n)
    return arm_values("observed", observed, n), arm_values("treated", treated, n), groups


def _gap(
    name: str, arm: str, values: FloatArray, seen: BoolArray, groups: NDArray[np.int64] | None
) -> BaselineGap:
    here, gone = values[seen], values[~seen]
    if not here.size or not gone.size:
        who = "missing" if not gone.size else "observed"
        middle = float(values.mean()) if values.size else 0.0
        return BaselineGap(name, arm, middle, middle, None, None, f"nobody is {who} in this arm")
    answer: Effect | NotEstimable
    if groups is None:
        answer = difference_in_means(
            Moments.from_array(gone, ["x"]), Moments.from_array(here, ["x"]), outcome="x"
        )
    else:
        answer = clustered_difference(values, seen, groups)
    spread = float(values.std(ddof=1))
    gap = float(here.mean() - gone.mean())
    fixed = spread <= 1e-13 * float(np.abs(values).max())
    return BaselineGap(
        covariate=name,
        arm=arm,
        mean_observed=float(here.mean()),
        mean_missing=float(gone.mean()),
        standardised=None if fixed else gap / spread,
        p_value=answer.p_value if isinstance(answer, Effect) else None,
        reason=answer.reason if isinstance(answer, NotEstimable) else None,
    )


def _selection(
    rows: FloatArray, seen: BoolArray, arm: BoolArray, groups: NDArray[np.int64] | None
) -> tuple[SelectionTest | NotEstimable, SelectionTest | NotEstimable, tuple[str, ...]]:
    counts = int((~arm).sum()), int(arm.sum())

    def refusal(reason: str) -> NotEstimable:
        return NotEstimable("selection", reason, *counts)

    n = seen.size
    if seen.all() or not seen.any():
        none = refusal("nobody is missing" if seen.all() else "everybody is missing")
        return none, none, ()
    centred = rows - rows.mean(axis=0)
    size = np.sqrt(np.mean(centred**2, axis=0))
    centred = np.where(size <= 1e-13 * np.abs(rows).max(axis=0), 0.0, centred)
    centred /= np.where(size > 0.0, size, 1.0)
    lift = arm - arm.mean()
    design = np.column_stack([np.ones(n), lift, centred, centred * lift[:, None]])
    kept = independent_columns(design.T @ design)
    k = rows.shape[1]
    flags = tuple(
        f"covariate number {place - 1} dropped: it does not vary or repeats the others"
        for place in range(2, 2 + k)
        if place not in kept
    )
    main = [kept.index(place) for place in range(2, 2 + k) if place in kept]
    crossed = [kept.index(place) for place in range(2 + k, 2 + 2 * k) if place in kept]
    x = design[:, kept]
    codes = np.arange(n) if groups is None else groups
    clusters = int(codes.max()) + 1
    p = x.shape[1]
    if 1 not in kept or not main or not crossed:
        none = refusal("no covariate varies in both arms")
        return none, none, flags
    gone = (~seen).astype(np.float64)
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ (x.T @ gone)
    residual = gone - x @ beta
    scores = _lifted_scores(x, residual, codes, clusters, bread)
    if scores is None:
        none = refusal("one unit or cluster alone decides a coefficient")
        return none, none, flags
    covariance = bread @ (scores.T @ scores) @ bread

    def test(places: list[int]) -> SelectionTest | NotEstimable:
        from scipy import special

        q, df = len(places), clusters - 1
        if clusters <= p or df < q:
            return refusal(f"{clusters} clusters are too few to test {q} covariates at once")
        inner = covariance[np.ix_(places, places)]
        ends = np.linalg.eigvalsh(inner)
        if not ends[0] > 1e-13 * ends[-1]:
            return refusal("too few are missing to test the covariates at once")
        f = float(beta[places] @ np.linalg.solve(inner, beta[places])) / q
        p_value = max(float(special.fdtrc(q, df, f)), SMALLEST_P)
        if math.isnan(p_value):
            return refusal("too few are missing to test the covariates at once")
        return SelectionTest(f, q, df, p_value)

    return test([*main, *crossed]), test(crossed), flags


def _lifted_scores(
    x: FloatArray, residual: FloatArray, codes: NDArray[np.int64], clusters: int, bread: FloatArray
) -> FloatArray | None:
    """Scores (G, p) with each cluster's residuals as if it had been left out; None where it cannot be."""
    n, p = x.shape
    if clusters == n:
        leverage = np.einsum("ni,ij,nj->n", x, bread, x)
        if leverage.max() > 1.0 - 1e-10:
            return None
        answer: FloatArray = x * (residual / (1.0 - leverage))[:, None]
        return answer
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    scores = np.add.reduceat((x * residual[:, None])[order], starts, axis=0)
    grams = np.add.reduceat(np.einsum("ni,nj->nij", x[order], x[order]), starts, axis=0)
    left = np.eye(p)[None] - grams @ bread[None]
    if np.abs(np.linalg.det(left)).min() < 1e-10:
        return None
    return np.asarray(np.linalg.solve(left, scores[:, :, None])[:, :, 0], dtype=np.float64)
