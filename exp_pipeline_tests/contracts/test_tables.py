from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

from exp_pipeline.contracts.catalogue import event_catalogue
from exp_pipeline.contracts.validation import table_names, validate_events, validate_table
from exp_pipeline.model.errors import ContractError

SESSION = {
    "session_id": "s1",
    "learner_id": "l1",
    "learner_key": 7,
    "event_date": date(2026, 3, 2),
    "started_at": datetime(2026, 3, 2, 23, 50),
    "ended_at": datetime(2026, 3, 3, 0, 20),
    "minutes": 30.0,
    "end_reason": "idle",
    "n_events": 4,
    "n_turns": 2,
    "n_responses": 2,
    "producer_session_id": None,
    "producer_session_agrees": None,
    "objective": None,
    "role": "student",
    "platform": "web",
    "app_version": "4.2.0",
    "locale": None,
    "class_id": None,
    "teacher_id": None,
    "school_id": None,
    "district_id": None,
}
EMPTY_TEXTS = (
    *("producer_session_id", "objective", "locale"),
    *("class_id", "teacher_id", "school_id", "district_id"),
)


def sessions(*changes: dict[str, object]) -> pl.DataFrame:
    texts = dict.fromkeys(EMPTY_TEXTS, pl.String)
    schema = pl.Schema({"learner_key": pl.UInt64, "producer_session_agrees": pl.Boolean, **texts})
    rows = [{**SESSION, "session_id": f"s{index}", **change} for index, change in enumerate(changes)]
    return pl.DataFrame(rows, schema_overrides=schema)


def test_the_tables_have_contracts() -> None:
    assert {"sessions", "assignments", "exposures", "quarantine", "exclusions", "unit_days", "mad"} <= set(
        table_names()
    )


def test_good_sessions_pass_lazily_too_and_an_empty_table_passes() -> None:
    frame = sessions({}, {"producer_session_agrees": True, "context": "more"})
    assert validate_table("sessions", frame, "2026-03-02").equals(frame)
    assert validate_table("sessions", frame.lazy(), "2026-03-02").equals(frame)
    assert validate_table("sessions", frame.clear(), "2026-03-02").height == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_events": 0, "n_turns": 0, "n_responses": 0}, "n_events"),
        ({"end_reason": "bored"}, "end_reason"),
        ({"learner_id": None}, "learner_id"),
        ({"learner_id": ""}, "learner_id"),
        ({"session_id": "s0"}, "session_id"),
        ({"ended_at": datetime(2026, 3, 2, 23, 49)}, "rule:ends_after_start"),
        ({"event_date": date(2026, 3, 3)}, "rule:on_its_day"),
        ({"n_turns": 5}, "rule:turns_are_events"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_bad_session_is_told_with_table_partition_and_row(
    change: dict[str, object], words: str, lazy: bool
) -> None:
    frame = sessions({}, change)
    with pytest.raises(ContractError) as caught:
        validate_table("sessions", frame.lazy() if lazy else frame, "2026-03-02")
    assert "table sessions, partition 2026-03-02" in str(caught.value)
    assert any(failure.startswith("row 1") and words in failure for failure in caught.value.failures)


def test_a_missing_or_mistyped_column_is_told() -> None:
    frame = sessions({}).drop("learner_id").with_columns(pl.col("n_events").cast(pl.String))
    with pytest.raises(ContractError) as caught:
        validate_table("sessions", frame, "2026-03-02")
    assert "learner_id" in str(caught.value)
    assert "n_events: dtype('Int64')" in str(caught.value)


def test_a_bad_event_is_told_with_its_id() -> None:
    (doc,) = (doc for doc in event_catalogue() if doc.name == "tutor_turn_response_shown")
    good = {**doc.sample, "occurred_at": doc.sample["client_ts"]}
    frame = pl.DataFrame([good, {**good, "event_id": "evt-bad", "turn_id": None}])
    with pytest.raises(ContractError, match=r"row 1 \(event_id evt-bad\): turn_id: not_nullable"):
        validate_events(frame, doc.name, partition="2026-03-02")


def test_a_table_without_contract_is_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match="allowed: events, quarantine"):
        validate_table("moods", pl.DataFrame(), "2026-03-02")
