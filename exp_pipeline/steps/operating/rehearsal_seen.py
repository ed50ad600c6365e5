"""What people would have seen of a rehearsed day: units by arm, verdicts that do not pass, messages."""

from __future__ import annotations

import json
from datetime import date

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.steps.context import Workbench, event_day
from exp_pipeline.steps.operating.rehearsal_told import Page


def units_so_far(bench: Workbench, brief: Brief, day: date) -> tuple[dict[str, int], float | None]:
    """How many randomised units are in each arm at the end of a day, and the sequential SRM p-value."""
    rows = _rows(bench, "srm_daily", day).filter(pl.col("experiment") == brief.name)
    units = dict(rows.select("arm", "units").iter_rows())
    p_value = rows["sequential_p_value"][0] if rows.height else None
    return {arm.name: int(units.get(arm.name, 0)) for arm in brief.arms}, p_value


def verdicts_of(bench: Workbench, brief: Brief, day: date, srm_p_value: float | None) -> tuple[str, ...]:
    """What fails on a day: the sample ratio, guardrails (or a kill rule acts), data quality."""
    guarded = _rows(bench, "guardrails_daily", day).filter(
        (pl.col("status") == "fail") | pl.col("kill_triggered")
    )
    quality = _rows(bench, "data_quality", day).filter(pl.col("verdict") == "fail")
    mismatch = srm_p_value is not None and srm_p_value < brief.srm_alpha
    return (
        *([f"sample ratio: fail (p below {brief.srm_alpha:g})"] if mismatch else []),
        *(
            f"{row['metric']} in {row['arm']}: {row['status']}"
            + (", kill rule acts" if row["kill_triggered"] else "")
            for row in guarded.sort("metric", "arm").iter_rows(named=True)
        ),
        *(
            f"{rule} fails on {subject}"
            for rule, subject in quality.sort("rule", "subject").select("rule", "subject").iter_rows()
        ),
    )


def messages_after(bench: Workbench, told: int) -> tuple[Page, ...]:
    """Every message but the first `told`."""
    path = bench.home.notifications
    lines = path.read_text().splitlines() if path.is_file() else []
    return tuple(
        Page.model_validate({name: one[name] for name in Page.model_fields})
        for one in (json.loads(line) for line in lines[told:])
    )


def _rows(bench: Workbench, table: str, day: date) -> pl.DataFrame:
    manifest = bench.lake.manifest(table, event_day(day))
    bench.read("rehearsed_rows", table, [] if manifest is None else [manifest])
    return bench.engine.frame("select * from rehearsed_rows order by all")
