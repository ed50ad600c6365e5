"""Which experiments are blinded: whose rows must not be laid beside their arm."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from exp_pipeline.analysis.deciding.blinding import ARM_COLUMNS, rows_blinded_because
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.readout import Readout
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.stored_readouts import stored_readout


def blinded_experiments(bench: Workbench, names: Iterable[str] | None = None) -> dict[str, str]:
    """Which experiments' rows must be shown without their arm, and why? By name, in order.

    Asked for tables that go on from day to day (unit-days, assignments, events). Every experiment with a
    brief (or each of `names`) is in it, unless its current readout, made from the brief as it stands, says
    that the horizon was reached or a reason to unblind was recorded, and no integrity check failed.
    """
    found: dict[str, str] = {}
    for name in sorted(bench.catalog.briefs if names is None else names):
        because = rows_blinded_because(bench.catalog.briefs.get(name), _current_readout(bench, name))
        if because is not None:
            found[name] = because
    return found


def without_arms(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of units as they may be shown while their experiment is blinded: nothing in them tells the arm."""
    return frame.drop([name for name in ARM_COLUMNS if name in frame.columns])


def _current_readout(bench: Workbench, experiment: str) -> Readout | None:
    """The readout of the current snapshot as it was sealed; None where there is none that can be read.

    What was changed since it was sealed, or is damaged, opens nothing; the warehouse says which file it is.
    """
    try:
        return stored_readout(bench.home, experiment)
    except StoreError:
        return None
