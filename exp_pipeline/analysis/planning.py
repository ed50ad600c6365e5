"""Before the start: what a brief lacks, and how many units and weeks it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from exp_pipeline.analysis.power_achieved import absolute_size
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.power import PowerPlan, required_units

ICC_FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0)
MDE_FACTORS = (0.5, 1.0, 2.0)
# A search for the last day of enrolment ends here: nobody runs an experiment for ten years.
_LONGEST_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of the primary metric before the start? sd is of one unit; shares need none.

    cluster_size and cluster_size_cv: units per randomised cluster, on average, and how much that varies.
    """

    mean: float
    sd: float | None = None
    cluster_size: float | None = None
    cluster_size_cv: float = 0.0
    variance_reduction: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanRow:
    """How large must the experiment be under one set of assumptions? None where no size would do."""

    icc: float
    mde: float
    units_per_arm: int | None
    clusters_per_arm: int | None
    days: int | None


@dataclass(frozen=True, slots=True)
class DurationPlan:
    """How many units and whole weeks does the brief need?

    units_per_arm: of the largest arm. days: whole weeks from the start to the end that the plan needs (the
    primary's window after the last enrolment included); None where units per day are unknown. reachable:
    whether the brief's end leaves that time. grid: the same with other ICCs and effects.
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


def power_plan(
    brief: Brief, metric: Metric, baseline: Baseline, *, units_per_day: float | None = None
) -> DurationPlan:
    """How many units and how many weeks does this brief need?

    units_per_day: eligible units that enter a day, before the brief's traffic share; the brief's own
    expectation where None. Alpha is shared out over the treatment arms. Raises ValueError where the baseline
    does not fit the metric or no size would do.
    """
    mde = absolute_size(brief.mde, baseline.mean)
    if mde is None or mde == 0.0:
        raise ValueError(f"mde must be an effect other than 0, got {brief.mde!r}")
    rate = brief.expected_units_per_day if units_per_day is None else units_per_day
    plan = _sizes(brief, metric, baseline, abs(mde), brief.icc)
    days = _days(brief, metric, plan.units_total, rate)
    end = brief.start + timedelta(days=days) if days is not None else None
    grid = []
    iccs = sorted({brief.icc * factor for factor in ICC_FACTORS}) if _clustered(brief) else [0.0]
    for icc in iccs:
        for factor in MDE_FACTORS:
            size = abs(mde) * factor
            try:
                row = _sizes(brief, metric, baseline, size, icc)
            except ValueError:
                grid.append(PlanRow(icc, size, None, None, None))
                continue
            needed = _days(brief, metric, row.units_total, rate)
            grid.append(PlanRow(icc, size, row.units_per_arm, row.clusters_per_arm, needed))
    reachable = None if end is None else end <= brief.end
    if rate is None:
        note = "Days need the number of units that enter a day."
    elif end is None:
        note = "At this rate the units are not found in ten years."
        reachable = False
    else:
        note = f"Needs whole weeks to {end}; the brief ends on {brief.end}."
    return DurationPlan(
        mde=abs(mde),
        units_per_arm=plan.units_per_arm,
        clusters_per_arm=plan.clusters_per_arm,
        units_total=plan.units_total,
        days=days,
        weeks=days // 7 if days is not None else None,
        end=end,
        reachable=reachable,
        note=note,
        grid=tuple(grid),
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    units_per_arm: int
    clusters_per_arm: int | None
    units_total: int


def _clustered(brief: Brief) -> bool:
    return brief.randomisation_unit != brief.analysis_unit


def _sizes(brief: Brief, metric: Metric, baseline: Baseline, mde: float, icc: float) -> _Sizes:
    share = metric.estimand == "proportion"
    if not share and baseline.sd is None:
        raise ValueError(f"baseline.sd must be given for a metric of type {metric.type}, got None")
    if _clustered(brief) and baseline.cluster_size is None:
        raise ValueError(
            f"baseline.cluster_size must be given where {brief.randomisation_unit} units are randomised"
        )
    shares = brief.shares()
    control = shares[brief.control]
    plans: list[tuple[float, PowerPlan]] = []
    for arm in brief.treatments():
        found = required_units(
            effect=mde if metric.direction == "increase" else -mde,
            baseline=baseline.mean if share else None,
            sd=None if share else baseline.sd,
            alpha=brief.alpha / len(brief.treatments()),
            power=brief.power,
            share_treatment=arm.share / (arm.share + control),
            icc=icc if _clustered(brief) else 0.0,
            cluster_size=baseline.cluster_size if _clustered(brief) else None,
            cluster_size_cv=baseline.cluster_size_cv if _clustered(brief) else 0.0,
            variance_reduction=baseline.variance_reduction,
            attrition=brief.attrition,
        )
        plans.append((found.n_total / (arm.share + control), found))
    total, largest = max(plans, key=lambda pair: pair[0])
    clusters = None
    if largest.clusters_control is not None and largest.clusters_treatment is not None:
        clusters = max(largest.clusters_control, largest.clusters_treatment)
    return _Sizes(
        units_per_arm=max(largest.n_control, largest.n_treatment),
        clusters_per_arm=clusters,
        units_total=math.ceil(total - 1e-9),
    )


def _days(brief: Brief, metric: Metric, units: int, units_per_day: float | None) -> int | None:
    """Whole weeks, in days, until so many units have come and have had the metric's window."""
    if units_per_day is None or units_per_day <= 0.0:
        return None
    blackout, found, day = set(brief.blackout_days), 0.0, 0
    while found < units:
        if day >= _LONGEST_DAYS:
            return None
        if brief.start + timedelta(days=day) not in blackout:
            found += units_per_day * brief.traffic
        day += 1
    return 7 * math.ceil((day + (metric.window_days or 0)) / 7)


def readiness(
    brief: Brief,
    metrics: Mapping[str, Metric],
    *,
    baseline: Baseline | None = None,
    units_per_day: float | None = None,
    facts_seen: Mapping[str, int] | None = None,
) -> Readiness:
    """May this experiment start? Every gap at once.

    facts_seen: metric -> units that had a value of it in recent history; None where there is no history yet.
    What needs history or a baseline and has none is listed as unchecked, never passed over.
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
            plan = power_plan(brief, primary, baseline, units_per_day=units_per_day)
        except ValueError as why:
            gaps.append(
                Gap("mde", f"no size gives the planned power: {why}", "check mde, power and baseline")
            )
    elif baseline is None:
        unchecked.append("whether the power is reached by the end: the primary has no baseline yet")
    if plan is not None and plan.reachable is False:
        needed = f"{plan.units_total:,} units" + (f" and {plan.weeks} weeks" if plan.weeks else "")
        gaps.append(
            Gap(
                "end",
                f"the power is not reached by {brief.end}: {needed} are needed",
                "move the end, or widen mde",
            )
        )
    if plan is not None and plan.reachable is None:
        unchecked.append("whether the units come in time: nobody knows how many enter a day")
    return Readiness(tuple(gaps), tuple(unchecked), plan)


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
    if brief.decision.primary_must_beat == "threshold" and brief.practical_threshold is None:
        gaps.append(
            Gap(
                "practical_threshold",
                "the decision rule needs it and it is missing",
                "give one, or judge against zero",
            )
        )
    if _clustered(brief) and brief.icc == 0.0:
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
