"""The estimators of a readout, from rows or from sums of one metric in two arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exp_pipeline.analysis.effects.histograms import difference_in_binned_quantiles, is_binned
from exp_pipeline.analysis.tables.grouped_effects import linearised
from exp_pipeline.stats.clusters.effects import clustered_difference
from exp_pipeline.stats.effects.adjustment import adjusted_difference, adjusted_ratio
from exp_pipeline.stats.effects.means import difference_in_means, difference_in_proportions
from exp_pipeline.stats.effects.quantiles import difference_in_quantiles
from exp_pipeline.stats.effects.ratios import difference_in_ratios
from exp_pipeline.stats.effects.strata import StratumArms, stratified_difference
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.moments_table import MomentsTable
from exp_pipeline.stats.results import Effect, NotEstimable

Answer = Effect | NotEstimable


@dataclass(frozen=True, slots=True)
class TwoArms:
    """Which rows does an estimator compare? Both frames as in `MetricUnits.frame`."""

    control: pl.DataFrame
    treatment: pl.DataFrame
    covariates: tuple[str, ...]
    stratified: bool
    quantile: float
    level: float


@dataclass(frozen=True, slots=True, eq=False)
class TwoSums:
    """Which sums does an estimator compare? Both by stratum, variables num, den and the covariates."""

    control: MomentsTable
    treatment: MomentsTable
    covariates: tuple[str, ...]
    level: float


def moments_of(frame: pl.DataFrame, columns: Sequence[str]) -> Moments:
    """Which moments have these columns? Rows must be free of gaps."""
    return Moments.from_array(_matrix(frame, columns), columns)


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    values = np.empty((frame.height, len(columns)), dtype=np.float64)
    for position, name in enumerate(columns):
        values[:, position] = frame[name].to_numpy()
    return values


def means(arms: TwoSums) -> Answer:
    """By how much do the means differ? Skewed values in unequal arms get an interval that knows it."""
    control, treatment = (_together(side) for side in (arms.control, arms.treatment))
    return difference_in_means(
        control.group(0),
        treatment.group(0),
        outcome="num",
        control_shape=control.third(0),
        treatment_shape=treatment.third(0),
        level=arms.level,
    )


def proportions(arms: TwoSums) -> Answer:
    """By how much do the shares differ?"""
    counts = []
    for side in (whole(arms.control), whole(arms.treatment)):
        counts += [round(side.mean("num") * side.n) if side.n else 0, side.n]
    return difference_in_proportions(*counts, level=arms.level)


def ratios(arms: TwoSums) -> Answer:
    """By how much do the ratios of sums differ?"""
    return difference_in_ratios(
        whole(arms.control),
        whole(arms.treatment),
        numerator="num",
        denominator="den",
        level=arms.level,
    )


def adjusted(arms: TwoSums) -> Answer:
    """By how much do the means differ, given the covariates?"""
    return adjusted_difference(
        whole(arms.control),
        whole(arms.treatment),
        outcome="num",
        covariates=arms.covariates,
        level=arms.level,
    )


def adjusted_ratios(arms: TwoSums) -> Answer:
    """By how much do the ratios differ, given the covariates?"""
    return adjusted_ratio(
        whole(arms.control),
        whole(arms.treatment),
        numerator="num",
        denominator="den",
        covariates=arms.covariates,
        level=arms.level,
    )


def within_strata(arms: TwoSums) -> Answer:
    """By how much do the means differ within strata?"""
    strata = {
        f"{place:09d}": StratumArms(arms.control.group(place), arms.treatment.group(place))
        for place in range(len(arms.control))
        if arms.control.n[place] or arms.treatment.n[place]
    }
    return stratified_difference(strata, outcome="num", covariates=arms.covariates, level=arms.level)


def ratios_within_strata(arms: TwoSums) -> Answer:
    """By how much do the ratios differ within strata? Linearised by arm."""
    sides = [linearised(side, "num", "den", arms.covariates) for side in (arms.control, arms.treatment)]
    return within_strata(replace(arms, control=sides[0], treatment=sides[1]))


def whole(strata: MomentsTable) -> Moments:
    """One arm's strata put together."""
    return _together(strata).group(0)


def _together(strata: MomentsTable) -> MomentsTable:
    if len(strata) == 1:
        return strata
    return strata.merged(np.zeros(len(strata), dtype=np.int64), 1)


def clustered(arms: TwoArms) -> Answer:
    """By how much do the means differ, by cluster?"""
    return _by_cluster(arms, ratio=False)


def clustered_ratios(arms: TwoArms) -> Answer:
    """By how much do the ratios of sums differ, by cluster?"""
    return _by_cluster(arms, ratio=True)


def _by_cluster(arms: TwoArms, *, ratio: bool) -> Answer:
    columns = ["num", "den", "layer", "cluster", *arms.covariates]
    both = pl.concat([arms.control.select(columns), arms.treatment.select(columns)])
    treated = np.arange(both.height) >= arms.control.height
    answer = clustered_difference(
        both["num"].to_numpy(),
        treated,
        _codes(both["cluster"]),
        covariates=_matrix(both, arms.covariates) if arms.covariates else None,
        strata=both["layer"].to_numpy() if arms.stratified else None,
        denominator=both["den"].to_numpy() if ratio else None,
        level=arms.level,
    )
    names = [name.split("__", 1)[1] for name in arms.covariates]
    if not isinstance(answer, Effect) or not names:
        return answer
    flags = answer.flags
    for position in range(len(names), 0, -1):
        flags = tuple(
            flag.replace(f"covariate number {position} ", f"covariate {names[position - 1]} ")
            for flag in flags
        )
    return replace(answer, flags=flags)


def quantiles(arms: TwoArms) -> Answer:
    """By how much does the quantile differ, by unit?"""
    return _quantiles_by(arms, "unit_id")


def clustered_quantiles(arms: TwoArms) -> Answer:
    """By how much does the quantile differ, by cluster?"""
    answer = _quantiles_by(arms, "cluster")
    n_control, n_treatment = arms.control.height, arms.treatment.height
    if isinstance(answer, NotEstimable):
        return replace(answer, n_control=n_control, n_treatment=n_treatment)
    return replace(
        answer,
        n_control=n_control,
        n_treatment=n_treatment,
        clusters_control=answer.n_control,
        clusters_treatment=answer.n_treatment,
    )


def _quantiles_by(arms: TwoArms, owner: str) -> Answer:
    if is_binned(arms.control):
        return difference_in_binned_quantiles(
            arms.control, arms.treatment, owner, quantile=arms.quantile, level=arms.level
        )
    control, treatment = (
        frame.select(owner, "values").explode("values") for frame in (arms.control, arms.treatment)
    )
    return difference_in_quantiles(
        control["values"].to_numpy(),
        _codes(control[owner]),
        treatment["values"].to_numpy(),
        _codes(treatment[owner]),
        quantile=arms.quantile,
        level=arms.level,
    )


def _codes(names: pl.Series) -> NDArray[np.int64]:
    if not names.len():
        return np.zeros(0, dtype=np.int64)
    return names.rank("dense").cast(pl.Int64).to_numpy()
