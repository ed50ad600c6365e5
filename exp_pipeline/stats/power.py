"""How many units an experiment needs, and what it can find with those it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from exp_pipeline.stats.intraclass import IntraclassCorrelation, design_effect, intraclass_correlation
from exp_pipeline.stats.reference import one_sided_critical, upper_tail

__all__ = [
    "FORMULAS",
    "Formula",
    "IntraclassCorrelation",
    "PowerPlan",
    "achieved_power",
    "design_effect",
    "intraclass_correlation",
    "minimum_detectable_effect",
    "required_units",
]

Formula = Literal["planning", "unpooled", "pooled", "arcsine"]
FORMULAS: tuple[Formula, ...] = ("planning", "unpooled", "pooled", "arcsine")
_MOST_UNITS = 1e12
# Beyond this the noncentral t is the normal to more digits than its series gives.
_NORMAL_DF = 1e5


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """Which sizes, effect and power go together?

    n_*: units enrolled; clusters_* where clusters are randomised, of `cluster_size` units on average.
    effect is absolute, in the metric's unit, with the sign of what is hoped for. Exactly one of `baseline`
    (a proportion) and `sd` (a mean) is given. `formula` is one of FORMULAS, or "t" for means. design_effect
    multiplies the variance, variance_reduction (CUPED) takes a share of it off, attrition is the share of
    enrolled units that will have no outcome.
    """

    n_control: int
    n_treatment: int
    effect: float
    power: float
    alpha: float
    two_sided: bool
    formula: str
    baseline: float | None
    sd: float | None
    design_effect: float
    variance_reduction: float
    attrition: float
    cluster_size: float | None = None
    cluster_size_cv: float = 0.0
    icc: float = 0.0
    clusters_control: int | None = None
    clusters_treatment: int | None = None

    @property
    def n_total(self) -> int:
        """How many units are enrolled in both arms?"""
        return self.n_control + self.n_treatment


def required_units(
    *,
    effect: float,
    baseline: float | None = None,
    sd: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    share_treatment: float = 0.5,
    two_sided: bool = True,
    formula: Formula = "planning",
    icc: float = 0.0,
    cluster_size: float | None = None,
    cluster_size_cv: float = 0.0,
    variance_reduction: float = 0.0,
    attrition: float = 0.0,
) -> PowerPlan:
    """How many units must be enrolled to find `effect` with probability `power`?

    Give `baseline` for a proportion or `sd` for a mean. For proportions `formula` says which variance:
    "planning" uses the baseline's in both arms (0.38, 2 points, 80 % gives 9,246 an arm), "unpooled" each
    arm's own (9,333), "pooled" the common one under no effect (Fleiss 1981; R's power.prop.test), "arcsine"
    Cohen's h (R's pwr.2p.test). Means use the noncentral t. With `cluster_size` whole clusters are counted,
    the variance grows by the design effect and the t has clusters - 2 degrees of freedom. share_treatment is
    the treatment arm's share of both arms. Raises ValueError for values out of range, or when a trillion
    units would not do.
    """
    if not 0.0 < power < 1.0 or power <= alpha:
        raise ValueError(f"power must lie between alpha and 1, got {power!r}")
    plan = _checked_plan(
        effect=effect,
        baseline=baseline,
        sd=sd,
        alpha=alpha,
        two_sided=two_sided,
        formula=formula,
        icc=icc,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        variance_reduction=variance_reduction,
        attrition=attrition,
    )
    if not 0.0 < share_treatment < 1.0:
        raise ValueError(f"share_treatment must lie between 0 and 1, got {share_treatment!r}")
    shares = (1.0 - share_treatment, share_treatment)

    def reached(total: float) -> float:
        return _power(plan, total * shares[0], total * shares[1]) - power

    # At least two units of analysis, and two clusters, in the smaller arm.
    smallest = 2.0 * (cluster_size or 1.0) / min(shares) / (1.0 - attrition)
    total = smallest if reached(smallest) >= 0.0 else _root(reached, smallest, "units")
    n_control, n_treatment = (_round_up(total * share) for share in shares)
    if cluster_size is None:
        plan = replace(plan, n_control=n_control, n_treatment=n_treatment)
    else:
        c_control, c_treatment = (_round_up(total * share / cluster_size) for share in shares)
        n_control, n_treatment = _round_up(c_control * cluster_size), _round_up(c_treatment * cluster_size)
        plan = replace(
            plan,
            n_control=n_control,
            n_treatment=n_treatment,
            clusters_control=c_control,
            clusters_treatment=c_treatment,
        )
    return replace(plan, power=_power(plan, n_control, n_treatment))


def achieved_power(
    *,
    n_control: int,
    n_treatment: int,
    effect: float,
    baseline: float | None = None,
    sd: float | None = None,
    alpha: float = 0.05,
    two_sided: bool = True,
    formula: Formula = "planning",
    icc: float = 0.0,
    cluster_size: float | None = None,
    cluster_size_cv: float = 0.0,
    variance_reduction: float = 0.0,
    attrition: float = 0.0,
) -> PowerPlan:
    """With which probability do so many enrolled units find `effect`? See `required_units`."""
    plan = _checked_plan(
        effect=effect,
        baseline=baseline,
        sd=sd,
        alpha=alpha,
        two_sided=two_sided,
        formula=formula,
        icc=icc,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        variance_reduction=variance_reduction,
        attrition=attrition,
    )
    plan = _with_sizes(plan, n_control, n_treatment)
    return replace(plan, power=_power(plan, n_control, n_treatment))


def minimum_detectable_effect(
    *,
    n_control: int,
    n_treatment: int,
    baseline: float | None = None,
    sd: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    two_sided: bool = True,
    formula: Formula = "planning",
    direction: Literal["increase", "decrease"] = "increase",
    icc: float = 0.0,
    cluster_size: float | None = None,
    cluster_size_cv: float = 0.0,
    variance_reduction: float = 0.0,
    attrition: float = 0.0,
) -> PowerPlan:
    """What is the smallest effect that so many enrolled units find with probability `power`?

    Arguments as in `required_units`; the answer is `effect`, positive for direction "increase". Raises
    ValueError when no change of a proportion, however large, is found so often.
    """
    if not 0.0 < power < 1.0 or power <= alpha:
        raise ValueError(f"power must lie between alpha and 1, got {power!r}")
    if direction not in ("increase", "decrease"):
        raise ValueError(f"direction must be 'increase' or 'decrease', got {direction!r}")
    sign = 1.0 if direction == "increase" else -1.0
    tiny = 1e-9 * (sd if sd is not None else 1.0)
    plan = _checked_plan(
        effect=sign * tiny,
        baseline=baseline,
        sd=sd,
        alpha=alpha,
        two_sided=two_sided,
        formula=formula,
        icc=icc,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        variance_reduction=variance_reduction,
        attrition=attrition,
    )
    plan = _with_sizes(plan, n_control, n_treatment)

    def reached(size: float) -> float:
        return _power(replace(plan, effect=sign * size), n_control, n_treatment) - power

    if baseline is None:
        size = _root(reached, tiny, "effects")
    else:
        room = (1.0 - baseline if sign > 0 else baseline) * (1.0 - 1e-12)
        if reached(room) < 0.0:
            raise ValueError(
                f"n_control and n_treatment are too small: no {direction} from {baseline} has power {power}"
            )
        size = _bisect(reached, tiny, room)
    found = replace(plan, effect=sign * size)
    return replace(found, power=_power(found, n_control, n_treatment))


def _checked_plan(
    *,
    effect: float,
    baseline: float | None,
    sd: float | None,
    alpha: float,
    two_sided: bool,
    formula: Formula,
    icc: float,
    cluster_size: float | None,
    cluster_size_cv: float,
    variance_reduction: float,
    attrition: float,
) -> PowerPlan:
    if (baseline is None) == (sd is None):
        raise ValueError("give either baseline (a proportion) or sd (a mean), not both and not neither")
    if not math.isfinite(effect) or effect == 0.0:
        raise ValueError(f"effect must be a number other than 0, got {effect!r}")
    if baseline is not None and not (0.0 < baseline < 1.0 and 0.0 < baseline + effect < 1.0):
        raise ValueError(
            f"baseline and baseline + effect must lie between 0 and 1, got {baseline!r} and effect {effect!r}"
        )
    if sd is not None and not (math.isfinite(sd) and sd > 0.0):
        raise ValueError(f"sd must be above 0, got {sd!r}")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha!r}")
    if formula not in FORMULAS:
        raise ValueError(f"formula must be one of {FORMULAS!r}, got {formula!r}")
    for name, value in (("variance_reduction", variance_reduction), ("attrition", attrition)):
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} must be a share of at least 0 and below 1, got {value!r}")
    if cluster_size is None and (icc != 0.0 or cluster_size_cv != 0.0):
        raise ValueError("cluster_size must be given with icc or cluster_size_cv")
    inflation = 1.0
    if cluster_size is not None:
        # Attrition thins the clusters too.
        inflation = design_effect(icc, max(1.0, cluster_size * (1.0 - attrition)), cluster_size_cv)
    return PowerPlan(
        n_control=0,
        n_treatment=0,
        effect=effect,
        power=math.nan,
        alpha=alpha,
        two_sided=two_sided,
        formula="t" if baseline is None else formula,
        baseline=baseline,
        sd=sd,
        design_effect=inflation,
        variance_reduction=variance_reduction,
        attrition=attrition,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        icc=icc,
    )


def _with_sizes(plan: PowerPlan, n_control: int, n_treatment: int) -> PowerPlan:
    least = 2.0 * (plan.cluster_size or 1.0) / (1.0 - plan.attrition if plan.cluster_size is None else 1.0)
    for name, n in (("n_control", n_control), ("n_treatment", n_treatment)):
        if n < least:
            raise ValueError(f"{name} must be at least {least:g} units (two units or clusters), got {n}")
    clusters: tuple[int | None, int | None] = (None, None)
    if plan.cluster_size is not None:
        clusters = (round(n_control / plan.cluster_size), round(n_treatment / plan.cluster_size))
    return replace(
        plan,
        n_control=n_control,
        n_treatment=n_treatment,
        clusters_control=clusters[0],
        clusters_treatment=clusters[1],
    )


def _power(plan: PowerPlan, n_control: float, n_treatment: float) -> float:
    """With which probability do these sizes find the plan's effect? Sizes may be fractions of units."""
    kept = 1.0 - plan.attrition
    m_c, m_t = n_control * kept, n_treatment * kept
    inflation = plan.design_effect * (1.0 - plan.variance_reduction)
    effect = abs(plan.effect)
    df = math.inf
    both_tails = plan.two_sided
    if plan.baseline is None:
        sd = plan.sd if plan.sd is not None else math.nan
        null_se = se = sd * math.sqrt((1.0 / m_c + 1.0 / m_t) * inflation)
        df = m_c + m_t - 2.0
    else:
        p_c, p_t = plan.baseline, plan.baseline + plan.effect
        v_c, v_t = p_c * (1.0 - p_c), p_t * (1.0 - p_t)
        if plan.formula == "arcsine":
            effect = abs(2.0 * math.asin(math.sqrt(p_t)) - 2.0 * math.asin(math.sqrt(p_c)))
            v_c = v_t = 1.0
        elif plan.formula == "planning":
            v_t = v_c
        if plan.formula != "arcsine":
            both_tails = False
        se = math.sqrt((v_c / m_c + v_t / m_t) * inflation)
        null_se = se
        if plan.formula == "pooled":
            share = (m_c * p_c + m_t * p_t) / (m_c + m_t)
            null_se = math.sqrt(share * (1.0 - share) * (1.0 / m_c + 1.0 / m_t) * inflation)
    if plan.cluster_size is not None:
        df = (n_control + n_treatment) / plan.cluster_size - 2.0
    critical = one_sided_critical(plan.alpha / 2.0 if plan.two_sided else plan.alpha, df)
    critical *= null_se / se
    power = _noncentral_tail(critical, df, effect / se)
    if both_tails:
        power += _noncentral_tail(critical, df, -effect / se)
    return min(power, 1.0)


def _noncentral_tail(statistic: float, df: float, shift: float) -> float:
    if df > _NORMAL_DF:
        return upper_tail(statistic - shift, math.inf)
    from scipy import special

    return float(1.0 - special.nctdtr(df, shift, statistic))


def _root(reached: Callable[[float], float], start: float, what: str) -> float:
    low, high = start, start
    while reached(high) < 0.0:
        low, high = high, high * 2.0
        if high > _MOST_UNITS * max(start, 1.0):
            raise ValueError(f"{what} up to {high:g} do not reach the power that was asked for")
    return _bisect(reached, low, high)


def _bisect(reached: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if reached(middle) < 0.0:
            low = middle
        else:
            high = middle
    return high


def _round_up(value: float) -> int:
    # A whole number that bisection left a hair above itself stays that number.
    return math.ceil(value - 1e-9 * max(1.0, value))
