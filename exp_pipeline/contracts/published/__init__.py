"""The published tables as plain data, by name, in the order of the asset graph."""

from __future__ import annotations

from exp_pipeline.contracts.published import behaviour, experiments, ingest
from exp_pipeline.contracts.published.base import PublishedTable

_TABLES = (
    ingest.EVENTS,
    ingest.QUARANTINE,
    ingest.EXCLUSIONS,
    ingest.HOLDOUT_UNITS,
    behaviour.LEARNER_DAYS,
    behaviour.SESSIONS,
    behaviour.TURNS,
    behaviour.ROSTER,
    behaviour.ROSTER_QUARANTINE,
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
_BY_NAME = {table.name: table for table in _TABLES}

TABLE_NAMES: tuple[str, ...] = tuple(_BY_NAME)


def published_table(name: str) -> PublishedTable:
    """What is a table's grain, key, columns and rules? Raises ValueError for a table unknown here."""
    if name not in TABLE_NAMES:
        raise ValueError(f"table {name!r} has no contract; allowed: {', '.join(TABLE_NAMES)}")
    return _BY_NAME[name]
