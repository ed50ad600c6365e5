"""Regression discontinuity: what happens at a cutoff that decides treatment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import covariate_rows, finite_values
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.quasi.local_polynomial import (
    Bandwidths,
    Side,
    best_bandwidths,
    gram_inverse,
    neighbour_residuals,
    powers,
    triangular,
)
from exp_pipeline.stats.quasi.outcome import QuasiEffect
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]

DESIGN = "regression discontinuity"
AT_CUTOFF = (
    "without treatment, the outcome would be smooth in the running variable at the cutoff",
    "nobody could choose on which side of the cutoff to be",
    "nothing else changes at the cutoff",
    "the effect is that on units at the cutoff, not on others",
)
FUZZY = (
    "crossing the cutoff changes the outcome only through treatment",
    "crossing the cutoff keeps nobody from treatment (the effect is that on those whom it moved)",
)
WEAK_FIRST_STAGE = 10.0
# Rows within the bandwidth on the thinner side from which intervals cover 93.5-96.5 % (with 30: 92 %).
FEWEST_WITHIN = 60


@dataclass(frozen=True, slots=True)
class Jump:
    """How far does something jump at the cutoff? Estimate and error are robust to the curve's bias."""

    estimate: float
    se: float
    conventional: float
    conventional_se: float


@dataclass(frozen=True, slots=True)
class Discontinuity:
    """What is the effect at the cutoff?

    `effect` has the bias-corrected estimate with its robust standard error, so that interval, p and estimate
    belong together; `conventional` is the local linear estimate (the smallest squared error), whose own
    `conventional_se` must not be used for an interval at the best bandwidth. `n_*` of the effect count rows
    within the bandwidth. `first_stage` is the jump in what was received, None where the cutoff decides alone.
    """

    effect: QuasiEffect
    conventional: float
    conventional_se: float
    bandwidth: float
    bias_bandwidth: float
    first_stage: Jump | None


@dataclass(frozen=True, slots=True)
class PlaceboRow:
    """Does a covariate, which treatment cannot have changed, jump at the cutoff?

    `p_holm` is adjusted for looking at several. Both are None where `reason` says why there is no test.
    """

    name: str
    estimate: float | None
    p_value: float | None
    p_holm: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DonutRow:
    """What is the effect without the rows nearer than `radius` to the cutoff?"""

    radius: float
    left_out: int
    result: Discontinuity | NotEstimable


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """The value at the cutoff from one side, plain and bias-corrected, and what each row weighs in it."""

    level: FloatArray
    corrected: FloatArray
    plain_pull: FloatArray
    robust_pull: FloatArray
    residuals: FloatArray
    rows: int


