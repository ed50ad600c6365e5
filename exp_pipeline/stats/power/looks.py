"""What repeated looks cost in units, and when they are likely to end the experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from exp_pipeline.stats.looks.always_valid import Mixture, best_information
from exp_pipeline.stats.looks.operating import drift_for_power, fixed_drift, stopping
from exp_pipeline.stats.looks.spending import Sides, Spending, boundaries


@dataclass(frozen=True, slots=True)
class LooksPlan:
    """What do these looks cost, if the effect is as planned?

    inflation: units at the last look over those of a design with one look and the same power. critical: the
    boundary of each look in standard errors. found_by: probability that the effect has been found by each
    look. expected_share: units at the stop, on average, over those of one look; below 1 where the chance of
    an early end outweighs the inflation.
    """

    fractions: tuple[float, ...]
    critical: tuple[float, ...]
    inflation: float
    found_by: tuple[float, ...]
    expected_share: float


def group_sequential_looks(spending: Spending, fractions: Sequence[float], *, power: float) -> LooksPlan:
    """What do planned looks with a spending function cost?

    fractions: units at the looks as a share of those at the last, rising to 1. Stops on the wrong side do not
    count as power. Raises ValueError for fractions that do not end at 1, or power not above alpha.
    """
    if not fractions or fractions[-1] != 1.0:
        raise ValueError(f"fractions must rise to 1, got {tuple(fractions)!r}")
    found = boundaries(spending, fractions)
    return _looks(found.critical, found.fractions, spending.alpha, spending.sides, power)


def always_valid_looks(*, alpha: float, power: float, looks: int, sides: Sides = 2) -> LooksPlan:
    """What does an always-valid interval cost, tuned to the planned end and looked at so often until then?

    Looks are evenly spaced; those of a normal mixture that is narrowest at the last (see
    `sequential.always_valid_interval`). One-sided bounds use the half-normal mixture.
    """
    if looks < 1:
        raise ValueError(f"looks must be at least 1, got {looks!r}")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha!r}")
    fractions = tuple((look + 1) / looks for look in range(looks))
    critical = tuple(always_valid_critical(alpha, fraction, sides=sides) for fraction in fractions)
    return _looks(critical, fractions, alpha, sides, power)


def always_valid_critical(alpha: float, fraction: float, *, sides: Sides = 2) -> float:
    """How many standard errors wide is the always-valid interval at this share of the planned units?"""
    one_sided = sides == 1
    best = best_information(alpha, one_sided=one_sided)
    return Mixture(best * fraction, math.inf, one_sided=one_sided).radius(alpha)


def _looks(
    critical: Sequence[float], fractions: Sequence[float], alpha: float, sides: Sides, power: float
) -> LooksPlan:
    fixed = fixed_drift(alpha, sides, power)
    drift = drift_for_power(critical, fractions, sides=sides, power=power, start=fixed)
    at = stopping(critical, fractions, sides=sides, drift=drift)
    inflation = (drift / fixed) ** 2
    return LooksPlan(
        fractions=tuple(fractions),
        critical=tuple(critical),
        inflation=inflation,
        found_by=tuple(accumulate(at.upper)),
        expected_share=inflation * at.expected_fraction,
    )
