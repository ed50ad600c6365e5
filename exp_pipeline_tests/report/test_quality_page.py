"""The page of data quality: worst first, every number in each form, foreign names harmless."""

from __future__ import annotations

import re
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest

from exp_pipeline.model.quality import Carrier, QualityFinding, QualityLine, QualityPage, QualityPoint
from exp_pipeline.model.quality_rules import QUALITY_RULES, QualityRuleName
from exp_pipeline.model.readout import Verdict
from exp_pipeline.report.quality import (
    day_view,
    in_unit,
    quality_html,
    quality_index_html,
    quality_markdown,
)

DAY = date(2026, 3, 30)
NASTY = "<script>alert(1)</script>|`x`"


def line(rule: QualityRuleName, verdict: Verdict, value: float | None, **more: object) -> QualityLine:
    fields: dict[str, object] = {
        "day": DAY,
        "rule": rule,
        "subject": QUALITY_RULES[rule].subject,
        "value": value,
        "threshold": 0.05,
        "unit": QUALITY_RULES[rule].unit,
        "rows": 1_000,
        "verdict": verdict,
        "owner": "data-platform",
        "evidence": "12.3 % of 1,000 rows",
    }
    found = QualityFinding.model_validate({**fields, **more})
    history = tuple(
        QualityPoint(day=DAY - timedelta(days=back), verdict="pass", value=0.01, threshold=0.05)
        for back in (9, 8, 7, 3, 2, 1)
    )
    today = QualityPoint(day=DAY, verdict=verdict, value=value, threshold=0.05)
    since = DAY if verdict in ("warn", "fail") else None
    return QualityLine(finding=found, history=(*history, today), since=since)


def page(*lines: QualityLine, runbooks_at: str = "") -> QualityPage:
    return QualityPage(day=DAY, lines=lines, history_days=28, runbooks_at=runbooks_at)


BAD = page(
    line(
        "retries",
        "fail",
        0.123,
        carriers=(
            Carrier(group=NASTY, value=0.4, part=40, rows=100, verdict="fail"),
            Carrier(group="all", value=0.123, part=123, rows=1_000, verdict="warn"),
        ),
    ),
    line("clock_skew", "warn", 0.06),
    line("volume", "pass", 0.02),
    line("orphan_appeals", "cannot_tell", None, evidence="0 appeals, at least 20 are needed"),
)


class Reader(HTMLParser):
    """Tags, links and ids of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            if name == "id" and value is not None:
                self.ids.append(value)


def test_the_page_stands_alone_and_escapes_what_is_foreign() -> None:
    html = quality_html(BAD)
    read = Reader(html)
    assert "script" not in read.tags
    assert read.links == ["#rules", "index.html"]
    assert len(read.ids) == len(set(read.ids))
    assert "&lt;script&gt;" in html
    assert html == quality_html(BAD)


def test_worst_comes_first_with_its_number_line_and_first_look() -> None:
    view = day_view(BAD)
    assert [one.name for one in view.failing] == ["retries", "clock_skew"]
    assert [(label, count) for label, _, count in view.counts] == [
        ("fails", 1), ("warning", 1), ("passes", 1), ("not judged", 1),
    ]  # fmt: skip
    for form in (quality_html(BAD), quality_markdown(BAD)):
        seen = [form.index(QUALITY_RULES[name].title) for name in ("retries", "clock_skew", "volume")]
        assert seen == sorted(seen)
        for words in ("12.3 %", "at most 5.0 %", "docs/runbooks/quality/retries.md", "since 2026-03-30"):
            assert words in form
        assert "0 appeals, at least 20 are needed" in form


def test_markdown_keeps_its_table_whole() -> None:
    rows = [row for row in quality_markdown(BAD).splitlines() if row.startswith("|") and "alert" in row]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 5


def test_a_runbook_is_a_link_where_its_address_is_known() -> None:
    known = BAD.model_copy(update={"runbooks_at": "https://docs.example.org/runbooks/"})
    assert "https://docs.example.org/runbooks/quality/retries.md" in Reader(quality_html(known)).links


def test_a_rule_that_waits_names_its_day() -> None:
    waiting = page(line("late_rows", "fail", 0.3, day=DAY - timedelta(days=2)))
    assert "Newest day that can be told: 2026-03-28" in quality_html(waiting)


def test_a_day_on_which_all_is_well_and_one_that_tells_nothing() -> None:
    well = day_view(page(line("volume", "pass", 0.02)))
    assert (well.tone, well.summary) == ("good", "Every rule that could be judged passes.")
    nothing = day_view(page(line("volume", "cannot_tell", None)))
    assert (nothing.tone, nothing.summary) == ("calm", "No rule could be judged; the reasons stand below.")


def test_the_index_leads_to_the_days_that_have_a_page() -> None:
    html = quality_index_html(BAD, {DAY, DAY - timedelta(days=1)})
    read = Reader(html)
    assert set(read.links) == {"#rules", "2026-03-30.html", "2026-03-29.html"}
    assert len(read.ids) == len(set(read.ids))
    assert html.count("<tr>") == 1 + len(BAD.lines)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0042, "share", "0.42 %"),
        (0.123, "share", "12.3 %"),
        (0.0, "share", "0.0 %"),
        (1.0, "values", "1 value"),
        (-3.0, "days", "\N{MINUS SIGN}3 days"),
        (None, "share", "\N{EN DASH}"),
    ],
)
def test_numbers_in_words(value: float | None, unit: str, text: str) -> None:
    assert in_unit(value, unit) == text  # type: ignore[arg-type]
