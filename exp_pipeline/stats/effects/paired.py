"""Effects where one unit, or one matched pair, gives a value for each arm."""

from __future__ import annotations

import math
from dataclasses import dataclass

from exp_pipeline.stats.effects.contrast import ArmSummary, effect_of_arms, too_few_units
from exp_pipeline.stats.effects.relative import relative_effect
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import require_level, two_sided_critical, two_sided_p
from exp_pipeline.stats.results import Effect, NotEstimable

_NO_SPREAD = 1e-24


@dataclass(frozen=True, slots=True)
class PairedProportions:
    """By how much do two shares of the same units differ?

    `effect` has the score interval (Tango 1998) and the p-value that agrees with it, McNemar's without
    continuity correction. `exact_p` is McNemar's exact conditional test, which never errs too often and does
    so too seldom; `mid_p` is its mid-p form (Fagerland, Lydersen and Laake 2013), which they advise for few
    pairs. `discordant` counts the pairs that speak: those whose two outcomes differ.
    """

    effect: Effect
    exact_p: float
    mid_p: float
    discordant: int


def paired_difference(
    pairs: Moments, *, control: str, treatment: str, level: float = 0.95
) -> Effect | NotEstimable:
    """By how much do two values of the same pairs differ?

    pairs: one row a pair, with its control and its treatment value as two variables. Paired t: the mean
    difference, n - 1 degrees of freedom. The relative effect uses the covariance of the two. `standardised`
    is in pooled standard deviations of the values, so that it compares with that of unpaired designs;
    `variance_reduction` says what pairing gained against the same values unpaired. NotEstimable with
    fewer than two pairs or differences all alike. Raises ValueError for unknown names, or twice the same.
    """
    require_level(level)
    if control == treatment:
        raise ValueError(f"control and treatment must be two variables, got {control!r} twice")
    both = pairs.select([control, treatment])
    n = both.n
    refusal = too_few_units("paired-t", n, n)
    if refusal is not None:
        return NotEstimable("paired-t", f"there are {n} pairs; a spread needs at least two", n, n)
    mean_c, mean_t = both.mean(control), both.mean(treatment)
    gap = both.linear({"gap": {treatment: 1.0, control: -1.0}})
    variance_c, variance_t = both.variance(control), both.variance(treatment)
    variance = gap.variance("gap")
    if variance <= _NO_SPREAD * max(mean_c**2, mean_t**2, variance_c, variance_t):
        return NotEstimable("paired-t", "all pairs differ by the same: no spread between pairs", n, n)
    absolute = gap.mean("gap")
    se = math.sqrt(variance / n)
    df = n - 1.0
    relative = relative_effect(
        mean_c,
        mean_t,
        variance_control=variance_c / n,
        variance_treatment=variance_t / n,
        covariance=both.covariance(control, treatment) / n,
        df=df,
        level=level,
    )
    return effect_of_arms(
        "paired-t",
        ArmSummary(n, mean_c, variance_c),
        ArmSummary(n, mean_t, variance_t),
        absolute,
        se,
        df,
        relative,
        level=level,
        variance_reduction=1.0 - variance / (variance_c + variance_t),
    )


def score_interval_of_pairs(
    treatment_only: int, control_only: int, pairs: int, z: float
) -> tuple[float, float]:
    """Between which differences of paired shares do the counts speak? Tango (1998).

    Bounds are where the score statistic, with the nuisance share at its best value given the difference,
    equals z.
    """
    gap = (treatment_only - control_only) / pairs

    def beyond(delta: float) -> bool:
        statistic = _score_statistic(treatment_only, control_only, pairs, delta)
        return abs(statistic) > z

    bounds = []
    for end in (-1.0, 1.0):
        if not beyond(end):
            bounds.append(end)
            continue
        inside, outside = gap, end
        for _ in range(200):
            middle = 0.5 * (inside + outside)
            if middle in (inside, outside):
                break
            if beyond(middle):
                outside = middle
            else:
                inside = middle
        bounds.append(inside)
    return bounds[0], bounds[1]


