"""What may be said at a planned look, and once looking has ended, where alpha is spent over looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.effects.estimates import Setting, planned_units
from exp_pipeline.analysis.effects.methods import Answer, compare
from exp_pipeline.analysis.effects.past_units import PastUnits
from exp_pipeline.analysis.effects.stopping import SPENDING
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate
from exp_pipeline.stats.looks.group_sequential import SpendingPlan, sequential_look, stopped_trial
from exp_pipeline.stats.results import NotEstimable


@dataclass(frozen=True, slots=True)
class PlannedLook:
    """Which planned look is this? days: the ends of data (excluded) of all looks so far, this one last."""

    days: tuple[date, ...]
    final: bool
    plan: SpendingPlan


def planned_look(brief: Brief, blinding: Blinding, as_of: date) -> PlannedLook | None:
    """Which look of a spending plan is this? None where the brief spends nothing, or no look was planned now.

    The last look is the horizon, whatever its date became: alpha that is left is spent there. Alpha is shared
    out over the treatment arms.
    """
    family = SPENDING.get(brief.stopping.rule)
    if family is None or not blinding.planned:
        return None
    complete = as_of + timedelta(days=1)
    earlier = tuple(look for look in sorted(brief.looks) if look < min(complete, brief.end))
    plan = SpendingPlan(
        planned_n=planned_units(brief),
        family=family,
        alpha=brief.alpha / len(brief.treatments()),
        gamma=brief.stopping.gamma,
    )
    return PlannedLook((*earlier, complete), blinding.horizon_reached, plan)


def with_looks(
    setting: Setting,
    rows: Sequence[Estimate],
    effects: Mapping[str, Answer],
    look: PlannedLook | None,
    units: MetricUnits,
    earlier: PastUnits | str,
) -> tuple[Estimate, ...]:
    """The primary's rows (one a treatment arm) with what this look and the end of looking say of them.

    effects: the headline effect by arm. earlier: the units as earlier days saw them, or why they cannot be
    had. Each earlier look is then estimated as the headline is (clusters, strata, covariates) on the units
    that counted at it, and with all looks the median-unbiased estimate can be told once a boundary was
    crossed or the horizon is reached; else a flag says why not. Where there is no spending plan the rows are
    handed back as they are.
    """
    if look is None:
        return tuple(rows)
    before = _looks_before(setting, look, earlier)
    found = []
    for row in rows:
        effect = effects[row.arm]
        update: dict[str, object] = {"look": len(look.days), "look_rule": look.plan.family}
        counted = tuple(_counted_by(units, (row.control, row.arm), day) for day in look.days[:-1])
        answer = sequential_look(look.plan, [effect], final=look.final, earlier_n=counted)
        flags = row.flags
        if isinstance(answer, NotEstimable):
            flags = (*flags, f"no interval for this look: {answer.reason}")
        else:
            update |= {
                "look_lower": answer.lower,
                "look_upper": answer.upper,
                "look_p_value": answer.p_value,
                "look_alpha_spent": answer.alpha_spent,
            }
        if isinstance(before, str):
            flags = (*flags, f"no estimate corrected for stopping: {before}")
        else:
            update |= _stopped(look, [*before[row.arm], effect])
        found.append(row.model_copy(update={**update, "flags": flags}))
    return tuple(found)


def _looks_before(
    setting: Setting, look: PlannedLook, earlier: PastUnits | str
) -> Mapping[str, list[Answer]] | str:
    """The effects of all looks but this one by arm, or why they cannot be told."""
    brief = setting.brief
    found: dict[str, list[Answer]] = {arm.name: [] for arm in brief.treatments()}
    if len(look.days) == 1:
        return found
    if isinstance(earlier, str):
        return earlier
    if not earlier.agrees(look.days[-1]):
        return "the days do not add up to the values of the snapshot, so earlier looks cannot be told"
    for day in look.days[:-1]:
        then = earlier.at(day, whole_windows=True)
        for arm, effects in found.items():
            effects.append(
                compare(
                    then, arm, brief.control, clustered=setting.clustered, adjusted=True, level=setting.level
                ).effect
            )
    return found


def _stopped(look: PlannedLook, effects: Sequence[Answer]) -> dict[str, object]:
    # A look before the first unit came had nothing to see, and spent nothing.
    seen = [one for one in effects[:-1] if one.n_control + one.n_treatment > 0]
    answer = stopped_trial(look.plan, [*seen, effects[-1]], final=look.final)
    if isinstance(answer, NotEstimable):
        return {}
    return {
        "stopped_estimate": answer.estimate,
        "stopped_lower": answer.lower,
        "stopped_upper": answer.upper,
    }


def _counted_by(units: MetricUnits, arms: tuple[str, str], look: date) -> int:
    """How many of today's units counted at an earlier look: assigned before it, their window over by then?"""
    window = units.metric.window_days
    last = pl.col("assigned_date") + pl.duration(days=window or 0)
    before = last <= look if window else last < look
    return units.frame.filter(pl.col("arm").is_in(arms) & before).height
