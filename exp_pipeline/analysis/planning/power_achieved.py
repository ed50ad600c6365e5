"""What the data could have found, against what was planned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Estimate, PowerAchieved
from exp_pipeline.stats.power.units import required_units
from exp_pipeline.stats.reference import one_sided_critical, two_sided_critical, upper_tail


def absolute_size(size: Size, control_value: float | None) -> float | None:
    """How large is a declared effect in the metric's own unit? None while control's value is not known."""
    if size.absolute is not None:
        return size.absolute
    if size.relative is None or control_value is None:
        return None
    return size.relative * abs(control_value)


@dataclass(frozen=True, slots=True)
class Precision:
    """How sure is one comparison, and of what level of control? n_*: units. As in `Estimate`."""

    arm: str
    n_control: int
    n_treatment: int
    mean_control: float | None
    se: float
    df: float
    variance_reduction: float | None = None


def precisions_of(rows: Sequence[Estimate]) -> tuple[Precision, ...]:
    """How sure are the headline estimates? Those that cannot be told are left out."""
    return tuple(
        Precision(
            row.arm, row.n_control, row.n_treatment, row.mean_control, row.se, row.df, row.variance_reduction
        )
        for row in rows
        if row.se is not None and row.df is not None
    )


def power_achieved(
    brief: Brief,
    metric: Metric,
    precisions: Sequence[Precision],
    observed: int,
    cluster_size: float | None,
    as_of: date,
) -> PowerAchieved:
    """What is the smallest effect that these data find with the planned power, and how does that compare?

    precisions: of the primary, one a treatment arm; the weakest is reported. observed: units of the smallest
    arm. achieved_mde is (critical value + power quantile) x standard error, achieved_power the chance that
    the planned effect would have been found by these data, mde_at_horizon the smallest effect at the planned
    end if units keep coming as they did (the variance falls with their number). planned_units_per_arm is
    computed from the brief's assumptions and what control shows. None tells anything about the effect itself.
    """
    if not precisions:
        return PowerAchieved(
            planned_mde=abs(brief.mde.absolute or brief.mde.relative or 0.0),
            planned_units_per_arm=None,
            observed_units_per_arm=observed,
            achieved_mde=None,
            note="The primary metric cannot be estimated, so nothing can be said about power.",
        )
    weakest = max(precisions, key=lambda one: (one.se, one.arm))
    se, df = weakest.se, weakest.df
    planned = absolute_size(brief.mde, weakest.mean_control) or 0.0
    critical = two_sided_critical(1.0 - brief.alpha, df)
    achieved = (critical + one_sided_critical(1.0 - brief.power, df)) * se
    units, note = _planned_units(brief, metric, weakest, abs(planned), cluster_size)
    if achieved > abs(planned):
        note = (
            f"The planned effect is smaller than these data find with {100 * brief.power:g} % power. {note}"
        )
    power = None
    if se > 0.0 and planned:
        distance = abs(planned) / se
        power = min(1.0, upper_tail(critical - distance, df) + upper_tail(critical + distance, df))
    return PowerAchieved(
        planned_mde=abs(planned),
        planned_units_per_arm=units,
        observed_units_per_arm=observed,
        achieved_mde=achieved,
        achieved_power=power,
        mde_at_horizon=achieved * math.sqrt(_share_of_time(brief, as_of)),
        note=note.strip(),
    )


def _share_of_time(brief: Brief, as_of: date) -> float:
    """Which share of the planned days has passed by the end of a day? Never above 1."""
    days = max((brief.end - brief.start).days, 1)
    passed = (as_of - brief.start).days + 1
    return min(max(passed, 1) / days, 1.0)


def _planned_units(
    brief: Brief, metric: Metric, row: Precision, planned: float, cluster_size: float | None
) -> tuple[int | None, str]:
    clustered = cluster_size is not None
    sign = 1.0 if metric.direction == "increase" else -1.0
    baseline = sd = None
    if metric.estimand == "proportion":
        baseline = row.mean_control
    else:
        # The spread of one unit, read back from the standard error of independent units.
        spread = row.se / math.sqrt(1.0 / row.n_control + 1.0 / row.n_treatment)
        reduction = row.variance_reduction or 0.0
        sd = spread / math.sqrt(1.0 - reduction) if reduction < 1.0 else spread
        if clustered:
            return (
                None,
                "Units planned for clusters need the spread within them, which this metric does not give.",
            )
    try:
        plan = required_units(
            effect=sign * planned,
            baseline=baseline,
            sd=sd,
            alpha=brief.alpha,
            power=brief.power,
            icc=brief.icc if clustered else 0.0,
            cluster_size=max(cluster_size, 1.0) if cluster_size is not None else None,
            attrition=brief.attrition,
        )
    except ValueError as why:
        return None, f"No planned size: {why}."
    return max(plan.n_control, plan.n_treatment), ""
