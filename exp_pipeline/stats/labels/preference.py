"""Which of two is preferred, when judges compare them side by side: share, ties, place, clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.means import wilson_interval
from exp_pipeline.stats.reference import SMALLEST_P, require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Of a share's own variance, less than this between clusters is rounding: they are all alike.
_ROUNDING = 1e-20


@dataclass(frozen=True, slots=True)
class SignTest:
    """Do more go one way than the other? Exact binomial against one half; ties are left out.

    `of` says what was counted: comparisons, or clusters by the sign of their sum.
    """

    for_treatment: int
    for_control: int
    ties: int
    p_value: float
    of: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Which share of comparisons prefers treatment, a tie counting half?

    `share` lies between 0 and 1; with places given it is the mean of the shares when treatment was shown
    first and when second. `place_effect` is what being shown first adds to the share (None without places),
    with its two-sided p. `p_value` tests a share of one half. `df` is that of the t reference.
    """

    method: str
    share: float
    se: float | None
    ci_lower: float
    ci_upper: float
    p_value: float
    df: float
    level: float
    n: int
    wins: int
    ties: int
    losses: int
    clusters: tuple[int, ...]
    sign_test: SignTest
    place_effect: float | None = None
    place_effect_se: float | None = None
    place_effect_p_value: float | None = None
    flags: tuple[str, ...] = ()


def preference(
    outcome: ArrayLike,
    *,
    clusters: Sequence[ArrayLike] = (),
    treatment_first: ArrayLike | None = None,
    level: float = 0.95,
) -> Preference | NotEstimable:
    """Is treatment preferred to control, by how many?

    outcome: (n,) 1 where treatment was preferred, 0 where control, 0.5 a tie. clusters: none, one or two
    arrays (n,), such as rater and prompt; the variance is then that of sums by cluster with G / (G - 1), for
    two ways added and less the one of their crossings (Cameron, Gelbach and Miller 2011) but at least the
    larger of the two, on a t with the fewer clusters less one. treatment_first: (n,) true where treatment
    was shown first.

    The interval is Wilson's (1927) with n the effective number, share (1 - share) / variance, so it stays
    within 0 and 1; p is that at which it just reaches one half. With all outcomes for one side there is no
    variance to measure, nor with clusters that are all alike: each cluster (or row) then counts as one, and
    `se` is None.

    NotEstimable for no rows, ties only, one cluster, or treatment always in one place. Raises ValueError for
    other outcomes or shapes that do not fit.
    """
    require_level(level)
    score = np.asarray(outcome, dtype=np.float64)
    if score.ndim != 1 or not np.isin(score, (0.0, 0.5, 1.0)).all():
        raise ValueError("outcome must hold 1 (treatment preferred), 0 (control preferred) or 0.5 (tie)")
    n = score.size
    if len(clusters) > 2:
        raise ValueError(f"clusters must be at most two ways, got {len(clusters)}")
    ways = [_codes(f"clusters[{i}]", way, n) for i, way in enumerate(clusters)]
    method = "preference" + ("", "-clustered", "-two-way-clustered")[len(ways)]
    wins, losses = int((score == 1.0).sum()), int((score == 0.0).sum())
    if wins + losses == 0:
        return NotEstimable(method, "no comparison" if n == 0 else f"all {n} comparisons are ties")
    sizes = tuple(int(way.max()) + 1 for way in ways)
    if n == 1 or 1 in sizes:
        return NotEstimable(method, "one comparison" if n == 1 else "all comparisons belong to one cluster")
    columns = np.ones((n, 1))
    if treatment_first is not None:
        place = np.asarray(treatment_first)
        if place.shape != (n,) or not np.isin(place, (0, 1)).all():
            raise ValueError(f"treatment_first must hold {n} true or false values")
        if np.unique(place).size == 1:
            return NotEstimable(method, "treatment was always shown in one place: place is not separable")
        columns = np.column_stack([columns, np.where(place, 0.5, -0.5)])
    bread = np.linalg.inv(columns.T @ columns)
    point = bread @ (columns.T @ score)
    influence = columns * (score - columns @ point)[:, None] @ bread
    variances, flags = _variances(influence, ways)
    share = float(min(max(point[0], 0.0), 1.0))
    df = float(min(sizes, default=n) - 1)
    variance = float(variances[0])
    if variance <= _ROUNDING * share * (1.0 - share):
        effective = float(min(sizes, default=n))
        flags.append("no spread to measure: each cluster (or row) counts as one comparison")
        se = None
        variance = 0.0
    else:
        effective = share * (1.0 - share) / variance
        se = math.sqrt(variance)
    lower, upper = wilson_interval(share * effective, effective, two_sided_critical(level, df))
    place_se = math.sqrt(float(variances[1])) if variances.size == 2 and variances[1] > _ROUNDING else None
    return Preference(
        method=method,
        share=share,
        se=se,
        ci_lower=lower,
        ci_upper=upper,
        # Wilson's bound reaches one half where the score test does: (share - 1/2) over its null error.
        p_value=two_sided_p((share - 0.5) / math.sqrt(0.25 / effective), df),
        df=df,
        level=level,
        n=n,
        wins=wins,
        ties=n - wins - losses,
        losses=losses,
        clusters=sizes,
        sign_test=sign_test(score - 0.5, ways[0] if ways else None),
        place_effect=float(point[1]) if columns.shape[1] == 2 else None,
        place_effect_se=place_se,
        place_effect_p_value=None if place_se is None else two_sided_p(float(point[1]) / place_se, df),
        flags=tuple(flags),
    )


