"""Planning: what a brief lacks before its start, and how many units and weeks it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import polars as pl

from exp_pipeline.analysis.integrity.checks import equal_arms_check
from exp_pipeline.analysis.planning.arrivals import enrolment_of
from exp_pipeline.analysis.planning.baselines import NO_COVARIATE, Baseline, NoBaseline, baseline_of
from exp_pipeline.analysis.planning.duration import DurationPlan, power_plan
from exp_pipeline.analysis.planning.guardrail_plans import GuardrailPlan, guardrail_plan
from exp_pipeline.analysis.planning.question import is_clustered
from exp_pipeline.analysis.planning.ramp_plan import RampPlan, ramp_plan, steps_of
from exp_pipeline.analysis.planning.readiness import Gap, Readiness, readiness
from exp_pipeline.analysis.population import split_population
from exp_pipeline.analysis.units import frame_of_units, units_of_metric
from exp_pipeline.model.brief import Brief
from exp_pipeline.stats.power.enrolment import EnrolmentCurve, enrolment_curve
from exp_pipeline.steps.assignment.drawn import draw_of
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.aa import equal_arms_before
from exp_pipeline.steps.experiments.chain import brief_of, last_day
from exp_pipeline.steps.experiments.past_units import PastUnits, days_needed, past_days, past_units
from exp_pipeline.steps.experiments.reviews import reviews_waiting
from exp_pipeline.steps.operating.ramp_log import aa_approved_at
from exp_pipeline.store.state import state_log

# Arrivals are foretold for a year at most.
_FORETOLD_DAYS = 366


@dataclass(frozen=True, slots=True)
class History:
    """What the days before an experiment tell: baselines of its metrics, who comes when, what has data.

    `units_per_day` is new units a day over `days` days that layer, holdout and eligibility leave to the
    experiment, a `share` of all; it and `facts_seen` are None where there is no history. `baseline` is the
    primary's, or `no_baseline` says why there is none; `baselines` are those of all metrics by name. `curve`
    says how many units have come by each day since the start, of that share. `lacking` days were not summed
    up with every measure. `first_assigned`: from when on units were taken as if assigned. `strata` are the
    shares of units in each stratum of the brief, none where it names no strata.
    """

    days: int
    units: int
    units_per_day: float | None
    baseline: Baseline | None
    facts_seen: dict[str, int] | None
    share: float = 1.0
    lacking: int = 0
    no_baseline: str = ""
    baselines: Mapping[str, Baseline | NoBaseline] = field(default_factory=dict)
    curve: EnrolmentCurve | None = None
    days_needed: int | None = None
    first_assigned: date | None = None
    strata: tuple[float, ...] = ()


def history_of(bench: Workbench, brief: Brief) -> History:
    """What the learners' days before the brief's start say about its metrics and about who will come."""
    found = past_days(bench, brief)
    if found.window is None:
        return History(0, 0, None, None, None, lacking=found.lacking, no_baseline="there is no history yet")
    past = past_units(bench, brief, found.window)
    baselines = _baselines(bench, brief, past)
    if brief.variance_reduction.method != "none" and past.first_assigned == found.window.first:
        baselines = _with_gain(bench, brief, found.window, baselines)
    primary = baselines[brief.primary]
    # New units a day: everybody seen in the history is met once when an experiment opens.
    share = bench.catalog.limits_of(brief).share(brief.name) * _eligible_share(past.mad, brief)
    expected = share * past.learners / found.days if past.learners and share else None
    return History(
        days=found.days,
        units=past.learners,
        units_per_day=brief.expected_units_per_day or expected,
        baseline=primary if isinstance(primary, Baseline) else None,
        facts_seen=past.seen,
        share=share,
        lacking=found.lacking,
        no_baseline="" if isinstance(primary, Baseline) else primary.reason,
        baselines=baselines,
        curve=_curve(brief, past, share),
        days_needed=days_needed(bench, brief, bench.catalog.metrics_of(brief)[brief.primary]),
        first_assigned=past.first_assigned,
        strata=shares_of_strata(brief, past.mad),
    )


def _eligible_share(mad: pl.DataFrame, brief: Brief) -> float:
    """Which share of the history's units would the brief's eligibility and exclusions leave?"""
    return split_population(mad, brief)[0].height / mad.height if mad.height else 1.0


def shares_of_strata(brief: Brief, mad: pl.DataFrame) -> tuple[float, ...]:
    """Which share of these units is in each combination of the columns that the brief draws within?

    A missing value is one of its own. Nothing where the brief names no strata or a column is not there.
    """
    columns = [f"segment__{name}" for name in brief.strata]
    if not columns or not mad.height or any(name not in mad.columns for name in columns):
        return ()
    counts = mad.group_by(columns).len().sort(columns)["len"]
    return tuple((counts / mad.height).to_list())


def _baselines(bench: Workbench, brief: Brief, past: PastUnits) -> dict[str, Baseline | NoBaseline]:
    """What history says of each of the brief's metrics, or why it says nothing."""
    units = frame_of_units(past.mad, brief)
    metrics = bench.catalog.metrics_of(brief)
    clustered = is_clustered(brief)
    return {
        name: baseline_of(units_of_metric(units, metrics[name], brief), clustered=clustered)
        for name in brief.metric_names()
        if name in metrics
    }


