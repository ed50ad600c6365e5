"""Partitions: facts by UTC day, analyses by experiment; never both in one asset."""

from __future__ import annotations

import os
from datetime import date, timedelta

import dagster as dg

from exp_pipeline.steps.opening import home_from
from exp_pipeline.store.landing import received_days

FIRST_DAY = "EXP_FIRST_DAY"
# Days before the first landing folder, for events that were late when the log began.
EARLIER_DAYS = 7


def first_day() -> date:
    """The first day of all partitions: EXP_FIRST_DAY, or a week before the first landing folder."""
    if FIRST_DAY in os.environ:
        return date.fromisoformat(os.environ[FIRST_DAY])
    landed = received_days(home_from(os.environ).landing)
    return landed[0] - timedelta(days=EARLIER_DAYS) if landed else date.today() - timedelta(days=30)


received = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC")
event_days = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC")
experiments = dg.DynamicPartitionsDefinition(name="experiment")


def days_around(before: int, after: int) -> dg.TimeWindowPartitionMapping:
    """A dependency on a day's neighbours; days that do not exist are no obstacle."""
    return dg.TimeWindowPartitionMapping(
        start_offset=-before, end_offset=after, allow_nonexistent_upstream_partitions=True
    )
