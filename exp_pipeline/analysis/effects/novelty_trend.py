"""How does the primary effect move from week to week since assignment, and where does it settle?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.readout import NoveltyTrend
from exp_pipeline.stats.groups.joint import ContrastOfCells, JointTest, contrast_of_cells, joint_effects
from exp_pipeline.stats.groups.novelty import NoveltyEffect, novelty_effect
from exp_pipeline.stats.results import NotEstimable


def novelty_trend(setting: Setting, weeks: Sequence[MetricUnits]) -> tuple[NoveltyTrend, ...]:
    """By how much does each arm's effect change a week, and what is it once units are used to it?

    weeks: the units of each week since assignment with what they did in it, week 0 first. Weeks with fewer
    units of an arm than the brief's minimum cell are left out. All weeks are estimated together with their
    covariance by unit (or cluster), so that a unit seen in eight weeks counts once. The steady effect is that
    of the weeks that the brief names, else the rule of `novelty_effect` says from when on it is read.
    """
    return tuple(_of_arm(setting, weeks, arm.name) for arm in setting.brief.treatments())


def _of_arm(setting: Setting, weeks: Sequence[MetricUnits], arm: str) -> NoveltyTrend:
    control, least = setting.brief.control, max(setting.brief.minimum_cell, 2)
    if weeks and weeks[0].metric.estimand == "quantile":
        reason = "a quantile over units has no value within one, so weeks cannot be told apart by unit"
        return NoveltyTrend(arm=arm, estimable=False, reason=reason)
    frames = []
    for week, part in enumerate(weeks):
        frame = part.frame.filter(pl.col("arm").is_in([control, arm]))
        sizes = [frame.filter(pl.col("arm") == side).height for side in (control, arm)]
        if min(sizes) >= least:
            frames.append(frame.select("arm", "cluster", "num", "den", pl.lit(week).alias("week")))
    if len(frames) < 2:
        reason = f"fewer than two weeks hold {least} units of each arm"
        return NoveltyTrend(arm=arm, weeks=len(frames), estimable=False, reason=reason)
    metric = weeks[0].metric
    rows = pl.concat(frames)
    outcome = rows["num"].to_numpy() * metric.per
    treated = (rows["arm"] == arm).to_numpy()
    period = rows["week"].to_numpy().astype(np.float64)
    cluster = rows["cluster"].rank("dense").cast(pl.Int64).to_numpy()
    base = rows["den"].to_numpy() if metric.denominator is not None else None
    found = novelty_effect(outcome, treated, period, cluster, denominator=base, level=setting.level)
    if isinstance(found, NotEstimable):
        return NoveltyTrend(arm=arm, weeks=len(frames), estimable=False, reason=found.reason)
    row = _told(arm, found)
    if weeks[0].stratified:
        row = row.model_copy(update={"flags": (*row.flags, "strata are not held fixed within weeks")})
    first = setting.brief.novelty.steady_from_week
    if first is None:
        return row
    joint = joint_effects(outcome, treated, period, cluster, denominator=base)
    if isinstance(joint, NotEstimable):
        return _without_steady(row, joint.reason)
    times = np.array([float(name) for name in joint.names])
    taken = times >= first - 1
    if not taken.any():
        return _without_steady(row, f"the data end before week {first}, from which the brief counts")
    sizes_c, sizes_t = joint.n_control.astype(np.float64), joint.n_treatment.astype(np.float64)
    weights = np.where(taken, sizes_c * sizes_t / (sizes_c + sizes_t), 0.0)
    mean = contrast_of_cells(joint, weights / weights.sum(), level=setting.level)
    if isinstance(mean, NotEstimable):
        return _without_steady(row, mean.reason)
    return row.model_copy(
        update={
            "steady": mean.estimate,
            "steady_lower": mean.ci_lower,
            "steady_upper": mean.ci_upper,
            "steady_from_week": int(times[taken][0]),
            "steady_method": "declared",
            "steady_because": f"the brief counts the effect as settled from week {first} on",
            "half_life_weeks": None,
        }
    )


def _told(arm: str, found: NoveltyEffect) -> NoveltyTrend:
    trend = found.trend if isinstance(found.trend, ContrastOfCells) else None
    steady = found.steady
    notes = (f"no trend: {found.trend.reason}",) if isinstance(found.trend, NotEstimable) else ()
    return NoveltyTrend(
        arm=arm,
        weeks=len(found.periods),
        slope=None if trend is None else trend.estimate,
        slope_lower=None if trend is None else trend.ci_lower,
        slope_upper=None if trend is None else trend.ci_upper,
        p_value=None if trend is None else trend.p_value,
        constant_p_value=found.constant.p_value if isinstance(found.constant, JointTest) else None,
        steady=steady.absolute,
        steady_lower=steady.ci_lower,
        steady_upper=steady.ci_upper,
        steady_from_week=int(steady.from_period),
        steady_method=steady.method,
        steady_because=steady.because,
        half_life_weeks=found.decay.half_life
        if steady.method == "decay" and found.decay is not None
        else None,
        flags=(*found.flags, *notes),
    )


def _without_steady(row: NoveltyTrend, reason: str) -> NoveltyTrend:
    return row.model_copy(
        update={
            "steady": None,
            "steady_lower": None,
            "steady_upper": None,
            "steady_from_week": None,
            "steady_method": None,
            "steady_because": f"no steady effect: {reason}",
            "half_life_weeks": None,
        }
    )
