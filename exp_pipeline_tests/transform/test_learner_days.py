"""The one-pass form, the portable form and plain Python sum up the same stretches of learners' days."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exp_pipeline.model.metrics import Measure
from exp_pipeline.steps.behaviour import learner_days_query
from exp_pipeline.store.engine import Engine
from exp_pipeline.transform.queries import query_text
from exp_pipeline_tests.transform.cutting import ASSIGNED, Event, stretches_of
from exp_pipeline_tests.transform.drawing import histories
from exp_pipeline_tests.transform.test_bouts import START, TURN, offer_events

MEASURES = (
    Measure(name="m_count", description="d", events=(TURN,), where="latency_ms > 0.1"),
    Measure(name="m_distinct", description="d", aggregate="distinct", of="learning_objective_id"),
    Measure(name="m_max", description="d", aggregate="max", of="latency_ms"),
    Measure(name="m_sum", description="d", aggregate="sum", of="latency_ms", events=(TURN, "hint_requested")),
    Measure(name="m_values", description="d", aggregate="values", of="latency_ms"),
)


def run(engine: Engine, *, sorted_input: bool) -> list[dict[str, Any]]:
    return engine.frame(query_text(learner_days_query(MEASURES, sorted_input=sorted_input))).to_dicts()


def expected(events: tuple[Event, ...]) -> dict[str, object]:
    counted = [event.latency_ms for event in events if event.latency_ms is not None]
    summed = [
        Fraction(str(event.latency_ms))
        for event in events
        if event.latency_ms is not None and event.name in (TURN, "hint_requested")
    ]
    return {
        "learner_key": events[0].learner,
        "event_date": events[0].day,
        "started_at": events[0].at,
        "ended_at": events[-1].at,
        "n_events": len(events),
        "m_count": sum(event.name == TURN and (event.latency_ms or 0) > 0.1 for event in events),
        "m_distinct": sorted({event.objective for event in events if event.objective is not None}) or None,
        "m_max": max(counted, default=None),
        "m_sum": float(sum(summed)) if summed else None,
        "m_values": sorted(counted) or None,
    }


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(history=histories(START, also=(ASSIGNED,)), data=st.data())
def test_both_forms_and_plain_python_agree(engine: Engine, history: list[Event], data: st.DataObject) -> None:
    events = sorted(history, key=lambda event: event.place)
    offer_events(engine, events)
    one_pass = run(engine, sorted_input=True)
    offer_events(engine, data.draw(st.permutations(events)))
    assert run(engine, sorted_input=False) == one_pass
    assert one_pass == [expected(stretch) for stretch in stretches_of(events)]


def test_an_assignment_takes_the_events_of_its_moment_with_it(engine: Engine) -> None:
    later = datetime(2026, 3, 2, 20, 5)
    events = [
        Event(1, START, "a"),
        Event(1, later, "z", name=ASSIGNED),
        Event(1, later, "b"),
        Event(2, later, "y", name=ASSIGNED),
        Event(2, later, "x", name=ASSIGNED),
    ]
    offer_events(engine, sorted(events, key=lambda event: event.place))
    rows = run(engine, sorted_input=True)
    assert [(row["learner_key"], row["started_at"], row["n_events"]) for row in rows] == [
        (1, START, 1),
        (1, later, 2),
        (2, later, 2),
    ]


@pytest.mark.parametrize("sorted_input", [True, False])
def test_no_events_give_no_days(engine: Engine, sorted_input: bool) -> None:
    offer_events(engine, [])
    assert run(engine, sorted_input=sorted_input) == []
