"""What did everything that was shipped do together? Units held out against all others, by intention to treat.

Held out is control and served is treatment, whatever a unit met: who is in which group was drawn once, by a
hash, so groups differ by nothing else than what shipping changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from exp_pipeline.analysis.after.weekly import LEAST_UNITS, WEEK, last_whole_week, monday_of, refused, week_of
from exp_pipeline.analysis.effects.methods import compare
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.after import (
    HoldoutMet,
    HoldoutReading,
    HoldoutSays,
    HoldoutShare,
    HoldoutWindow,
    ShippedTogether,
)
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.layers import Layer
from exp_pipeline.model.metrics import Measure, Metric
from exp_pipeline.model.readout import Outcome
from exp_pipeline.stats.gates.srm import sequential_sample_ratio
from exp_pipeline.stats.results import Effect

HELD_OUT, SERVED = "held_out", "served"
LEVEL = 0.95
# How often a holdout may be said to show harm in a year without any, over all its metrics and stretches.
ALARM_ALPHA = 0.05
LOOKS_A_YEAR = 52
# Below this the held-out share is not what was declared: as for experiments, but safe to look at every week.
SHARE_ALPHA = 0.001
NEWEST_WEEKS = 4
_SHIPPED: tuple[Outcome, ...] = ("ship", "ship_scoped")
_UNDONE: tuple[Outcome, ...] = ("stop", "roll_back")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days that are measured together; `first` counts, `end` does not."""

    window: HoldoutWindow
    first: date
    end: date


def week_measured(layer: Layer, newest: date) -> str:
    """At the end of which ISO week is a holdout measured last? newest: the newest day of data."""
    week = last_whole_week(newest)
    if layer.until is None:
        return week
    return min(week, week_of(layer.until - timedelta(days=1)), key=monday_of)


def end_of(layer: Layer, week: str) -> date:
    """Until before which day is a holdout measured, at the end of an ISO week?"""
    end = monday_of(week) + WEEK
    return end if layer.until is None else min(end, layer.until)


def stretches(since: date, end: date) -> tuple[Stretch, ...]:
    """Which days are measured? The newest four weeks (fewer while it is younger), and all of them."""
    newest = max(since, end - NEWEST_WEEKS * WEEK)
    return Stretch("four_weeks", newest, end), Stretch("since_start", since, end)


def too_young(since: date, end: date) -> str:
    """Why is there nothing to measure yet? Empty where there is."""
    if end - since < WEEK:
        return f"units are held out from {since} on: no whole week of that lies before {end}"
    return ""


def share_of(layer: Layer, groups: pl.Series, unplaced: int) -> HoldoutShare:
    """Are as many units held out as declared? groups: the group of each unit that was drawn."""
    counts = {name: int((groups == name).sum()) for name in (SERVED, HELD_OUT)}
    declared = layer.share or 0.0
    p_value = None
    if sum(counts.values()):
        planned = {SERVED: 1.0 - declared, HELD_OUT: declared}
        p_value = sequential_sample_ratio([counts], planned).p_value
    return HoldoutShare(
        declared=declared,
        held_out=counts[HELD_OUT],
        served=counts[SERVED],
        unplaced=unplaced,
        p_value=p_value,
        verdict="cannot_tell" if p_value is None else "fail" if p_value < SHARE_ALPHA else "pass",
    )


def met_by(rows: pl.DataFrame, briefs: Mapping[str, Brief], unit: str) -> tuple[int, tuple[HoldoutMet, ...]]:
    """How many held-out learners met an experiment, and which? rows: experiment, unit_id, each pair once."""
    counts = rows.group_by("experiment").len().sort("experiment")
    met = tuple(
        HoldoutMet(experiment=name, learners=learners, exempt=_takes_all(briefs.get(name), unit))
        for name, learners in counts.iter_rows()
    )
    return rows["unit_id"].n_unique(), met


def _takes_all(brief: Brief | None, unit: str) -> bool:
    """Whether a brief takes units that are held out, on purpose."""
    return brief is not None and (brief.holdout == "exempt" or brief.randomisation_unit != unit)


def shipped_between(
    log: Sequence[LoggedDecision], briefs: Mapping[str, Brief], unit: str, since: date, end: date
) -> tuple[ShippedTogether, ...]:
    """What did people decide to ship from a day on until before another? log: oldest first."""
    found = []
    for place, row in enumerate(log):
        if row.kind != "decided" or row.outcome not in _SHIPPED or not since <= row.at.date() < end:
            continue
        later = [one for one in log[place + 1 :] if _same(one, row) and one.at.date() < end]
        if any(one.outcome in _SHIPPED and one.arm == row.arm for one in later):
            continue
        found.append(
            ShippedTogether(
                experiment=row.experiment,
                at=row.at,
                outcome=row.outcome,
                arm=row.arm or "",
                by=row.by,
                exempt=_takes_all(briefs.get(row.experiment), unit),
                undone=next((one.at for one in later if one.outcome in _UNDONE), None),
            )
        )
    return tuple(found)


