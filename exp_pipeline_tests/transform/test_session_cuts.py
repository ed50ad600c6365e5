"""Which moments of a day are marked: a new objective before, another learner on the device after."""

from __future__ import annotations

from datetime import datetime

import polars as pl
from hypothesis import given, settings

from exp_pipeline.store.engine import Engine
from exp_pipeline.transform.queries import load, query_text
from exp_pipeline_tests.transform.cutting import Event, flagged
from exp_pipeline_tests.transform.drawing import histories

START = datetime(2026, 3, 2, 8, 0)


def _offer(engine: Engine, history: list[Event], refused: set[int]) -> None:
    numbers = list(range(1, len(history) + 1))
    engine.offer_frame(
        "landed",
        pl.DataFrame(
            {
                "file": ["f"] * len(history),
                "received_date": [START.date()] * len(history),
                "row_number": numbers,
                "part": [0] * len(history),
                "learner_key": [event.learner for event in history],
                "occurred_at": [event.at for event in history],
                "event_id": [event.event_id for event in history],
                "device_id": [event.device for event in history],
                "learning_objective_id": [event.objective for event in history],
                "event_date": [event.day for event in history],
            },
            schema_overrides={"device_id": pl.String, "learning_objective_id": pl.String},
        ),
    )
    fates = [
        {"received_date": START.date(), "file": "f", "row_number": number, "part": 0}
        for number in sorted(refused)
    ]
    schema = {"received_date": pl.Date, "file": pl.String, "row_number": pl.Int64, "part": pl.Int64}
    engine.offer_frame("fates", pl.DataFrame(fates, schema=schema))


@settings(max_examples=40, deadline=None)
@given(history=histories(START, most=8))
def test_cuts_are_those_of_plain_python(engine: Engine, history: list[Event]) -> None:
    today = [event for event in history if event.day == START.date()]
    refused = {number for number in range(1, len(history) + 1) if number % 5 == 0}
    _offer(engine, history, refused)
    text = query_text(load("session_cuts"))
    found = {
        number: (bool(changed), bool(handed))
        for number, changed, handed in engine.connection.execute(
            f"select row_number, objective_changed, device_handover from ({text})", {"day": START.date()}
        ).fetchall()
    }
    kept = [
        event for number, event in enumerate(history, start=1) if number not in refused and event in today
    ]
    marked = {event.event_id: event for event in flagged(kept)}
    expected = {
        number: (marked[event.event_id].objective_changed, marked[event.event_id].device_handover)
        for number, event in enumerate(history, start=1)
        if event in kept
    }
    assert found == {number: flags for number, flags in expected.items() if any(flags)}
