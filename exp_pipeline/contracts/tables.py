"""The published tables: one pandera model each, named like the table.

To add one, write a class below with `table="name"`; `validation.validate_table` finds it. What is declared
must be there and be right; further columns may stand beside it, since tables grow by adding (context, catalog
columns).
"""

from __future__ import annotations

from typing import Any

import pandera.polars as pa
import polars as pl

from exp_pipeline.contracts.models.base import Rule, add_rules
from exp_pipeline.contracts.models.row import ROLES, Timestamp

TABLES: dict[str, type[Table]] = {}

END_REASONS = ("explicit", "idle", "objective", "cap", "device", "open")
UNIT_TYPES = ("learner", "class")


class Table(pa.DataFrameModel):
    """What all published tables share: a name, and rules that are checked on the whole frame."""

    def __init_subclass__(cls, *, table: str, rules: tuple[Rule, ...] = (), **kwargs: Any) -> None:
        """Enter a table under its name, with the rules its rows must keep."""
        if table in TABLES:
            raise ValueError(f"table {table} has two contracts")
        add_rules(lambda attribute, check: setattr(cls, attribute, check), rules)
        cls.Config = type("Config", (Table.Config,), {"name": table, "description": cls.__doc__})
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
        TABLES[table] = cls


def text(**checks: Any) -> Any:
    """A text column that is never null and never empty."""
    return pa.Field(ne="", **checks)


def optional(**checks: Any) -> Any:
    """A column that may be null, and may be missing."""
    return pa.Field(nullable=True, required=False, **checks)


class Sessions(
    Table,
    table="sessions",
    rules=(
        Rule("ends_after_start", "ended_at >= started_at", "A session does not end before it starts."),
        Rule(
            "on_its_day", "CAST(started_at AS DATE) = event_date", "A session belongs to the day it started."
        ),
        Rule(
            "turns_are_events", "n_turns <= n_events AND n_responses <= n_events", "Turns are made of events."
        ),
    ),
):
    """One session of one learner, in the partition of the day it started."""

    session_id: str = text(unique=True)
    learner_id: str = text()
    learner_key: pl.UInt64
    event_date: pl.Date
    started_at: Timestamp
    ended_at: Timestamp
    end_reason: str = pa.Field(isin=END_REASONS)
    n_events: int = pa.Field(ge=1)
    n_turns: int = pa.Field(ge=0)
    n_responses: int = pa.Field(ge=0)
    producer_session_agrees: bool = pa.Field(nullable=True)
    platform: str = pa.Field(nullable=True)


class Assignments(
    Table,
    table="assignments",
    rules=(
        Rule(
            "on_its_day",
            "CAST(assigned_at AS DATE) = event_date",
            "An assignment belongs to the day it was made.",
        ),
    ),
):
    """One unit of one experiment that was given its arm on this day."""

    experiment: str = text()
    version: int = pa.Field(ge=1)
    unit_type: str = pa.Field(isin=UNIT_TYPES)
    unit_id: str = text()
    arm: str = text()
    assigned_at: Timestamp
    event_date: pl.Date
    stratum: str = optional()
    ramp_stage: str = optional()
    source: str = pa.Field(isin=("logged", "computed"))


class Exposures(
    Table,
    table="exposures",
    rules=(
        Rule(
            "on_its_day", "CAST(first_exposed_at AS DATE) = event_date", "The first exposure is of this day."
        ),
    ),
):
    """One unit of one experiment on one surface on this day, with the number of its exposures."""

    experiment: str = text()
    version: int = pa.Field(ge=1)
    unit_type: str = optional(isin=UNIT_TYPES)
    unit_id: str = text()
    arm: str = text()
    surface: str = text()
    event_date: pl.Date
    first_exposed_at: Timestamp
    exposures: int = pa.Field(ge=1)


class Quarantine(Table, table="quarantine"):
    """One refused row of a landing file, with its place and the reason."""

    source: str = text()
    file: str = text()
    row_number: int = pa.Field(ge=0)
    byte_offset: int = pa.Field(ge=0, nullable=True)
    reason: str = text()
    event_date: pl.Date = pa.Field(nullable=True)
    received_date: pl.Date
    detail: str = optional()


class Exclusions(Table, table="exclusions"):
    """One event that does not count (staff, test, bots, superhuman pace), with the reason."""

    source: str = text()
    event_name: str = text()
    reason: str = text()
    event_date: pl.Date
    learner_id: str = text()
    role: str = optional(isin=ROLES)
    file: str = text()
    row_number: int = pa.Field(ge=0)


class UnitDays(Table, table="unit_days"):
    """One unit of one experiment on one day; every further column is a measure of the catalog."""

    experiment: str = text()
    version: int = pa.Field(ge=1)
    unit_id: str = text()
    event_date: pl.Date


class Mad(Table, table="mad"):
    """One unit of one experiment in one snapshot; every further column comes from the catalog's metrics."""

    unit_id: str = text(unique=True)
    arm: str = text()
