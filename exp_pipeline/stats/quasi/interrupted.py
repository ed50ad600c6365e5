"""Interrupted time series: one series before and after a date on which something changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import finite_values
from exp_pipeline.stats.clusters.effects import SHAKY_DF
from exp_pipeline.stats.quasi.outcome import NOT_RANDOMISED, QuasiEffect
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]

DESIGN = "interrupted time series"
UNDISTURBED = (
    "without the change, level and trend would have gone on as before",
    "nothing else changed at the same time",
    "the series counts the same things in the same way before and after",
    "nobody changed because the change was coming (no anticipation)",
)
CONTROLLED = "what else happened at the time moved the control series alike, and the change left that alone"
# The working model of errors: beyond this one shock never fades within any series that one could have.
_MOST_MEMORY = 0.95
# Matrices of this many periods squared still fit.
_LONGEST = 3000
_FEW_BEFORE = 12


@dataclass(frozen=True, slots=True)
class InterruptedSeries:
    """What changed in a series at a date?

    `level_change` is the jump at the first period after, `slope_change` the change of trend a period,
    `average` the mean difference from the continued trend over all periods after, `at_end` that in the last.
    `memory` is the estimated correlation of errors of neighbouring periods, `lags` how many were allowed for.
    """

    design: str
    level_change: QuasiEffect
    slope_change: QuasiEffect
    average: QuasiEffect
    at_end: QuasiEffect
    memory: float
    lags: int
    assumptions: tuple[str, ...]
    flags: tuple[str, ...] = ()
    label: str = NOT_RANDOMISED


def interrupted_series(
    outcome: ArrayLike,
    start: int,
    *,
    season: int | None = None,
    control: ArrayLike | None = None,
    lags: int | None = None,
    small_sample: bool = True,
    level: float = 0.95,
) -> InterruptedSeries | NotEstimable:
    """What changed in level and slope from period `start` on (segmented regression)?

    outcome: (T,), one value a period without gaps; start: number of the first period after the change,
    counted from 0. season: how many periods a season has (7 for days of the week), a constant for each of
    its places. control: (T,), a series that the change left alone; the difference of both is analysed, which
    is the same as one regression on both with every term by series.

    Standard errors by Newey and West (1987), Bartlett weights up to `lags` (by default 1.3 sqrt(T) - 1,
    Lazarus and others 2018). With `small_sample` they are multiplied by what they miss, and t has the degrees
    of freedom (Satterthwaite), under errors in which each period passes on a share of its own to the next
    (`memory`, from the residuals): as Bell and McCaffrey (2002) do for clusters. Without, the factor is
    T/(T-k) and df T-k, which is too short for errors that last.

    NotEstimable for fewer than three periods on a side, fewer than three more than terms, or no spread.
    Raises ValueError for shapes or values that do not fit.
    """
    require_level(level)
    y = finite_values("outcome", outcome)
    n = y.size
    if not isinstance(start, int | np.integer) or not 0 < start < n:
        raise ValueError(f"start must be a period from 1 to {n - 1}, got {start!r}")
    if season is not None and not (isinstance(season, int | np.integer) and season >= 2):
        raise ValueError(f"season must be a whole number of periods from 2 up, got {season!r}")
    if lags is not None and not (isinstance(lags, int | np.integer) and 0 <= lags < n):
        raise ValueError(f"lags must be a whole number from 0 to {n - 1}, got {lags!r}")
    if control is not None:
        other = finite_values("control", control)
        if other.shape != y.shape:
            raise ValueError(f"control must have shape {y.shape}, got {other.shape}")
        y = y - other
    after = n - int(start)
    if min(int(start), after) < 3:
        reason = f"{start} periods before and {after} after; level and slope need three on each side"
        return NotEstimable(DESIGN, reason, int(start), after)
    columns = _columns(n, int(start), season)
    k = columns.shape[1]
    if n < k + 3:
        return NotEstimable(DESIGN, f"{n} periods are too few for {k} terms", int(start), after)
    if season is not None and min(int(start), after) < season:
        return NotEstimable(DESIGN, "less than one season on a side", int(start), after)
    q, upper = np.linalg.qr(columns)
    coefficients = np.linalg.solve(upper, q.T @ (y - y.mean()))
    residuals = y - y.mean() - q @ (q.T @ (y - y.mean()))
    residuals = residuals - q @ (q.T @ residuals)
    if float(residuals @ residuals) <= 1e-20 * max(float(y @ y), 1e-300):
        return NotEstimable(DESIGN, "the series has no spread that the terms leave", int(start), after)
    reach = max(math.ceil(1.3 * math.sqrt(n)) - 1, 0) if lags is None else int(lags)
    kernel = np.maximum(1.0 - np.arange(n) / (reach + 1.0), 0.0)
    memory = _memory(residuals, q)
    flags: tuple[str, ...] = ()
    if int(start) < _FEW_BEFORE:
        flags = (f"only {start} periods before the change: the trend is rough",)
    if memory >= _MOST_MEMORY:
        flags += ("errors hardly fade: level and slope of this series cannot be told from its wandering",)
    if small_sample and n > _LONGEST:
        flags += (f"more than {_LONGEST} periods: standard errors without the small-sample part",)
    careful = small_sample and n <= _LONGEST
    errors = _errors(n, memory) if careful else np.zeros((0, 0))
    left_over = _residual_covariance(q, errors) if careful else errors
    assumptions = UNDISTURBED if control is None else (*UNDISTURBED, CONTROLLED)
    passed = (after - 1.0) / 2.0
    results = []
    for name, weights in (
        ("level change", (1.0, 0.0)),
        ("slope change", (0.0, 1.0)),
        ("average", (1.0, passed)),
        ("at end", (1.0, after - 1.0)),
    ):
        pick = np.zeros(k)
        pick[2:4] = weights
        pull = q @ np.linalg.solve(upper.T, pick)
        variance = _newey_west(pull * residuals, kernel, reach) * (1.0 if careful else n / (n - k))
        df = float(n - k)
        if careful:
            factor, df = _small_sample(pull, left_over, errors, kernel)
            variance *= factor
        if not (variance > 0.0 and df > 0.0):
            return NotEstimable(DESIGN, "too few periods for a variance with so many lags", int(start), after)
        se = math.sqrt(variance)
        absolute = float(pick @ coefficients)
        width = two_sided_critical(level, df) * se
        rough = (f"only {df:.1f} degrees of freedom: p-value and interval are rough",)
        results.append(
            QuasiEffect(
                design=DESIGN,
                method=f"{name}, newey-west {reach}",
                n_control=int(start),
                n_treatment=after,
                absolute=absolute,
                se=se,
                df=df,
                ci_lower=absolute - width,
                ci_upper=absolute + width,
                p_value=two_sided_p(absolute / se, df),
                level=level,
                assumptions=assumptions,
                flags=flags + (rough if df < SHAKY_DF else ()),
            )
        )
    level_change, slope_change, average, at_end = results
    return InterruptedSeries(
        DESIGN, level_change, slope_change, average, at_end, memory, reach, assumptions, flags
    )


def _columns(n: int, start: int, season: int | None) -> FloatArray:
    """Constant, trend, level change, slope change, and places in the season less their mean."""
    time = np.arange(n, dtype=np.float64)
    since = np.maximum(time - start, 0.0)
    columns = [np.ones(n), time - time.mean(), (time >= start).astype(np.float64), since]
    if season is not None:
        places = (np.arange(n) % season)[:, None] == np.arange(1, season)
        columns += list((places - places.mean(axis=0)).T)
    return np.column_stack(columns)


def _newey_west(scores: FloatArray, kernel: FloatArray, reach: int) -> float:
    total = float(scores @ scores)
    for lag in range(1, min(reach, scores.size - 1) + 1):
        total += 2.0 * float(kernel[lag]) * float(scores[lag:] @ scores[:-lag])
    return total


def _memory(residuals: FloatArray, q: FloatArray) -> float:
    """The share that a period passes on to the next, from residuals that the fit has made less alike.

    The lag-one correlation of residuals is drawn down by the terms; the memory is that whose expected value
    (ratio of expected products) is the one seen. Between 0 and the most that is allowed.
    """
    seen = float(residuals[1:] @ residuals[:-1]) / float(residuals @ residuals)

    def expected(memory: float) -> float:
        if residuals.size > _LONGEST:
            return memory
        left = _residual_covariance(q, _errors(residuals.size, memory))
        return float(np.sum(np.diag(left, 1)) / np.trace(left))

    low, high = 0.0, _MOST_MEMORY
    if seen <= expected(low):
        return 0.0
    if seen >= expected(high):
        return _MOST_MEMORY
    for _ in range(20):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expected(middle) < seen else (low, middle)
    return (low + high) / 2.0


def _errors(n: int, memory: float) -> FloatArray:
    """Covariance (n, n) of errors of variance 1 of which each passes on this share of its own."""
    return np.asarray((memory ** np.arange(n))[_gaps(n)], dtype=np.float64)


def _gaps(n: int) -> NDArray[np.int64]:
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def _residual_covariance(q: FloatArray, errors: FloatArray) -> FloatArray:
    """Covariance of residuals, M Omega M, for errors of this covariance."""
    half = errors - q @ (q.T @ errors)
    return np.asarray(half - (half @ q) @ q.T, dtype=np.float64)


def _small_sample(
    pull: FloatArray, left_over: FloatArray, errors: FloatArray, kernel: FloatArray
) -> tuple[float, float]:
    """By what must the variance be multiplied, and how many degrees of freedom has it, for these errors?"""
    form = pull[:, None] * kernel[_gaps(pull.size)] * pull[None, :]
    left = form @ left_over
    expected = float(np.trace(left))
    spread = float(np.sum(left * left.T))
    true = float(pull @ errors @ pull)
    if not (expected > 0.0 and spread > 0.0):
        return 0.0, 0.0
    return true / expected, expected**2 / spread