def _score_statistic(b: int, c: int, n: int, delta: float) -> float:
    """Score of the difference `delta`, the share of control-only pairs at its constrained best."""
    # Quadratic 2n q^2 + (-b - c + (2n - b + c) delta) q - c delta (1 - delta) = 0, the larger root.
    linear = -b - c + (2.0 * n - b + c) * delta
    constant = -c * delta * (1.0 - delta)
    share = (math.sqrt(max(linear**2 - 8.0 * n * constant, 0.0)) - linear) / (4.0 * n)
    variance = n * (2.0 * share + delta * (1.0 - delta))
    gap = b - c - n * delta
    if variance <= 0.0:
        return math.inf if abs(gap) > 1e-12 * n else 0.0
    return gap / math.sqrt(variance)


def paired_proportions(
    both: int, treatment_only: int, control_only: int, neither: int, *, level: float = 0.95
) -> PairedProportions | NotEstimable:
    """By how much do the shares of successes differ, when each pair has both arms?

    The four counts are of pairs: success under both arms, under treatment only, under control only, under
    neither. `se` is Wald's for paired shares. NotEstimable without pairs, or where no pair's outcomes differ.
    Raises ValueError for negative counts.
    """
    require_level(level)
    counts = {
        "both": both,
        "treatment_only": treatment_only,
        "control_only": control_only,
        "neither": neither,
    }
    for name, count in counts.items():
        if count < 0 or count != int(count):
            raise ValueError(f"{name} must be a whole number of pairs, 0 or more, got {count!r}")
    n = sum(counts.values())
    discordant = treatment_only + control_only
    if n < 2:
        return NotEstimable("mcnemar", f"there are {n} pairs; a spread needs at least two", n, n)
    if discordant == 0:
        return NotEstimable("mcnemar", "no pair has different outcomes under the two arms", n, n)
    share_c, share_t = (both + control_only) / n, (both + treatment_only) / n
    absolute = (treatment_only - control_only) / n
    variance = max(discordant / n - absolute**2, 0.0) / n
    variance_c, variance_t = share_c * (1.0 - share_c) / n, share_t * (1.0 - share_t) / n
    low, high = score_interval_of_pairs(treatment_only, control_only, n, two_sided_critical(level, math.inf))
    relative = relative_effect(
        share_c,
        share_t,
        variance_control=variance_c,
        variance_treatment=variance_t,
        covariance=(both / n - share_c * share_t) / n,
        df=math.inf,
        level=level,
    )
    flags: tuple[str, ...] = ()
    if variance == 0.0:
        flags = ("all pairs changed the same way: the standard error is zero, read the interval",)
    effect = effect_of_arms(
        "mcnemar",
        ArmSummary(n, share_c, variance_c * n * n / (n - 1)),
        ArmSummary(n, share_t, variance_t * n * n / (n - 1)),
        absolute,
        math.sqrt(variance),
        math.inf,
        relative,
        level=level,
        bounds=(low, high),
        p_value=two_sided_p((treatment_only - control_only) / math.sqrt(discordant), math.inf),
        variance_reduction=1.0 - variance / (variance_c + variance_t) if variance_c + variance_t else None,
        flags=flags,
    )
    exact, at = _binomial_half(min(treatment_only, control_only), discordant)
    if treatment_only == control_only:
        return PairedProportions(effect, 1.0, 1.0 - at, discordant)
    return PairedProportions(effect, min(1.0, 2.0 * exact), 2.0 * exact - at, discordant)


def _binomial_half(k: int, n: int) -> tuple[float, float]:
    """P(X <= k) and P(X = k) of n fair coins."""
    from scipy import special

    lower = float(special.bdtr(k, n, 0.5))
    log_at = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0)
    return lower, math.exp(log_at)
