"""Dry run: the brief's design on synthetic units, without effect and with the planned one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.planning.readiness import Baseline, DurationPlan
from exp_pipeline.analysis.units import COVARIATE, MetricUnits
from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import Metric
from exp_pipeline.simulate.units import UnitArm, UnitPlan, Units, draw_units
from exp_pipeline.stats.gates.srm import sample_ratio
from exp_pipeline.stats.multiplicity import holm
from exp_pipeline.stats.results import Effect
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.chain import brief_of
from exp_pipeline.steps.experiments.monte_carlo import Rate, latent_icc, percent, rate_of, said
from exp_pipeline.steps.experiments.planning import History, plan_power
from exp_pipeline.store.files import write_text

REPLICATIONS = 200
# A dry run is to take seconds: so many units are drawn at most, over all replications.
MOST_UNITS_DRAWN = 20_000_000
MOST_UNITS = 500_000
FEWEST_REPLICATIONS = 20


class ArmRates(Noun):
    """One treatment arm: how often its interval held the truth, and how often its effect was found."""

    arm: str
    coverage_without_effect: Rate
    coverage_with_effect: Rate
    power: Rate


class DryRun(Noun):
    """What the design does on units with a known effect. Where `estimable` is false, `reason` says why.

    `size` is the share of replications without effect in which any arm is called different (Holm over arms,
    as in the decision). `sample_ratio` counts false alarms of the sample-ratio check. `method` is the
    estimator's sentence in the readout. `units_per_arm` are expected units assigned.
    """

    experiment: str
    brief_digest: str
    estimable: bool
    reason: str = ""
    seed: int
    replications: int
    metric: str
    method: str = ""
    units_total: int = 0
    units_per_arm: dict[str, int] = Field(default_factory=dict)
    clusters: int | None = None
    icc: float | None = None
    baseline: float | None = None
    sd: float | None = None
    effect: float | None = None
    size: Rate | None = None
    arms: tuple[ArmRates, ...] = ()
    sample_ratio: Rate | None = None
    not_estimable: int = 0
    findings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Design:
    brief: Brief
    metric: Metric
    without: UnitPlan
    with_effect: UnitPlan
    effect: float
    adjusted: bool
    strata: tuple[float, ...]

    @property
    def clustered(self) -> bool:
        return self.brief.randomisation_unit != self.brief.analysis_unit


@dataclass
class _Tally:
    false_positives: int = 0
    estimable: int = 0
    alarms: int = 0
    not_estimable: int = 0
    method: str = ""
    reason: str = ""


def dry_run(bench: Workbench, experiment: str, *, replications: int = REPLICATIONS, seed: int = 1) -> DryRun:
    """What would this design do if we knew the truth: false positives, coverage, power, false SRM alarms?

    Units are drawn as the brief plans them and as the days before its start describe them, `replications`
    times with no effect and as often with the planned effect in every treatment arm, and go through the
    readout's own estimator and sample-ratio check. Large designs are drawn less often. The same seed gives
    the same result. Not estimable without a baseline. Raises ExpError for an unknown experiment, ValueError
    for fewer than 20 replications.
    """
    if replications < FEWEST_REPLICATIONS:
        raise ValueError(f"replications must be at least {FEWEST_REPLICATIONS}, got {replications}")
    brief = brief_of(bench, experiment)
    if brief.table is not None:
        return _cannot(brief, seed, "it is analysed from a unit table, so there is no history to draw from")
    metric = bench.catalog.metrics_of(brief)[brief.primary]
    try:
        history, plan = plan_power(bench, experiment)
    except ValueError as why:
        return _cannot(brief, seed, f"the design has no size: {why}")
    if plan is None or history.baseline is None:
        return _cannot(brief, seed, _no_baseline(history, metric))
    if plan.units_total > MOST_UNITS:
        reason = f"the design needs {plan.units_total:,} units, and at most {MOST_UNITS:,} are drawn"
        return _cannot(brief, seed, reason)
    try:
        design = _design(brief, metric, history, history.baseline, plan)
    except ValueError as why:
        return _cannot(brief, seed, f"no units can be drawn from this baseline: {_first_line(why)}")
    drawn = min(replications, MOST_UNITS_DRAWN // (2 * plan.units_total))
    return _replicated(design, history, plan, max(drawn, FEWEST_REPLICATIONS), seed)


def write_dry_run(bench: Workbench, experiment: str) -> Path:
    """Write the dry run as `readouts/experiment=<name>/dry_run.json`; the file is replaced at once."""
    found = dry_run(bench, experiment)
    path = bench.home.readouts / f"experiment={experiment}" / "dry_run.json"
    write_text(path, found.model_dump_json(indent=1) + "\n")
    return path


def _no_baseline(history: History, metric: Metric) -> str:
    if not history.days:
        return "there is no history: no day of events lies before the experiment's start"
    if history.no_baseline:
        return history.no_baseline
    if metric.type == "quantile":
        return f"the primary {metric.name} is a quantile, whose spread the history does not tell"
    if not metric.adds_up or metric.from_day is not None:
        kind = metric.type.replace("_", " ")
        return f"the primary {metric.name} ({kind}) counts from assignment, which the history does not have"
    return f"the {history.days} days before the start hold too few units to tell the primary's baseline"


def _cannot(brief: Brief, seed: int, reason: str) -> DryRun:
    return DryRun(
        experiment=brief.name,
        brief_digest=brief.digest(),
        estimable=False,
        reason=reason,
        seed=seed,
        replications=0,
        metric=brief.primary,
        findings=(f"cannot tell: {reason}",),
    )


def _first_line(why: ValueError) -> str:
    """What pydantic found, without its address; another error's own words."""
    return str(why.errors()[0]["msg"]) if isinstance(why, ValidationError) else str(why)


