"""School calendars: when people are at school, so that nothing new begins while nobody watches."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from exp_pipeline.model.base import Noun
from exp_pipeline.model.names import Slug

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class SchoolDays(Noun):
    """A named stretch of days, both ends included: a term or a holiday; one day where `last` is left out."""

    name: str
    first: date
    last: date | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last {self.last} must not come before first {self.first}")
        return self

    def holds(self, day: date) -> bool:
        """Whether a day lies in this stretch."""
        return self.first <= day <= (self.last or self.first)


class SchoolCalendar(Noun):
    """Time zone, terms, holidays and school hours of a group of schools.

    `opens` and `closes` are on the schools' own clocks; the first is included, the second is not. Without
    terms every day that is no holiday belongs to one.
    """

    name: Slug
    title: str = ""
    owner: str = ""
    time_zone: str
    weekdays: tuple[Weekday, ...] = Field(default=("mon", "tue", "wed", "thu", "fri"), min_length=1)
    opens: time = time(8)
    closes: time = time(15)
    terms: tuple[SchoolDays, ...] = ()
    holidays: tuple[SchoolDays, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            ZoneInfo(self.time_zone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"time_zone must be an IANA name such as Europe/Paris: {self.time_zone}"
            ) from error
        if self.closes <= self.opens:
            raise ValueError(f"closes {self.closes} must come after opens {self.opens}")
        if len(set(self.weekdays)) < len(self.weekdays):
            raise ValueError(f"weekdays must be named once each: {', '.join(self.weekdays)}")
        ordered = sorted(self.terms, key=lambda term: term.first)
        for earlier, later in pairwise(ordered):
            if later.first <= (earlier.last or earlier.first):
                raise ValueError(f"terms must not overlap: {earlier.name} and {later.name}")
        return self

    def local(self, at: datetime) -> datetime:
        """A moment on the schools' own clocks. Raises ValueError for a moment without a time zone."""
        if at.tzinfo is None:
            raise ValueError(f"at must carry a time zone, got {at.isoformat()}")
        return at.astimezone(ZoneInfo(self.time_zone))

    def closed_on(self, day: date) -> str:
        """Why there is no school on a day, in a few words; empty where there is."""
        if WEEKDAYS[day.weekday()] not in self.weekdays:
            return f"{day} is a {day:%A}"
        for holiday in self.holidays:
            if holiday.holds(day):
                return f"{day} is a holiday ({holiday.name})"
        if self.terms and not any(term.holds(day) for term in self.terms):
            return f"{day} lies in no term"
        return ""

    def closed_because(self, at: datetime) -> str:
        """Why schools are closed at a moment, in a few words; empty while they are open."""
        local = self.local(at)
        why = self.closed_on(local.date())
        if why:
            return why
        if not self.opens <= local.time().replace(tzinfo=None) < self.closes:
            return (
                f"it is {local:%H:%M} at school, which is open from {self.opens:%H:%M} to {self.closes:%H:%M}"
            )
        return ""

    def next_open(self, at: datetime) -> datetime | None:
        """The first moment from `at` on at which schools are open (UTC); None where no term is left."""
        if not self.closed_because(at):
            return at.astimezone(UTC)
        day = self.local(at).date()
        ends = [term.last or term.first for term in self.terms]
        last = max(ends) if ends else day + timedelta(days=366)
        while day <= last:
            if not self.closed_on(day):
                opens = datetime.combine(day, self.opens, ZoneInfo(self.time_zone)).astimezone(UTC)
                if opens >= at:
                    return opens
            day += timedelta(days=1)
        return None
