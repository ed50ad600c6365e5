"""Can a ramp be climbed before the experiment ends? Days of each stage by its dwell, its units and school."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from exp_pipeline.analysis.planning.arrivals import Enrolment, Steps
from exp_pipeline.analysis.planning.gaps import Gap
from exp_pipeline.analysis.wording import listed
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.model.ramps import stages_of

_DAY = timedelta(days=1)
# A stage whose units take longer than this is never left, for all that a plan can say.
_LONGEST_DAYS = 366


@dataclass(frozen=True, slots=True)
class StagePlan:
    """How long will one stage of a ramp last, if units come as expected and all that is judged is good?

    first: its first day; None where an earlier stage is never left. days: that it lasts, for the last stage
    those to the brief's end (0 where it begins later); None where it is never entered or left. units: that
    are expected in the experiment once it is over (classes where classes are randomised); None where nobody
    knows how many come. waits: what keeps it longest. units_in_dwell: expected once it is over, if no stage
    lasts longer than its dwell. traffic_needed: the share at which its minimum would come so soon; None where
    it does so anyway, or no share would do.
    """

    stage: int
    traffic: float
    dwell_days: int
    minimum_units: int
    first: date | None = None
    days: int | None = None
    units: float | None = None
    waits: Literal["dwell", "units", "closed days"] = "dwell"
    units_in_dwell: float | None = None
    traffic_needed: float | None = None


@dataclass(frozen=True, slots=True)
class RampPlan:
    """When will a ramp let in all of its traffic, and for how many days before the brief's end?

    steps: from which day since the start how much more traffic is let in. full_from: first day of the last
    stage, None where it is never reached. full_days: from then to the end; planned_days: how many the last
    stage asks for. units_known: whether anything told how many units come. unit: what its units are.
    """

    stages: tuple[StagePlan, ...]
    steps: Steps
    full_from: date | None
    full_days: int
    planned_days: int
    units_known: bool
    unit: str


@dataclass(frozen=True, slots=True)
class _Stay:
    """One stage of a climb: the days on which it is entered, may be left, and is left (None: never)."""

    enters: int
    ready: int | None
    leaves: int | None


@dataclass(frozen=True, slots=True)
class _Climb:
    """What all stages of a climb have in common: units of randomisation by day, and which days are open."""

    brief: Brief
    enrolment: Enrolment | None
    size: float
    calendar: SchoolCalendar | None

    def units(self, steps: Steps, days: int) -> float | None:
        """Units of randomisation in the experiment once so many days are over."""
        return None if self.enrolment is None else self.enrolment(steps, days) / self.size

    def stays(self, *, for_units: bool) -> tuple[list[_Stay], Steps]:
        """The stages that are entered, one after the other, and the steps of traffic that they make.

        for_units: whether a stage is left only with its minimum of units. An unfinished day tells nothing:
        a stage is left by what the days before it brought.
        """
        found: list[_Stay] = []
        steps: Steps = ()
        enters = self._open_day(0)
        before = 0.0
        for stage in self.brief.ramp:
            if enters is None:
                break
            steps, before = (*steps, (enters, stage.traffic - before)), stage.traffic
            enough = self._day_with(steps, stage.minimum_units, enters) if for_units else enters
            ready = None if enough is None else max(enters + stage.dwell_days, enough)
            leaves = None if ready is None else self._open_day(ready)
            found.append(_Stay(enters, ready, leaves))
            enters = leaves
        return found, steps

    def _day_with(self, steps: Steps, wanted: int, since: int) -> int | None:
        """The first day, not before `since`, before which so many units have come."""
        if not wanted or self.enrolment is None:
            return since
        for day in range(since, since + _LONGEST_DAYS):
            if self.enrolment(steps, day) / self.size >= wanted - 1e-9:
                return day
        return None

    def _open_day(self, since: int) -> int | None:
        """The first day from one on on which a stage may be entered."""
        for day in range(since, since + _LONGEST_DAYS):
            when = self.brief.start + day * _DAY
            shut = self.calendar is not None and self.calendar.closed_on(when)
            if when not in self.brief.blackout_days and not shut:
                return day
        return None


def ramp_plan(
    brief: Brief,
    enrolment: Enrolment | None,
    *,
    cluster_size: float | None = None,
    calendar: SchoolCalendar | None = None,
) -> RampPlan | None:
    """When would each stage of the brief's ramp begin and end? None for a brief without stages.

    enrolment: units of analysis by day, None where nobody knows. cluster_size: of those per randomised unit;
    where whole clusters are randomised and it is None, nobody knows how many of them come. Stages are
    entered on days that are open; approvals are taken to come in time, and checks to be good.
    """
    if not brief.ramp or not stages_of(brief):
        return None
    whole = brief.randomisation_unit != brief.analysis_unit
    known = enrolment if not whole or cluster_size is not None else None
    climb = _Climb(brief, known, max(cluster_size or 1.0, 1.0) if whole else 1.0, calendar)
    stays, steps = climb.stays(for_units=True)
    asked, as_asked = climb.stays(for_units=False)
    stages = tuple(
        _stage(climb, place, stay, steps, asked[place] if place < len(asked) else None, as_asked)
        for place, stay in enumerate([*stays, *[None] * (len(brief.ramp) - len(stays))])
    )
    full = stages[-1].first
    return RampPlan(
        stages=stages,
        steps=steps,
        full_from=full,
        full_days=0 if full is None else max((brief.end - full).days, 0),
        planned_days=max(brief.ramp[-1].dwell_days, 1),
        units_known=known is not None,
        unit="classes" if whole else "units",
    )


def _stage(
    climb: _Climb, place: int, stay: _Stay | None, steps: Steps, asked: _Stay | None, as_asked: Steps
) -> StagePlan:
    """One stage (0 is the first). stay, steps: as expected; asked, as_asked: if nobody waited for units."""
    brief, stage = climb.brief, climb.brief.ramp[place]
    last, length = place + 1 == len(brief.ramp), (brief.end - brief.start).days
    in_dwell = needed = None
    if asked is not None:
        over = asked.enters + stage.dwell_days
        in_dwell = climb.units(as_asked[: place + 1], over)
        if in_dwell is not None and in_dwell < stage.minimum_units:
            needed = _traffic_needed(climb, as_asked[:place], asked.enters, over, stage.minimum_units)
    if stay is None:
        return StagePlan(
            place + 1, stage.traffic, stage.dwell_days, stage.minimum_units, units_in_dwell=in_dwell,
            traffic_needed=needed,
        )  # fmt: skip
    # The last stage lasts to the end, and its minimum keeps nothing back.
    leaves = max(length, stay.enters) if last else stay.leaves
    waits: Literal["dwell", "units", "closed days"] = "dwell"
    if not last:
        if stay.ready is None or stay.ready > stay.enters + stage.dwell_days:
            waits = "units"
        elif stay.leaves is None or stay.leaves > stay.ready:
            waits = "closed days"
    return StagePlan(
        stage=place + 1,
        traffic=stage.traffic,
        dwell_days=stage.dwell_days,
        minimum_units=stage.minimum_units,
        first=brief.start + stay.enters * _DAY,
        days=None if leaves is None else leaves - stay.enters,
        units=climb.units(steps[: place + 1], stay.enters + _LONGEST_DAYS if leaves is None else leaves),
        waits=waits,
        units_in_dwell=in_dwell,
        traffic_needed=needed,
    )


def _traffic_needed(climb: _Climb, earlier: Steps, enters: int, over: int, wanted: int) -> float | None:
    """Which share must a stage have so that its minimum is there when its dwell is over?"""
    everybody = climb.units(((enters, 1.0),), over) or 0.0
    if everybody <= 0.0:
        return None
    held = climb.units(earlier, over) or 0.0
    share = sum(part for _, part in earlier) + (wanted - held) / everybody
    return share if share <= 1.0 else None


def steps_of(brief: Brief, plan: RampPlan | None) -> Steps | None:
    """When is traffic let in, for the plan of units and days? None: as soon as the shortest stages do.

    A ramp with a gap has to change before the start, so that size and guardrails are not judged by it.
    """
    return None if plan is None or ramp_gaps(brief, plan) else plan.steps


def longer_stages(plan: RampPlan) -> tuple[str, ...]:
    """Which stages will last longer than their shortest stay, how long, and why? A sentence each."""
    found = []
    for stage in plan.stages[:-1]:
        if stage.first is None:
            continue
        named = f"stage {stage.stage} ({_percent(stage.traffic)} of traffic)"
        asked = f"its {counted(stage.minimum_units, plan.unit)}"
        if stage.waits == "units" and stage.days is None:
            come = f"{math.floor(stage.units or 0.0):,}"
            found.append(f"{named} never has {asked}: about {come} come within a year")
        elif stage.waits == "units":
            found.append(f"{named} has {asked} after about {stage.days} days, not {stage.dwell_days}")
        elif stage.days is None:
            found.append(f"{named} is never left: no school day follows")
        elif stage.waits == "closed days":
            told = f"{named} lasts {stage.days} days, not {stage.dwell_days}"
            found.append(f"{told}, because no stage is entered on the closed days after it")
    return tuple(found)


def ramp_gaps(brief: Brief, plan: RampPlan | None) -> list[Gap]:
    """Does the ramp end too late, or leave its last stage fewer days than that asks for?"""
    if plan is None or plan.full_days >= plan.planned_days:
        return []
    if len(plan.stages) > 1 and not any(stage.first for stage in plan.stages):
        return [Gap("ramp", "its first stage is never entered: no school day follows", "move the start")]
    last = len(plan.stages)
    share = _percent(plan.stages[-1].traffic)
    if plan.full_from is None:
        told = f"stage {last} ({share}) is never reached"
    elif plan.full_from >= brief.end:
        told = (
            f"stage {last} ({share}) would begin on {plan.full_from}, and the experiment ends on {brief.end}"
        )
    else:
        told = (
            f"stage {last} ({share}) would begin on {plan.full_from} and have {_days(plan.full_days)} of the "
            f"{plan.planned_days} that it asks for"
        )
    longer = longer_stages(plan)
    if longer:
        told += f": {listed(longer)}"
    elif last > 1:
        before = sum(stage.dwell_days for stage in plan.stages[:-1])
        told += f": the stages before it last {_days(before)}"
    return [Gap("ramp", told, _remedy(plan))]


def _remedy(plan: RampPlan) -> str:
    waiting = [stage for stage in plan.stages[:-1] if stage.waits == "units" and stage.first is not None]
    ways = [f"ask {listed([_for_units(stage, plan.unit) for stage in waiting])}"] if waiting else []
    if not waiting and len(plan.stages) > 1:
        ways.append(f"shorten the dwell of the stages by {_days(plan.planned_days - plan.full_days)}")
    if plan.full_from is not None:
        ways.append(f"move the end to {plan.full_from + plan.planned_days * _DAY}")
    return ", or ".join(ways) if ways else "move the start or the end"


def _for_units(stage: StagePlan, unit: str) -> str:
    """What would let a stage have its minimum within its dwell, in words that follow "ask"?"""
    fewer = math.floor((stage.units_in_dwell or 0.0) + 1e-9)
    told = f"stage {stage.stage} for at most {counted(fewer, unit)}"
    if stage.traffic_needed is not None:
        told += f" (or let it have {math.ceil(100 * stage.traffic_needed - 1e-9)} % of traffic)"
    return told


def counted(count: int, unit: str) -> str:
    """How are so many units or classes said? One of them in the singular."""
    return f"{count:,} {unit}" if count != 1 else f"1 {'class' if unit == 'classes' else 'unit'}"


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
