"""Makes golden_spending_long.json: boundaries of many, and of very unequal, looks.

They come from the recursion of Jennison and Turnbull (2000), chapter 19, as the Python package gsdesign has
it, on a fine grid; rpact's own grid keeps about four digits there. Run in an environment of its own: pip
install numpy scipy gsdesign==0.1.5. Run python goldens_sequential.py in this folder.
"""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gsdesign import h1, hupdate  # type: ignore[import-not-found]
from scipy import optimize, stats

FINE = 240


def spent(family: str, alpha: float, sides: int, t: float) -> float:
    one = alpha / sides
    if family == "obrien-fleming":
        return sides * 2 * float(stats.norm.sf(stats.norm.isf(one / 2) / math.sqrt(t)))
    return sides * one * (math.log(1 + (math.e - 1) * t) if family == "pocock" else t**1.5)


def critical(family: str, alpha: float, sides: int, fractions: list[float]) -> list[float]:
    found: list[float] = []
    grid: Any = None
    used = 0.0
    for look, t in enumerate(fractions):
        wanted = (spent(family, alpha, sides, t) - used) / sides
        used = spent(family, alpha, sides, t)
        before = fractions[look - 1] if look else 0.0
        if look == 0 or wanted < 1e-13:  # beyond the grid; paths that crossed before weigh nothing
            bound = float(stats.norm.isf(wanted))
        else:

            def missing(c: float) -> float:
                # From the densities of the look before; a grid from c on would be too coarse out there.
                steps = (c * math.sqrt(t) - grid[0] * math.sqrt(before)) / math.sqrt(t - before)  # noqa: B023
                weight = float(grid[2] @ stats.norm.sf(steps))  # noqa: B023
                return math.log(max(weight, 1e-300) / wanted)  # noqa: B023

            bound = float(optimize.brentq(missing, 1.0, float(stats.norm.isf(wanted)) + 0.1, xtol=1e-11))
        low = -bound if sides == 2 else -math.inf
        grid = h1(FINE, 0.0, t, low, bound) if look == 0 else hupdate(FINE, 0, t, low, bound, 0, before, grid)
        found.append(bound)
    return found


plans = {
    "twenty": [look / 20 for look in range(1, 21)],
    "twenty-eight": [look / 28 for look in range(1, 29)],
    "close": [0.3, 0.303, 0.7, 0.9, 1.0],
    "early": [0.1, 0.25, 0.6, 0.95, 1.0],
}
cases = []
for plan, fractions in plans.items():
    for family in ("obrien-fleming", "pocock", "kim-demets"):
        for sides, alpha in ((1, 0.025), (2, 0.05), (2, 0.01)):
            bounds = critical(family, alpha, sides, fractions)
            cases.append(
                {
                    "plan": plan,
                    "family": family,
                    "sides": sides,
                    "alpha": alpha,
                    "gamma": 1.5,
                    "fractions": fractions,
                    "critical": bounds,
                }
            )
            print(plan, family, sides, alpha, bounds[-1], flush=True)
tools = {name: version(name) for name in ("gsdesign", "numpy", "scipy")}
content = {"generator": Path(__file__).name, "tools": tools, "cases": cases}
Path(__file__).with_name("golden_spending_long.json").write_text(json.dumps(content))
