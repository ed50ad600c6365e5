"""What the data could have found, against what was planned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import Estimate, PowerAchieved
from exp_pipeline.stats.power.units import required_units
from exp_pipeline.stats.reference import one_sided_critical, two_sided_critical


def absolute_size(size: Size, control_value: float | None) -> float | None:
    """How large is a declared effect in the metric's own unit? None while control's value is not known."""
    if size.absolute is not None:
        return size.absolute
    if size.relative is None or control_value is None:
        return None
    return size.relative * abs(control_value)


def power_achieved(
    brief: Brief, metric: Metric, rows: Sequence[Estimate], cluster_size: float | None
) -> PowerAchieved:
    """What is the smallest effect that these data find with the planned power?

    rows: the headline estimates of the primary, one a treatment arm; the weakest is reported. achieved_mde is
    (critical value + power quantile) x standard error. planned_units_per_arm is computed from the brief's
    assumptions and what control shows. Neither tells anything about the effect itself.
    """
    usable = [row for row in rows if row.se is not None and row.df is not None]
    observed = min((min(row.n_control, row.n_treatment) for row in rows), default=0)
    if not usable:
        return PowerAchieved(
            planned_mde=abs(brief.mde.absolute or brief.mde.relative or 0.0),
            planned_units_per_arm=None,
            observed_units_per_arm=observed,
            achieved_mde=None,
            note="The primary metric cannot be estimated, so nothing can be said about power.",
        )
    weakest = max(usable, key=lambda row: (row.se or 0.0, row.arm))
    se, df = weakest.se or 0.0, weakest.df or math.inf
    planned = absolute_size(brief.mde, weakest.mean_control) or 0.0
    achieved = (two_sided_critical(1.0 - brief.alpha, df) + one_sided_critical(1.0 - brief.power, df)) * se
    units, note = _planned_units(brief, metric, weakest, abs(planned), cluster_size)
    if achieved > abs(planned):
        note = (
            f"The planned effect is smaller than these data find with {100 * brief.power:g} % power. {note}"
        )
    return PowerAchieved(
        planned_mde=abs(planned),
        planned_units_per_arm=units,
        observed_units_per_arm=observed,
        achieved_mde=achieved,
        note=note.strip(),
    )


def _planned_units(
    brief: Brief, metric: Metric, row: Estimate, planned: float, cluster_size: float | None
) -> tuple[int | None, str]:
    clustered = cluster_size is not None
    sign = 1.0 if metric.direction == "increase" else -1.0
    baseline = sd = None
    if metric.estimand == "proportion":
        baseline = row.mean_control
    else:
        # The spread of one unit, read back from the standard error of independent units.
        spread = (row.se or 0.0) / math.sqrt(1.0 / row.n_control + 1.0 / row.n_treatment)
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
