"""What may be said at a planned look, and once looking has ended, where alpha is spent over looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.effects.cumulative import DayEffect
from exp_pipeline.analysis.effects.estimates import planned_units
from exp_pipeline.analysis.effects.methods import Answer
from exp_pipeline.analysis.effects.stopping import SPENDING
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Estimate
from exp_pipeline.stats.looks.group_sequential import SpendingPlan, sequential_look, stopped_trial
from exp_pipeline.stats.results import Effect, NotEstimable


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
    rows: Sequence[Estimate],
    effects: Mapping[str, Answer],
    look: PlannedLook | None,
    units: MetricUnits,
    by_day: Sequence[DayEffect] = (),
) -> tuple[Estimate, ...]:
    """The primary's rows (one a treatment arm) with what this look and the end of looking say of them.

    effects: the headline effect by arm. by_day: the unadjusted effects on all data up to each day; with those
    of every look the median-unbiased estimate can be told once a boundary was crossed or the horizon is
    reached. Where there is no spending plan the rows are handed back as they are.
    """
    if look is None:
        return tuple(rows)
    found = []
    for row in rows:
        effect = effects[row.arm]
        update: dict[str, object] = {"look": len(look.days), "look_rule": look.plan.family}
        counted = tuple(_counted_by(units, (row.control, row.arm), day) for day in look.days[:-1])
        answer = sequential_look(look.plan, [effect], final=look.final, earlier_n=counted)
        if isinstance(answer, NotEstimable):
            update["flags"] = (*row.flags, f"no interval for this look: {answer.reason}")
        else:
            update |= {
                "look_lower": answer.lower,
                "look_upper": answer.upper,
                "look_p_value": answer.p_value,
                "look_alpha_spent": answer.alpha_spent,
            }
        found.append(row.model_copy(update={**update, **_stopped(row, look, by_day)}))
    return tuple(found)


def _stopped(row: Estimate, look: PlannedLook, by_day: Sequence[DayEffect]) -> dict[str, object]:
    at = {one.day + timedelta(days=1): one.effect for one in by_day if one.arm == row.arm}
    # A look before the first unit came had nothing to see, and spent nothing.
    effects = [at[day] for day in look.days if day in at]
    if look.days[-1] not in at or not any(isinstance(one, Effect) for one in effects):
        return {}
    answer = stopped_trial(look.plan, effects, final=look.final)
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
