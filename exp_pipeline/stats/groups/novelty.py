"""Does an effect last? By period since enrolment, with what the same units do to several periods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.clusters.design import arm_values, finite_values, group_codes
from exp_pipeline.stats.groups.joint import (
    ContrastOfCells,
    JointEffects,
    JointTest,
    contrast_of_cells,
    differences,
    joint_effects,
    joint_test,
)
from exp_pipeline.stats.reference import chi_square_tail, require_level, two_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]

# Periods count as stable together while a test that they share one effect does not fall below this.
STABLE_P = 0.10
# An inverse of a covariance of K periods needs about so many clusters each.
CLUSTERS_PER_PERIOD = 10
_FIT_P = 0.05
_DECAYS = 400


@dataclass(frozen=True, slots=True)
class PeriodEffect:
    """What is the effect in one period since enrolment? It holds the units that have had that period."""

    period: float
    n_control: int
    n_treatment: int
    absolute: float
    se: float
    df: float
    ci_lower: float
    ci_upper: float


@dataclass(frozen=True, slots=True)
class Decay:
    """What does steady + (initial - steady) exp(-(t - first) / tau), fitted to the periods, say?

    half_life: periods until half of the way from the first period to the steady effect is gone. The upper end
    of its interval is None where the data do not bound it. lack_of_fit_p: how well the curve fits.
    """

    steady: float
    ci_lower: float
    ci_upper: float
    initial: float
    half_life: float
    half_life_lower: float
    half_life_upper: float | None
    lack_of_fit_p: float


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What is the effect after units got used to it? `because` says which rule chose the method."""

    method: Literal["decay", "stable periods", "last period"]
    absolute: float
    ci_lower: float
    ci_upper: float
    from_period: float
    because: str


@dataclass(frozen=True, slots=True)
class NoveltyEffect:
    """How does the effect move with the time since enrolment?

    constant: do all periods share one effect? trend: change of the effect a period. late_less_early: mean of
    the last periods less that of the first. decay: None where there are too few periods or clusters for it.
    """

    periods: tuple[PeriodEffect, ...]
    constant: JointTest | NotEstimable
    trend: ContrastOfCells | NotEstimable
    late_less_early: ContrastOfCells | NotEstimable
    decay: Decay | None
    steady: SteadyState
    left_out: tuple[tuple[str, str], ...]
    level: float
    flags: tuple[str, ...] = ()


