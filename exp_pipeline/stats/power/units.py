"""How many units an experiment needs, and what it can find with those it has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from exp_pipeline.stats.clusters.intraclass import (
    IntraclassCorrelation,
    design_effect,
    intraclass_correlation,
)
from exp_pipeline.stats.power.design import Design
from exp_pipeline.stats.power.outcomes import FORMULAS, Formula, Mean, Outcome, Proportion
from exp_pipeline.stats.power.search import bisect, noncentral_tail, root, round_up

__all__ = [
    "FORMULAS",
    "Formula",
    "IntraclassCorrelation",
    "PowerPlan",
    "achieved_power",
    "design_effect",
    "effect_for",
    "intraclass_correlation",
    "minimum_detectable_effect",
    "power_for",
    "required_units",
    "units_for",
]

Direction = Literal["increase", "decrease"]


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """Which sizes, effect and power go together, for this outcome and design?

    n_*: units enrolled in control and in one treatment arm (of a paired outcome, the pairs); clusters_* where
    clusters are randomised. effect is absolute, in the metric's unit, with the sign of what is hoped for.
    power is that of one arm's comparison. clusters_* and n_* are whole where they were asked for.
    """

    n_control: int
    n_treatment: int
    effect: float
    power: float
    outcome: Outcome
    design: Design
    clusters_control: int | None = None
    clusters_treatment: int | None = None

    @property
    def n_total(self) -> int:
        """How many units are enrolled in control and all treatment arms? Pairs count once."""
        if self.outcome.paired:
            return self.n_control
        return self.n_control + self.design.treatments * self.n_treatment

    @property
    def design_effect(self) -> float:
        """By how much do clusters inflate the variance?"""
        return self.design.variance_factor() / (1.0 - self.design.variance_reduction)


def units_for(outcome: Outcome, design: Design, *, effect: float) -> PowerPlan:
    """How many units must be enrolled to find `effect` with the design's power?

    Whole clusters are counted where clusters are randomised, two at least in an arm. Raises ValueError for
    an effect that the outcome cannot have, or when a trillion units would not do.
    """
    outcome.check(effect)
    shares = _shares(outcome, design)

    def reached(total: float) -> float:
        return _power(outcome, design, effect, total * shares[0], total * shares[1]) - design.power

    # At least two units of analysis, and two clusters, in the smaller arm.
    smallest = 2.0 * (design.cluster_size or 1.0) / min(shares) / (1.0 - design.attrition)
    total = smallest if reached(smallest) >= 0.0 else root(reached, smallest, "units")
    clusters: tuple[int | None, int | None] = (None, None)
    if design.cluster_size is None:
        n_control, n_treatment = (round_up(total * share) for share in shares)
    else:
        size = design.cluster_size
        clusters = (round_up(total * shares[0] / size), round_up(total * shares[1] / size))
        n_control, n_treatment = (round_up((count or 0) * size) for count in clusters)
    power = _power(outcome, design, effect, n_control, n_treatment)
    return PowerPlan(n_control, n_treatment, effect, power, outcome, design, *clusters)


def power_for(
    outcome: Outcome, design: Design, *, effect: float, n_control: float, n_treatment: float
) -> PowerPlan:
    """With which probability do so many enrolled units find `effect`? The design's own power is not used."""
    outcome.check(effect)
    plan = _sized(outcome, design, effect, n_control, n_treatment)
    return replace(plan, power=_power(outcome, design, effect, n_control, n_treatment))


def effect_for(
    outcome: Outcome,
    design: Design,
    *,
    n_control: float,
    n_treatment: float,
    direction: Direction = "increase",
) -> PowerPlan:
    """What is the smallest effect that so many enrolled units find with the design's power?

    The answer is `effect`, positive for "increase". Raises ValueError when no effect that the outcome can
    have, however large, is found so often.
    """
    if direction not in ("increase", "decrease"):
        raise ValueError(f"direction must be 'increase' or 'decrease', got {direction!r}")
    sign = 1.0 if direction == "increase" else -1.0
    plan = _sized(outcome, design, 0.0, n_control, n_treatment)
    tiny = 1e-9 * outcome.scale

    def reached(size: float) -> float:
        return _power(outcome, design, sign * size, n_control, n_treatment) - design.power

    room = outcome.room(sign)
    if math.isinf(room):
        size = root(reached, tiny, "effects")
    elif reached(room) < 0.0:
        raise ValueError(
            f"n_control and n_treatment are too small: no {direction} of at most {room:g} has power "
            f"{design.power}"
        )
    else:
        size = bisect(reached, tiny, room)
    effect = sign * size
    return replace(plan, effect=effect, power=_power(outcome, design, effect, n_control, n_treatment))


