"""Allocation that learns as it goes, and estimates that stay honest about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.reference import require_level, two_sided_critical
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Method = Literal["adaptive-aipw", "aipw", "ipw"]

# Posterior standard deviations at which integrals over the best arm are cut, and points a piece.
_CUTS = (-9.0, -6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0)
_POINTS = 24


@dataclass(frozen=True, slots=True)
class Allocation:
    """With which probability should the next units get each arm?

    `best` is each arm's posterior probability of having the highest mean; `probability` is floor + (1 - k
    floor) x best. Log `probability` with every unit: the estimates below need it.
    """

    method: str
    best: Mapping[str, float]
    probability: Mapping[str, float]
    floor: float

    def draw(self, n: int, rng: np.random.Generator) -> list[str]:
        """Which arms do the next n units get?"""
        arms = list(self.probability)
        return [arms[i] for i in rng.choice(len(arms), size=n, p=list(self.probability.values()))]


@dataclass(frozen=True, slots=True)
class ArmEstimate:
    """What is an arm's mean, had every unit got it?

    `plain_mean` is that of its own units, which adaptive allocation biases (usually downwards).
    `smallest_propensity` is the smallest above zero over all rows.
    """

    arm: str
    mean: float
    se: float
    ci_lower: float
    ci_upper: float
    n: int
    plain_mean: float
    smallest_propensity: float


@dataclass(frozen=True, slots=True)
class AdaptiveReadout:
    """What did an experiment with learning allocation find? `effects` are each arm against the control."""

    method: str
    control: str
    arms: tuple[ArmEstimate, ...]
    effects: tuple[Effect, ...]
    level: float
    n: int


def beta_allocation(
    successes: Mapping[str, int],
    trials: Mapping[str, int],
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    floor: float = 0.0,
) -> Allocation:
    """How likely is each arm to have the highest rate? Thompson's (1933) rule, computed instead of drawn.

    successes, trials: arm -> counts so far. prior: of each rate, Beta with both numbers at least 1/2. The
    probability is the integral of the arm's posterior density times the other arms' distribution functions,
    to about ten digits. floor: the least probability of an arm. Raises ValueError for counts that do not
    fit, or a floor above 1 / arms.
    """
    from scipy import special

    arms = _arms(successes, trials, floor)
    if min(prior) < 0.5 or not math.isfinite(sum(prior)):
        raise ValueError(f"prior must be two numbers of at least 0.5, got {prior!r}")
    for arm in arms:
        if not 0 <= successes[arm] <= trials[arm]:
            raise ValueError(
                f"successes of {arm!r} must lie between 0 and {trials[arm]}, got {successes[arm]}"
            )
    a = np.array([prior[0] + successes[arm] for arm in arms], dtype=np.float64)
    b = np.array([prior[1] + trials[arm] - successes[arm] for arm in arms], dtype=np.float64)
    # On the scale of the angle whose squared sine is the rate, densities are smooth up to their ends.
    centre, width = np.arcsin(np.sqrt(a / (a + b))), 0.5 / np.sqrt(a + b + 1.0)
    nodes, weights = _nodes(centre, width, 0.0, math.pi / 2.0)
    sine, cosine = np.sin(nodes), np.cos(nodes)
    log_density = (
        math.log(2.0)
        + (2.0 * a[:, None] - 1.0) * np.log(sine)
        + (2.0 * b[:, None] - 1.0) * np.log(cosine)
        - special.betaln(a, b)[:, None]
    )
    below = special.betainc(a[:, None], b[:, None], sine**2)
    return _allocation("thompson-beta", arms, np.exp(log_density), below, weights, floor)


def normal_allocation(
    means: Mapping[str, float],
    errors: Mapping[str, float],
    *,
    prior_mean: float = 0.0,
    prior_sd: float = math.inf,
    floor: float = 0.0,
) -> Allocation:
    """How likely is each arm to have the highest mean, if sample means are normal?

    means, errors: arm -> mean so far and its standard error (above zero). The prior of each mean is normal;
    an infinite `prior_sd` is flat. floor as in `beta_allocation`.
    """
    from scipy import special

    arms = _arms(means, errors, floor)
    for arm in arms:
        if not (math.isfinite(means[arm]) and math.isfinite(errors[arm]) and errors[arm] > 0.0):
            raise ValueError(
                f"arm {arm!r} needs a mean and an error above 0, got {means[arm]!r}, {errors[arm]!r}"
            )
    if not prior_sd > 0.0:
        raise ValueError(f"prior_sd must be above 0, got {prior_sd!r}")
    precision = np.array([1.0 / errors[arm] ** 2 for arm in arms])
    total = precision + 1.0 / prior_sd**2
    centre = (precision * [means[arm] for arm in arms] + prior_mean / prior_sd**2) / total
    width = total**-0.5
    nodes, weights = _nodes(centre, width, -math.inf, math.inf)
    z = (nodes - centre[:, None]) / width[:, None]
    density = np.exp(-0.5 * z * z) / (width[:, None] * math.sqrt(2.0 * math.pi))
    return _allocation("thompson-normal", arms, density, special.ndtr(z), weights, floor)


def adaptive_estimates(
    arm: Sequence[str],
    reward: ArrayLike,
    propensity: Mapping[str, ArrayLike],
    *,
    control: str,
    batch: ArrayLike | None = None,
    method: Method = "adaptive-aipw",
    level: float = 0.95,
) -> AdaptiveReadout | NotEstimable:
    """What are the arms' means, when allocation followed the results?

    arm, reward: (n,) in order of time. propensity: arm -> (n,) logged probability that this row would get
    the arm, given what was known then. batch: (n,) whole numbers that never fall; rows of one batch were
    allotted before its rewards were known (by default each row is its own).

    Each row gives each arm the score m + [got it] (reward - m) / propensity with m the arm's mean over
    earlier batches (in the first: its own mean and share there), so that scores are unbiased whatever the
    rule was. "adaptive-aipw" weighs rows by the root of the propensity, which keeps the spread of the
    weighted scores even and the estimate normal (Hadad, Hirshberg, Zhan, Wager and Athey 2021, section
    2.3); arms are then weighted differently over time, so rewards should not drift. "aipw" weighs rows
    alike: it takes a drift, at the price of wide (and, with vanishing propensities, not normal) errors.
    "ipw" is Horvitz and Thompson's, m = 0, rows alike. The reference is a t with
    the units of the (smaller) arm less one.

    Ten batches of 50 or 200 at a floor of 0.05 or 0.1, rates 0.3 and 0.3 or 0.4: intervals cover 93 to 95.6 %
    (1,000 runs); a bias of a tenth to a fifth of the error stays in "adaptive-aipw", about half of the plain
    mean's at 50 a batch.

    NotEstimable for an arm without units or spread, or, with rows alike, with a propensity of zero somewhere.
    Raises ValueError for propensities that do not add up to 1, or of zero for the arm that a row got.
    """
    require_level(level)
    if method not in ("adaptive-aipw", "aipw", "ipw"):
        raise ValueError(f"method must be 'adaptive-aipw', 'aipw' or 'ipw', got {method!r}")
    names = list(propensity)
    if control not in names:
        raise ValueError(f"control must be one of {', '.join(names)}, got {control!r}")
    y = np.asarray(reward, dtype=np.float64)
    n = len(arm)
    if y.shape != (n,) or not np.isfinite(y).all():
        raise ValueError(f"reward must hold {n} numbers without gaps, got shape {y.shape}")
    chance = np.array([np.asarray(propensity[name], dtype=np.float64) for name in names]).T
    if chance.shape != (n, len(names)) or not (chance >= 0.0).all():
        raise ValueError(f"propensity of each arm must hold {n} numbers of at least 0")
    wrong = np.flatnonzero(np.abs(chance.sum(axis=1) - 1.0) > 1e-6)
    if wrong.size:
        raise ValueError(
            f"propensity must add up to 1 in each row, row {wrong[0]} has {chance[wrong[0]].sum():g}"
        )
    unknown = sorted(set(arm) - set(names))
    if unknown:
        raise ValueError(f"arm holds {unknown[0]!r}, which has no propensity")
    place = {name: i for i, name in enumerate(names)}
    got = np.array([place[name] for name in arm], dtype=np.int64)
    if n and not (chance[np.arange(n), got] > 0.0).all():
        row = int(np.flatnonzero(chance[np.arange(n), got] == 0.0)[0])
        raise ValueError(f"row {row} got {arm[row]!r} at a logged propensity of 0")
    batches = np.arange(n) if batch is None else np.asarray(batch)
    if batches.shape != (n,) or (np.diff(batches) < 0).any():
        raise ValueError(f"batch must hold {n} numbers that never fall: rows come in order of time")

    estimates, moved = [], []
    for i, name in enumerate(names):
        mine = got == i
        e = chance[:, i]
        if not mine.any():
            return NotEstimable(method, f"arm {name} has no unit")
        if method != "adaptive-aipw" and (e == 0.0).any():
            return NotEstimable(
                method, f"arm {name} had a propensity of 0 at some time: rows alike need it above 0"
            )
        base = np.zeros(n) if method == "ipw" else _known_before(y, mine, batches)
        divisor = e if method == "ipw" else _drawn_at_first(e, mine, batches)
        gap = np.where(mine, y - base, 0.0)
        score = base + np.divide(gap, divisor, out=np.zeros(n), where=divisor > 0.0)
        weight = np.sqrt(e) if method == "adaptive-aipw" else np.ones(n)
        weight = weight / weight.sum()
        mean = float(weight @ score)
        influence = weight * (score - mean)
        if method != "ipw":
            # The first batch is measured from its own mean, which takes one degree of freedom.
            taught = int((mine & (batches == batches[0])).sum())
            influence[batches == batches[0]] *= math.sqrt(taught / (taught - 1.0)) if taught > 1 else 1.0
        variance = float(influence @ influence)
        if variance <= 1e-24 * mean**2 or np.ptp(y[mine]) == 0.0:
            return NotEstimable(method, f"the rewards of arm {name} have no spread")
        units = int(mine.sum())
        reach = two_sided_critical(level, units - 1.0) * math.sqrt(variance)
        smallest = float(e[e > 0.0].min())
        own = float(y[mine].mean())
        estimates.append(
            ArmEstimate(name, mean, math.sqrt(variance), mean - reach, mean + reach, units, own, smallest)
        )
        moved.append(influence)
    base_at = place[control]
    effects = tuple(
        _effect(method, estimates[base_at], one, moved[i] - moved[base_at], moved[i] @ moved[base_at], level)
        for i, one in enumerate(estimates)
        if i != base_at
    )
    return AdaptiveReadout(method, control, tuple(estimates), effects, level, n)


def _effect(
    method: str, control: ArmEstimate, treatment: ArmEstimate, moved: FloatArray, shared: float, level: float
) -> Effect:
    absolute = treatment.mean - control.mean
    df = min(control.n, treatment.n) - 1.0
    se = math.sqrt(float(moved @ moved))
    relative = relative_effect(
        control.mean,
        treatment.mean,
        variance_control=control.se**2,
        variance_treatment=treatment.se**2,
        covariance=float(shared),
        df=df,
        level=level,
    )
    return effect_of_arms(
        method,
        ArmSummary(control.n, control.mean),
        ArmSummary(treatment.n, treatment.mean),
        absolute,
        se,
        df,
        relative,
        level=level,
        flags=(f"arm {treatment.arm} against {control.arm}",),
    )


def _known_before(y: FloatArray, mine: NDArray[np.bool_], batches: NDArray[np.generic]) -> FloatArray:
    """The arm's mean over earlier batches, by row; before its first unit, the mean of all arms so far."""
    codes = np.unique(batches, return_inverse=True)[1]
    sums, counts = np.cumsum(np.bincount(codes, np.where(mine, y, 0.0))), np.cumsum(np.bincount(codes, mine))
    all_sums, all_counts = np.cumsum(np.bincount(codes, y)), np.cumsum(np.bincount(codes))
    known = np.where(counts > 0, sums / np.maximum(counts, 1.0), all_sums / all_counts)
    # The first batch was allotted before anything was known, so its own mean does no harm there.
    before: FloatArray = known[np.maximum(codes - 1, 0)]
    return before


