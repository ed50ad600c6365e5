"""What was drawn: the record of a draw, and its table in the lake."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.draws import Draw
from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import Workbench
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog, state_log

TABLE, UNIT, KIND = "drawn_assignments", "unit_id", "draw"


def draw_of(home: Home, brief: Brief) -> Draw | None:
    """The record of a brief's draw; None where none was made for its version."""
    entries = log_of(home).entries(KIND, subject_of(brief))
    return Draw.model_validate(dict(entries[0].content)) if entries else None


def drawn_arms(bench: Workbench, brief: Brief) -> pl.DataFrame | None:
    """The stored table of a brief's draw (unit_id by pseudonym, drawn_arm); None where there is none.

    Raises ExpError where a draw is recorded and its table is missing.
    """
    record = draw_of(bench.home, brief) if brief.assignment == "table" else None
    if record is None:
        return None
    manifest = bench.lake.manifest(TABLE, partition_of(brief))
    if manifest is None:
        raise ExpError(
            f"the table of {brief.name}, drawn on {record.drawn_at:%Y-%m-%d}, is missing; run `exp assign "
            f"{brief.name} --units FILE` with the same list to store it again"
        )
    table = pl.read_parquet(bench.lake.paths([manifest]), columns=[UNIT, "arm"])
    return table.rename({"arm": "drawn_arm"})


def arms_by_id(bench: Workbench, brief: Brief, unit_ids: Sequence[str]) -> dict[str, str]:
    """The drawn arms of units named as the product names them; units that are not in the table are left out.

    Raises ExpError where nothing was drawn, or without an identity key.
    """
    drawn = drawn_arms(bench, brief)
    if drawn is None:
        raise ExpError(
            f"{brief.name} version {brief.version} takes its arms from a table, and none was drawn: run "
            f"`exp assign {brief.name} --units FILE`"
        )
    if bench.key is None:
        raise ExpError("no identity key: set EXP_HMAC_KEY to the secret text that the table was drawn under")
    arms = dict(drawn.iter_rows())
    names = {one: bench.key.pseudonym(one) for one in unit_ids}
    return {one: arms[name] for one, name in names.items() if name in arms}


def partition_of(brief: Brief) -> str:
    """The partition of the lake's table of draws that belongs to a brief's version."""
    return f"draw={brief.name}_v{brief.version}"


def log_of(home: Home) -> StateLog:
    """The log that holds the records of draws."""
    return state_log(home)


def subject_of(brief: Brief) -> str:
    """How a brief's version is named in the log."""
    return f"{brief.name}:v{brief.version}"
