"""How complete and how promising a draft is, and the order of the queue."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.analysis.planning.intake import (
    NEEDS,
    completeness,
    in_queue_order,
    intake_row,
    priority,
)
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline_tests.analysis.builders import END, HYPOTHESIS, START, brief_of

WHOLE = {
    "decision_asked": "Ship it?",
    "arms": (
        Arm(name="control", share=0.5, description="As today."),
        Arm(name="treatment", share=0.5, description="An example first."),
    ),
    "practical_threshold": {"absolute": 0.01},
    "guardrails": ({"metric": "waiting", "margin": 0.1, "kill": {}},),
    "expected_units_per_day": 50,
    "receipt": {},
    "intake": {"impact": 4, "confidence": 3, "effort": 2},
}
RISKY = {
    "segments": ({"column": "platform", "floor": {"absolute": -0.1}},),
    "counter_metrics": ("minutes",),
    "value": {"value_per_unit": 2.0, "eligible_population": 10},
    "ramp": ({"traffic": 0.1}, {"traffic": 1.0}),
    "calendar": "south",
}


def row(brief: Brief, newest: date | None = None, *, locked: bool = False):  # type: ignore[no-untyped-def]
    return intake_row(brief, locked=locked, newest=newest, reviewed=(), waits_for=())


def test_a_low_risk_brief_is_whole_without_what_only_risk_asks_for() -> None:
    found = completeness(brief_of(**WHOLE))
    assert (found.share, found.missing) == (1.0, ())
    risky = completeness(brief_of(**WHOLE, risk_class="high"))
    asked = len(NEEDS)
    assert {one.field for one in risky.missing} == {
        "segments", "counter_metrics", "value", "ramp", "segments[].floor", "calendar",
    }  # fmt: skip
    assert risky.share == pytest.approx((asked - 6) / asked)
    assert completeness(brief_of(**WHOLE, **RISKY, risk_class="high")).share == 1.0


@pytest.mark.parametrize("word", ["TODO", " tbd ", "…", "?"])
def test_a_word_that_stands_for_nothing_counts_as_missing(word: str) -> None:
    hypothesis = HYPOTHESIS.model_copy(update={"because": word})
    found = completeness(brief_of(**WHOLE, hypothesis=hypothesis, owner=word))
    assert {one.field for one in found.missing} == {"hypothesis", "owner"}


def test_priority_is_a_share_of_the_best_that_there_is() -> None:
    best = {**WHOLE, "intake": {"impact": 5, "confidence": 5, "effort": 1}}
    assert priority(brief_of(**best)).score == 100.0
    assert priority(brief_of(**best, risk_class="high")).score == 60.0
    found = priority(brief_of(**WHOLE, risk_class="medium"))
    assert found.score == 19.2
    assert found.because == "impact 4 x confidence 3 / effort 2, times 0.8 for medium risk"
    assert priority(brief_of()).score is None


SCORE = st.integers(1, 5)


@given(SCORE, SCORE, st.integers(1, 4), st.sampled_from(["low", "medium", "high"]))
def test_more_effort_never_promises_more(impact: int, confidence: int, effort: int, risk: str) -> None:
    def score(cost: int) -> float:
        scores = {"impact": impact, "confidence": confidence, "effort": cost}
        found = priority(brief_of(**(WHOLE | {"intake": scores}), risk_class=risk)).score
        assert found is not None
        return found

    assert 0.0 < score(effort + 1) < score(effort) <= 100.0


def test_drafts_come_first_and_the_most_promising_on_top() -> None:
    plain = brief_of(**WHOLE)
    better = brief_of(**(WHOLE | {"intake": {"impact": 5, "confidence": 5, "effort": 1}}), name="better")
    silent = brief_of(name="silent")
    done = brief_of(**WHOLE, name="done")
    rows = [row(silent), row(done, END), row(plain), row(better), row(plain, START, locked=True)]
    ordered = in_queue_order(rows)
    assert [(one.experiment, one.state) for one in ordered] == [
        ("better", "draft"), ("worked-example", "draft"), ("silent", "draft"), ("worked-example", "locked"),
        ("done", "over"),
    ]  # fmt: skip
