"""gbstats: from raw sums by arm and segment to estimates. by_gbstats.py TASK DATA OUT

Its test class is called directly, without its table-shaped runner, which takes longer. Differences are
absolute; for relative ones it would have to be asked again. It has no adjustment of a ratio.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

METRICS, RATIO, SEGMENTS, RUNS = 20, 19, 10, 7
ARMS = ("control", "hints", "worked")


def statistics(sums: dict[str, Any], place: int, segment: int, arm: int) -> dict[bool, Any]:
    """Its statistic of one arm, plain (False) and adjusted (True)."""
    from gbstats.models.statistics import (  # type: ignore[import-not-found]
        RatioStatistic,
        RegressionAdjustedStatistic,
        SampleMeanStatistic,
    )

    at = (segment, arm)
    n = int(sums["n"][at])
    parts = ("sum", "squares", "other", "other_squares", "both")
    first, squares, other, other_squares, both = (float(sums[f"{part}_{place}"][at]) for part in parts)
    main = SampleMeanStatistic(n=n, sum=first, sum_squares=squares)
    beside = SampleMeanStatistic(n=n, sum=other, sum_squares=other_squares)
    if place == RATIO:
        found = RatioStatistic(n=n, m_statistic=main, d_statistic=beside, m_d_sum_of_products=both)
        return {False: found}
    adjusted = RegressionAdjustedStatistic(
        n=n, post_statistic=main, pre_statistic=beside, post_pre_sum_of_products=both, theta=0.0
    )
    return {False: main, True: adjusted}


def every_test(sums: dict[str, Any]) -> list[tuple[str, str, str, bool, Any]]:
    """One result for each metric, arm, segment and adjustment."""
    from gbstats.frequentist.tests import (  # type: ignore[import-not-found]
        FrequentistConfig,
        TwoSidedTTest,
    )

    config = FrequentistConfig(difference_type="absolute", alpha=0.05)
    segments = ["", *(f"grade {place}" for place in range(SEGMENTS))]
    found = []
    for place in range(METRICS):
        for number, segment in enumerate(segments):
            for arm in (1, 2):
                # A test changes the statistics that it is given, so each gets its own.
                control, treatment = (statistics(sums, place, number, side) for side in (0, arm))
                for adjusted in control:
                    result = TwoSidedTTest(control[adjusted], treatment[adjusted], config).compute_result()
                    found.append((f"m{place}", ARMS[arm], segment, adjusted, result))
    return found


def main() -> None:
    """Time the arithmetic and write its rows."""
    import gbstats.frequentist.tests  # type: ignore[import-not-found]  # noqa: F401
    import numpy as np

    task, data, out = sys.argv[1:]
    with np.load(f"{data}/sums.npz") as stored:
        sums = dict(stored)
    walls, used, found = [], [], []
    for _ in range(RUNS if task == "arithmetic" else 1):
        wall, cpu = time.perf_counter(), time.process_time()
        found = every_test(sums)
        used.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    rows = [
        [*keys, one.expected, one.uplift.stddev, *one.ci, one.p_value, None, None] for *keys, one in found
    ]
    laps = {
        "inner_seconds": sorted(walls)[len(walls) // 2],
        "inner_cpu_seconds": sorted(used)[len(used) // 2],
    }
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"rows": rows, **laps}, file, default=float)


if __name__ == "__main__":
    main()
