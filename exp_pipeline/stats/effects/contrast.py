"""Treatment against control for any smooth arm value, with or without covariates: the common core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.stats.cubes import Cubes
from exp_pipeline.stats.effects.relative import RelativeEffect, hedges_correction
from exp_pipeline.stats.effects.skew import ArmEstimates, ArmShape, looked_at
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import two_sided_critical, two_sided_p, welch_df
from exp_pipeline.stats.results import Effect, NotEstimable

FloatArray = NDArray[np.float64]

# A covariate of which less than this share of variance is left beside the others only repeats them.
COLLINEAR = 1e-9
# A residual share below this is rounding: the covariates then explain the outcome fully.
_NO_RESIDUAL = 1e-13
_OUTCOME = "outcome"
_BASE = "denominator / its mean"


@dataclass(frozen=True, slots=True)
class ArmValue:
    """What is one arm's value, and how do its units move it?

    value: the mean or ratio. moments: of the linearised outcome, named "outcome" (one number a unit whose
    variance over n is the variance of `value`), and of the covariates under their own names. cubes: of the
    same variables, and for a ratio of each unit's denominator over the mean one; None where not summed.
    """

    value: float
    moments: Moments
    cubes: Cubes | None = None

    @classmethod
    def of_mean(
        cls, moments: Moments, outcome: str, covariates: Sequence[str] = (), cubes: Cubes | None = None
    ) -> ArmValue:
        """Which arm value is the mean of `outcome`?"""
        combinations = {_OUTCOME: {outcome: 1.0}, **{name: {name: 1.0} for name in covariates}}
        linear = None if cubes is None else cubes.linear(combinations)
        return cls(moments.mean(outcome), moments.linear(combinations), linear)

    @classmethod
    def of_ratio(
        cls,
        moments: Moments,
        numerator: str,
        denominator: str,
        covariates: Sequence[str] = (),
        cubes: Cubes | None = None,
    ) -> ArmValue:
        """Which arm value is the ratio of two means? Linearised by the delta method at unit level."""
        base = moments.mean(denominator)
        ratio = moments.mean(numerator) / base
        terms = {numerator: 1.0 / base}
        terms[denominator] = terms.get(denominator, 0.0) - ratio / base
        combinations = {_OUTCOME: terms, **{name: {name: 1.0} for name in covariates}}
        linear = None
        if cubes is not None:
            linear = cubes.linear(combinations | {_BASE: {denominator: 1.0 / base}})
        return cls(ratio, moments.linear(combinations), linear)

    def shape(self, covariates: Sequence[str], slopes: FloatArray, variance: float) -> ArmShape | None:
        """How skewed is what the covariates leave of a unit? `variance`: of that. None without cubes.

        A ratio's estimate and its standard error both move with the mean denominator; their common part acts
        like a third moment of -3 cov(residual, denominator / mean) x variance.
        """
        if self.cubes is None or self.moments.n < 3:
            return None
        weights = {_OUTCOME: 1.0, **dict(zip(covariates, (-slopes).tolist(), strict=True))}
        third = self.cubes.third(weights)
        if _BASE in self.cubes.moments.names:
            parts = self.cubes.moments.linear({_OUTCOME: weights, _BASE: {_BASE: 1.0}})
            third -= 3.0 * parts.covariance(_OUTCOME, _BASE) * variance
        return ArmShape.of_mean(self.moments.n, variance, third)

    @property
    def variance(self) -> float:
        """The variance of `value`, without covariates."""
        return self.moments.variance(_OUTCOME) / self.moments.n

    def summary(self, *, standardise: bool) -> ArmSummary:
        """What is written down of this arm? With `standardise`, the spread of its units too."""
        spread = self.moments.variance(_OUTCOME) if standardise else None
        return ArmSummary(self.moments.n, self.value, spread)


def same_units(
    control: Moments, treatment: Moments, control_cubes: Cubes | None, treatment_cubes: Cubes | None
) -> None:
    """Are cubes, where given, of both arms and of the same units? Raises ValueError."""
    if (control_cubes is None) != (treatment_cubes is None):
        raise ValueError("control_cubes and treatment_cubes must both be given, or neither")
    for arm, moments, cubes in (
        ("control", control, control_cubes),
        ("treatment", treatment, treatment_cubes),
    ):
        if cubes is not None and cubes.moments.n != moments.n:
            raise ValueError(f"{arm}_cubes must be of the same {moments.n} units, got {cubes.moments.n}")


def too_few_units(method: str, n_control: int, n_treatment: int) -> NotEstimable | None:
    """Is an arm too small for any variance? Then the answer is the refusal, else None."""
    for arm, n in (("control", n_control), ("treatment", n_treatment)):
        if n == 0:
            return NotEstimable(method, f"the {arm} arm is empty", n_control, n_treatment)
        if n == 1:
            reason = f"the {arm} arm has one unit; a spread needs at least two"
            return NotEstimable(method, reason, n_control, n_treatment)
    return None


def standardised_difference(
    absolute: float, variance_control: float, n_control: int, variance_treatment: float, n_treatment: int
) -> float | None:
    """How many pooled standard deviations of units is the effect? Hedges' g; None without spread or df."""
    df = n_control + n_treatment - 2
    if df < 2:
        return None
    pooled = ((n_control - 1) * variance_control + (n_treatment - 1) * variance_treatment) / df
    if pooled <= 0.0:
        return None
    return absolute / math.sqrt(pooled) * hedges_correction(df)


