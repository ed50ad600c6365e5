"""Group-sequential looks: an interval for each look, and the estimates of a trial that stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from exp_pipeline.stats.looks.always_valid import Side
from exp_pipeline.stats.looks.ordering import stagewise, value_at
from exp_pipeline.stats.looks.spending import Boundaries, Family, Sides, Spending, boundaries
from exp_pipeline.stats.pivot import (
    as_normal,
    bounds_at,
    relative_bounds_at,
    relative_distance_from,
    relative_mean,
    scale_of,
    statistic_against,
)
from exp_pipeline.stats.reference import SMALLEST_P
from exp_pipeline.stats.results import Effect, NotEstimable

_METHOD = "group-sequential"


@dataclass(frozen=True, slots=True)
class SpendingPlan:
    """At which pace may looks spend alpha? Written down before the first look.

    side: "both" (alpha / 2 each way), "lower" (a lower bound: shows that treatment is higher) or "upper",
    which have the whole alpha. Alpha is spent by a look's share of `planned_n` (units of both arms at the
    end of the trial), or by 1 / se^2 as a share of `planned_information`; give exactly one of the two.

    common: how much looks have in common, by their shares of planned_n ("units"), or by their standard errors
    ("precision"). The two agree while each unit adds as much as the one before. They part where clusters grow
    by more units each, or covariates foretell more (or less) of a later look: units then overstate what is
    new at it. Precision needs the effects of all looks, estimated alike.
    """

    planned_n: int | None = None
    planned_information: float | None = None
    family: Family = "obrien-fleming"
    alpha: float = 0.05
    side: Side = "both"
    gamma: float = 1.0
    common: Literal["units", "precision"] = "units"

    def __post_init__(self) -> None:
        if self.common not in ("units", "precision"):
            raise ValueError(f"common must be 'units' or 'precision', got {self.common!r}")
        if (self.planned_n is None) == (self.planned_information is None):
            raise ValueError("give exactly one of planned_n and planned_information")
        size = self.planned_n if self.planned_information is None else self.planned_information
        if size is None or not 0.0 < size < math.inf:
            raise ValueError(f"planned_n or planned_information must be a positive number, got {size!r}")
        if self.side not in ("both", "lower", "upper"):
            raise ValueError(f"side must be 'both', 'lower' or 'upper', got {self.side!r}")
        self.spending()

    @property
    def sides(self) -> Sides:
        return 2 if self.side == "both" else 1

    def spending(self, alpha: float | None = None) -> Spending:
        """The plan's spending function, or the same family at another alpha."""
        return Spending(self.family, self.alpha if alpha is None else alpha, self.sides, self.gamma)

    def fraction(self, effect: Effect) -> float:
        """Which share of the planned information does an effect carry?"""
        if self.planned_n is not None:
            return (effect.n_control + effect.n_treatment) / self.planned_n
        return 1.0 / scale_of(effect) ** 2 / (self.planned_information or math.nan)


@dataclass(frozen=True, slots=True)
class SequentialLook:
    """What may be said at this look, given the looks before and the spending plan?

    critical and statistic are in standard errors on the normal scale; `crossed` says whether this look is
    beyond its boundary, `first_crossed` which look was first (counted from 1), if any. lower and upper: the
    repeated confidence interval (valid together with those of all other looks), infinite on a side that was
    not asked for; relative_* the same for the relative effect where there is one. p_value: the repeated
    p-value, the smallest alpha at which this look would cross. alpha_spent: so far, of the plan's alpha.
    """

    look: int
    n: int
    information_fraction: float
    critical: float
    statistic: float
    crossed: bool
    first_crossed: int | None
    lower: float
    upper: float
    relative_lower: float | None
    relative_upper: float | None
    p_value: float
    alpha_spent: float
    level: float
    side: Side
    final: bool


@dataclass(frozen=True, slots=True)
class StoppedTrial:
    """What did a stopped trial find, with its stopping taken into account?

    Stage-wise ordering (Fairbanks and Madsen 1982; Tsiatis, Rosner and Mehta 1984): an earlier crossing is
    more extreme. p_value: two-sided for a two-sided plan, else in the plan's direction. estimate: median
    unbiased. lower and upper: each side errs at most (1 - level) / 2. naive: the plain estimate, which
    exaggerates after an early stop. relative_*: the same for the relative effect, None where it has none.
    """

    look: int
    n: int
    information_fraction: float
    crossed: bool
    statistic: float
    p_value: float
    estimate: float
    lower: float
    upper: float
    naive: float
    level: float
    side: Side
    relative_estimate: float | None = None
    relative_lower: float | None = None
    relative_upper: float | None = None


