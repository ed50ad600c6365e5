"""What ingest publishes: events, and the rows that did not become events."""

from __future__ import annotations

from functools import cache

from exp_pipeline.contracts.published.base import (
    Column,
    PublishedTable,
    RowRule,
    count,
    day,
    flag,
    key64,
    moment,
    text,
)

_PLACE = (
    text("source", "Source (mapping) that read the file."),
    text("file", "Landing file, by its short name."),
    count("row_number", "Row of the file."),
    Column("part", "SMALLINT", "Which event rule of the source made the row; 0 where none did."),
)
_OFFSET = count(
    "byte_offset",
    "Where the row begins in the file (bytes); null where the format has no lines.",
    nullable=True,
)
_DAYS = (
    day("event_date", "UTC day of occurred_at; the day of arrival where that is unknown or far off."),
    day("received_date", "Day of the landing folder the file came in."),
)
_BUCKET_LIMITS = {"ge": 0, "le": 9_999}


def _canonical() -> tuple[Column, ...]:
    from exp_pipeline.contracts.fields import FIELDS, sql_types

    types = sql_types()
    return tuple(
        Column(
            name,
            types[name],  # type: ignore[arg-type]
            spec.description + (f" Unit: {spec.unit}." if spec.unit else ""),
            not spec.required,
            canonical=True,
        )
        for name, spec in FIELDS.items()
    )


@cache
def events() -> PublishedTable:
    """The events table; its canonical columns are read off the canonical row."""
    return PublishedTable(
        name="events",
        grain="One kept event, in the partition of the UTC day it happened.",
        columns=(
            flag("objective_changed", "Whether the learner's last objective of the day was another one."),
            flag("device_handover", "Whether the next event on the same device is another learner's."),
            *_PLACE,
            day("received_date", "Day of the landing folder the file came in."),
            day(
                "arrived_date",
                "Day the event counts as arrived: received_date, or for history the day of received_at.",
            ),
            day("event_date", "UTC day of occurred_at."),
            text("key_id", "Public name of the secret that pseudonyms were made with."),
            key64("learner_key", "First 64 bits of the learner's pseudonym."),
            moment(
                "occurred_at",
                "When it happened (UTC): client_ts, or received_at where the client's clock is ahead.",
            ),
            flag("clock_skewed", "Whether the client's clock was so far ahead that received_at was taken."),
            *_canonical(),
            Column(
                "arm_bucket",
                "BIGINT",
                "Bucket (0 to 9,999) that decides the unit's arm.",
                True,
                _BUCKET_LIMITS,
            ),
            Column(
                "traffic_bucket",
                "BIGINT",
                "Bucket (0 to 9,999) that decides whether the unit takes part.",
                True,
                _BUCKET_LIMITS,
            ),
            text("extra", "Fields that nobody declared, as a JSON object.", nullable=True),
        ),
        key=("event_id",),
        rules=(
            RowRule(
                "on_its_day",
                "CAST(occurred_at AS DATE) = event_date",
                "event_date is the UTC day of occurred_at.",
            ),
        ),
    )


QUARANTINE = PublishedTable(
    name="quarantine",
    grain="One refused row of a landing file, with its place and the reason.",
    columns=(
        *_PLACE,
        _OFFSET,
        *_DAYS,
        text(
            "event_name", "Event that the row claims to be; null where that could not be read.", nullable=True
        ),
        text("reason", "Why it was refused."),
    ),
    key=("file", "row_number", "part"),
)

EXCLUSIONS = PublishedTable(
    name="exclusions",
    grain="One sound event that does not count (staff, test, bots, superhuman pace), with the reason.",
    columns=(
        *_PLACE,
        _OFFSET,
        *_DAYS,
        text("event_name", "Event."),
        text("learner_id", "Pseudonymous learner."),
        text("reason", "Why it does not count."),
    ),
    key=("file", "row_number", "part"),
)
