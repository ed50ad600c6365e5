"""Whether groups resemble each other, before and after weighting, and how strong a hidden cause must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, covariate_rows, finite_values

FloatArray = NDArray[np.float64]

# Beyond this a standardised difference is usually called an imbalance (Austin 2009).
IMBALANCED = 0.1


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """How far are the groups apart in one covariate, before and after weighting?

    Differences are treated minus control over one standard deviation, the same before and after.
    Variance ratios are treated over control; None where the covariate has two values or none varies.
    Standardised differences are None where the covariate varies in neither group.
    """

    name: str
    mean_control_before: float
    mean_treatment_before: float
    difference_before: float | None
    variance_ratio_before: float | None
    mean_control_after: float
    mean_treatment_after: float
    difference_after: float | None
    variance_ratio_after: float | None


@dataclass(frozen=True, slots=True)
class BalanceTable:
    """Do groups resemble each other? Rows as a love plot has them: the largest difference before first.

    `effective_*` are the sizes of unweighted groups of the same precision (Kish).
    """

    rows: tuple[BalanceRow, ...]
    largest_before: float | None
    largest_after: float | None
    effective_control: float
    effective_treatment: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EValue:
    """How strongly must a hidden cause go with treatment and with the outcome to explain the effect away?

    Both as risk ratios beyond the covariates. `interval` is that for the end of the interval nearest to no
    effect: 1 where the interval holds it already.
    """

    risk_ratio: float
    estimate: float
    interval: float


def balance_table(
    treated: ArrayLike,
    covariates: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    spread: Literal["pooled", "treated"] = "pooled",
) -> BalanceTable:
    """How far are treated and control units apart in each covariate, before and after weighting?

    treated (bool): (n,), covariates: (n, k), weights: (n,) as in `weighting.score_weights` or
    `matching.MatchedEffect`; without them, after is before. spread: the standard deviation that differences
    are counted in, of both groups unweighted (root of the mean variance) or of the treated.

    Raises ValueError for shapes or values that do not fit, negative weights, or an empty group.
    """
    arm = np.asarray(treated)
    n = arm.shape[0] if arm.ndim == 1 else 0
    arm = arm_values("treated", treated, n)
    x = covariate_rows(covariates, n)
    if spread not in ("pooled", "treated"):
        raise ValueError(f"spread must be 'pooled' or 'treated', got {spread!r}")
    if min(int(arm.sum()), int(n - arm.sum())) < 2:
        raise ValueError("treated must hold at least two units of each group")
    w = np.ones(n) if weights is None else finite_values("weights", weights)
    if w.shape != (n,) or (w < 0.0).any() or not (w[arm].sum() > 0.0 and w[~arm].sum() > 0.0):
        raise ValueError(f"weights must be {n} numbers from 0 up, with a positive sum in each group")
    labels = [f"covariate {j + 1}" for j in range(x.shape[1])] if names is None else list(names)
    if len(labels) != x.shape[1]:
        raise ValueError(f"names must name {x.shape[1]} covariates, got {len(labels)}")
    rows = [_row(label, x[:, j], arm, w, spread) for j, label in enumerate(labels)]
    rows.sort(key=lambda row: (-abs(row.difference_before or 0.0), row.name))
    before = [abs(row.difference_before) for row in rows if row.difference_before is not None]
    after = [abs(row.difference_after) for row in rows if row.difference_after is not None]
    left = [row.name for row in rows if abs(row.difference_after or 0.0) > IMBALANCED]
    flags = (f"still apart by more than {IMBALANCED} standard deviations: {', '.join(left)}",) if left else ()
    sizes = [float(w[side].sum() ** 2 / (w[side] @ w[side])) for side in (~arm, arm)]
    return BalanceTable(
        tuple(rows), max(before, default=None), max(after, default=None), sizes[0], sizes[1], flags
    )


def e_value(risk_ratio: float, ci_lower: float, ci_upper: float) -> EValue:
    """How strong must a hidden cause be to explain away a risk ratio with this interval?

    VanderWeele and Ding (2017): RR + sqrt(RR (RR - 1)), of its inverse where it is below one. Raises
    ValueError for ratios that are not positive or an interval that does not hold the estimate.
    """
    if not (0.0 < ci_lower <= risk_ratio <= ci_upper < math.inf):
        raise ValueError(
            f"risk ratios must be positive, the interval around the estimate, got {risk_ratio!r} "
            f"[{ci_lower!r}, {ci_upper!r}]"
        )
    nearest = min(max(1.0, ci_lower), ci_upper)
    return EValue(risk_ratio, _hidden(risk_ratio), _hidden(nearest))


def e_value_of_difference(difference: float, se: float, sd: float, *, level: float = 0.95) -> EValue:
    """How strong must a hidden cause be to explain away a difference of means?

    difference, se in the outcome's unit, sd its standard deviation within groups. The standardised difference
    d stands for a risk ratio of exp(0.91 d) (VanderWeele and Ding 2017, table 2), an approximation. Raises
    ValueError for a standard error or deviation that is not positive.
    """
    from exp_pipeline.stats.reference import require_level, two_sided_critical

    require_level(level)
    if not (se > 0.0 and sd > 0.0 and math.isfinite(difference)):
        raise ValueError(
            f"se and sd must be positive and difference finite, got {se!r}, {sd!r}, {difference!r}"
        )
    middle = difference / sd
    reach = two_sided_critical(level, math.inf) * se / sd
    return e_value(*(math.exp(0.91 * end) for end in (middle, middle - reach, middle + reach)))


def _hidden(ratio: float) -> float:
    above = max(ratio, 1.0 / ratio)
    return above + math.sqrt(above * (above - 1.0))


def _row(
    name: str, x: FloatArray, arm: NDArray[np.bool_], w: FloatArray, spread: Literal["pooled", "treated"]
) -> BalanceRow:
    centre = float(x.mean())
    values = x - centre
    plain = [_mean_and_variance(values[side], np.ones(int(side.sum()))) for side in (~arm, arm)]
    after = [_mean_and_variance(values[side], w[side]) for side in (~arm, arm)]
    (c0, v0), (t0, u0) = plain
    (c1, v1), (t1, u1) = after
    scale = math.sqrt((v0 + u0) / 2.0) if spread == "pooled" else math.sqrt(u0)
    known = scale > 1e-13 * float(np.abs(x).max())
    many = np.unique(x).size > 2
    return BalanceRow(
        name=name,
        mean_control_before=c0 + centre,
        mean_treatment_before=t0 + centre,
        difference_before=(t0 - c0) / scale if known else None,
        variance_ratio_before=u0 / v0 if known and many and v0 > 0.0 else None,
        mean_control_after=c1 + centre,
        mean_treatment_after=t1 + centre,
        difference_after=(t1 - c1) / scale if known else None,
        variance_ratio_after=u1 / v1 if known and many and v1 > 0.0 else None,
    )


def _mean_and_variance(values: FloatArray, w: FloatArray) -> tuple[float, float]:
    """Weighted mean and variance, unbiased for weights that say how well each value counts."""
    shares = w / w.sum()
    mean = float(shares @ values)
    left = 1.0 - float(shares @ shares)
    return mean, float(shares @ (values - mean) ** 2) / left if left > 1e-12 else 0.0
