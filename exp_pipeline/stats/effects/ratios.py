"""Differences of ratios of sums, such as answers accepted per answer given."""

from __future__ import annotations

from exp_pipeline.stats.cubes import Cubes
from exp_pipeline.stats.effects.contrast import ArmValue, contrast, same_units, too_few_units
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

WEAK_DENOMINATOR = 5.0


def difference_in_ratios(
    control: Moments,
    treatment: Moments,
    *,
    numerator: str,
    denominator: str,
    control_cubes: Cubes | None = None,
    treatment_cubes: Cubes | None = None,
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much does the sum of `numerator` over the sum of `denominator` differ between the arms?

    Delta method with the randomised unit as the unit (Deng, Knoblich and Lu 2018, section 3): each unit
    counts as (numerator - ratio x denominator) / mean denominator, then Welch. Moments hold one row a unit,
    its two totals. NotEstimable for arms that are empty, of one unit, without spread, or with a denominator
    of mean zero. With both `*_cubes` (third moments of the two totals, by arm) skewness is corrected for
    where arms are unequal (see `skew.corrected`); without them unequal arms are flagged. Raises ValueError
    for unknown names, a level outside (0, 1) or cubes of other units.
    """
    require_level(level)
    same_units(control, treatment, control_cubes, treatment_cubes)
    cubes = control_cubes, treatment_cubes
    checked = ratio_arms("ratio-delta", control, treatment, numerator, denominator, (), cubes)
    if isinstance(checked, NotEstimable):
        return checked
    arm_control, arm_treatment, flags = checked
    return contrast("ratio-delta", arm_control, arm_treatment, level=level, flags=flags)


def ratio_arms(
    method: str,
    control: Moments,
    treatment: Moments,
    numerator: str,
    denominator: str,
    covariates: tuple[str, ...],
    cubes: tuple[Cubes | None, Cubes | None] = (None, None),
) -> tuple[ArmValue, ArmValue, tuple[str, ...]] | NotEstimable:
    """Which two arm values do the ratios make, or why none?"""
    n_c, n_t = control.n, treatment.n
    refusal = too_few_units(method, n_c, n_t)
    if refusal is not None:
        return refusal
    flags: list[str] = []
    for arm, moments in (("control", control), ("treatment", treatment)):
        base = moments.mean(denominator)
        se = (moments.variance(denominator) / moments.n) ** 0.5
        if base == 0.0:
            return NotEstimable(method, f"{denominator} is zero in the {arm} arm", n_c, n_t)
        if abs(base) < WEAK_DENOMINATOR * se:
            flags.append(f"{denominator} is near zero in the {arm} arm: the ratio's interval is unreliable")
    arm_c = ArmValue.of_ratio(control, numerator, denominator, covariates, cubes[0])
    arm_t = ArmValue.of_ratio(treatment, numerator, denominator, covariates, cubes[1])
    if _no_spread(control, arm_c, numerator, denominator) and _no_spread(
        treatment, arm_t, numerator, denominator
    ):
        return NotEstimable(
            method, f"{numerator} / {denominator} has no spread between units in either arm", n_c, n_t
        )
    return arm_c, arm_t, tuple(flags)


def _no_spread(moments: Moments, arm: ArmValue, numerator: str, denominator: str) -> bool:
    # A linearised value has mean zero, so rounding is judged against the numerator it was made of.
    size = moments.variance(numerator) + moments.mean(numerator) ** 2
    return arm.moments.variance("outcome") <= 1e-24 * size / moments.mean(denominator) ** 2
