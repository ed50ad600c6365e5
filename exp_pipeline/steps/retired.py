"""What was deleted because its time was over: by whom it is asked, so that nobody makes it again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from exp_pipeline.steps.context import day_of
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import state_log

RETENTION = "retention"
_AROUND, _WEEKS_BEFORE = 7, 182


def retired(home: Home) -> frozenset[tuple[str, str]]:
    """Every table and partition that retention deleted, as the log says."""
    found: set[tuple[str, str]] = set()
    for entry in state_log(home).entries(RETENTION):
        tables = entry.content.get("tables")
        for table, partitions in tables.items() if isinstance(tables, dict) else ():
            found |= {(str(table), str(partition)) for partition in partitions}
    return frozenset(found)


def left_alone(home: Home) -> Callable[[str, date], bool]:
    """Whether a table's day is deleted, or leans on days that are: made again, it would lose rows.

    Days lean on their neighbours of a week; data quality on weeks before it.
    """
    days = sorted({day_of(partition) for table, partition in retired(home) if table != "snapshots"})

    def is_left(table: str, day: date) -> bool:
        before = _WEEKS_BEFORE if table == "data_quality" else _AROUND
        return any(-_AROUND <= (day - gone).days <= before for gone in days)

    return is_left
