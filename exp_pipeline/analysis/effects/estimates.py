"""From metrics and arms to rows of estimates, with their families of p-values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from exp_pipeline.analysis.effects.methods import Comparison, compare
from exp_pipeline.analysis.unit_sums import UNKNOWN
from exp_pipeline.analysis.units import SEGMENT, MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate, LockState, Role
from exp_pipeline.stats.looks.always_valid import AlwaysValidInterval, always_valid_interval
from exp_pipeline.stats.multiplicity import benjamini_hochberg, holm
from exp_pipeline.stats.results import Effect

# Units of both arms at which the always-valid interval is narrowest, where the brief expects no number.
DEFAULT_PLANNED_UNITS = 10_000

# A change of these touches only what it names; a change of any other analysis field touches every estimate.
_TOUCHES: dict[str, tuple[str, ...]] = {
    "primary": ("primary", "segment"),
    "secondary": ("secondary",),
    "guardrails": ("guardrail",),
    "counter_metrics": ("counter",),
    "segments": ("segment",),
    "decision": (),
    "practical_threshold": (),
    "mde": (),
    "power": (),
    "srm_alpha": (),
    "contamination_limit": (),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What do all estimates of one readout share?"""

    brief: Brief
    snapshot: str
    lock: LockState
    clustered: bool

    @property
    def level(self) -> float:
        return 1.0 - self.brief.alpha


def planned_units(brief: Brief) -> int:
    """How many units of one comparison was the brief written for? Never taken from the data themselves."""
    if brief.expected_units_per_day is None:
        return DEFAULT_PLANNED_UNITS
    days = max(
        (brief.end - brief.start).days - sum(brief.start <= day < brief.end for day in brief.blackout_days), 1
    )
    return max(2, round(brief.expected_units_per_day * days * 2 / len(brief.arms)))


def finite(number: float | None) -> float | None:
    """The number, or None where it is not one (a result holds no NaN)."""
    return None if number is None or math.isnan(number) else number


def estimate_row(
    setting: Setting,
    units: MetricUnits,
    role: Role,
    arm: str,
    comparison: Comparison,
    *,
    segment: str | None = None,
    segment_value: str | None = None,
) -> Estimate:
    """How is one comparison written down?"""
    brief, metric, effect = setting.brief, units.metric, comparison.effect
    touched = exploratory_because(setting.lock, "segment" if segment else role)
    base = Estimate(
        experiment=brief.name,
        snapshot=setting.snapshot,
        metric=metric.name,
        title=metric.title,
        role=role,
        display=metric.display,
        direction=metric.direction,
        arm=arm,
        control=brief.control,
        segment=segment,
        segment_value=segment_value,
        window_days=metric.window_days,
        method=effect.method,
        n_control=effect.n_control,
        n_treatment=effect.n_treatment,
        waiting=0 if segment else units.waiting[arm] + units.waiting[brief.control],
        level=setting.level,
        confirmatory=not touched,
        adjusted=comparison.adjusted,
        flags=(*comparison.flags, *touched),
    )
    if not isinstance(effect, Effect):
        return base.model_copy(update={"estimable": False, "reason": effect.reason})
    always = always_valid(effect, brief)
    clusters = None
    if effect.clusters_control is not None and effect.clusters_treatment is not None:
        clusters = effect.clusters_control + effect.clusters_treatment
    return base.model_copy(
        update={
            "clusters": clusters,
            "mean_control": effect.mean_control,
            "mean_treatment": effect.mean_treatment,
            "absolute": effect.absolute,
            "se": effect.se,
            "df": effect.df,
            "ci_lower": effect.ci_lower,
            "ci_upper": effect.ci_upper,
            "p_value": effect.p_value,
            "relative": finite(effect.relative),
            "relative_ci_lower": finite(effect.relative_ci_lower),
            "relative_ci_upper": finite(effect.relative_ci_upper),
            "relative_method": effect.relative_method,
            "standardised": finite(effect.standardised),
            "variance_reduction": finite(effect.variance_reduction),
            "always_valid_lower": always.lower if always else None,
            "always_valid_upper": always.upper if always else None,
            "flags": (*base.flags, *effect.flags),
        }
    )


def always_valid(effect: Effect, brief: Brief) -> AlwaysValidInterval | None:
    """Which effects has no look ruled out? The level is shared out over the treatment arms (Bonferroni)."""
    level = 1.0 - brief.alpha / len(brief.treatments())
    answer = always_valid_interval(effect, planned_n=planned_units(brief), level=level)
    return answer if isinstance(answer, AlwaysValidInterval) else None


def exploratory_because(lock: LockState, what: str) -> tuple[str, ...]:
    """Why is this estimate only exploratory? Empty when it is what was promised before the start."""
    if lock.locked_digest is None:
        return ("exploratory: the brief was never locked",)
    if lock.late:
        return (f"exploratory: the brief was locked after {lock.days_seen} days of data",)
    everything = ("primary", "secondary", "guardrail", "counter", "segment")
    touched = [change.field for change in lock.changes if what in _TOUCHES.get(change.field, everything)]
    return tuple(f"exploratory: {field} was changed after the start" for field in touched)


