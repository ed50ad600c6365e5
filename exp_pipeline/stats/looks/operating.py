"""What a group-sequential plan does under an effect: when it stops, and what its looks cost in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exp_pipeline.stats.looks.spending import Spending, boundaries, crossing


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
    found = crossing(planned.critical, planned.fractions, drift=drift, sides=spending.sides)
    stops = [up + down for up, down in zip(found.upper, found.lower, strict=True)]
    last = planned.fractions[-1]
    early = sum(stop * share for stop, share in zip(stops[:-1], planned.fractions[:-1], strict=True))
    return OperatingCharacteristics(
        drift=drift,
        upper=found.upper,
        lower=found.lower,
        power=sum(found.upper),
        expected_fraction=early + (1.0 - sum(stops[:-1])) * last,
    )


def inflation(spending: Spending, fractions: Sequence[float], *, power: float) -> Inflation:
    """By which factor does the largest size exceed that of one planned look of equal alpha and power?

    fractions: planned looks, the last 1. Power counts crossings in the effect's direction. Multiply a fixed
    design's units by `factor`. Raises ValueError for a power not between alpha and 1.
    """
    from scipy import optimize, special

    if not spending.alpha / spending.sides < power < 1.0:
        raise ValueError(f"power must lie between alpha and 1, got {power!r}")
    fixed = float(special.ndtri(power) - special.ndtri(spending.alpha / spending.sides))

    def missing(drift: float) -> float:
        return operating_characteristics(spending, fractions, drift=drift).power - power

    drift = float(optimize.brentq(missing, 0.5 * fixed, 3.0 * fixed, xtol=1e-12))
    factor = (drift / fixed) ** 2
    expected = [
        operating_characteristics(spending, fractions, drift=share * drift).expected_fraction * factor
        for share in (1.0, 0.5, 0.0)
    ]
    return Inflation(factor, drift, *expected)
