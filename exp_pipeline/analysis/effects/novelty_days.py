"""Does the primary effect last? By day since each unit's own assignment, and early days against late ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.day_sums import SUMS, effect_of_sums
from exp_pipeline.analysis.effects.estimates import Setting
from exp_pipeline.analysis.effects.increments import daily_parts, refusal
from exp_pipeline.analysis.effects.methods import Answer, scaled
from exp_pipeline.analysis.effects.unit_values import difference_of_values
from exp_pipeline.analysis.units import MetricUnits, Units
from exp_pipeline.model.metrics import Measure, Metric, included_column
from exp_pipeline.model.readout import NoveltyDay, NoveltySplit
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DaysSince:
    """What did units do on each day since their assignment?

    units: arm, cluster, layer and `had` (whole days since assignment, the day itself included, within the
    metric's window) of every unit that the metric includes, a row each. unit, age, num, den: what each active
    day added, (m,): `unit` is a row of units.
    """

    metric: Metric
    units: pl.DataFrame
    unit: IntArray
    age: IntArray
    num: FloatArray
    den: FloatArray


def days_since(
    units: Units, primary: MetricUnits, days: pl.DataFrame, measures: Mapping[str, Measure], upto: date
) -> DaysSince | str:
    """Which days had each unit since its assignment, up to the end of `upto`? Or why that is not known."""
    metric = primary.metric
    reason = refusal(metric, days, measures)
    if metric.from_day is not None:
        reason = reason or "a retention counts one stretch of days, so it has no effect of a single day"
    if reason:
        return reason
    enrolled = units.frame.drop_nulls("assigned_date")
    if included_column(metric.name) in enrolled.columns:
        enrolled = enrolled.filter(pl.col(included_column(metric.name)).fill_null(False))
    stratum = pl.col("stratum").fill_null("").rank("dense") if primary.stratified else pl.lit(0)
    had = (pl.lit(upto) - pl.col("assigned_date")).dt.total_days() + 1
    if metric.window_days is not None:
        had = pl.min_horizontal(had, pl.lit(metric.window_days))
    own = (
        enrolled.select(
            "unit_id",
            "arm",
            "cluster",
            stratum.cast(pl.Int64).alias("layer"),
            pl.col("assigned_date").alias("enrolled"),
            had.cast(pl.Int64).alias("had"),
        )
        .filter(pl.col("had") > 0)
        .with_row_index("row")
    )
    if own.is_empty():
        return "no unit has had a whole day since its assignment"
    parts = daily_parts(
        metric,
        own.select("unit_id", "row", "enrolled"),
        days.filter(pl.col("event_date") <= upto),
        measures,
    )
    age = (parts["day"] - parts["enrolled"]).dt.total_days()
    return DaysSince(
        metric,
        own.drop("unit_id", "enrolled", "row"),
        parts["row"].cast(pl.Int64).to_numpy(),
        age.to_numpy(),
        parts["num"].to_numpy(),
        parts["den"].to_numpy(),
    )


def novelty_days(setting: Setting, found: DaysSince | str) -> tuple[NoveltyDay, ...]:
    """What is the primary effect on each day since assignment, of the units that have had that day?

    Not adjusted, strata held fixed, clusters by their sums (without strata). A share counts units whose
    numerator is above zero on the day. Days that no unit of an arm has had are left out.
    """
    arms = [arm.name for arm in setting.brief.treatments()]
    if isinstance(found, str):
        return tuple(
            NoveltyDay(day=0, arm=arm, n_control=0, n_treatment=0, estimable=False, reason=found)
            for arm in arms
        )
    if setting.clustered and found.units["layer"].n_unique() > 1:
        found = _one_stratum(found)
    tables = {name: _sums(found, name, clustered=setting.clustered) for name in setting.brief.shares()}
    counts = {}
    for name, table in tables.items():
        counts[name] = _had(found.units.filter(pl.col("arm") == name)["had"].to_numpy(), table.shape[1])
    rows = []
    for arm in arms:
        for day in range(min(counts[setting.brief.control].size, counts[arm].size)):
            n_control, n_treatment = int(counts[setting.brief.control][day]), int(counts[arm][day])
            answer = effect_of_sums(
                found.metric,
                tables[setting.brief.control][:, day],
                tables[arm][:, day],
                clustered=setting.clustered,
                level=setting.level,
            )
            rows.append(_row(day, arm, n_control, n_treatment, scaled(answer, found.metric.per)))
    return tuple(rows)


def _row(day: int, arm: str, n_control: int, n_treatment: int, answer: Answer) -> NoveltyDay:
    base = NoveltyDay(day=day, arm=arm, n_control=n_control, n_treatment=n_treatment)
    if isinstance(answer, NotEstimable):
        return base.model_copy(update={"estimable": False, "reason": answer.reason})
    return base.model_copy(
        update={"absolute": answer.absolute, "ci_lower": answer.ci_lower, "ci_upper": answer.ci_upper}
    )


def _one_stratum(found: DaysSince) -> DaysSince:
    units = found.units.with_columns(pl.lit(0, dtype=pl.Int64).alias("layer"))
    return DaysSince(found.metric, units, found.unit, found.age, found.num, found.den)


def _had(days: IntArray, length: int) -> IntArray:
    """How many units have had day 0, day 1, ... up to `length`?"""
    ended = np.bincount(days, minlength=length + 1)
    return np.cumsum(ended[::-1])[::-1][1 : length + 1].astype(np.int64)


def _sums(found: DaysSince, arm: str, *, clustered: bool) -> FloatArray:
    """One arm's sums by stratum and day, (strata, days, 7), as `day_sums.SUMS`."""
    here = (found.units["arm"] == arm).to_numpy()
    had, layer = found.units["had"].to_numpy(), found.units["layer"].to_numpy()
    days, strata = int(had[here].max(initial=0)), int(layer.max(initial=0)) + 1
    mine = here[found.unit] & (found.age < had[found.unit])
    unit, age = found.unit[mine], found.age[mine]
    num, den = found.num[mine], found.den[mine]
    if found.metric.estimand == "proportion":
        num = (num > 0.0).astype(np.float64)
    if clustered:
        return _cluster_sums(found, here, unit, age, num, den, days)
    table: FloatArray = np.zeros((strata, days, len(SUMS)))
    for place in range(strata):
        table[place, :, 0] = _had(had[here & (layer == place)], days)
    slot = layer[unit] * days + age
    for column, values in enumerate((num, den, num**2, den**2, num * den, num**3), start=1):
        table[:, :, column] = _totals(slot, values, strata * days).reshape(strata, days)
    if found.metric.denominator is None:
        table[:, :, 2] = table[:, :, 4] = table[:, :, 0]
        table[:, :, 5] = table[:, :, 1]
    return table


def _cluster_sums(
    found: DaysSince, here: NDArray[np.bool_], unit: IntArray, age: IntArray, num: FloatArray,
    den: FloatArray, days: int,
) -> FloatArray:  # fmt: skip
    """As `_sums`, each cluster being one value; it counts while a unit of it has had the day."""
    names = found.units["cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1
    groups = np.unique(names[here])
    code = np.searchsorted(groups, names)
    slots = groups.size * days
    had = found.units["had"].to_numpy()[here]
    first = np.bincount(code[here] * days + had - 1, minlength=slots).reshape(groups.size, days)
    size = np.cumsum(first[:, ::-1], axis=1)[:, ::-1].astype(np.float64)
    slot = code[unit] * days + age
    top = _totals(slot, num, slots).reshape(groups.size, days)
    base = size
    if found.metric.denominator is not None:
        base = _totals(slot, den, slots).reshape(groups.size, days)
    there = size > 0.0
    columns = (there, top, base, top**2, base**2, top * base, top**3)
    return np.stack([column.sum(axis=0, dtype=np.float64) for column in columns], axis=1)[None]


def _totals(slot: IntArray, values: FloatArray, slots: int) -> FloatArray:
    return np.bincount(slot, values, minlength=slots).astype(np.float64)


def novelty_splits(setting: Setting, found: DaysSince | str) -> tuple[NoveltySplit, ...]:
    """Is the effect after the brief's split unlike the one before it, on the same units?

    Sums and counts are compared as amounts of one day, over all whole days that a unit has had since the
    split; ratios as they are; shares over as many days after the split as before it, of units that have had
    them all. The change is taken within units (delta method), so that a unit counts once; strata and clusters
    as in the estimate.
    """
    split = setting.brief.novelty.split_days
    arms = [arm.name for arm in setting.brief.treatments()]
    if isinstance(found, str):
        return tuple(NoveltySplit(arm=arm, split_days=split, estimable=False, reason=found) for arm in arms)
    share = found.metric.estimand == "proportion"
    had = found.units["had"].to_numpy()
    enough = had >= (2 * split if share else split + 1)
    until = 2 * split if share else int(had.max(initial=0))
    n = had.size
    late = (found.age >= split) & (found.age < np.minimum(had, until)[found.unit])
    stretches = []
    for mask, length in (
        (found.age < split, np.full(n, float(split))),
        (late, np.minimum(had, until).astype(np.float64) - split),
    ):
        top = _totals(found.unit[mask], found.num[mask], n)
        base = length
        if share:
            top, base = (top > 0.0).astype(np.float64), np.ones(n)
        elif found.metric.denominator is not None:
            base = _totals(found.unit[mask], found.den[mask], n)
        stretches.append((top, base))
    return tuple(_split(setting, found, enough, stretches, arm, split, until) for arm in arms)


def _split(
    setting: Setting,
    found: DaysSince,
    enough: NDArray[np.bool_],
    stretches: list[tuple[FloatArray, FloatArray]],
    arm: str,
    split: int,
    until: int,
) -> NoveltySplit:
    base = NoveltySplit(arm=arm, split_days=split, until_day=until)
    name = found.units["arm"].to_numpy()
    sides = [np.flatnonzero(enough & (name == side)) for side in (setting.brief.control, arm)]
    least = max(setting.brief.minimum_cell, 2)
    if min(side.size for side in sides) < least:
        reason = f"fewer than {least} units of an arm have had enough days after day {split}"
        return base.model_copy(update={"until_day": None, "estimable": False, "reason": reason})
    told: list[list[float]] = []
    changes = []
    for side in sides:
        values = []
        ratios = []
        for top, bottom in stretches:
            mean = float(bottom[side].mean())
            if mean == 0.0:
                reason = "the denominator is zero in a stretch of an arm"
                return base.model_copy(update={"until_day": None, "estimable": False, "reason": reason})
            ratio = float(top[side].mean()) / mean
            # A unit's part in the ratio (delta method): its mean over the arm is the ratio itself.
            values.append(ratio + (top[side] - ratio * bottom[side]) / mean)
            ratios.append(ratio)
        told.append(ratios)
        changes.append(values[1] - values[0])
    rows = np.concatenate(sides)
    frame = found.units[rows].with_columns(pl.Series("num", np.concatenate(changes)))
    answer = difference_of_values(frame, arm, clustered=setting.clustered, level=setting.level)
    answer = scaled(answer, found.metric.per)
    update: dict[str, object] = {"n_control": sides[0].size, "n_treatment": sides[1].size}
    if isinstance(answer, NotEstimable):
        return base.model_copy(update={**update, "estimable": False, "reason": answer.reason})
    per = found.metric.per
    return base.model_copy(
        update={
            **update,
            "early": (told[1][0] - told[0][0]) * per,
            "late": (told[1][1] - told[0][1]) * per,
            "absolute": answer.absolute,
            "ci_lower": answer.ci_lower,
            "ci_upper": answer.ci_upper,
            "p_value": answer.p_value,
        }
    )