def _design(
    brief: Brief, metric: Metric, history: History, baseline: Baseline, plan: DurationPlan
) -> _Design:
    share = metric.estimand == "proportion"
    clustered = brief.randomisation_unit != brief.analysis_unit
    effect = plan.mde if metric.direction == "increase" else -plan.mde
    clusters = 0
    if clustered:
        fair = round(plan.units_total / (baseline.cluster_size or 1.0))
        clusters = min(max(fair, 2 * len(brief.arms)), plan.units_total)
    icc = brief.icc if clustered else 0.0
    if share and icc:
        icc = latent_icc(baseline.mean, icc)

    def units(lift: float) -> UnitPlan:
        return UnitPlan(
            units=plan.units_total,
            arms=tuple(
                UnitArm(name=arm.name, share=arm.share, effect=0.0 if arm.name == brief.control else lift)
                for arm in brief.arms
            ),
            outcome="binary" if share else "normal",
            mean=baseline.mean,
            sd=1.0 if baseline.sd is None else baseline.sd,
            covariate_correlation=0.0,
            clusters=clusters,
            cluster_size_cv=min(baseline.cluster_size_cv, 0.5) if clustered else 0.0,
            icc=icc,
            assign_by="cluster" if clustered else "unit",
        )

    adjusted = brief.variance_reduction.method != "none"
    return _Design(brief, metric, units(0.0), units(effect), effect, adjusted, history.strata)


def _replicated(
    design: _Design, history: History, plan: DurationPlan, replications: int, seed: int
) -> DryRun:
    brief = design.brief
    arms = [arm.name for arm in brief.treatments()]
    tally = _Tally()
    held = {(arm, lift): 0 for arm in arms for lift in (False, True)}
    seen = {(arm, lift): 0 for arm in arms for lift in (False, True)}
    found = dict.fromkeys(arms, 0)
    seeds = np.random.SeedSequence(seed).spawn(2 * replications)
    for number, one in enumerate(seeds):
        lifted = number >= replications
        truth = design.effect if lifted else 0.0
        effects = _one(design, one, lifted, tally)
        for arm, effect in effects.items():
            seen[arm, lifted] += 1
            held[arm, lifted] += effect.ci_lower <= truth <= effect.ci_upper
        called = {arm: p < brief.alpha for arm, p in holm({a: e.p_value for a, e in effects.items()}).items()}
        if lifted:
            for arm, sure in called.items():
                found[arm] += sure and effects[arm].absolute * design.effect > 0
        elif called:
            tally.estimable += 1
            tally.false_positives += any(called.values())
    if not tally.estimable or not all(seen.values()):
        return _cannot(brief, seed, f"the estimator gave no answer: {tally.reason}")
    level = 1.0 - brief.alpha
    rates = tuple(
        ArmRates(
            arm=arm,
            coverage_without_effect=rate_of(held[arm, False], seen[arm, False], level),
            coverage_with_effect=rate_of(held[arm, True], seen[arm, True], level),
            power=rate_of(found[arm], seen[arm, True], brief.power),
        )
        for arm in arms
    )
    size = rate_of(tally.false_positives, tally.estimable, brief.alpha)
    ratio = rate_of(tally.alarms, 2 * replications, brief.srm_alpha)
    shares = brief.shares()
    baseline = history.baseline
    return DryRun(
        experiment=brief.name,
        brief_digest=brief.digest(),
        estimable=True,
        seed=seed,
        replications=replications,
        metric=brief.primary,
        method=tally.method,
        units_total=plan.units_total,
        units_per_arm={arm: round(plan.units_total * share) for arm, share in shares.items()},
        clusters=design.without.clusters or None,
        icc=brief.icc if design.clustered else None,
        baseline=baseline.mean if baseline else None,
        sd=baseline.sd if baseline else None,
        effect=design.effect,
        size=size,
        arms=rates,
        sample_ratio=ratio,
        not_estimable=tally.not_estimable,
        findings=_findings(size, rates, ratio, tally, plan),
        assumptions=_assumptions(design, history),
    )


