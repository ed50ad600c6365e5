"""Effects adjusted by what was known of the units before assignment (CUPED, analysis of covariance)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exp_pipeline.stats.cubes import Cubes
from exp_pipeline.stats.effects.contrast import ArmValue, contrast, same_units, too_few_units
from exp_pipeline.stats.effects.interacted import interacted_contrast
from exp_pipeline.stats.effects.ratios import ratio_arms
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable


@dataclass(frozen=True, slots=True, eq=False)
class FilledCovariates:
    """Covariates without gaps: values (n, k'), and the k' names, indicators of missing values among them."""

    values: NDArray[np.float64]
    names: tuple[str, ...]


def fill_missing(covariates: ArrayLike, names: Sequence[str]) -> FilledCovariates:
    """How can units with missing covariates stay in the analysis?

    covariates: (n, k), NaN where missing, units of all arms together. Gaps get the mean of what was
    observed, and each covariate with gaps gains an indicator named "<name>_missing"; with randomised arms
    this keeps the effect unbiased (Zhao and Ding 2022). A covariate that nobody has is
    left out.
    """
    values = np.asarray(covariates, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValueError(f"covariates must have shape (n, {len(names)}), got {values.shape}")
    columns: list[NDArray[np.float64]] = []
    kept: list[str] = []
    for position, name in enumerate(names):
        column = values[:, position]
        missing = np.isnan(column)
        if missing.all():
            continue
        columns.append(np.where(missing, column[~missing].mean(), column))
        kept.append(name)
        if missing.any():
            columns.append(missing.astype(np.float64))
            kept.append(f"{name}_missing")
    filled = np.column_stack(columns) if columns else np.zeros((values.shape[0], 0))
    return FilledCovariates(filled, tuple(kept))


def adjusted_difference(
    control: Moments,
    treatment: Moments,
    *,
    outcome: str,
    covariates: Sequence[str],
    interacted: bool = False,
    control_cubes: Cubes | None = None,
    treatment_cubes: Cubes | None = None,
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do the arms' means differ, given what the covariates foretold?

    CUPED (Deng and others 2013) with several covariates and slopes pooled within the arms, which is the
    analysis of covariance; standard error by arm (see `contrast`). Covariates must have been measured before
    assignment. One that does not vary or repeats the others is dropped with a flag; with none left the
    result is Welch's under the name "cuped" and a flag for each. `variance_reduction` compares with Welch.

    `interacted` gives each arm its own slopes (see `interacted`), under the name "lin": never less precise
    in large samples, also with unequal arms whose slopes differ, at the price of k more slopes.

    With both `*_cubes` (third moments of outcome and covariates, by arm) skewness of what the covariates
    leave is corrected for where arms are unequal, under a name that ends in "-skew" (see `skew.corrected`);
    without them unequal arms are flagged.
    """
    require_level(level)
    same_units(control, treatment, control_cubes, treatment_cubes)
    names = tuple(covariates)
    _check_covariates(names, (outcome,))
    method, estimate = ("lin", interacted_contrast) if interacted else ("cuped", contrast)
    refusal = too_few_units(method, control.n, treatment.n)
    if refusal is not None:
        return refusal
    if control.variance(outcome) == 0.0 and treatment.variance(outcome) == 0.0:
        return NotEstimable(method, f"{outcome} has no spread in either arm", control.n, treatment.n)
    return estimate(
        method,
        ArmValue.of_mean(control, outcome, names, control_cubes),
        ArmValue.of_mean(treatment, outcome, names, treatment_cubes),
        level=level,
        covariates=names,
        standardise=True,
    )


def adjusted_ratio(
    control: Moments,
    treatment: Moments,
    *,
    numerator: str,
    denominator: str,
    covariates: Sequence[str],
    interacted: bool = False,
    control_cubes: Cubes | None = None,
    treatment_cubes: Cubes | None = None,
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do the arms' ratios differ, given what the covariates foretold?

    The ratio is linearised by unit (see `ratios`) and the linearised values adjusted as in
    `adjusted_difference`, cubes (of both parts and the covariates) included. Covariates are unit totals or
    values measured before assignment.
    """
    require_level(level)
    same_units(control, treatment, control_cubes, treatment_cubes)
    names = tuple(covariates)
    _check_covariates(names, (numerator, denominator))
    method, estimate = ("lin-ratio", interacted_contrast) if interacted else ("cuped-ratio", contrast)
    cubes = control_cubes, treatment_cubes
    checked = ratio_arms(method, control, treatment, numerator, denominator, names, cubes)
    if isinstance(checked, NotEstimable):
        return checked
    arm_control, arm_treatment, flags = checked
    return estimate(method, arm_control, arm_treatment, level=level, covariates=names, flags=flags)


def _check_covariates(covariates: tuple[str, ...], outcomes: tuple[str, ...]) -> None:
    if not covariates:
        raise ValueError("covariates must name at least one variable, got none")
    for name in covariates:
        if name in outcomes or name == "outcome":
            raise ValueError(f"covariates must not hold the outcome or the name 'outcome', got {name!r}")
