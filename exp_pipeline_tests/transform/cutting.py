"""Sessions by the written rule, event by event in plain Python: what the SQL must agree with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise

END = "tutor_session_ended"
ASSIGNED = "experiment_assigned"
GAP = timedelta(minutes=30)
CAP = timedelta(hours=12)
NONE, FIRST, EXPLICIT, IDLE, DEVICE, OBJECTIVE = range(6)


@dataclass(frozen=True)
class Event:
    """One event as far as cutting looks at it."""

    learner: int
    at: datetime
    event_id: str
    name: str = "hint_requested"
    device: str | None = None
    objective: str | None = None
    session: str | None = None
    objective_changed: bool = False
    device_handover: bool = False
    latency_ms: float | None = None
    turn_id: str | None = None

    @property
    def day(self) -> date:
        return self.at.date()

    @property
    def place(self) -> tuple[int, datetime, int, str]:
        rank = {ASSIGNED: 0, END: 2}.get(self.name, 1)
        return self.learner, self.at, rank, self.event_id


@dataclass(frozen=True)
class Bout:
    """A run of one learner's events on one day."""

    events: tuple[Event, ...]
    cut: int

    @property
    def start(self) -> datetime:
        return self.events[0].at

    @property
    def end(self) -> datetime:
        return self.events[-1].at

    @property
    def ended_explicitly(self) -> bool:
        return any(event.name == END for event in self.events)

    @property
    def handed_over(self) -> bool:
        return self.events[-1].device_handover

    @property
    def objective(self) -> str | None:
        named = [event.objective for event in self.events if event.objective is not None]
        return named[-1] if named else None


@dataclass(frozen=True)
class Session:
    """What a session's row says."""

    learner: int
    start: datetime
    end: datetime
    reason: str
    n_events: int


def flagged(events: Iterable[Event]) -> list[Event]:
    """Events in order, marked where the objective changed and where the device went on, day by day."""
    marked: list[Event] = []
    whole = sorted(events, key=lambda event: (event.day, event.place))
    for _, group in groupby(whole, key=lambda event: event.day):
        day = list(group)
        changed: set[tuple[int, datetime]] = set()
        handed: set[tuple[int, datetime]] = set()
        objectives: dict[int, str] = {}
        devices: dict[str, list[Event]] = {}
        for event in sorted(day, key=lambda one: (one.at, one.event_id)):
            if event.objective is not None:
                if objectives.get(event.learner, event.objective) != event.objective:
                    changed.add((event.learner, event.at))
                objectives[event.learner] = event.objective
            if event.device is not None:
                devices.setdefault(event.device, []).append(event)
        for users in devices.values():
            for one, following in pairwise(users):
                if one.learner != following.learner:
                    handed.add((one.learner, one.at))
        marked += [
            replace(
                event,
                objective_changed=(event.learner, event.at) in changed,
                device_handover=(event.learner, event.at) in handed,
            )
            for event in day
        ]
    return sorted(marked, key=lambda event: event.place)


def bouts_of(events: Sequence[Event], *, on_objective: bool = True, on_device: bool = True) -> list[Bout]:
    """Marked events cut within each learner and day."""
    bouts: list[Bout] = []
    for _, group in groupby(
        sorted(events, key=lambda event: event.place), key=lambda one: (one.learner, one.day)
    ):
        run: list[Event] = []
        cut = FIRST
        for event in group:
            why = _cut_between(run[-1], event, on_objective, on_device) if run else NONE
            if why:
                bouts.append(Bout(tuple(run), cut))
                run, cut = [], why
            run.append(event)
        bouts.append(Bout(tuple(run), cut))
    return bouts


def stretches_of(events: Sequence[Event]) -> list[tuple[Event, ...]]:
    """Events of each learner and day, cut before each moment that has an assignment."""
    stretches: list[tuple[Event, ...]] = []
    ordered = sorted(events, key=lambda event: event.place)
    assigned = {(event.learner, event.at) for event in events if event.name == ASSIGNED}
    for _, group in groupby(ordered, key=lambda one: (one.learner, one.day)):
        run: list[Event] = []
        for event in group:
            if run and run[-1].at != event.at and (event.learner, event.at) in assigned:
                stretches.append(tuple(run))
                run = []
            run.append(event)
        stretches.append(tuple(run))
    return stretches


def _cut_between(before: Event, after: Event, on_objective: bool, on_device: bool) -> int:
    if before.at == after.at:
        return NONE
    if before.name == END:
        return EXPLICIT
    if after.at - before.at > GAP:
        return IDLE
    if on_device and before.device_handover:
        return DEVICE
    return OBJECTIVE if on_objective and after.objective_changed else NONE


def sessions_of(events: Iterable[Event], known_days: Iterable[date]) -> list[Session]:
    """All history in one pass: bouts glued over midnight, then the cap; `known_days` have been ingested."""
    known = set(known_days)
    sessions: list[Session] = []
    for _, group in groupby(bouts_of(flagged(events)), key=lambda bout: bout.events[0].learner):
        chains: list[list[Bout]] = []
        boundaries: list[int] = []
        for bout in group:
            boundary = (
                FIRST
                if not chains
                else bout.cut
                if bout.cut != FIRST
                else _over_midnight(chains[-1][-1], bout)
            )
            if boundary:
                chains.append([bout])
                boundaries.append(boundary)
            else:
                chains[-1].append(bout)
        for chain, following in zip(chains, [*boundaries[1:], None], strict=True):
            sessions += _capped(chain, following, known)
    return sorted(sessions, key=lambda session: (session.learner, session.start))


def _over_midnight(before: Bout, after: Bout) -> int:
    if before.ended_explicitly:
        return EXPLICIT
    if after.start - before.end > GAP:
        return IDLE
    if before.handed_over:
        return DEVICE
    both = before.objective is not None and after.objective is not None
    return OBJECTIVE if both and before.objective != after.objective else NONE


def _capped(chain: Sequence[Bout], following: int | None, known: set[date]) -> list[Session]:
    events = [event for bout in chain for event in bout.events]
    runs: list[list[Event]] = [[events[0]]]
    for event in events[1:]:
        if event.at - runs[-1][0].at > CAP:
            runs.append([event])
        else:
            runs[-1].append(event)
    last = runs[-1][-1].at
    if any(bout.ended_explicitly for bout in chain):
        reason = "explicit"
    elif any(bout.handed_over for bout in chain):
        reason = "device"
    elif following == OBJECTIVE:
        reason = "objective"
    elif (last + GAP).date() == last.date() or last.date() + timedelta(days=1) in known:
        reason = "idle"
    else:
        reason = "open"
    return [
        Session(run[0].learner, run[0].at, run[-1].at, "cap" if run is not runs[-1] else reason, len(run))
        for run in runs
    ]
