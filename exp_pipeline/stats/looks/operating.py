"""What a group-sequential plan does under an effect: when it stops, and what its looks cost in size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exp_pipeline.stats.looks.spending import Sides, Spending, boundaries, crossing
from exp_pipeline.stats.reference import one_sided_critical


@dataclass(frozen=True, slots=True)
class OperatingCharacteristics:
    """How does a plan behave under one effect? Probabilities by look, and the information it needs.

    power: of crossing in the direction of the drift (upper); expected_fraction: of the maximal information.
    """

    drift: float
    upper: tuple[float, ...]
    lower: tuple[float, ...]
    power: float
    expected_fraction: float


@dataclass(frozen=True, slots=True)
class Inflation:
    """By how much must the largest size grow, so that looks cost no power?

    factor: maximal information over that of a fixed trial of equal alpha and power. drift: mean of z at
    full information under the planned effect. expected_*: mean information as a multiple of the fixed
    trial's: under the planned effect, half of it, and none.
    """

    factor: float
    drift: float
    expected_planned: float
    expected_half: float
    expected_null: float


def operating_characteristics(
    spending: Spending, fractions: Sequence[float], *, drift: float
) -> OperatingCharacteristics:
    """When does a plan stop, and how often does it find an effect?

    fractions: of the maximal information, at each look; drift: mean of z at share 1 (the effect over its
    standard error at the full size; a fixed trial of 80 % power at 5 % has 2.80).
    """
    planned = boundaries(spending, fractions, final=True)
    return stopping(planned.critical, planned.fractions, sides=spending.sides, drift=drift)


def stopping(
    critical: Sequence[float], fractions: Sequence[float], *, sides: Sides, drift: float
) -> OperatingCharacteristics:
    """When do looks with these boundaries stop, and how often do they find an effect?

    critical: in standard errors, look by look; any rule's. fractions and drift as in
    `operating_characteristics`.
    """
    found = crossing(critical, fractions, drift=drift, sides=sides)
    stops = [up + down for up, down in zip(found.upper, found.lower, strict=True)]
    early = sum(stop * share for stop, share in zip(stops[:-1], fractions[:-1], strict=True))
    return OperatingCharacteristics(
        drift=drift,
        upper=found.upper,
        lower=found.lower,
        power=sum(found.upper),
        expected_fraction=early + (1.0 - sum(stops[:-1])) * fractions[-1],
    )


def fixed_drift(alpha: float, sides: Sides, power: float) -> float:
    """Which mean of z finds an effect with this power at one planned look?

    Raises ValueError for a power not between alpha and 1.
    """
    if not alpha / sides < power < 1.0:
        raise ValueError(f"power must lie between alpha and 1, got {power!r}")
    return one_sided_critical(alpha / sides, math.inf) + one_sided_critical(1.0 - power, math.inf)


def drift_for_power(
    critical: Sequence[float], fractions: Sequence[float], *, sides: Sides, power: float, start: float
) -> float:
    """Which mean of z at full information finds an effect with this power? `start`: a first guess."""
    from scipy import optimize

    def lacking(drift: float) -> float:
        return sum(crossing(critical, fractions, drift=drift, sides=sides).upper) - power

    low, high = start * 0.9, start * 1.2
    while lacking(low) > 0.0:
        low *= 0.8
    while lacking(high) < 0.0:
        high *= 1.2
    return float(optimize.brentq(lacking, low, high, xtol=1e-12))


def inflation(spending: Spending, fractions: Sequence[float], *, power: float) -> Inflation:
    """By which factor does the largest size exceed that of one planned look of equal alpha and power?

    fractions: planned looks, the last 1. Power counts crossings in the effect's direction. Multiply a fixed
    design's units by `factor`. Raises ValueError for a power not between alpha and 1.
    """
    fixed = fixed_drift(spending.alpha, spending.sides, power)
    planned = boundaries(spending, fractions, final=True)
    looks = planned.critical, planned.fractions
    drift = drift_for_power(*looks, sides=spending.sides, power=power, start=fixed)
    factor = (drift / fixed) ** 2
    expected = [
        stopping(*looks, sides=spending.sides, drift=share * drift).expected_fraction * factor
        for share in (1.0, 0.5, 0.0)
    ]
    return Inflation(factor, drift, *expected)
