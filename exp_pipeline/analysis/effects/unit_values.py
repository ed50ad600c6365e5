"""The difference of arms in one number a unit, as the design of the draw asks."""

from __future__ import annotations

import polars as pl

from exp_pipeline.analysis.effects.estimators import TwoSums, within_strata
from exp_pipeline.analysis.effects.methods import Answer, moments_of
from exp_pipeline.analysis.unit_sums import sums_of
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.means import difference_in_means


def difference_of_values(frame: pl.DataFrame, arm: str, *, clustered: bool, level: float) -> Answer:
    """By how much do the means of `num` differ between `arm` and the only other arm of the frame?

    frame: one row a unit: arm, cluster, layer (stratum), num. By cluster where clusters were randomised,
    within strata where there are several, else Welch.
    """
    stratified = frame["layer"].n_unique() > 1
    if clustered:
        return clustered_difference(
            frame["num"].to_numpy(),
            (frame["arm"] == arm).to_numpy(),
            frame["cluster"].rank("dense").cast(pl.Int64).to_numpy(),
            strata=frame["layer"].to_numpy() if stratified else None,
            level=level,
        )
    treated = frame["arm"] == arm
    if not stratified:
        sides = [moments_of(frame.filter(mask), ["num"]) for mask in (~treated, treated)]
        return difference_in_means(sides[0], sides[1], outcome="num", level=level)
    renamed = frame.with_columns(pl.when(treated).then(pl.lit("b")).otherwise(pl.lit("a")).alias("arm"))
    sums = sums_of(renamed, (), ratio=False, stratified=True)
    return within_strata(TwoSums(sums.arm("a"), sums.arm("b"), (), level))