def independent_columns(gram: FloatArray) -> list[int]:
    """Which variables, taken in order, are not a sum of those before? gram: (k, k) centred products."""
    kept: list[int] = []
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0))
    for column in range(gram.shape[0]):
        if scale[column] == 0.0:
            continue
        if kept:
            inner = gram[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept])
            beside = gram[kept, column] / (scale[kept] * scale[column])
            left = 1.0 - float(beside @ np.linalg.solve(inner, beside))
            if left < COLLINEAR:
                continue
        kept.append(column)
    return kept


def contrast(
    method: str,
    control: ArmValue,
    treatment: ArmValue,
    *,
    level: float,
    covariates: Sequence[str] = (),
    standardise: bool = False,
    flags: tuple[str, ...] = (),
) -> Effect | NotEstimable:
    """By how much do the arm values differ, after taking out what the covariates tell?

    With slopes theta pooled within the arms, the effect is the difference of values less theta times the
    difference of covariate means. Its variance is that of the residuals, arm by arm (Welch), with one
    degree of freedom taken for each covariate, plus what not knowing theta adds. With arms of one size it
    is exactly that of the analysis of covariance by least squares; without covariates it is Welch's. Where
    both arms have cubes, skewness of the residuals is corrected for (see `skew`).
    """
    n_c, n_t = control.moments.n, treatment.moments.n
    kept, dropped = _usable(control.moments, treatment.moments, covariates)
    names = [_OUTCOME, *kept]
    m_c, m_t = control.moments.select(names), treatment.moments.select(names)
    k = len(kept)
    pooled = m_c.products + m_t.products
    theta = np.zeros(k)
    if k:
        theta[:] = np.linalg.solve(pooled[1:, 1:], pooled[1:, 0])
    gap = m_t.means[1:] - m_c.means[1:]
    residual = np.concatenate(([1.0], -theta))
    ss_c = max(float(residual @ m_c.products @ residual), 0.0)
    ss_t = max(float(residual @ m_t.products @ residual), 0.0)
    if ss_c + ss_t <= _NO_RESIDUAL * float(pooled[0, 0]):
        return NotEstimable(method, "the covariates explain the outcome fully: no spread is left", n_c, n_t)
    df_all = n_c + n_t - 2
    spent = df_all / (df_all - k)
    variance_c = ss_c / (n_c - 1) / n_c * spent
    variance_t = ss_t / (n_t - 1) / n_t * spent
    slope_part = (
        float(gap @ np.linalg.solve(pooled[1:, 1:], gap)) * (ss_c + ss_t) / (df_all - k) if k else 0.0
    )
    se = math.sqrt(variance_c + variance_t + slope_part)
    df = max(welch_df(variance_c, n_c - 1, variance_t, n_t - 1) - k, 1.0)
    absolute = treatment.value - control.value - float(theta @ gap)

    # Adjusted arm values stand at the mean of all units' covariates, which is itself random.
    n = n_c + n_t
    adjusted_c = control.value + float(theta @ gap) * n_t / n
    adjusted_t = treatment.value - float(theta @ gap) * n_c / n
    cross_c = float(residual @ m_c.products[:, 1:] @ theta) / (n_c - 1) / n if k else 0.0
    cross_t = float(residual @ m_t.products[:, 1:] @ theta) / (n_t - 1) / n if k else 0.0
    spread_c = float(theta @ m_c.products[1:, 1:] @ theta) / (n_c - 1) * n_c if k else 0.0
    spread_t = float(theta @ m_t.products[1:, 1:] @ theta) / (n_t - 1) * n_t if k else 0.0
    shared = (spread_c + spread_t) / n**2
    values = ArmEstimates(
        adjusted_c,
        adjusted_t,
        variance_control=variance_c + 2.0 * cross_c + shared,
        variance_treatment=variance_t + 2.0 * cross_t + shared,
        covariance=cross_c + cross_t + shared,
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
        variance_reduction=1.0 - se**2 / (control.variance + treatment.variance) if covariates else None,
        flags=flags + dropped,
    )
    return looked_at(
        effect,
        control.shape(kept, theta, variance_c * n_c),
        treatment.shape(kept, theta, variance_t * n_t),
        values,
    )


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """What is written down of one arm beside its estimate?

    n: units of analysis; mean: their plain value; variance: of units (sample), None where standard deviations
    of units mean nothing; clusters: how many, where the standard error is by cluster.
    """

    n: int
    mean: float
    variance: float | None = None
    clusters: int | None = None

    @classmethod
    def of_rows(cls, values: FloatArray, clusters: int | None = None) -> ArmSummary:
        """Which summary have these values, (n,)? No variance for fewer than two."""
        spread = float(values.var(ddof=1)) if values.size > 1 else None
        return cls(values.size, float(values.mean()), spread, clusters)


