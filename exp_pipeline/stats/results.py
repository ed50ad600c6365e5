"""What every estimator of this room hands back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effect:
    """What did treatment change against control, and how sure are we?

    `n_*` count analysis units (for quantiles: the units that own the rows). `mean_*` are the unadjusted arm
    values: mean, proportion, ratio or quantile. `absolute` is treatment minus control, in the metric's own
    unit, after adjustment if the method adjusts. `se` is its standard error and `df` the degrees of freedom
    of the t reference (infinity means normal). `level` is the confidence of both intervals. The relative
    effect is the absolute one over the size of the control value, so that both always have the same sign;
    it is None, with a flag saying why, where it is undefined. `variance_reduction` is 1 - (se adjusted / se
    unadjusted)^2. `clusters_*` are filled where the standard error is by cluster.
    """

    method: str
    n_control: int
    n_treatment: int
    mean_control: float
    mean_treatment: float
    absolute: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    relative: float | None
    relative_ci_lower: float | None
    relative_ci_upper: float | None
    relative_method: str | None
    standardised: float | None
    variance_reduction: float | None
    flags: tuple[str, ...] = ()
    clusters_control: int | None = None
    clusters_treatment: int | None = None


@dataclass(frozen=True, slots=True)
class NotEstimable:
    """Why is there no estimate? `reason` says it in plain words.

    Where there are no arms (agreement, strengths of many items) both counts are 0 and `reason` names sizes.
    """

    method: str
    reason: str
    n_control: int = 0
    n_treatment: int = 0
