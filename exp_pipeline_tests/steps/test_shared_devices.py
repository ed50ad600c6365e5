"""Shared devices: another learner on a device cuts the session of the first, however days are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from exp_pipeline.steps.behaviour.learner_days import build_learner_days
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline_tests.steps.benches import bench_in
from exp_pipeline_tests.steps.conftest import digests, land_rows, landed_row
from exp_pipeline_tests.steps.test_chain_sessions import FIRST, days_of, found
from exp_pipeline_tests.transform.cutting import Event, sessions_of


def on_device(learner: int, clock: str, device: str | None = "d1", day: int = 2) -> Event:
    """An event of a learner at a time of a day in March, on a device."""
    hour, minute = map(int, clock.split(":"))
    at = datetime(2026, 3, day, hour, minute)
    return Event(learner, at, f"{learner}-{day}-{clock}-{device}", device=device)


# Who used which device when, and where each learner's sessions then begin, end and why.
HANDOVERS: dict[str, tuple[list[Event], list[tuple[int, str, str, str]]]] = {
    "handed on, and back within the gap": (
        [on_device(1, "09:00"), on_device(1, "09:05"), on_device(2, "09:08"), on_device(1, "09:12")],
        [(1, "09:00", "09:05", "device"), (1, "09:12", "09:12", "idle"), (2, "09:08", "09:08", "device")],
    ),
    "two devices: another learner on one of them cuts the first one's session": (
        [on_device(1, "09:00"), on_device(1, "09:10", "d2"), on_device(2, "09:05"),
         on_device(1, "09:20", "d2")],
        [(1, "09:00", "09:00", "device"), (1, "09:10", "09:20", "idle"), (2, "09:05", "09:05", "idle")],
    ),
    "the cut stands after the last moment on that device, however late the other learner comes": (
        [on_device(1, "09:00"), on_device(1, "09:10", "d2"), on_device(2, "14:00")],
        [(1, "09:00", "09:00", "device"), (1, "09:10", "09:10", "idle"), (2, "14:00", "14:00", "idle")],
    ),
    "two learners on two devices cut nothing": (
        [on_device(1, "09:00"), on_device(2, "09:01", "d2"), on_device(1, "09:10"),
         on_device(2, "09:11", "d2")],
        [(1, "09:00", "09:10", "idle"), (2, "09:01", "09:11", "idle")],
    ),
    "an event without a device hands nothing over": (
        [on_device(1, "09:00"), on_device(2, "09:05", None), on_device(1, "09:10")],
        [(1, "09:00", "09:10", "idle"), (2, "09:05", "09:05", "idle")],
    ),
    "at one moment the order of event ids decides: the first one's session is cut once": (
        [on_device(1, "09:00"), on_device(2, "09:00"), on_device(1, "09:10"), on_device(2, "09:40")],
        [(1, "09:00", "09:00", "device"), (1, "09:10", "09:10", "device"), (2, "09:00", "09:00", "device"),
         (2, "09:40", "09:40", "idle")],
    ),
    "handed on before midnight, back after it": (
        [on_device(1, "23:40"), on_device(2, "23:50"), on_device(1, "00:05", day=3)],
        [(1, "23:40", "23:40", "device"), (1, "00:05", "00:05", "idle"), (2, "23:50", "23:50", "idle")],
    ),
    "handed on after midnight, and back on that day": (
        [on_device(1, "23:50"), on_device(1, "00:05", day=3), on_device(2, "00:10", day=3),
         on_device(1, "00:15", day=3)],
        [(1, "23:50", "00:05", "device"), (1, "00:15", "00:15", "idle"), (2, "00:10", "00:10", "device")],
    ),
    # The limit: the two uses lie on two UTC days.
    "the last use before midnight and another's first after it are not compared": (
        [on_device(1, "23:50"), on_device(2, "00:05", day=3), on_device(1, "00:15", day=3)],
        [(1, "23:50", "00:15", "idle"), (2, "00:05", "00:05", "device")],
    ),
}  # fmt: skip


def landed_use(number: int, event: Event, received: date | None = None) -> dict[str, object]:
    day = received or event.day
    return landed_row(
        number, event.at, event.learner, event_id=event.event_id, device_id=event.device, received=day,
        file=f"f-{day}",
    )  # fmt: skip


def sessions_from_landed(bench: Workbench, days: Sequence[date]) -> list[tuple[int, str, str, str]]:
    window = Window.of(days[0], days[-1])
    for step in (conform, build_learner_days, build_sessions):
        step(bench, window)
    return [
        (one.learner, f"{one.start:%H:%M}", f"{one.end:%H:%M}", one.reason)
        for one in sorted(found(bench), key=lambda one: (one.learner, one.start))
    ]


def apart(number: int, event: Event) -> Event:
    """The event with learner, device and id of a story of its own."""
    return replace(
        event,
        learner=10 * number + event.learner,
        device=event.device and f"{number}-{event.device}",
        event_id=f"{number}-{event.event_id}",
    )


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Workbench, list[Event], list[tuple[int, str, str, str]]]]:
    """All stories side by side in one lake: its events, and its sessions."""
    history = [
        apart(number, event)
        for number, (story, _) in enumerate(HANDOVERS.values(), start=1)
        for event in story
    ]
    with TemporaryDirectory() as folder, bench_in(Path(folder)) as bench:
        land_rows(bench, [landed_use(number, event) for number, event in enumerate(history, start=1)])
        yield bench, history, sessions_from_landed(bench, days_of(history, extra=1))


@pytest.mark.parametrize(("number", "story"), [*enumerate(HANDOVERS, start=1)])
def test_another_learner_on_the_device_cuts_the_session_of_the_first(
    told: tuple[Workbench, list[Event], list[tuple[int, str, str, str]]], number: int, story: str
) -> None:
    own = [(one[0] - 10 * number, *one[1:]) for one in told[2] if one[0] // 10 == number]
    assert own == HANDOVERS[story][1]


def test_plain_python_and_single_days_in_any_order_say_the_same(
    told: tuple[Workbench, list[Event], list[tuple[int, str, str, str]]],
) -> None:
    bench, history, _ = told
    days = days_of(history, extra=1)
    assert found(bench) == sessions_of(history, days)
    whole = digests(bench, "sessions")
    for day in reversed(days):
        conform(bench, Window.of(day, day))
        build_sessions(bench, Window.of(day, day))
    assert digests(bench, "sessions") == whole


def test_a_late_use_of_the_device_cuts_and_a_refused_one_does_not(bench: Workbench) -> None:
    first, other, back = on_device(1, "09:00"), on_device(2, "09:05"), on_device(1, "09:10")
    days = [FIRST, FIRST + DAY]
    staff = landed_use(3, on_device(3, "09:07")) | {"role": "staff"}
    land_rows(bench, [landed_use(1, first), landed_use(2, back), staff])
    assert sessions_from_landed(bench, days) == [(1, "09:00", "09:10", "idle")]
    land_rows(bench, [landed_use(4, other, received=FIRST + 2 * DAY)])
    assert sessions_from_landed(bench, days) == [
        (1, "09:00", "09:00", "device"),
        (1, "09:10", "09:10", "idle"),
        (2, "09:05", "09:05", "device"),
    ]
