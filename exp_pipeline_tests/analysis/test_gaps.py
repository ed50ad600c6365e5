"""Each gap that keeps a brief from starting: told where it is, and not told where it is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from exp_pipeline.analysis.planning.guardrail_plans import GuardrailPlan
from exp_pipeline.analysis.planning.readiness import Baseline, readiness
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline_tests.analysis.builders import START, brief_of, metric_of

SOLVED = {"solved": metric_of("solved")}
DAY = timedelta(days=1)
SCHOOLS = SchoolCalendar(
    name="south",
    time_zone="Europe/Paris",
    holidays=({"name": "spring", "first": START + 7 * DAY, "last": START + 11 * DAY},),  # type: ignore[arg-type]
)
SPRING = tuple(START + day * DAY for day in range(7, 12))


def gaps_of(brief: dict[str, Any], **facts: Any) -> list[str]:
    """The gaps of a plain brief with these fields, as field and problem."""
    known: dict[str, Any] = {
        "baseline": Baseline(mean=0.38), "units_per_day": 5000.0, "facts_seen": {"solved": 9, "waiting": 9}
    }  # fmt: skip
    found = readiness(
        brief_of(**({"receipt": {}} | brief)),
        {**SOLVED, "waiting": metric_of("waiting")},
        **(known | facts),
    )
    return [gap.short for gap in found.gaps]


def guard(chance: float | None, reason: str = "", basis: str = "interval") -> dict[str, Any]:
    plan = GuardrailPlan("waiting", 0.1, "relative", 900, None, chance, reason)
    return {
        "brief": {"guardrails": ({"metric": "waiting", "margin": 0.1, "basis": basis},)},
        "guardrails": (plan,),
    }


def test_a_brief_in_order_has_none() -> None:
    assert gaps_of({}) == []


@pytest.mark.parametrize(
    ("brief", "facts", "said"),
    [
        ({"mde": {"absolute": 0.0}}, {}, "mde: the smallest effect worth finding is 0"),
        (
            {},
            {"facts_seen": {"waiting": 3}},
            "metrics: no event of metric 'solved' ever arrived",
        ),
        (
            {"risk_class": "medium"},
            {},
            "guardrails: a medium-risk change has none",
        ),
        (
            {},
            {"reviews_waiting": ("data",)},
            "reviews: a low-risk change needs a review of kind 'data', and there is none",
        ),
        (
            {"new_logging": True},
            {},
            "new_logging: logging or bucketing is new, and no A/A result was approved",
        ),
        (
            {"blackout_days": (START,)},
            {},
            "blackout_days: the first day, 2026-03-02, is one",
        ),
        (
            {"blackout_days": (START + DAY,), "looks": (START + 2 * DAY,)},
            {},
            "looks: the look of 2026-03-04 comes right after a blackout day, on which nothing new is seen",
        ),
        ({"calendar": "north"}, {}, "calendar: calendar 'north' is not there"),
        (
            {"calendar": "south"},
            {"calendar": SCHOOLS},
            "blackout_days: calendar south has holidays inside the experiment that are none: 2026-03-09, "
            "2026-03-10, 2026-03-11, 2026-03-12 and 1 more",
        ),
        ({"owner": " "}, {}, "owner: is empty"),
        (
            {"decision": {"primary_must_beat": "threshold"}},
            {},
            "practical_threshold: the decision rule needs it and it is missing",
        ),
    ],
)
def test_one_gap_is_told_alone(brief: dict[str, Any], facts: dict[str, Any], said: str) -> None:
    assert gaps_of(brief, **facts) == [said]


def test_power_that_is_not_reached_by_the_end_is_a_gap_with_its_size() -> None:
    (said,) = gaps_of({"end": START + 14 * DAY}, units_per_day=20.0)
    assert said.startswith("end: the power is not reached by 2026-03-16: 18,492 units")
    assert "280 units will be counted by then" in said


def test_silence_about_versions_is_a_gap_and_an_empty_list_is_none() -> None:
    silent = readiness(brief_of(), SOLVED, baseline=Baseline(mean=0.38), units_per_day=1000.0)
    assert [gap.field for gap in silent.gaps] == ["receipt"]
    assert gaps_of({"receipt": {"may_differ": ()}}) == []


def test_a_high_risk_change_asks_for_a_kill_rule_a_ramp_and_a_calendar() -> None:
    high: dict[str, Any] = {"risk_class": "high", "guardrails": ({"metric": "waiting", "margin": 0.1},)}
    assert gaps_of(high) == [
        "guardrails: a high-risk change has no kill rule", "ramp: a high-risk change starts at full traffic",
    ]  # fmt: skip
    ramp = ({"traffic": 0.1}, {"traffic": 1.0})
    killed = ({"metric": "waiting", "margin": 0.1, "kill": {}},)
    assert gaps_of(high | {"guardrails": killed, "ramp": ramp}) == [
        "calendar: a high-risk change is let in by stages, and nobody said when schools are open"
    ]


def test_what_is_there_is_no_gap() -> None:
    assert gaps_of({"new_logging": True}, aa_approved=True) == []
    assert gaps_of({"calendar": "south", "blackout_days": SPRING}, calendar=SCHOOLS) == []


def test_a_guardrail_that_would_often_stay_undecided_is_a_gap() -> None:
    assert gaps_of(**guard(0.4)) == [
        "guardrails: without any harm 'waiting' would pass with a chance of 40 %, and 80 % is planned, which "
        "900 units would give"
    ]
    assert gaps_of(**guard(0.8)) == []


@pytest.mark.parametrize(("basis", "told"), [("interval", True), ("point", False)])
def test_a_guardrail_whose_chance_is_not_known_is_told_as_unchecked(basis: str, told: bool) -> None:
    facts = guard(None, "it has no history", basis)
    found = readiness(
        brief_of(receipt={}, **facts["brief"]),
        {**SOLVED, "waiting": metric_of("waiting")},
        baseline=Baseline(mean=0.38),
        units_per_day=1000.0,
        facts_seen={"solved": 1, "waiting": 1},
        guardrails=facts["guardrails"],
    )
    assert found.ready
    assert any("guardrail 'waiting' would pass" in line for line in found.unchecked) is told


def test_every_gap_is_told_at_once() -> None:
    told = gaps_of(
        {
            "risk_class": "high",
            "new_logging": True,
            "calendar": "north",
            "mde": {"relative": 0.0},
            "on_call": "",
        },
        reviews_waiting=("peer", "safety"),
        facts_seen={},
    )
    fields = [one.partition(":")[0] for one in told]
    assert fields == [
        "metrics", "mde", "guardrails", "guardrails", "ramp", "on_call", "reviews", "reviews", "new_logging",
        "calendar",
    ]  # fmt: skip
