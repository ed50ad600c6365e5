"""Decision rules as data: defaults, what may be asked beyond them, what may not be left out, the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from scipy import stats

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.deciding.decision import ArmFacts, decide
from exp_pipeline.analysis.deciding.rules import Course, late_week
from exp_pipeline.analysis.sentences import next_steps_of
from exp_pipeline.catalog.loading import load_catalog
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.decision_rules import DecisionRules
from exp_pipeline.model.readout import (
    Estimate,
    Impact,
    IntegrityCheck,
    NoveltyContrast,
    NoveltyPoint,
    NoveltySplit,
    NoveltyTrend,
    SegmentValue,
)
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline.stats.results import NotEstimable
from exp_pipeline_tests.analysis.builders import brief_of, locked
from exp_pipeline_tests.analysis.test_decision import OPEN, check, decided, estimate, guardrail
from exp_pipeline_tests.analysis.test_decision_properties import bounds_of

CATALOG = Path(__file__).parents[2] / "data" / "catalog"


def ruled(*rules: dict[str, Any], **changes: Any) -> Brief:
    return brief_of(decision={"rules": rules}, **changes)


@pytest.mark.parametrize("kind", ["integrity", "guardrails", "primary", "equity", "lock"])
def test_no_brief_may_switch_off_a_safeguard(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"{kind} cannot be switched off; only lasting and value can"):
        ruled({"kind": kind, "off": True})


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"rules": [{"kind": "value"}, {"kind": "integrity"}]}, "asked in the order integrity, guardrails"),
        ({"rules": [{"kind": "value"}, {"kind": "value"}]}, "named twice: value"),
        ({"rules": [{"kind": "luck"}]}, "does not match any of the expected tags"),
        ({"rules": [{"kind": "value", "at_least": -1}]}, "greater than or equal to 0"),
        (
            {"scoped_shipping": True, "rules": [{"kind": "equity"}]},
            "scoped_shipping is True and rules say False: say it in one place",
        ),
    ],
)
def test_rules_that_contradict_are_refused(decision: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DecisionRules.model_validate(decision)


def test_a_high_risk_change_may_not_only_say_that_a_guardrail_has_no_power() -> None:
    with pytest.raises(ValidationError, match="high-risk"):
        ruled({"kind": "guardrails", "underpowered": "say"}, risk_class="high")


def test_the_short_fields_and_the_rules_say_the_same() -> None:
    short = DecisionRules(primary_must_beat="threshold", threshold_basis="interval", scoped_shipping=True)
    long = DecisionRules.model_validate(
        {
            "rules": [
                {"kind": "primary", "must_beat": "threshold", "by": "interval"},
                {"kind": "equity", "scoped_shipping": True},
            ]
        }
    )
    assert (short.primary, short.equity) == (long.primary, long.equity)
    assert DecisionRules.model_validate_json(long.model_dump_json()) == long


def test_shipped_briefs_keep_the_defaults() -> None:
    for brief in load_catalog(CATALOG).briefs.values():
        assert not brief.decision.rules
        assert brief.decision.integrity.stop_on_warnings == ()
        assert brief.decision.guardrails.underpowered == "extend"
        assert brief.decision.value.must == "not_lose"


@pytest.mark.parametrize(
    ("rule", "verdict", "outcome"),
    [
        ({}, "warn", "ship"),
        ({"stop_on_warnings": ["sample_ratio"]}, "warn", "investigate"),
        ({"stop_on_warnings": ["sample_ratio"]}, "pass", "ship"),
        ({"must_be_known": ["sample_ratio"]}, "cannot_tell", "investigate"),
        # A name that no check has must not pass for a check that passes.
        ({"must_be_known": ["sample_ration"]}, "pass", "investigate"),
    ],
)
def test_integrity_may_be_asked_for_more(rule: dict[str, Any], verdict: str, outcome: str) -> None:
    brief = ruled({"kind": "integrity", **rule})
    assert decided(brief, integrity=[check(verdict)]).outcome == outcome


@pytest.mark.parametrize(
    ("underpowered", "status", "harm", "outcome"),
    [
        ("extend", "underpowered", 10.0, "extend"),
        ("iterate", "underpowered", 10.0, "iterate"),
        ("stop", "underpowered", 10.0, "stop"),
        ("say", "underpowered", 10.0, "ship"),
        ("say", "underpowered", 60.0, "extend"),
        ("say", "cannot_tell", 10.0, "extend"),
        ("say", "fail", 10.0, "roll_back"),
    ],
)
def test_a_guardrail_without_power_does_what_the_brief_says(
    underpowered: str, status: str, harm: float, outcome: str
) -> None:
    brief = ruled({"kind": "guardrails", "underpowered": underpowered})
    facts = ArmFacts("treatment", (guardrail(status=status, harm=harm),), estimate())
    decision = decided(brief, facts=[facts])
    assert decision.outcome == outcome
    if outcome == "ship":
        assert "not every one is shown to hold" in decision.summary


def course(change: float, late: float, p: float = 0.001) -> Course:
    """A last week with an effect of `late` ± 0.02, which differs by `change` from the first."""
    return Course(
        contrast=NoveltyContrast(
            arm="treatment", early_week=0, late_week=3, n_control=9, n_treatment=9, early=late - change,
            late=late, absolute=change, ci_lower=None, ci_upper=None, p_value=p,
        ),
        late=NoveltyPoint(
            week=3, arm="treatment", n_control=9, n_treatment=9, absolute=late, ci_lower=late - 0.02,
            ci_upper=late + 0.02,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "goes_on", "outcome", "verdict"),
    [
        ({}, Course(), "ship", "cannot_tell"),
        ({}, course(0.0, 0.05), "ship", "pass"),
        ({}, course(-0.06, 0.0), "iterate", "fail"),
        ({}, course(-0.06, 0.0, p=0.3), "ship", "pass"),
        ({}, course(-0.06, 0.05), "ship", "warn"),
        ({}, course(-0.01, -0.05, p=0.3), "iterate", "fail"),
        ({"fading": "stop"}, course(-0.06, 0.0), "stop", "fail"),
        ({"must_be_shown": True}, course(0.0, 0.01), "extend", "cannot_tell"),
        ({"must_be_shown": True}, Course(), "extend", "cannot_tell"),
        ({"must_be_shown": True}, course(0.0, 0.05), "ship", "pass"),
        ({"off": True}, course(-0.06, 0.0), "ship", "cannot_tell"),
    ],
)
def test_a_gain_that_wears_off_is_not_shipped(
    rule: dict[str, Any], goes_on: Course, outcome: str, verdict: str
) -> None:
    brief = ruled({"kind": "lasting", **rule})
    decision = decided(brief, facts=[ArmFacts("treatment", (), estimate(), course=goes_on)])
    assert decision.outcome == outcome
    assert {found.rule: found.verdict for found in decision.arms[0].rules}["Lasting effect"] == verdict


def test_a_fall_for_a_metric_that_should_fall_is_a_gain() -> None:
    fewer = estimate(effect=-0.04, direction="decrease")
    for change, late, outcome in ((0.06, 0.0, "iterate"), (-0.06, -0.05, "ship"), (0.0, 0.05, "iterate")):
        facts = ArmFacts("treatment", (), fewer, course=course(change, late))
        assert decided(facts=[facts]).outcome == outcome


def test_one_comparison_tells_whether_a_gain_falls_the_slope_before_all_others() -> None:
    settled: dict[str, Any] = {
        "arm": "treatment", "weeks": 4, "steady": 0.0, "steady_lower": -0.01, "steady_upper": 0.01,
    }  # fmt: skip
    falls = NoveltyTrend(slope=-0.02, p_value=0.001, **settled)
    flat = NoveltyTrend(slope=-0.02, p_value=0.4, **settled)
    no_slope = NoveltyTrend(**settled)
    split = NoveltySplit(arm="treatment", split_days=7, absolute=-0.05, p_value=0.001)
    last = course(-0.06, 0.0)
    for goes_on, outcome, said in (
        (Course(trend=falls), "iterate", "a week"),
        # Three chances of a false alarm are not run for one rule.
        (Course(trend=flat, split=split, contrast=last.contrast), "ship", ""),
        (Course(trend=no_slope, split=split), "iterate", "after 7 days"),
        (last, "iterate", "in the last complete week"),
    ):
        decision = decided(facts=[ArmFacts("treatment", (), estimate(), course=goes_on)])
        assert decision.outcome == outcome
        assert said in decision.summary


def week_of(week: int, n: int, effect: float = 0.05, **more: Any) -> NoveltyPoint:
    return NoveltyPoint(
        week=week, arm="treatment", n_control=n, n_treatment=n, absolute=effect, ci_lower=effect - 0.02,
        ci_upper=effect + 0.02, **more,
    )  # fmt: skip


def test_weeks_of_few_units_do_not_speak_for_later_ones() -> None:
    weeks = [week_of(0, 100), week_of(1, 90), week_of(2, 50), week_of(3, 49), week_of(4, 9)]
    assert late_week(weeks) == weeks[2]
    assert late_week([*weeks[:2], week_of(2, 50, estimable=False, reason="none")]) == weeks[1]
    uneven = weeks[1].model_copy(update={"n_treatment": 40})
    assert late_week([weeks[0], uneven]) == weeks[0]
    assert late_week([]) is None


@pytest.mark.parametrize(("late", "outcome"), [(0.05, "ship"), (0.01, "iterate")])
def test_where_a_gain_falls_the_late_week_must_show_it_too(late: float, outcome: str) -> None:
    # Weeks averaged to say where it settles may hold the rest of what wears off.
    settles: dict[str, Any] = {"steady": 0.03, "steady_lower": 0.01, "steady_upper": 0.05}
    trend = NoveltyTrend(arm="treatment", weeks=4, slope=-0.02, p_value=0.001, **settles)
    facts = ArmFacts("treatment", (), estimate(), course=Course(trend=trend, late=week_of(2, 90, late)))
    assert decided(facts=[facts]).outcome == outcome
    steady = trend.model_copy(update={"p_value": 0.4})
    facts = ArmFacts("treatment", (), estimate(), course=Course(trend=steady, late=week_of(2, 90, late)))
    assert decided(facts=[facts]).outcome == "ship"


@pytest.mark.parametrize(
    ("bounds", "nobody", "outcome"),
    [
        (None, True, "ship"),
        (None, False, "investigate"),
        (NotEstimable("bounds", "of means only", 9, 9), False, "investigate"),
        (bounds_of(0.03, 0.01), False, "ship"),
        # The bounds' interval holds zero, whatever the plain one says.
        (bounds_of(0.01, 0.05), False, "extend"),
        (bounds_of(-0.2, 0.05), False, "extend"),
    ],
)
def test_a_primary_judged_by_bounds_holds_whoever_is_missing(
    bounds: EffectBounds | NotEstimable | None, nobody: bool, outcome: str
) -> None:
    facts = ArmFacts("treatment", (), estimate(), bounds=bounds, nobody_missing=nobody)
    assert decided(brief_of(missing_data="bounds"), facts=[facts]).outcome == outcome
    # A brief that counts those observed does not ask for them.
    assert decided(facts=[facts]).outcome == "ship"


def test_a_threshold_is_held_against_the_least_that_bounds_allow() -> None:
    brief = ruled(
        {"kind": "primary", "must_beat": "threshold"},
        practical_threshold={"absolute": 0.035},
        missing_data="bounds",
    )
    for lower, outcome in ((0.036, "ship"), (0.034, "iterate")):
        facts = ArmFacts("treatment", (), estimate(effect=0.04), bounds=bounds_of(lower, 0.01))
        assert decided(brief, facts=[facts]).outcome == outcome


def impact(arm: str, value: float, reach: float = 5.0) -> Impact:
    return Impact(
        arm=arm, value=value, value_lower=value - reach, value_upper=value + reach, currency="USD",
        assumptions=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "found", "outcome"),
    [
        ({}, None, "ship"),
        ({}, impact("treatment", 1.0), "ship"),
        ({}, impact("treatment", -1.0), "iterate"),
        ({"at_least": 3.0}, impact("treatment", 1.0), "iterate"),
        ({"at_least": 3.0}, None, "investigate"),
        ({"must": "surely_gain"}, impact("treatment", 1.0), "extend"),
        ({"must": "surely_gain"}, impact("treatment", 6.0), "ship"),
        ({"must": "surely_gain"}, None, "investigate"),
        ({"off": True}, impact("treatment", -1.0), "ship"),
    ],
)
def test_value_may_be_asked_for_more(rule: dict[str, Any], found: Impact | None, outcome: str) -> None:
    brief = ruled({"kind": "value", **rule})
    assert decided(brief, facts=[ArmFacts("treatment", (), estimate(), impact=found)]).outcome == outcome


def segment(value: str, effect: float, half: float = 0.02, column: str = "language", **more: Any) -> Estimate:
    return estimate(effect=effect, half=half, segment=column, segment_value=value, **more)


def test_floors_by_interval_wait_for_segments_that_are_not_shown() -> None:
    floors = ({"column": "language", "floor": {"absolute": -0.01}},)
    facts = ArmFacts("treatment", (), estimate(), (segment("a", 0.05), segment("b", 0.0)))
    by_point, by_interval = (
        ruled({"kind": "equity", "by": by}, segments=floors) for by in ("point", "interval")
    )
    assert decided(by_point, facts=[facts]).outcome == "ship"
    decision = decided(by_interval, facts=[facts])
    assert decision.outcome == "extend"
    assert "language b" in decision.summary
    assert "language a" not in decision.summary


def test_a_floor_whose_column_is_not_in_the_data_is_not_passed() -> None:
    brief = brief_of(
        segments=tuple({"column": name, "floor": {"absolute": -0.01}} for name in ("language", "platform"))
    )
    facts = ArmFacts("treatment", (), estimate(), (segment("a", 0.05),))
    decision = decided(brief, facts=[facts])
    assert decision.outcome == "extend"
    assert "platform" in decision.summary


def test_scope_is_paid_for_by_an_interval_corrected_for_all_declared_segments() -> None:
    brief = brief_of(
        segments=({"column": "language", "floor": {"absolute": -0.01}},), decision={"scoped_shipping": True}
    )
    rows = (
        segment("a", 0.06, p_value=0.001, p_adjusted=0.003),
        segment("b", 0.03, p_value=0.03, p_adjusted=0.06),
        segment("c", -0.05, p_value=0.02, p_adjusted=0.06),
    )
    decision = decided(brief, facts=[ArmFacts("treatment", (), estimate(), rows)])
    assert decision.outcome == "ship_scoped"
    # b shows a gain by itself, and no longer once corrected.
    assert decision.arms[0].segments == (SegmentValue(column="language", value="a"),)
    # Holm left alpha / 3 to a: its interval of 0.06 ± 0.02 is stretched by the ratio of t quantiles.
    df = 1998.0
    stretch = stats.t.ppf(1 - 0.025 / 3, df) / stats.t.ppf(0.975, df)
    lower, upper = (100 * (0.06 + sign * 0.02 * stretch) for sign in (-1, 1))
    assert f"corrected interval +{lower:.2f} pp to +{upper:.2f} pp" in decision.summary


def test_scope_is_refused_where_it_could_not_be_paid_for() -> None:
    floors = tuple({"column": name, "floor": {"absolute": -0.01}} for name in ("language", "platform"))
    brief = brief_of(segments=floors, decision={"scoped_shipping": True})
    good, bad = segment("a", 0.06), segment("b", -0.05)
    other = segment("web", 0.06, column="platform"), segment("ios", -0.05, column="platform")
    looked = Blinding(False, "a look", horizon_reached=True, planned=True, many_looks=True)
    for rows, blinding, said in (
        ((good, bad, *other), OPEN, "more than one column"),
        ((good, bad, other[0]), looked, "seen before"),
        ((segment("a", 0.001), bad, other[0]), OPEN, "no other segment shows a gain"),
    ):
        decision = decided(brief, facts=[ArmFacts("treatment", (), estimate(), rows)], blinding=blinding)
        assert decision.outcome == "iterate"
        assert said in decision.summary


ARMS = tuple(Arm(name=name, share=share) for name, share in (("control", 0.4), ("plain", 0.3), ("bold", 0.3)))


def of_two(plain: ArmFacts, bold: ArmFacts, **changes: Any) -> Any:
    brief = brief_of(arms=ARMS)
    return decide(
        brief, lock=locked(brief), integrity=[check()], blinding=OPEN, arms=[plain, bold], **changes
    )


def test_of_two_arms_that_could_ship_the_one_worth_more_is_shipped_and_it_is_said_why() -> None:
    small, large = estimate("plain", effect=0.04), estimate("bold", effect=0.06)
    plain, bold = ArmFacts("plain", (), small), ArmFacts("bold", (), large)
    decision = of_two(plain, bold)
    assert decision.arm == "bold"
    assert "bold is chosen over plain, whose gain in the primary is smaller" in decision.choice
    # Value counts before the primary, where both have one.
    decision = of_two(
        ArmFacts("plain", (), small, impact=impact("plain", 9.0)),
        ArmFacts("bold", (), large, impact=impact("bold", 8.0)),
    )
    assert decision.arm == "plain"
    assert "whose expected value is smaller" in decision.choice
    assert decision.choice in decision.summary
    # With the value of one arm only, values do not compare.
    assert of_two(ArmFacts("plain", (), small, impact=impact("plain", 9.0)), bold).arm == "bold"


def test_a_tie_goes_to_the_arm_that_the_brief_names_first() -> None:
    facts = [ArmFacts(arm, (), estimate(arm)) for arm in ("plain", "bold")]
    decision = of_two(*facts)
    assert decision.arm == "plain"
    assert "comes later in the brief" in decision.choice


def test_an_arm_for_everybody_goes_before_one_for_some() -> None:
    brief = brief_of(
        arms=ARMS,
        segments=({"column": "language", "floor": {"absolute": -0.01}},),
        decision={"scoped_shipping": True},
    )
    facts = [
        ArmFacts("plain", (), estimate("plain"), (segment("a", 0.05, arm="plain"),)),
        ArmFacts(
            "bold",
            (),
            estimate("bold", effect=0.09),
            (segment("a", 0.2, arm="bold"), segment("b", -0.05, arm="bold")),
        ),
    ]
    decision = decided(brief, facts=facts)
    assert {choice.arm: choice.outcome for choice in decision.arms} == {
        "plain": "ship",
        "bold": "ship_scoped",
    }
    assert decision.arm == "plain"
    assert "which could be shipped to some only" in decision.choice


def test_the_difference_between_arms_is_told_where_the_brief_asked_for_it() -> None:
    facts = [
        ArmFacts(arm, (), estimate(arm, effect=effect)) for arm, effect in (("plain", 0.04), ("bold", 0.06))
    ]
    between = estimate("bold", effect=0.02, half=0.03, control="plain")
    decision = of_two(*facts, arms_compared=(between,))
    assert (
        "a difference between the two is not shown: bold against plain -1.00 pp to +5.00 pp"
        in decision.choice
    )


def test_later_rules_are_listed_as_not_reached() -> None:
    facts = ArmFacts("treatment", (guardrail(status="fail", harm=80.0),), estimate(effect=-0.04))
    (choice,) = decided(facts=[facts]).arms
    assert choice.decided_by == "No guardrail breached"
    assert [rule.reached for rule in choice.rules] == [True, True] + [False] * 7
    by_name = {rule.rule: rule for rule in choice.rules}
    # Its own verdict is still shown.
    assert by_name["Primary metric"].forces == "stop"


def test_integrity_checks_are_found_by_their_name() -> None:
    named = IntegrityCheck(name="receipt", title="Pinned versions", verdict="warn", evidence="A swap.")
    brief = ruled({"kind": "integrity", "stop_on_warnings": ["receipt"]})
    decision = decided(brief, integrity=[check(), named])
    assert decision.outcome == "investigate"
    assert "Pinned versions" in decision.summary


def test_the_next_step_of_a_scoped_ship_names_its_segments() -> None:
    brief = brief_of(
        segments=({"column": "language", "floor": {"absolute": -0.01}},), decision={"scoped_shipping": True}
    )
    rows = segment("a", 0.06), segment("b", 0.06), segment("c", -0.05)
    decision = decided(brief, facts=[ArmFacts("treatment", (), estimate(), rows)])
    steps = next_steps_of(
        brief, decision, integrity=[], guardrails=[], power=None, blinding=OPEN, units_per_day=None
    )
    assert (
        steps[0]
        == "Ship treatment to language a and language b only in stages; the brief names none for its rollout."
    )
