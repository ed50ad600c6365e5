"""Intervals that stay valid however often one looks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from exp_pipeline.stats.pivot import relative_stretched
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

Side = Literal["both", "lower", "upper"]

# No statistic of any use is farther out.
_FAR = 1e8


@dataclass(frozen=True, slots=True)
class AlwaysValidInterval:
    """Which effects has no look so far ruled out?

    lower, upper: the bounds at this look, infinite on a side that was not asked for. p_value: always valid
    for the effect 0 at this look; keep the smallest over looks. planned_n: the units (both arms) at which
    the interval is narrowest. radius: the bounds' distance in standard errors. relative_lower and
    relative_upper: the same for the relative effect (log-ratio, else Fieller), None where there is none.
    """

    lower: float
    upper: float
    p_value: float
    level: float
    side: Side
    planned_n: int
    n: int
    radius: float = math.nan
    relative_lower: float | None = None
    relative_upper: float | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """The test martingale behind always-valid looks: how strong is the evidence of a statistic?

    information: this look's, relative to the prior's: the variance of z under the prior is 1 + information.
    df: of the t reference. With finite df it is the Bayes factor of the t-test with a normal prior on the
    standardised effect and the right Haar prior on scale, exact at every sample size for normal outcomes
    of equal spread (Rouder and others 2009; Hendriksen, de Heide and Gruenwald 2021; Wang and Ramdas
    2023); for infinite df it is Robbins' normal mixture. one_sided: the prior's positive half only.
    """

    information: float
    df: float
    one_sided: bool

    def log_evidence(self, statistic: float) -> float:
        """Log of the martingale at a t statistic (one-sided: positive in the direction looked for)."""
        whole = self._two_sided(statistic)
        return whole + self._log_twice_share(self._toward(statistic)) if self.one_sided else whole

    def most(self) -> float:
        """The log evidence that no statistic exceeds, however large (infinite for infinite df)."""
        if math.isinf(self.df):
            return math.inf
        whole = 0.5 * self.df * math.log1p(self.information)
        limit = math.sqrt(self.information * (self.df + 1.0))
        return whole + self._log_twice_share(limit) if self.one_sided else whole

    def radius(self, alpha: float) -> float:
        """The statistic at which the evidence is 1 / alpha; infinite if there is none."""
        target = -math.log(alpha)
        if self.most() <= target:
            return math.inf
        if not self.one_sided:
            return self._radius_of_both(target)
        return _crossing_point(self.log_evidence, target)

    def _two_sided(self, statistic: float) -> float:
        x, df = self.information, self.df
        if math.isinf(df):
            return 0.5 * (statistic**2 * x / (1.0 + x) - math.log1p(x))
        square = statistic**2 / df
        return 0.5 * ((df + 1.0) * (math.log1p(square) - math.log1p(square / (1.0 + x))) - math.log1p(x))

    def _radius_of_both(self, target: float) -> float:
        x, df = self.information, self.df
        log_l = 2.0 * target + math.log1p(x)
        if math.isinf(df):
            return math.sqrt((1.0 + 1.0 / x) * log_l)
        grown = math.expm1(log_l / (df + 1.0))
        return math.sqrt(df * grown * (1.0 + x) / (x - grown))

    def _toward(self, statistic: float) -> float:
        """The posterior's distance from zero, in its own standard errors."""
        x, df = self.information, self.df
        plain = statistic * math.sqrt(x / (1.0 + x))
        if math.isinf(df):
            return plain
        return plain * math.sqrt((df + 1.0) / (df + statistic**2 / (1.0 + x)))

    def _log_twice_share(self, distance: float) -> float:
        """Log of twice the posterior weight of positive effects."""
        from scipy import special

        if math.isinf(self.df):
            return math.log(2.0) + float(special.log_ndtr(distance))
        share = float(special.stdtr(self.df + 1.0, distance))
        return math.log(2.0 * share) if share > 0.0 else -math.inf


