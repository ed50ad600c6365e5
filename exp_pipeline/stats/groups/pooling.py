"""How much do true effects differ between groups, what is their mean, and what is each beside the others?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.reference import (
    chi_square_tail,
    require_level,
    two_sided_critical,
    two_sided_p,
)
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
TauMethod = Literal["reml", "paule-mandel", "dersimonian-laird"]
ShrinkMethod = Literal["posterior", "morris", "plug-in"]

# Stretches of the integral over tau, and nodes in each.
_PANELS, _NODES = 24, 10


@dataclass(frozen=True, slots=True)
class BetweenVariance:
    """How much do true effects vary? tau2 with its Q-profile interval; `i2` its share of all variation.

    q is Cochran's, with df and p of its chi-square (large samples). typical_variance is that of a typical
    effect: i2 = tau2 / (tau2 + typical_variance).
    """

    method: TauMethod
    tau2: float
    tau2_lower: float
    tau2_upper: float
    i2: float
    q: float
    df: int
    p_value: float
    typical_variance: float
    level: float


@dataclass(frozen=True, slots=True)
class PooledEffect:
    """What is the mean of the groups' true effects? Hartung and Knapp's se, t with k - 1 degrees of freedom.

    ci_* hold the mean. new_* hold the true effect of one further group (None for fewer than three groups).
    """

    mean: float
    se: float
    df: int
    ci_lower: float
    ci_upper: float
    p_value: float
    new_lower: float | None
    new_upper: float | None
    level: float


@dataclass(frozen=True, slots=True)
class ShrunkenEffect:
    """What is one group's true effect, learning from the others? own_weight is 1 where nothing is learnt."""

    absolute: float
    se: float
    ci_lower: float
    ci_upper: float
    own_weight: float


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """Effects with sampling covariance v and tau2 between groups: what weighted least squares needs."""

    inverse: FloatArray
    weight: float
    mean: float
    projector: FloatArray

    @classmethod
    def at(cls, y: FloatArray, v: FloatArray, tau2: float) -> _Model:
        inverse = np.linalg.inv(v + tau2 * np.eye(y.size))
        inverse = (inverse + inverse.T) / 2.0
        sums = inverse.sum(axis=0)
        weight = float(sums.sum())
        return cls(inverse, weight, float(sums @ y) / weight, inverse - np.outer(sums, sums) / weight)


def between_variance(
    effects: ArrayLike, covariance: ArrayLike, *, method: TauMethod = "reml", level: float = 0.95
) -> BetweenVariance | NotEstimable:
    """By how much do the true effects of k groups differ?

    effects: (k,). covariance: (k, k) of the estimates, or (k,) variances of independent ones; taken as known.
    "reml" maximises the restricted likelihood (Raudenbush 1985), "paule-mandel" (1982) makes the weighted sum
    of squares equal its expectation, "dersimonian-laird" (1986) does so with the weights of no variation. All
    are cut at 0. The interval inverts the same sum of squares (Q-profile, Viechtbauer 2007): a bound at 0
    says that no variation is not excluded. NotEstimable for fewer than two groups. Raises ValueError for
    shapes that do not fit, a covariance that is not positive definite, or an unknown method.
    """
    from scipy import special

    require_level(level)
    if method not in ("reml", "paule-mandel", "dersimonian-laird"):
        raise ValueError(f"method must be 'reml', 'paule-mandel' or 'dersimonian-laird', got {method!r}")
    y, v, unit = _scaled(effects, covariance)
    k = y.size
    if k < 2:
        return NotEstimable(method, f"{k} groups tell nothing of how effects vary between groups")
    none = _Model.at(y, v, 0.0)
    q = float(y @ none.projector @ y)
    trace = float(np.trace(none.projector))
    found = max((q - (k - 1)) / trace, 0.0)
    if method == "paule-mandel":
        found = _where_q_is(y, v, k - 1.0)
    elif method == "reml":
        found = _reml(y, v)
    low = _where_q_is(y, v, float(special.chdtri(k - 1, (1.0 - level) / 2.0)))
    high = _where_q_is(y, v, float(special.chdtri(k - 1, (1.0 + level) / 2.0)))
    typical = (k - 1) / trace
    return BetweenVariance(
        method=method,
        tau2=found * unit,
        tau2_lower=low * unit,
        tau2_upper=high * unit,
        i2=found / (found + typical),
        q=q,
        df=k - 1,
        p_value=chi_square_tail(q, k - 1),
        typical_variance=typical * unit,
        level=level,
    )


