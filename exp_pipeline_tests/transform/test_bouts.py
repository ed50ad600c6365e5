"""The one-pass form over arrays, the portable form and plain Python cut the same bouts out of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.steps.behaviour.bout_tables import read_bouts
from exp_pipeline.steps.behaviour.sessions import bouts_query
from exp_pipeline.store.engine import Engine, quote
from exp_pipeline.transform.bouts import SessionRules
from exp_pipeline.transform.queries import query_text, used_in
from exp_pipeline_tests.transform.cutting import Bout, Event, bouts_of, flagged
from exp_pipeline_tests.transform.drawing import histories

START = datetime(2026, 3, 2, 20, 0)
EPOCH = datetime(1970, 1, 1)
TURN = "tutor_turn_submitted"
COLUMNS = table_columns("events")


def offer_events(engine: Engine, events: Sequence[Event]) -> None:
    """Make the events readable as `events`, in the order given, with every column of the published table."""
    frame = pl.DataFrame(
        {
            "learner_key": [event.learner for event in events],
            "learner_id": [f"learner-{event.learner}" for event in events],
            "occurred_at": [event.at for event in events],
            "event_date": [event.day for event in events],
            "event_id": [event.event_id for event in events],
            "event_name": [event.name for event in events],
            "learning_objective_id": [event.objective for event in events],
            "session_id": [event.session for event in events],
            "objective_changed": [event.objective_changed for event in events],
            "device_handover": [event.device_handover for event in events],
            "latency_ms": [event.latency_ms for event in events],
            "role": ["student"] * len(events),
            "platform": ["web"] * len(events),
            "app_version": [event.event_id for event in events],
        },
        schema_overrides={
            "learning_objective_id": pl.String, "session_id": pl.String, "latency_ms": pl.Float64,
        },
    )  # fmt: skip
    engine.offer_frame("drawn", frame)
    listed = ", ".join(
        f"{quote(name) if name in frame.columns else 'null'}::{kind} as {quote(name)}"
        for name, kind in COLUMNS.items()
    )
    engine.connection.execute(f"create or replace temp view events as select {listed} from drawn")


def portable(
    engine: Engine, *, on_objective: bool = True, on_device: bool = True, uncut: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The bouts of `events` by the portable query."""
    text = query_text(bouts_query(uncut))
    parameters = {
        "gap_microseconds": 30 * 60 * 1_000_000,
        "cap_microseconds": 12 * 60 * 60 * 1_000_000,
        "cut_on_objective": on_objective,
        "cut_on_shared_device": on_device,
    }
    return engine.frame(text, used_in(text, parameters)).to_dicts()


