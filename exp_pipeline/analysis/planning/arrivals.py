"""When the units of an experiment come, and how many have had their window by a day."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from exp_pipeline.model.brief import Brief
from exp_pipeline.stats.power.enrolment import EnrolmentCurve

# A search for the last day of enrolment ends here: nobody runs an experiment for ten years.
_LONGEST_DAYS = 3650
WEEK = 7
# From which day since the start how much more traffic is let in.
Steps = tuple[tuple[int, float], ...]
# How many units have enrolled once so many days are over, where traffic is let in by steps.
Enrolment = Callable[[Steps, int], float]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How many units the experiment has enrolled after so many days; `length` days are known."""

    enrolled: Callable[[int], float]
    length: int
    window: int

    def counted(self, days: int) -> float:
        """How many have had their whole window when the experiment stops after so many days?"""
        return self.enrolled(days - self.window + 1)

    def days_for(self, units: float) -> int | None:
        """Whole weeks, in days, until so many units have had their window; None where they never come."""
        if self.enrolled(self.length) < units:
            return None
        low, high = 0, self.length
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.enrolled(middle) >= units else (middle, high)
        return WEEK * math.ceil((high + self.window - 1) / WEEK)


def arrivals_of(
    brief: Brief,
    units_per_day: float | None,
    curve: EnrolmentCurve | None,
    window: int,
    steps: Steps | None = None,
) -> Arrivals | None:
    """How many units has the experiment enrolled by each day? None where nobody knows.

    steps: when how much traffic is let in; where None, each stage of the ramp lasts no longer than it must.
    """
    found = enrolment_of(brief, units_per_day, curve)
    if found is None:
        return None
    let_in = traffic_steps(brief) if steps is None else tuple(steps)
    length = _LONGEST_DAYS if curve is None else len(curve.cumulative)
    return Arrivals(lambda days: found(let_in, days), length, window)


def enrolment_of(brief: Brief, units_per_day: float | None, curve: EnrolmentCurve | None) -> Enrolment | None:
    """How many units are in, once so many days are over, where traffic is let in by steps? None: unknown.

    A ramp lets its units in later: those that a step adds come from its day on. Whoever comes again counts
    as one who comes anew, as at the start. Without a curve, units come at one rate on each day that is no
    blackout day.
    """
    if curve is not None:
        return lambda steps, days: sum(share * curve.units(days - first) for first, share in steps)
    rate = brief.expected_units_per_day if units_per_day is None else units_per_day
    if rate is None or rate <= 0.0:
        return None
    shut = sorted((day - brief.start).days for day in set(brief.blackout_days))

    def enrolled(steps: Steps, days: int) -> float:
        open_days = (
            share * max(days - first - sum(1 for closed in shut if first <= closed < days), 0)
            for first, share in steps
        )
        return rate * sum(open_days)

    return enrolled


def traffic_steps(brief: Brief) -> Steps:
    """From which day since the start is how much more traffic let in, if every stage lasts its shortest?"""
    if not brief.ramp:
        return ((0, brief.traffic),)
    found, day, before = [], 0, 0.0
    for stage in brief.ramp:
        found.append((day, stage.traffic - before))
        day, before = day + stage.dwell_days, stage.traffic
    return tuple(found)