def discontinuity_effect(
    outcome: ArrayLike,
    running: ArrayLike,
    *,
    cutoff: float = 0.0,
    received: ArrayLike | None = None,
    bandwidth: float | None = None,
    bias_bandwidth: float | None = None,
    level: float = 0.95,
) -> Discontinuity | NotEstimable:
    """What is the effect at the cutoff of the running variable from which units are treated?

    outcome, running: (n,), treated where running >= cutoff. received: (n,), what units got (yes or no, or a
    dose) where the cutoff does not decide alone (fuzzy: jump in outcome over jump in received). Local linear
    fits on each side, triangular kernel, bandwidth of smallest squared error unless given (then also for the
    bias, unless that is given too), robust bias-corrected interval with nearest-neighbour variances
    (Calonico, Cattaneo and Titiunik 2014). Fuzzy bandwidths are those of outcome - ratio x received at a
    first estimate of the ratio, of which the estimate's error is made. Normal reference. Rows are taken as
    independent.

    NotEstimable for a side with too few different values, no first stage, or no spread. Raises ValueError for
    shapes or values that do not fit.
    """
    require_level(level)
    y, x = finite_values("outcome", outcome), finite_values("running", running)
    if x.shape != y.shape:
        raise ValueError(f"running must have shape {y.shape}, got {x.shape}")
    if not math.isfinite(cutoff):
        raise ValueError(f"cutoff must be finite, got {cutoff!r}")
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0.0):
        raise ValueError(f"bandwidth must be a positive number, got {bandwidth!r}")
    if bias_bandwidth is not None and not (
        bandwidth is not None and math.isfinite(bias_bandwidth) and bias_bandwidth > 0.0
    ):
        raise ValueError(f"bias_bandwidth must be positive, beside a bandwidth, got {bias_bandwidth!r}")
    dose = None if received is None else finite_values("received", received)
    if dose is not None and dose.shape != y.shape:
        raise ValueError(f"received must have shape {y.shape}, got {dose.shape}")
    at = x - cutoff
    treated = at >= 0.0
    counts = int(y.size - treated.sum()), int(treated.sum())
    for name, side in (("below", ~treated), ("from", treated)):
        if np.unique(at[side]).size < 5:
            reason = f"fewer than five different values of the running variable {name} the cutoff"
            return NotEstimable(DESIGN, reason, *counts)
    scale = float(y.std())
    if scale <= 1e-13 * float(np.abs(y).max()):
        return NotEstimable(DESIGN, "the outcome does not vary", *counts)
    values = (y - y.mean())[:, None] if dose is None else np.column_stack([y - y.mean(), dose])
    sides = (_side(at, values, ~treated), _side(at, values, treated))
    flags: tuple[str, ...] = ()
    if bandwidth is None:
        chosen = best_bandwidths(sides)
        if chosen is not None and dose is not None:
            chosen = _ratio_bandwidths(sides, chosen[0])
        if chosen is None:
            return NotEstimable(DESIGN, "too few values near the cutoff to choose a bandwidth", *counts)
        widths, repeated = chosen
        if repeated:
            flags = ("many units share a value of the running variable: a jump between values is not seen",)
    else:
        widths = Bandwidths(bandwidth, bandwidth if bias_bandwidth is None else bias_bandwidth)
    fits = tuple(_fit(side, widths) for side in sides)
    left, right = fits
    if left is None or right is None:
        return NotEstimable(DESIGN, "too few different values within the bandwidth on a side", *counts)
    jump, corrected = right.level - left.level, right.corrected - left.corrected
    mix, first = np.array([1.0]), None
    estimate, conventional = float(corrected[0]), float(jump[0])
    if dose is not None:
        first = _jump(left, right, np.array([0.0, 1.0]), jump[1], corrected[1])
        if abs(float(jump[1])) <= 1e-10 * max(float(np.abs(dose).max()), 1e-300):
            reason = "what was received does not jump at the cutoff: there is no first stage"
            return NotEstimable(DESIGN, reason, *counts)
        mix = np.array([1.0 / jump[1], -jump[0] / jump[1] ** 2])
        conventional = float(jump[0] / jump[1])
        # The bias of the ratio to first order, as the paper takes it.
        estimate = conventional - float(mix @ (jump - corrected))
        f = math.inf if first.se == 0.0 else (first.estimate / first.se) ** 2
        if f < WEAK_FIRST_STAGE:
            flags += (f"weak first stage (F {f:.1f}): the interval is not to be trusted",)
    found = _jump(left, right, mix, conventional, estimate)
    if not found.se > 1e-12 * scale / max(abs(float(jump[-1])) if dose is not None else 1.0, 1e-300):
        return NotEstimable(DESIGN, "the outcome has no spread near the cutoff", *counts)
    if min(left.rows, right.rows) < FEWEST_WITHIN:
        flags += (f"only {left.rows} and {right.rows} rows within the bandwidth: the interval is rough",)
    reach = two_sided_critical(level, math.inf) * found.se
    effect = QuasiEffect(
        design=DESIGN,
        method="fuzzy" if dose is not None else "sharp",
        n_control=left.rows,
        n_treatment=right.rows,
        absolute=estimate,
        se=found.se,
        df=math.inf,
        ci_lower=estimate - reach,
        ci_upper=estimate + reach,
        p_value=two_sided_p(estimate / found.se, math.inf),
        level=level,
        assumptions=AT_CUTOFF + (FUZZY if dose is not None else ()),
        flags=flags,
    )
    return Discontinuity(effect, conventional, found.conventional_se, widths.main, widths.bias, first)


