"""Before the start: what a brief lacks, and whether its plan holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exp_pipeline.analysis.planning.baselines import Baseline
from exp_pipeline.analysis.planning.duration import DurationPlan, PlanRow, power_plan
from exp_pipeline.analysis.planning.gaps import (
    Gap,
    brief_gaps,
    calendar_gaps,
    guardrail_gaps,
    logging_gaps,
    power_gaps,
    review_gaps,
)
from exp_pipeline.analysis.planning.guardrail_plans import GuardrailPlan
from exp_pipeline.analysis.planning.ramp_plan import RampPlan, ramp_gaps, steps_of
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.power.enrolment import EnrolmentCurve

__all__ = ["Baseline", "DurationPlan", "Gap", "PlanRow", "Readiness", "power_plan", "readiness"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """May the experiment start? Every gap at once, and what could not be checked."""

    gaps: tuple[Gap, ...]
    unchecked: tuple[str, ...]
    plan: DurationPlan | None

    @property
    def ready(self) -> bool:
        return not self.gaps


def readiness(
    brief: Brief,
    metrics: Mapping[str, Metric],
    *,
    baseline: Baseline | None = None,
    units_per_day: float | None = None,
    curve: EnrolmentCurve | None = None,
    days_needed: int | None = None,
    facts_seen: Mapping[str, int] | None = None,
    no_baseline: str = "the primary has no baseline yet",
    guardrails: Sequence[GuardrailPlan] = (),
    ramp: RampPlan | None = None,
    reviews_waiting: Sequence[str] = (),
    aa_approved: bool = False,
    calendar: SchoolCalendar | None = None,
) -> Readiness:
    """May this experiment start? Every gap at once.

    units_per_day, curve, days_needed: as in `power_plan`. facts_seen: metric -> units that had a value of it
    in recent history; None where there is no history yet. no_baseline: why `baseline` is None. guardrails:
    what each of them asks of the size. ramp: how its stages are expected to go. reviews_waiting: kinds of
    review that are needed and not given. aa_approved: whether an A/A result was found good. calendar: that of
    the brief; None also where the brief names one that is not there. What needs history or a baseline and has
    none is listed as unchecked, never passed over.
    """
    unchecked: list[str] = []
    gaps = _metric_gaps(brief, metrics, facts_seen)
    if facts_seen is None:
        unchecked.append("whether the metrics' events arrive: there is no history yet")
    gaps += brief_gaps(brief, metrics)
    gaps += review_gaps(brief, reviews_waiting)
    gaps += logging_gaps(brief, aa_approved)
    gaps += calendar_gaps(brief, calendar)
    plan = None
    primary = metrics.get(brief.primary)
    if primary is not None and baseline is not None and (brief.mde.absolute or brief.mde.relative):
        try:
            plan = power_plan(
                brief,
                primary,
                baseline,
                units_per_day=units_per_day,
                curve=curve,
                days_needed=days_needed,
                steps=steps_of(brief, ramp),
            )
        except ValueError as why:
            remedy = "check mde, power and baseline"
            gaps.append(Gap("mde", f"no size gives the planned power: {why}", remedy))
    elif baseline is None:
        unchecked.append(f"whether the power is reached by the end: {no_baseline}")
    if plan is not None:
        gaps += power_gaps(brief, plan)
        if plan.reachable is None:
            unchecked.append("whether the units come in time: nobody knows how many enter a day")
        elif plan.only_with_gain:
            unchecked.append(
                f"whether covariates take {100 * (plan.gain or 0.0):.0f} % off the variance, as in the "
                "history: the power is reached by the end only if they do"
            )
    gaps += guardrail_gaps(brief, guardrails)
    gaps += ramp_gaps(brief, ramp)
    if ramp is not None and not ramp.units_known and any(stage.minimum_units for stage in ramp.stages[:-1]):
        unchecked.append("whether stages of the ramp get their units in time: nobody knows how many come")
    told = {one.metric: one.reason for one in guardrails if one.power_at_end is None and one.reason}
    unchecked += [
        f"whether guardrail {one.metric!r} would pass where there is no harm: {told[one.metric]}"
        for one in brief.guardrails
        if one.basis == "interval" and one.metric in told
    ]
    return Readiness(tuple(gaps), tuple(unchecked), plan)


def _metric_gaps(
    brief: Brief, metrics: Mapping[str, Metric], facts_seen: Mapping[str, int] | None
) -> list[Gap]:
    gaps = []
    for name in brief.metric_names():
        if name not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            gaps.append(Gap("metrics", f"metric {name!r} is not defined", f"defined metrics: {known}"))
        elif facts_seen is not None and not facts_seen.get(name, 0):
            told = f"no event of metric {name!r} ever arrived"
            gaps.append(Gap("metrics", told, "mend its logging or choose another"))
    return gaps
