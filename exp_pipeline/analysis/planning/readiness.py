"""Before the start: what a brief lacks, and whether its plan holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exp_pipeline.analysis.planning.baselines import Baseline
from exp_pipeline.analysis.planning.duration import DurationPlan, PlanRow, is_clustered, power_plan
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.power.enrolment import EnrolmentCurve

__all__ = ["Baseline", "DurationPlan", "Gap", "PlanRow", "Readiness", "power_plan", "readiness"]


@dataclass(frozen=True, slots=True)
class Gap:
    """What keeps an experiment from starting? The brief's field, what is wrong, and what would mend it."""

    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}; {self.remedy}"


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
) -> Readiness:
    """May this experiment start? Every gap at once.

    units_per_day, curve, days_needed: as in `power_plan`. facts_seen: metric -> units that had a value of it
    in recent history; None where there is no history yet. no_baseline: why `baseline` is None. What needs
    history or a baseline and has none is listed as unchecked, never passed over.
    """
    gaps: list[Gap] = []
    unchecked: list[str] = []
    for name in brief.metric_names():
        if name not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            gaps.append(Gap("metrics", f"metric {name!r} is not defined", f"defined metrics: {known}"))
        elif facts_seen is not None and not facts_seen.get(name, 0):
            gaps.append(
                Gap(
                    "metrics",
                    f"no event of metric {name!r} ever arrived",
                    "mend its logging or choose another",
                )
            )
    if facts_seen is None:
        unchecked.append("whether the metrics' events arrive: there is no history yet")
    gaps += _risk_gaps(brief)
    gaps += _rule_gaps(brief, metrics)
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
            )
        except ValueError as why:
            gaps.append(
                Gap("mde", f"no size gives the planned power: {why}", "check mde, power and baseline")
            )
    elif baseline is None:
        unchecked.append(f"whether the power is reached by the end: {no_baseline}")
    if plan is not None:
        gaps += _power_gaps(brief, plan)
        if plan.reachable is None:
            unchecked.append("whether the units come in time: nobody knows how many enter a day")
        elif plan.only_with_gain:
            unchecked.append(
                f"whether covariates take {100 * (plan.gain or 0.0):.0f} % off the variance, as in the "
                "history: the power is reached by the end only if they do"
            )
    return Readiness(tuple(gaps), tuple(unchecked), plan)


def _power_gaps(brief: Brief, plan: DurationPlan) -> list[Gap]:
    """What is wrong where the power is not reached by the end, even with the help of covariates."""
    if plan.reachable is not False or plan.only_with_gain:
        return []
    needed = f"{plan.units_total:,} units" + (f" and {plan.weeks} weeks" if plan.weeks else "")
    told = f"the power is not reached by {brief.end}: {needed} are needed"
    if plan.units_at_end is not None:
        told += f", {plan.units_at_end:,} units will be counted by then"
    if plan.power_at_end is not None:
        told += f", power {100 * plan.power_at_end:.0f} % of {100 * brief.power:g} %"
    remedy = "move the end, or widen mde"
    if plan.mde_at_end is not None:
        remedy += f" (by then {plan.mde_at_end:.4g} can be found)"
    return [Gap("end", told, remedy)]


def _risk_gaps(brief: Brief) -> list[Gap]:
    gaps = []
    if brief.risk_class != "low" and not brief.guardrails:
        gaps.append(Gap("guardrails", f"a {brief.risk_class}-risk change has none", "name at least one"))
    if brief.risk_class == "high" and not any(guardrail.kill for guardrail in brief.guardrails):
        gaps.append(
            Gap(
                "guardrails", "a high-risk change has no kill rule", "give at least one guardrail a kill rule"
            )
        )
    if brief.risk_class == "high" and not brief.ramp:
        gaps.append(
            Gap("ramp", "a high-risk change starts at full traffic", "plan stages, such as 1, 5, 25 and 50 %")
        )
    falling = [
        later.traffic
        for earlier, later in zip(brief.ramp, brief.ramp[1:], strict=False)
        if later.traffic <= earlier.traffic
    ]
    if falling:
        gaps.append(
            Gap("ramp", f"traffic does not rise at the stage of {falling[0]:g}", "order stages upward")
        )
    return gaps


def _rule_gaps(brief: Brief, metrics: Mapping[str, Metric]) -> list[Gap]:
    gaps = []
    if not (brief.mde.absolute or brief.mde.relative):
        gaps.append(Gap("mde", "the smallest effect worth finding is 0", "give an effect other than 0"))
    if brief.decision.primary.must_beat == "threshold" and brief.practical_threshold is None:
        gaps.append(
            Gap(
                "practical_threshold",
                "the decision rule needs it and it is missing",
                "give one, or judge against zero",
            )
        )
    if is_clustered(brief) and brief.icc == 0.0:
        gaps.append(
            Gap(
                "icc",
                f"whole {brief.randomisation_unit} units are randomised and the ICC is 0",
                "take one from history",
            )
        )
    length = (brief.end - brief.start).days
    for name in brief.metric_names():
        window = metrics[name].window_days if name in metrics else None
        if window is not None and window > length:
            gaps.append(
                Gap(
                    "end",
                    f"metric {name!r} needs {window} days and the experiment runs {length}",
                    "move the end",
                )
            )
    for name in (brief.owner, brief.on_call):
        if not name.strip():
            gaps.append(Gap("owner", "owner or on-call is empty", "name who decides and who is called"))
            break
    return gaps