def _shares(outcome: Outcome, design: Design) -> tuple[float, float]:
    if outcome.paired:
        return 1.0, 1.0
    return 1.0 - design.share_treatment, design.share_treatment


def _sized(
    outcome: Outcome, design: Design, effect: float, n_control: float, n_treatment: float
) -> PowerPlan:
    least = 2.0 * (design.cluster_size or 1.0) / (1.0 - design.attrition if not design.cluster_size else 1.0)
    for name, n in (("n_control", n_control), ("n_treatment", n_treatment)):
        if n < least:
            raise ValueError(f"{name} must be at least {least:g} units (two units or clusters), got {n}")
    clusters: tuple[int | None, int | None] = (None, None)
    if design.cluster_size is not None:
        clusters = (round(n_control / design.cluster_size), round(n_treatment / design.cluster_size))
    return PowerPlan(int(n_control), int(n_treatment), effect, math.nan, outcome, design, *clusters)


def _power(outcome: Outcome, design: Design, effect: float, n_control: float, n_treatment: float) -> float:
    """With which probability do these sizes find the effect? Sizes may be fractions of units."""
    kept = (1.0 - design.attrition) / design.inflation
    errors = outcome.errors(effect * design.compliance, n_control * kept, n_treatment * kept)
    inflation = math.sqrt(design.variance_factor())
    df = errors.df
    if math.isfinite(df) and design.treatments > 1 and not outcome.paired:
        # The other arms' units help to know the variance where it is pooled (Dunnett).
        df += (design.treatments - 1) * (n_treatment * kept - 1.0) if design.correction == "dunnett" else 0.0
    by_cluster = design.cluster_df(n_control + n_treatment)
    if by_cluster is not None:
        df = max(by_cluster, 1.0)
    critical = design.critical(df) * errors.null_se / errors.se
    shift = abs(errors.shift) / (errors.se * inflation)
    power = noncentral_tail(critical, df, shift)
    if errors.both_tails and design.two_sided:
        power += noncentral_tail(critical, df, -shift)
    return min(power, 1.0)


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

    The short form of `units_for` for one treatment arm: `baseline` for a proportion or `sd` for a mean. For
    proportions `formula` says which variance: "planning" uses the baseline's in both arms (0.38, 2 points,
    80 % gives 9,246 an arm), "unpooled" each arm's own (9,333), "pooled" the common one under no effect
    (Fleiss 1981; R's power.prop.test), "arcsine" Cohen's h (R's pwr.2p.test). Means use the noncentral t.
    With `cluster_size` whole clusters are counted, the variance grows by the design effect and the degrees of
    freedom are those of the clusters.
    """
    design = Design(
        alpha=alpha,
        power=power,
        two_sided=two_sided,
        share_treatment=share_treatment,
        icc=icc,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        variance_reduction=variance_reduction,
        attrition=attrition,
    )
    return units_for(_outcome(baseline, sd, formula), design, effect=effect)


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
    design = Design(
        alpha=alpha,
        two_sided=two_sided,
        icc=icc,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        variance_reduction=variance_reduction,
        attrition=attrition,
    )
    outcome = _outcome(baseline, sd, formula)
    return power_for(outcome, design, effect=effect, n_control=n_control, n_treatment=n_treatment)


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
    direction: Direction = "increase",
    icc: float = 0.0,
    cluster_size: float | None = None,
    cluster_size_cv: float = 0.0,
    variance_reduction: float = 0.0,
    attrition: float = 0.0,
) -> PowerPlan:
    """What is the smallest effect that so many enrolled units find with probability `power`?

    Arguments as in `required_units`; the answer is `effect`, positive for direction "increase".
    """
    design = Design(
        alpha=alpha,
        power=power,
        two_sided=two_sided,
        icc=icc,
        cluster_size=cluster_size,
        cluster_size_cv=cluster_size_cv,
        variance_reduction=variance_reduction,
        attrition=attrition,
    )
    outcome = _outcome(baseline, sd, formula)
    return effect_for(outcome, design, n_control=n_control, n_treatment=n_treatment, direction=direction)


def _outcome(baseline: float | None, sd: float | None, formula: Formula) -> Outcome:
    if formula not in FORMULAS:
        raise ValueError(f"formula must be one of {FORMULAS!r}, got {formula!r}")
    if baseline is not None and sd is None:
        return Proportion(baseline, formula)
    if sd is not None and baseline is None:
        return Mean(sd)
    raise ValueError("give either baseline (a proportion) or sd (a mean), not both and not neither")