def _with_gain(
    bench: Workbench, brief: Brief, window: Window, baselines: Mapping[str, Baseline | NoBaseline]
) -> dict[str, Baseline | NoBaseline]:
    """The baselines with the help of covariates told from the second half of a short history.

    Levels and spreads need all of a short history, so no day of it lies before assignment; a share of
    variance depends less on how long units were followed.
    """
    half = len(window.days()) // 2
    if not half:
        return dict(baselines)
    later = _baselines(bench, brief, past_units(bench, brief, window, window.first + half * DAY))
    found: dict[str, Baseline | NoBaseline] = {}
    for name, one in baselines.items():
        other = later.get(name)
        if isinstance(one, Baseline) and isinstance(other, Baseline) and other.gain is not None:
            told = (
                f"the help of covariates is that seen in the last {len(window.days()) - half} days of history"
            )
            notes = (*(note for note in one.notes if note != NO_COVARIATE), told)
            one = replace(one, gain=other.gain, adjusted_icc=_left_of_icc(one, other), notes=notes)
        found[name] = one
    return found


def _left_of_icc(whole: Baseline, later: Baseline) -> float | None:
    """The whole history's ICC, less what covariates took off the later days' own."""
    if whole.icc is None or later.icc is None or later.adjusted_icc is None or later.icc <= 0.0:
        return None
    return whole.icc * later.adjusted_icc / later.icc


def _curve(brief: Brief, past: PastUnits, share: float) -> EnrolmentCurve | None:
    """How many units come by each day, of the share that layer and holdout leave; None where nobody came."""
    if not past.visits.unit.size or share <= 0.0:
        return None
    length = max((brief.end - brief.start).days, _FORETOLD_DAYS)
    whole = enrolment_curve(past.visits, start=brief.start, days=length, closed=brief.blackout_days)
    return replace(
        whole, cumulative=tuple(share * units for units in whole.cumulative), most=share * whole.most
    )


@dataclass(frozen=True, slots=True)
class WholePlan:
    """Everything that can be said before a start, from one look at the history."""

    history: History
    plan: DurationPlan | None
    readiness: Readiness
    guardrails: tuple[GuardrailPlan, ...]
    ramp: RampPlan | None = None


def plan_of(bench: Workbench, experiment: str) -> WholePlan:
    """History, size and duration, readiness, what each guardrail needs, and how the ramp is climbed."""
    brief = brief_of(bench, experiment)
    history = history_of(bench, brief)
    ramp = _ramp(bench, brief, history)
    guardrails = _guardrails(bench, brief, history, ramp)
    ready = _ready(bench, brief, history, guardrails, ramp)
    return WholePlan(history, ready.plan, ready, guardrails, ramp)


