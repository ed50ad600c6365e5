"""tea-tasting: every metric by arm and segment, plain and adjusted. by_tea_tasting.py TASK DATA OUT

Three ways are timed. `readout-segments` calls its entry point on the whole, then on each segment's rows, in
polars. `readout-sums-duckdb` and `readout-sums-polars` ask its `read_aggregates` for arm and segment in one
pass, add up the segments, and hand the sums to the same entry point.
"""

from __future__ import annotations

import json
import sys
from typing import Any

METRICS, RATIO, SEGMENTS = 20, 19, 10


def experiment() -> Any:
    """Plain and adjusted metrics in one experiment, so that each column is summed once."""
    import tea_tasting as tt  # type: ignore[import-not-found]

    metrics: dict[str, Any] = {}
    for place in range(METRICS):
        name, before = f"m{place}", f"p{place}"
        if place == RATIO:
            metrics[name] = tt.RatioOfMeans(name, "base")
            metrics[f"{name}_adjusted"] = tt.RatioOfMeans(name, "base", before)
        else:
            metrics[name] = tt.Mean(name)
            metrics[f"{name}_adjusted"] = tt.Mean(name, before)
    return tt.Experiment(metrics, variant="arm")


def rows(found: Any, segment: str) -> list[list[Any]]:
    """[metric, arm, segment, adjusted, effect, se, interval, p, relative interval]"""
    return [
        [
            *(name.removesuffix("_adjusted"), arm, segment, name.endswith("_adjusted")),
            *(one.effect_size, one.effect_size / one.statistic),
            *(one.effect_size_ci_lower, one.effect_size_ci_upper, one.pvalue),
            *(one.rel_effect_size_ci_lower, one.rel_effect_size_ci_upper),
        ]
        for (_, arm), result in found.items()
        for name, one in result.items()
    ]


def by_segments(path: str) -> list[list[Any]]:
    """The whole table, then the rows of each segment."""
    import polars as pl

    asked, frame = experiment(), pl.read_parquet(path)
    found = rows(asked.analyze(frame, control="control", all_variants=True), "")
    for (segment,), part in frame.group_by("grade"):
        found += rows(asked.analyze(part, control="control", all_variants=True), str(segment))
    return found


def by_sums(path: str, engine: str) -> list[list[Any]]:
    """One pass by arm and segment; the whole is the sum of the segments."""
    from tea_tasting.aggr import read_aggregates  # type: ignore[import-not-found]
    from tea_tasting.metrics import AggrCols  # type: ignore[import-not-found]

    asked = experiment()
    columns = AggrCols()
    for metric in asked.metrics.values():
        columns |= metric.aggr_cols
    data: Any
    if engine == "duckdb":
        import ibis  # type: ignore[import-not-found]

        table = ibis.duckdb.connect().read_parquet(path)
        data = table.mutate(cell=table.arm + "|" + table.grade)
    else:
        import polars as pl

        data = pl.scan_parquet(path).with_columns(cell=pl.col("arm") + "|" + pl.col("grade"))
    cells = read_aggregates(
        data,
        "cell",
        has_count=True,
        mean_cols=columns.mean_cols,
        var_cols=columns.var_cols,
        cov_cols=columns.cov_cols,
    )
    by: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for cell, sums in cells.items():
        arm, segment = cell.split("|")
        by.setdefault(segment, {})[arm] = sums
        whole[arm] = whole[arm] + sums if arm in whole else sums
    found = rows(asked.analyze(whole, control="control", all_variants=True), "")
    for segment, arms in by.items():
        found += rows(asked.analyze(arms, control="control", all_variants=True), segment)
    return found


def main() -> None:
    """Do one task and write its rows."""
    task, data, out = sys.argv[1:]
    path = f"{data}/units.parquet"
    way = task.removeprefix("readout-")
    found = by_segments(path) if way == "segments" else by_sums(path, way.removeprefix("sums-"))
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"rows": found}, file)


if __name__ == "__main__":
    main()
