"""Briefs, metrics and unit tables with known content, for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from exp_pipeline.analysis.inputs import ReadoutInputs
from exp_pipeline.model.brief import Arm, Brief, Hypothesis
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.metrics import Metric
from exp_pipeline.model.readout import LockState, Provenance

START, END = date(2026, 3, 2), date(2026, 3, 30)
LAST_DAY = END - timedelta(days=1)

HYPOTHESIS = Hypothesis(
    change="show a worked example",
    population="students of grade 7",
    context="the fractions unit",
    moves="more problems are solved",
    because="an example lowers the load",
    without_harming="response time",
)


def brief_of(**changes: Any) -> Brief:
    """A plain brief: two equal arms, one primary share, nothing else."""
    fields: dict[str, Any] = {
        "name": "worked-example",
        "title": "Worked example first",
        "hypothesis": HYPOTHESIS,
        "owner": "tutor team",
        "on_call": "tutor on-call",
        "arms": (Arm(name="control", share=0.5), Arm(name="treatment", share=0.5)),
        "control": "control",
        "start": START,
        "end": END,
        "primary": "solved",
        "mde": Size(absolute=0.02),
        "variance_reduction": {"method": "none"},
    }
    return Brief(**(fields | changes))


def metric_of(name: str, **changes: Any) -> Metric:
    """A metric over a measure of its own name."""
    fields: dict[str, Any] = {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "owner": "tutor team",
        "definition": f"What {name} means.",
        "type": "proportion",
        "numerator": name,
        "direction": "increase",
        "kind": "output",
        "display": "share",
    }
    return Metric(**(fields | changes))


def locked(brief: Brief) -> LockState:
    """The lock of a brief that stands."""
    return LockState(
        locked_digest=brief.analysis_digest(),
        current_digest=brief.analysis_digest(),
        locked_at=datetime(2026, 3, 1, 8),
    )


def inputs_of(
    brief: Brief,
    metrics: Mapping[str, Metric],
    mad: pl.DataFrame,
    *,
    as_of: date = LAST_DAY,
    lock: LockState | None = None,
    **changes: Any,
) -> ReadoutInputs:
    """Inputs at the horizon under a standing lock."""
    provenance = Provenance(
        snapshot="snapshot-1",
        brief_digest=brief.digest(),
        metrics_digest="0" * 64,
        code_version="test",
        run_id="run-1",
        as_of=as_of,
        source="test",
    )
    fields: dict[str, Any] = {"days": None} | changes
    return ReadoutInputs(
        brief=brief,
        metrics=metrics,
        mad=mad,
        as_of=as_of,
        lock=lock or locked(brief),
        provenance=provenance,
        **fields,
    )


def units_table(arms: Sequence[str], **columns: Any) -> pl.DataFrame:
    """One row for each arm given, assigned over the experiment's days and exposed at once."""
    n = len(arms)
    days = [START + timedelta(days=position // 2 % 28) for position in range(n)]
    moments = [datetime(day.year, day.month, day.day, 9) for day in days]
    fixed: dict[str, Any] = {
        "experiment": ["worked-example"] * n,
        "version": [1] * n,
        "unit_id": [f"u{position:06d}" for position in range(n)],
        "arm": list(arms),
        "assigned_at": pl.Series(moments, dtype=pl.Datetime("us")),
        "assigned_date": pl.Series(days, dtype=pl.Date),
        "cluster_id": pl.Series([None] * n, dtype=pl.String),
        "stratum": pl.Series([None] * n, dtype=pl.String),
        "contaminated": [False] * n,
        "exposed": [True] * n,
        "first_exposed_at": pl.Series(moments, dtype=pl.Datetime("us")),
        "exposures": [1] * n,
    }
    return pl.DataFrame(fixed | columns)


def ones(successes: int, n: int) -> list[float]:
    """Outcomes of n units of which so many are successes, spread evenly."""
    marks = np.zeros(n)
    if successes:
        marks[np.floor(np.arange(successes) * n / successes).astype(int)] = 1.0
    return [float(mark) for mark in marks]
