"""Which results of a trial with several looks are more extreme than others: the stage-wise ordering."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exp_pipeline.stats.looks.spending import Sides, reach_at


def stagewise(
    critical: Sequence[float],
    shares: Sequence[float],
    statistic: float,
    drift: float,
    sides: Sides,
    *,
    fell: bool,
    from_below: bool = False,
) -> float:
    """How likely is a stop as high in the ordering? Early upper stops are highest, early lower lowest.

    fell: the trial stopped low, so its own tail is the lower one. from_below: that tail itself, which keeps
    its digits when it is tiny.
    """
    found = reach_at(critical[:-1], shares, statistic, drift=drift, sides=sides)
    if not fell:
        return found.above + found.crossed_upper
    low = found.below + found.crossed_lower
    return low if from_below else 1.0 - low


def value_at(
    as_large: Callable[[float], float],
    wanted: float,
    start: float,
    scale: float,
    *,
    lowest: float,
    falling: bool,
) -> float:
    """The effect at which results at least as large have probability `wanted`; never below `lowest`."""
    from scipy import optimize

    def gap(value: float) -> float:
        return (wanted - as_large(value)) if falling else (as_large(value) - wanted)

    low = high = start
    step = 2.0 * scale
    while gap(low) > 0.0:
        high = low
        low, step = max(low - step, 0.5 * (low + lowest)), 2.0 * step
    step = 2.0 * scale
    while gap(high) < 0.0:
        low = high
        high, step = high + step, 2.0 * step
    if low == high:
        return low
    return float(optimize.brentq(gap, low, high, xtol=1e-10 * scale, rtol=1e-14))
