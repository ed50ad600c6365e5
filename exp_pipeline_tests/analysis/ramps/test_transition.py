"""What a ramp does next: each reason alone holds it, kill rules ask nobody, nothing skips a stage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.analysis.ramps.transition import earliest_next, next_step
from exp_pipeline.model.brief import RampStage
from exp_pipeline.model.ramps import Approval, RampFacts, RampState, folded
from exp_pipeline_tests.analysis.builders import END, START
from exp_pipeline_tests.analysis.ramps.ramp_samples import (
    SCHOOL,
    STAGES,
    at,
    entry,
    good_facts,
    guardrail_facts,
    on_stage,
    ramp_brief,
)

BRIEF = ramp_brief()


def approved(stage: int, **changes: Any) -> Approval:
    fields = {
        "experiment": BRIEF.name,
        "version": 1,
        "stage": stage,
        "by": "council",
        "reason": "fine",
        "at": at(1),
    }
    return Approval.model_validate(fields | changes)


def test_it_starts_on_its_day_and_not_before() -> None:
    early = next_step(BRIEF, good_facts(BRIEF, at(-1, 23, 59)))
    assert (early.verb, early.reasons) == ("hold", (f"the experiment starts on {START}",))
    begun = next_step(BRIEF, good_facts(BRIEF, at(0, 0)))
    assert (begun.verb, begun.stage, begun.traffic) == ("advance", 1, 0.01)


# What is spoiled in facts at which stage 1 would give way to stage 2, and what is said of it.
SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "too short": ({"state": on_stage(1, at(1, 10, 1))}, "stage 1 has lasted 2.0 of 2 days"),
    "too few": ({"units": 49}, "49 units of 50 are in the experiment"),
    "srm fails": ({"verdicts": {"srm": ("fail", "p 1e-9")}}, "srm fails: p 1e-9"),
    "srm unknown": ({"verdicts": {}}, "srm cannot be told: nothing was judged"),
    "stale": (
        {"newest_day": at(0).date(), "guardrails_day": at(0).date(), "state": on_stage(1, at(0))},
        "the newest complete day, 2026-03-02, ended 58 hours ago: at most 36 are allowed",
    ),
    "no day of it": (
        {"state": on_stage(1, at(1), sequence=1), "newest_day": at(0).date(), "guardrails_day": at(0).date()},
        "no day of stage 1 has been judged yet",
    ),
    "no data": ({"newest_day": None, "guardrails_day": None}, "there is no complete day of data"),
    "guardrails late": (
        {"guardrails_day": at(1).date()},
        "guardrails cannot be told: 2026-03-04 was not judged",
    ),
    "quality": ({"incidents": ("volume on web is 40 % down",)}, "data quality: volume on web is 40 % down"),
    "changed": ({"changed": ("arms",)}, "arms is not as it was locked: give the brief a new version"),
    "other": ({"others": ("version 1 is on: close it first",)}, "version 1 is on: close it first"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_each_fault_alone_holds_the_ramp_and_is_named(name: str) -> None:
    now = at(3)
    whole = good_facts(BRIEF, now, on_stage(1, at(1)))
    assert next_step(BRIEF, whole).verb == "advance"
    changes, expected = SPOILED[name]
    decision = next_step(BRIEF, replace(whole, **changes))
    assert (decision.verb, decision.stage, decision.traffic) == ("hold", 1, 0.01)
    assert expected in decision.reasons


@given(
    names=st.sets(st.sampled_from(["too few", "srm fails", "quality", "changed", "other", "guardrails late"]))
)
def test_a_hold_names_every_fault_and_no_other(names: set[str]) -> None:
    facts = good_facts(BRIEF, at(3), on_stage(1, at(1)))
    for name in names:
        facts = replace(facts, **SPOILED[name][0])
    decision = next_step(BRIEF, facts)
    assert decision.verb == ("hold" if names else "advance")
    if names:
        assert set(decision.reasons) == {SPOILED[name][1] for name in names}


def test_a_stage_that_needs_a_person_waits_for_one() -> None:
    facts = good_facts(BRIEF, at(10), on_stage(2, at(5)))
    assert next_step(BRIEF, facts).reasons == ("stage 3 needs a person's approval",)
    for wrong in (approved(2), approved(4), approved(3, phase="rollout")):
        assert next_step(BRIEF, replace(facts, approvals=(wrong,))).verb == "hold"
    decision = next_step(BRIEF, replace(facts, approvals=(approved(3),)))
    assert (decision.verb, decision.stage, decision.traffic) == ("advance", 3, 0.25)
    assert "approved by council: fine" in decision.reasons


@pytest.mark.parametrize(
    ("day", "hour", "said"),
    [
        (7, 10, ""),
        (7, 6, "it is 07:00 at school"),
        (7, 14, "it is 15:00 at school"),
        (7, 7, ""),
        (9, 10, "2026-03-11 is a holiday (fair)"),
        (12, 10, "2026-03-14 is a Saturday"),
        (17, 10, "2026-03-19 is a holiday (walk)"),
        (18, 10, "2026-03-20 is a holiday (walk)"),
    ],
)
def test_no_stage_begins_outside_the_school_day(day: int, hour: int, said: str) -> None:
    facts = good_facts(BRIEF, at(day, hour), on_stage(1, at(1)), calendar=SCHOOL)
    decision = next_step(BRIEF, facts)
    assert decision.verb == ("hold" if said else "advance")
    assert not said or any(said in reason for reason in decision.reasons)


def test_a_blackout_day_is_one_of_the_schools_own_clocks() -> None:
    brief = ramp_brief(blackout_days=(at(3).date(),), time_zone="Pacific/Auckland")
    facts = good_facts(brief, at(3), on_stage(1, at(1)))
    # Ten in the morning UTC is 23 o'clock in Auckland, and two hours later the next day.
    assert next_step(brief, facts).reasons == (f"{at(3).date()} is a blackout day",)
    assert next_step(brief, replace(facts, now=at(3, 12))).verb == "advance"


def test_kill_rules_act_without_a_person_and_a_roll_back_wins() -> None:
    state = on_stage(2, at(5))
    day = at(5).date()
    for killed, verb in (
        ({"waiting": "treatment"}, "roll_back"),
        ({"giveaway": "treatment"}, "pause"),
        ({"giveaway": "treatment", "waiting": "treatment"}, "roll_back"),
        ({"cost": "treatment"}, "hold"),
    ):
        facts = good_facts(
            BRIEF,
            at(6),
            state,
            guardrails=guardrail_facts(BRIEF, day, **killed),
            incidents=("late",),
            calendar=SCHOOL,
        )
        decision = next_step(BRIEF, facts)
        assert decision.verb == verb
        if verb != "hold":
            assert decision.traffic == 0.0
            assert len(decision.reasons) == len(killed)


def test_after_a_resume_only_newer_days_kill_again() -> None:
    day = at(5).date()
    killed = guardrail_facts(BRIEF, day, giveaway="treatment")
    resumed = on_stage(2, at(6), judged_from=day)
    facts = good_facts(BRIEF, at(6, 12), resumed, guardrails=killed, guardrails_day=day)
    assert next_step(BRIEF, facts).verb == "hold"
    worse = replace(facts, now=at(7), newest_day=at(6).date(), guardrails_day=at(6).date())
    assert next_step(BRIEF, worse).verb == "pause"


def test_a_paused_ramp_may_still_be_rolled_back_but_not_paused_again_or_advanced() -> None:
    paused = on_stage(2, at(5), status="paused", traffic=0.0)
    day = at(5).date()
    facts = good_facts(BRIEF, at(9), paused)
    assert next_step(BRIEF, facts).verb == "hold"
    again = replace(facts, guardrails=guardrail_facts(BRIEF, day, giveaway="treatment"))
    assert next_step(BRIEF, again).verb == "hold"
    worse = replace(facts, guardrails=guardrail_facts(BRIEF, day, waiting="treatment"))
    assert next_step(BRIEF, worse).verb == "roll_back"


def test_nothing_follows_the_last_stage_the_end_or_a_roll_back() -> None:
    last = good_facts(BRIEF, at(20), on_stage(4, at(9)))
    assert next_step(BRIEF, last).reasons == ("it is at its last stage, 50 % of units",)
    late = good_facts(BRIEF, datetime(END.year, END.month, END.day, tzinfo=UTC), on_stage(1, at(9)))
    assert f"the experiment ended on {END}" in next_step(BRIEF, late).reasons
    for status in ("rolled_back", "closed"):
        gone = good_facts(BRIEF, at(9), on_stage(1, at(1), status=status, traffic=0.0))
        killed = replace(gone, guardrails=guardrail_facts(BRIEF, at(8).date(), waiting="treatment"))
        assert next_step(BRIEF, killed).verb == "hold"


def test_gaps_hold_the_start() -> None:
    brief = ramp_brief()
    facts = good_facts(brief, at(0), gaps=("mde: missing", "reviews: none"))
    assert next_step(brief, facts).reasons == (
        "not ready: mde: missing",
        "not ready: reviews: none",
    )
    assert next_step(brief, replace(facts, gaps=None)).reasons[0] == "readiness has not been judged"
    assert next_step(brief, replace(facts, gaps=())).verb == "advance"


@pytest.mark.parametrize(
    "changes", [{"hash_scheme": "none", "ramp": ()}, {"assignment": "table", "ramp": ()}]
)
def test_what_no_flag_can_carry_is_left_alone(changes: dict[str, Any]) -> None:
    brief = ramp_brief(**changes)
    assert next_step(brief, good_facts(brief, at(1))).verb == "hold"


def test_without_stages_all_traffic_starts_at_once() -> None:
    brief = ramp_brief(ramp=())
    decision = next_step(brief, good_facts(brief, at(0)))
    assert (decision.verb, decision.stage, decision.traffic) == ("advance", 1, 0.5)


def test_checks_of_a_stage_are_those_that_it_names() -> None:
    stages = (
        RampStage(traffic=0.1, dwell_days=0, checks=("guardrails_powered", "fidelity")),
        RampStage(traffic=0.5),
    )
    brief = ramp_brief(ramp=stages)
    state = RampState(status="on", stage=1, traffic=0.1, enrolled=0.1, since=at(1), sequence=1)
    facts = good_facts(brief, at(2), state)
    assert next_step(brief, facts).verb == "advance"
    weak = tuple(replace(row, status="underpowered") for row in facts.guardrails)
    held = next_step(brief, replace(facts, guardrails=weak, verdicts={"srm": ("fail", "p 0")}))
    assert held.reasons == (
        "guardrails_powered cannot be told: waiting in treatment is underpowered; giveaway in treatment is "
        "underpowered; cost in treatment is underpowered",
        "fidelity cannot be told: nothing was judged",
        "srm fails: p 0",
    )


def test_the_next_stage_is_not_looked_for_on_closed_days() -> None:
    facts = good_facts(BRIEF, at(2, 5), on_stage(1, at(2, 5)), calendar=SCHOOL)
    # Two days on is early on Friday, before school: it opens at 8 o'clock in Paris, 7 UTC.
    assert earliest_next(BRIEF, facts) == at(4, 7)
    weekend = replace(facts, state=on_stage(1, at(3)))
    assert earliest_next(BRIEF, weekend) == at(7, 7)
    dark = ramp_brief(blackout_days=(at(4).date(),))
    assert earliest_next(dark, facts) == at(7, 7)
    assert earliest_next(BRIEF, replace(facts, state=on_stage(4, at(1)))) is None
    assert earliest_next(BRIEF, replace(facts, now=at(40))) is None


@given(
    hours=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    killed=st.sets(st.integers(0, 39), max_size=2),
    quiet=st.booleans(),
)
def test_whatever_happens_stages_come_one_by_one_and_traffic_only_rises_while_it_is_on(
    hours: list[int], killed: set[int], quiet: bool
) -> None:
    state, now, log = RampState(), at(0, 0), []
    for tick, step in enumerate(hours):
        now += timedelta(hours=step)
        facts = good_facts(BRIEF, now, state, approvals=(approved(3),))
        if tick in killed:
            metric = "giveaway" if quiet else "waiting"
            facts = replace(facts, guardrails=guardrail_facts(BRIEF, now.date(), **{metric: "treatment"}))
        decision = next_step(BRIEF, facts)
        if decision.verb == "hold":
            continue
        made = entry(state.sequence + 1, now, decision.verb, decision.stage, traffic=decision.traffic)
        log.append(made)
        after = folded(log)
        if decision.verb == "advance":
            assert after.stage == state.stage + 1
            assert after.traffic == STAGES[after.stage - 1].traffic > state.traffic
            assert state.since is None or now - state.since >= timedelta(
                days=STAGES[state.stage - 1].dwell_days
            )
        else:
            assert after.traffic == 0.0
        state = after


def test_a_log_with_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks entry 2 before 3"):
        folded([entry(1, at(0), "advance", 1), entry(3, at(2), "advance", 2)])


def test_facts_without_a_time_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        RampFacts(now=datetime(2026, 3, 3), state=RampState())
