"""Third moments: when skewed values and unequal arms make an interval lopsided, and what is done about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.effects.relative import RelativeEffect, relative_effect
from exp_pipeline.stats.reference import two_sided_critical, two_sided_p, welch_df
from exp_pipeline.stats.results import Effect

# Skewness of an estimate beyond which a t interval's tails leave 1.5-3.5 %: to first order they are
# 2.5 % -+ (2 z^2 + 1) / 6 phi(z) = 8.5 % of it (Hall 1992, section 3).
LOPSIDED = 0.1
# Beyond this the correction too is rough: simulated tails err in 1 to 4.5 % (log-normal values of log-sd 1.5
# at 40 + 360 units); below it in 1.5 to 3.6 %, or 4.4 % where the arms' spreads differ as well.
TOO_SKEWED = 0.7
# Skewness of an arm's mean from which a log-ratio misses more than 6.5 % and Fieller's interval does not.
HEAVY_TAILED = 0.5
# Where nobody summed cubes: values as skewed as exponential ones (2) then make a difference this much skewed
# twice over, so that its tails leave 1.5-3.5 % (about 1.2 and 3.8 %).
UNSEEN = 0.075
NOT_LOOKED_AT = "arms are unequal and skewness was not looked at: skewed values make one end err more"


@dataclass(frozen=True, slots=True)
class ThirdMoments:
    """Sums of squared and cubed deviations of n values from their mean; they add like `Moments`."""

    n: int
    mean: float
    squares: float
    cubes: float

    def __post_init__(self) -> None:
        if self.n < 0 or not all(map(math.isfinite, (self.mean, self.squares, self.cubes))):
            raise ValueError(f"n must be 0 or more and sums finite, got {self!r}")

    @classmethod
    def from_array(cls, values: ArrayLike) -> ThirdMoments:
        """Which third moments have these values, (n,)? Raises ValueError for one that is not finite."""
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim != 1 or not np.isfinite(rows).all():
            raise ValueError(f"values must be a list of finite numbers, got shape {rows.shape}")
        if rows.size == 0:
            return cls(0, 0.0, 0.0, 0.0)
        away = rows - rows.mean()
        return cls(rows.size, float(rows.mean()), float(np.sum(away**2)), float(np.sum(away**3)))

    @classmethod
    def from_sums(cls, n: int, pivot: float, first: float, second: float, third: float) -> ThirdMoments:
        """Which third moments follow from sums of (value - pivot), of its squares and of its cubes?

        One scan gives them: sum(v - p), sum((v - p) ** 2), sum((v - p) ** 3) by group, p any number near the
        mean that is fixed beforehand (the mean of the day before, say), so that no digits are lost.
        """
        if n == 0:
            return cls(0, 0.0, 0.0, 0.0)
        shift = first / n
        squares = max(second - n * shift**2, 0.0)
        return cls(n, pivot + shift, squares, third - 3.0 * shift * second + 2.0 * n * shift**3)

    def __add__(self, other: ThirdMoments) -> ThirdMoments:
        """Which third moments have both groups together? (Pébay 2008, equations 2.1 and 2.2)"""
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        gap = other.mean - self.mean
        cross = self.n * other.n / n
        cubes = gap**3 * cross * (self.n - other.n) / n
        cubes += 3.0 * gap * (self.n * other.squares - other.n * self.squares) / n
        return ThirdMoments(
            n,
            (self.n * self.mean + other.n * other.mean) / n,
            self.squares + other.squares + gap**2 * cross,
            self.cubes + other.cubes + cubes,
        )

    @property
    def variance(self) -> float:
        """Sample variance. Needs two values."""
        return self.squares / (self.n - 1)

    @property
    def third(self) -> float:
        """Unbiased third central moment. Needs three values."""
        return self.cubes * self.n / ((self.n - 1) * (self.n - 2))


@dataclass(frozen=True, slots=True)
class Lopsidedness:
    """How skewed is a difference of means?

    shape: skewness of the values, both arms taken together, each about its own mean. by_spread: skewness of
    the difference, had both arms this shape and each its own spread. by_design: what the arms' sizes alone
    make of it, with one spread. heaviest: the larger skewness of the two means.
    """

    shape: float
    by_spread: float
    by_design: float
    heaviest: float

    @property
    def estimate(self) -> float:
        """Skewness that the correction takes: half way between the two.

        A skewed arm's spread rises and falls with its mean, so that by_spread alone chases noise in small
        arms (7-10 % misses at 60 + 120 log-normal values), while by_design alone is blind to spreads that
        differ.
        """
        return 0.5 * (self.by_spread + self.by_design)


@dataclass(frozen=True, slots=True)
class ArmShape:
    """How skewed are one arm's units, and how much do they weigh in its estimate?

    n: units; variance, third: second and third moment of what a unit moves (its value, or what covariates
    and a ratio's other part leave of it). pull_squares, pull_cubes: sums over units of the square and cube of
    their weights in the estimate: 1 / n and 1 / n^2 for a plain mean.
    """

    n: int
    variance: float
    third: float
    pull_squares: float
    pull_cubes: float

    @classmethod
    def of_mean(cls, n: int, variance: float, third: float) -> ArmShape:
        """Which shape has an arm all of whose units weigh alike?"""
        return cls(n, variance, third, 1.0 / n, 1.0 / n**2)


@dataclass(frozen=True, slots=True)
class ArmEstimates:
    """Which two values is a relative effect made of? Variances are those of the values."""

    control: float
    treatment: float
    variance_control: float
    variance_treatment: float
    covariance: float = 0.0

    def relative(self, df: float, level: float, *, heavy_tailed: bool = False) -> RelativeEffect:
        """What is the relative effect of these values?"""
        return relative_effect(
            self.control,
            self.treatment,
            variance_control=self.variance_control,
            variance_treatment=self.variance_treatment,
            covariance=self.covariance,
            df=df,
            level=level,
            heavy_tailed=heavy_tailed,
        )


def lopsidedness(control: ThirdMoments, treatment: ThirdMoments) -> Lopsidedness | None:
    """How skewed is the difference of these arms' means? None with fewer than three units or no spread."""
    if min(control.n, treatment.n) < 3:
        return None
    shapes = [ArmShape.of_mean(arm.n, arm.variance, arm.third) for arm in (control, treatment)]
    return lopsidedness_of(*shapes)


def lopsidedness_of(control: ArmShape, treatment: ArmShape) -> Lopsidedness | None:
    """How skewed is a difference of two estimates? None with fewer than three units or no spread.

    Shape is pooled because a small arm does not show its own: its sample skewness is far too small just when
    a rare large value is missing, and so is its mean.
    """
    arms = (control, treatment)
    if min(arm.n for arm in arms) < 3 or max(arm.variance for arm in arms) <= 0.0:
        return None
    n = control.n + treatment.n
    pooled = sum(arm.n * arm.variance for arm in arms) / n
    shape = sum(arm.n * arm.third for arm in arms) / n / pooled**1.5
    tilt = treatment.variance**1.5 * treatment.pull_cubes - control.variance**1.5 * control.pull_cubes
    variance = control.variance * control.pull_squares + treatment.variance * treatment.pull_squares
    return Lopsidedness(
        shape=shape,
        by_spread=shape * tilt / variance**1.5,
        by_design=shape * _flat(control, treatment),
        heaviest=abs(shape) * math.sqrt(max(arm.pull_cubes / arm.pull_squares for arm in arms)),
    )


def _flat(control: ArmShape, treatment: ArmShape) -> float:
    """What do the arms' sizes make of the skewness of their values, with one spread?"""
    tilt = treatment.pull_cubes - control.pull_cubes
    return float(tilt / (treatment.pull_squares + control.pull_squares) ** 1.5)


def unseen(n_control: int, n_treatment: int) -> tuple[str, ...]:
    """What is to be said where skewness was not looked at? Nothing for arms about equal, or large ones."""
    shapes = [ArmShape.of_mean(n, 1.0, 0.0) for n in (n_control, n_treatment)]
    return (NOT_LOOKED_AT,) if abs(_flat(*shapes)) > UNSEEN else ()


def straightened(statistic: float, skewness: float) -> float:
    """Which t has the same tail as a studentised estimate of this skewness? Hall (1992), cubic transform.

    t + k t^2 / 3 + k^2 t^3 / 27 + k / 6: rising everywhere, and the first-order term of the skewness gone.
    """
    return statistic + skewness * (statistic**2 / 3.0 + skewness * statistic**3 / 27.0 + 1.0 / 6.0)


def bent(quantile: float, skewness: float) -> float:
    """Which studentised estimate is straightened to `quantile`? The inverse of `straightened`."""
    if abs(skewness) < 1e-6:
        return quantile - skewness * (quantile**2 / 3.0 + 1.0 / 6.0)
    return 3.0 / skewness * (math.cbrt(1.0 + skewness * (quantile - skewness / 6.0)) - 1.0)


def corrected_for_skewness(effect: Effect, control: ThirdMoments, treatment: ThirdMoments) -> Effect:
    """Which interval has tails that err alike? `effect` is Welch's for these two arms; see `corrected`."""
    arms = (control, treatment)
    if min(arm.n for arm in arms) < 3:
        return effect
    values = ArmEstimates(
        control.mean, treatment.mean, control.variance / control.n, treatment.variance / treatment.n
    )
    shapes = [ArmShape.of_mean(arm.n, arm.variance, arm.third) for arm in arms]
    return corrected(effect, shapes[0], shapes[1], values)


def looked_at(
    effect: Effect, control: ArmShape | None, treatment: ArmShape | None, values: ArmEstimates
) -> Effect:
    """What is to be said of skewness? `corrected` where both shapes are known, else a flag (`unseen`)."""
    if control is None or treatment is None:
        return replace(effect, flags=(*effect.flags, *unseen(effect.n_control, effect.n_treatment)))
    return corrected(effect, control, treatment, values)


def corrected(effect: Effect, control: ArmShape, treatment: ArmShape, values: ArmEstimates) -> Effect:
    """Which interval has tails that err alike? `effect` has a t interval for the difference of `values`.

    Where unequal sizes make the estimate's skewness exceed 0.1, the statistic is straightened (Hall 1992,
    for two samples Zhou and Dinh 2005) before it meets the t: p-value, interval and the relative interval
    follow, and the method ends in "-skew". Elsewhere the t interval stands, with a flag where spreads that
    differ make it lopsided by as much, and Fieller's relative interval for heavy tails.
    """
    found = lopsidedness_of(control, treatment)
    flags = [flag for flag in effect.flags if flag != NOT_LOOKED_AT]
    if found is None:
        return effect
    if max(abs(found.by_spread), abs(found.by_design)) > TOO_SKEWED:
        flags.append("values are too skewed for arms of this size: p-value and interval are rough")
    if abs(found.by_design) <= LOPSIDED:
        if abs(found.by_spread) > LOPSIDED:
            flags.append(
                "values are skewed and spreads differ: one end of the interval errs more than the other"
            )
        if found.heaviest > HEAVY_TAILED and effect.relative_method == "log-ratio":
            relative = values.relative(effect.df, effect.level, heavy_tailed=True)
            effect = replace(
                effect,
                relative_ci_lower=relative.lower,
                relative_ci_upper=relative.upper,
                relative_method=relative.method,
            )
        return replace(effect, flags=tuple(flags))
    flags.append(f"skewed values and unequal arms: interval corrected (skewness {found.estimate:.2f})")
    reach = two_sided_critical(effect.level, effect.df)
    effect = replace(
        effect,
        method=f"{effect.method}-skew",
        ci_lower=effect.absolute - effect.se * bent(reach, found.estimate),
        ci_upper=effect.absolute - effect.se * bent(-reach, found.estimate),
        p_value=two_sided_p(straightened(effect.absolute / effect.se, found.estimate), effect.df),
        flags=tuple(flags),
    )
    if effect.relative is None:
        return effect
    bounds = _relative_bounds(control, treatment, values, found.shape, effect.level)
    if bounds is None:
        return effect
    return replace(
        effect,
        relative_ci_lower=bounds[0],
        relative_ci_upper=bounds[1],
        relative_method="fieller-skew",
    )


def _relative_bounds(
    control: ArmShape, treatment: ArmShape, values: ArmEstimates, shape: float, level: float
) -> tuple[float, float] | None:
    """Ratios r where treatment - r control, straightened, is just critical; less one. None if unbounded."""
    sign = math.copysign(1.0, values.control)
    value_c, value_t = sign * values.control, sign * values.treatment
    flat = _flat(control, treatment)
    cubes_c = control.variance**1.5 * control.pull_cubes
    cubes_t = treatment.variance**1.5 * treatment.pull_cubes

    def beyond(r: float) -> float:
        part_t, part_c = values.variance_treatment, r * r * values.variance_control
        variance = part_t + part_c - 2.0 * r * values.covariance
        own = (cubes_t - r**3 * cubes_c) / variance**1.5
        skewness = sign * shape * 0.5 * (own + flat)
        df = welch_df(part_c, control.n - 1, part_t, treatment.n - 1)
        statistic = (value_t - r * value_c) / math.sqrt(variance)
        return straightened(statistic, skewness) / two_sided_critical(level, df)

    middle = value_t / value_c
    ends = []
    for side, target in ((-1.0, 1.0), (1.0, -1.0)):
        step = max(abs(middle), 1e-3) * 0.01
        while target * beyond(middle + side * step) < 1.0:
            step *= 2.0
            if step > 1e6 * max(abs(middle), 1e-3):
                return None
        inside, outside = 0.0, step
        for _ in range(60):
            half = 0.5 * (inside + outside)
            if target * beyond(middle + side * half) < 1.0:
                inside = half
            else:
                outside = half
        ends.append(sign * (middle + side * outside - 1.0))
    low, high = sorted(ends)
    return low, high
