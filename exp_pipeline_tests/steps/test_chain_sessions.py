"""Sessions are found again: day by day, in any order, over any range, in one pass, by plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.behaviour import sessions
from exp_pipeline.steps.behaviour.learner_days import build_learner_days, build_turns
from exp_pipeline.steps.behaviour.sessions import build_sessions, check_sorted
from exp_pipeline.steps.context import DAY, Window, Workbench, midnight
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.store.sorted_runs import Learners
from exp_pipeline.transform import queries
from exp_pipeline_tests.steps.conftest import commit_events, digests, land_rows, landed_row, rows_of
from exp_pipeline_tests.transform.cutting import END, Event, Session, flagged, sessions_of
from exp_pipeline_tests.transform.drawing import MINUTE, histories

FIRST = date(2026, 3, 2)
COLUMNS = ", ".join(table_columns("sessions"))
NOON = datetime(2026, 3, 2, 12, 0)
# Half an hour at a time fills half a day in 24 steps; the rest jumps over midnight or cuts.
STEPS = (timedelta(0), 20 * MINUTE, 30 * MINUTE, 30 * MINUTE, 30 * MINUTE, 31 * MINUTE, 300 * MINUTE)
# An example costs half a second, so failing ones are not made smaller.
slow = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


def event_row(event: Event) -> dict[str, object]:
    """The event as a row of the published table."""
    return {
        "learner_key": event.learner,
        "learner_id": f"{event.learner:032x}",
        "occurred_at": event.at,
        "event_date": event.day,
        "event_id": event.event_id,
        "event_name": event.name,
        "learning_objective_id": event.objective,
        "session_id": event.session,
        "turn_id": event.turn_id,
        "device_id": event.device,
        "objective_changed": event.objective_changed,
        "device_handover": event.device_handover,
        "role": "student",
        "platform": "web",
        "app_version": "1.0",
    }


def write_days(bench: Workbench, history: Sequence[Event], days: Sequence[date]) -> None:
    """Events of the days, as ingest writes them, and their bouts."""
    marked = flagged(history)
    commit_events(bench, {day: [event_row(event) for event in marked if event.day == day] for day in days})
    build_learner_days(bench, Window.of(days[0], days[-1]))


def found(bench: Workbench) -> list[Session]:
    rows = rows_of(
        bench,
        "sessions",
        "learner_key, started_at, ended_at, end_reason, n_events",
        "learner_key, started_at",
    )
    return [Session(*row) for row in rows]  # type: ignore[arg-type]


def portable(bench: Workbench, days: Sequence[date]) -> list[tuple[object, ...]]:
    """All sessions of some days by the portable queries, in one go."""
    engine = bench.engine
    parameters = {
        "gap_microseconds": 30 * 60 * 1_000_000,
        "cap_microseconds": 12 * 60 * 60 * 1_000_000,
        "cut_on_objective": True,
        "cut_on_shared_device": True,
        "window_start": midnight(days[0]),
        "window_end": midnight(days[-1] + DAY),
        "last_days": [one for one in days if one + DAY not in days],
    }
    bench.read_days("events", "events", Window.of(days[0], days[-1]))
    for name in ("bouts", "edge_bouts", "chains", "cap_starts", "sessions"):
        text = "select * from bouts where at_edge"
        if name != "edge_bouts":
            text = queries.query_text(queries.load(name))
        engine.build("found" if name == "sessions" else name, text, queries.used_in(text, parameters))
    rows = engine.connection.execute(f"select {COLUMNS} from found order by session_id").fetchall()
    for name in ("found", "cap_starts", "chains", "edge_bouts", "bouts"):
        engine.drop(name)
    return rows


def days_of(history: Sequence[Event], extra: int = 0) -> list[date]:
    last = max(event.day for event in history)
    return [FIRST + DAY * number for number in range((last - FIRST).days + 1 + extra)]


@slow
@given(history=histories(NOON, learners=2, most=40, steps=STEPS), extra=st.integers(0, 1), data=st.data())
def test_any_way_of_running_gives_the_same_sessions(
    emptied: Callable[[], Workbench], history: list[Event], extra: int, data: st.DataObject
) -> None:
    bench = emptied()
    days = days_of(history, extra)
    write_days(bench, history, days)
    build_sessions(bench, Window.of(days[0], days[-1]))
    whole, names = found(bench), digests(bench, "sessions")
    assert whole == sessions_of(history, days)
    assert portable(bench, days) == rows_of(bench, "sessions", COLUMNS, "session_id")
    for day in data.draw(st.permutations(days)):
        build_sessions(bench, Window.of(day, day))
    assert digests(bench, "sessions") == names
    cut = data.draw(st.integers(1, len(days)))
    for part in (days[cut:], days[:cut]):
        if part:
            build_sessions(bench, Window.of(part[0], part[-1]))
    assert digests(bench, "sessions") == names


def steady(start: datetime, hours: float, learner: int = 1, minutes: int = 20, **more: object) -> list[Event]:
    """Events of one learner at an even pace."""
    count = int(hours * 60 / minutes) + 1
    return [
        Event(learner, start + minutes * MINUTE * number, f"e{learner}-{number:04d}", **more)  # type: ignore[arg-type]
        for number in range(count)
    ]


def test_three_days_without_a_break_are_cut_at_twelve_hours(bench: Workbench) -> None:
    history = steady(datetime(2026, 3, 2, 22, 0), hours=60)
    days = days_of(history, extra=1)
    write_days(bench, history, days)
    # The last day first: it must look back to the start of the run, three days before.
    for day in reversed(days):
        build_sessions(bench, Window.of(day, day))
    sessions = found(bench)
    assert sessions == sessions_of(history, days)
    assert portable(bench, days) == rows_of(bench, "sessions", COLUMNS, "session_id")
    assert [session.reason for session in sessions] == ["cap"] * 4 + ["idle"]
    assert {session.end - session.start for session in sessions[:4]} == {timedelta(hours=12)}
    assert sum(session.n_events for session in sessions) == len(history)


def test_a_session_over_midnight_belongs_to_the_day_it_started(bench: Workbench) -> None:
    history = steady(datetime(2026, 3, 2, 23, 0), hours=2) + steady(
        datetime(2026, 3, 3, 0, 5), 0.5, learner=2
    )
    write_days(bench, history, days_of(history))
    for day in (FIRST + DAY, FIRST):
        build_sessions(bench, Window.of(day, day))
    assert [(session.learner, session.start.day, session.end.day) for session in found(bench)] == [
        (1, 2, 3),
        (2, 3, 3),
    ]


def test_an_end_said_before_midnight_is_an_end(bench: Workbench) -> None:
    history = [
        Event(1, datetime(2026, 3, 2, 23, 50), "a"),
        Event(1, datetime(2026, 3, 2, 23, 55), "b", name=END),
        Event(1, datetime(2026, 3, 3, 0, 5), "c"),
    ]
    write_days(bench, history, days_of(history))
    build_sessions(bench, Window.of(FIRST, FIRST + DAY))
    assert [session.reason for session in found(bench)] == ["explicit", "idle"]


@pytest.mark.parametrize(("clock", "reason"), [((23, 29), "idle"), ((23, 30), "open"), ((23, 59), "open")])
def test_the_end_of_the_data_leaves_late_sessions_open(
    bench: Workbench, clock: tuple[int, int], reason: str
) -> None:
    history = [Event(1, datetime(2026, 3, 2, *clock), "a")]
    write_days(bench, history, [FIRST])
    build_sessions(bench, Window.of(FIRST, FIRST))
    assert [session.reason for session in found(bench)] == [reason]
    # Once the next day is there, if only an empty one, the end is known.
    write_days(bench, history, [FIRST, FIRST + DAY])
    build_sessions(bench, Window.of(FIRST, FIRST))
    assert [session.reason for session in found(bench)] == ["idle"]


def test_days_worked_on_in_parts_of_their_learners_give_the_same_files(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [
        event
        for learner, hour in ((1, 9), (2, 20), (5, 22), (6, 23))
        for event in steady(datetime(2026, 3, 2, hour), hours=8 * learner, learner=learner)
    ]
    days = days_of(history)
    write_days(bench, history, days)
    build_sessions(bench, Window.of(days[0], days[-1]))
    whole = digests(bench, "sessions")
    assert found(bench) == sessions_of(history, days)
    parts = [Learners(0, 0), Learners(1, 1), Learners(2, 4), Learners(5, 5), Learners(6)]
    monkeypatch.setattr(sessions, "equal_parts", lambda count: parts)
    # An empty file in each place, so that what is compared was written again.
    commit_events(bench, {day: [] for day in days})
    build_sessions(bench, Window.of(days[0], days[-1]))
    assert digests(bench, "sessions") != whole
    write_days(bench, history, days)
    build_sessions(bench, Window.of(days[0], days[-1]))
    assert digests(bench, "sessions") == whole


def test_a_hole_in_the_days_is_a_hole_however_they_are_run(bench: Workbench) -> None:
    history = [Event(1, datetime(2026, 3, 2, 23, 45), "a"), Event(1, datetime(2026, 3, 5, 8, 0), "b")]
    marked = flagged(history)
    commit_events(bench, {event.day: [event_row(event)] for event in marked})
    days = [event.day for event in marked]
    build_learner_days(bench, Window.of(days[0], days[-1]))
    build_sessions(bench, Window.of(days[0], days[-1]))
    whole = digests(bench, "sessions")
    assert [session.reason for session in found(bench)] == ["open", "idle"]
    for day in days:
        build_sessions(bench, Window.of(day, day))
    assert digests(bench, "sessions") == whole


def _landed(at: datetime, number: int, received: date | None = None) -> dict[str, object]:
    return landed_row(number, at, 7, received=received or at.date(), file=f"f-{received or at.date()}")


def test_a_late_event_joins_two_sessions(bench: Workbench) -> None:
    early, bridge, late = (
        datetime(2026, 3, 2, 23, 10),
        datetime(2026, 3, 2, 23, 40),
        datetime(2026, 3, 3, 0, 5),
    )
    land_rows(bench, [_landed(early, 1), _landed(late, 2)])
    window = Window.of(FIRST, FIRST + DAY)
    for step in (conform, build_learner_days, build_sessions):
        step(bench, window)
    assert [session.n_events for session in found(bench)] == [1, 1]
    land_rows(bench, [_landed(bridge, 3, received=FIRST + 2 * DAY)])
    only = Window.of(FIRST, FIRST)
    conform(bench, only)
    build_learner_days(bench, only)
    # The day itself and its neighbours, as the asset graph does.
    build_sessions(bench, window)
    assert [(session.n_events, session.start, session.end) for session in found(bench)] == [(3, early, late)]


@slow
@given(history=histories(NOON, learners=3, most=10))
def test_from_landed_rows_to_sessions(emptied: Callable[[], Workbench], history: list[Event]) -> None:
    bench = emptied()
    days = days_of(history)
    rows = [
        landed_row(
            number, event.at, event.learner, event_id=event.event_id, event_name=event.name,
            device_id=event.device, learning_objective_id=event.objective, session_id=event.session or "s1",
            # Needed by the contract of some of these events.
            turn_id="t1", model_name="m", model_version="1", prompt_version="1", retrieval_version="1",
            safety_policy_version="1", decoder_hash="h", tokens_in=1, tokens_out=1, cost_usd=0.1, ttft_ms=1.0,
            latency_ms=2.0, safety_outcome="passed", finish_reason="stop", retry_count=0, prompt_hmac="a",
            completion_hmac="b", prompt_chars=1, completion_chars=1,
        )
        for number, event in enumerate(history, start=1)
    ]  # fmt: skip
    land_rows(bench, rows)
    window = Window.of(days[0], days[-1])
    conform(bench, window)
    assert rows_of(bench, "quarantine", "reason, event_name") == []
    assert [check_sorted(bench, day) for day in days] == [0] * len(days)
    build_learner_days(bench, window)
    build_sessions(bench, window)
    assert found(bench) == sessions_of(history, days)


def test_unsorted_events_are_noticed(bench: Workbench) -> None:
    rows = [event_row(event) for event in flagged(steady(NOON, hours=1))]
    commit_events(bench, {FIRST: [rows[1], rows[0], *rows[2:]]})
    assert check_sorted(bench, FIRST) == 1


def turn(number: int, day: int, hour: int, minute: int, turn_id: str = "t1") -> Event:
    return Event(1, datetime(2026, 3, day, hour, minute), f"{turn_id}-{number}", turn_id=turn_id)


TURNS = [
    # Used again after more than an hour, twice on one day; then over midnight; then on a day of its own.
    *(turn(1, 2, 9, 0), turn(2, 2, 10, 0), turn(3, 2, 11, 1), turn(4, 2, 11, 2), turn(5, 2, 23, 10)),
    *(turn(6, 3, 0, 5), turn(7, 3, 1, 0), turn(8, 3, 9, 0), turn(9, 4, 0, 30)),
    *(turn(10, 2, 23, 59, "t2"), turn(11, 3, 0, 1, "t2"), turn(12, 4, 12, 0, "t3")),
]


def test_a_turn_id_used_again_is_another_turn_whatever_days_are_run(bench: Workbench) -> None:
    days = [FIRST + DAY * number for number in range(3)]
    commit_events(bench, {day: [event_row(event) for event in TURNS if event.day == day] for day in days})
    build_turns(bench, Window.of(days[0], days[-1]))
    whole = digests(bench, "turns")
    columns = (
        "turn_id, strftime(event_date, '%d'), turn_part, strftime(started_at, '%H:%M'), "
        "strftime(ended_at, '%H:%M')"
    )
    assert rows_of(bench, "turns", columns) == [
        ("t1", "02", 1, "09:00", "10:00"),
        ("t1", "02", 2, "11:01", "11:02"),
        ("t1", "02", 3, "23:10", "01:00"),
        ("t1", "03", 1, "09:00", "09:00"),
        ("t1", "04", 1, "00:30", "00:30"),
        ("t2", "02", 1, "23:59", "00:01"),
        ("t3", "04", 1, "12:00", "12:00"),
    ]
    for day in reversed(days):
        build_turns(bench, Window.of(day, day))
    assert digests(bench, "turns") == whole
