"""Bayesian looks: what does a declared prior say now, and how often does its stopping rule err?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.looks.spending import crossing
from exp_pipeline.stats.pivot import scale_of
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]

# Nodes of the quadrature over one arm's value, within this many of its standard deviations.
_NODES = 201
_REACH = 9.0


@dataclass(frozen=True, slots=True)
class NormalPrior:
    """What was believed of the effect (or of each arm's value) before the data? In the metric's own unit."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be a finite number, got {self.mean!r}")
        if not 0.0 < self.sd < math.inf:
            raise ValueError(f"sd must be a positive number, got {self.sd!r}")

    def after(self, estimate: float, se: float) -> tuple[float, float]:
        """Mean and standard deviation of the posterior, given a normal estimate."""
        weight = self.sd**2 / (self.sd**2 + se**2)
        return self.mean + weight * (estimate - self.mean), self.sd * se / math.hypot(self.sd, se)


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of the effect now?

    lower and upper: the central credible interval. p_above: the probability that the effect is above
    `threshold`. loss_ship: the expected shortfall below the threshold if treatment is shipped; loss_keep: the
    expected gain above it that is missed if control is kept; both in the metric's unit. shrinkage: the share
    of the estimate's distance from the prior mean that is kept.
    """

    mean: float
    sd: float
    lower: float
    upper: float
    level: float
    threshold: float
    p_above: float
    loss_ship: float
    loss_keep: float
    shrinkage: float


@dataclass(frozen=True, slots=True)
class BestArm:
    """Which arm is best, how probably, and how much is expected to be lost by choosing it?"""

    arm: str
    mean: float
    sd: float
    p_best: float
    expected_loss: float


@dataclass(frozen=True, slots=True)
class PosteriorRule:
    """Stop when treatment is this probably above (side "lower"), or above or below ("both"), the threshold.

    probability: the posterior probability that stops, above a half. The rule belongs into the brief.
    """

    prior: NormalPrior
    probability: float
    side: Literal["both", "lower", "upper"] = "both"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 < self.probability < 1.0:
            raise ValueError(f"probability must be above 0.5 and below 1, got {self.probability!r}")
        if self.side not in ("both", "lower", "upper"):
            raise ValueError(f"side must be 'both', 'lower' or 'upper', got {self.side!r}")
        if not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number, got {self.threshold!r}")


@dataclass(frozen=True, slots=True)
class StoppingEstimates:
    """A posterior rule stops at estimates up to `down_to` and from `up_from` on; infinite for never."""

    down_to: float
    up_from: float


@dataclass(frozen=True, slots=True)
class FrequentistSize:
    """How often does a posterior rule stop, if the true effect is `effect`?

    stops: the probability of having stopped by the last look; by_look: at each look first.
    """

    effect: float
    stops: float
    by_look: tuple[float, ...]


def posterior(
    effect: Effect | NotEstimable, prior: NormalPrior, *, threshold: float = 0.0, level: float = 0.95
) -> Posterior | NotEstimable:
    """What does the declared prior make of this effect?

    Normal prior, normal likelihood with the effect's standard error (so from some dozens of units an arm
    on). Raises ValueError for a level outside (0, 1).
    """
    from scipy import special

    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    if isinstance(effect, NotEstimable):
        return effect
    se = scale_of(effect)
    if not se > 0.0:
        reason = "the standard error is zero"
        return NotEstimable("posterior", reason, effect.n_control, effect.n_treatment)
    mean, sd = prior.after(effect.absolute, se)
    reach = float(special.ndtri(0.5 + level / 2.0)) * sd
    z = (mean - threshold) / sd
    return Posterior(
        mean=mean,
        sd=sd,
        lower=mean - reach,
        upper=mean + reach,
        level=level,
        threshold=threshold,
        p_above=float(special.ndtr(z)),
        loss_ship=sd * _unit_loss(z),
        loss_keep=sd * _unit_loss(-z),
        shrinkage=prior.sd**2 / (prior.sd**2 + se**2),
    )


def best_arm(arms: Mapping[str, tuple[float, float]], prior: NormalPrior) -> tuple[BestArm, ...]:
    """Which arm is best? Highest probability first.

    arms: arm -> (estimated value, its standard error), higher being better; independent arms, each value
    with the same prior. expected_loss: of the best arm's value over this arm's. Raises ValueError for fewer
    than two arms or a standard error that is not positive.
    """
    if len(arms) < 2:
        raise ValueError(f"arms must hold at least two arms, got {sorted(arms)!r}")
    for arm, (value, se) in arms.items():
        if not (math.isfinite(value) and 0.0 < se < math.inf):
            raise ValueError(f"arms: {arm!r} needs a finite value and a positive se, got {(value, se)!r}")
    names = list(arms)
    after = [prior.after(*arms[arm]) for arm in names]
    means, sds = np.array([mean for mean, _ in after]), np.array([sd for _, sd in after])
    chances, highest = _best_chances(means, sds)
    found = [
        BestArm(
            arm, float(means[at]), float(sds[at]), float(chances[at]), max(highest - float(means[at]), 0.0)
        )
        for at, arm in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda one: (-one.p_best, one.arm)))


def stopping_boundary(rule: PosteriorRule, se: float) -> StoppingEstimates:
    """At which estimates does the rule stop, at this standard error?"""
    from scipy import special

    wanted = float(special.ndtri(rule.probability))
    prior = rule.prior
    weight = prior.sd**2 / (prior.sd**2 + se**2)
    sd = prior.sd * se / math.hypot(prior.sd, se)
    up = prior.mean + (rule.threshold + wanted * sd - prior.mean) / weight
    down = prior.mean + (rule.threshold - wanted * sd - prior.mean) / weight
    return StoppingEstimates(
        down_to=-math.inf if rule.side == "lower" else down,
        up_from=math.inf if rule.side == "upper" else up,
    )


def frequentist_size(
    rule: PosteriorRule, se_by_look: Sequence[float], *, effect: float = 0.0
) -> FrequentistSize:
    """How often does the rule stop over these looks if the true effect is `effect`? (0: its false alarms.)

    se_by_look: the planned standard error at each look, falling. By integration of the joint normal density
    of the looks, as for group-sequential plans. Raises ValueError for standard errors that do not fall.
    """
    if not se_by_look:
        raise ValueError("se_by_look must hold at least one look, got none")
    for before, after in zip((math.inf, *se_by_look), se_by_look, strict=False):
        if not 0.0 < after < before:
            raise ValueError(f"se_by_look must be positive and fall, got {tuple(se_by_look)!r}")
    information = [1.0 / se**2 for se in se_by_look]
    bounds = [stopping_boundary(rule, se) for se in se_by_look]
    upper = [bound.up_from / se for bound, se in zip(bounds, se_by_look, strict=True)]
    lower = [bound.down_to / se for bound, se in zip(bounds, se_by_look, strict=True)]
    shares = [info / information[-1] for info in information]
    found = crossing(upper, shares, drift=effect / se_by_look[-1], lower=lower)
    by_look = tuple(up + down for up, down in zip(found.upper, found.lower, strict=True))
    return FrequentistSize(effect, sum(by_look), by_look)


def calibrated(rule: PosteriorRule, se_by_look: Sequence[float], *, alpha: float = 0.05) -> PosteriorRule:
    """Which posterior probability must the rule ask for, so that without effect it stops at most alpha?

    The same rule with another `probability`. Raises ValueError if no probability below 1 is strict enough,
    or if any above a half is (the prior alone then decides).
    """
    from scipy import optimize, special

    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}")

    def excess(z: float) -> float:
        stricter = replace(rule, probability=float(special.ndtr(z)))
        return frequentist_size(stricter, se_by_look).stops - alpha

    low, high = 1e-6, 7.5
    if excess(low) <= 0.0 or excess(high) > 0.0:
        raise ValueError(f"no probability between a half and 1 gives the rule a size of {alpha!r}")
    z = float(optimize.brentq(excess, low, high, xtol=1e-10))
    return replace(rule, probability=float(special.ndtr(z)))


def _unit_loss(z: float) -> float:
    """E max(-(z + Z), 0) for a standard normal Z: phi(z) - z Phi(-z)."""
    from scipy import special

    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) - z * float(special.ndtr(-z))


def _best_chances(means: FloatArray, sds: FloatArray) -> tuple[FloatArray, float]:
    """The chance of each arm to be best, and the expected value of the best."""
    from scipy import special

    chances = np.zeros(means.size)
    highest = 0.0
    at, weight = np.polynomial.legendre.leggauss(_NODES)
    for arm in range(means.size):
        values = means[arm] + sds[arm] * _REACH * at
        others = np.delete(np.arange(means.size), arm)
        below = special.ndtr((values[:, None] - means[others]) / sds[others]).prod(axis=1)
        density = np.exp(-0.5 * (_REACH * at) ** 2) / math.sqrt(2.0 * math.pi) * weight * _REACH
        chances[arm] = float(density @ below)
        highest += float(density @ (below * values))
    return chances / chances.sum(), highest
