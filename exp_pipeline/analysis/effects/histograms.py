"""Quantiles of values that were only counted in bins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.model.metrics import Bins
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.results import Effect, NotEstimable


def is_binned(frame: pl.DataFrame) -> bool:
    """Are the values of these units counts in bins, not single values?"""
    kind = frame.schema["values"]
    return isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct)


def with_edges(entry: pl.Expr, bins: Bins) -> pl.Expr:
    """A measure's (bin, n) as (low, high, n); null where a bin has no edge."""
    edges: list[float | None] = [None, *bins.boundaries(), None]
    place = entry.struct.field("bin").cast(pl.Int64)
    low, high = (
        place.replace_strict(list(range(len(edges) - 1)), edges[offset : len(edges) - 1 + offset],
                             return_dtype=pl.Float64)
        for offset in (0, 1)
    )  # fmt: skip
    return pl.struct(low.alias("low"), high.alias("high"), entry.struct.field("n").alias("n"))


def difference_in_binned_quantiles(
    control: pl.DataFrame, treatment: pl.DataFrame, owner: str, *, quantile: float, level: float
) -> Effect | NotEstimable:
    """By how much does a quantile differ, when values are known by their bin only?

    Frames with `values` (a list of low, high, n) and the column `owner` that says whose they are. The values
    of a bin are spread evenly over it within each arm, taking turns over units, and then go through the
    method for single values. Its points are off by at most the width of the bin they lie in: a flag says by
    how much. What lies below the first edge or above the last could be anywhere there: where that would
    change an answer, the difference is not estimable.
    """
    bins = _bins(control, owner), _bins(treatment, owner)
    answers = []
    for far in (False, True):
        rows = [_rows(part, far=far) for part in bins]
        answers.append(difference_in_quantiles(*rows[0], *rows[1], quantile=quantile, level=level))
    near, away = answers
    if isinstance(near, NotEstimable) or isinstance(away, NotEstimable):
        return near if isinstance(near, NotEstimable) else away
    if (near.absolute, near.ci_lower, near.ci_upper) != (away.absolute, away.ci_lower, away.ci_upper):
        reason = f"the {quantile:g} quantile or its interval lies outside the bins of its histogram"
        return NotEstimable(near.method, reason, near.n_control, near.n_treatment)
    errors = [
        _error(part, value)
        for part, value in zip(bins, (near.mean_control, near.mean_treatment), strict=True)
    ]
    return replace(near, p_value=max(near.p_value, away.p_value), flags=(*near.flags, _said(max(errors))))


def single_rows(frame: pl.DataFrame, owner: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Which single values stand for these bins, and whose are they? What has no edge lies at the edge."""
    return _rows(_bins(frame, owner), far=False)


def _bins(frame: pl.DataFrame, owner: str) -> pl.DataFrame:
    """owner (a number), low, high, n: each unit's bins, each once."""
    return (
        frame.select(pl.col(owner).rank("dense").cast(pl.Int64).alias("owner"), "values")
        .explode("values")
        .unnest("values")
        .filter(pl.col("n") > 0)
        .group_by("owner", "low", "high")
        .agg(pl.col("n").sum())
        .sort("low", "owner", nulls_last=False)
    )


def _rows(bins: pl.DataFrame, *, far: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Single values and their owners; with `far`, what has no edge is put far away instead of at the edge."""
    span = pl.max_horizontal(pl.col("low").abs().max(), pl.col("high").abs().max(), 1.0)
    low, high = pl.col("low"), pl.col("high")
    spread = (
        bins.with_columns(
            pl.coalesce(low, high - (10.0 * span if far else 0.0)).alias("from"),
            pl.coalesce(high, low + (10.0 * span if far else 0.0)).alias("to"),
            pl.int_ranges(pl.col("n")).alias("turn"),
        )
        .explode("turn")
        .sort("from", "to", "turn", "owner")
        .with_columns(
            pl.int_range(pl.len()).over("from", "to").alias("place"), pl.len().over("from", "to").alias("all")
        )
    )
    value = pl.col("from") + (pl.col("to") - pl.col("from")) * (pl.col("place") + 0.5) / pl.col("all")
    at_edge = pl.when(low.is_null()).then(pl.col("from")).when(high.is_null()).then(pl.col("to"))
    found = spread.select(at_edge.otherwise(value).alias("value"), "owner")
    return found["value"].to_numpy(), found["owner"].to_numpy()


def _error(bins: pl.DataFrame, value: float) -> tuple[float, float]:
    """How far a quantile may be off, as a share of itself and as it is: the widest bin that it leans on."""
    known = bins.drop_nulls(["low", "high"])
    below = known.filter(pl.col("low") <= value).sort("low").tail(1)
    above = known.filter(pl.col("high") >= value).sort("high").head(1)
    both = pl.concat([below, above])
    widest = both.select((pl.col("high") - pl.col("low")).max()).item()
    width = float(widest) if widest is not None else 0.0
    return (width / value if value > 0 else float("inf"), width)


def _said(error: tuple[float, float]) -> str:
    share, width = error
    if not np.isfinite(share):
        return f"from a histogram: each arm's value is off by at most {width:g}"
    return f"from a histogram: each arm's value is off by at most {100 * share:.2g} % of itself"
