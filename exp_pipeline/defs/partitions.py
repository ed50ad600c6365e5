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


# In the graph a day depends on the same day alone, though some steps read its neighbours too (their
# descriptions say so). With offsets between them, a backfill of five days spreads to days that nobody asked
# for, breaks into a run for each level of the graph, and is refused where one step writes several assets.
received = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC")
event_days = dg.DailyPartitionsDefinition(start_date=first_day().isoformat(), timezone="UTC")
experiments = dg.DynamicPartitionsDefinition(name="experiment")
