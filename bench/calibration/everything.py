"""All cases, in the order of the table, and how they are shared out among processes."""

from __future__ import annotations

from functools import cache

from bench.calibration import (
    clustered,
    decisions,
    faulty,
    groups,
    looks,
    means,
    missing,
    quasi,
    rosters,
    shares,
    skewed,
)
from bench.calibration.cases import Case, RateCase


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case that is simulated."""
    return (
        *means.cases(),
        *shares.cases(),
        *clustered.cases(),
        *skewed.cases(),
        *missing.cases(),
        *quasi.cases(),
        *decisions.cases(),
        *groups.cases(),
        *looks.cases(),
        *rosters.cases(),
        *faulty.cases(),
    )


def batches(only: str = "") -> list[list[int]]:
    """Which places go to a process together? Whole readouts of one world share their runs, and go first."""
    together: dict[str, list[int]] = {}
    alone: list[list[int]] = []
    for place, case in enumerate(all_cases()):
        name = case.rule if isinstance(case, RateCase) else case.method
        if only.lower() not in f"{name}, {case.world}".lower():
            continue
        if isinstance(case, RateCase) and case.rule == rosters.RULE:
            together.setdefault(case.world, []).append(place)
        else:
            alone.append([place])
    return [*together.values(), *alone]
