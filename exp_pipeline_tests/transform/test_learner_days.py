"""The one-pass form over arrays, the portable form and plain Python sum up the same learner-days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.metrics import Bins, Measure
from exp_pipeline.steps.behaviour.learner_days import learner_days_query
from exp_pipeline.steps.behaviour.stretch_files import Summing, write_stretches
from exp_pipeline.store.engine import Engine, text_literal
from exp_pipeline.transform.measures import column_types
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
# Every aggregate and every kind of condition, those that arrays know and those that the engine keeps.
ALL = (
    *MEASURES,
    Measure(name="n_all", description="d"),
    Measure(name="n_between", description="d", where="not (latency_ms <= 1 or 7.5 < latency_ms)"),
    Measure(name="n_changed", description="d", where="objective_changed and session_id is not null"),
    Measure(name="n_engine", description="d", where="length(learning_objective_id) > 5"),
    Measure(name="n_few", description="d", where="latency_ms in (0, 1, 2.5, -1)"),
    Measure(name="n_first", description="d", aggregate="first", where="Latency_MS is null"),
    Measure(name="n_last", description="d", aggregate="last", events=(TURN,)),
    Measure(name="n_least", description="d", aggregate="min", of="latency_ms"),
    Measure(name="n_odd", description="d", where="learning_objective_id <> 'area' or latency_ms >= 5"),
    Measure(name="n_some", description="d", where="learning_objective_id in ('area', 'nothing')"),
    Measure(name="n_sum_engine", description="d", aggregate="sum", of="latency_ms * 2", events=(TURN,)),
    Measure(
        name="n_bins", description="d", aggregate="histogram", of="latency_ms",
        bins=Bins(low=1.0, high=100.0, per_decade=4),
    ),
)  # fmt: skip


def portable(engine: Engine, measures: tuple[Measure, ...] = MEASURES) -> list[dict[str, Any]]:
    return engine.frame(query_text(learner_days_query(measures))).to_dicts()


def one_pass(
    engine: Engine, folder: Path, measures: tuple[Measure, ...] = MEASURES, *, group: int = 5
) -> list[dict[str, Any]]:
    """The learner-days of `events`, in the order that they stand in, read in small row groups."""
    events, path = folder / "events.parquet", folder / "learner_days.parquet"
    engine.write("select * from events", events, row_group_rows=group)
    columns = table_columns("learner_days") | column_types(measures)
    rows = write_stretches(engine, [events], path, columns, Summing(measures, table_columns("events")))
    found = engine.frame(f"select * from read_parquet({text_literal(str(path))})").to_dicts()
    assert len(found) == rows
    return found


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


@settings(
    max_examples=20,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories(START, also=(ASSIGNED,)), data=st.data())
def test_both_forms_and_plain_python_agree(
    engine: Engine, tmp_path: Path, history: list[Event], data: st.DataObject
) -> None:
    events = sorted(history, key=lambda event: event.place)
    offer_events(engine, events)
    found = one_pass(engine, tmp_path)
    whole = one_pass(engine, tmp_path, ALL)
    offer_events(engine, data.draw(st.permutations(events)))
    assert portable(engine) == found
    assert portable(engine, ALL) == whole
    assert found == [expected(stretch) for stretch in stretches_of(events)]


def test_an_assignment_takes_the_events_of_its_moment_with_it(engine: Engine, tmp_path: Path) -> None:
    later = datetime(2026, 3, 2, 20, 5)
    events = [
        Event(1, START, "a"),
        Event(1, later, "z", name=ASSIGNED),
        Event(1, later, "b"),
        Event(2, later, "y", name=ASSIGNED),
        Event(2, later, "x", name=ASSIGNED),
    ]
    offer_events(engine, sorted(events, key=lambda event: event.place))
    rows = one_pass(engine, tmp_path)
    assert [(row["learner_key"], row["started_at"], row["n_events"]) for row in rows] == [
        (1, START, 1),
        (1, later, 2),
        (2, later, 2),
    ]


def numbered(engine: Engine, numbers: Sequence[float | None]) -> None:
    """Offer events of one moment with these latencies, three for each learner."""
    events = [Event(1 + place // 3, START, f"e{place}", latency_ms=one) for place, one in enumerate(numbers)]
    offer_events(engine, sorted(events, key=lambda event: event.place))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(
        st.none() | st.floats(-1e9, 1e9) | st.sampled_from((5e-10, 1.5e-9, -5e-10, 1e9)), max_size=12
    )
)
@example(numbers=[1e9, 1e9, 1e9])
def test_sums_are_those_of_decimals_whoever_adds(
    engine: Engine, tmp_path: Path, numbers: list[float | None]
) -> None:
    numbered(engine, numbers)
    sums = (Measure(name="s", description="d", aggregate="sum", of="latency_ms"),)
    assert one_pass(engine, tmp_path, sums) == portable(engine, sums)


def test_to_both_nan_is_above_every_number(engine: Engine, tmp_path: Path) -> None:
    numbered(engine, [float("nan"), 1.0, None, float("nan"), float("nan"), None, 0.1, 0.2, 123456.789])
    above = [("above", "latency_ms > 0.15"), ("at_least", "latency_ms >= 0.2"), ("below", "latency_ms < 1e9")]
    measures = (
        *(Measure(name=name, description="d", where=where) for name, where in above),
        Measure(name="greatest", description="d", aggregate="max", of="latency_ms"),
        Measure(name="least", description="d", aggregate="min", of="latency_ms"),
        Measure(name="values", description="d", aggregate="values", of="latency_ms"),
    )
    # As text, as NaN is not equal to itself.
    assert str(one_pass(engine, tmp_path, measures)) == str(portable(engine, measures))


def test_the_same_rows_are_the_same_bytes_however_they_were_cut(engine: Engine, tmp_path: Path) -> None:
    offer_events(engine, [Event(1 + place // 3, START, f"e{place:03d}") for place in range(200)])
    files = set()
    for group in (1, 3, 50, 1000):
        one_pass(engine, tmp_path, ALL, group=group)
        files.add((tmp_path / "learner_days.parquet").read_bytes())
    assert len(files) == 1


def test_no_events_give_no_days(engine: Engine, tmp_path: Path) -> None:
    offer_events(engine, [])
    assert one_pass(engine, tmp_path, ALL) == portable(engine, ALL) == []
