"""The units of one experiment and, for each metric, those that have a value."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from exp_pipeline.analysis.population import CONTEXT, split_population
from exp_pipeline.analysis.unit_sums import UnitSums, sums_of
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.metrics import (
    Metric,
    denominator_column,
    included_column,
    mature_column,
    numerator_column,
    pre_column,
    score_column,
    values_column,
)
from exp_pipeline.model.populations import UnitsLeftOut
from exp_pipeline.stats.effects.adjustment import fill_missing

SEGMENT = CONTEXT
COVARIATE = "covariate__"
PRE = pre_column("")

_COLUMNS: dict[str, pl.DataType] = {
    "unit_id": pl.String(),
    "arm": pl.String(),
    "assigned_at": pl.Datetime("us"),
    "assigned_date": pl.Date(),
    "cluster_id": pl.String(),
    "stratum": pl.String(),
    "contaminated": pl.Boolean(),
    "exposed": pl.Boolean(),
    "first_exposed_at": pl.Datetime("us"),
    "exposures": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class Units:
    """Which units are in the experiment?

    frame: one row a unit of a declared arm, sorted by unit_id, with every column that `frame_of_units`
    names and `cluster` (the unit itself where no cluster was randomised). unassigned: units seen exposed
    that no arm was logged for. foreign: units by arm, for arms that the brief does not know. left_out: units
    that the brief's eligibility and exclusions keep out, by reason and arm; they are not in `frame`.
    """

    frame: pl.DataFrame
    unassigned: int
    foreign: tuple[tuple[str, int], ...]
    clustered: bool
    left_out: tuple[UnitsLeftOut, ...] = ()

    def arm(self, name: str) -> pl.DataFrame:
        """Which units are in this arm?"""
        return self.frame.filter(pl.col("arm") == name)


@dataclass(frozen=True, slots=True)
class MetricUnits:
    """Which units have a value of one metric, ready for an estimator?

    frame: unit_id, arm, cluster, layer (stratum as a number, 0 where none), num, den, values (numbers, or
    bins with low, high and n), one column "covariate__<name>" for each covariate (gaps filled), and what
    `Units.frame` holds beside. left_out: units by arm that the metric does not include. waiting: units by arm
    whose window is not over. without_value: mature units by arm that have no value. notes: what adjustment
    could not do. reasons: which units do not count and why, in words.
    """

    metric: Metric
    frame: pl.DataFrame
    covariates: tuple[str, ...]
    stratified: bool
    waiting: dict[str, int]
    without_value: dict[str, int]
    notes: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    # Sums of this very frame by segment column; `replace` starts anew.
    _sums: dict[str | None, UnitSums] = field(default_factory=dict, init=False, repr=False, compare=False)

    def sums(self, segment: str | None = None) -> UnitSums:
        """Which moments has the metric by arm, stratum and value of a segment column? Made once for each."""
        if segment not in self._sums:
            self._sums[segment] = sums_of(
                self.frame,
                self.covariates,
                ratio=self.metric.estimand == "ratio",
                stratified=self.stratified,
                segment=segment,
                third=self.metric.estimand == "mean" and not self.stratified,
            )
        return self._sums[segment]


def frame_of_units(mad: pl.DataFrame, brief: Brief) -> Units:
    """Which rows of the minimal analytic dataset are units of this brief's arms?

    mad: one row a unit: unit_id, arm, assigned_at, assigned_date, cluster_id, stratum, contaminated, exposed,
    first_exposed_at, exposures; of these only unit_id and arm must be there, the others count as unknown.
    Units that the brief's eligibility and exclusions keep out are counted and left out.
    Raises ValueError when one of the two is missing from a table that has rows, or a unit has two rows, or a
    column is missing that eligibility or exclusions read.
    """
    for name in ("unit_id", "arm"):
        if mad.height and name not in mad.columns:
            raise ValueError(f"mad has no column {name!r}; it has: {', '.join(mad.columns)}")
    if mad.height and mad["unit_id"].n_unique() != mad.height:
        twice = mad.group_by("unit_id").len().filter(pl.col("len") > 1)["unit_id"].cast(pl.String).sort()
        raise ValueError(f"mad must have one row a unit; {len(twice)} units have more, such as {twice[0]!r}")
    known = [
        (pl.col(name).cast(kind) if name in mad.columns else pl.lit(None, dtype=kind).alias(name))
        for name, kind in _COLUMNS.items()
    ]
    others = [pl.col(name) for name in mad.columns if name not in _COLUMNS]
    frame = mad.select(known + others) if mad.width else pl.DataFrame(schema=_COLUMNS)
    frame = frame.with_columns(
        pl.coalesce("assigned_date", pl.col("assigned_at").dt.date()).alias("assigned_date"),
        pl.col("contaminated").fill_null(False),
    )
    clustered = brief.randomisation_unit != brief.analysis_unit
    own = pl.format("unit {}", "unit_id")
    frame = frame.with_columns((pl.coalesce("cluster_id", own) if clustered else own).alias("cluster")).sort(
        "unit_id"
    )
    arms = list(brief.shares())
    unassigned = frame.filter(pl.col("arm").is_null()).height
    strange = frame.filter(pl.col("arm").is_not_null() & ~pl.col("arm").is_in(arms))
    foreign = tuple((name, count) for name, count in strange.group_by("arm").len().sort("arm").iter_rows())
    analysed, left_out = split_population(frame.filter(pl.col("arm").is_in(arms)), brief)
    return Units(analysed, unassigned, foreign, clustered, left_out)


def covariate_columns(
    brief: Brief, metric: Metric, columns: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which pre-period columns sharpen this metric, and which that were asked for are not there?

    Those the brief names; a brief that asks for adjustment and names none means the metric's own measures.
    Only columns of the pre-period can be named, so nothing measured after assignment can get in.
    """
    if brief.variance_reduction.method == "none" or metric.estimand == "quantile":
        return (), ()
    named: tuple[str, ...] = brief.variance_reduction.covariates
    if not named and brief.table is not None:
        named = brief.table.covariates
    wanted = tuple(dict.fromkeys(pre_column(name) for name in named or metric.measures()))
    found = tuple(name for name in wanted if name in columns)
    return found, tuple(name for name in wanted if name not in columns) if named else ()


