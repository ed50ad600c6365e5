"""The primary effect estimated in other ways."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.integrity.attrition import attrition_of
from exp_pipeline.analysis.units import MetricUnits, Units
from exp_pipeline.model.readout import RobustnessRow
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline.stats.results import Effect, NotEstimable


def robustness_rows(setting: Setting, everyone: Units, units: MetricUnits) -> tuple[RobustnessRow, ...]:
    """Would another defensible analysis have said something else?

    For each arm: unadjusted, adjusted (with covariates), ignoring clusters (where they were randomised: its
    interval is too narrow), without contaminated units, exposed units only. The last compares units that
    chose to come and is a diagnostic, not an effect of assignment. Where units lack a value: what the effect
    could be with them (bounds of Lee, and for shares the worst case), and with the observed weighted by their
    chance to be.
    """
    brief, clustered = setting.brief, setting.clustered
    clean = units.frame.filter(~pl.col("contaminated"))
    exposed = units.frame.filter(pl.col("exposed").fill_null(False))
    variants: list[tuple[str, str, MetricUnits, bool, bool]] = [("unadjusted", "", units, clustered, False)]
    if units.covariates:
        names = ", ".join(name.split("__", 1)[1] for name in units.covariates)
        variants.append(("adjusted", f"covariates: {names}", units, clustered, True))
    if clustered:
        note = "too narrow: units of one cluster are alike"
        variants.append(("ignoring clusters", note, units, False, False))
    if clean.height < units.frame.height:
        note = f"{units.frame.height - clean.height:,} units seen in two arms left out"
        variants.append(("without contaminated units", note, replace(units, frame=clean), clustered, True))
    if 0 < exposed.height < units.frame.height:
        note = "diagnostic: who is exposed may depend on the arm"
        variants.append(("exposed units only", note, replace(units, frame=exposed), clustered, True))
    rows = []
    for arm in brief.treatments():
        for variant, note, part, by_cluster, adjusted in variants:
            found = compare(
                part, arm.name, brief.control, clustered=by_cluster, adjusted=adjusted, level=setting.level
            )
            effect = found.effect if isinstance(found.effect, Effect) else None
            reason = "" if isinstance(found.effect, Effect) else found.effect.reason
            rows.append(
                RobustnessRow(
                    arm=arm.name,
                    variant=variant,
                    absolute=effect.absolute if effect else None,
                    ci_lower=effect.ci_lower if effect else None,
                    ci_upper=effect.ci_upper if effect else None,
                    p_value=effect.p_value if effect else None,
                    n=found.effect.n_control + found.effect.n_treatment,
                    note="; ".join(part for part in (note, reason) if part),
                )
            )
    return (*rows, *_with_the_missing(setting, everyone, units))


def _with_the_missing(setting: Setting, everyone: Units, units: MetricUnits) -> tuple[RobustnessRow, ...]:
    rows = []
    for found in attrition_of(setting, everyone, units):
        n = found.rates.n_control + found.rates.n_treatment
        bounds = (
            ("attrition bounds (Lee)", "units that would have a value in either arm", found.lee),
            ("attrition, worst case", "all units, whatever the missing values are", found.worst_case),
        )
        for variant, whom, answer in bounds:
            told = (
                RobustnessRow(
                    arm=found.arm,
                    variant=variant,
                    absolute=None,
                    ci_lower=answer.ci_lower,
                    ci_upper=answer.ci_upper,
                    p_value=None,
                    n=n,
                    note=f"of {whom}; an interval, not a point",
                )
                if isinstance(answer, EffectBounds)
                else _untold(found.arm, variant, answer, n)
            )
            rows.append(told)
        variant = "weighted by the chance of a value"
        if isinstance(found.weighted, NotEstimable):
            rows.append(_untold(found.arm, variant, found.weighted, n))
            continue
        effect = found.weighted.effect
        rows.append(
            RobustnessRow(
                arm=found.arm,
                variant=variant,
                absolute=effect.absolute,
                ci_lower=effect.ci_lower,
                ci_upper=effect.ci_upper,
                p_value=effect.p_value,
                n=effect.n_control + effect.n_treatment,
                note="units alike before assignment are taken to be missing by chance",
            )
        )
    return tuple(rows)


def _untold(arm: str, variant: str, answer: NotEstimable, n: int) -> RobustnessRow:
    return RobustnessRow(
        arm=arm,
        variant=variant,
        absolute=None,
        ci_lower=None,
        ci_upper=None,
        p_value=None,
        n=n,
        note=answer.reason,
    )
