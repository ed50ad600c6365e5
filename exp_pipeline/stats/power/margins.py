"""How many units a guardrail needs to pass: power to show that harm stays within a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from exp_pipeline.stats.power.design import Design
from exp_pipeline.stats.power.outcomes import Errors, Outcome
from exp_pipeline.stats.power.units import PowerPlan, effect_for, power_for, units_for

Harm = Literal["increase", "decrease"]


@dataclass(frozen=True, slots=True)
class WithinMargin:
    """An outcome whose question is not "is there an effect?" but "is harm below the margin?".

    The size that is asked for is the margin. expected: the signed change that is believed to be true.
    harm: the direction that hurts. baseline: control's value, where the margin is a share of it; the bound
    then lies at a multiple of control, whose own error counts as often.
    """

    outcome: Outcome
    harm: Harm
    expected: float = 0.0
    baseline: float | None = None

    def __post_init__(self) -> None:
        if self.harm not in ("increase", "decrease"):
            raise ValueError(f"harm must be 'increase' or 'decrease', got {self.harm!r}")
        if self.expected != 0.0:
            self.outcome.check(self.expected)
        if self.baseline is not None and not (math.isfinite(self.baseline) and self.baseline != 0.0):
            raise ValueError(f"baseline must be a number other than 0, got {self.baseline!r}")

    @property
    def paired(self) -> bool:
        return self.outcome.paired

    @property
    def scale(self) -> float:
        return self.outcome.scale / abs(self.baseline) if self.baseline is not None else self.outcome.scale

    @property
    def expected_harm(self) -> float:
        """What harm is believed to be true, in the margin's own unit: positive hurts."""
        harm = self.expected if self.harm == "increase" else -self.expected
        return harm / abs(self.baseline) if self.baseline is not None else harm

    def check(self, effect: float) -> None:
        if not (math.isfinite(effect) and effect > max(self.expected_harm, 0.0)):
            raise ValueError(
                f"margin must be above 0 and above the expected harm {self.expected_harm:g}, got {effect!r}"
            )

    def room(self, sign: float) -> float:
        return math.inf if sign > 0 else 0.0

    def errors(self, effect: float, n_control: float, n_treatment: float) -> Errors:
        own = self.outcome.errors(self.expected, n_control, n_treatment)
        shift = effect - self.expected_harm
        if self.baseline is None:
            return replace(own, shift=shift, null_se=own.se, both_tails=False)
        multiple = 1.0 + effect if self.harm == "increase" else 1.0 - effect
        far = 1e12 * (n_control + n_treatment)
        control = self.outcome.errors(self.expected, n_control, far).se
        treatment = self.outcome.errors(self.expected, far, n_treatment).se
        se = math.hypot(treatment, multiple * control) / abs(self.baseline)
        return Errors(shift, se, se, own.df, both_tails=False)


def units_for_margin(
    outcome: Outcome,
    design: Design,
    *,
    margin: float,
    harm: Harm,
    expected: float = 0.0,
    baseline: float | None = None,
) -> PowerPlan:
    """How many units must be enrolled so that the guardrail passes with the design's power?

    margin: the largest bearable harm, positive, absolute or (with `baseline`, control's value) relative.
    expected: the true signed change that is believed in; 0 is "no harm at all". The test is one-sided at the
    design's alpha, as `guardrails.non_inferiority`. `effect` of the answer is the margin. Raises ValueError
    for a margin that the expected harm already exceeds.
    """
    return units_for(WithinMargin(outcome, harm, expected, baseline), _one_sided(design), effect=margin)


def power_for_margin(
    outcome: Outcome,
    design: Design,
    *,
    margin: float,
    harm: Harm,
    n_control: float,
    n_treatment: float,
    expected: float = 0.0,
    baseline: float | None = None,
) -> PowerPlan:
    """With which probability does the guardrail pass? See `units_for_margin`."""
    return power_for(
        WithinMargin(outcome, harm, expected, baseline),
        _one_sided(design),
        effect=margin,
        n_control=n_control,
        n_treatment=n_treatment,
    )


def margin_for(
    outcome: Outcome,
    design: Design,
    *,
    harm: Harm,
    n_control: float,
    n_treatment: float,
) -> PowerPlan:
    """What is the smallest absolute margin that so many units pass with the design's power, without harm?"""
    return effect_for(
        WithinMargin(outcome, harm), _one_sided(design), n_control=n_control, n_treatment=n_treatment
    )


def _one_sided(design: Design) -> Design:
    return replace(design, two_sided=False)
