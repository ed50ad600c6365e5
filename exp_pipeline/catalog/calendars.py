"""Whether a brief's ramp, rollout and calendar fit each other, and what its flag can carry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise

from exp_pipeline.catalog.documents import Document, choices
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.errors import Problem


def calendar_problems(
    brief: Brief, document: Document, calendars: Mapping[str, SchoolCalendar], declared: Collection[str]
) -> Iterator[Problem]:
    """What is wrong with a brief's calendar. declared: names of all calendars, also of broken ones."""
    if brief.calendar is None:
        return
    if brief.calendar not in declared:
        hint, allowed = choices(brief.calendar, declared)
        yield document.problem(("calendar",), f"unknown calendar{hint}", allowed=allowed)
    calendar = calendars.get(brief.calendar)
    if calendar is not None and "time_zone" in document.data and brief.time_zone != calendar.time_zone:
        yield document.problem(
            ("time_zone",),
            f"differs from that of calendar {calendar.name}",
            allowed=f"{calendar.time_zone}, or no time_zone",
        )


def ramp_problems(brief: Brief, document: Document) -> Iterator[Problem]:
    """What is wrong with the stages of a brief's ramp and rollout? Its rise: see `brief_sense`."""
    if brief.ramp:
        yield from _carried(brief, document)
        last = brief.ramp[-1].traffic
        if abs(last - brief.traffic) > 1e-9:
            yield document.problem(
                ("ramp", len(brief.ramp) - 1, "traffic"),
                f"the last stage must be the experiment's own traffic, {brief.traffic:g}",
                allowed=f"{brief.traffic:g}, or traffic: {last:g}",
            )
    for position, (earlier, later) in enumerate(pairwise(brief.rollout), start=1):
        if later.traffic <= earlier.traffic:
            yield document.problem(
                ("rollout", position, "traffic"),
                f"must be more than the stage before it, {earlier.traffic:g}",
            )
    for position, stage in enumerate(brief.rollout):
        if stage.minimum_units:
            yield document.problem(
                ("rollout", position, "minimum_units"),
                "a rollout counts no units: it lets everybody in, not only those of the experiment",
                allowed="0, or nothing",
            )


def _carried(brief: Brief, document: Document) -> Iterator[Problem]:
    if brief.table is not None:
        yield document.problem(("ramp",), "a brief over a unit table lets nobody in", allowed="no ramp")
    elif brief.assignment == "table":
        yield document.problem(
            ("ramp",),
            "cannot let units in by stages: with assignment: table all drawn units are in from the start",
            allowed="assignment: hash, or no ramp",
        )
    elif brief.hash_scheme == "none":
        yield document.problem(
            ("ramp",), "cannot be carried by a flag: hash_scheme is none", allowed="a hash_scheme, or no ramp"
        )
