"""From metrics and arms to rows of estimates, with their families of p-values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exp_pipeline.analysis.effects.methods import Comparison, compare
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate, LockState, Role
from exp_pipeline.stats.looks.always_valid import AlwaysValidInterval, always_valid_interval
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
    control: str | None = None,
    segment: str | None = None,
    segment_value: str | None = None,
) -> Estimate:
    """How is one comparison written down? control: the arm that it was compared with, if not the brief's."""
    brief, metric, effect = setting.brief, units.metric, comparison.effect
    against = control or brief.control
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
        control=against,
        segment=segment,
        segment_value=segment_value,
        window_days=metric.window_days,
        method=effect.method,
        why=comparison.why,
        n_control=effect.n_control,
        n_treatment=effect.n_treatment,
        waiting=0 if segment else units.waiting[arm] + units.waiting[against],
        level=setting.level,
        confirmatory=not touched,
        adjusted=comparison.adjusted,
        flags=(*comparison.flags, *touched),
    )
    if not isinstance(effect, Effect):
        return base.model_copy(update={"estimable": False, "reason": effect.reason})
    always = always_valid(effect, brief, comparisons=None if control is None else pairs_of_arms(brief))
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


def pairs_of_arms(brief: Brief) -> int:
    """How many pairs do the treatment arms make among themselves?"""
    return math.comb(len(brief.treatments()), 2)


def always_valid(
    effect: Effect, brief: Brief, *, comparisons: int | None = None
) -> AlwaysValidInterval | None:
    """Which effects has no look ruled out? The level is shared out (Bonferroni) over so many comparisons.

    They are the treatment arms', unless given.
    """
    level = 1.0 - brief.alpha / (comparisons or len(brief.treatments()))
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
