"""The catalogue tells every version of every event, with a payload that keeps its contract."""

from __future__ import annotations

import json

import polars as pl
import pytest

from exp_pipeline.contracts.catalogue import event_catalogue
from exp_pipeline.contracts.events import event_specs
from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.contracts.validation import validate_events
from exp_pipeline.model.event_docs import EventDoc

DOCS = event_catalogue({"answer_attempted": ["mastery_efficiency"]})


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: f"{doc.name} {doc.version}")
def test_every_sample_payload_keeps_its_contract(doc: EventDoc) -> None:
    frame = pl.DataFrame({**doc.sample, "occurred_at": doc.sample["client_ts"]})
    assert validate_events(frame, doc.name, major=doc.major).height == 1


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: f"{doc.name} {doc.version}")
def test_the_payload_is_what_a_producer_sends(doc: EventDoc) -> None:
    sent = json.loads(doc.sample_json)
    assert set(sent) == set(doc.sample)
    assert set(sent) <= set(FIELDS)
    assert sent["event_name"] == doc.name
    assert sent["schema_version"] == doc.version
    assert sent["client_ts"].endswith("Z")
    assert {field.name for field in doc.fields if field.required} <= set(sent)
    assert not {field.name for field in doc.fields if field.sunset is not None} & set(sent)


def test_every_version_is_told_the_newest_first() -> None:
    assert {(doc.name, doc.major) for doc in DOCS} == {(spec.name, spec.major) for spec in event_specs()}
    feedback = [doc for doc in DOCS if doc.name == "feedback_given"]
    assert [(doc.version, doc.newest, doc.sunset) for doc in feedback] == [
        ("2.0", True, None),
        ("1.1", False, "2027-12-31"),
    ]


def test_a_field_is_told_as_its_version_means_it() -> None:
    new, old = (
        next(field for field in doc.fields if field.name == "rating")
        for doc in DOCS
        if doc.name == "feedback_given"
    )
    assert (old.allowed, old.read_as) == ("1 to 5", None)
    assert new.allowed == "-1,000,000 to 1,000,000"
    assert new.read_as is not None
    assert "rating_max" in new.read_as
    scored = next(doc for doc in DOCS if doc.name == "rubric_scored")
    assert {field.name: field.sunset for field in scored.fields if field.sunset} == {"rating": "2027-12-31"}
    assert {field.name: field.since for field in scored.fields if field.since} == {"passed": "1.1"}


def test_metrics_of_an_unknown_event_are_told() -> None:
    with pytest.raises(ValueError, match="tutor_woke"):
        event_catalogue({"tutor_woke": ["anything"]})