def sign_test(difference: ArrayLike, cluster: ArrayLike | None = None) -> SignTest:
    """Do more differences lie above zero than below?

    difference: (n,), above zero for treatment. With cluster (n,), clusters count by the sign of their sum,
    as rows of one cluster are not independent. p is 1 where nothing is decided: zero against zero is even.
    """
    from scipy import special

    values = np.asarray(difference, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("difference must be one row of numbers")
    if cluster is not None:
        groups = _codes("cluster", cluster, values.size)
        values = np.bincount(groups, values).astype(np.float64)
        # Halves add up exactly; other values need room for rounding.
        values = np.where(
            np.abs(values) < 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0))), 0.0, values
        )
    up, down = int((values > 0).sum()), int((values < 0).sum())
    # Both tails are alike at one half; twice the smaller one.
    p = min(1.0, 2.0 * float(special.bdtr(min(up, down), up + down, 0.5))) if up + down else 1.0
    of = "comparisons" if cluster is None else "clusters"
    return SignTest(up, down, values.size - up - down, max(p, SMALLEST_P), of)


def _codes(name: str, values: ArrayLike, n: int) -> IntArray:
    named = np.asarray(values)
    if named.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {named.shape}")
    return np.unique(named, return_inverse=True)[1].astype(np.int64)


def _variances(influence: FloatArray, ways: Sequence[IntArray]) -> tuple[FloatArray, list[str]]:
    """The variances (p,) of sums of influences (n, p) that are independent between clusters of each way."""

    def one_way(groups: IntArray) -> FloatArray:
        total = int(groups.max()) + 1
        sums = np.zeros((total, influence.shape[1]))
        np.add.at(sums, groups, influence)
        squares: FloatArray = np.square(sums).sum(axis=0) * (total / (total - 1.0))
        return squares

    if len(ways) < 2:
        return one_way(ways[0] if ways else np.arange(influence.shape[0])), []
    first, second = one_way(ways[0]), one_way(ways[1])
    crossing = np.unique(ways[0] * (int(ways[1].max()) + 1) + ways[1], return_inverse=True)[1]
    both = first + second - one_way(crossing.astype(np.int64))
    larger = np.maximum(first, second)
    # A difference of estimates can by chance fall below either of them, even below zero.
    flag = "two-way variance below that of one way: the larger one-way variance is used"
    return np.maximum(both, larger), [flag] if (both < larger).any() else []
