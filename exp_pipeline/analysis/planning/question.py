"""What every size of one plan rests on: effect, design, ICC, attrition, and what looks cost."""

from __future__ import annotations

from dataclasses import dataclass

from exp_pipeline.analysis.effects.stopping import SPENDING
from exp_pipeline.analysis.planning.arrivals import Arrivals
from exp_pipeline.analysis.planning.baselines import Baseline
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.stats.looks.spending import Spending
from exp_pipeline.stats.power.design import Design
from exp_pipeline.stats.power.looks import always_valid_looks, group_sequential_looks
from exp_pipeline.stats.power.outcomes import Mean, Outcome, Proportion


@dataclass(frozen=True, slots=True)
class Question:
    """What every size of one plan has in common."""

    brief: Brief
    metric: Metric
    baseline: Baseline
    icc: float
    attrition: float
    inflation: float

    @property
    def sign(self) -> float:
        return 1.0 if self.metric.direction == "increase" else -1.0


def is_clustered(brief: Brief) -> bool:
    """Are whole clusters randomised, and units within them analysed?"""
    return brief.randomisation_unit != brief.analysis_unit


def question_of(brief: Brief, metric: Metric, baseline: Baseline, arrivals: Arrivals | None) -> Question:
    """What do all sizes of a plan rest on? Looks are charged for where `arrivals` says when units come."""
    share = metric.estimand == "proportion"
    if not share and baseline.sd is None:
        raise ValueError(f"baseline.sd must be given for a metric of type {metric.type}, got None")
    if is_clustered(brief) and baseline.cluster_size is None:
        raise ValueError(
            f"baseline.cluster_size must be given where {brief.randomisation_unit} units are randomised"
        )
    icc = 0.0
    if is_clustered(brief):
        icc = brief.icc if brief.icc > 0.0 else max(baseline.icc or 0.0, 0.0)
    lost = max(brief.attrition, baseline.attrition or 0.0)
    attrition = min(1.0 - (1.0 - lost) * baseline.included, 0.99)
    return Question(brief, metric, baseline, icc, attrition, _inflation(brief, arrivals))


def _inflation(brief: Brief, arrivals: Arrivals | None) -> float:
    """How many times the units do the brief's planned looks need, by its stopping rule?"""
    length = (brief.end - brief.start).days
    at = sorted({(look - brief.start).days for look in brief.looks} - {length})
    whole = float(length) if arrivals is None else arrivals.counted(length)
    fractions = [(days if arrivals is None else arrivals.counted(days)) / whole for days in at if whole > 0.0]
    inner = sorted({round(fraction, 6) for fraction in fractions if 0.0 < fraction < 1.0})
    if not inner:
        return 1.0
    alpha = brief.alpha / len(brief.treatments())
    family = SPENDING.get(brief.stopping.rule)
    if family is None:
        return always_valid_looks(alpha=alpha, power=brief.power, looks=len(inner) + 1).inflation
    spending = Spending(family, alpha, gamma=brief.stopping.gamma)
    return group_sequential_looks(spending, (*inner, 1.0), power=brief.power).inflation


def outcome_of(question: Question) -> Outcome:
    """What does one unit's value vary by?"""
    baseline = question.baseline
    if question.metric.estimand == "proportion":
        return Proportion(baseline.mean)
    sd = baseline.sd or 0.0
    return Mean(sd, sd)


def design_of(
    question: Question, arm_share: float, icc: float, gain: float, *, treatments: int | None = None
) -> Design:
    """Which design compares one arm with control? `treatments` shares alpha out, over all arms where None."""
    brief, baseline = question.brief, question.baseline
    clustered = is_clustered(brief)
    reduction = 1.0 - (1.0 - baseline.variance_reduction) * (1.0 - gain)
    known, left = baseline.icc or 0.0, baseline.adjusted_icc or 0.0
    if gain and clustered and known > 0.0 and left > 0.0:
        # What is left of the likeness within clusters, in the proportion that history shows; an estimate
        # below zero is chance and takes nothing off.
        icc *= left / known
    return Design(
        alpha=brief.alpha,
        power=brief.power,
        share_treatment=arm_share,
        treatments=treatments or len(brief.treatments()),
        attrition=question.attrition,
        variance_reduction=min(reduction, 1.0 - 1e-9),
        cluster_size=max(baseline.cluster_size or 1.0, 1.0) if clustered else None,
        cluster_size_cv=baseline.cluster_size_cv if clustered else 0.0,
        icc=min(icc, 1.0) if clustered else 0.0,
        inflation=question.inflation,
    )
