from __future__ import annotations

import json

import polars as pl
import pytest

from exp_pipeline.contracts.catalogue import EventDoc, catalogue_markdown, event_catalogue
from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.contracts.validation import validate_events

DOCS = event_catalogue({"answer_attempted": ["mastery_efficiency"]})


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: f"{doc.name} {doc.major}")
def test_every_sample_payload_keeps_its_contract(doc: EventDoc) -> None:
    frame = pl.DataFrame({**doc.sample, "occurred_at": doc.sample["client_ts"]})
    assert validate_events(frame, doc.name, major=doc.major).height == 1


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: f"{doc.name} {doc.major}")
def test_the_payload_is_what_a_producer_sends(doc: EventDoc) -> None:
    sent = json.loads(doc.sample_json)
    assert set(sent) == set(doc.sample)
    assert set(sent) <= set(FIELDS)
    assert sent["event_name"] == doc.name
    assert sent["client_ts"].endswith("Z")
    assert {field.name for field in doc.fields if field.required} <= set(sent)


def test_the_page_names_every_event_and_every_field() -> None:
    page = catalogue_markdown(DOCS)
    assert all(f"\n## {doc.name}\n" in page for doc in DOCS)
    assert all(f"`{name}`" in page for name in FIELDS)
    assert "Used by `mastery_efficiency`." in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in rows if not line.startswith("|---")} == {6}


def test_metrics_of_an_unknown_event_are_told() -> None:
    with pytest.raises(ValueError, match="tutor_woke"):
        event_catalogue({"tutor_woke": ["anything"]})


def test_an_empty_catalogue_is_a_page_too() -> None:
    assert "No events" in catalogue_markdown(())
