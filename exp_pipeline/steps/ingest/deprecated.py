"""Deprecated parts of the contracts in use: which rows of the newest days would be missed after their end?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from exp_pipeline.contracts.deprecations import Deprecation, deprecation_counts, deprecations
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of
from exp_pipeline.transform import queries


@dataclass(frozen=True, slots=True)
class InUse:
    """A deprecated version or column and the rows of some days that use it.

    `rows` became events, `rows_after` of them were received after its last day, the newest at `last_received`
    (UTC; None where no row uses it). `refused` are rows of the event in quarantine, received after a
    version's last day.
    """

    what: Deprecation
    rows: int
    rows_after: int
    refused: int
    last_received: datetime | None


def newest_days(bench: Workbench, days: int) -> Window | None:
    """The newest `days` event days of the lake, whether each has events or not; None where none has."""
    if days < 1:
        raise ValueError(f"days must be at least 1; got {days}")
    partitions = bench.lake.partitions("events")
    if not partitions:
        return None
    last: date = day_of(partitions[-1])
    return Window.of(last - DAY * (days - 1), last)


def deprecated_in_use(bench: Workbench, window: Window) -> tuple[InUse, ...]:
    """Which rows of the window's days still use what is deprecated? One entry each, used or not."""
    bench.read_days("deprecated_events", "events", window)
    bench.read_days("deprecated_quarantine", "quarantine", window)
    text = queries.query_text(deprecation_counts("deprecated_events"))
    counted = bench.engine.connection.execute(text).fetchall()
    refused = dict(
        bench.engine.connection.execute(
            "select event_name, count(*) from deprecated_quarantine where reason = 'past_sunset' "
            "group by event_name"
        ).fetchall()
    )
    return tuple(
        InUse(
            what=what,
            rows=rows,
            rows_after=after,
            refused=refused.get(what.event_name, 0) if what.column is None else 0,
            last_received=last,
        )
        for what, (_, rows, after, last) in zip(deprecations(), counted, strict=True)
    )