@dataclass(frozen=True, slots=True)
class MixedTuning:
    """One-sided mixtures tuned to several sizes, averaged: quick for gross effects, still sharp at the plan.

    parts: (weight, mixture), weights with sum 1. The average of martingales is one.
    """

    parts: tuple[tuple[float, Mixture], ...]

    def log_evidence(self, statistic: float) -> float:
        logs = [math.log(weight) + mixture.log_evidence(statistic) for weight, mixture in self.parts]
        largest = max(logs)
        return largest + math.log(sum(math.exp(log - largest) for log in logs))

    def radius(self, alpha: float) -> float:
        """The statistic at which the evidence is 1 / alpha; infinite if there is none."""
        return _mixed_radius(self, alpha)


@lru_cache(maxsize=4096)
def _mixed_radius(mixture: MixedTuning, alpha: float) -> float:
    if mixture.log_evidence(_FAR) < -math.log(alpha):
        return math.inf
    return _crossing_point(mixture.log_evidence, -math.log(alpha))


def _crossing_point(evidence: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    while evidence(high) < target:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if evidence(middle) < target:
            low = middle
        else:
            high = middle
    return high


def best_information(alpha: float, *, one_sided: bool = False) -> float:
    """Which information of the planned size against the prior's makes its interval narrowest?

    The x that makes (1 + 1/x) log((1 + x) / alpha^2) smallest: x = -W(-alpha^2 / e) - 1, lower branch;
    one-sided mixtures take twice alpha (they double the density on their half).
    """
    from scipy import special

    doubled = 2.0 * alpha if one_sided else alpha
    argument = -(min(doubled, 0.99) ** 2) / math.e
    return float(-special.lambertw(argument, k=-1).real - 1.0)


def always_valid_interval(
    effect: Effect | NotEstimable,
    *,
    planned_n: int,
    level: float = 0.95,
    side: Side = "both",
) -> AlwaysValidInterval | NotEstimable:
    """Between which bounds does the effect lie at every look together, with confidence `level`?

    Mixture confidence sequence (Robbins 1970; Howard and others 2021, equation 14; with an estimated
    variance, Waudby-Smith and others 2024), tuned to be narrowest at `planned_n` units of both arms; at few
    degrees of freedom its t form (see `Mixture`), which promises what it says from the first look on for
    normal outcomes. "lower" and "upper" use the one-sided (half-normal) mixture: one bound at the whole
    1 - level, for kill rules. For outcomes far from normal (rare events, heavy tails) it holds from some
    dozens of units in each arm on. Looks must use all units so far and the same estimator. NotEstimable
    where so few degrees of freedom can rule out no effect yet. Raises ValueError for a planned_n below 2 or
    an unknown side.
    """
    require_level(level)
    if planned_n < 2:
        raise ValueError(f"planned_n must be at least 2 units, got {planned_n}")
    if side not in ("both", "lower", "upper"):
        raise ValueError(f"side must be 'both', 'lower' or 'upper', got {side!r}")
    if isinstance(effect, NotEstimable):
        return effect
    if effect.se <= 0.0:
        reason = "the standard error is zero"
        return NotEstimable("always-valid", reason, effect.n_control, effect.n_treatment)
    n = effect.n_control + effect.n_treatment
    alpha = 1.0 - level
    # se^2 is taken to fall as 1 / n.
    information = best_information(alpha, one_sided=side != "both") * n / planned_n
    mixture = Mixture(information, effect.df, one_sided=side != "both")
    radius = mixture.radius(alpha)
    if math.isinf(radius):
        reason = (
            f"too early: {effect.df:.0f} degrees of freedom at {n:,} of {planned_n:,} planned units rule out "
            f"no effect at {level:g}"
        )
        return NotEstimable("always-valid", reason, effect.n_control, effect.n_treatment)
    statistic = effect.absolute / effect.se
    log_evidence = mixture.log_evidence(-statistic if side == "upper" else statistic)
    relative = relative_stretched(effect, radius)
    low_open, high_open = side == "upper", side == "lower"
    return AlwaysValidInterval(
        lower=-math.inf if low_open else effect.absolute - radius * effect.se,
        upper=math.inf if high_open else effect.absolute + radius * effect.se,
        p_value=math.exp(-max(log_evidence, 0.0)),
        level=level,
        side=side,
        planned_n=planned_n,
        n=n,
        radius=radius,
        relative_lower=None if relative is None else (-math.inf if low_open else relative[0]),
        relative_upper=None if relative is None else (math.inf if high_open else relative[1]),
    )
