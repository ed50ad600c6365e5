"""P-values corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Mapping


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Which p-values hold the chance of any false alarm in the family at its level? Holm (1979), step-down.

    p: name -> p-value in [0, 1]; leave out what could not be estimated. Answers in the order given.
    """
    ranked = _ranked(p)
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(ranked):
        highest = max(highest, min(1.0, (len(ranked) - rank) * p[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p}


def benjamini_hochberg(p: Mapping[str, float]) -> dict[str, float]:
    """Which p-values hold the expected share of false alarms among the finds? Benjamini and Hochberg (1995).

    p: name -> p-value in [0, 1], independent or positively dependent. Answers in the order given.
    """
    ranked = _ranked(p)
    adjusted: dict[str, float] = {}
    lowest = 1.0
    for rank in range(len(ranked), 0, -1):
        name = ranked[rank - 1]
        lowest = min(lowest, p[name] * len(ranked) / rank)
        adjusted[name] = lowest
    return {name: adjusted[name] for name in p}


def _ranked(p: Mapping[str, float]) -> list[str]:
    for name, value in p.items():
        if math.isnan(value) or not 0.0 <= value <= 1.0:
            raise ValueError(f"p of {name!r} must lie between 0 and 1, got {value!r}")
    return sorted(p, key=lambda name: p[name])
