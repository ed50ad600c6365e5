"""Ratios of sums where units were randomised one by one within strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from exp_pipeline.stats.effects.ratios import ratio_arms
from exp_pipeline.stats.effects.strata import StratumArms, Weighting, stratified_difference
from exp_pipeline.stats.moments import Moments
from exp_pipeline.stats.reference import require_level
from exp_pipeline.stats.results import Effect, NotEstimable

_OUTCOME = "outcome"


def stratified_ratio(
    strata: Mapping[str, StratumArms],
    *,
    numerator: str,
    denominator: str,
    covariates: Sequence[str] = (),
    weighting: Weighting = "auto",
    level: float = 0.95,
) -> Effect | NotEstimable:
    """By how much do the arms' ratios of sums differ within strata?

    Each unit counts as its arm's ratio plus (numerator - ratio x denominator) / mean denominator (delta
    method, see `ratios`), and those numbers are compared within strata (see `strata`): strata take out that
    part of a ratio's spread, and of its chance imbalance, which lies between them. NotEstimable as for both.
    """
    require_level(level)
    mixed = [strata[key] for key in sorted(strata) if strata[key].control.n and strata[key].treatment.n]
    if not mixed:
        # Which arm is empty, or that no stratum has both, is said there.
        refusal = stratified_difference(strata, outcome=numerator, weighting=weighting, level=level)
        if isinstance(refusal, NotEstimable):
            return replace(refusal, method="strata-ratio")
    control = reduce(add, (arms.control for arms in mixed))
    treatment = reduce(add, (arms.treatment for arms in mixed))
    checked = ratio_arms("strata-ratio", control, treatment, numerator, denominator, tuple(covariates))
    if isinstance(checked, NotEstimable):
        return checked
    flags = checked[2]
    linearised = {
        key: StratumArms(
            _linearised(arms.control, control, numerator, denominator, covariates),
            _linearised(arms.treatment, treatment, numerator, denominator, covariates),
        )
        for key, arms in strata.items()
    }
    effect = stratified_difference(
        linearised, outcome=_OUTCOME, covariates=covariates, weighting=weighting, level=level
    )
    name = effect.method.replace("strata", "strata-ratio", 1)
    if isinstance(effect, NotEstimable):
        reason = effect.reason.replace(_OUTCOME, f"{numerator} / {denominator}", 1)
        return replace(effect, method=name, reason=reason)
    return replace(effect, method=name, standardised=None, flags=flags + effect.flags)


def _linearised(
    part: Moments, whole: Moments, numerator: str, denominator: str, covariates: Sequence[str]
) -> Moments:
    base = whole.mean(denominator)
    ratio = whole.mean(numerator) / base
    terms = {numerator: 1.0 / base}
    terms[denominator] = terms.get(denominator, 0.0) - ratio / base
    moved = part.linear({_OUTCOME: terms, **{name: {name: 1.0} for name in covariates}})
    means = moved.means.copy()
    means[0] += ratio if part.n else 0.0
    return Moments(moved.n, means, moved.products, moved.names)
