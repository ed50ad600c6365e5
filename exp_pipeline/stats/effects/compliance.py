"""Effects on those who took what they were offered, where not all did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import (
    Method,
    arm_values,
    cluster_design,
    correct,
    covariate_rows,
    finite_values,
    group_codes,
    influence_of,
    method_for,
    regress,
)
from exp_pipeline.stats.clusters.effects import SHAKY_DF, clustered_difference
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]

# Below this the usual interval of two-stage least squares is not to be trusted (Staiger and Stock 1997).
WEAK_FIRST_STAGE = 10.0
# Below this its t-test may exceed 5 % (Lee, McCrary, Moreira and Porter 2022), and its two tails differ: at
# F = 66 with strong selection into receipt they were 4.1 and 0.8 % in simulation, Anderson-Rubin's even.
UNEVEN_FIRST_STAGE = 104.7
# A first stage smaller than this share of the spread of what was received is rounding.
_NO_FIRST_STAGE = 1e-10


@dataclass(frozen=True, slots=True)
class AndersonRubin:
    """Which effects does the Anderson-Rubin test not reject? Right however weak the first stage is.

    kind "interval": from lower to upper. "outside": everything up to lower and from upper on. "everything":
    no effect can be excluded; lower and upper are None.
    """

    kind: Literal["interval", "outside", "everything"]
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class FirstStage:
    """By how much did assignment move what was received?

    `f` is the square of the robust t, which with one instrument is also the effective F of Montiel Olea and
    Pflueger (2013), infinite where all received just what they were assigned to. The shares are None where
    what was received is not yes or no: `complier_share` is `absolute`, the others are of units, unadjusted,
    and count who received it though assigned to control (always) and who did not though assigned to
    treatment (never).
    """

    absolute: float
    se: float
    f: float
    one_sided: bool | None
    complier_share: float | None
    always_share: float | None
    never_share: float | None


@dataclass(frozen=True, slots=True)
class ComplierEffect:
    """What did assignment do (`itt`, the headline), and what did receiving do to those whom it moved?

    `absolute` is the complier average causal effect, `se` and the interval those of two-stage least squares.
    `p_value` is that of `itt`: with one instrument it is the Anderson-Rubin test of no effect, right also
    where the first stage is weak.
    """

    method: str
    itt: Effect
    first_stage: FirstStage
    absolute: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    anderson_rubin: AndersonRubin
    flags: tuple[str, ...] = ()


def complier_effect(
    outcome: ArrayLike,
    assigned: ArrayLike,
    received: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    method: Literal["auto", "cr1", "cr2"] = "auto",
    level: float = 0.95,
) -> ComplierEffect | NotEstimable:
    """What did receiving it do to those who received it because they were assigned to it?

    outcome, received (yes or no, or a dose), assigned (bool): (n,), one row a unit. cluster, covariates,
    strata, method as in `clusters.clustered_difference`; without clusters each unit is its own, so "cr1" is
    HC1 and "cr2" HC2. The effect of assignment on the outcome over that on what was received, both with the
    same covariates: two-stage least squares with one instrument (Angrist, Imbens and Rubin 1996). It rests on
    three things that data do not show: assignment works through receiving only, moves nobody away from it
    (monotonicity: sure where control could not get it), and was random. CR2 and its degrees of freedom take
    the projected design, as Pustejovsky and Tipton (2018) do.

    NotEstimable wherever the effect of assignment is, and where assignment did not move what was received.
    Raises ValueError for shapes or values that do not fit.
    """
    require_level(level)
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("assigned", assigned, n)
    dose = finite_values("received", received)
    if dose.shape != (n,):
        raise ValueError(f"received must have shape ({n},), got {dose.shape}")
    groups = np.arange(n) if cluster is None else group_codes("cluster", cluster, n)
    itt = clustered_difference(
        y, arm, groups, covariates=covariates, strata=strata, method=method, level=level
    )
    if isinstance(itt, NotEstimable):
        return NotEstimable(f"2sls-{itt.method}", itt.reason, itt.n_control, itt.n_treatment)
    chosen: Method = (
        method_for(itt.clusters_control or 0, itt.clusters_treatment or 0, int(groups.max()) + 1)
        if method == "auto"
        else method
    )
    name = f"2sls-{chosen}"

    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    layers = None if strata is None else group_codes("strata", strata, n)[order]
    design, _ = cluster_design(arm[order], starts, covariate_rows(covariates, n)[order], layers)
    correction = None if design is None else correct(design, chosen)
    if design is None or correction is None:
        return NotEstimable(name, "too few clusters for a variance", itt.n_control, itt.n_treatment)
    first, reduced = regress(design, dose[order]), regress(design, y[order])
    moved = float(first.coefficients[-1])
    size = float(np.sqrt(np.mean((dose - dose.mean()) ** 2)))
    if abs(moved) <= _NO_FIRST_STAGE * size or size <= 1e-13 * float(np.abs(dose).max()):
        reason = "assignment did not change what was received: there is no first stage"
        return NotEstimable(name, reason, itt.n_control, itt.n_treatment)
    # Where assignment alone decides, only rounding is left of the first stage's residuals.
    left = float(np.sum(first.residuals**2)) > 1e-24 * n * size**2
    of_dose = influence_of(design, first, correction).effect if left else np.zeros(starts.size)
    of_outcome = influence_of(design, reduced, correction).effect

    absolute = float(reduced.coefficients[-1]) / moved
    structural = of_outcome - absolute * of_dose
    se = math.sqrt(float(structural @ structural)) / abs(moved)
    if float(structural @ structural) <= 1e-24 * float(of_outcome @ of_outcome):
        reason = "the outcome has no spread that arm and receipt leave"
        return NotEstimable(name, reason, itt.n_control, itt.n_treatment)
    df = correction.df
    critical = two_sided_critical(level, df)
    variance = float(of_dose @ of_dose)
    first_stage = _first_stage(dose, arm, moved, variance)
    robin = _anderson_rubin(
        float(reduced.coefficients[-1]), moved, of_outcome, of_dose, critical, absolute, se
    )
    flags = list(itt.flags)
    if first_stage.f < WEAK_FIRST_STAGE:
        flags.append(f"weak first stage (F {first_stage.f:.1f}): read the Anderson-Rubin interval")
    elif first_stage.f < UNEVEN_FIRST_STAGE:
        flags.append(
            f"first stage of F {first_stage.f:.0f}: one end of the interval may err more than the other, "
            "read the Anderson-Rubin interval beside it"
        )
    if moved < 0.0:
        flags.append("those assigned to treatment received less: check how assignment and receipt are coded")
    if first_stage.one_sided is False:
        flags.append("control received it too: the effect assumes that assignment moved nobody away from it")
    if variance == 0.0:
        flags.append("all received what they were assigned to: the complier effect is that of assignment")
    if df < SHAKY_DF and not any("degrees of freedom" in flag for flag in flags):
        flags.append(f"only {df:.1f} degrees of freedom: p-value and interval are rough")
    reach = critical * se
    return ComplierEffect(
        method=name,
        itt=itt,
        first_stage=first_stage,
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=absolute - reach,
        ci_upper=absolute + reach,
        p_value=two_sided_p(itt.absolute / itt.se, df),
        level=level,
        anderson_rubin=robin,
        flags=tuple(flags),
    )


def _first_stage(dose: FloatArray, arm: NDArray[np.bool_], moved: float, variance: float) -> FirstStage:
    f = moved**2 / variance if variance > 0.0 else math.inf
    if not np.isin(dose, (0.0, 1.0)).all():
        return FirstStage(moved, math.sqrt(variance), f, None, None, None, None)
    always, never = float(dose[~arm].mean()), 1.0 - float(dose[arm].mean())
    one_sided = always == 0.0 or never == 0.0
    return FirstStage(moved, math.sqrt(variance), f, one_sided, moved, always, never)


def _anderson_rubin(
    reduced: float,
    moved: float,
    of_outcome: FloatArray,
    of_dose: FloatArray,
    critical: float,
    absolute: float,
    se: float,
) -> AndersonRubin:
    """Effects b with (reduced - b moved)^2 <= critical^2 Var(reduced - b moved), a quadratic in b.

    Written in s, with b = absolute + s se, so that the estimate is the origin and rounding stays small.
    """
    at_zero = of_outcome - absolute * of_dose
    square = (moved**2 - critical**2 * float(of_dose @ of_dose)) * se**2
    linear = critical**2 * float(at_zero @ of_dose) * se
    constant = -(critical**2) * float(at_zero @ at_zero)
    # square s^2 + 2 linear s + constant <= 0, constant < 0: s = 0 always belongs.
    if square == 0.0:
        return AndersonRubin("everything", None, None)
    discriminant = linear**2 - square * constant
    if square < 0.0 and discriminant <= 0.0:
        return AndersonRubin("everything", None, None)
    root = math.sqrt(discriminant)
    ends = sorted(((-linear - root) / square, (-linear + root) / square))
    kind: Literal["interval", "outside"] = "interval" if square > 0.0 else "outside"
    return AndersonRubin(kind, absolute + ends[0] * se, absolute + ends[1] * se)
