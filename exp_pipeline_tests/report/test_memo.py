# ruff: noqa: RUF001
"""The memo in its three forms: the same numbers, well formed, nothing from outside, the same bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from exp_pipeline.model.readout import Readout
from exp_pipeline.report import (
    Memo,
    memo_html,
    memo_json,
    memo_markdown,
    memo_schema,
    render_memo,
    summary_markdown,
)
from exp_pipeline.report.document import MemoDocument
from exp_pipeline.report.markdown import SUMMARY_LIMIT
from exp_pipeline_tests.report.reading import Page, html_tables, json_tables, markdown_page
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import SAMPLES, blinded, by_class, empty

every_sample = pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES.keys())
Make = Callable[[], Readout]


@every_sample
def test_the_three_forms_hold_the_same_tables(make: Make) -> None:
    memo = render_memo(make())
    tables = json_tables(memo.json)
    page, markdown = html_tables(memo.html), markdown_page(memo.markdown).tables
    for table in tables:
        assert table in page
        if table[0][0] == "Segment":
            continue
        assert [[cell.replace("\u200b", "") for cell in row] for row in table] in [
            [[cell.replace("\u200b", "") for cell in row] for row in other] for other in markdown
        ]


@every_sample
def test_the_three_forms_say_the_same_sentences(make: Make) -> None:
    memo = render_memo(make())
    facts = json.loads(memo.json)
    sentences = [
        facts["decision"]["sentence"],
        facts["decision"]["asked"],
        facts["hypothesis"],
        facts["integrity_summary"],
    ]
    sentences += [effect["sentence"] for effect in facts["primary"]]
    sentences += [view["sentence"] for view in facts["guardrails"]]
    sentences += [row["sentence"] for row in facts["impact"]]
    sentences += [*facts["limits"], *facts["next_steps"], *facts["rollback_triggers"], *facts["method"]]
    page, markdown = _squeezed(Page(memo.html).text()), _squeezed(markdown_page(memo.markdown).text())
    for sentence in sentences:
        assert _squeezed(sentence) in markdown
        if sentence not in [effect["sentence"] for effect in facts["primary"]]:
            assert _squeezed(sentence) in page
    for effect in facts["primary"]:
        for part in (effect["title"], effect["absolute"]["text"], effect["detail"]):
            assert _squeezed(part) in page


def test_the_headline_reads_as_promised() -> None:
    wanted = (
        "Mastery within 14 days +10.2 pp (95 % interval 5.1 to 15.3) adjusted for what was known before, "
        "as observed 45.1 % → 55.3 %"
    )
    facts = json.loads(memo_json(ship()))
    assert facts["headline"] == f"{wanted}."
    assert wanted in memo_markdown(ship())
    assert wanted in memo_html(ship())


@every_sample
def test_the_page_is_well_formed_and_stands_alone(make: Make) -> None:
    text = memo_html(make())
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "link", "iframe", "img", "object", "embed", "base"}
    )
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "src"], tag
        if "href" in attrs:
            assert (attrs["href"] or "").lstrip("#") in ids
        for name in ("aria-labelledby", "aria-describedby"):
            for target in (attrs.get(name) or "").split():
                assert target in ids
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert text.count("<caption") == text.count("<table>")
    html = next(attrs for tag, attrs in page.tags if tag == "html")
    assert html["lang"] == "en"


@every_sample
def test_equal_readouts_give_equal_bytes(make: Make) -> None:
    again = type(make()).model_validate_json(make().model_dump_json())
    assert render_memo(make()) == render_memo(again)


def test_bytes_do_not_depend_on_the_process() -> None:
    code = "from exp_pipeline_tests.report.sample_two_arms import two_arms; from exp_pipeline.report import render_memo; import hashlib; m = render_memo(two_arms()); print(hashlib.sha256((m.html + m.markdown + m.json).encode()).hexdigest())"  # noqa: E501
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("77", "Asia/Tokyo"))
    }
    assert len(seen) == 1


@every_sample
def test_the_json_fits_its_published_schema(make: Make) -> None:
    text = memo_json(make())
    assert MemoDocument.model_validate_json(text).schema_version == "1.1"
    schema = memo_schema()
    assert schema["properties"]["schema_version"]["default"] == "1.1"
    assert set(json.loads(text)) <= set(schema["properties"])
    assert set(schema["required"]) <= set(json.loads(text))


@every_sample
def test_the_summary_fits_its_panel(make: Make) -> None:
    text = summary_markdown(make())
    assert len(text) < SUMMARY_LIMIT
    assert text.startswith("**")


def test_a_very_long_summary_is_cut_between_lines() -> None:
    long = two_arms()
    arms = long.guardrails * 20
    text = summary_markdown(long.model_copy(update={"guardrails": arms}))
    assert len(text) < SUMMARY_LIMIT
    assert text.endswith("\N{HORIZONTAL ELLIPSIS}")


def test_what_cannot_be_estimated_says_why() -> None:
    for text in (memo_html(two_arms()), memo_json(two_arms()), memo_markdown(two_arms())):
        assert "not estimable: no event of session_end arrived" in text


def test_each_arm_has_its_own_decision() -> None:
    facts = json.loads(memo_json(two_arms()))
    assert [(arm["arm"], arm["outcome"]) for arm in facts["decision"]["arms"]] == [
        ("ladder", "iterate"),
        ("coach-voice", "roll_back"),
    ]
    for text in (memo_html(two_arms()), memo_markdown(two_arms())):
        assert "Iterate" in text
        assert "Roll back" in text


def test_an_early_look_prints_its_reason() -> None:
    for text in (memo_html(two_arms()), memo_markdown(two_arms()), memo_json(two_arms())):
        assert "Answer time doubled for one school" in text


def test_an_empty_readout_is_still_a_memo() -> None:
    memo = render_memo(empty())
    assert isinstance(memo, Memo)
    assert "No integrity check was run." in memo.markdown
    assert "The brief is not locked." in memo.html


def test_a_null_effect_has_no_signed_zero() -> None:
    memo = render_memo(by_class())
    for text in (Page(memo.html).text(), memo.markdown):
        assert not re.search(r"[-−+]0(\.0+)?(?![\d.,])", text)


def test_the_blinded_page_says_when_the_next_look_is() -> None:
    for text in (memo_html(blinded()), memo_markdown(blinded()), memo_json(blinded())):
        assert "The next look is planned for 2026-02-16 (look 1 of 1)." in text
        assert "no planned look has come" in text


def _squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b]+", "", text)


def test_numbers_without_end_stay_out_of_the_json() -> None:
    rows = list(ship().estimates)
    rows[0] = rows[0].model_copy(update={"ci_lower": float("-inf"), "relative": float("nan")})
    rows[1] = rows[1].model_copy(update={"absolute": float("nan")})
    memo = render_memo(ship().model_copy(update={"estimates": tuple(rows)}))
    facts = json.loads(memo.json, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert facts["primary"][0]["interval"] == {"text": "−∞ to 15.3", "upper": pytest.approx(0.152568)}
    assert facts["secondary"][0]["shown"] is False
    assert "nan" not in "".join(
        str(attrs) for tag, attrs in Page(memo.html).tags if tag in ("line", "circle")
    )
