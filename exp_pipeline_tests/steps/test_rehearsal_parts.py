"""Parts of a rehearsal: how a brief is fitted to a short term, and how its end is held against the truth."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from exp_pipeline.cli.rehearse import _Timeline
from exp_pipeline.model.brief import Brief, RampStage
from exp_pipeline.steps.operating.rehearsal_told import (
    ArmTold,
    Page,
    RehearsedDay,
    against_truth,
    planted_in_all,
)
from exp_pipeline.steps.operating.rehearsal_world import Incident, fitted, learners_for, ramp_findings
from exp_pipeline_tests.analysis.builders import START, brief_of
from exp_pipeline_tests.steps.ramp_worlds import catalog_of, moment

DAY = timedelta(days=1)
STEEP = (
    RampStage(traffic=0.05, dwell_days=2, minimum_units=50),
    RampStage(traffic=1.0, dwell_days=7, minimum_units=800),
)


def ramped(**changes: Any) -> Brief:
    fields: dict[str, Any] = {
        "ramp": STEEP, "hash_scheme": "flagd", "end": START + 21 * DAY, "expected_units_per_day": 55
    }  # fmt: skip
    return brief_of(**(fields | changes))


def test_learners_are_as_many_as_the_brief_expects_also_where_classes_are_randomised() -> None:
    assert learners_for(ramped(), None) == 55 * 21
    assert learners_for(ramped(randomisation_unit="class", icc=0.05), None) == 55 * 21
    assert learners_for(ramped(expected_units_per_day=1000), None) == 2000
    assert learners_for(ramped(), 70) == 70


def test_only_a_stage_that_another_waits_for_is_brought_within_reach() -> None:
    found = fitted(ramped(), days=None, learners=None)
    # Half of 5 % of the 31 % of 1,155 learners who come on two days.
    assert [stage.minimum_units for stage in found.brief.ramp] == [8, 800]
    (change,) = found.changes
    assert change.startswith(
        "stage 1 asks for 8 units, the brief for 50: the simulated schools may bring no more"
    )
    easy = (RampStage(traffic=0.25, dwell_days=2, minimum_units=25), STEEP[1])
    assert fitted(ramped(ramp=easy), days=None, learners=None).changes == ()
    classes = ramped(randomisation_unit="class", icc=0.05, ramp=STEEP[:1] + STEEP[1:])
    assert (
        "stage 1 asks for 1 class, the brief for 50" in fitted(classes, days=None, learners=None).changes[0]
    )


def test_what_the_expected_units_mean_for_the_ramp() -> None:
    brief = ramped()
    (told,) = ramp_findings(brief, catalog_of([brief]))
    assert "stage 1 (5 % of traffic) has its 50 units after about 19 days, not 2" in told
    longer = ramped(end=START + 60 * DAY)
    (told,) = ramp_findings(longer, catalog_of([longer]))
    # There is time for it: it is said, and nothing is asked for.
    assert told == "stage 1 (5 % of traffic) has its 50 units after about 19 days, not 2"
    unknown = ramped(expected_units_per_day=None)
    assert ramp_findings(unknown, catalog_of([unknown])) == ()


def day_of(place: int, **changes: Any) -> RehearsedDay:
    fields: dict[str, Any] = {
        "day": START + place * DAY, "status": "on", "stage": 2, "traffic": 1.0,
        "units": {"control": 40, "treatment": 41}, "srm_p_value": 0.6, "verdicts": (), "messages": (),
        "verb": "hold", "reasons": ("it is at its last stage, 100 % of units",), "notes": (),
        "flag_version": 2,
    }  # fmt: skip
    return RehearsedDay(**(fields | changes))


def page(rule: str, severity: str = "page") -> Page:
    return Page(at=moment(3), severity=severity, change="opened", rule=rule, text="")


def arm(outcome: Any) -> ArmTold:
    return ArmTold(arm="treatment", planted="answers are mastered more often", outcome=outcome, because="so")


MISMATCH = Incident(START, START + 9 * DAY, "a platform logs nothing", arm="treatment", platform="web")


@pytest.mark.parametrize(
    ("scenario", "incident", "days", "outcome", "good", "words"),
    [
        ("well", None, (day_of(0),), "ship", True, "the readout ships treatment"),
        ("well", None, (day_of(0),), "extend", False, "was not found: more units or a longer term"),
        (
            "well", None, (day_of(0, stage=1),), "extend", False,
            "the ramp stood at stage 1 of 2 at the end, so that too few units came",
        ),
        ("well", None, (day_of(0, messages=(page("ramp"),)),), "ship", False, "before anything went"),
        ("nothing", None, (day_of(0),), "ship", False, "a false discovery"),
        (
            "mismatch", MISMATCH, (day_of(3, messages=(page("srm"),)),), "investigate", True,
            "rule srm opened an incident on day 4 of it, and the readout says investigate",
        ),
        ("mismatch", MISMATCH, (day_of(3),), "investigate", True, "did not show it; the readout says inv"),
        ("mismatch", MISMATCH, (day_of(3),), "ship", False, "did not show it; the readout says ship"),
    ],
)  # fmt: skip
def test_the_end_is_held_against_what_was_planted(
    scenario: Any,
    incident: Incident | None,
    days: tuple[RehearsedDay, ...],
    outcome: Any,
    good: bool,
    words: str,
) -> None:
    told = against_truth(scenario, incident, days, (arm(outcome),), outcome, last_stage=2)
    assert told[0] is good
    assert words in told[1]


def test_what_was_planted_is_one_sentence() -> None:
    assert planted_in_all("nothing", None) == "no arm has an effect; nothing goes wrong"
    assert planted_in_all("mismatch", MISMATCH) == "every arm helps; a platform logs nothing"


def test_a_day_on_which_only_units_came_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    timeline = _Timeline("classes")
    fails = ("sample ratio: fail (p below 0.001)",)
    failing = (day_of(place, verdicts=fails) for place in (2, 3))
    for one in (day_of(0), day_of(1), *failing, day_of(4, look="end: ship.")):
        timeline.tell(one)
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if not line.startswith("  ")] == [
        "Mon 2026-03-02  then on, stage 2, 100 % of units, flags version 2",
        "Tue 2026-03-03  nothing new; classes: control 40, treatment 41  (SRM p 0.6)",
        "Wed 2026-03-04  then on, stage 2, 100 % of units, flags version 2",
        "Thu 2026-03-05  nothing new; classes: control 40, treatment 41  (SRM p 0.6)",
        "Fri 2026-03-06  then on, stage 2, 100 % of units, flags version 2",
    ]
    assert "  classes   control 40, treatment 41  (SRM p 0.6)" in out
    assert "  verdict   sample ratio: fail (p below 0.001)" in out
    assert date(2026, 3, 2) == START