def pooled_effect(
    effects: ArrayLike, covariance: ArrayLike, tau2: float, *, level: float = 0.95
) -> PooledEffect | NotEstimable:
    """What is the mean true effect, groups weighted by 1 / (variance + tau2)?

    Interval of Hartung and Knapp (2001), which allows for tau2 being estimated; where their factor is below
    one it is used as it is. new_*: Higgins, Thompson and Spiegelhalter (2009), t with k - 2. NotEstimable for
    fewer than two groups, or effects that agree exactly. Raises ValueError as `between_variance` does.
    """
    require_level(level)
    if not (math.isfinite(tau2) and tau2 >= 0.0):
        raise ValueError(f"tau2 must be a variance, 0 or more, got {tau2!r}")
    y, v, unit = _scaled(effects, covariance)
    k = y.size
    if k < 2:
        return NotEstimable("hartung-knapp", f"{k} groups have no mean with an error of its own")
    model = _Model.at(y, v, tau2 / unit)
    factor = float(y @ model.projector @ y) / (k - 1)
    if factor <= 1e-24 * max(float(y @ model.inverse @ y), 1.0):
        return NotEstimable("hartung-knapp", "the groups' effects are all the same")
    variance = factor / model.weight * unit
    mean, se = model.mean * math.sqrt(unit), math.sqrt(variance)
    reach = two_sided_critical(level, k - 1) * se
    far = two_sided_critical(level, k - 2) * math.sqrt(tau2 + variance) if k > 2 else None
    return PooledEffect(
        mean=mean,
        se=se,
        df=k - 1,
        ci_lower=mean - reach,
        ci_upper=mean + reach,
        p_value=two_sided_p(mean / se, k - 1),
        new_lower=None if far is None else mean - far,
        new_upper=None if far is None else mean + far,
        level=level,
    )


def shrunken_effects(
    effects: ArrayLike, covariance: ArrayLike, *, method: ShrinkMethod = "posterior", level: float = 0.95
) -> tuple[ShrunkenEffect, ...] | NotEstimable:
    """What is each group's true effect, drawn towards the mean of all as far as the data say they are alike?

    "posterior" (3 groups or more): normal effects with any mean, and any standard deviation between groups
    equally likely beforehand (Gelman 2006), integrated over both, so that intervals bear not knowing either.
    "morris" (4 or more, independent groups): empirical Bayes with the corrections of Morris (1983, section
    5). "plug-in": weights as if REML's tau2 were true; its intervals are too short and fall together where
    tau2 comes out as 0, and it is here to be compared with other software. Correlated estimates, such as
    arms that share a control, enter by their covariance. NotEstimable for fewer groups.
    """
    require_level(level)
    if method not in ("posterior", "morris", "plug-in"):
        raise ValueError(f"method must be 'posterior', 'morris' or 'plug-in', got {method!r}")
    y, v, unit = _scaled(effects, covariance)
    least = {"posterior": 3, "morris": 4, "plug-in": 2}[method]
    if y.size < least:
        return NotEstimable(
            f"shrinkage-{method}",
            f"{y.size} groups are too few to learn how effects vary: {least} are needed",
        )
    if method == "posterior":
        found = _integrated(y, v, level)
    elif method == "morris":
        found = _morris(y, v, level)
    else:
        tau2 = _reml(y, v)
        mean, spread, weight = _given(y, v, np.array([tau2]))
        se = np.sqrt(spread[0])
        reach = two_sided_critical(level, math.inf) * se
        found = mean[0], se, mean[0] - reach, mean[0] + reach, weight[0]
    root = math.sqrt(unit)
    centre, se, low, high, weight = found
    return tuple(
        ShrunkenEffect(
            float(centre[i]) * root, float(se[i]) * root, float(low[i]) * root, float(high[i]) * root,
            float(weight[i]),
        )
        for i in range(y.size)
    )  # fmt: skip


