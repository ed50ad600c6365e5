"""Effects adjusted with slopes of each arm's own (Lin 2013): safe where the arms' sizes or slopes differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.effects.contrast import (
    ArmValue,
    effect_of_arms,
    independent_columns,
)
from exp_pipeline.stats.effects.skew import ArmEstimates, looked_at
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import welch_df
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]

_OUTCOME = "outcome"
_NO_RESIDUAL = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class _ArmLine:
    """One arm's regression read at the covariate means of all units: value, its variance, slopes, df."""

    value: float
    variance: float
    slopes: FloatArray
    df: int


def interacted_contrast(
    method: str,
    control: ArmValue,
    treatment: ArmValue,
    *,
    level: float,
    covariates: Sequence[str],
    standardise: bool = False,
    flags: tuple[str, ...] = (),
) -> Effect | NotEstimable:
    """By how much do the arm values differ at the same covariates, each arm having slopes of its own?

    Each arm is regressed on the covariates, and both lines are read at the mean of all units: the point
    estimate of least squares with arm, centred covariates and their products (Lin 2013). The variance is
    each line's at that point, plus (slope difference)' S (slope difference) / n, because the mean of all
    units is itself a draw (Negi and Wooldridge 2021, theorem 5.2): so the interval speaks of the population,
    as Welch's does. Satterthwaite degrees of freedom, n - 1 - k in each arm. A covariate must vary in both
    arms and not repeat the others in either, else it is dropped with a flag; so are those beyond n - 3.
    """
    n_c, n_t = control.moments.n, treatment.moments.n
    kept, dropped = _usable(control.moments, treatment.moments, covariates)
    names = [_OUTCOME, *kept]
    m_c, m_t = control.moments.select(names), treatment.moments.select(names)
    both = m_c + m_t
    centre = both.means[1:]
    line_c, line_t = _line(control.value, m_c, centre), _line(treatment.value, m_t, centre)
    left = line_c.variance + line_t.variance
    if left <= _NO_RESIDUAL * (m_c.variance(_OUTCOME) / n_c + m_t.variance(_OUTCOME) / n_t):
        return NotEstimable(method, "the covariates explain the outcome fully: no spread is left", n_c, n_t)
    n = n_c + n_t
    spread = (m_c.products + m_t.products)[1:, 1:] / (n - 2) / n
    shared_c = float(line_c.slopes @ spread @ line_c.slopes)
    shared_t = float(line_t.slopes @ spread @ line_t.slopes)
    shared = float(line_c.slopes @ spread @ line_t.slopes)
    se = math.sqrt(left + max(shared_c + shared_t - 2.0 * shared, 0.0))
    df = welch_df(line_c.variance, line_c.df, line_t.variance, line_t.df)
    absolute = line_t.value - line_c.value
    values = ArmEstimates(
        line_c.value,
        line_t.value,
        variance_control=line_c.variance + shared_c,
        variance_treatment=line_t.variance + shared_t,
        covariance=shared,
    )
    effect = effect_of_arms(
        method,
        control.summary(standardise=standardise),
        treatment.summary(standardise=standardise),
        absolute,
        se,
        df,
        values.relative(df, level),
        level=level,
        variance_reduction=1.0 - se**2 / (control.variance + treatment.variance),
        flags=flags + dropped,
    )
    return looked_at(
        effect,
        control.shape(kept, line_c.slopes, line_c.variance * n_c),
        treatment.shape(kept, line_t.slopes, line_t.variance * n_t),
        values,
    )


def _line(value: float, moments: Moments, centre: FloatArray) -> _ArmLine:
    k = centre.size
    gram = moments.products[1:, 1:]
    away = moments.means[1:] - centre
    slopes = np.zeros(k)
    if k:
        slopes[:] = np.linalg.solve(gram, moments.products[1:, 0])
    mix = np.concatenate(([1.0], -slopes))
    df = moments.n - 1 - k
    residual = max(float(mix @ moments.products @ mix), 0.0) / df
    lever = float(away @ np.linalg.solve(gram, away)) if k else 0.0
    return _ArmLine(value - float(slopes @ away), residual * (1.0 / moments.n + lever), slopes, df)


def _usable(
    control: Moments, treatment: Moments, covariates: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Which covariates have a slope in either arm, and what is said of the others?"""
    flags = [
        f"covariate {name} dropped: it does not vary in one arm"
        for name in covariates
        if control.variance(name) == 0.0 or treatment.variance(name) == 0.0
    ]
    varying = [name for name in covariates if control.variance(name) > 0.0 and treatment.variance(name) > 0.0]
    kept = varying
    for moments in (control, treatment):
        kept = [kept[place] for place in independent_columns(moments.select(kept).products)]
    flags += [f"covariate {name} dropped: it repeats the others" for name in varying if name not in kept]
    most = max(min(control.n, treatment.n) - 3, 0)
    flags += [f"covariate {name} dropped: too few units" for name in kept[most:]]
    return kept[:most], tuple(flags)