def sequential_look(
    plan: SpendingPlan,
    effects: Sequence[Effect | NotEstimable],
    *,
    final: bool = False,
    earlier_n: Sequence[int] = (),
) -> SequentialLook | NotEstimable:
    """Between which bounds does the effect lie at this look, when every look counts?

    effects: one for each look so far, oldest first, each on all units until then; earlier ones that could
    not be estimated spend nothing. earlier_n: units of both arms at looks before the first of `effects`,
    where only those are known: they spent their share, and `first_crossed` cannot speak of them. final: no
    further look will come, so what is left of alpha is spent (also before the planned information is
    reached; at or beyond it this happens by itself).

    The boundary is turned into a t quantile of equal tail probability where the effect has few degrees of
    freedom (the significance-level approach; Jennison and Turnbull 2000, section 3.3). Information never
    falls: a look with no more of it than the one before counts as one with a thousandth more. NotEstimable
    where the newest effect is, and after alpha was spent in full. Raises ValueError without effects, or with
    earlier_n in a plan by planned_information.
    """
    found = _looks(plan, effects, final, earlier_n)
    if isinstance(found, NotEstimable):
        return found
    newest = found.effects[-1]
    critical = found.bounds.critical[-1]
    if math.isinf(critical):
        spent = found.bounds.spent[-1] >= plan.alpha
        why = "alpha was spent in full at an earlier look" if spent else "this look comes too early to spend"
        return NotEstimable(_METHOD, why, newest.n_control, newest.n_treatment)
    tail = _tail(critical)
    low, high = bounds_at(newest, tail)
    relative = relative_bounds_at(newest, tail)
    open_low, open_high = plan.side == "upper", plan.side == "lower"
    return SequentialLook(
        look=found.positions[-1],
        n=newest.n_control + newest.n_treatment,
        information_fraction=found.bounds.fractions[-1],
        critical=critical,
        statistic=found.statistics[-1],
        crossed=_crosses(plan.side, found.statistics[-1], critical),
        first_crossed=None if found.stop is None else found.positions[found.stop],
        lower=-math.inf if open_low else low,
        upper=math.inf if open_high else high,
        relative_lower=None if relative is None else (-math.inf if open_low else relative[0]),
        relative_upper=None if relative is None else (math.inf if open_high else relative[1]),
        p_value=_repeated_p(plan, found, final),
        alpha_spent=found.bounds.spent[-1],
        level=1.0 - plan.alpha,
        side=plan.side,
        final=final,
    )


def stopped_trial(
    plan: SpendingPlan, effects: Sequence[Effect | NotEstimable], *, final: bool = False
) -> StoppedTrial | NotEstimable:
    """What is the effect, corrected for having stopped when it was found?

    Speaks of the first look that crossed; later looks say nothing here. Without one, `final` (or the whole
    planned information) must say that the last look ended the trial, else NotEstimable: a trial that goes
    on has repeated intervals only. Values claimed for the effect are compared at the stopping look's
    standard error; earlier looks' information follows from their shares, or from their own standard errors
    (`SpendingPlan.common`).
    """
    found = _looks(plan, effects, final)
    if isinstance(found, NotEstimable):
        return found
    ended = found.stop
    if ended is None:
        if not final and found.bounds.fractions[-1] < 1.0:
            newest = found.effects[-1]
            reason = "the trial goes on: no boundary was crossed and more looks may come"
            return NotEstimable(_METHOD, reason, newest.n_control, newest.n_treatment)
        ended = len(found.effects) - 1
    effect = found.effects[ended]
    mirrored = plan.side == "upper"
    fell = plan.sides == 2 and found.stop is not None and found.statistics[ended] < 0.0
    shares, critical = found.bounds.information[: ended + 1], found.bounds.critical[: ended + 1]

    def as_large(distance: float, mean: float) -> float:
        """How likely are results as large as this one, `distance` above a claim that gives z this mean?"""
        at = distance + mean
        if mirrored:
            at, mean = -at, -mean
        return stagewise(critical, shares, at, mean / math.sqrt(shares[-1]), plan.sides, fell=fell)

    def absolute(value: float) -> float:
        return as_large(statistic_against(effect, value), value / scale_of(effect))

    def relative(value: float) -> float:
        distance = relative_distance_from(effect, value)
        return as_large(as_normal(distance or 0.0, effect.df), relative_mean(effect, value))

    error = plan.alpha / plan.sides
    at_none = statistic_against(effect)
    tail = stagewise(
        critical, shares, -at_none if mirrored else at_none, 0.0, plan.sides, fell=fell, from_below=fell
    )
    two_sided = 2.0 * min(tail, 1.0 - tail)
    wanted = [error, 0.5, 1.0 - error]
    if mirrored:
        wanted.reverse()
    scale = scale_of(effect)
    ends = [
        value_at(absolute, goal, effect.absolute, scale, lowest=-math.inf, falling=mirrored)
        for goal in wanted
    ]
    changes: list[float | None] = [None, None, None]
    if effect.relative is not None and relative_distance_from(effect, 0.0) is not None:
        lowest = -1.0 if effect.relative_method == "log-ratio" and effect.mean_control > 0.0 else -math.inf
        step = scale / abs(effect.mean_control)
        changes = [
            value_at(relative, goal, effect.relative, step, lowest=lowest, falling=mirrored)
            for goal in wanted
        ]
    return StoppedTrial(
        look=found.positions[ended],
        n=effect.n_control + effect.n_treatment,
        information_fraction=found.bounds.fractions[ended],
        crossed=found.stop is not None,
        statistic=found.statistics[ended],
        p_value=min(1.0, max(two_sided if plan.sides == 2 else tail, SMALLEST_P)),
        estimate=ends[1],
        lower=ends[0],
        upper=ends[2],
        naive=effect.absolute,
        level=1.0 - 2.0 * error,
        side=plan.side,
        relative_estimate=changes[1],
        relative_lower=changes[0],
        relative_upper=changes[2],
    )


