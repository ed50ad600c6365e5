"""The published tables as plain data, by name, in the order of the asset graph."""

from __future__ import annotations

from exp_pipeline.contracts.published import behaviour, experiments, ingest
from exp_pipeline.contracts.published.base import PublishedTable

_BEFORE = (ingest.QUARANTINE, ingest.EXCLUSIONS)
_AFTER = (
    behaviour.BOUTS,
    behaviour.SESSIONS,
    behaviour.TURNS,
    behaviour.ENROLLMENTS,
    behaviour.CONTENT,
    experiments.ASSIGNMENTS,
    experiments.EXPOSURES,
    experiments.UNITS,
    experiments.UNIT_DAYS,
    experiments.MAD,
    experiments.SRM_DAILY,
    experiments.GUARDRAILS_DAILY,
    experiments.DATA_QUALITY,
)
_PLAIN = {table.name: table for table in (*_BEFORE, *_AFTER)}

TABLE_NAMES: tuple[str, ...] = ("events", *_PLAIN)


def published_table(name: str) -> PublishedTable:
    """What is a table's grain, key, columns and rules? Raises ValueError for a table unknown here."""
    if name not in TABLE_NAMES:
        raise ValueError(f"table {name!r} has no contract; allowed: {', '.join(TABLE_NAMES)}")
    return ingest.events() if name == "events" else _PLAIN[name]
