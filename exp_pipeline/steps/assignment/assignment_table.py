"""The assignment table: every randomised unit of an experiment, the arm logged and the arm its hash gives."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import polars as pl

from exp_pipeline.steps.assignment.fidelity import COLUMNS, assigned_units
from exp_pipeline.steps.context import Workbench, Written
from exp_pipeline.steps.experiments.chain import brief_of
from exp_pipeline.store.files import digest_of_file, replace_file, temporary_beside

__all__ = ["COLUMNS", "TABLE", "assignment_table", "path_of", "write_assignment_table"]

TABLE = "assignment_table"


def assignment_table(bench: Workbench, experiment: str, *, until: date | None = None) -> pl.DataFrame:
    """Which arm is every randomised unit in, and is it the arm that the brief's own rules give?

    One row per unit of the brief's kind (learner or class) with an assignment in the experiment's window
    (before `until`, if given), ordered by unit; columns as in `COLUMNS`. `arm` and `assigned_at` are of the
    first assignment logged (of two at one moment, neither arm is favoured), ids are pseudonyms, and a unit
    logged in two arms is `contaminated`. `hash_arm` is null where the brief's rules leave the unit out, and
    where it cannot be computed; `fault` says which rule a logged unit breaks (held_out, outside_layer,
    outside_traffic, other_arm) and `not_compared` why nothing can be told of it. Raises ExpError for an
    unknown experiment.
    """
    return assigned_units(bench, brief_of(bench, experiment), until=until)


def path_of(bench: Workbench, experiment: str) -> Path:
    """Where an experiment's assignment table lies."""
    return bench.home.marts / TABLE / f"experiment={experiment}" / f"{TABLE}.parquet"


def write_assignment_table(bench: Workbench, experiment: str) -> Written:
    """Write the assignment table as Parquet; the same assignments give the same bytes.

    The file is replaced at once: a reader sees the old table or the new one.
    """
    started = time.monotonic()
    frame = assignment_table(bench, experiment)
    path = path_of(bench, experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        frame.write_parquet(temporary, compression="zstd")
        digest = digest_of_file(temporary)
        if not (path.is_file() and digest_of_file(path) == digest):
            replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    compared = frame["agrees"].drop_nulls()
    return Written(
        table=TABLE,
        partition=f"experiment={experiment}",
        rows=frame.height,
        bytes=path.stat().st_size,
        seconds=round(time.monotonic() - started, 3),
        digest=digest,
        facts={
            "compared_with_hash": compared.len(),
            "not_as_hashed": int((~compared).sum()),
            **{f"fault_{fault}": count for fault, count in _counts(frame, "fault")},
            **{f"not_compared_{why}": count for why, count in _counts(frame, "not_compared")},
            "contaminated": int(frame["contaminated"].sum()),
        },
    )


def _counts(frame: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    return list(frame.drop_nulls(column).group_by(column).len().sort(column).iter_rows())
