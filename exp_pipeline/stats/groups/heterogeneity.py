"""Does the effect differ between segments, or between arms, and what is each beside the others?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.groups.joint import (
    JointEffects,
    contrast_of_cells,
    differences,
    joint_effects,
    joint_test,
)
from exp_pipeline.stats.groups.pooling import (
    BetweenVariance,
    PooledEffect,
    ShrinkMethod,
    ShrunkenEffect,
    TauMethod,
    between_variance,
    pooled_effect,
    shrunken_effects,
)
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.reference import (
    SMALLEST_P,
    require_level,
    two_sided_critical,
    two_sided_p,
    upper_tail,
)
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]

# Under this many degrees of freedom a standard error is too rough to be taken as known by shrinkage.
ROUGH_DF = 10.0


@dataclass(frozen=True, slots=True)
class Interaction:
    """Do the effects differ between the groups? `statistic` is F with df_between and df_within."""

    method: str
    statistic: float
    df_between: int
    df_within: float
    p_value: float


@dataclass(frozen=True, slots=True)
class QualitativeInteraction:
    """Does treatment help in some groups and harm in others? Gail and Simon's (1985) likelihood-ratio test.

    positive and negative: the sums of squared scores of effects above and below zero; the smaller is tested.
    """

    positive: float
    negative: float
    p_value: float


@dataclass(frozen=True, slots=True)
class GroupEffect:
    """What is the effect in one segment, or of one arm?

    absolute to p_value: from its own units. shrunken: learning from the others, None where there are too few
    groups. rank_best and rank_worst: which places, 1 for the largest effect, no comparison of two groups
    rules out (Holm over all pairs, at the level of the whole).
    """

    name: str
    n_control: int
    n_treatment: int
    absolute: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float
    shrunken: ShrunkenEffect | None
    rank_best: int
    rank_worst: int


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """How much do effects differ between groups? left_out: groups without an estimate, each with its reason.

    The same p-value answers for all groups together; the ones of single groups do not say that they differ.
    """

    interaction: Interaction
    qualitative: QualitativeInteraction
    between: BetweenVariance
    pooled: PooledEffect | None
    groups: tuple[GroupEffect, ...]
    left_out: tuple[tuple[str, str], ...]
    level: float
    flags: tuple[str, ...] = ()


def heterogeneity(
    effects: Mapping[str, Effect | NotEstimable],
    *,
    tau_method: TauMethod = "reml",
    shrinkage: ShrinkMethod = "posterior",
    level: float = 0.95,
) -> Heterogeneity | NotEstimable:
    """Do the effects of segments without common units or clusters differ, and by how much?

    effects: one a segment, by any estimator. The test is Welch's (1951) on effects with their standard errors
    and degrees of freedom: for two segments the Satterthwaite t, for many units Cochran's Q. NotEstimable for
    fewer than two estimated segments. Segments measured after assignment are no segments: do not pass them.
    """
    require_level(level)
    kept = {name: effect for name, effect in effects.items() if isinstance(effect, Effect)}
    left = tuple((name, e.reason) for name, e in effects.items() if isinstance(e, NotEstimable))
    counts = sum(e.n_control for e in effects.values()), sum(e.n_treatment for e in effects.values())
    if len(kept) < 2:
        reason = f"{len(kept)} groups have an effect; comparing effects needs two"
        return NotEstimable("interaction", reason, *counts)
    y = np.array([effect.absolute for effect in kept.values()])
    se = np.array([effect.se for effect in kept.values()])
    df = np.array([effect.df for effect in kept.values()])
    sizes = [(effect.n_control, effect.n_treatment) for effect in kept.values()]
    pairs = {
        (i, j): two_sided_p((y[i] - y[j]) / math.hypot(se[i], se[j]), _two_df(se[i], df[i], se[j], df[j]))
        for i in range(y.size)
        for j in range(i)
    }
    return _assembled(
        list(kept), y, np.diag(se**2), df, sizes, _welch(y, se**2, df), pairs, left, (),
        tau_method, shrinkage, level,
    )  # fmt: skip


def arm_heterogeneity(
    effects: Mapping[str, Effect | NotEstimable],
    control_variance: float,
    *,
    tau_method: TauMethod = "reml",
    shrinkage: ShrinkMethod = "posterior",
    level: float = 0.95,
) -> Heterogeneity | NotEstimable:
    """Do the effects of several arms against one control differ, and what is each beside the others?

    control_variance: that of the control value that all effects share; each effect's variance must be above
    it. What arms owe to the control cancels when arms are compared, and stays when each is judged. Raises
    ValueError for a control_variance that is not below the variance of every effect.
    """
    require_level(level)
    kept = {name: effect for name, effect in effects.items() if isinstance(effect, Effect)}
    left = tuple((name, e.reason) for name, e in effects.items() if isinstance(e, NotEstimable))
    if len(kept) < 2:
        return NotEstimable("interaction", f"{len(kept)} arms have an effect; comparing needs two")
    y = np.array([effect.absolute for effect in kept.values()])
    se = np.array([effect.se for effect in kept.values()])
    own = se**2 - control_variance
    if not control_variance > 0.0 or not (own > 0.0).all():
        raise ValueError(
            f"control_variance must lie above 0 and below every effect's variance {(se**2).tolist()}, "
            f"got {control_variance!r}"
        )
    df = np.array([effect.df for effect in kept.values()])
    arm_df = np.array([max(effect.n_treatment - 1.0, 1.0) for effect in kept.values()])
    sizes = [(effect.n_control, effect.n_treatment) for effect in kept.values()]
    root = np.sqrt(own)
    pairs = {
        (i, j): two_sided_p(
            (y[i] - y[j]) / math.hypot(root[i], root[j]), _two_df(root[i], arm_df[i], root[j], arm_df[j])
        )
        for i in range(y.size)
        for j in range(i)
    }
    return _assembled(
        list(kept), y, np.diag(own) + control_variance, df, sizes, _welch(y, own, arm_df), pairs, left, (),
        tau_method, shrinkage, level,
    )  # fmt: skip


def heterogeneity_of_rows(
    outcome: ArrayLike,
    treated: ArrayLike,
    segment: ArrayLike,
    cluster: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    denominator: ArrayLike | None = None,
    tau_method: TauMethod = "reml",
    shrinkage: ShrinkMethod = "posterior",
    level: float = 0.95,
) -> Heterogeneity | NotEstimable:
    """Do the effects of segments differ, where a cluster (class, school) has units of several segments?

    Arguments as in `joint.joint_effects`: covariance CR2 over all segments together, test "HTZ". NotEstimable
    where fewer than two segments have two clusters in each arm, or clusters are too few for the test.
    """
    require_level(level)
    joint = joint_effects(outcome, treated, segment, cluster, covariates=covariates, denominator=denominator)
    if isinstance(joint, NotEstimable):
        return joint
    k = len(joint.names)
    test = joint_test(joint, differences(k))
    if isinstance(test, NotEstimable):
        return test
    interaction = Interaction("wald-htz", test.f, test.df_numerator, test.df_denominator, test.p_value)
    df = np.zeros(k)
    for i in range(k):
        own = contrast_of_cells(joint, np.eye(k)[i], level=level)
        if isinstance(own, NotEstimable):
            return own
        df[i] = own.df
    pairs = {}
    for i in range(k):
        for j in range(i):
            apart = contrast_of_cells(joint, np.eye(k)[i] - np.eye(k)[j], level=level)
            if isinstance(apart, NotEstimable):
                return apart
            pairs[i, j] = apart.p_value
    sizes = [(int(c), int(t)) for c, t in zip(joint.n_control, joint.n_treatment, strict=True)]
    flags = (*joint.flags, *_shared(joint))
    return _assembled(
        list(joint.names), joint.effects, joint.covariance, df, sizes, interaction, pairs, joint.left_out,
        flags, tau_method, shrinkage, level,
    )  # fmt: skip


def gail_simon(effects: ArrayLike, se: ArrayLike, df: ArrayLike | None = None) -> QualitativeInteraction:
    """Do true effects of k independent groups have both signs?

    With fewer degrees of freedom than infinity each t is first read as the normal score of the same tail.
    Under the least favourable effects, all zero, the smaller of the two sums of squared scores exceeds c with
    probability sum over h = 1..k-1 of binomial(h; k - 1, 1/2) P(chi-square_h > c) (Gail and Simon 1985,
    equation 5); groups that share a control or clusters make it cautious. Raises ValueError for shapes that
    do not fit or a standard error that is not above zero.
    """
    from scipy import special

    y, s = np.asarray(effects, dtype=np.float64), np.asarray(se, dtype=np.float64)
    if y.ndim != 1 or s.shape != y.shape or y.size < 2 or not (s > 0.0).all() or not np.isfinite(y).all():
        raise ValueError(
            f"effects and se must be two or more finite numbers, se above 0, got {y.tolist()}, {s.tolist()}"
        )
    degrees = np.full(y.shape, math.inf) if df is None else np.asarray(df, dtype=np.float64)
    if degrees.shape != y.shape:
        raise ValueError(f"df must have shape {y.shape}, got {degrees.shape}")
    scores = np.array([_score(float(t), float(d)) for t, d in zip(y / s, degrees, strict=True)])
    positive = float(np.sum(scores[scores > 0.0] ** 2))
    negative = float(np.sum(scores[scores < 0.0] ** 2))
    least, k = min(positive, negative), y.size
    if least == 0.0:
        return QualitativeInteraction(positive, negative, 1.0)
    h = np.arange(1, k)
    chance = special.binom(k - 1, h) * 0.5 ** (k - 1)
    p = float(np.sum(chance * special.chdtrc(h, least)))
    return QualitativeInteraction(positive, negative, max(p, SMALLEST_P))


def _score(t: float, df: float) -> float:
    from scipy import special

    if math.isinf(df):
        return t
    tail = max(upper_tail(abs(t), df), SMALLEST_P)
    return math.copysign(float(-special.ndtri(tail)), t)


def _welch(y: FloatArray, variances: FloatArray, df: FloatArray) -> Interaction:
    from scipy import special

    k = y.size
    weights = 1.0 / variances
    share = weights / weights.sum()
    centred = y - float(share @ y)
    q = float(weights @ (centred - float(share @ centred)) ** 2)
    unsure = float(np.sum((1.0 - share) ** 2 / df))
    f = q / (k - 1) / (1.0 + 2.0 * (k - 2) / (k * k - 1.0) * unsure)
    within = (k * k - 1.0) / (3.0 * unsure) if unsure > 0.0 else math.inf
    p = special.chdtrc(k - 1, f * (k - 1)) if math.isinf(within) else special.fdtrc(k - 1, within, f)
    return Interaction("welch", f, k - 1, within, max(float(p), SMALLEST_P))


def _two_df(se_a: float, df_a: float, se_b: float, df_b: float) -> float:
    share = se_a**2 / (se_a**2 + se_b**2)
    unsure = share**2 / df_a + (1.0 - share) ** 2 / df_b
    return 1.0 / unsure if unsure > 0.0 else math.inf


def _ranks(y: FloatArray, pairs: Mapping[tuple[int, int], float], level: float) -> list[tuple[int, int]]:
    adjusted = holm({f"{i} {j}": p for (i, j), p in pairs.items()})
    apart = {pair for pair in pairs if adjusted[f"{pair[0]} {pair[1]}"] < 1.0 - level}
    above, below = [0] * y.size, [0] * y.size
    for i, j in apart:
        high, low = (i, j) if y[i] > y[j] else (j, i)
        above[low] += 1
        below[high] += 1
    return [(1 + above[i], y.size - below[i]) for i in range(y.size)]


def _shared(joint: JointEffects) -> tuple[str, ...]:
    k = len(joint.names)
    in_cells = ((joint.pulls[:, :k] > 0.0) | (joint.pulls[:, k:] > 0.0)).sum(axis=1)
    several = int(np.count_nonzero(in_cells > 1))
    return (f"{several} of {joint.clusters} clusters have units in several segments",) if several else ()


def _assembled(
    names: Sequence[str],
    y: FloatArray,
    covariance: FloatArray,
    df: FloatArray,
    sizes: Sequence[tuple[int, int]],
    interaction: Interaction,
    pairs: Mapping[tuple[int, int], float],
    left: tuple[tuple[str, str], ...],
    flags: tuple[str, ...],
    tau_method: TauMethod,
    shrinkage: ShrinkMethod,
    level: float,
) -> Heterogeneity | NotEstimable:
    counts = sum(c for c, _ in sizes), sum(t for _, t in sizes)
    ends = np.linalg.eigvalsh(covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance))))
    if ends[0] <= 1e-12 * ends[-1]:
        reason = "clusters are too few to tell how the effects vary together"
        return NotEstimable(interaction.method, reason, *counts)
    between = between_variance(y, covariance, method=tau_method, level=level)
    if isinstance(between, NotEstimable):
        return between
    pooled = pooled_effect(y, covariance, between.tau2, level=level)
    shrunk = shrunken_effects(y, covariance, method=shrinkage, level=level)
    notes = list(flags)
    if isinstance(shrunk, NotEstimable):
        notes.append(f"no shrunken effects: {shrunk.reason}")
    if isinstance(pooled, NotEstimable):
        notes.append(f"no mean effect over the groups: {pooled.reason}")
    rough = [name for name, d in zip(names, df, strict=True) if d < ROUGH_DF]
    if rough:
        notes.append(
            f"few degrees of freedom in {', '.join(rough)}: shrinkage takes their standard errors as known"
        )
    se = np.sqrt(np.diag(covariance))
    ranks = _ranks(y, pairs, level)
    if all(best == 1 and worst == y.size for best, worst in ranks):
        notes.append("no two groups can be told apart: do not read an order into them")
    groups = []
    for i, name in enumerate(names):
        reach = two_sided_critical(level, float(df[i])) * float(se[i])
        groups.append(
            GroupEffect(
                name=name,
                n_control=sizes[i][0],
                n_treatment=sizes[i][1],
                absolute=float(y[i]),
                se=float(se[i]),
                df=float(df[i]),
                ci_lower=float(y[i]) - reach,
                ci_upper=float(y[i]) + reach,
                p_value=two_sided_p(float(y[i] / se[i]), float(df[i])),
                shrunken=None if isinstance(shrunk, NotEstimable) else shrunk[i],
                rank_best=ranks[i][0],
                rank_worst=ranks[i][1],
            )
        )
    return Heterogeneity(
        interaction=interaction,
        qualitative=gail_simon(y, se, df),
        between=between,
        pooled=None if isinstance(pooled, NotEstimable) else pooled,
        groups=tuple(groups),
        left_out=left,
        level=level,
        flags=tuple(notes),
    )
