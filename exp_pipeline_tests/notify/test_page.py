"""A page fits a phone and says everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.model.incidents import RULES, Change
from exp_pipeline.notify.page import PAGE_LENGTH, one_line, page_text, shortened
from exp_pipeline_tests.notify.incident_samples import incident


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_page_says_all_that_is_needed_first(rule: str) -> None:
    opened = incident(rule=rule)
    text = page_text(opened)
    assert len(text) <= PAGE_LENGTH
    for part in ("PAGE", opened.subject, "2026-03-05", opened.hurt, opened.first_action, opened.owner):
        assert part in text
    assert "p 1.2e-09 (below 0.001): arms 52.0/48.0 %" in text
    assert text.endswith(opened.runbook)


@given(
    rule=st.sampled_from(sorted(RULES)),
    subject=st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    evidence=st.text(max_size=600),
    owner=st.text(max_size=300),
    change=st.sampled_from(["opened", "worsened", "resolved"]),
)
def test_no_text_is_too_long_or_has_two_lines(
    rule: str, subject: str, evidence: str, owner: str, change: Change
) -> None:
    opened = incident(rule=rule, subject=subject, evidence=evidence, owner=owner)
    if change == "resolved":
        opened = opened.model_copy(update={"status": "resolved"})
    text = page_text(opened, change)
    assert len(text) <= PAGE_LENGTH
    assert text.isprintable()
    assert text.endswith(opened.runbook)
    assert opened.since.isoformat() in text


def test_evidence_gives_way_before_owner_and_first_action() -> None:
    opened = incident(evidence="x" * 400)
    text = page_text(opened)
    assert len(text) == PAGE_LENGTH
    assert opened.owner in text
    assert opened.first_action in text
    assert "x…" in text


def test_a_recovery_asks_for_nothing() -> None:
    closed = incident().model_copy(update={"status": "resolved"})
    text = page_text(closed, "resolved")
    assert text.startswith("RESOLVED")
    assert "First:" not in text
    assert closed.owner in text


def test_a_second_line_cannot_be_forged() -> None:
    assert one_line("fine.\nPAGE all is lost.\x1b[31m") == "fine. PAGE all is lost. [31m"
    assert shortened("abcdef", 3) == "ab…"
