"""Decision rules: what can never ship, and what each kind of evidence leads to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.deciding.decision import ArmFacts, decide
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.brief import Effect as Size
from exp_pipeline.model.readout import (
    BriefChange,
    Decision,
    Estimate,
    GuardrailResult,
    Impact,
    IntegrityCheck,
    LockState,
)
from exp_pipeline_tests.analysis.builders import brief_of, locked

OPEN = Blinding(blinded=False, reason="at the horizon", horizon_reached=True, planned=True, many_looks=False)


def estimate(arm: str = "treatment", effect: float = 0.04, half: float = 0.02, **changes: Any) -> Estimate:
    fields: dict[str, Any] = {
        "experiment": "e", "snapshot": "s", "metric": "solved", "title": "Solved", "role": "primary",
        "display": "share", "direction": "increase", "arm": arm, "control": "control", "method": "welch",
        "n_control": 1000, "n_treatment": 1000, "mean_control": 0.4, "mean_treatment": 0.4 + effect,
        "absolute": effect, "se": half / 2, "df": 1998.0,
        "ci_lower": effect - half, "ci_upper": effect + half,
        "always_valid_lower": effect - 1.6 * half, "always_valid_upper": effect + 1.6 * half,
        "p_value": 0.0001 if abs(effect) > half else 0.4, "p_adjusted": 0.0001 if abs(effect) > half else 0.4,
        "relative": effect / 0.4,
    }  # fmt: skip
    return Estimate(**(fields | changes))


def guardrail(arm: str = "treatment", **changes: Any) -> GuardrailResult:
    fields: dict[str, Any] = {
        "metric": "latency", "title": "Latency", "arm": arm, "status": "pass", "basis": "interval",
        "margin": 50.0,
        "margin_kind": "absolute", "display": "ms", "harm": 1.0, "harm_bound": 9.0, "p_value": 0.001,
        "reason": "held",
    }  # fmt: skip
    return GuardrailResult(**(fields | changes))


def check(verdict: Any = "pass") -> IntegrityCheck:
    return IntegrityCheck(name="sample_ratio", title="Sample ratio", verdict=verdict, evidence="Counts.")


def decided(brief: Brief | None = None, **changes: Any) -> Decision:
    brief = brief or brief_of()
    facts = changes.pop("facts", [ArmFacts("treatment", (guardrail(),), estimate())])
    fields: dict[str, Any] = {"lock": locked(brief), "integrity": [check()], "blinding": OPEN}
    return decide(brief, arms=facts, **(fields | changes))


def test_a_clear_gain_with_everything_in_order_ships() -> None:
    assert decided().outcome == "ship"


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (ArmFacts("treatment", (guardrail(status="fail", harm=80.0),), estimate()), "roll_back"),
        (ArmFacts("treatment", (guardrail(kill_triggered=True, kill_action="pause"),), estimate()), "pause"),
        (ArmFacts("treatment", (guardrail(status="underpowered"),), estimate()), "extend"),
        (ArmFacts("treatment", (guardrail(status="cannot_tell"),), estimate()), "extend"),
        (ArmFacts("treatment", (), estimate(effect=-0.04)), "stop"),
        (ArmFacts("treatment", (), estimate(effect=0.0, half=0.01)), "stop"),
        (ArmFacts("treatment", (), estimate(effect=0.01, half=0.03)), "extend"),
        (ArmFacts("treatment", (), estimate(estimable=False, absolute=None)), "investigate"),
    ],
)
def test_each_kind_of_evidence_has_its_outcome(facts: ArmFacts, outcome: str) -> None:
    assert decided(facts=[facts]).outcome == outcome


def test_shipping_at_a_loss_is_refused() -> None:
    loss = Impact(
        arm="treatment", value=-5.0, value_lower=-9.0, value_upper=1.0, currency="USD", assumptions=()
    )
    assert decided(facts=[ArmFacts("treatment", (), estimate(), impact=loss)]).outcome == "iterate"


@pytest.mark.parametrize(("scoped", "outcome"), [(True, "ship_scoped"), (False, "iterate")])
def test_a_segment_below_its_floor_is_not_shipped_to(scoped: bool, outcome: str) -> None:
    brief = brief_of(
        segments=({"column": "language", "floor": {"absolute": -0.01}},), decision={"scoped_shipping": scoped}
    )
    segments = tuple(
        estimate(effect=effect, segment="language", segment_value=value)
        for value, effect in (("english", 0.06), ("spanish", -0.03))
    )
    decision = decided(brief, facts=[ArmFacts("treatment", (), estimate(), segments)])
    assert decision.outcome == outcome
    assert "spanish" in decision.summary


def test_each_arm_is_decided_and_the_best_one_speaks() -> None:
    arms = (Arm(name="control", share=0.4), Arm(name="plain", share=0.3), Arm(name="bold", share=0.3))
    facts = [
        ArmFacts("plain", (guardrail("plain"),), estimate("plain")),
        ArmFacts("bold", (guardrail("bold", status="fail"),), estimate("bold", effect=0.09)),
    ]
    decision = decided(brief_of(arms=arms), facts=facts)
    assert (decision.outcome, decision.arm) == ("ship", "plain")
    assert {choice.arm: choice.outcome for choice in decision.arms} == {"plain": "ship", "bold": "roll_back"}
    best = decided(brief_of(arms=arms), facts=[facts[0], ArmFacts("bold", (), estimate("bold", effect=0.09))])
    assert (best.outcome, best.arm) == ("ship", "bold")


def test_looks_are_judged_by_the_always_valid_interval() -> None:
    row = estimate(effect=0.025, half=0.02)
    many = Blinding(blinded=False, reason="a look", horizon_reached=False, planned=True, many_looks=True)
    assert decided(facts=[ArmFacts("treatment", (), row)]).outcome == "ship"
    assert decided(facts=[ArmFacts("treatment", (), row)], blinding=many).outcome == "extend"


SHIPPING = ("ship", "ship_scoped")
statuses = st.sampled_from(["pass", "fail", "underpowered", "cannot_tell"])
guardrails = st.builds(
    lambda status, killed, action, basis: guardrail(
        status=status, kill_triggered=killed, kill_action=action, basis=basis
    ),
    statuses,
    st.booleans(),
    st.sampled_from(["pause", "roll_back"]),
    st.sampled_from(["interval", "point"]),
)
effects = st.floats(-0.2, 0.2)
halves = st.floats(0.001, 0.2)
primaries = st.builds(lambda effect, half: estimate(effect=effect, half=half), effects, halves)
segments = st.lists(
    st.builds(
        lambda effect, half, value: estimate(
            effect=effect, half=half, segment="language", segment_value=value
        ),
        effects,
        halves,
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=3,
)
impacts = st.none() | st.builds(
    lambda value: Impact(
        arm="treatment",
        value=value,
        value_lower=value - 1,
        value_upper=value + 1,
        currency="USD",
        assumptions=(),
    ),
    st.floats(-100, 100),
)
checks = st.lists(st.builds(check, st.sampled_from(["pass", "warn", "fail", "cannot_tell"])), max_size=4)
changes = st.lists(
    st.sampled_from([BriefChange(field="alpha", locked_value="0.05", current_value="0.1")]), max_size=1
)
blindings = st.builds(Blinding, st.booleans(), st.just("why"), st.booleans(), st.booleans(), st.booleans())
rules = st.fixed_dictionaries(
    {
        "primary_must_beat": st.sampled_from(["zero", "threshold"]),
        "threshold_basis": st.sampled_from(["point", "interval"]),
        "scoped_shipping": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(guardrails, max_size=3), primaries, segments, impacts, checks, changes, st.booleans(), blindings,
    rules, st.booleans(),
)  # fmt: skip
def test_nothing_unsafe_ever_ships(
    guards: list[GuardrailResult],
    primary: Estimate,
    parts: list[Estimate],
    impact: Impact | None,
    integrity: list[IntegrityCheck],
    changed: list[BriefChange],
    was_locked: bool,
    blinding: Blinding,
    rule: dict[str, Any],
    floor: bool,
) -> None:
    brief = brief_of(
        decision=rule,
        practical_threshold=Size(absolute=0.01),
        segments=({"column": "language", "floor": {"absolute": -0.01} if floor else None},),
    )
    digest = brief.analysis_digest()
    lock = LockState(
        locked_digest=digest if was_locked else None, current_digest=digest, changes=tuple(changed)
    )
    facts = ArmFacts("treatment", tuple(guards), primary, tuple(parts), impact)
    decision = decide(brief, lock=lock, integrity=integrity, blinding=blinding, arms=[facts])
    unsafe = (
        any(result.status != "pass" or result.kill_triggered for result in guards)
        or any(found.verdict == "fail" for found in integrity)
        or bool(changed)
        or not was_locked
        or blinding.blinded
        or not blinding.planned
        or (primary.absolute or 0.0) <= 0.0
    )
    if unsafe:
        assert decision.outcome not in SHIPPING
        assert all(choice.outcome not in SHIPPING for choice in decision.arms)
    if any(found.verdict == "fail" for found in integrity):
        assert decision.outcome == "investigate"
    elif any(result.status == "fail" for result in guards):
        assert decision.outcome in ("roll_back", "pause")
    for choice in decision.arms:
        assert choice.because
        if choice.outcome not in SHIPPING:
            assert any(found.verdict in ("fail", "cannot_tell") for found in choice.rules)