def _one(design: _Design, seed: np.random.SeedSequence, lifted: bool, tally: _Tally) -> dict[str, Effect]:
    """The effect in each treatment arm of one draw; sample-ratio alarms are counted on the way."""
    brief = design.brief
    own, losses, layers = seed.spawn(3)
    plan = design.with_effect if lifted else design.without
    drawn = draw_units(plan, own)
    arm_of_unit = drawn.arm
    if design.clustered:
        arm_of_unit = drawn.arm[np.unique(drawn.cluster, return_index=True)[1]]
    counts = np.bincount(arm_of_unit, minlength=len(plan.arms)).tolist()
    p = sample_ratio({arm.name: n for arm, n in zip(plan.arms, counts, strict=True)}, brief.shares()).p_value
    tally.alarms += p is not None and p < brief.srm_alpha
    stays = np.random.default_rng(losses).random(plan.units) >= brief.attrition
    units = _metric_units(design, drawn, stays, _layers(design, drawn, layers))
    effects = {}
    for arm in brief.treatments():
        answer = compare(
            units,
            arm.name,
            brief.control,
            clustered=design.clustered,
            adjusted=design.adjusted,
            level=1.0 - brief.alpha,
        )
        tally.method = answer.sentence
        if isinstance(answer.effect, Effect):
            effects[arm.name] = answer.effect
        else:
            tally.not_estimable += 1
            tally.reason = answer.effect.reason
    return effects


def _layers(
    design: _Design, drawn: Units, seed: np.random.SeedSequence
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The stratum of each unit, as often as the history had it; a cluster lies in one stratum."""
    n = drawn.arm.shape[0]
    if len(design.strata) < 2:
        return np.zeros(n, dtype=np.int64)
    random = np.random.default_rng(seed)
    edges = np.cumsum(design.strata)[:-1]
    own = np.searchsorted(edges, random.random(design.without.clusters or n), side="right")
    return (own[drawn.cluster] if design.clustered else own).astype(np.int64)


def _metric_units(
    design: _Design,
    drawn: Units,
    stays: np.ndarray[tuple[int], np.dtype[np.bool_]],
    layers: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> MetricUnits:
    names = pl.Series([arm.name for arm in design.brief.arms])
    cluster = drawn.cluster if design.clustered else np.arange(drawn.arm.shape[0])
    covariate = f"{COVARIATE}before"
    frame = pl.DataFrame(
        {
            "arm": names.gather(pl.Series(values=drawn.arm[stays])),
            "cluster": cluster[stays],
            "num": drawn.outcome[stays] / design.metric.per,
            covariate: drawn.pre_outcome[stays],
            "layer": layers[stays],
        }
    ).with_columns(pl.lit(1.0).alias("den"))
    return MetricUnits(
        metric=design.metric,
        frame=frame,
        covariates=(covariate,) if design.adjusted else (),
        stratified=len(design.strata) > 1,
        waiting={},
        without_value={},
        notes=(),
    )


def _findings(
    size: Rate, arms: tuple[ArmRates, ...], ratio: Rate, tally: _Tally, plan: DurationPlan
) -> tuple[str, ...]:
    lines = [
        said("size", size, "nominal", above="more false positives than promised", below="cautious"),
        said("sample-ratio false alarms", ratio, "nominal", above="too many", below="cautious"),
    ]
    for arm in arms:
        for name, rate in (
            ("coverage without effect", arm.coverage_without_effect),
            ("coverage with the planned effect", arm.coverage_with_effect),
        ):
            lines.append(
                said(f"{arm.arm}: {name}", rate, "nominal", above="intervals are wide", below="too narrow")
            )
        lines.append(
            said(
                f"{arm.arm}: power",
                arm.power,
                "planned",
                above="more than planned",
                below="less than planned",
            )
        )
    if tally.not_estimable:
        lines.append(f"{tally.not_estimable} comparisons gave no estimate: {tally.reason}")
    if plan.reachable is False:
        lines.append(f"the brief ends before the {plan.units_total:,} units that were drawn can have come")
    return tuple(lines)


def _assumptions(design: _Design, history: History) -> tuple[str, ...]:
    brief, metric = design.brief, design.metric
    lines = [f"Baseline and spread are those of {history.units:,} units in {history.days} days of history."]
    if history.share < 1.0:
        lines.append(f"Layer and holdout leave {percent(history.share)} of all units to the experiment.")
    if metric.type == "mean":
        lines.append("The outcome is normal: a skewed one needs more units for the same coverage.")
    elif metric.denominator is not None:
        lines.append("A unit's part in the ratio is normal, with the spread that the delta method gives.")
    if design.clustered:
        lines.append(
            f"{design.without.clusters:,} {brief.randomisation_unit} units of the history's mean size, "
            f"intracluster correlation {brief.icc:g} as in the brief."
        )
    if len(design.strata) > 1:
        lines.append(
            f"{len(design.strata):,} strata ({', '.join(brief.strata)}) as large as in the history; they "
            "tell nothing of the outcome: power is what it is without their help."
        )
    elif brief.strata:
        lines.append(f"The history does not tell strata ({', '.join(brief.strata)}): drawn without them.")
    if design.adjusted:
        lines.append("The covariate tells nothing of the outcome: power is what it is without its help.")
    if brief.attrition:
        lines.append(f"{percent(brief.attrition)} of the units are lost at random in every arm.")
    lines.append("One look, at the planned end; p-values by Holm over the treatment arms.")
    return tuple(lines)