def estimates_of(
    setting: Setting, units: Mapping[str, MetricUnits], roles: Sequence[tuple[Role, str]], *, adjusted: bool
) -> dict[tuple[str, str], tuple[Estimate, Comparison]]:
    """What is the effect on each metric in each treatment arm? By metric and arm, in the brief's order."""
    found: dict[tuple[str, str], tuple[Estimate, Comparison]] = {}
    for role, name in roles:
        for arm in setting.brief.treatments():
            comparison = compare(
                units[name],
                arm.name,
                setting.brief.control,
                clustered=setting.clustered,
                adjusted=adjusted,
                level=setting.level,
            )
            found[name, arm.name] = estimate_row(setting, units[name], role, arm.name, comparison), comparison
    return found


def roles_of(brief: Brief) -> tuple[tuple[Role, str], ...]:
    """Which role has each metric of the brief, in the brief's order?"""
    return (
        ("primary", brief.primary),
        *(("secondary", name) for name in brief.secondary),
        *(("guardrail", guardrail.metric) for guardrail in brief.guardrails),
        *(("counter", name) for name in brief.counter_metrics),
    )


def segment_estimates(setting: Setting, units: MetricUnits) -> tuple[Estimate, ...]:
    """What is the primary effect in each declared segment? Values in order; units without one are "unknown".

    Only columns frozen at assignment are segments. Cells below the brief's minimum are not estimated.
    """
    brief = setting.brief
    found: list[Estimate] = []
    for segment in brief.segments:
        column = f"{SEGMENT}{segment.column}"
        if column not in units.frame.columns:
            continue
        values = units.frame[column].cast(pl.String).fill_null(UNKNOWN).unique().sort().to_list()
        for value in values:
            for arm in brief.treatments():
                comparison = compare(
                    units,
                    arm.name,
                    brief.control,
                    clustered=setting.clustered,
                    adjusted=True,
                    level=setting.level,
                    segment=(column, value),
                )
                row = estimate_row(
                    setting,
                    units,
                    "primary",
                    arm.name,
                    comparison,
                    segment=segment.column,
                    segment_value=value,
                )
                found.append(_without_small_cells(row, brief.minimum_cell))
    return with_family(found, "segments", holm)


def _without_small_cells(row: Estimate, minimum: int) -> Estimate:
    if min(row.n_control, row.n_treatment) >= minimum:
        return row
    kept = {name: getattr(row, name) for name in Estimate.model_fields if name in _IDENTITY}
    return Estimate(**kept, estimable=False, reason=f"fewer than {minimum} units in an arm: not estimated")


_IDENTITY = (
    "experiment", "snapshot", "metric", "title", "role", "display", "direction", "arm", "control", "segment",
    "segment_value", "window_days", "method", "n_control", "n_treatment", "level", "confirmatory",
)  # fmt: skip


def with_family(
    rows: Sequence[Estimate], family: str, adjust: Callable[[Mapping[str, float]], dict[str, float]]
) -> tuple[Estimate, ...]:
    """What are the p-values when they are judged together? Rows without a p-value stay as they are."""
    p = {str(position): row.p_value for position, row in enumerate(rows) if row.p_value is not None}
    corrected = adjust(p)
    return tuple(
        row.model_copy(update={"p_adjusted": corrected.get(str(position)), "family": family})
        for position, row in enumerate(rows)
    )


def with_families(rows: Sequence[Estimate], brief: Brief) -> tuple[Estimate, ...]:
    """What are the adjusted p-values of a readout's rows, and which rows may be believed as confirmatory?

    Primary: Holm over the treatment arms. Secondary: the brief's correction over all metrics and arms, and
    confirmatory only in arms whose primary passes (gatekeeping). Guardrails are judged one by one, since
    every one of them must hold. Counter-metrics are never confirmatory: they say where to look.
    """
    primary = with_family([row for row in rows if row.role == "primary"], "primary", holm)
    passed = {row.arm for row in primary if row.p_adjusted is not None and row.p_adjusted < brief.alpha}
    correction = holm if brief.multiplicity == "holm" else benjamini_hochberg
    secondary = with_family([row for row in rows if row.role == "secondary"], "secondary", correction)
    gated = tuple(
        row
        if row.arm in passed
        else row.model_copy(
            update={
                "confirmatory": False,
                "flags": (*row.flags, "exploratory: the primary metric did not pass"),
            }
        )
        for row in secondary
    )
    watched = tuple(
        row.model_copy(
            update={"confirmatory": False, "flags": (*row.flags, "watched against gaming: decides nothing")}
        )
        for row in rows
        if row.role == "counter"
    )
    return (*primary, *gated, *(row for row in rows if row.role == "guardrail"), *watched)
