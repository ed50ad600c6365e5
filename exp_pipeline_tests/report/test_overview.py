"""The pages about all experiments: what they list, in which order, readable without their script."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

import pytest

from exp_pipeline.model.decision_log import LoggedDecision
from exp_pipeline.model.intake import IntakeRow
from exp_pipeline.model.readout import SegmentValue
from exp_pipeline.report import (
    IndexEntry,
    decision_log_html,
    index_entry,
    index_html,
    review_board_html,
)
from exp_pipeline.report.overview.listing import PAGES
from exp_pipeline_tests.report.reading import Page
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import blinded, mismatch

EVIL = '<script>alert("x")</script>" onclick="x'


def entries() -> list[IndexEntry]:
    made = [
        index_entry(ship(), "ship.html"),
        index_entry(two_arms(), "two.html", stale=True, state="rolled_back"),
        index_entry(blinded(), "blinded.html"),
    ]
    return [
        made[0],
        made[1].model_copy(update={"owner": "Tutor Platform", "risk_class": "high"}),
        made[2].model_copy(update={"experiment": "hint-early"}),
    ]


def logged(**changes: Any) -> LoggedDecision:
    fields: dict[str, Any] = {
        "kind": "recommended",
        "experiment": "hint-ladder",
        "title": "Hints in three steps",
        "snapshot": "mad-2026-03-01-7f3a9c1e",
        "as_of": date(2026, 3, 1),
        "at": datetime(2026, 3, 2, 9, tzinfo=UTC),
        "outcome": "ship",
        "arm": "ladder",
        "by": "rules",
        "because": "Mastery rises and every guardrail holds.",
        "rule": "Primary metric",
        "planned": True,
        "effects_hidden": False,
        "brief_digest": "b41d7c02aa9e5d51c7c7b3c1f1b1b0f4a59f0ac2de41f0c8b1f9a5f35f0a7c11",
        "code_version": "0.1.0",
        "memo": "readouts/hint-ladder.html",
    }
    return LoggedDecision(**{**fields, **changes})


def queued(experiment: str, **changes: Any) -> IntakeRow:
    fields: dict[str, Any] = {
        "experiment": experiment, "version": 1, "title": "", "owner": "", "risk_class": "medium",
        "start": date(2026, 12, 1), "end": date(2027, 1, 1), "state": "draft", "completeness": 1.0,
        "missing": (), "priority": None, "priority_because": "", "reviewed": (), "waits_for": (),
    }  # fmt: skip
    return IntakeRow(**(fields | changes))


def reviews() -> list[IntakeRow]:
    return [
        queued("quiet-mode", completeness=0.9, waits_for=("privacy",), owner="classroom"),
        queued(
            "exit-ticket",
            title="An exit ticket",
            priority=21.0,
            waits_for=("statistics", "privacy"),
            reviewed=("pedagogy by classroom on 2026-11-03",),
        ),
        queued("voice-notes", completeness=0.62, priority=14.25, missing=("mde: not given",)),
    ]


PAGES_MADE = {
    "index": lambda: index_html(entries()),
    "decisions": lambda: decision_log_html([logged(), logged(outcome="stop")]),
    "reviews": lambda: review_board_html(reviews()),
}


@pytest.mark.parametrize("name", PAGES_MADE)
def test_a_page_leads_to_the_others_and_is_marked_in_their_list(name: str) -> None:
    page = Page(PAGES_MADE[name]())
    links = [attrs for tag, attrs in page.tags if tag == "a" and attrs.get("href") in dict(PAGES.values())]
    assert [attrs["href"] for attrs in links] == ["index.html", "decisions.html", "reviews.html"]
    assert [attrs["href"] for attrs in links if attrs.get("aria-current") == "page"] == [PAGES[name][0]]  # type: ignore[index]


@pytest.mark.parametrize("name", PAGES_MADE)
def test_a_page_is_sound_and_runs_only_its_own_script(name: str) -> None:
    text = PAGES_MADE[name]()
    page = Page(text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert page.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert not re.search(r"url\(|@import|https?://", text)
    controls = next(attrs for tag, attrs in page.tags if tag == "div" and attrs.get("class") == "controls")
    assert "hidden" in controls
    assert [tag for tag, _ in page.tags].count("main") == 1


def test_negative_numbers_have_a_real_minus_sign_and_names_keep_their_hyphens() -> None:
    because = "Waiting moves by -12.5 ms (-14.1 to -3 ms), p = 3e-05, on 2026-03-01 in mad-7-a --by-1."
    text = decision_log_html([logged(because=because, title="Model gpt-4 against -4 turns")])
    for kept in ("2026-03-01", "mad-7-a", "--by-1", "gpt-4", "3e-05"):
        assert kept in text
    for sign in ("by \N{MINUS SIGN}12.5 ms", "(\N{MINUS SIGN}14.1 to \N{MINUS SIGN}3 ms)"):
        assert sign in text
    assert "against \N{MINUS SIGN}4 turns" in text


def test_pages_lead_only_where_they_are_told_to() -> None:
    alone = Page(index_html(entries(), linked=("index",)))
    assert "nav" not in {tag for tag, _ in alone.tags}
    with_quality = index_html(entries(), linked=("index", "quality"))
    assert 'href="quality/index.html"' in with_quality
    assert "decisions.html" not in with_quality


def test_the_index_says_what_somebody_looks_for() -> None:
    text = index_html(entries())
    rows = [row for table in Page(text).tables for row in table[1:]]
    by_name = {row[0]: row for row in rows}
    ladder = next(row for name, row in by_name.items() if name.endswith("answerhint-ladder"))
    assert ladder[1] == "Ship"
    assert "+10.2 pp" in ladder[2]
    assert ladder[3:] == ["Learning Science", "medium", "planned term is over, decision due", "2026-03-01"]
    voice = next(row for name, row in by_name.items() if "hint-voice" in name)
    assert "Stale" in voice[0]
    assert (voice[3], voice[4], voice[5]) == ("Tutor Platform", "high", "rolled back")
    early = next(row for name, row in by_name.items() if "hint-early" in name)
    assert early[2] == "Effects are hidden."
    assert early[5] == "running"
    for label in ("Decision", "Owner", "Risk", "State"):
        assert re.search(f'<label for="by-[a-z]+">{label}</label><select id="by-', text)


def test_filters_offer_what_is_there_and_only_where_it_differs() -> None:
    text = index_html(entries()[:1])
    assert "data-filter=" not in text
    assert '<option value="Roll back">Roll back</option>' in index_html(entries())
    assert '<option value="Stop">' not in index_html(entries())


def test_the_log_is_numbered_as_it_was_written_and_shown_newest_first() -> None:
    rows = [logged(outcome="extend"), logged(outcome="ship"), logged(outcome="stop", experiment="other")]
    table = Page(decision_log_html(rows)).tables[0]
    assert [row[0] for row in table[1:]] == ["3", "2", "1"]
    assert [row[4] for row in table[1:]] == ["Stop", "Ship", "Extend"]
    assert Page(decision_log_html([])).tables == []
    assert "Nothing was decided yet." in decision_log_html([])


def test_the_log_says_where_people_decided_otherwise() -> None:
    row = logged(
        kind="decided",
        outcome="ship_scoped",
        recommended="ship",
        by="Learning Science",
        because="Grade 6 waits.",
        segments=(SegmentValue(column="grade", value="7"),),
        planned=False,
        effects_hidden=True,
    )
    text = decision_log_html([row])
    page = Page(text)
    cells = page.tables[0][1]
    assert "recommended was: ship" in cells[4]
    assert "for grade 7" in cells[4]
    assert "not at a planned look" in cells[4]
    assert "effects were hidden" in cells[4]
    assert cells[7] == "Learning Science"
    assert 'href="hint-ladder.html"' in text
    # Only twelve digits are shown, all can be searched for.
    assert row.brief_digest[:12] in cells[8]
    assert f'data-more="{row.brief_digest} 0.1.0"' in text


def test_the_board_puts_the_worthiest_first_and_counts_by_review() -> None:
    text = review_board_html(
        reviews(), pages={"voice-notes": "voice-notes.html"}, teams={"privacy": "data-protection"}
    )
    page = Page(text)
    rows = page.tables[0][1:]
    assert [row[0] for row in rows] == ["An exit ticketexit-ticket", "voice-notes", "quiet-mode"]
    assert rows[0][1:4] == ["21.0", "100 %", "statistics, privacygiven: pedagogy by classroom on 2026-11-03"]
    assert rows[1][4] == "mde: not given"
    assert rows[2][1] == "–"  # noqa: RUF001
    assert "What waits for whom" in page.text()
    assert "privacy review2 briefs, asked of data-protectionstatistics review1 brief" in page.text()
    assert text.count('href="voice-notes.html"') == 1
    assert 'data-is-waiting="statistics|privacy"' in text
    assert "No brief waits for a review." in review_board_html([])


def test_foreign_words_stay_words() -> None:
    evil = [
        index_html([entries()[0].model_copy(update={"title": EVIL, "owner": EVIL})]),
        decision_log_html([logged(because=EVIL, title=EVIL, by=EVIL), logged()]),
        review_board_html([queued(EVIL, waits_for=(EVIL, "b"))]),
    ]
    for text in evil:
        page = Page(text)
        assert [tag for tag, _ in page.tags].count("script") == 1
        assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    with pytest.raises(ValueError, match="href"):
        review_board_html([queued("a")], pages={"a": "javascript:alert(1)"})


def test_an_investigation_stands_with_hidden_effects() -> None:
    (row,) = Page(index_html([index_entry(mismatch(), "m.html")])).tables[0][1:]
    assert row[1:3] == ["Investigate", "Effects are hidden."]
