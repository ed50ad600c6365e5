"""What ingest publishes: events, and the rows that did not become events."""

from __future__ import annotations

from types import MappingProxyType

from exp_pipeline.contracts.fields import DERIVED, FIELDS, sql_types
from exp_pipeline.contracts.published.base import (
    Column,
    PublishedTable,
    buckets,
    count,
    day,
    draws,
    flag,
    key64,
    on_its_day,
    small,
    text,
)

_PLACE = (
    text("source", "Source (mapping) that read the file."),
    text("file", "Landing file, by its short name."),
    count("row_number", "Row of the file, from 1.", ge=1),
    small("part", "SMALLINT", "Which event rule of the source made the row; 0 where none did.", ge=0),
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


def _canonical(*, derived: bool) -> tuple[Column, ...]:
    types = sql_types(derived=True)
    return tuple(
        Column(
            name,
            types[name],  # type: ignore[arg-type]
            spec.description + (f" Unit: {spec.unit}." if spec.unit else ""),
            not spec.required,
            canonical=True,
        )
        for name, spec in (DERIVED if derived else FIELDS).items()
    )


EVENTS = PublishedTable(
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
        *_canonical(derived=True),
        flag("clock_skewed", "Whether the client's clock was so far ahead that received_at was taken."),
        *_canonical(derived=False),
        *buckets(),
        *draws(),
        text("extra", "Fields that nobody declared, as a JSON object.", nullable=True),
    ),
    key=("event_id",),
    rules=(on_its_day("occurred_at"),),
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

HOLDOUT_UNITS = PublishedTable(
    name="holdout_units",
    grain="One unit that landed on a received day, with the bucket that a holdout drew it into.",
    columns=(
        text("layer", "Holdout, a layer of the catalog."),
        text("draw", "Hash and salt that drew the bucket, as `hash:salt`."),
        text("unit_type", "What is held out.", isin=("learner", "class")),
        text("unit_id", "Learner or class, by pseudonym."),
        Column(
            "bucket",
            "BIGINT",
            "Bucket (0 to 9,999); the first of them, by the holdout's share, are held out.",
            checks=MappingProxyType({"ge": 0, "le": 9_999}),
        ),
        day("received_date", "Day of the landing folder that the unit was met in."),
    ),
    key=("layer", "unit_id", "received_date"),
)