def placebo_covariates(
    covariates: ArrayLike, running: ArrayLike, *, cutoff: float = 0.0, names: Sequence[str] | None = None
) -> tuple[PlaceboRow, ...]:
    """Do things that treatment cannot have changed jump at the cutoff? They should not.

    covariates: (n, k), measured before; each as an outcome of its own, with its own bandwidth. Raises
    ValueError for shapes or values that do not fit.
    """
    x = finite_values("running", running)
    wide = covariate_rows(covariates, x.size)
    labels = [f"covariate {j + 1}" for j in range(wide.shape[1])] if names is None else list(names)
    if len(labels) != wide.shape[1]:
        raise ValueError(f"names must name {wide.shape[1]} covariates, got {len(labels)}")
    rows = []
    for name, column in zip(labels, wide.T, strict=True):
        result = discontinuity_effect(column, x, cutoff=cutoff)
        if isinstance(result, NotEstimable):
            rows.append(PlaceboRow(name, None, None, None, result.reason))
        else:
            rows.append(PlaceboRow(name, result.effect.absolute, result.effect.p_value, None))
    adjusted = holm({str(place): row.p_value for place, row in enumerate(rows) if row.p_value is not None})
    return tuple(replace(row, p_holm=adjusted.get(str(place))) for place, row in enumerate(rows))


def donut_effects(
    outcome: ArrayLike,
    running: ArrayLike,
    radii: ArrayLike,
    *,
    cutoff: float = 0.0,
    received: ArrayLike | None = None,
    bandwidth: float | None = None,
    level: float = 0.95,
) -> tuple[DonutRow, ...]:
    """Does the effect hang on the rows nearest to the cutoff, where sides may have been chosen?

    radii: rows with |running - cutoff| below each are left out in turn; the rest as in
    `discontinuity_effect`. Raises ValueError for radii below zero and as there.
    """
    sizes = finite_values("radii", radii)
    if (sizes < 0.0).any():
        raise ValueError(f"radii must be numbers from 0 up, got {radii!r}")
    y, x = finite_values("outcome", outcome), finite_values("running", running)
    if x.shape != y.shape:
        raise ValueError(f"running must have shape {y.shape}, got {x.shape}")
    dose = None if received is None else finite_values("received", received)
    rows = []
    for radius in sizes:
        keep = np.abs(x - cutoff) >= radius
        result = discontinuity_effect(
            y[keep],
            x[keep],
            cutoff=cutoff,
            received=None if dose is None else dose[keep],
            bandwidth=bandwidth,
            level=level,
        )
        rows.append(DonutRow(float(radius), int((~keep).sum()), result))
    return tuple(rows)


def _side(at: FloatArray, values: FloatArray, chosen: NDArray[np.bool_]) -> Side:
    # Equal distances are put in one order, so that the order of rows does not matter.
    keys = (*values[chosen].T[::-1], at[chosen])
    order = np.lexsort(keys)
    return Side(at[chosen][order], values[chosen][order])


def _ratio_bandwidths(sides: tuple[Side, Side], first: Bandwidths) -> tuple[Bandwidths, bool] | None:
    """The bandwidths of outcome - ratio x received, the ratio from the outcome's own bandwidths."""
    left, right = (_fit(side, first) for side in sides)
    if left is None or right is None:
        return None
    jump = right.level - left.level
    if jump[1] == 0.0:
        return first, False
    mix = np.array([1.0, -float(jump[0] / jump[1])])
    below, above = (Side(side.at, (side.values @ mix)[:, None]) for side in sides)
    return best_bandwidths((below, above))


def _fit(side: Side, widths: Bandwidths) -> _Fit | None:
    """The value at the cutoff, and how each row pulls it with and without its estimated bias."""
    inside = np.abs(side.at) < max(widths.main, widths.bias)
    at, values = side.at[inside], side.values[inside]
    w, v = triangular(at, widths.main), triangular(at, widths.bias)
    line, curve = gram_inverse(at, w, 1), gram_inverse(at, v, 2)
    if line is None or curve is None:
        return None
    plain = (powers(at, 1) * w[:, None]) @ line[0]
    # The bias of the line is its pull on x^2 times the curve's own coefficient of x^2.
    bend = (powers(at, 2) * v[:, None]) @ curve[2]
    robust = plain - float(plain @ at**2) * bend
    return _Fit(
        values.T @ plain,
        values.T @ robust,
        plain,
        robust,
        neighbour_residuals(at, values),
        int((w > 0.0).sum()),
    )


def _jump(left: _Fit, right: _Fit, mix: FloatArray, conventional: float, estimate: float) -> Jump:
    variances = [
        sum(float(np.sum((pull * (fit.residuals @ mix)) ** 2)) for fit, pull in pairs)
        for pairs in (
            ((left, left.plain_pull), (right, right.plain_pull)),
            ((left, left.robust_pull), (right, right.robust_pull)),
        )
    ]
    return Jump(float(estimate), math.sqrt(variances[1]), float(conventional), math.sqrt(variances[0]))