def _drawn_at_first(e: FloatArray, mine: NDArray[np.bool_], batches: NDArray[np.generic]) -> FloatArray:
    """Propensities, in the first batch the share that the draw gave: its own mean is used there too."""
    first = batches == batches[0]
    share = float(mine[first].mean())
    return np.where(first, share, e) if share > 0.0 else e


def _arms(first: Mapping[str, float], second: Mapping[str, float], floor: float) -> list[str]:
    arms = list(first)
    if set(arms) != set(second) or len(arms) < 2:
        raise ValueError(f"both must name the same two or more arms, got {arms} and {list(second)}")
    if not 0.0 <= floor <= 1.0 / len(arms):
        raise ValueError(f"floor must lie between 0 and 1 / {len(arms)} arms, got {floor!r}")
    return arms


def _nodes(centre: FloatArray, width: FloatArray, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    cuts = np.clip((centre[:, None] + width[:, None] * np.array(_CUTS)).ravel(), low, high)
    if math.isfinite(low):
        cuts = np.append(cuts, (low, high))
    edges = np.unique(cuts)
    points, weights = np.polynomial.legendre.leggauss(_POINTS)
    half, middle = np.diff(edges) / 2.0, (edges[1:] + edges[:-1]) / 2.0
    return (middle[:, None] + half[:, None] * points).ravel(), (half[:, None] * weights).ravel()


def _allocation(
    method: str,
    arms: Sequence[str],
    density: FloatArray,
    below: FloatArray,
    weights: FloatArray,
    floor: float,
) -> Allocation:
    best = np.array([weights @ (density[i] * np.delete(below, i, 0).prod(axis=0)) for i in range(len(arms))])
    # What integration leaves open is far below any propensity that matters; probabilities add up exactly.
    best = np.maximum(best, 0.0) / np.maximum(best, 0.0).sum()
    mixed = floor + (1.0 - len(arms) * floor) * best
    return Allocation(
        method,
        {arm: float(p) for arm, p in zip(arms, best, strict=True)},
        {arm: float(p) for arm, p in zip(arms, mixed, strict=True)},
        floor,
    )