def novelty_effect(
    outcome: ArrayLike,
    treated: ArrayLike,
    period: ArrayLike,
    cluster: ArrayLike,
    *,
    denominator: ArrayLike | None = None,
    same_units: bool = False,
    ends: int = 1,
    level: float = 0.95,
) -> NoveltyEffect | NotEstimable:
    """How does the effect change with time since enrolment, and where does it settle?

    outcome, treated (bool), period (number of periods since the unit's own enrolment), cluster (the unit, or
    what was randomised): (n,), one row a unit and period. Joint covariance by cluster (see `joint`), so that
    units seen in many periods count once. same_units keeps only clusters that have every period: else later
    periods hold early enrollees only, and a change may be theirs. ends: periods at either end of the contrast
    of late with early.

    The steady effect: (1) where one effect for all periods is not rejected (p >= 0.10), their mean; (2) else
    the asymptote of an exponential decay, if there are four periods, ten clusters a period, the curve is not
    rejected (p >= 0.05), and its interval does not rest on decays slower than the time observed; (3) else the
    mean of the longest stretch of last periods that share one effect (p >= 0.10); (4) else the last period.

    NotEstimable where fewer than two periods have two clusters in each arm. Raises ValueError for shapes or
    values that do not fit.
    """
    require_level(level)
    y = finite_values("outcome", outcome)
    n = y.shape[0]
    arm = arm_values("treated", treated, n)
    when = finite_values("period", period)
    if when.shape != (n,):
        raise ValueError(f"period must have shape ({n},), got {when.shape}")
    groups = group_codes("cluster", cluster, n)
    base = None if denominator is None else finite_values("denominator", denominator)
    if base is not None and base.shape != (n,):
        raise ValueError(f"denominator must have shape ({n},), got {base.shape}")
    if ends < 1:
        raise ValueError(f"ends must be at least 1 period, got {ends!r}")
    flags: list[str] = []
    if same_units and n:
        keep = _with_every_period(when, groups)
        left = int(groups.max()) + 1 - int(np.unique(groups[keep]).size)
        if left:
            flags.append(f"{left} clusters without every period are left out")
        y, arm, when, groups = y[keep], arm[keep], when[keep], groups[keep]
        base = None if base is None else base[keep]
    joint = joint_effects(y, arm, when, groups, denominator=base)
    if isinstance(joint, NotEstimable):
        return NotEstimable("novelty", joint.reason, joint.n_control, joint.n_treatment)
    times = np.array([float(name) for name in joint.names])
    k = times.size
    points = []
    for place in range(k):
        own = contrast_of_cells(joint, np.eye(k)[place], level=level)
        if isinstance(own, NotEstimable):
            return NotEstimable("novelty", own.reason, own.n_control, own.n_treatment)
        points.append(
            PeriodEffect(
                float(times[place]), int(joint.n_control[place]), int(joint.n_treatment[place]),
                own.estimate, own.se, own.df, own.ci_lower, own.ci_upper,
            )
        )  # fmt: skip
    weights = _precision(joint)
    centred = times - float(weights @ times) / float(weights.sum())
    slope = weights * centred / float(weights @ centred**2)
    take = min(ends, k // 2)
    if take < ends:
        flags.append(f"early and late are {take} periods each: there are only {k}")
    gap = np.zeros(k)
    gap[:take] = -weights[:take] / weights[:take].sum()
    gap[k - take :] = weights[k - take :] / weights[k - take :].sum()
    constant = joint_test(joint, differences(k))
    decay = _decay(joint, times, level)
    steady = _steady(joint, times, constant, decay, level)
    if isinstance(steady, NotEstimable):
        return steady
    return NoveltyEffect(
        periods=tuple(points),
        constant=constant,
        trend=contrast_of_cells(joint, slope, level=level),
        late_less_early=contrast_of_cells(joint, gap, level=level),
        decay=decay,
        steady=steady,
        left_out=tuple((f"{float(name):g}", reason) for name, reason in joint.left_out),
        level=level,
        flags=(*flags, *joint.flags),
    )


def _with_every_period(when: FloatArray, groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    periods, place = np.unique(when, return_inverse=True)
    pairs = np.unique(groups * periods.size + place.reshape(-1))
    held = np.bincount(pairs // periods.size, minlength=int(groups.max()) + 1)
    answer: NDArray[np.bool_] = held[groups] == periods.size
    return answer


def _precision(joint: JointEffects) -> FloatArray:
    """Weights of periods by their units only: not by outcomes, so that contrasts stay linear in them."""
    c, t = joint.n_control.astype(np.float64), joint.n_treatment.astype(np.float64)
    return np.asarray(c * t / (c + t), dtype=np.float64)


def _mean_of(joint: JointEffects, first: int, level: float) -> ContrastOfCells | NotEstimable:
    weights = _precision(joint)
    weights[:first] = 0.0
    return contrast_of_cells(joint, weights / weights.sum(), level=level)


def _steady(
    joint: JointEffects,
    times: FloatArray,
    constant: JointTest | NotEstimable,
    decay: Decay | None,
    level: float,
) -> SteadyState | NotEstimable:
    k = times.size
    first, because, method = 0, "one effect for all periods is not rejected", "stable periods"
    if isinstance(constant, JointTest) and constant.p_value < STABLE_P:
        if decay is not None and decay.lack_of_fit_p >= _FIT_P and decay.half_life_upper is not None:
            return SteadyState(
                "decay", decay.steady, decay.ci_lower, decay.ci_upper, float(times[-1]),
                "periods differ and an exponential decay fits them",
            )  # fmt: skip
        first, because, method = k - 1, "effects differ up to the last period", "last period"
        for start in range(1, k - 1):
            contrasts = np.hstack([np.zeros((k - start - 1, start)), differences(k - start)])
            stretch = joint_test(joint, contrasts)
            if isinstance(stretch, JointTest) and stretch.p_value >= STABLE_P:
                first, method = start, "stable periods"
                because = "periods differ, and these last ones are the most that share one effect"
                break
    elif isinstance(constant, NotEstimable):
        first, because, method = k - 1, f"{constant.reason}: periods could not be compared", "last period"
    found = _mean_of(joint, first, level)
    if isinstance(found, NotEstimable):
        return found
    kind: Literal["stable periods", "last period"] = (
        "last period" if method == "last period" else "stable periods"
    )
    return SteadyState(kind, found.estimate, found.ci_lower, found.ci_upper, float(times[first]), because)


def _decay(joint: JointEffects, times: FloatArray, level: float) -> Decay | None:
    """Least squares with the joint covariance; for each tau the rest is linear.

    The interval of the steady effect is that of the profile: all values that some tau makes no worse than the
    best by the square of Hotelling's critical value.
    """
    k = times.size
    clusters = joint.clusters
    if k < 4 or clusters < CLUSTERS_PER_PERIOD * k:
        return None
    if np.linalg.matrix_rank(joint.covariance, hermitian=True) < k:
        return None
    inverse: FloatArray = np.linalg.inv(joint.covariance).astype(np.float64)
    since = times - times[0]
    span = float(since[-1])
    taus = np.geomspace(0.1 * float(np.diff(times).min()), 4.0 * span, _DECAYS)
    y = joint.effects
    lost, steady, variance, initial = np.zeros((4, taus.size))
    for place, tau in enumerate(taus):
        fit = _line(y, inverse, since, float(tau))
        lost[place], steady[place], variance[place], initial[place] = fit
    best = int(np.argmin(lost))
    from scipy import optimize

    low, high = math.log(taus[max(best - 1, 0)]), math.log(taus[min(best + 1, taus.size - 1)])
    answer = optimize.minimize_scalar(
        lambda at: _line(y, inverse, since, math.exp(at))[0], bounds=(low, high), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    tau = math.exp(float(answer.x))
    least, at_best, _, start = _line(y, inverse, since, tau)
    shrink = (clusters - 1.0) / (clusters - k)
    allowed = two_sided_critical(level, clusters - k) ** 2 * shrink
    room = least + allowed - lost
    possible = room > 0.0
    if not possible.any():
        return None
    reach = np.sqrt(np.maximum(room, 0.0) * variance)
    half = math.log(2.0)
    ends = taus[possible]
    # A decay slower than the time observed is a straight line: then nothing says where it ends.
    bounded = not possible[taus > span].any()
    return Decay(
        steady=at_best,
        ci_lower=float((steady - reach)[possible].min()),
        ci_upper=float((steady + reach)[possible].max()),
        initial=start,
        half_life=tau * half,
        half_life_lower=float(ends.min()) * half,
        half_life_upper=float(ends.max()) * half if bounded else None,
        lack_of_fit_p=chi_square_tail(least / shrink, k - 3),
    )


def _line(
    y: FloatArray, inverse: FloatArray, since: FloatArray, tau: float
) -> tuple[float, float, float, float]:
    """Weighted sum of squares, steady effect, its variance and the effect at the start, for one tau."""
    fading = np.exp(-since / tau)
    design = np.column_stack([np.ones(since.size), fading])
    inner = np.linalg.inv(design.T @ inverse @ design)
    beta = inner @ (design.T @ inverse @ y)
    gap = y - design @ beta
    return float(gap @ inverse @ gap), float(beta[0]), float(inner[0, 0]), float(beta[0] + beta[1])
