"""Third moments: when skewed values and unequal arms make an interval lopsided, and what is done about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from exp_pipeline.stats.effects.contrast import welch_df
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.reference import two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect

# Skewness of an estimate beyond which a t interval's tails leave 1.5-3.5 %: to first order they are
# 2.5 % -+ (2 z^2 + 1) / 6 phi(z) = 8.5 % of it (Hall 1992, section 3).
LOPSIDED = 0.1
# Beyond this the correction too is rough: simulated tails err in 1 to 4.5 % (log-normal values of log-sd 1.5
# at 40 + 360 units); below it in 1.5 to 3.6 %, or 4.4 % where the arms' spreads differ as well.
TOO_SKEWED = 0.7
# Skewness of an arm's mean from which a log-ratio misses more than 6.5 % and Fieller's interval does not.
HEAVY_TAILED = 0.5


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


def lopsidedness(control: ThirdMoments, treatment: ThirdMoments) -> Lopsidedness | None:
    """How skewed is the difference of these arms' means? None with fewer than three units or no spread.

    Shape is pooled because a small arm does not show its own: its sample skewness is far too small just when
    a rare large value is missing, and so is its mean.
    """
    arms = (control, treatment)
    if min(arm.n for arm in arms) < 3 or max(arm.squares for arm in arms) <= 0.0:
        return None
    n = control.n + treatment.n
    pooled = sum(arm.n * arm.variance for arm in arms) / n
    shape = sum(arm.n * arm.third for arm in arms) / n / pooled**1.5
    part_c, part_t = (arm.variance / arm.n for arm in arms)
    tilt = treatment.variance**1.5 / treatment.n**2 - control.variance**1.5 / control.n**2
    return Lopsidedness(
        shape=shape,
        by_spread=shape * tilt / (part_c + part_t) ** 1.5,
        by_design=shape * _flat(control.n, treatment.n),
        heaviest=abs(shape) / math.sqrt(min(arm.n for arm in arms)),
    )


def _flat(n_control: int, n_treatment: int) -> float:
    """What do the arms' sizes make of the skewness of their values, with one spread?"""
    tilt = 1.0 / n_treatment**2 - 1.0 / n_control**2
    return float(tilt / (1.0 / n_treatment + 1.0 / n_control) ** 1.5)


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
    """Which interval has tails that err alike? `effect` is Welch's for these two arms.

    Where unequal sizes make the estimate's skewness exceed 0.1, the statistic is straightened (Hall 1992,
    for two samples Zhou and Dinh 2005) before it meets the t: p-value, interval and the relative interval
    follow, and the method is "welch-skew". Elsewhere Welch's stands, with a flag where spreads that differ
    make it lopsided by as much, and Fieller's relative interval for heavy tails.
    """
    found = lopsidedness(control, treatment)
    if found is None:
        return effect
    flags = list(effect.flags)
    if max(abs(found.by_spread), abs(found.by_design)) > TOO_SKEWED:
        flags.append("values are too skewed for arms of this size: p-value and interval are rough")
    if abs(found.by_design) <= LOPSIDED:
        if abs(found.by_spread) > LOPSIDED:
            flags.append(
                "values are skewed and spreads differ: one end of the interval errs more than the other"
            )
        if found.heaviest > HEAVY_TAILED and effect.relative_method == "log-ratio":
            relative = relative_effect(
                effect.mean_control,
                effect.mean_treatment,
                variance_control=control.variance / control.n,
                variance_treatment=treatment.variance / treatment.n,
                df=effect.df,
                level=effect.level,
                heavy_tailed=True,
            )
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
        method="welch-skew",
        ci_lower=effect.absolute - effect.se * bent(reach, found.estimate),
        ci_upper=effect.absolute - effect.se * bent(-reach, found.estimate),
        p_value=two_sided_p(straightened(effect.absolute / effect.se, found.estimate), effect.df),
        flags=tuple(flags),
    )
    if effect.relative is None:
        return effect
    bounds = _relative_bounds(control, treatment, found.shape, effect.level)
    if bounds is None:
        return effect
    return replace(
        effect,
        relative_ci_lower=bounds[0],
        relative_ci_upper=bounds[1],
        relative_method="fieller-skew",
    )


def _relative_bounds(
    control: ThirdMoments, treatment: ThirdMoments, shape: float, level: float
) -> tuple[float, float] | None:
    """Ratios r where treatment - r control, straightened, is just critical; less one. None if unbounded."""
    sign = math.copysign(1.0, control.mean)
    mean_c, mean_t = sign * control.mean, sign * treatment.mean

    def beyond(r: float) -> float:
        part_t, part_c = treatment.variance / treatment.n, r * r * control.variance / control.n
        tilt = treatment.variance**1.5 / treatment.n**2 - r**3 * control.variance**1.5 / control.n**2
        own = tilt / (part_t + part_c) ** 1.5
        skewness = sign * shape * 0.5 * (own + _flat(control.n, treatment.n))
        df = welch_df(part_c, control.n - 1, part_t, treatment.n - 1)
        statistic = (mean_t - r * mean_c) / math.sqrt(part_t + part_c)
        return straightened(statistic, skewness) / two_sided_critical(level, df)

    middle = mean_t / mean_c
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
