"""Names and words of briefs are other people's text: no form may take them for markup."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exp_pipeline.model.brief import Arm
from exp_pipeline.model.readout import Readout
from exp_pipeline.report import IndexEntry, index_entry, index_html, plots, render_memo, summary_markdown
from exp_pipeline.report.document import clean
from exp_pipeline.report.markdown import escaped
from exp_pipeline_tests.report.parts import checks
from exp_pipeline_tests.report.reading import Page, markdown_page
from exp_pipeline_tests.report.sample_ship import ship

EVIL = (
    '<script>alert("x")</script>|a|b| </title></style> & "q" \'s\' `c` [l](javascript:alert(1)) '
    "![i](http://e.example/p.png) *b* _i_ {{ 7*7 }} ]]>"
)
SHORT = "<b onclick=x>|p|"


def planted() -> Readout:
    """A readout with hostile words in every free text, and hostile arm names where the model lets them be."""
    full = ship().model_dump(mode="python")

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {
                name: inner
                if name in ("variance_reduction", "stopping") and isinstance(inner, dict)
                else spoil(inner, name)
                for name, inner in value.items()
            }
        if isinstance(value, (list, tuple)):
            return tuple(spoil(inner, key) for inner in value)
        if isinstance(value, str) and key in FREE:
            return EVIL if key not in ("segment_value", "reason") else SHORT + value
        return value

    return Readout.model_validate(spoil(full))


FREE = {
    "title",
    "change",
    "population",
    "context",
    "moves",
    "because",
    "without_harming",
    "owner",
    "on_call",
    "decision_asked",
    "summary",
    "rule",
    "evidence",
    "limits",
    "next_steps",
    "method",
    "assumptions",
    "note",
    "segment_value",
    "reason",
    "source",
    "code_version",
    "variant",
    "flags",
    "run_id",
    "currency",
    "snapshot",
}


def test_planted_markup_stays_words_in_the_page() -> None:
    text = render_memo(planted()).html
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "b" not in {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert "49" not in page.text().split("{{ 7*7 }}")[0][-40:]
    assert clean(EVIL) in page.text()
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_planted_markup_stays_words_in_markdown() -> None:
    memo = render_memo(planted())
    page = markdown_page(memo.markdown)
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"script", "b", "a", "img", "em", "code"})
    honest = markdown_page(render_memo(ship()).markdown)
    assert [[len(row) for row in table] for table in page.tables if table[0][0] != "Metric"] == [
        [len(row) for row in table] for table in honest.tables if table[0][0] != "Metric"
    ]
    assert clean(EVIL) in page.text().replace("\u200b", "")


def test_planted_markup_stays_words_in_summary_index_and_plots() -> None:
    readout = planted()
    assert markdown_page(summary_markdown(readout)).tags
    assert {tag for tag, _ in markdown_page(summary_markdown(readout)).tags}.isdisjoint(
        {"script", "b", "a", "img"}
    )
    index = Page(index_html([index_entry(readout, "a%22b.html")]))
    assert [tag for tag, _ in index.tags].count("script") == 1
    for draw in (plots.forest, plots.segments, plots.guardrails, plots.cumulative, plots.sample_ratio):
        svg = Page(draw(readout))
        assert {tag for tag, _ in svg.tags} <= {
            "svg",
            "title",
            "desc",
            "text",
            "line",
            "rect",
            "circle",
            "polyline",
            "polygon",
        }
    assert json.loads(render_memo(readout).json)["title"] == clean(EVIL)


def test_arm_names_in_tables_are_escaped_too() -> None:
    arms = (Arm.model_construct(name=SHORT, share=0.5, description=""), ship().brief.arms[1])
    brief = ship().brief.model_copy(update={"arms": arms, "control": SHORT})
    days = tuple(d.model_copy(update={"counts": {SHORT: 4000, "ladder": 4001}}) for d in ship().sample_ratio)
    memo = render_memo(
        ship().model_copy(update={"brief": brief, "sample_ratio": days, "integrity": checks()})
    )
    assert "<b " not in memo.html
    assert "b" not in {tag for tag, _ in markdown_page(memo.markdown).tags}


@pytest.mark.parametrize(
    "words",
    [
        "# head",
        "- item",
        "1. item",
        "+ plus",
        "=====",
        "> quote",
        "a | b",
        "a\\|b",
        "<!-- c -->",
        "&lt;",
        "~~s~~",
        "line\n\n# two",
    ],
)
def test_markdown_reads_back_as_it_was_written(words: str) -> None:
    page = markdown_page(escaped(words))
    assert [tag for tag, _ in page.tags] == ["p"]
    assert page.text() == clean(words)


def test_unseen_characters_are_dropped() -> None:
    assert clean("a\u202eb\x00c\nd\u200be") == "abc de"


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example/x",
        "JaVaScRiPt:x",
        " javascript:x",
        "java\nscript:x",
    ],
)
def test_the_index_refuses_addresses_that_are_not_pages(href: str) -> None:
    with pytest.raises(ValueError, match="href"):
        index_entry(ship(), href)


def test_the_index_lists_newest_first_and_hides_blinded_effects() -> None:
    entries = [index_entry(ship(), "ship.html")]
    older = IndexEntry.model_validate(
        {**entries[0].model_dump(), "as_of": "2026-01-01", "experiment": "old-one", "blinded": True}
    )
    text = index_html([older, *entries])
    assert text.index("hint-ladder") < text.index("old-one")
    assert text.count("+10.2 pp") == 1
    assert "No experiment has a readout yet." in index_html([])
