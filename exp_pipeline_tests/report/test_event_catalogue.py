"""The catalogue's page and Markdown: everything told once, well formed, and safe whatever a contract says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from exp_pipeline.model.event_docs import EventDoc, FieldDoc, RuleDoc
from exp_pipeline.report.event_catalogue import catalogue_html, catalogue_markdown, worded
from exp_pipeline_tests.report.reading import Page, markdown_page

NAME = FieldDoc("event_name", "string", True, True, True, False, "Which fact.", "", "", "answered")
SCORE = FieldDoc(
    "score", "float", True, False, False, True, "Points reached, see `max_score`.", "points", "0 to 10", "3.0"
)
NOTE = FieldDoc(
    "note", "string", False, False, False, True, "A note.", "", "", "x", "1.2", "2027-06-30", "lower(note)"
)
SHARED = RuleDoc("in_time", "received_at >= occurred_at", "It came after it happened.")
OWN = RuleDoc("score_fits", "score <= 10 | 0", "A score is at most ten.")
NEW = EventDoc(
    name="answered",
    major=2,
    version="2.0",
    newest=True,
    owner="learning",
    meaning="A learner answered.\n\nMore about it.",
    fields=(NAME, SCORE, NOTE),
    rules=(SHARED, OWN),
    sample={"event_name": "answered", "score": 3.0},
    sample_json='{\n  "event_name": "answered",\n  "score": 3.0\n}',
    metrics=("accuracy",),
    sunset=None,
    replaced_by=None,
)
OLD = replace(
    NEW,
    major=1,
    version="1.4",
    newest=False,
    sunset="2027-12-31",
    replaced_by="answered 2.0",
    rules=(SHARED,),
)
LEFT = replace(
    NEW, name="left", major=1, version="1.0", fields=(NAME,), rules=(SHARED,), metrics=(), meaning="Left."
)
DOCS = (OLD, NEW, LEFT)


def test_the_page_tells_every_event_field_rule_and_metric() -> None:
    page = Page(catalogue_html(DOCS))
    words = page.text()
    assert page.headings[0] == 1
    for told in (
        *("2.0 current", "1.4 ends 2027-12-31", "Send answered 2.0 instead", "Owned by learning"),
        *("Allowed: 0 to 10.", "Since 1.2.", "To be sent until 2027-06-30.", "Read as lower(note)."),
        *("accuracy", "No metric reads it by name.", "More about it.", '"score": 3.0'),
    ):
        assert told in words, told
    # The rule that all share stands once, the rule of one version with that version only.
    assert words.count(SHARED.meaning) == 1
    assert words.count(OWN.meaning) == 1
    assert ["score required", "float points", "Points reached, see max_score. Allowed: 0 to 10.", "3.0"] in [
        [cell.replace("floatpoints", "float points") for cell in row]
        for table in page.tables
        for row in table
    ]


def test_ids_are_unique_and_every_link_leads_somewhere() -> None:
    page = Page(catalogue_html(DOCS))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} <= set(ids)
    labelled = {
        attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes
    }
    assert labelled <= set(ids)


def test_the_page_needs_no_other_file() -> None:
    text = catalogue_html(DOCS)
    assert re.findall(r"(?:src=|url\(|@import|https?://)", text) == []


def test_where_no_catalog_was_read_nothing_is_said_of_metrics() -> None:
    words = Page(catalogue_html(DOCS, metrics_known=False)).text()
    assert "No metric" not in words
    assert "accuracy" not in words
    assert "No metric" not in catalogue_markdown(DOCS, metrics_known=False)


def test_the_markdown_reads_as_the_page_does() -> None:
    page = markdown_page(catalogue_markdown(DOCS))
    words = page.text()
    assert page.headings == [1, 2, 2, 2, 2, 3, 3, 2, 3]
    for told in ("answered 2.0, current", "answered 1.4, ends 2027-12-31", "score <= 10 | 0", "accuracy"):
        assert told in words
    fields = [table for table in page.tables if table[0][0] == "field"]
    assert [len(row) for table in fields for row in table] == [7] * sum(len(table) for table in fields)
    assert words.count(SHARED.meaning) == 1


def test_foreign_words_stay_words() -> None:
    odd = replace(LEFT, meaning="<script>alert(1)</script> | `x", owner="<b>me</b>", metrics=("<i>m</i>",))
    page = Page(catalogue_html((odd,)))
    assert "<script>alert(1)</script>" in page.text()
    assert not {"b", "i"} & {tag for tag, _ in page.tags}
    assert len(markdown_page(catalogue_markdown((odd,))).tables[0][1]) == 4


def test_quoted_words_are_code() -> None:
    assert worded("send `a<b` on") == "send <code>a&lt;b</code> on"


@pytest.mark.parametrize("draw", [catalogue_html, catalogue_markdown])
def test_an_empty_catalogue_is_a_page_too(draw: type) -> None:
    assert "No events." in draw(())