def one_pass(
    engine: Engine,
    folder: Path,
    *,
    on_objective: bool = True,
    on_device: bool = True,
    uncut: Sequence[str] = (),
    group: int = 5,
) -> list[dict[str, Any]]:
    """The bouts of `events`, in the order that they stand in, as the query tells them."""
    path = folder / "events.parquet"
    engine.write("select * from events", path, row_group_rows=group)
    hour = 60 * 60 * 1_000_000
    rules = SessionRules(gap=hour // 2, cap=12 * hour, on_objective=on_objective, on_device=on_device)
    found = read_bouts([path], COLUMNS, rules, uncut)
    bouts = {one.name: getattr(found.bouts, one.name).tolist() for one in fields(found.bouts)}
    columns = {**bouts, **found.texts.to_pydict()}
    renamed = {"learning_objective_id": "objective", "session_id": "producer_session_id"}
    columns = {renamed.get(name, name): values for name, values in columns.items()}
    for name in ("started_at", "ended_at"):
        columns[name] = [EPOCH + timedelta(microseconds=one) for one in columns[name]]
    columns["event_date"] = [one.date() for one in columns["started_at"]]
    columns["following"] = [one or None for one in columns["following"]]
    query = bouts_query()
    assert isinstance(query, exp.Select)
    told = query.named_selects
    return [dict(zip(told, row, strict=True)) for row in zip(*(columns[name] for name in told), strict=True)]


def expected(bout: Bout, following: Bout | None) -> dict[str, object]:
    events = bout.events
    same_day = (
        following is not None
        and following.events[0].learner == events[0].learner
        and following.start.date() == bout.start.date()
    )
    midnight = datetime(bout.start.year, bout.start.month, bout.start.day)
    gap = timedelta(minutes=30)
    return {
        "learner_key": events[0].learner,
        "event_date": events[0].day,
        "started_at": bout.start,
        "ended_at": bout.end,
        "cut": bout.cut,
        "following": following.cut if same_day and following is not None else None,
        "ended_explicitly": bout.ended_explicitly,
        "handed_over": bout.handed_over,
        "objective": bout.objective,
        "producer_session_id": events[0].session,
        "producer_changes": sum(a.session != b.session for a, b in pairwise(events)),
        "app_version": events[0].event_id,
        "n_events": len(events),
        "n_turns": sum(event.name == TURN for event in events),
        "n_responses": sum(event.name == "tutor_turn_response_shown" for event in events),
        "at_edge": (bout.cut == 1 and bout.start - midnight <= gap)
        or (not same_day and bout.end + gap >= midnight + timedelta(days=1))
        or bout.end - bout.start > timedelta(hours=12),
    }


TIES = [
    Event(1, START, "b", name="tutor_session_ended", objective="area"),
    Event(1, START, "a", objective="fractions"),
    Event(1, START, "c", objective="area"),
]


@settings(
    max_examples=20,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories(START), on_objective=st.booleans(), on_device=st.booleans())
@example(history=TIES, on_objective=True, on_device=True)
def test_both_forms_and_plain_python_agree(
    engine: Engine, tmp_path: Path, history: list[Event], on_objective: bool, on_device: bool
) -> None:
    events = flagged(history)
    offer_events(engine, events)
    found = one_pass(engine, tmp_path, on_objective=on_objective, on_device=on_device)
    assert found == portable(engine, on_objective=on_objective, on_device=on_device)
    bouts = bouts_of(events, on_objective=on_objective, on_device=on_device)
    reference = [expected(*pair) for pair in zip(bouts, [*bouts[1:], None], strict=True)]
    assert [{name: row[name] for name in reference[0]} for row in found] == reference


@settings(max_examples=8, deadline=None)
@given(history=histories(START))
def test_the_portable_form_needs_no_order(engine: Engine, history: list[Event]) -> None:
    marked = flagged(history)
    offer_events(engine, marked)
    in_order = portable(engine)
    places = {event.event_id: position for position, event in enumerate(marked)}
    offer_events(engine, [marked[places[event.event_id]] for event in history])
    shuffled = portable(engine)
    assert in_order == shuffled


def test_a_gap_of_exactly_thirty_minutes_still_belongs(engine: Engine, tmp_path: Path) -> None:
    late = datetime(2026, 3, 2, 20, 30)
    offer_events(
        engine,
        [
            Event(1, START, "a"),
            Event(1, late, "b"),
            Event(2, START, "c"),
            Event(2, late.replace(microsecond=1), "d"),
        ],
    )
    rows = one_pass(engine, tmp_path)
    assert [(row["learner_key"], row["n_events"], row["cut"]) for row in rows] == [
        (1, 2, 1),
        (2, 1, 1),
        (2, 1, 3),
    ]


def test_events_of_one_moment_are_never_cut_apart(engine: Engine, tmp_path: Path) -> None:
    offer_events(engine, flagged([*TIES, Event(1, START.replace(second=1), "d", objective="area")]))
    rows = one_pass(engine, tmp_path)
    assert [(row["n_events"], row["cut"], row["ended_explicitly"]) for row in rows] == [
        (3, 1, True),
        (1, 2, False),
    ]


def test_no_events_give_no_bouts(engine: Engine, tmp_path: Path) -> None:
    offer_events(engine, [])
    assert one_pass(engine, tmp_path) == portable(engine) == []