def _scaled(effects: ArrayLike, covariance: ArrayLike) -> tuple[FloatArray, FloatArray, float]:
    """Effects and covariance in units in which a typical variance is one, and that unit squared."""
    y = np.asarray(effects, dtype=np.float64)
    v = np.asarray(covariance, dtype=np.float64)
    if y.ndim != 1 or v.shape not in ((y.size,), (y.size, y.size)):
        raise ValueError(f"effects must be (k,) and covariance (k, k) or (k,), got {y.shape} and {v.shape}")
    if not (np.isfinite(y).all() and np.isfinite(v).all()):
        raise ValueError("effects and covariance must be finite")
    v = np.diag(v) if v.ndim == 1 else (v + v.T) / 2.0
    if y.size and not (np.diag(v) > 0.0).all():
        raise ValueError(f"variances must be above 0, got {np.diag(v).tolist()}")
    if y.size:
        ends = np.linalg.eigvalsh(v / np.sqrt(np.outer(np.diag(v), np.diag(v))))
        if ends[0] <= 1e-12 * ends[-1]:
            raise ValueError("covariance must be positive definite: some effects repeat others")
    unit = math.exp(float(np.mean(np.log(np.diag(v))))) if y.size else 1.0
    return y / math.sqrt(unit), v / unit, unit


def _where_q_is(y: FloatArray, v: FloatArray, target: float) -> float:
    """Which tau2 makes the weighted sum of squares equal `target`? 0 where it is below already."""
    from scipy import optimize

    def excess(tau2: float) -> float:
        return float(y @ _Model.at(y, v, tau2).projector @ y) - target

    if excess(0.0) <= 0.0:
        return 0.0
    high = 1.0
    while excess(high) > 0.0:
        high *= 4.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-13, maxiter=500))


def _reml(y: FloatArray, v: FloatArray) -> float:
    """The top of the restricted likelihood: the best stretch of a grid, then the root of its slope."""
    from scipy import optimize

    def slope(tau2: float) -> float:
        p = _Model.at(y, v, tau2).projector
        pulled = p @ y
        return float(pulled @ pulled) - float(np.trace(p))

    largest = float(np.sum((y - y.mean()) ** 2)) + float(np.diag(v).max())
    grid = np.concatenate([[0.0], np.geomspace(1e-8, 4.0, 160) * largest])
    inverse = np.linalg.inv(v[None] + grid[:, None, None] * np.eye(y.size)[None])
    sums = inverse.sum(axis=1)
    whole = inverse - np.einsum("mi,mj,m->mij", sums, sums, 1.0 / sums.sum(axis=1))
    slopes = np.sum((whole @ y) ** 2, axis=1) - np.einsum("mii->m", whole)
    falls = [i for i in range(grid.size - 1) if slopes[i] > 0.0 >= slopes[i + 1]]
    tops = [float(optimize.brentq(slope, grid[i], grid[i + 1], xtol=1e-14, rtol=1e-13)) for i in falls]
    if slopes[0] <= 0.0:
        tops.append(0.0)
    return max(tops, key=lambda tau2: _log_density(y, v, np.array([tau2]))[0])


