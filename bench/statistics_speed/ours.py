"""Ours, each task as a user would write it: read the file, call the public function, write estimates as JSON.

ours.py TASK DATA OUT. What is timed within runs some times; its median is written beside the rows.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exp_pipeline.stats.many.effects import ManyEffects
    from exp_pipeline.stats.moments_table import MomentsTable

METRICS, RATIO, SEGMENTS, RUNS = 20, 19, 10, 7
ARMS = ("control", "hints", "worked")
FIELDS = ("absolute", "se", "ci_lower", "ci_upper", "p_value", "relative_ci_lower", "relative_ci_upper")


def inner(work: Callable[[], Any], runs: int = RUNS) -> tuple[Any, dict[str, float]]:
    """The answer, and the median of wall and of CPU seconds."""
    walls, used, answer = [], [], None
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        used.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    middle = runs // 2
    return answer, {"inner_seconds": sorted(walls)[middle], "inner_cpu_seconds": sorted(used)[middle]}


def readout(data: Path) -> dict[str, Any]:
    """Every metric by arm and segment, plain and adjusted for its own value before."""
    from exp_pipeline.analysis.tables.grouped import Outcome
    from exp_pipeline.analysis.tables.grouped_effects import TableDesign, effects_of_table

    outcomes = [
        Outcome(f"m{place}", f"m{place}", "mean", None, (f"p{place}",))
        if place != RATIO
        else Outcome(f"m{place}", f"m{place}", "ratio", "base", (f"p{place}",))
        for place in range(METRICS)
    ]
    design = TableDesign("arm", "control", tuple(outcomes), segments=("grade",))
    rows = effects_of_table(data / "units.parquet", design)
    keys = (rows[name].to_list() for name in ("outcome", "arm", "segment_value", "adjusted"))
    numbers = zip(*(rows[name].to_list() for name in FIELDS), strict=True)
    found = zip(*keys, numbers, strict=True)
    return {"rows": [[metric, arm, segment or "", adj, *of] for metric, arm, segment, adj, of in found]}


def _tables(sums: Any, places: Sequence[int]) -> tuple[MomentsTable, MomentsTable]:
    """Moments of control and of treatment from raw sums, by metric, segment and treatment arm."""
    import numpy as np

    from exp_pipeline.stats.moments_table import MomentsTable

    first, squares, other, other_squares, both = (
        np.stack([sums[f"{part}_{place}"] for place in places])
        for part in ("sum", "squares", "other", "other_squares", "both")
    )
    n = np.broadcast_to(sums["n"], first.shape)
    means = np.stack((first / n, other / n), axis=-1)
    products = np.empty((*n.shape, 2, 2))
    products[..., 0, 0] = squares - first * first / n
    products[..., 1, 1] = other_squares - other * other / n
    products[..., 0, 1] = products[..., 1, 0] = both - first * other / n
    control, treatment = (
        MomentsTable.of_sums(
            n[:, :, arms].astype(np.int64).reshape(-1),
            means[:, :, arms].reshape(-1, 2),
            products[:, :, arms].reshape(-1, 2, 2),
            ("outcome", "other"),
        )
        for arms in ([0, 0], [1, 2])
    )
    return control, treatment


def _every_effect(sums: Any) -> list[tuple[Sequence[int], bool, ManyEffects]]:
    from exp_pipeline.stats.many.effects import many_adjusted, many_means, many_ratios

    means = [place for place in range(METRICS) if place != RATIO]
    of_means, of_ratio = _tables(sums, means), _tables(sums, [RATIO])
    return [
        (means, False, many_means(*of_means, outcome="outcome")),
        (means, True, many_adjusted(*of_means, outcome="outcome", covariates=("other",))),
        ([RATIO], False, many_ratios(*of_ratio, numerator="outcome", denominator="other")),
    ]


def _rows_of_many(found: Iterable[tuple[Sequence[int], bool, ManyEffects]]) -> list[list[Any]]:
    segments = ["", *(f"grade {place}" for place in range(SEGMENTS))]
    rows = []
    for places, adjusted, many in found:
        cells = [(f"m{place}", arm, segment) for place in places for segment in segments for arm in ARMS[1:]]
        numbers = zip(*(getattr(many, name).tolist() for name in FIELDS), strict=True)
        rows += [[*cell, adjusted, *of] for cell, of in zip(cells, numbers, strict=True)]
    return rows


def arithmetic(data: Path) -> dict[str, Any]:
    """From raw sums by arm and segment to estimates, as arrays."""
    import numpy as np

    with np.load(data / "sums.npz") as stored:
        sums = dict(stored)
    found, laps = inner(lambda: _every_effect(sums))
    return {"rows": _rows_of_many(found), **laps}


def arithmetic_objects(data: Path) -> dict[str, Any]:
    """The same, with one result object made for each comparison, as the peer makes them."""
    import numpy as np

    with np.load(data / "sums.npz") as stored:
        sums = dict(stored)

    def work() -> list[Any]:
        return [many.at(place) for _, _, many in _every_effect(sums) for place in range(len(many))]

    found, laps = inner(work)
    return {"objects": len(found), **laps}


def clusters(data: Path) -> dict[str, Any]:
    """Twenty outcomes of units in randomised classes, once."""
    import polars as pl

    from exp_pipeline.stats.many.clusters import many_clustered_differences

    frame = pl.read_parquet(data / "clusters.parquet")
    names = [f"m{place}" for place in range(METRICS)]
    outcomes = [frame[name].to_numpy() for name in names]
    treated, cluster = frame["treated"].to_numpy() == 1.0, frame["class"].to_numpy()
    found, laps = inner(lambda: many_clustered_differences(outcomes, treated, cluster, method="cr1"), 1)
    rows = [
        [name, "treated", "", False, *(getattr(one, field) for field in FIELDS)]
        for name, one in zip(names, found, strict=True)
    ]
    return {"rows": rows, **laps}


def quantile(data: Path) -> dict[str, Any]:
    """The difference of 95th percentiles over rows that belong to learners."""
    import polars as pl

    from exp_pipeline.stats.effects.quantiles import difference_in_quantiles

    frame = pl.read_parquet(data / "latencies.parquet")
    treated = frame["treated"].to_numpy()
    values, learner = frame["latency_ms"].to_numpy(), frame["learner"].to_numpy()
    sides = (values[~treated], learner[~treated], values[treated], learner[treated])
    one, laps = inner(lambda: difference_in_quantiles(*sides, quantile=0.95))
    return {"rows": [["p95", "treated", "", False, *(getattr(one, field) for field in FIELDS)]], **laps}


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "readout": readout,
    "arithmetic": arithmetic,
    "arithmetic-objects": arithmetic_objects,
    "clusters": clusters,
    "quantile": quantile,
}


def main(arguments: Sequence[str]) -> None:
    """Do one task and write its rows."""
    task, data, out = arguments
    Path(out).write_text(json.dumps(TASKS[task](Path(data))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
