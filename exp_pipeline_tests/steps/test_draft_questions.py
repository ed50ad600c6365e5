"""Whatever is answered to the questions of a new brief: it is refused at once, or the brief is valid."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.catalog import load_brief, load_catalog
from exp_pipeline.catalog.drafts import draft_problems, draft_text
from exp_pipeline.steps.experiments import draft_answers as answers
from exp_pipeline.steps.experiments.draft_questions import Drafting, filled_up, problems_of, questions

SHIPPED = load_catalog(Path(__file__).parents[2] / "data" / "catalog")
CONTEXT = ("platform", "locale", "school_id")
DRAFTING = Drafting(SHIPPED, date(2026, 11, 22), CONTEXT)

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)
METRIC = st.sampled_from(sorted(SHIPPED.metrics))
ANSWERS: dict[str, st.SearchStrategy[str]] = {
    "risk_class": st.sampled_from(["low", "medium", "high", "none"]),
    "randomisation_unit": st.sampled_from(["learner", "class"]),
    "arms": st.sampled_from(["a, b", "a 20, b 30, c 50", "a, b, c, d, e, f, g", "a", "a 50, b 60"]),
    "start": st.sampled_from(["2030-01-07", "2030-13-01"]),
    "end": st.sampled_from(["2030-02-04", "2030-01-07", "2030-01-09"]),
    "primary": METRIC,
    "mde": st.sampled_from(["0.05", "relative 0.1", "-0.02", "1e-3", "5%", "x"]),
    "secondary": st.lists(METRIC, max_size=3).map(", ".join),
    "guardrails": st.lists(METRIC, max_size=3).map(
        lambda names: ", ".join(f"{one} 0.1 kill" for one in names)
    ),
    "counter_metrics": METRIC,
    "segments": st.sampled_from(["platform", "platform -0.1, locale relative -0.2", "colour", "none"]),
    "practical_threshold": st.sampled_from(["none", "0.02"]),
    "expected_units_per_day": st.sampled_from(["none", "40", "0"]),
    "attrition": st.sampled_from(["0.1", "1"]),
    "icc": st.sampled_from(["0.1", "-1"]),
    "may_differ": st.sampled_from(["none", "prompt_version, model_name", "prompt"]),
    "new_logging": st.sampled_from(["yes", "no", "perhaps"]),
    "ramp": st.sampled_from(["none", "5 25 100", "50 20 100", "5 50"]),
    "calendar": st.just("none"),
    "impact": st.sampled_from(["1", "5", "6"]),
}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_is_accepted_answer_by_answer_is_a_valid_brief(data: st.DataObject) -> None:
    fields: dict[str, Any] = {"name": "drawn"}
    said: dict[str, Any] = {}

    def so_far() -> dict[str, Any]:
        return filled_up(fields, DRAFTING)

    for question in questions(DRAFTING, so_far):
        plain = {"confidence": "3", "effort": "2", "control": question.default or ""}
        strategy = ANSWERS.get(question.key, st.just(plain.get(question.key, "")) | TEXT)
        for text in (data.draw(strategy), plain.get(question.key, ""), question.default, "7"):
            if text is None:
                continue
            try:
                after = question.answered(fields, text)
            except ValueError:
                continue
            if not problems_of(fields, after, DRAFTING):
                fields, said[question.key] = after, text
                break
    brief, problems = draft_problems(filled_up(fields, DRAFTING), SHIPPED, CONTEXT)
    assert problems == []
    assert brief is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.yaml"
        path.write_text(draft_text(filled_up(fields, DRAFTING)))
        assert load_brief(path, SHIPPED.metrics) == brief
    if "title" in said:
        assert brief.title == " ".join(said["title"].split())


@pytest.mark.parametrize(
    ("read", "show", "texts"),
    [
        (answers.effect, answers.effect_words, ["0.05", "relative 0.1", "-0.02"]),
        (answers.arms, answers.arms_words, ["a 50, b 50", "a 12.5, b 37.5, c 50"]),
        (answers.guardrails, answers.guardrails_words, ["none", "x 0.1", "x 0.1 relative, y 2 point kill"]),
        (answers.segments, answers.segments_words, ["none", "a", "a -0.1, b relative -0.2"]),
        (answers.stages, answers.stages_words, ["none", "5 25 100", "0.1 100"]),
    ],
)
def test_an_answer_is_shown_as_it_would_be_typed(read: Any, show: Any, texts: list[str]) -> None:
    for text in texts:
        assert show(read(text)) == text


@pytest.mark.parametrize("count", range(2, 41))
def test_even_shares_add_up(count: int) -> None:
    shares = [arm["share"] for arm in answers.arms(", ".join(f"a{place}" for place in range(count)))]
    assert abs(sum(shares) - 1.0) < 1e-9
    assert max(shares) - min(shares) < 0.005


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (answers.words, "  ", "say something"),
        (answers.number, "5 %", "write a share as a number: 0.05 for 5 %"),
        (answers.number, "nan", "'nan' is not a number; write a number, such as 0.05"),
        (answers.whole, "2.5", "'2.5' is not a whole number"),
        (answers.yes_or_no, "maybe", "say yes or no"),
        (answers.day, "1.2.2026", "'1.2.2026' is not a day; write it YYYY-MM-DD"),
        (answers.effect, "5%", "% has two meanings"),
        (answers.effect, "0.1 0.2", "write 0.05"),
        (answers.arms, "a", "name at least two arms"),
        (answers.arms, "a 50, b", "give every arm a percentage, or none"),
        (answers.arms, "a 50, b 40", "percentages must add up to 100, they add up to 90"),
        (answers.guardrails, "x", "write a metric and its margin"),
        (answers.guardrails, "x 0.1 relativ", "write a metric and its margin"),
    ],
)
def test_an_answer_that_cannot_be_read_says_how_to_write_it(read: Any, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        read(text)