def effect_of_arms(
    method: str,
    control: ArmSummary,
    treatment: ArmSummary,
    absolute: float,
    se: float,
    df: float,
    relative: RelativeEffect,
    *,
    level: float,
    bounds: tuple[float, float] | None = None,
    p_value: float | None = None,
    variance_reduction: float | None = None,
    flags: tuple[str, ...] = (),
) -> Effect:
    """How is a difference of arms written down, beside the plain values of its arms?

    Interval and p-value are those of the t reference, unless the method has its own. Standardised where both
    arms have a variance of units.
    """
    if bounds is None:
        reach = two_sided_critical(level, df) * se
        bounds = absolute - reach, absolute + reach
    standardised = None
    if control.variance is not None and treatment.variance is not None:
        standardised = standardised_difference(
            absolute, control.variance, control.n, treatment.variance, treatment.n
        )
    return Effect(
        method=method,
        n_control=control.n,
        n_treatment=treatment.n,
        mean_control=control.mean,
        mean_treatment=treatment.mean,
        absolute=absolute,
        se=se,
        df=df,
        ci_lower=bounds[0],
        ci_upper=bounds[1],
        p_value=two_sided_p(absolute / se, df) if p_value is None else p_value,
        level=level,
        relative=relative.relative,
        relative_ci_lower=relative.lower,
        relative_ci_upper=relative.upper,
        relative_method=relative.method,
        standardised=standardised,
        variance_reduction=variance_reduction,
        flags=(*flags, *relative.flags),
        clusters_control=control.clusters,
        clusters_treatment=treatment.clusters,
    )


def _usable(
    control: Moments, treatment: Moments, covariates: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Which covariates vary within the arms and do not repeat one another, and what is said of the others?"""
    flags: list[str] = []
    varying: list[str] = []
    for name in covariates:
        if control.variance(name) == 0.0 and treatment.variance(name) == 0.0:
            flags.append(f"covariate {name} dropped: it does not vary within the arms")
        else:
            varying.append(name)
    gram = control.select(varying).products + treatment.select(varying).products
    positions = independent_columns(gram)
    kept = [varying[position] for position in positions]
    flags += [f"covariate {name} dropped: it repeats the others" for name in varying if name not in kept]
    most = control.n + treatment.n - 4
    if len(kept) > most:
        flags += [f"covariate {name} dropped: too few units" for name in kept[max(most, 0) :]]
        kept = kept[: max(most, 0)]
    return kept, tuple(flags)
