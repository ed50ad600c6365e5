"""The page of a week: what it says first, titles for names, each reason once, nothing lost on a phone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from exp_pipeline.model.weekly import WeekIncident, WeekMetric, WeekQuality, WeekReview
from exp_pipeline.report.weekly import weekly_html
from exp_pipeline_tests.report.reading import Page

AT = datetime(2026, 3, 25, 9, tzinfo=UTC)


def metric(name: str, **changes: Any) -> WeekMetric:
    fields: dict[str, Any] = {
        "metric": name, "title": name.capitalize(), "kind": "input", "display": "share", "value": 0.5,
        "before": 0.4, "units": 900, "units_before": 880, "change": 0.1, "ci_lower": 0.05, "ci_upper": 0.15,
    }  # fmt: skip
    return WeekMetric(**(fields | changes))


def review(*metrics: WeekMetric, **changes: Any) -> WeekReview:
    fields: dict[str, Any] = {
        "week": "2026-W13", "first": date(2026, 3, 23), "last": date(2026, 3, 29), "made_at": AT, "days": 7,
        "days_before": 7, "metrics": metrics, "quality": (), "incidents": (), "decisions": (), "changes": (),
        "experiments": (),
    }  # fmt: skip
    return WeekReview(**(fields | changes))


def said(text: str) -> str:
    return text.split('<p class="say">')[1].split("</p>")[0]


def test_the_first_sentences_name_what_moved_and_what_happened() -> None:
    quiet = weekly_html(review(metric("speed")))
    assert said(quiet) == (
        "No number moved clearly against the week before. "
        "No incident was opened, nothing was changed, nothing was decided."
    )
    incident = WeekIncident(
        rule="late_share", subject="turns:web", severity="page", what="opened", opened_at=AT, owner="data"
    )
    moved = weekly_html(
        review(
            metric("speed", moved=True, good=True),
            metric("cost", moved=True, good=False),
            incidents=(incident,),
        )
    )
    assert said(moved) == "Better: Speed; Worse: Cost. 1 incident was opened."
    assert said(weekly_html(review())).startswith("No number could be compared.")


def test_names_are_titles_and_reasons_stand_once() -> None:
    rows = (
        metric("mastery", kind="north-star"),
        metric("speed", drives="mastery"),
        metric("idle", before=0.5, change=None, ci_lower=None, ci_upper=None, reason="no spread"),
        *(metric(name, value=None, change=None, reason=f"not here: measure {name}") for name in ("a", "b")),
    )
    quality = WeekQuality(
        rule="late_share", failed=1, warned=0, told=7, failed_before=0, warned_before=0, told_before=7
    )
    text = weekly_html(review(*rows, quality=(quality,)))
    page = Page(text)
    assert "drives: Mastery" in text
    assert "late_share" not in text
    assert "no spread" not in text
    assert ">no change<" in text
    assert text.count("Not here") == 1
    assert "<dd>A; B</dd>" in text
    assert "2 metrics have no number by week" in text
    numbers = next(table for table in page.tables if table[0][0] == "Metric")
    assert {row[0] for row in numbers[1:]} >= {"North star", "Inputs"}


def test_what_a_phone_leaves_out_as_a_column_it_says_elsewhere() -> None:
    text = weekly_html(review(metric("speed", moved=True, good=False)))
    row = text[text.index("Speed</th>") :].split("</tr>")[0]
    assert row.count(">worse<") == 2
    assert row.index('class="narrow"') < row.index(">worse<") < row.rindex('<td class="broad">')
