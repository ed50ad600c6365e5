"""The one-pass form, the portable form and plain Python cut the same bouts out of any sorted events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.metrics import Measure
from exp_pipeline.steps.behaviour import bouts_query
from exp_pipeline.store.engine import Engine, quote
from exp_pipeline.transform.queries import query_text
from exp_pipeline_tests.transform.cutting import Bout, Event, bouts_of, flagged
from exp_pipeline_tests.transform.drawing import histories

START = datetime(2026, 3, 2, 20, 0)
TURN = "tutor_turn_submitted"
MEASURES = (
    Measure(name="m_count", description="d", events=(TURN,), where="latency_ms > 0.1"),
    Measure(name="m_distinct", description="d", aggregate="distinct", of="learning_objective_id"),
    Measure(name="m_max", description="d", aggregate="max", of="latency_ms"),
    Measure(name="m_sum", description="d", aggregate="sum", of="latency_ms", events=(TURN, "hint_requested")),
    Measure(name="m_values", description="d", aggregate="values", of="latency_ms"),
)
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
            "app_version": [f"v{number}" for number in range(len(events))],
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


def run(engine: Engine, *, sorted_input: bool, on_objective: bool, on_device: bool) -> list[dict[str, Any]]:
    text = query_text(bouts_query(MEASURES, sorted_input=sorted_input))
    parameters = {
        "gap_microseconds": 30 * 60 * 1_000_000,
        "cut_on_objective": on_objective,
        "cut_on_shared_device": on_device,
    }
    return engine.frame(text, parameters).to_dicts()


def expected(bout: Bout) -> dict[str, object]:
    events = bout.events
    counted = [event.latency_ms for event in events if event.latency_ms is not None]
    summed = [
        Fraction(str(event.latency_ms))
        for event in events
        if event.latency_ms is not None and event.name in (TURN, "hint_requested")
    ]
    return {
        "learner_key": events[0].learner,
        "event_date": events[0].day,
        "started_at": bout.start,
        "ended_at": bout.end,
        "cut": bout.cut,
        "ended_explicitly": bout.ended_explicitly,
        "handed_over": bout.handed_over,
        "objective": bout.objective,
        "producer_session_id": events[0].session,
        "producer_changes": sum(a.session != b.session for a, b in pairwise(events)),
        "n_events": len(events),
        "n_turns": sum(event.name == TURN for event in events),
        "n_responses": sum(event.name == "tutor_turn_response_shown" for event in events),
        "m_count": sum(event.name == TURN and (event.latency_ms or 0) > 0.1 for event in events),
        "m_distinct": sorted({event.objective for event in events if event.objective is not None}) or None,
        "m_max": max(counted, default=None),
        "m_sum": float(sum(summed)) if summed else None,
        "m_values": sorted(counted) or None,
    }


TIES = [
    Event(1, START, "b", name="tutor_session_ended", objective="area"),
    Event(1, START, "a", objective="fractions"),
    Event(1, START, "c", objective="area"),
]


@settings(max_examples=35, deadline=None)
@given(history=histories(START), on_objective=st.booleans(), on_device=st.booleans())
@example(history=TIES, on_objective=True, on_device=True)
def test_both_forms_and_plain_python_agree(
    engine: Engine, history: list[Event], on_objective: bool, on_device: bool
) -> None:
    events = flagged(history)
    offer_events(engine, events)
    rules = {"on_objective": on_objective, "on_device": on_device}
    one_pass = run(engine, sorted_input=True, **rules)
    portable = run(engine, sorted_input=False, **rules)
    assert one_pass == portable
    reference = [expected(bout) for bout in bouts_of(events, **rules)]
    assert [{name: row[name] for name in reference[0]} for row in one_pass] == reference


@settings(max_examples=8, deadline=None)
@given(history=histories(START))
def test_the_portable_form_needs_no_order(engine: Engine, history: list[Event]) -> None:
    marked = flagged(history)
    offer_events(engine, marked)
    in_order = run(engine, sorted_input=False, on_objective=True, on_device=True)
    places = {event.event_id: position for position, event in enumerate(marked)}
    offer_events(engine, [marked[places[event.event_id]] for event in history])
    shuffled = run(engine, sorted_input=False, on_objective=True, on_device=True)
    drop = ("app_version",)
    assert [{k: v for k, v in row.items() if k not in drop} for row in in_order] == [
        {k: v for k, v in row.items() if k not in drop} for row in shuffled
    ]


def test_a_gap_of_exactly_thirty_minutes_still_belongs(engine: Engine) -> None:
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
    rows = run(engine, sorted_input=True, on_objective=True, on_device=True)
    assert [(row["learner_key"], row["n_events"], row["cut"]) for row in rows] == [
        (1, 2, 1),
        (2, 1, 1),
        (2, 1, 3),
    ]


def test_events_of_one_moment_are_never_cut_apart(engine: Engine) -> None:
    offer_events(engine, flagged([*TIES, Event(1, START.replace(second=1), "d", objective="area")]))
    rows = run(engine, sorted_input=True, on_objective=True, on_device=True)
    assert [(row["n_events"], row["cut"], row["ended_explicitly"]) for row in rows] == [
        (3, 1, True),
        (1, 2, False),
    ]


@pytest.mark.parametrize("sorted_input", [True, False])
def test_no_events_give_no_bouts(engine: Engine, sorted_input: bool) -> None:
    offer_events(engine, [])
    assert run(engine, sorted_input=sorted_input, on_objective=True, on_device=True) == []
