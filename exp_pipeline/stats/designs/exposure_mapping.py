"""Effects of exposures whose chances follow from the design: own arm and that of neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import finite_values, group_codes
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Codes of `own_and_neighbours`.
NEITHER, NEIGHBOURS_ONLY, OWN_ONLY, BOTH = 0, 1, 2, 3
# Pairs of one block are held as a square of chances.
LARGEST_BLOCK = 4000


@dataclass(frozen=True, slots=True)
class ExposureContrast:
    """What does one exposure do against another, over all units that could have had both?

    n: those units; n_*: how many of them had each exposure. The variance is never too small in expectation
    (Aronow and Samii 2017), since pairs of outcomes that cannot be seen together are bounded.
    """

    method: Literal["horvitz-thompson", "hajek"]
    n: int
    n_exposed: int
    n_reference: int
    mean_exposed: float
    mean_reference: float
    absolute: float
    se: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    flags: tuple[str, ...] = ()


def own_and_neighbours(assignments: ArrayLike, groups: ArrayLike) -> IntArray:
    """Which of four exposures has each unit under each assignment? (R, n) or (n,), as the input.

    0: control, no treated neighbour; 1: control, some treated; 2: treated, none; 3: treated, some. groups:
    (n,), whose members are one another's neighbours. A two-level design (share of a group, then units) is
    told by its assignments alone.
    """
    given = np.asarray(assignments)
    rows = np.atleast_2d(given)
    if rows.ndim != 2 or (rows.dtype != np.bool_ and not np.isin(rows, (0, 1)).all()):
        raise ValueError(f"assignments must hold true or false, (R, n) or (n,), got shape {given.shape}")
    codes = group_codes("groups", groups, rows.shape[1])
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ones = rows.astype(np.int64)
    held = np.add.reduceat(ones[:, order], starts, axis=1)[:, codes]
    answer = 2 * ones + (held - ones > 0)
    return answer if given.ndim == 2 else answer[0]


def exposure_contrast(
    outcome: ArrayLike,
    exposure: ArrayLike,
    draws: ArrayLike,
    *,
    exposed: int,
    reference: int,
    blocks: ArrayLike | None = None,
    method: Literal["horvitz-thompson", "hajek"] = "hajek",
    level: float = 0.95,
) -> ExposureContrast | NotEstimable:
    """What does exposure `exposed` do against `reference`, each unit weighted by 1 / its chance of it?

    outcome, exposure (codes): (n,). draws: (R, n) codes under assignments that the design could have made,
    all equally likely: all of them where they can be counted, else a sample of thousands. blocks: (n,), parts
    of the design drawn independently (groups of a Bernoulli design), so that chances of pairs need not be
    sampled across them. Horvitz-Thompson is unbiased; Hajek's, which divides by the sum of weights, is a
    little biased and mostly far sharper. Variance of Aronow and Samii (2017, equations 7 to 9), with
    residuals for Hajek's; normal reference. Units that could not have had both exposures are left out.

    NotEstimable where nobody had one of the two. Raises ValueError for shapes that do not fit, or a unit seen
    with an exposure that no draw gives it.
    """
    require_level(level)
    if method not in ("horvitz-thompson", "hajek"):
        raise ValueError(f"method must be 'horvitz-thompson' or 'hajek', got {method!r}")
    y = finite_values("outcome", outcome)
    n = y.size
    codes, table = np.asarray(exposure), np.asarray(draws)
    if codes.shape != (n,) or table.ndim != 2 or table.shape[1] != n or table.shape[0] < 2:
        raise ValueError(
            f"exposure must be ({n},) and draws (2 or more, {n}), got {codes.shape} and {table.shape}"
        )
    if exposed == reference:
        raise ValueError(f"exposed and reference must differ, got {exposed!r} twice")
    parts = np.zeros(n, dtype=np.int64) if blocks is None else group_codes("blocks", blocks, n)
    chance = np.vstack([(table == code).mean(axis=0) for code in (exposed, reference)])
    had = np.vstack([codes == code for code in (exposed, reference)])
    never = had & (chance == 0.0)
    if never.any():
        place = int(np.flatnonzero(never.any(axis=0))[0])
        raise ValueError(f"unit {place} had exposure {codes[place]!r}, which no draw gives it")
    able = (chance > 0.0).all(axis=0)
    flags = []
    if not able.all():
        flags.append(f"{int((~able).sum())} units left out: the design could not give them both exposures")
    y, parts, chance, had, table = y[able], parts[able], chance[:, able], had[:, able], table[:, able]
    m = y.size
    counts = int(had[0].sum()), int(had[1].sum())
    if min(counts) < 2:
        reason = f"{counts[0]} units had exposure {exposed} and {counts[1]} had {reference}: both need two"
        return NotEstimable(method, reason, counts[1], counts[0])
    if np.bincount(parts).max() > LARGEST_BLOCK:
        raise ValueError(f"a block may have {LARGEST_BLOCK} units at most; name independent parts in blocks")
    weights = np.where(had, 1.0 / chance, 0.0)
    totals = np.full(2, float(m)) if method == "horvitz-thompson" else weights.sum(axis=1)
    means = (weights @ y) / totals
    values = np.vstack([y, y]) if method == "horvitz-thompson" else y[None, :] - means[:, None]
    variance = 0.0
    for place in range(int(parts.max()) + 1):
        here = np.flatnonzero(parts == place)
        if here.size:
            variance += _variance(
                values[:, here], had[:, here], chance[:, here], table[:, here], (exposed, reference)
            )
    variance /= m * m
    if not variance > 0.0:
        return NotEstimable(method, "the design leaves nothing to chance", counts[1], counts[0])
    absolute, se = float(means[0] - means[1]), math.sqrt(variance)
    reach = two_sided_critical(level, math.inf) * se
    rare = min(float(chance[0][had[0]].min()), float(chance[1][had[1]].min()))
    if rare < 0.02:
        flags.append(f"the smallest chance of an exposure is {rare:.3f}: few units carry much of the answer")
    return ExposureContrast(
        method, m, counts[0], counts[1], float(means[0]), float(means[1]), absolute, se, absolute - reach,
        absolute + reach, two_sided_p(absolute / se, math.inf), level, tuple(flags),
    )  # fmt: skip


def _variance(
    values: FloatArray, had: NDArray[np.bool_], chance: FloatArray, table: IntArray, codes: tuple[int, int]
) -> float:
    """Of the difference of two weighted totals of one block."""
    given = [(table == code).astype(np.float64) for code in codes]
    draws = table.shape[0]
    weighted = np.where(had, values / chance, 0.0)
    squares = np.where(had, values**2 / chance, 0.0)
    total = 0.0
    for a in (0, 1):
        together = given[a].T @ given[a] / draws
        apart = np.where(
            together > 0.0,
            1.0 - np.outer(chance[a], chance[a]) / np.where(together > 0.0, together, 1.0),
            0.0,
        )
        # On the diagonal together is the chance itself: 1 - chance, as it should be.
        total += float(weighted[a] @ apart @ weighted[a])
        total += float(np.sum((together == 0.0) @ squares[a]))
    together = given[0].T @ given[1] / draws
    seen = together > 0.0
    apart = np.where(seen, 1.0 - np.outer(chance[0], chance[1]) / np.where(seen, together, 1.0), 0.0)
    covariance = float(weighted[0] @ apart @ weighted[1])
    covariance -= 0.5 * float(squares[0] @ (~seen).sum(axis=1) + (~seen).sum(axis=0) @ squares[1])
    return total - 2.0 * covariance
