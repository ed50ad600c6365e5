"""Means with a cap on the largest values, and rates of events by exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.contrast import ArmValue, too_few_units
from exp_pipeline.stats.effects.means import difference_in_means
from exp_pipeline.stats.effects.skew import ThirdMoments
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p, welch_df
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]

# Fewer events than this in an arm, and the log of its rate is too skewed for a t interval.
FEW_EVENTS = 10


@dataclass(frozen=True, slots=True)
class WinsorisedDifference:
    """By how much do means differ once values above `cap` count as `cap`?

    `effect` is about the capped values: it answers for less than the mean, and says nothing of what the
    largest values did. `capped_*` count the values that the cap changed.
    """

    effect: Effect
    cap: float
    capped_control: int
    capped_treatment: int


@dataclass(frozen=True, slots=True)
class RateRatio:
    """By what factor do the arms' rates of events per exposure differ?

    `ratio` = treatment / control with its interval on the log scale; `log_se` is robust to events that come
    in bunches (quasi-Poisson and negative binomial among others). `dispersion` is the robust variance of
    log `ratio` over that of a Poisson count: 1 where events are as good as independent.
    """

    method: str
    n_control: int
    n_treatment: int
    events_control: float
    events_treatment: float
    rate_control: float
    rate_treatment: float
    ratio: float
    log_se: float
    df: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float
    dispersion: float
    flags: tuple[str, ...] = ()


def pooled_cap(control: ArrayLike, treatment: ArrayLike, quantile: float) -> float:
    """Above which value lies 1 - `quantile` of all units? Both arms together, so that it favours none.

    Linear interpolation between order statistics (Hyndman and Fan's type 7). Raises ValueError for a
    quantile outside (0.5, 1), no values, or one that is not finite.
    """
    if not 0.5 < quantile < 1.0:
        raise ValueError(f"quantile must lie between 0.5 and 1, such as 0.99, got {quantile!r}")
    both = np.concatenate([_row("control", control), _row("treatment", treatment)])
    if both.size == 0:
        raise ValueError("control and treatment must hold at least one value, got none")
    return float(np.quantile(both, quantile))


def winsorised_difference(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    cap: float | None = None,
    quantile: float | None = None,
    level: float = 0.95,
) -> WinsorisedDifference | NotEstimable:
    """By how much do the arms' means differ, when values above a cap count as the cap?

    control, treatment: one value a unit. Either `cap`, fixed before the data, or `quantile`, declared before
    and read off both arms together (see `pooled_cap`). Welch on the capped values, with their own variance
    and skewness. A cap read off the data is taken as given: it moves both arms' means alike up to the
    difference of their shares above it, which is of smaller order. (Where sums are made by a query, cap
    there and call `means.difference_in_means`.) NotEstimable as Welch's, and where no
    spread is left below the cap. Raises ValueError unless exactly one of cap and quantile is given.
    """
    require_level(level)
    if (cap is None) == (quantile is None):
        raise ValueError(f"give either cap or quantile, got cap={cap!r} and quantile={quantile!r}")
    rows_c, rows_t = _row("control", control), _row("treatment", treatment)
    refusal = too_few_units("winsorised", rows_c.size, rows_t.size)
    if refusal is not None:
        return refusal
    top = cap if quantile is None else pooled_cap(rows_c, rows_t, quantile)
    if top is None or not math.isfinite(top):
        raise ValueError(f"cap must be a finite number, got {cap!r}")
    low_c, low_t = np.minimum(rows_c, top), np.minimum(rows_t, top)
    effect = difference_in_means(
        Moments.from_array(low_c, ["outcome"]),
        Moments.from_array(low_t, ["outcome"]),
        outcome="outcome",
        control_shape=ThirdMoments.from_array(low_c),
        treatment_shape=ThirdMoments.from_array(low_t),
        level=level,
    )
    if isinstance(effect, NotEstimable):
        return NotEstimable(
            "winsorised", f"no spread is left below the cap {top:g}", rows_c.size, rows_t.size
        )
    name = effect.method.replace("welch", "winsorised")
    return WinsorisedDifference(
        replace(effect, method=name), top, int((rows_c > top).sum()), int((rows_t > top).sum())
    )


def rate_ratio(
    control: Moments, treatment: Moments, *, events: str, exposure: str, level: float = 0.95
) -> RateRatio | NotEstimable:
    """By what factor do events per exposure differ between the arms?

    Moments hold one row a unit, its events (counts, 0 or more) and its exposure (time, sessions, questions).
    The point estimate is that of Poisson regression with log exposure as offset; the variance is the
    sandwich, each arm with its own n / (n - 1), so that it holds for any spread of counts, and equals the
    delta method of `ratios`. Satterthwaite degrees of freedom. NotEstimable for arms that are empty, of one
    unit, without exposure or without events (no finite ratio), or where all units have one rate.
    """
    require_level(level)
    method = "rate-ratio"
    n_c, n_t = control.n, treatment.n
    refusal = too_few_units(method, n_c, n_t)
    if refusal is not None:
        return refusal
    for arm, moments in (("control", control), ("treatment", treatment)):
        for name, what in ((exposure, "exposure"), (events, "events")):
            if moments.mean(name) < 0.0:
                raise ValueError(f"{name} must be 0 or more on average in the {arm} arm")
            if moments.mean(name) == 0.0:
                return NotEstimable(method, f"the {arm} arm has no {what} ({name})", n_c, n_t)
    rates, parts, poisson, flags = [], [], 0.0, []
    for arm, moments in (("control", control), ("treatment", treatment)):
        value = ArmValue.of_ratio(moments, events, exposure)
        size = moments.variance(events) + moments.mean(events) ** 2
        spread = value.moments.variance("outcome")
        if spread <= 1e-24 * size / moments.mean(exposure) ** 2:
            spread = 0.0
        rates.append(value.value)
        parts.append(spread / moments.n / value.value**2)
        total = moments.n * moments.mean(events)
        poisson += 1.0 / total
        if total < FEW_EVENTS:
            flags.append(f"the {arm} arm has {total:g} events: the interval is rough")
    variance = parts[0] + parts[1]
    if variance == 0.0:
        return NotEstimable(method, "all units of each arm have the same rate", n_c, n_t)
    df = welch_df(parts[0], n_c - 1, parts[1], n_t - 1)
    log_ratio = math.log(rates[1] / rates[0])
    log_se = math.sqrt(variance)
    reach = two_sided_critical(level, df) * log_se
    return RateRatio(
        method=method,
        n_control=n_c,
        n_treatment=n_t,
        events_control=n_c * control.mean(events),
        events_treatment=n_t * treatment.mean(events),
        rate_control=rates[0],
        rate_treatment=rates[1],
        ratio=rates[1] / rates[0],
        log_se=log_se,
        df=df,
        ci_lower=math.exp(log_ratio - reach),
        ci_upper=math.exp(log_ratio + reach),
        p_value=two_sided_p(log_ratio / log_se, df),
        level=level,
        dispersion=variance / poisson,
        flags=tuple(flags),
    )


def _row(name: str, values: ArrayLike) -> FloatArray:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or not np.isfinite(row).all():
        raise ValueError(f"{name} must be a list of finite numbers, got shape {row.shape}")
    return row
