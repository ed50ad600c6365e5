"""What history says of a metric before the start: level, spread, ICC, help of covariates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.histograms import is_binned, single_rows
from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.stats.clusters.variance_components import VarianceComponents, variance_components
from exp_pipeline.stats.power.clusters import cluster_sizes
from exp_pipeline.stats.power.counts import Spread, mean_spread, quantile_parts, ratio_parts, spread_of_parts
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]
# Fewer units than this tell a level and a spread too roughly to plan with.
FEWEST_UNITS = 10
NO_COVARIATE = "no covariate was known before the history's units were first seen"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a metric before the start, in the metric's own unit?

    sd is of one unit (for ratios and quantiles: of its linearised part); shares need none. cluster_size and
    cluster_size_cv: units per randomised cluster, on average, and how much that varies. variance_reduction:
    what the plan counts on; a baseline from history leaves it at 0 and says in `gain` which share of the
    variance the covariates would have taken off there. icc (with its interval) and adjusted_icc (of what the
    covariates leave) are history's own. attrition: share of mature units without a value. included: share of
    units that the metric lets count. mean_se and sd_se: how far level and spread may be off; units: how many
    they were read from. notes: what else must be known to believe them.
    """

    mean: float
    sd: float | None = None
    cluster_size: float | None = None
    cluster_size_cv: float = 0.0
    variance_reduction: float = 0.0
    units: int | None = None
    mean_se: float | None = None
    sd_se: float | None = None
    icc: float | None = None
    icc_lower: float | None = None
    icc_upper: float | None = None
    adjusted_icc: float | None = None
    gain: float | None = None
    attrition: float | None = None
    included: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoBaseline:
    """Why history tells no level and spread of a metric, in plain words."""

    reason: str


def baseline_of(units: MetricUnits, *, clustered: bool) -> Baseline | NoBaseline:
    """What do history's units say of this metric, as if they had been assigned when first seen?

    units: of one arm. clustered: whether `cluster` holds clusters that will be randomised whole. The parts of
    units are those that the metric's estimator works on, so that the spread is the one it will see.
    """
    metric, frame = units.metric, units.frame
    without = sum(units.without_value.values())
    waiting, left_out = sum(units.waiting.values()), sum(units.left_out.values())
    if frame.height < FEWEST_UNITS:
        return NoBaseline(_too_few(frame.height, without, waiting, left_out))
    values, found = _parts(units)
    if isinstance(found, NotEstimable):
        return NoBaseline(f"the history does not tell its spread: {found.reason}")
    share = metric.estimand == "proportion"
    scale = metric.per
    notes = list(units.reasons)
    if waiting:
        notes.append(f"{waiting:,} units came too late in the history for their window and are not counted")
    gain, adjusted, plain = None, None, None
    covariates = _covariates(units)
    size: float | None = None
    variation = 0.0
    mean_se = found.sd / math.sqrt(found.n)
    if clustered:
        sizes = cluster_sizes(frame["cluster"].to_numpy())
        size, variation = sizes.mean, sizes.cv
        answer = variance_components(values, frame["cluster"].to_numpy())
        if isinstance(answer, VarianceComponents):
            plain = answer
            notes += [f"ICC: {flag}" for flag in answer.flags]
            alike = max(answer.icc, 0.0)
            mean_se *= math.sqrt(1.0 + max((1.0 + variation**2) * size - 1.0, 0.0) * alike)
        else:
            notes.append(f"the history tells no ICC: {answer.reason}")
        if covariates is not None and plain is not None:
            beside = variance_components(values, frame["cluster"].to_numpy(), covariates=covariates)
            if isinstance(beside, VarianceComponents):
                adjusted, gain = beside.icc, max(beside.explained, 0.0)
    elif covariates is not None:
        gain = _explained(values, covariates)
    if covariates is None and units.covariates == () and metric.estimand != "quantile":
        notes.append(NO_COVARIATE)
    return Baseline(
        mean=found.value * scale,
        sd=None if share else found.sd * scale,
        cluster_size=size,
        cluster_size_cv=variation,
        units=found.n,
        mean_se=mean_se * scale,
        sd_se=None if share else found.sd_se * scale,
        icc=None if plain is None else plain.icc,
        icc_lower=None if plain is None else plain.ci_lower,
        icc_upper=None if plain is None else plain.ci_upper,
        adjusted_icc=adjusted,
        gain=gain,
        attrition=without / (frame.height + without),
        included=1.0 - left_out / (frame.height + without + waiting + left_out),
        notes=tuple(notes),
    )


def _too_few(counted: int, without: int, waiting: int, left_out: int) -> str:
    told = [
        f"{count:,} {what}"
        for count, what in (
            (waiting, "had no whole window before the start"),
            (without, "have no value"),
            (left_out, "are left out by the metric"),
        )
        if count
    ]
    rest = f" ({', '.join(told)})" if told else ""
    return f"{counted:,} units of the history have a value, at least {FEWEST_UNITS} are needed{rest}"


def _parts(units: MetricUnits) -> tuple[FloatArray, Spread | NotEstimable]:
    """Each unit's part in the metric's value (aligned with the frame's rows), and value and spread."""
    metric, frame = units.metric, units.frame
    number = frame["num"].to_numpy().astype(np.float64) if metric.estimand != "quantile" else np.zeros(0)
    if metric.estimand in ("mean", "proportion"):
        return number, mean_spread(number)
    if metric.estimand == "ratio":
        value, parts = ratio_parts(number, frame["den"].to_numpy())
        if isinstance(value, NotEstimable):
            return parts, value
        return parts, spread_of_parts(value, parts)
    ordered = frame.with_row_index("row")
    if is_binned(frame):
        rows, owners = single_rows(ordered.select(pl.col("row").alias("unit_id"), "values"), "unit_id")
    else:
        single = ordered.select("row", "values").explode("values")
        rows, owners = single["values"].to_numpy(), single["row"].to_numpy()
    value, parts, slope_error = quantile_parts(rows, owners, metric.quantile or 0.5)
    if isinstance(value, NotEstimable):
        return parts, value
    found = spread_of_parts(value, parts)
    if isinstance(found, NotEstimable):
        return parts, found
    return parts, Spread(found.value, found.sd, found.n, math.hypot(found.sd_se, slope_error * found.sd))


def _covariates(units: MetricUnits) -> FloatArray | None:
    if not units.covariates:
        return None
    columns = [units.frame[name].to_numpy().astype(np.float64) for name in units.covariates]
    return np.column_stack(columns)


def _explained(values: FloatArray, covariates: FloatArray) -> float:
    """Which share of the variance do the covariates take off, less what so many take off by chance?"""
    n, k = covariates.shape
    if n <= k + 2:
        return 0.0
    design = np.column_stack([np.ones(n), covariates - covariates.mean(axis=0)])
    centred = values - values.mean()
    residual = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    total = float(centred @ centred)
    left: float = float(residual @ residual) / total * (n - 1.0) / (n - k - 1.0)
    return max(0.0, 1.0 - left)