def _same(one: LoggedDecision, row: LoggedDecision) -> bool:
    return one.kind == "decided" and one.experiment == row.experiment


def alpha_of(metrics: Collection[Metric]) -> float:
    """What may one metric and stretch of one week spend? Bonferroni over a year of weekly looks."""
    return ALARM_ALPHA / (LOOKS_A_YEAR * 2 * max(len(metrics), 1))


def base_reading(metric: Metric, stretch: Stretch, alpha: float, reason: str = "") -> HoldoutReading:
    """One metric over one stretch, before anything is known (or why nothing can be)."""
    return HoldoutReading(
        metric=metric.name,
        title=metric.title,
        direction=metric.direction,
        display=metric.display,
        window=stretch.window,
        first=stretch.first,
        end=stretch.end,
        level=LEVEL,
        alpha=alpha,
        reason=reason,
    )


def untold(metric: Metric, measures: Mapping[str, Measure]) -> str:
    """Why has a metric no number over a stretch of days? Empty where it has one."""
    return refused(metric, measures)


def reading(
    metric: Metric, stretch: Stretch, alpha: float, sums: pl.DataFrame, *, clustered: bool
) -> HoldoutReading:
    """What did shipping do to one metric over one stretch?

    sums: one row a learner: unit_id, group (held_out or served), cluster, num, den (measures added up over
    the stretch, null where nothing happened). Everybody who was met counts, also who did nothing: whether
    somebody comes back may depend on what was shipped.
    """
    row = base_reading(metric, stretch, alpha)
    number = pl.col("num").cast(pl.Float64).fill_null(0.0)
    if metric.estimand == "proportion":
        number = (number > 0).cast(pl.Float64)
    base = pl.col("den").cast(pl.Float64).fill_null(0.0) if metric.denominator else pl.lit(1.0)
    frame = sums.select(
        "unit_id", "cluster", pl.col("group").alias("arm"), number.alias("num"), base.alias("den"),
        pl.lit(0, pl.Int64).alias("layer"),
    ).sort("unit_id")  # fmt: skip
    sizes = {name: frame.filter(pl.col("arm") == name).height for name in (HELD_OUT, SERVED)}
    if sizes[HELD_OUT] == 0:
        return row.model_copy(update={"reason": "nobody who was met is held out", "n_served": sizes[SERVED]})
    if min(sizes.values()) < LEAST_UNITS:
        return row.model_copy(update={"reason": f"fewer than {LEAST_UNITS} learners are on one side"})
    units = MetricUnits(metric, frame, (), False, {}, {}, ())
    found = compare(units, SERVED, HELD_OUT, clustered=clustered, adjusted=False, level=LEVEL)
    effect = found.effect
    row = row.model_copy(update={"n_held_out": sizes[HELD_OUT], "n_served": sizes[SERVED]})
    if not isinstance(effect, Effect):
        return row.model_copy(update={"reason": effect.reason})
    increase = metric.direction == "increase"
    says, harm = _says(effect, increase), harm_p_value(effect, increase=increase)
    return row.model_copy(
        update={
            "clusters_held_out": effect.clusters_control,
            "clusters_served": effect.clusters_treatment,
            "held_out": effect.mean_control,
            "served": effect.mean_treatment,
            "effect": effect.absolute,
            "ci_lower": effect.ci_lower,
            "ci_upper": effect.ci_upper,
            "relative": effect.relative,
            "relative_ci_lower": effect.relative_ci_lower,
            "relative_ci_upper": effect.relative_ci_upper,
            "harm_p_value": harm,
            "says": says,
            "alarm": says == "worse" and harm < alpha,
            "method": found.sentence,
            "note": "; ".join(found.flags),
        }
    )


def harm_p_value(effect: Effect, *, increase: bool) -> float:
    """How likely is an effect at least this harmful, if shipping did no harm? One-sided."""
    harmful = effect.absolute < 0 if increase else effect.absolute > 0
    return effect.p_value / 2.0 if harmful else 1.0 - effect.p_value / 2.0


def _says(effect: Effect, increase: bool) -> HoldoutSays:
    if effect.ci_lower <= 0.0 <= effect.ci_upper:
        return "no_clear_difference"
    return "better" if (effect.ci_lower > 0) == increase else "worse"
