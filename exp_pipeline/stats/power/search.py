"""Tails and searches that every question of power comes down to."""

from __future__ import annotations

import math
from collections.abc import Callable

from exp_pipeline.stats.reference import upper_tail

MOST_UNITS = 1e12
# Beyond this the noncentral t is the normal to more digits than its series gives.
_NORMAL_DF = 1e5


def noncentral_tail(statistic: float, df: float, shift: float) -> float:
    """How likely is a t that is shifted by `shift` standard errors above `statistic`?"""
    if df > _NORMAL_DF:
        return upper_tail(statistic - shift, math.inf)
    from scipy import special

    found = float(1.0 - special.nctdtr(df, shift, statistic))
    if math.isnan(found):
        # Far out the series gives up; there the tail is 0 or 1 to every digit that is asked for.
        return upper_tail(statistic - shift, math.inf)
    return found


def root(reached: Callable[[float], float], start: float, what: str) -> float:
    """Where does a rising function first reach 0, from `start` up? Raises ValueError where it never does."""
    low, high = start, start
    while reached(high) < 0.0:
        low, high = high, high * 2.0
        if high > MOST_UNITS * max(start, 1.0):
            raise ValueError(f"{what} up to {high:g} do not reach the power that was asked for")
    return bisect(reached, low, high)


def bisect(reached: Callable[[float], float], low: float, high: float) -> float:
    """Where between `low` (below 0) and `high` (not below 0) does a rising function reach 0?"""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if reached(middle) < 0.0:
            low = middle
        else:
            high = middle
    return high


def round_up(value: float) -> int:
    """The next whole number; one that bisection left a hair above itself stays that number."""
    return math.ceil(value - 1e-9 * max(1.0, value))
