"""The note for teachers: plain words, natural frequencies that are true, nothing before its time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

import pytest

from exp_pipeline.model.brief import RampStage
from exp_pipeline.model.readout import Decision, Outcome, Readout, SegmentValue
from exp_pipeline.report import educator_note
from exp_pipeline.report.teachers import note_document, plain_title
from exp_pipeline_tests.report.parts import checks, effect, estimate
from exp_pipeline_tests.report.reading import Page, markdown_page
from exp_pipeline_tests.report.sample_ship import ship
from exp_pipeline_tests.report.sample_two_arms import two_arms
from exp_pipeline_tests.report.samples import SAMPLES, blinded, by_class, leaky_blinded, mismatch

JARGON = re.compile(
    r"\b(interval|confidence|significan\w*|p-value|p =|ITT|intention to treat|CUPED|estimand|estimate\w*|"
    r"regression|random\w*|percentile|quantile|guardrail\w*|hypothes\w*|baseline|covariate\w*|arm|arms|"
    r"control|treatment|lift|pp|SRM|sample ratio|standard error|variance|power|cluster\w*|segment\w*|null)\b",
    re.IGNORECASE,
)
Make = Callable[[], Readout]


def found(readout: Readout) -> tuple[str, ...]:
    return next(part for part in note_document(readout).sections if part.key == "found").items


def decided(readout: Readout, outcome: Outcome, **more: object) -> Readout:
    arms = tuple(arm.model_copy(update={"outcome": outcome, **more}) for arm in readout.decision.arms)
    return readout.model_copy(
        update={
            "decision": Decision(
                outcome=outcome, arm=readout.decision.arms[0].arm, summary="internal words", arms=arms
            )
        }
    )


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES.keys())
def test_it_uses_no_terms_of_statistics(make: Make) -> None:
    readout = make()
    text = Page(educator_note(readout).html).text()
    for own in (readout.brief.control, *(arm.name for arm in readout.brief.treatments())):
        text = text.replace(own, "")
    assert JARGON.search(text) is None, JARGON.search(text)


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES.keys())
def test_both_forms_say_the_same(make: Make) -> None:
    note = educator_note(make())
    page, markdown = Page(note.html).text(), markdown_page(note.markdown).text()
    for section in note_document(make()).sections:
        for sentence in (section.title, *section.paragraphs, *section.items):
            assert sentence in page
            assert sentence in markdown.replace("\u200b", "")


def test_a_gain_is_told_in_natural_frequencies() -> None:
    per_student = ship(method=("Mastery within 14 days: difference of shares.",))
    told = found(per_student)[0]
    # 45.1 and 10.2 of a hundred, between 5.1 and 15.3.
    assert told == (
        "With the new version: of 100 students, about 55 with it and about 45 with the usual version, that "
        "is about 10 more, which is better. The true number may be as small as 5 more or as large as 15 more."
    )


def test_a_share_that_is_not_of_students_is_not_said_to_be() -> None:
    assert "of 100 counted" in found(ship())[0]
    assert "100 students" not in found(ship())[0]


@pytest.mark.parametrize(
    ("absolute", "per", "size"),
    [(0.0041, 1000, "4 more"), (-0.0007, 10_000, "7 fewer"), (-0.31, 100, "31 fewer")],
)
def test_small_effects_are_told_of_more_students(absolute: float, per: int, size: str) -> None:
    row = estimate(
        "mastery", "Learners lost", role="primary", display="share", direction="decrease",
        **effect(absolute, abs(absolute) / 5, 0.4),
    )  # fmt: skip
    (told, *_) = found(ship(estimates=(row,)))
    assert f"of {per:,} students" in told
    assert f"about {size}" in told
    assert ("better" if absolute < 0 else "worse") in told


def test_what_may_be_nothing_is_said_to_be_unsure() -> None:
    told = found(by_class())[0]
    assert "we cannot tell whether it makes a difference" in told
    assert "from 4.5 min less to 4.6 min more" in told


@pytest.mark.parametrize("make", [blinded, leaky_blinded, mismatch])
def test_no_effect_is_told_before_its_time(make: Make) -> None:
    text = Page(educator_note(make()).html).text()
    assert "We tell no result" in text
    assert not re.search(r"about \d|more or as large|of 100 (students|counted)", text)


@pytest.mark.parametrize("outcome", ["extend", "pause", "investigate"])
def test_outcomes_that_are_no_end_tell_no_result(outcome: Outcome) -> None:
    text = Page(educator_note(decided(ship(), outcome)).html).text()
    assert "We tell no result" in text
    assert "10 more" not in text
    failed = ship(integrity=checks(sample_ratio=("fail", "4,312 against 3,791 units")))
    assert "10 more" not in Page(educator_note(failed).html).text()


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("ship", "all students for whom it is meant"),
        ("iterate", "test it again"),
        ("stop", "will not be introduced"),
        ("roll_back", "all students get the usual one"),
        ("pause", "The new version is paused"),
        ("extend", "Nothing changes now"),
        ("investigate", "Nothing is decided"),
    ],
)
def test_it_says_what_changes_for_students(outcome: Outcome, words: str) -> None:
    note = note_document(decided(ship(), outcome), starts=date(2026, 3, 16))
    assert words in note.lead
    if outcome not in ("extend", "investigate"):
        assert "from 16 March 2026 on" in note.lead


def test_a_scoped_change_names_its_groups() -> None:
    scoped = decided(
        ship(),
        "ship_scoped",
        segments=(SegmentValue(column="grade", value="7"), SegmentValue(column="grade", value="8")),
    )
    assert "these students only: grade 7 and grade 8" in note_document(scoped).lead


def test_steps_are_those_of_the_rollout_where_there_is_one() -> None:
    own = ship()
    stages = (RampStage(traffic=0.25, dwell_days=4), RampStage(traffic=1.0, dwell_days=9))
    rollout = own.model_copy(update={"brief": own.brief.model_copy(update={"rollout": stages})})
    said = " ".join(next(p for p in note_document(rollout).sections if p.key == "students").paragraphs)
    assert "two steps: for 25 of 100 and all students" in said
    assert "at least 4 days together" in said


def test_other_versions_are_told_too() -> None:
    base = two_arms()
    chosen = base.decision.model_copy(update={"outcome": "ship", "arm": "ladder"})
    said = Page(educator_note(base.model_copy(update={"decision": chosen})).html).text()
    assert "“coach-voice” is taken back." in said


def test_it_says_whom_to_ask() -> None:
    for text in (educator_note(ship()).html, educator_note(ship()).markdown):
        assert "Learning Science" in text
        assert "tutor-oncall" in text
        assert "You need not give a reason." in text


def test_small_groups_are_not_told() -> None:
    base = two_arms()
    for text in (educator_note(base).html, educator_note(base).markdown):
        assert "sign language" not in text


def test_titles_lose_their_terms() -> None:
    assert plain_title("Waiting time, 95th percentile") == "Waiting time in the worst cases"