def units_of_metric(units: Units, metric: Metric, brief: Brief) -> MetricUnits:
    """Which units have a value of this metric, and what is it?

    Units that the metric does not include are left out first (by what was known at assignment, so arms stay
    comparable), then those whose window is not over. A share counts a unit as one when its numerator is above
    zero. Raises ValueError when the dataset has rows and lacks a column of the metric.
    """
    frame = units.frame
    flags = {
        "included": included_column(metric.name),
        "mature": mature_column(metric.name),
    }
    frame = frame.with_columns(
        *(
            (pl.col(name).cast(pl.Boolean).fill_null(False) if name in frame.columns else pl.lit(True)).alias(
                flag
            )
            for flag, name in flags.items()
        ),
        *_value_columns(metric, frame),
    )
    observed = pl.col("num").is_not_null() & pl.col("den").is_not_null()
    if metric.estimand == "quantile":
        observed = pl.col("values").list.len().fill_null(0) > 0
    left_out = _by_arm(frame.filter(~pl.col("included")), brief)
    frame = frame.filter("included")
    waiting = _by_arm(frame.filter(~pl.col("mature")), brief)
    frame = frame.filter("mature")
    unobserved = frame.filter(~observed)
    frame = frame.filter(observed)
    found, missing = covariate_columns(brief, metric, frame.columns)
    frame, covariates = _with_covariates(frame, found)
    layers = frame["stratum"].drop_nulls().n_unique()
    stratified = bool(brief.strata) and layers > 1
    frame = frame.with_columns(
        (pl.col("stratum").fill_null("").rank("dense") if stratified else pl.lit(0))
        .cast(pl.Int64)
        .alias("layer")
    )
    notes = tuple(f"no column {name} in the data: not adjusted for it" for name in missing)
    reasons = (*_scope(metric, sum(left_out.values())), *_why_without(metric, unobserved))
    return MetricUnits(
        metric, frame, covariates, stratified, waiting, _by_arm(unobserved, brief), notes, left_out, reasons
    )


