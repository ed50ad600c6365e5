from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from exp_pipeline.contracts.events import event_majors, event_model, event_names, event_spec, event_specs
from exp_pipeline.contracts.fields import DERIVED, FIELDS, identifiers, raw_text, reduced_texts, sql_types

TAXONOMY = [
    "tutor_session_started",
    "tutor_session_ended",
    "tutor_turn_submitted",
    "model_request_created",
    "tool_call_executed",
    "tutor_turn_response_shown",
    "hint_requested",
    "answer_attempted",
    "assessment_completed",
    "rubric_scored",
    "preference_judged",
    "feedback_given",
    "content_generated",
    "content_reviewed",
    "safety_flagged",
    "safety_appealed",
    "teacher_overrode",
    "support_ticket_opened",
    "client_error_raised",
    "experiment_assigned",
    "experiment_exposed",
    "goal_reached",
]


def test_taxonomy_holds_every_event_in_version_1_and_what_changed_beside_it() -> None:
    assert list(event_names()) == TAXONOMY
    later = {name: event_majors(name) for name in event_names() if event_majors(name) != (1,)}
    assert later == {"feedback_given": (1, 2)}


def test_an_event_counts_its_minor_versions() -> None:
    answered = event_spec("answer_attempted")
    assert (answered.version, answered.since["mastery_points"]) == ("1.1", "1.1")
    assert set(answered.since) <= set(answered.optional) & set(answered.own)
    assert event_spec("goal_reached").version == "1.0"
    assert event_spec("feedback_given", 2).version == "2.0"


def test_a_version_that_ends_says_when_and_what_follows() -> None:
    for spec in event_specs():
        assert (spec.sunset is None) == (spec.replaced_by is None)
    assert event_spec("feedback_given").replaced_by == "feedback_given 2.0"


def test_every_event_has_an_owner_a_meaning_and_something_of_its_own() -> None:
    for spec in event_specs():
        assert spec.owner
        assert spec.description.endswith(".")
        assert spec.own
        assert set(spec.own) <= {*spec.required, *spec.optional}


def test_an_event_asks_for_what_the_design_asks() -> None:
    envelope = {
        "event_id", "event_name", "schema_version", "client_ts", "received_at", "occurred_at", "learner_id",
        "role", "platform", "app_version",
    }  # fmt: skip
    assert all(envelope <= set(spec.required) for spec in event_specs())
    response = event_spec("tutor_turn_response_shown")
    assert {
        "turn_id",
        "model_name",
        "tokens_in",
        "tokens_out",
        "cost_usd",
        "latency_ms",
        "retry_count",
    } <= set(response.required)
    assert "score <= max_score" in [rule.expression for rule in response.rules]


def test_fields_have_one_order_and_one_type_each() -> None:
    types = sql_types()
    assert list(types) == list(FIELDS)
    assert set(types.values()) == {"VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP"}
    assert list(DERIVED) == ["occurred_at"]
    assert list(sql_types(derived=True)) == [*FIELDS, "occurred_at"]
    assert len(FIELDS) == len(types)


def test_fields_mark_ids_of_people_and_organisations() -> None:
    people = ("learner_id", "device_id", "class_id", "teacher_id")
    assert identifiers() == (*people, "school_id", "district_id", "rater_id", "unit_id")


def test_raw_text_is_no_field_and_leaves_three_columns() -> None:
    assert raw_text() == ("prompt", "completion", "answer_text", "feedback_text")
    for text in reduced_texts():
        assert text.name not in FIELDS
        assert {FIELDS[column].reduces for column in (text.hmac, text.chars, text.language)} == {text.name}


def test_every_field_of_the_row_has_a_meaning_that_ends() -> None:
    assert [name for name, spec in FIELDS.items() if not spec.description.endswith(".")] == []


def test_no_field_is_left_without_an_event() -> None:
    named = {name for spec in event_specs() for name in (*spec.required, *spec.optional)}
    assert set(FIELDS) - named == set()


@pytest.mark.parametrize(
    ("name", "major", "words"), [("tutor_woke", 1, "taxonomy"), ("goal_reached", 2, "major")]
)
def test_asking_for_what_is_not_there_is_told(name: str, major: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        event_model(name, major)


def test_an_event_model_cannot_name_a_column_that_is_not_canonical() -> None:
    from exp_pipeline.contracts.models.row import CanonicalEvent

    with pytest.raises(ValueError, match="mood"):
        type("Bad", (CanonicalEvent,), {"__module__": __name__}, event="bad", always=("mood",))


def test_the_model_of_an_event_is_a_pandera_model() -> None:
    import pandera.polars as pa

    assert all(issubclass(event_model(name), pa.DataFrameModel) for name in event_names())
    assert all(inspect.getdoc(event_model(name)) for name in event_names())


def test_importing_the_contracts_loads_no_pandera_and_no_polars() -> None:
    code = (
        "import sys; from exp_pipeline.contracts import catalogue, events, fields, predicates, validation; "
        "print(sorted({'pandera', 'polars', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
