"""The readout of one experiment: everything that a memo shows, from one set of inputs."""

from __future__ import annotations

import polars as pl

from exp_pipeline.analysis.deciding.blinding import blinding_of
from exp_pipeline.analysis.deciding.decision import ArmFacts, decide
from exp_pipeline.analysis.deciding.guardrails import all_the_same, guardrail_result
from exp_pipeline.analysis.deciding.impact import impact_of
from exp_pipeline.analysis.deciding.rules import Course
from exp_pipeline.analysis.effects.cumulative import DayEffect, cumulative_points, effects_by_day
from exp_pipeline.analysis.effects.estimates import (
    Setting,
    estimates_of,
    roles_of,
    segment_estimates,
    with_families,
)
from exp_pipeline.analysis.effects.heterogeneity import segment_differences
from exp_pipeline.analysis.effects.methods import Answer
from exp_pipeline.analysis.effects.novelty import Novelty, novelty_of
from exp_pipeline.analysis.effects.repeated_looks import planned_look, with_looks
from exp_pipeline.analysis.effects.robustness import robustness_rows
from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.analysis.integrity.attrition import ArmAttrition, attrition_of
from exp_pipeline.analysis.integrity.checks import integrity_checks
from exp_pipeline.analysis.integrity.ratio_groups import sample_ratio_groups
from exp_pipeline.analysis.integrity.sample_ratios import counts_by_arm, sample_ratio_days
from exp_pipeline.analysis.planning.power_achieved import power_achieved
from exp_pipeline.analysis.sentences import limits_of, method_sentences, next_steps_of
from exp_pipeline.analysis.units import MetricUnits, Units, frame_of_units, units_of_metric
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import ArmCount, CumulativePoint, GuardrailResult, Readout

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
    headline = with_families([row for row, _ in adjusted.values()], brief)
    plain = estimates_of(setting, metrics, roles_of(brief), adjusted=False)
    unadjusted = with_families([row for row, _ in plain.values()], brief)
    days = inputs.days
    by_day: tuple[DayEffect, ...] = ()
    if days is not None and not blinding.blinded:
        by_day = effects_by_day(
            primary,
            days,
            brief,
            clustered=units.clustered,
            upto=inputs.as_of,
            level=setting.level,
            measures=inputs.measures,
        )
    main = with_looks(
        [row for row in headline if row.role == "primary"],
        {arm: found.effect for (name, arm), (_, found) in adjusted.items() if name == brief.primary},
        planned_look(brief, blinding, inputs.as_of),
        primary,
        by_day,
    )
    headline = (*main, *(row for row in headline if row.role != "primary"))
    guardrails = _guardrails(inputs, metrics, {key: found.effect for key, (_, found) in adjusted.items()})
    segments = () if blinding.blinded else segment_estimates(setting, primary)
    impact = tuple(
        found
        for row in main
        if not blinding.blinded and (found := impact_of(brief, primary.metric, row)) is not None
    )
    power = power_achieved(brief, primary.metric, main, _cluster_size(units, primary))
    cumulative: tuple[CumulativePoint, ...] = ()
    novelty = Novelty()
    if days is not None and not blinding.blinded:
        cumulative = cumulative_points(by_day, brief)
        novelty = novelty_of(setting, units, primary, days, upto=inputs.as_of, weeks=inputs.weeks)
    contrasts = {one.arm: one for one in novelty.contrasts}
    weeks = {(point.arm, point.week): point for point in novelty.points}
    attrition: tuple[ArmAttrition, ...] = ()
    if brief.missing_data == "bounds" and not blinding.blinded:
        attrition = attrition_of(setting, units, primary)
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
                segments=tuple(part for part in segments if part.arm == row.arm),
                impact=next((found for found in impact if found.arm == row.arm), None),
                course=Course(
                    contrast=(contrast := contrasts.get(row.arm)),
                    late=None if contrast is None else weeks.get((row.arm, contrast.late_week or 0)),
                ),
                bounds=next((found.lee for found in attrition if found.arm == row.arm), None),
                nobody_missing=not attrition,
            )
            for row in main
        ],
        power=power,
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
        segments=segments,
        segment_differences=() if blinding.blinded else segment_differences(setting, primary),
        guardrails=guardrails,
        cumulative=cumulative,
        novelty=novelty.points,
        novelty_contrasts=novelty.contrasts,
        robustness=() if blinding.blinded else robustness_rows(setting, units, primary),
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
            blinding=blinding,
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