def _log_density(y: FloatArray, v: FloatArray, tau2: FloatArray) -> FloatArray:
    """Restricted log likelihood at each tau2 (m,), but for a constant."""
    whole = v[None] + tau2[:, None, None] * np.eye(y.size)[None]
    inverse = np.linalg.inv(whole)
    sums = inverse.sum(axis=1)
    weight = sums.sum(axis=1)
    gaps = y[None] - (sums @ y / weight)[:, None]
    squares = np.einsum("mi,mij,mj->m", gaps, inverse, gaps)
    answer: FloatArray = -0.5 * (np.linalg.slogdet(whole)[1] + np.log(weight) + squares)
    return answer


def _given(y: FloatArray, v: FloatArray, tau2: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, variances and own weights (m, k) of the groups' effects, were tau2 (m,) true."""
    inverse = np.linalg.inv(v[None] + tau2[:, None, None] * np.eye(y.size)[None])
    pull = v[None] @ inverse  # (m, k, k)
    sums = inverse.sum(axis=1)
    weight = sums.sum(axis=1)
    gaps = y[None] - (sums @ y / weight)[:, None]
    mean = y[None] - np.einsum("mij,mj->mi", pull, gaps)
    towards = pull.sum(axis=2)
    spread = np.diag(v)[None] - np.einsum("mij,ji->mi", pull, v) + towards**2 / weight[:, None]
    return mean, spread, 1.0 - np.einsum("mii->mi", pull)


def _integrated(y: FloatArray, v: FloatArray, level: float) -> tuple[FloatArray, ...]:
    """The posterior with a flat prior on tau, a mixture of normals over nodes of tau = s x / (1 - x)."""
    from scipy import special

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    x = ((0.5 * (nodes + 1.0))[None, :] + np.arange(_PANELS)[:, None]).ravel() / _PANELS
    weights = np.tile(weights, _PANELS)
    stretch = max(1.0, float(np.std(y)))
    tau = stretch * x / (1.0 - x)
    log_mass = _log_density(y, v, tau**2) + np.log(weights) - 2.0 * np.log1p(-x)
    mass = np.exp(log_mass - log_mass.max())
    mass /= mass.sum()
    means, spreads, owns = _given(y, v, tau**2)
    centre = mass @ means
    se = np.sqrt(mass @ (spreads + (means - centre) ** 2))
    deviations = np.sqrt(spreads)

    def quantile(p: float) -> FloatArray:
        low, high = centre - 40.0 * se, centre + 40.0 * se
        for _ in range(22):
            middle = 0.5 * (low + high)
            below = mass @ special.ndtr((middle - means) / deviations) < p
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        at = 0.5 * (low + high)
        # Close by, the slope of the distribution leads to the last digits.
        for _ in range(4):
            scores = (at - means) / deviations
            slope = mass @ (np.exp(-0.5 * scores**2) / (math.sqrt(2.0 * math.pi) * deviations))
            at = at - (mass @ special.ndtr(scores) - p) / slope
        return np.asarray(at, dtype=np.float64)

    return centre, se, quantile((1.0 - level) / 2.0), quantile((1.0 + level) / 2.0), mass @ owns


def _morris(y: FloatArray, v: FloatArray, level: float) -> tuple[FloatArray, ...]:
    variances = np.diag(v)
    if np.abs(v - np.diag(variances)).max() > 0.0:
        raise ValueError("method 'morris' needs independent groups: covariance must be diagonal")
    k = y.size
    tau2 = _reml(y, v)
    weights = 1.0 / (variances + tau2)
    mean = float(weights @ y / weights.sum())
    shrink = (k - 3.0) / (k - 1.0) * variances * weights
    leverage = k * weights / weights.sum()
    typical = float(weights @ variances / weights.sum())
    unsure = 2.0 / (k - 3.0) * shrink**2 * (typical + tau2) * weights
    spread = variances * (1.0 - (k - leverage) / k * shrink) + unsure * (y - mean) ** 2
    centre = (1.0 - shrink) * y + shrink * mean
    se = np.sqrt(spread)
    reach = two_sided_critical(level, math.inf) * se
    return centre, se, centre - reach, centre + reach, 1.0 - shrink
