"""What does one more outcome cost? The arms' difference in cost over their difference in the primary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.units import MetricUnits
from exp_pipeline.model.brief import Brief
from exp_pipeline.stats.reference import two_sided_critical
from exp_pipeline.stats.results import NotEstimable

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CostPerOutcome:
    """By how much must spending rise for one more outcome (an outcome of the primary, in its own unit)?

    kind: "interval" lies between the bounds; "outside" is all but what lies between them, which happens where
    the gain may be zero; "everything" excludes nothing and has no bounds. reason: how to read a ratio below
    zero, or none that can be read.
    """

    metric: str
    n_control: int
    n_treatment: int
    ratio: float | None
    kind: Literal["interval", "outside", "everything"]
    lower: float | None
    upper: float | None
    reason: str = ""


def cost_per_outcome(
    brief: Brief, metrics: Mapping[str, MetricUnits], arm: str, *, clustered: bool, level: float
) -> CostPerOutcome | NotEstimable | None:
    """What does one more outcome cost in an arm? None where no metric is money.

    The first metric shown in US dollars that has a number a unit, or a ratio whose numerator is one (cost per
    session: its cost). Both differences are of means over units that have both numbers, with their joint
    variance, by cluster where clusters were randomised. Fieller's (1954) interval: ratios r for which the
    difference of cost less r gains is within its error of 0; it is right also where the gain may be zero.
    """
    primary = metrics[brief.primary]
    name = next(
        (
            one
            for one, held in metrics.items()
            if one != brief.primary
            and held.metric.display == "usd"
            and held.metric.estimand in ("mean", "ratio")
        ),
        None,
    )
    if name is None:
        return None
    if primary.metric.estimand not in ("mean", "proportion"):
        return NotEstimable("fieller", f"a {primary.metric.estimand} has no number of outcomes a unit")
    cost = metrics[name]
    both = (
        primary.frame.filter(pl.col("arm").is_in([brief.control, arm]))
        .select("unit_id", "arm", "cluster", pl.col("num").alias("gain"))
        .join(cost.frame.select("unit_id", pl.col("num").alias("cost")), on="unit_id", how="inner")
        .sort("unit_id")
    )
    sign = 1.0 if primary.metric.direction == "increase" else -1.0
    return fieller_of_units(
        both["cost"].to_numpy(),
        sign * both["gain"].to_numpy(),
        (both["arm"] == arm).to_numpy(),
        both["cluster"].rank("dense").cast(pl.Int64).to_numpy() if clustered else None,
        metric=name,
        level=level,
    )


def fieller_of_units(
    cost: FloatArray,
    gain: FloatArray,
    treated: NDArray[np.bool_],
    cluster: NDArray[np.int64] | None,
    *,
    metric: str,
    level: float,
) -> CostPerOutcome | NotEstimable:
    """What is the ratio of two differences of means, (n,) rows a unit each, with Fieller's interval?"""
    counts = int((~treated).sum()), int(treated.sum())
    differences = np.zeros(2)
    covariance = np.zeros((2, 2))
    groups_seen = 0
    for side, way in ((~treated, -1.0), (treated, 1.0)):
        values = np.column_stack([cost[side], gain[side]])
        codes = (
            np.arange(values.shape[0])
            if cluster is None
            else np.unique(cluster[side], return_inverse=True)[1]
        )
        groups = int(codes.max()) + 1 if codes.size else 0
        if groups < 2:
            return NotEstimable(
                "fieller", "an arm has fewer than two units or clusters with both numbers", *counts
            )
        mean = values.mean(axis=0)
        left = (values - mean) / values.shape[0]
        sums = np.column_stack([np.bincount(codes, left[:, place], minlength=groups) for place in (0, 1)])
        covariance += groups / (groups - 1.0) * (sums.T @ sums)
        differences += way * mean
        groups_seen += groups
    more, gained = (float(value) for value in differences)
    if covariance[0, 0] <= 0.0 or covariance[1, 1] <= 0.0:
        return NotEstimable("fieller", "cost or outcome has no spread in the arms", *counts)
    critical = two_sided_critical(level, groups_seen - 2.0)
    kind, lower, upper = _fieller(more, gained, covariance, critical)
    reason = ""
    if gained <= 0.0:
        reason = "no outcome is gained, so there is no cost of one"
        if more < 0.0:
            reason = "fewer outcomes for less money: the ratio is what each one lost saves"
    elif more < 0.0:
        reason = "more outcomes for less money: the ratio is a saving"
    ratio = more / gained if gained > 0.0 or more < 0.0 else None
    if gained == 0.0:
        ratio = None
    return CostPerOutcome(metric, *counts, ratio, kind, lower, upper, reason)


def _fieller(
    more: float, gained: float, covariance: FloatArray, critical: float
) -> tuple[Literal["interval", "outside", "everything"], float | None, float | None]:
    """All r with (more - r gained)^2 <= critical^2 Var(more - r gained)."""
    square = gained**2 - critical**2 * float(covariance[1, 1])
    linear = more * gained - critical**2 * float(covariance[0, 1])
    constant = more**2 - critical**2 * float(covariance[0, 0])
    discriminant = linear**2 - square * constant
    if square == 0.0 or discriminant <= 0.0:
        return "everything", None, None
    ends = sorted((linear + way * math.sqrt(discriminant)) / square for way in (-1.0, 1.0))
    return ("interval" if square > 0.0 else "outside"), ends[0], ends[1]
