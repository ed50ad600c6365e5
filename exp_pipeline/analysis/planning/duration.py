"""From the units that a brief needs to the days it takes, and what could be found on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date, timedelta

from exp_pipeline.analysis.effects.stopping import STOPPING_NAMES
from exp_pipeline.analysis.planning.arrivals import WEEK, Arrivals, Steps, arrivals_of
from exp_pipeline.analysis.planning.baselines import Baseline
from exp_pipeline.analysis.planning.power_achieved import absolute_size
from exp_pipeline.analysis.planning.question import (
    Question,
    design_of,
    is_clustered,
    outcome_of,
    question_of,
)
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.power.enrolment import EnrolmentCurve
from exp_pipeline.stats.power.units import PowerPlan, effect_for, power_for, units_for

ICC_FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0)
MDE_FACTORS = (0.5, 1.0, 2.0)
_MOST_ROWS = 26
# A gain smaller than this is not worth a column of its own.
_SMALLEST_GAIN = 0.01
_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class PlanRow:
    """How large must the experiment be under one set of assumptions? None where no size would do."""

    icc: float
    mde: float
    units_per_arm: int | None
    clusters_per_arm: int | None
    days: int | None
    variance_reduction: float = 0.0


@dataclass(frozen=True, slots=True)
class DayRow:
    """What could be found if the experiment stopped after so many days?

    units: enrolled in all arms early enough to have their whole window by then. mde: the smallest effect
    found with the planned power, power: of the planned effect; None where there are too few units.
    """

    days: int
    end: date
    units: int
    mde: float | None
    power: float | None


@dataclass(frozen=True, slots=True)
class DurationPlan:
    """How many units and whole weeks does the brief need?

    units_per_arm: of the largest arm; units_range: the same at the ends of what history leaves open (95 %).
    days: whole weeks from the start to the end that the plan needs (the primary's window after the last
    enrolment included); None where units per day are unknown or never come. reachable: whether the brief's
    end leaves that time, without help of covariates; only_with_gain: whether it does with the `gain` that
    they had in history (then `units_with_gain`, `days_with_gain`). *_at_end: when the brief ends as written.
    icc, attrition: those planned with. inflation: what planned looks cost. by_day: stopping after each week.
    grid: the same with other ICCs, effects and gains.
    """

    mde: float
    units_per_arm: int
    clusters_per_arm: int | None
    units_total: int
    days: int | None
    weeks: int | None
    end: date | None
    reachable: bool | None
    note: str
    grid: tuple[PlanRow, ...]
    by_day: tuple[DayRow, ...] = ()
    units_at_end: int | None = None
    power_at_end: float | None = None
    mde_at_end: float | None = None
    units_range: tuple[int, int] | None = None
    gain: float | None = None
    units_with_gain: int | None = None
    days_with_gain: int | None = None
    only_with_gain: bool = False
    icc: float = 0.0
    attrition: float = 0.0
    inflation: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sizes:
    units_per_arm: int
    clusters_per_arm: int | None
    units_total: int


def power_plan(
    brief: Brief,
    metric: Metric,
    baseline: Baseline,
    *,
    units_per_day: float | None = None,
    curve: EnrolmentCurve | None = None,
    days_needed: int | None = None,
    steps: Steps | None = None,
) -> DurationPlan:
    """How many units and how many weeks does this brief need?

    curve: eligible units that have come by each day since the start, before the brief's traffic share; where
    None, `units_per_day` eligible units enter a day, the brief's own expectation where that is None too.
    days_needed: days that a unit needs since its assignment, the metric's own where None. steps: when the
    ramp is expected to let traffic in; where None, as soon as its shortest stages do. Alpha is shared out
    over the treatment arms. The brief's ICC counts, history's where the brief has none; of the two attritions
    the larger. Raises ValueError where the baseline does not fit the metric or no size would do.
    """
    mde = absolute_size(brief.mde, baseline.mean)
    if mde is None or mde == 0.0:
        raise ValueError(f"mde must be an effect other than 0, got {brief.mde!r}")
    mde = abs(mde)
    window = max(days_needed or metric.days_needed or 1, 1)
    arrivals = arrivals_of(brief, units_per_day, curve, window, steps)
    length = (brief.end - brief.start).days
    question = question_of(brief, metric, baseline, arrivals)
    plan = _sizes(question, mde, question.icc)
    days = None if arrivals is None else arrivals.days_for(plan.units_total)
    end = brief.start + timedelta(days=days) if days is not None else None
    reachable = None if arrivals is None else days is not None and days <= length
    gain = baseline.gain if brief.variance_reduction.method != "none" else None
    gain = gain if gain is not None and gain >= _SMALLEST_GAIN else None
    helped = None if gain is None else _sizes(question, mde, question.icc, gain)
    helped_days = None if helped is None or arrivals is None else arrivals.days_for(helped.units_total)
    at_end = None if arrivals is None else _row(question, arrivals, mde, length)
    return DurationPlan(
        mde=mde,
        units_per_arm=plan.units_per_arm,
        clusters_per_arm=plan.clusters_per_arm,
        units_total=plan.units_total,
        days=days,
        weeks=days // WEEK if days is not None else None,
        end=end,
        reachable=reachable,
        note=_note(brief, arrivals, end, curve),
        grid=_grid(question, mde, gain, arrivals),
        by_day=() if arrivals is None else _by_day(question, arrivals, mde, length, days),
        units_at_end=None if at_end is None else at_end.units,
        power_at_end=None if at_end is None else at_end.power,
        mde_at_end=None if at_end is None else at_end.mde,
        units_range=_range(question, mde),
        gain=gain,
        units_with_gain=None if helped is None else helped.units_total,
        days_with_gain=helped_days,
        only_with_gain=reachable is False and helped_days is not None and helped_days <= length,
        icc=question.icc,
        attrition=question.attrition,
        inflation=question.inflation,
        notes=_notes(question, curve, units_per_day, steps),
    )


def _sizes(question: Question, mde: float, icc: float, gain: float = 0.0) -> _Sizes:
    brief = question.brief
    control = brief.shares()[brief.control]
    outcome = outcome_of(question)
    plans: list[tuple[float, PowerPlan]] = []
    for arm in brief.treatments():
        pair = arm.share + control
        found = units_for(
            outcome, design_of(question, arm.share / pair, icc, gain), effect=question.sign * mde
        )
        plans.append(((found.n_control + found.n_treatment) / pair, found))
    total, largest = max(plans, key=lambda pair: pair[0])
    clusters = None
    if largest.clusters_control is not None and largest.clusters_treatment is not None:
        clusters = max(largest.clusters_control, largest.clusters_treatment)
    return _Sizes(
        units_per_arm=max(largest.n_control, largest.n_treatment),
        clusters_per_arm=clusters,
        units_total=math.ceil(total - 1e-9),
    )


def _row(question: Question, arrivals: Arrivals, mde: float, days: int) -> DayRow:
    """What could be found when the experiment stops after so many days, in its weakest comparison?"""
    brief = question.brief
    units = arrivals.counted(days)
    shares = brief.shares()
    end = brief.start + timedelta(days=days)
    effects, powers = [], []
    for arm in brief.treatments():
        control = shares[brief.control]
        design = design_of(question, arm.share / (arm.share + control), question.icc, 0.0)
        sizes = {"n_control": units * control, "n_treatment": units * arm.share}
        try:
            power = power_for(outcome_of(question), design, effect=question.sign * mde, **sizes).power
            direction = question.metric.direction
            effect = effect_for(outcome_of(question), design, direction=direction, **sizes).effect
        except ValueError:
            # Too few units, or no effect that a share can have would be found: the row says so by None.
            return DayRow(days, end, math.floor(units), None, None)
        powers.append(power)
        effects.append(abs(effect))
    return DayRow(days, end, math.floor(units), max(effects), min(powers))


def _by_day(
    question: Question, arrivals: Arrivals, mde: float, length: int, days: int | None
) -> tuple[DayRow, ...]:
    last = min(max(length, days or 0), _MOST_ROWS * WEEK, arrivals.length)
    stops = sorted({*range(WEEK, last + 1, WEEK), min(length, arrivals.length)})
    return tuple(_row(question, arrivals, mde, stop) for stop in stops)


def _grid(
    question: Question, mde: float, gain: float | None, arrivals: Arrivals | None
) -> tuple[PlanRow, ...]:
    iccs = {question.icc * factor for factor in ICC_FACTORS}
    if is_clustered(question.brief) and (question.baseline.icc or 0.0) > 0.0:
        iccs.add(question.baseline.icc or 0.0)
    rows = []
    for icc in sorted(iccs):
        for factor in MDE_FACTORS:
            for reduction in (0.0,) if gain is None else (0.0, gain):
                size = mde * factor
                try:
                    found = _sizes(question, size, icc, reduction)
                except ValueError:
                    rows.append(PlanRow(icc, size, None, None, None, reduction))
                    continue
                needed = None if arrivals is None else arrivals.days_for(found.units_total)
                rows.append(
                    PlanRow(icc, size, found.units_per_arm, found.clusters_per_arm, needed, reduction)
                )
    return tuple(rows)


def _range(question: Question, mde: float) -> tuple[int, int] | None:
    """Units of the largest arm at the ends of what history leaves open of level, spread and ICC."""
    baseline, brief = question.baseline, question.brief
    low = high = baseline
    if question.metric.estimand == "proportion":
        if baseline.mean_se is None:
            return None
        reach = _NORMAL_95 * baseline.mean_se
        inside = [min(max(baseline.mean + sign * reach, 0.001), 0.999) for sign in (-1.0, 1.0)]
        inside.append(0.5 if inside[0] < 0.5 < inside[1] else baseline.mean)
        inside.sort(key=lambda share: share * (1.0 - share))
        low, high = replace(baseline, mean=inside[0]), replace(baseline, mean=inside[-1])
    elif baseline.sd is None or baseline.sd_se is None:
        return None
    else:
        # On the log scale, so that a rough spread never falls to 0.
        factor = math.exp(_NORMAL_95 * baseline.sd_se / baseline.sd)
        low, high = replace(baseline, sd=baseline.sd / factor), replace(baseline, sd=baseline.sd * factor)
    iccs = question.icc, question.icc
    if is_clustered(brief) and brief.icc == 0.0:
        if baseline.icc_lower is None or baseline.icc_upper is None:
            return None
        iccs = max(baseline.icc_lower, 0.0), max(baseline.icc_upper, 0.0)
    try:
        found = [
            _sizes(replace(question, baseline=end), mde, icc).units_per_arm
            for end, icc in zip((low, high), iccs, strict=True)
        ]
    except ValueError:
        return None
    return found[0], found[1]


def _note(brief: Brief, arrivals: Arrivals | None, end: date | None, curve: EnrolmentCurve | None) -> str:
    if arrivals is None:
        return "Days need the number of units that enter a day."
    if end is None and curve is not None:
        most = math.floor(brief.traffic * curve.most)
        return f"So many never come: history tells of {most:,} units in all."
    if end is None:
        return "At this rate the units are not found in ten years."
    return f"Needs whole weeks to {end}; the brief ends on {brief.end}."


def _notes(
    question: Question, curve: EnrolmentCurve | None, units_per_day: float | None, steps: Steps | None
) -> tuple[str, ...]:
    """What the plan rests on that a reader would not guess."""
    brief, baseline = question.brief, question.baseline
    told = []
    if is_clustered(brief) and baseline.icc is not None:
        known = f"history's ICC is {baseline.icc:.3g}"
        if baseline.icc_lower is not None and baseline.icc_upper is not None:
            known += f" ({baseline.icc_lower:.3g} to {baseline.icc_upper:.3g})"
            if not baseline.icc_lower <= brief.icc <= baseline.icc_upper and brief.icc > 0.0:
                known += f", which does not hold the brief's {brief.icc:g}"
        told.append(f"{known}; planned with {question.icc:.3g}")
    if baseline.attrition is not None and baseline.attrition > brief.attrition:
        told.append(
            f"{100 * baseline.attrition:.1f} % of history's units have no value, more than the "
            f"{100 * brief.attrition:g} % of the brief: planned with the larger"
        )
    if baseline.included < 1.0:
        told.append(f"the metric counts {100 * baseline.included:.0f} % of the units; the others enrol too")
    if question.inflation > 1.0:
        told.append(
            f"{len(brief.looks)} planned looks cost {100 * (question.inflation - 1.0):.1f} % more units "
            f"({STOPPING_NAMES[brief.stopping.rule]})"
        )
    if curve is not None:
        told.append(
            f"units enter as in history: {curve.observed_days} days of it, then as many new ones as those "
            "seen once or twice foretell"
        )
        if not curve.aligned:
            told.append("history is shorter than a week, so its weekdays do not stand for the brief's")
        expected = brief.expected_units_per_day
        first = curve.units((brief.end - brief.start).days) * brief.traffic
        open_days = (brief.end - brief.start).days - len(set(brief.blackout_days))
        if expected is not None and not 0.5 <= first / max(expected * open_days * brief.traffic, 1.0) <= 2.0:
            told.append(
                f"the brief expects {expected:g} units a day, {expected * open_days * brief.traffic:,.0f} in "
                f"all; history tells of {first:,.0f}"
            )
    elif units_per_day is not None or brief.expected_units_per_day is not None:
        told.append("units are taken to enter at one rate, as no history tells when they come")
    if len(brief.ramp) > 1:
        told.append(_note_of_ramp(brief, steps))
    return (*told, *baseline.notes)


def _note_of_ramp(brief: Brief, steps: Steps | None) -> str:
    """When does the ramp let in all of its traffic?"""
    if steps is None:
        later = sum(stage.dwell_days for stage in brief.ramp[:-1])
        return (
            f"the ramp lets all of its traffic in after {later} days, if no stage lasts longer than it must"
        )
    if len(steps) < len(brief.ramp):
        return "the ramp never lets all of its traffic in"
    return f"the ramp is expected to let all of its traffic in after {steps[-1][0]} days"
