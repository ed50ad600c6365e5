"""The appendix for the engineer: every table of record, in the order in which one checks a readout."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pipeline.model.readout import Estimate, Readout
from exp_pipeline.report import deepertables, effecttables, noveltytables, tables
from exp_pipeline.report.changes import since_last_table
from exp_pipeline.report.document import Effect, Table
from exp_pipeline.report.effects import effect_view, guardrail_view
from exp_pipeline.report.numbers import Display
from exp_pipeline.report.screening import Screen

DECISION, INTEGRITY, EFFECTS = "How it was decided", "Integrity", "Effects"
LASTING, CHECKED, RECORD = "Does it last", "Estimated other ways", "Record"


def appendix_tables(shown: Readout, shield: Screen, display: Display, decimals: int) -> tuple[Table, ...]:
    """Every table of the appendix; what the readout says nothing about is left out."""
    parts = {
        DECISION: _decision(shown),
        INTEGRITY: _integrity(shown, shield),
        EFFECTS: _effects(shown, shield, display, decimals),
        LASTING: _lasting(shown, shield, display, decimals),
        CHECKED: _checked(shown, shield, display, decimals),
        RECORD: _record(shown, shield),
    }
    return tuple(
        table.model_copy(update={"section": section}) for section, found in parts.items() for table in found
    )


def _decision(shown: Readout) -> list[Table]:
    found = [tables.rules_table(shown.decision.arms)]
    if shown.impact:
        found.append(deepertables.impact_table(shown.impact))
    return found


def _integrity(shown: Readout, shield: Screen) -> list[Table]:
    arms = [arm.name for arm in shown.brief.arms]
    found = [tables.integrity_table(shown.integrity)]
    if any(check.causes for check in shown.integrity):
        found.append(tables.causes_table(shown.integrity))
    found += [
        tables.arms_table(shown.counts, shield),
        tables.sample_ratio_table(shown.sample_ratio, arms, shield),
    ]
    if shown.sample_ratio_groups:
        found.append(tables.sample_ratio_groups_table(shown.sample_ratio_groups, arms, shield))
    if shown.left_out:
        found.append(tables.left_out_table(shown.left_out, arms, shield))
    return found


def _effects(shown: Readout, shield: Screen, display: Display, decimals: int) -> list[Table]:
    main = views_of(shown.estimates, shield, decimals)
    guardrails = [guardrail_view(result, shown, shield) for result in shown.guardrails]
    better_up = {row.metric: row.direction == "increase" for row in shown.estimates}
    titles = titles_of(shown)
    found = [effecttables.effects_table("estimates", "All estimates", main)]
    if main:
        found.append(deepertables.tradeoffs_table(main, better_up, guardrails))
    found.append(effecttables.guardrails_table(guardrails))
    if shown.shrunken:
        found.append(deepertables.shrunken_table(shown.shrunken, display, decimals, shield))
    if shown.arms_compared:
        compared = views_of(shown.arms_compared, shield, decimals)
        found.append(deepertables.arms_compared_table(compared, shown.arms_difference, display, decimals))
    if shown.families:
        found.append(deepertables.families_table(shown.families, titles))
    return found


def _lasting(shown: Readout, shield: Screen, display: Display, decimals: int) -> list[Table]:
    found = []
    if not shield.hidden_because:
        found.append(effecttables.cumulative_table(shown.cumulative, display, decimals, shield))
    if shown.novelty:
        found.append(noveltytables.novelty_table(shown.novelty, display, decimals, shield))
    if shown.novelty_days:
        found.append(noveltytables.novelty_days_table(shown.novelty_days, display, decimals, shield))
    if shown.novelty_trend:
        found.append(noveltytables.novelty_trend_table(shown.novelty_trend, display, decimals))
    if shown.novelty:
        found.append(noveltytables.novelty_contrast_table(shown.novelty_contrasts, display, decimals, shield))
    if shown.novelty_splits:
        found.append(noveltytables.novelty_split_table(shown.novelty_splits, display, decimals, shield))
    return found


def _checked(shown: Readout, shield: Screen, display: Display, decimals: int) -> list[Table]:
    found = []
    if not shield.hidden_because:
        other = [row for row in shown.robustness if row.kind != "bounds"]
        bounds = [row for row in shown.robustness if row.kind == "bounds"]
        found.append(effecttables.robustness_table(other, display, decimals, shield))
        if bounds:
            found.append(effecttables.bounds_table(bounds, display, decimals, shield))
    if shown.unadjusted:
        raw = views_of(shown.unadjusted, shield, decimals)
        found.append(effecttables.effects_table("unadjusted", "Estimates without covariates", raw))
    if shown.compliance:
        found.append(
            deepertables.compliance_table(shown.compliance, titles_of(shown), display, decimals, shield)
        )
    found.append(tables.power_table(shown.power, display, shield))
    return found


def _record(shown: Readout, shield: Screen) -> list[Table]:
    found = []
    if shown.since_last is not None:
        found.append(since_last_table(shown.since_last, shield))
    found += [tables.exclusions_table(shown.exclusions), tables.lock_table(shown.lock)]
    if shown.unblindings:
        found.append(tables.unblindings_table(shown.unblindings))
    found.append(tables.provenance_table(shown.provenance, shown.lock))
    return found


def views_of(estimates: Sequence[Estimate], shield: Screen, decimals: int) -> tuple[Effect, ...]:
    """Estimates as they are shown, those of the primary with the same digits."""
    return tuple(effect_view(row, shield, decimals if row.role == "primary" else None) for row in estimates)


def titles_of(readout: Readout) -> dict[str, str]:
    """What each metric is called, as far as the readout says."""
    return {row.metric: row.title for row in readout.guardrails} | {
        row.metric: row.title for row in readout.estimates
    }
