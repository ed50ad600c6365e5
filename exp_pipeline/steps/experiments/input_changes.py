"""In which inputs two snapshots of an experiment differ, and why; told from their records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from exp_pipeline.analysis.deciding.movement import changed_inputs
from exp_pipeline.model.readout import InputChange
from exp_pipeline.steps.context import Workbench, day_of

if TYPE_CHECKING:
    from exp_pipeline.store.lake import Manifest

CORRECTED = "corrected_rows"
Record = Mapping[str, object]


def inputs_of_record(record: Record) -> Record:
    """The digests of everything that a snapshot was made from."""
    inputs = record.get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def changes_between(old: Record | None, new: Record | None) -> tuple[InputChange, ...]:
    """What changed from one snapshot's record to another's? `unknown` where one of them is not there.

    Pure: which rows had been corrected stands in the records, so the answer is the same whenever it is asked.
    """
    if old is None or new is None:
        return (InputChange(why="unknown"),)
    before, now = corrected_by_day(old), corrected_by_day(new)
    days = {day for day, rows in now.items() if rows > before.get(day, 0)}
    return changed_inputs(inputs_of_record(old), inputs_of_record(new), corrected=days)


def corrected_by_day(record: Record) -> dict[date, int]:
    """Rows that stood corrected by others when a snapshot was made, by event day; days without any are left
    out."""
    found = record.get(CORRECTED)
    return (
        {date.fromisoformat(day): int(rows) for day, rows in found.items()} if isinstance(found, dict) else {}
    )


def corrected_now(bench: Workbench, partitions: Sequence[str]) -> dict[date, int]:
    """Rows that stand corrected by others in the lake now, by event day, of some days of quarantine."""
    manifests: tuple[Manifest, ...] = bench.lake.manifests("quarantine", partitions)
    if not manifests:
        return {}
    bench.read("refused_now", "quarantine", manifests)
    rows = bench.engine.connection.execute(
        "select event_date, count(*) from refused_now where reason = 'corrected' group by all order by all"
    ).fetchall()
    known = {day_of(manifest.partition) for manifest in manifests}
    return {day: int(count) for day, count in rows if day in known}


def changed_partitions(before: Record, now: Record, table: str) -> tuple[str, ...]:
    """The partitions of a table that two sets of inputs hold by different digests."""
    old, new = _partitions(before, table), _partitions(now, table)
    return tuple(sorted(name for name in {*old, *new} if old.get(name) != new.get(name)))


def _partitions(inputs: Record, table: str) -> Record:
    tables = inputs.get("tables")
    found = tables.get(table) if isinstance(tables, Mapping) else None
    return found if isinstance(found, Mapping) else {}
