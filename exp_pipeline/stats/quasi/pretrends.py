"""How much of an event study is left if trends were not quite parallel?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.quasi.event_study import EventStudy
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED
from exp_pipeline.stats.reference import one_sided_critical, require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]

DESIGN = "sensitivity to trends that are not parallel"


@dataclass(frozen=True, slots=True)
class TrendBounds:
    """Between which values lies the effect, if trends part after adoption by at most `bar` times as before?

    `lower` and `upper` bound it at the estimates; `ci_*` also allow for their errors.
    """

    bar: float
    lower: float
    upper: float
    ci_lower: float
    ci_upper: float


@dataclass(frozen=True, slots=True)
class TrendSensitivity:
    """How far may trends part before the effect could be zero?

    `largest_change` is the largest change between periods before adoption, `largest_allowed` what it may be
    with its error. `breakdown` is the `bar` at which the interval first holds zero: 0 where it does without
    any violation.
    """

    design: str
    estimate: float
    bounds: tuple[TrendBounds, ...]
    breakdown: float
    largest_change: float
    largest_allowed: float
    level: float
    assumptions: tuple[str, ...]
    flags: tuple[str, ...] = ()
    label: str = NOT_RANDOMISED


def trend_sensitivity(
    study: EventStudy,
    *,
    bars: ArrayLike = (0.0, 0.5, 1.0, 2.0),
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> TrendSensitivity | NotEstimable:
    """Between which values lies the effect, if trends part after adoption as they may have before?

    bars: how many times the largest change of the difference between neighbouring periods before adoption
    each such change after it may be ("relative magnitudes", Rambachan and Roth 2023, section 2.4.1). weights:
    one a point from adoption on, by default their mean. The bounds are the paper's identified set at the
    estimates. The interval is simpler and wider than the paper's: half the error probability is spent on the
    effect and half on simultaneous upper ends for the changes before (Bonferroni), so it holds its level for
    any true trend within the bar. At bar 0 it is the study's own interval.

    NotEstimable with fewer than two periods before adoption (no change to see), gaps in the periods, or a
    point without an error. Raises ValueError for bars below zero or weights that do not fit.
    """
    require_level(level)
    sizes = np.asarray(bars, dtype=np.float64)
    if sizes.ndim != 1 or not np.isfinite(sizes).all() or (sizes < 0.0).any():
        raise ValueError(f"bars must be finite numbers from 0 up, got {bars!r}")
    at = np.array([one.at for one in study.points])
    post = at >= 0
    shares = _weights(weights, int(post.sum()))
    whole = np.sort(np.append(at, study.reference))
    if int((~post).sum()) < 1:
        return NotEstimable(DESIGN, "one period before adoption: no change before it can be seen")
    if (np.diff(whole) != 1).any():
        return NotEstimable(DESIGN, "periods have gaps: changes between neighbours cannot be compared")
    if any(one.se is None for one in study.points):
        return NotEstimable(DESIGN, "a point of the event study has no error")
    estimates = np.array([one.estimate for one in study.points])
    df = min(float(one.df or 0.0) for one in study.points)
    df = min(df, study.average.df)
    effect = np.zeros(at.size)
    effect[post] = shares
    estimate = float(effect @ estimates)
    se = math.sqrt(float(effect @ study.covariance @ effect))
    before = _changes_before(at, study.reference)
    changes = before @ estimates
    errors = np.sqrt(np.einsum("ki,ij,kj->k", before, study.covariance, before))
    alpha = 1.0 - level
    # Either sign of each change: 2 k ends hold together at half the error probability.
    reach = one_sided_critical(alpha / (4.0 * changes.size), df)
    largest = float(np.max(np.abs(changes)))
    allowed = float(np.max(np.abs(changes) + reach * errors))
    # A change from period t - 1 to t moves every effect from t on.
    carried = float(np.sum(np.abs(np.cumsum(shares[::-1]))))
    own = two_sided_critical(level, df) * se
    wide = two_sided_critical(1.0 - alpha / 2.0, df) * se
    found = []
    for bar in sizes:
        move = float(bar) * carried * largest
        gone = own if bar == 0.0 else float(bar) * carried * allowed + wide
        found.append(
            TrendBounds(float(bar), estimate - move, estimate + move, estimate - gone, estimate + gone)
        )
    breakdown = max(0.0, (abs(estimate) - wide) / (carried * allowed))
    return TrendSensitivity(
        design=DESIGN,
        estimate=estimate,
        bounds=tuple(found),
        breakdown=breakdown,
        largest_change=largest,
        largest_allowed=allowed,
        level=level,
        assumptions=(
            "between neighbouring periods after adoption, trends part by at most `bar` times as much as they "
            "ever did before",
            *study.assumptions[1:],
        ),
        flags=study.flags,
    )


def _weights(weights: ArrayLike | None, count: int) -> FloatArray:
    if weights is None:
        return np.full(count, 1.0 / count)
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != (count,) or not np.isfinite(shares).all() or not np.abs(shares).any():
        raise ValueError(
            f"weights must be {count} finite numbers, one a point from adoption on, not all zero"
        )
    return shares


def _changes_before(at: NDArray[np.int64], reference: int) -> FloatArray:
    """Contrasts (k, K) for the changes between neighbours before adoption, the reference being zero."""
    order = np.sort(at[at < 0])
    chain = [*order.tolist(), reference]
    places = {int(distance): j for j, distance in enumerate(at)}
    rows = np.zeros((len(chain) - 1, at.size))
    for row, (first, second) in enumerate(itertools.pairwise(chain)):
        rows[row, places[first]] -= 1.0
        if second != reference:
            rows[row, places[second]] += 1.0
    return rows