def _ramp(bench: Workbench, brief: Brief, history: History) -> RampPlan | None:
    return ramp_plan(
        brief,
        enrolment_of(brief, history.units_per_day, history.curve),
        cluster_size=None if history.baseline is None else history.baseline.cluster_size,
        calendar=bench.catalog.calendar_of(brief),
    )


def _guardrails(
    bench: Workbench, brief: Brief, history: History, ramp: RampPlan | None
) -> tuple[GuardrailPlan, ...]:
    metrics = bench.catalog.metrics_of(brief)
    return tuple(
        guardrail_plan(
            brief,
            guardrail,
            metrics[guardrail.metric],
            history.baselines[guardrail.metric],
            units_per_day=history.units_per_day,
            curve=history.curve,
            days_needed=days_needed(bench, brief, metrics[guardrail.metric]),
            steps=steps_of(brief, ramp),
        )
        for guardrail in brief.guardrails
        if guardrail.metric in history.baselines
    )


def check_readiness(bench: Workbench, experiment: str) -> Readiness:
    """May this experiment start? Every gap at once, judged on the days before its start."""
    brief = brief_of(bench, experiment)
    history = history_of(bench, brief)
    ramp = _ramp(bench, brief, history)
    return _ready(bench, brief, history, _guardrails(bench, brief, history, ramp), ramp)


def _ready(
    bench: Workbench,
    brief: Brief,
    history: History,
    guardrails: Sequence[GuardrailPlan],
    ramp: RampPlan | None,
) -> Readiness:
    found = readiness(
        brief,
        bench.catalog.metrics_of(brief),
        baseline=history.baseline,
        units_per_day=history.units_per_day,
        curve=history.curve,
        days_needed=history.days_needed,
        facts_seen=history.facts_seen,
        no_baseline=history.no_baseline,
        guardrails=guardrails,
        ramp=ramp,
        reviews_waiting=reviews_waiting(bench.home, brief, bench.catalog.reviews),
        aa_approved=aa_approved_at(state_log(bench.home), brief) is not None
        or equal_arms_check(equal_arms_before(bench, brief), brief).verdict in ("pass", "warn"),
        calendar=bench.catalog.calendar_of(brief),
    )
    if history.lacking:
        told = f"{history.lacking} days of history lack measures: see `exp metrics needs {brief.name}`"
        found = replace(found, unchecked=(*found.unchecked, told))
    if brief.assignment == "table" and draw_of(bench.home, brief) is None:
        remedy = f"run `exp assign {brief.name} --units FILE`"
        gap = Gap("assignment", "the table of arms has not been drawn", remedy)
        return replace(found, gaps=(*found.gaps, gap))
    return found


def plan_of_draft(bench: Workbench, brief: Brief) -> DurationPlan | None:
    """What size a brief needs that is not in the catalog yet; None where history tells nothing."""
    history = history_of(bench, brief)
    if not (brief.mde.absolute or brief.mde.relative):
        return None
    try:
        return _planned(bench, brief, history)
    except ValueError:
        # No size gives the planned power: readiness tells why, once the brief is written.
        return None


def plan_power(bench: Workbench, experiment: str) -> tuple[History, DurationPlan | None]:
    """How many units and weeks the brief needs, from the days before its start; None where there are none."""
    brief = brief_of(bench, experiment)
    history = history_of(bench, brief)
    return history, _planned(bench, brief, history)


def _planned(bench: Workbench, brief: Brief, history: History) -> DurationPlan | None:
    if history.baseline is None:
        return None
    metric = bench.catalog.metrics_of(brief)[brief.primary]
    return power_plan(
        brief,
        metric,
        history.baseline,
        units_per_day=history.units_per_day,
        curve=history.curve,
        days_needed=history.days_needed,
        steps=steps_of(brief, _ramp(bench, brief, history)),
    )


def started(bench: Workbench, brief: Brief) -> bool:
    """Whether the data has reached the first day of the experiment."""
    newest: date | None = last_day(bench)
    return newest is not None and newest >= brief.start