def _scope(metric: Metric, left_out: int) -> tuple[str, ...]:
    """Which units does the metric speak of, where not of all?"""
    told = [f"where {metric.include}"] if metric.include is not None else []
    told += [f"not where {metric.exclude}"] if metric.exclude is not None else []
    if not told and not left_out:
        return ()
    of = " and ".join(told) or "that its parts include"
    return (f"only units {of}: {left_out:,} are left out",)


def _why_without(metric: Metric, frame: pl.DataFrame) -> tuple[str, ...]:
    """Why do mature units have no value? Counted over all arms."""
    if not frame.height:
        return ()
    if metric.type == "composite":
        return (f"{frame.height:,} units lack a value of one of the parts and do not count",)
    names = score_column(metric.name, "pre"), score_column(metric.name, "post")
    if metric.type != "gain" or not set(names) <= set(frame.columns):
        return ()
    pre, post = (pl.col(name) for name in names)
    first = frame.filter(pre.is_null()).height
    second = frame.filter(pre.is_not_null() & post.is_null()).height
    full = frame.height - first - second
    counted = (
        (first, "have no first score"),
        (second, "have no second score"),
        (full, f"had {metric.highest:g} or more at first, so nothing left to gain"),
    )
    return tuple(f"{count:,} units {what} and do not count" for count, what in counted if count)


def _value_columns(metric: Metric, frame: pl.DataFrame) -> list[pl.Expr]:
    empty = frame.height == 0
    num, den, lists = (
        numerator_column(metric.name),
        denominator_column(metric.name),
        values_column(metric.name),
    )
    none = pl.lit(None, dtype=pl.Float64)
    quantile = metric.estimand == "quantile"
    needed = [lists] if quantile else [num] + [den] * (metric.denominator is not None)
    absent = [name for name in needed if name not in frame.columns]
    if absent and not empty:
        raise ValueError(f"mad has no column {', '.join(absent)} for metric {metric.name!r}")
    if absent or quantile:
        held = none.cast(pl.List(pl.Float64)) if absent else _held(frame.schema[lists], lists)
        return [none.alias("num"), none.alias("den"), held.alias("values")]
    number = pl.col(num).cast(pl.Float64).fill_nan(None)
    if metric.estimand == "proportion":
        number = (number > 0).cast(pl.Float64)
    base = pl.col(den).cast(pl.Float64).fill_nan(None) if metric.denominator is not None else pl.lit(1.0)
    return [number.alias("num"), base.alias("den"), none.cast(pl.List(pl.Float64)).alias("values")]


def _held(kind: pl.DataType, column: str) -> pl.Expr:
    """Single values as numbers; bins as they are."""
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
        return pl.col(column)
    return pl.col(column).cast(pl.List(pl.Float64)).list.drop_nulls()


def _with_covariates(frame: pl.DataFrame, columns: tuple[str, ...]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    if not columns or not frame.height:
        return frame, ()
    raw = frame.select([pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in columns]).to_numpy()
    raw = np.where(np.isfinite(raw), raw, np.nan)
    filled = fill_missing(raw, [name.removeprefix(PRE) for name in columns])
    kept: list[str] = []
    seen: list[np.ndarray] = []
    added: list[pl.Series] = []
    for position, name in enumerate(filled.names):
        column = filled.values[:, position]
        # Units that miss one covariate often miss them all: one indicator says it.
        if np.ptp(column) == 0.0 or any(np.array_equal(column, other) for other in seen):
            continue
        seen.append(column)
        kept.append(f"{COVARIATE}{name}")
        added.append(pl.Series(kept[-1], column))
    return frame.with_columns(added), tuple(kept)


def _by_arm(frame: pl.DataFrame, brief: Brief) -> dict[str, int]:
    counts = dict(frame.group_by("arm").len().iter_rows())
    return {arm: int(counts.get(arm, 0)) for arm in brief.shares()}