@dataclass(frozen=True, slots=True)
class _Looks:
    """The looks that could be estimated: their positions (from 1), statistics and boundaries."""

    effects: tuple[Effect, ...]
    positions: tuple[int, ...]
    statistics: tuple[float, ...]
    bounds: Boundaries
    stop: int | None


def _looks(
    plan: SpendingPlan,
    effects: Sequence[Effect | NotEstimable],
    final: bool,
    earlier_n: Sequence[int] = (),
) -> _Looks | NotEstimable:
    if not effects:
        raise ValueError("effects must hold one effect for each look so far, got none")
    if earlier_n and plan.planned_n is None:
        raise ValueError("earlier_n needs a plan by planned_n: units say nothing of 1 / se^2")
    if earlier_n and plan.common == "precision":
        raise ValueError("earlier_n needs a plan whose looks' common part is by units, got 'precision'")
    newest = effects[-1]
    if isinstance(newest, NotEstimable):
        return newest
    usable = [
        (position, effect)
        for position, effect in enumerate(effects, start=len(earlier_n) + 1)
        if isinstance(effect, Effect) and scale_of(effect) > 0.0
    ]
    if not usable or usable[-1][0] != len(earlier_n) + len(effects):
        reason = "the standard error is zero"
        return NotEstimable(_METHOD, reason, newest.n_control, newest.n_treatment)
    shares: list[float] = []
    for share in (
        *(n / plan.planned_n for n in earlier_n if plan.planned_n),
        *(plan.fraction(effect) for _, effect in usable),
    ):
        shares.append(max(share, shares[-1] if shares else 0.0))
    information: list[float] | None = None
    if plan.common == "precision":
        information = []
        for _, effect in usable:
            information.append(max(1.0 / scale_of(effect) ** 2, information[-1] if information else 0.0))
    bounds = boundaries(plan.spending(), shares, final=final, information=information)
    statistics = tuple(statistic_against(effect) for _, effect in usable)
    crossed = [
        index
        for index, (statistic, critical) in enumerate(
            zip(statistics, bounds.critical[len(earlier_n) :], strict=True)
        )
        if _crosses(plan.side, statistic, critical)
    ]
    return _Looks(
        tuple(effect for _, effect in usable),
        tuple(position for position, _ in usable),
        statistics,
        bounds,
        crossed[0] if crossed else None,
    )


def _crosses(side: Side, statistic: float, critical: float) -> bool:
    toward = {"both": abs(statistic), "lower": statistic, "upper": -statistic}[side]
    return toward >= critical


def _tail(critical: float) -> float:
    from scipy import special

    return float(special.ndtr(-critical))


def _repeated_p(plan: SpendingPlan, found: _Looks, final: bool) -> float:
    """The alpha that puts the newest look's boundary at its statistic (Jennison and Turnbull 2000, 9.5)."""
    from scipy import optimize

    statistic = found.statistics[-1]
    toward = {"both": abs(statistic), "lower": statistic, "upper": -statistic}[plan.side]

    def beyond(log_alpha: float) -> float:
        bounds = boundaries(
            plan.spending(math.exp(log_alpha)),
            found.bounds.fractions,
            final=final,
            information=found.bounds.information,
        )
        return min(bounds.critical[-1], 50.0) - toward

    # Never smaller than with one look at all.
    alone = max(plan.sides * _tail(toward), 1e-300)
    least, most = math.log(min(alone, 0.999)) - 1e-9, math.log1p(-1e-9)
    if beyond(most) >= 0.0:
        return 1.0
    if beyond(least) <= 0.0:
        return math.exp(least)
    return math.exp(float(optimize.brentq(beyond, least, most, xtol=1e-11)))
