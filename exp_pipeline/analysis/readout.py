"""The readout of one experiment: everything that a memo shows, from one set of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from exp_pipeline.analysis.deciding.blinding import blinding_of
from exp_pipeline.analysis.deciding.decision import ArmFacts, decide
from exp_pipeline.analysis.deciding.guardrails import all_the_same, guardrail_result
from exp_pipeline.analysis.deciding.impact import impact_of
from exp_pipeline.analysis.deciding.rules import Course, late_week
from exp_pipeline.analysis.effects.estimates import Setting, estimate_row, estimates_of, roles_of
from exp_pipeline.analysis.effects.families import judged
from exp_pipeline.analysis.effects.methods import Answer, Comparison
from exp_pipeline.analysis.effects.missing_plan import bounds_of, reversals, weighted_primary
from exp_pipeline.analysis.effects.novelty import Novelty
from exp_pipeline.analysis.effects.primary_effects import primary_effects
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.attrition import ArmAttrition, attrition_of
from exp_pipeline.analysis.integrity.checks import integrity_checks
from exp_pipeline.analysis.integrity.ratio_groups import sample_ratio_groups
from exp_pipeline.analysis.integrity.sample_ratios import counts_by_arm, sample_ratio_days
from exp_pipeline.analysis.planning.blinded_precision import blinded_precisions
from exp_pipeline.analysis.planning.power_achieved import power_achieved, precisions_of
from exp_pipeline.analysis.sentences import limits_of, method_sentences, next_steps_of
from exp_pipeline.analysis.units import MetricUnits, Units, frame_of_units, units_of_metric
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import ArmCount, Estimate, GuardrailResult, Readout

__all__ = ["ReadoutInputs", "read_out"]


def read_out(inputs: ReadoutInputs) -> Readout:
    """What does one experiment say at one snapshot, and what should be done?

    Pure: the same inputs give the same readout, whatever the order of their rows. Empty data, empty arms and
    metrics that cannot be estimated are answered in words. Raises ValueError only when the dataset has rows
    and lacks a column that the brief needs.
    """
    brief = inputs.brief
    units = frame_of_units(inputs.mad, brief)
    setting = Setting(brief, inputs.provenance.snapshot, inputs.lock, units.clustered)
    metrics = {name: units_of_metric(units, inputs.metrics[name], brief) for name in brief.metric_names()}
    primary = metrics[brief.primary]

    integrity = integrity_checks(inputs, units, primary)
    blinding = blinding_of(brief, inputs.lock, inputs.as_of, integrity, inputs.unblinded_because)

    adjusted = estimates_of(setting, metrics, roles_of(brief), adjusted=True)
    attrition = () if blinding.blinded else attrition_of(setting, units, primary)
    if brief.missing_data == "weights":
        adjusted |= _weighted(setting, primary, adjusted, attrition)
    families = judged([row for row, _ in adjusted.values()], brief)
    plain = estimates_of(setting, metrics, roles_of(brief), adjusted=False)
    unadjusted = judged([row for row, _ in plain.values()], brief).rows
    seen = primary_effects(
        inputs,
        setting,
        units,
        primary,
        {arm: found for (name, arm), (_, found) in adjusted.items() if name == brief.primary},
        families,
        attrition,
        blinding,
    )
    main = seen.main or tuple(row for row in families.rows if row.role == "primary")
    headline = (*main, *(row for row in families.rows if row.role != "primary"))
    guardrails = _guardrails(inputs, metrics, {key: found.effect for key, (_, found) in adjusted.items()})
    impact = tuple(
        found
        for row in seen.main
        if (found := impact_of(brief, primary.metric, row, metrics, clustered=units.clustered)) is not None
    )
    power = power_achieved(
        brief,
        primary.metric,
        blinded_precisions(setting, primary) if blinding.blinded else precisions_of(main),
        min((min(row.n_control, row.n_treatment) for row in main), default=0),
        _cluster_size(units, primary),
        inputs.as_of,
    )
    decision = decide(
        brief,
        lock=inputs.lock,
        integrity=integrity,
        blinding=blinding,
        arms=[
            ArmFacts(
                arm=row.arm,
                guardrails=tuple(result for result in guardrails if result.arm == row.arm),
                primary=row,
                segments=tuple(part for part in seen.segments.facts if part.arm == row.arm),
                impact=next((found for found in impact if found.arm == row.arm), None),
                course=_course(seen.novelty, row.arm),
                bounds=next((bounds_of(found) for found in attrition if found.arm == row.arm), None),
                nobody_missing=not attrition,
            )
            for row in main
        ],
        power=power,
        arms_compared=seen.arms_compared,
    )
    shown = [row for row in headline if row.role == "guardrail" or not blinding.blinded]
    return Readout(
        experiment=brief.name,
        brief=brief,
        as_of=inputs.as_of,
        horizon_reached=blinding.horizon_reached,
        blinded=blinding.blinded,
        blinding_reason=blinding.reason,
        unblinded_because=inputs.unblinded_because,
        unblindings=inputs.unblindings,
        method=method_sentences(
            brief,
            {key: found for key, (_, found) in adjusted.items()},
            {name: found.metric.title for name, found in metrics.items()},
            blinding,
        ),
        lock=inputs.lock,
        counts=_counts(units, primary, brief),
        sample_ratio=sample_ratio_days(units, brief),
        sample_ratio_groups=sample_ratio_groups(units, brief),
        integrity=integrity,
        estimates=tuple(shown),
        unadjusted=tuple(row for row in unadjusted if row.role == "guardrail" or not blinding.blinded),
        segments=seen.segments.shown,
        segment_differences=seen.segments.differences,
        shrunken=seen.segments.shrunken,
        compliance=seen.compliance,
        arms_compared=seen.arms_compared,
        arms_difference=seen.arms_difference,
        families=seen.families,
        guardrails=guardrails,
        cumulative=seen.cumulative,
        novelty=seen.novelty.points,
        novelty_days=seen.novelty.days,
        novelty_contrasts=seen.novelty.contrasts,
        novelty_splits=seen.novelty.splits,
        novelty_trend=seen.novelty.trend,
        robustness=seen.robustness,
        power=power,
        impact=impact,
        exclusions=inputs.exclusions,
        left_out=units.left_out,
        decision=decision,
        limits=limits_of(
            brief,
            integrity=integrity,
            primary=primary,
            estimates=shown,
            power=power,
            exclusions=inputs.exclusions,
            left_out=units.left_out,
            missing=reversals(seen.main, attrition),
            blinding=blinding,
            stops=inputs.stops,
        ),
        next_steps=next_steps_of(
            brief,
            decision,
            integrity=integrity,
            guardrails=guardrails,
            power=power,
            blinding=blinding,
            units_per_day=inputs.history_units_per_day or brief.expected_units_per_day,
        ),
        provenance=inputs.provenance,
    )


def _weighted(
    setting: Setting,
    primary: MetricUnits,
    adjusted: Mapping[tuple[str, str], tuple[Estimate, Comparison]],
    attrition: Sequence[ArmAttrition],
) -> dict[tuple[str, str], tuple[Estimate, Comparison]]:
    """The primary's rows as the brief's plan for missing values makes them."""
    name = setting.brief.primary
    before = {arm: found for (metric, arm), (_, found) in adjusted.items() if metric == name}
    return {
        (name, arm): (estimate_row(setting, primary, "primary", arm, found), found)
        for arm, found in weighted_primary(before, attrition).items()
    }


def _course(novelty: Novelty, arm: str) -> Course:
    return Course(
        contrast=next((one for one in novelty.contrasts if one.arm == arm), None),
        late=late_week([one for one in novelty.points if one.arm == arm]),
        split=next((one for one in novelty.splits if one.arm == arm), None),
        trend=next((one for one in novelty.trend if one.arm == arm), None),
    )


def _guardrails(
    inputs: ReadoutInputs, metrics: dict[str, MetricUnits], effects: dict[tuple[str, str], Answer]
) -> tuple[GuardrailResult, ...]:
    brief = inputs.brief
    found = []
    for guardrail in brief.guardrails:
        units = metrics[guardrail.metric]
        for arm in brief.treatments():
            found.append(
                guardrail_result(
                    guardrail,
                    units.metric,
                    arm.name,
                    effects[guardrail.metric, arm.name],
                    brief,
                    same_value=all_the_same(units, (brief.control, arm.name)),
                )
            )
    return tuple(found)


def _counts(units: Units, primary: MetricUnits, brief: Brief) -> tuple[ArmCount, ...]:
    assigned = counts_by_arm(units.frame, brief)
    exposed = counts_by_arm(units.frame.filter(pl.col("exposed").fill_null(False)), brief)
    analysed = counts_by_arm(primary.frame, brief)
    contaminated = counts_by_arm(units.frame.filter("contaminated"), brief)
    return tuple(
        ArmCount(
            arm=arm,
            planned_share=share,
            assigned=assigned[arm],
            exposed=exposed[arm],
            analysed=analysed[arm],
            contaminated=contaminated[arm],
        )
        for arm, share in brief.shares().items()
    )


def _cluster_size(units: Units, primary: MetricUnits) -> float | None:
    if not units.clustered or not primary.frame.height:
        return None
    return primary.frame.height / primary.frame["cluster"].n_unique()
