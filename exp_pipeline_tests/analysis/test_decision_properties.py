"""What no combination of facts may do: ship unsafely, turn with the wrong fact, or decide without a rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exp_pipeline.analysis.deciding.blinding import Blinding
from exp_pipeline.analysis.deciding.decision import ArmFacts, decide
from exp_pipeline.analysis.deciding.rules import Course
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import (
    BriefChange,
    Decision,
    Estimate,
    GuardrailResult,
    Impact,
    IntegrityCheck,
    LockState,
    NoveltyContrast,
    NoveltyPoint,
    Outcome,
    PowerAchieved,
)
from exp_pipeline.stats.missing.bounds import EffectBounds
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.analysis.test_decision import check, estimate, guardrail

SHIPPING = ("ship", "ship_scoped")
FLOOR = -0.01
ORDER = (
    "Integrity", "No guardrail breached", "Planned time", "Primary metric", "Guardrails shown to hold",
    "Lasting effect", "Equity", "Value", "Brief as locked",
)  # fmt: skip
# From good to bad.
WORSE = ("pass", "underpowered", "cannot_tell", "fail")
some = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True, slots=True)
class World:
    """Everything that one decision is taken on."""

    brief: Brief
    lock: LockState
    integrity: tuple[IntegrityCheck, ...]
    blinding: Blinding
    arms: tuple[ArmFacts, ...]
    power: PowerAchieved | None

    def decision(self) -> Decision:
        return decide(
            self.brief,
            lock=self.lock,
            integrity=self.integrity,
            blinding=self.blinding,
            arms=self.arms,
            power=self.power,
        )


def with_effect(gain: float, se: float, **changes: Any) -> Estimate:
    """An estimate whose p-values and intervals follow from its effect, as in a readout."""
    p = math.erfc(abs(gain / se) / math.sqrt(2))
    fields: dict[str, Any] = {"p_value": p, "p_adjusted": p, "absolute": gain, "se": se}
    return estimate(effect=gain, half=1.959964 * se, **(fields | changes))


rules: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.sampled_from(
        [
            {"kind": "integrity", "stop_on_warnings": ("sample_ratio",)},
            {"kind": "guardrails", "underpowered": "say"},
            {"kind": "guardrails", "underpowered": "stop"},
            {"kind": "primary", "must_beat": "threshold", "by": "interval"},
            {"kind": "primary", "must_beat": "threshold", "by": "point"},
            {"kind": "lasting", "off": True},
            {"kind": "lasting", "must_be_shown": True, "fading": "stop"},
            {"kind": "equity", "scoped_shipping": True},
            {"kind": "equity", "scoped_shipping": True, "by": "interval", "unknown": "extend"},
            {"kind": "value", "off": True},
            {"kind": "value", "must": "surely_gain"},
        ]
    ),
    max_size=2,
)
KINDS = ("integrity", "guardrails", "primary", "lasting", "equity", "value", "lock")


def in_order(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_kind = {rule["kind"]: rule for rule in chosen}
    return [by_kind[kind] for kind in KINDS if kind in by_kind]


guardrails = st.lists(
    st.builds(
        lambda status, killed, action, harm: guardrail(
            status=status, kill_triggered=killed, kill_action=action, harm=harm
        ),
        st.sampled_from(["pass"] * 9 + ["underpowered", "underpowered", "cannot_tell", "fail"]),
        st.sampled_from([False] * 9 + [True]),
        st.sampled_from(["pause", "roll_back"]),
        st.floats(-50, 100),
    ),
    max_size=3,
).map(tuple)
segments = st.lists(
    st.builds(
        lambda effect, se, column, value: with_effect(effect, se, segment=column, segment_value=value),
        st.sampled_from([-0.1, -0.02, 0.05, 0.08, 0.2]) | st.floats(-0.1, 0.2),
        st.floats(0.002, 0.02),
        st.sampled_from(["language", "language", "platform", "undeclared"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda row: (row.segment, row.segment_value),
).map(tuple)
impacts = st.none() | st.builds(
    lambda value: Impact(
        arm="treatment",
        value=value,
        value_lower=value - 5,
        value_upper=value + 5,
        currency="USD",
        assumptions=(),
    ),
    st.floats(-20, 100),
)
courses = st.just(Course()) | st.just(Course()) | st.builds(
    lambda change, p, late: Course(
        contrast=NoveltyContrast(
            arm="treatment", early_week=0, late_week=3, n_control=9, n_treatment=9, early=0.1, late=late,
            absolute=change, ci_lower=None, ci_upper=None, p_value=p,
        ),
        late=NoveltyPoint(
            week=3, arm="treatment", n_control=9, n_treatment=9, absolute=late, ci_lower=late - 0.02,
            ci_upper=late + 0.02,
        ),
    ),
    st.floats(-0.1, 0.1), st.floats(0, 1), st.floats(-0.05, 0.1),
)  # fmt: skip


def bounds_of(lower: float, width: float) -> EffectBounds:
    return EffectBounds(
        method="lee", n_control=9, n_treatment=9, share_control=0.9, share_treatment=0.8,
        always_observed=0.8, trimmed_arm="control", trimmed_share=0.1, lower=lower, upper=lower + width,
        se_lower=0.01, se_upper=0.01, df=100.0, ci_lower=lower - 0.02, ci_upper=lower + width + 0.02,
        level=0.95,
    )  # fmt: skip


arms = st.builds(
    lambda guards, effect, se, parts, impact, course, bounds, nobody: ArmFacts(
        "treatment", guards, with_effect(effect, se), parts, impact, course, bounds, nobody
    ),
    guardrails,
    st.sampled_from([0.02, 0.05, 0.1]) | st.floats(-0.1, 0.2),
    st.floats(0.002, 0.03),
    segments,
    impacts,
    courses,
    st.none() | st.builds(bounds_of, st.floats(-0.05, 0.1), st.floats(0, 0.1)),
    st.booleans(),
)
open_blinding = Blinding(False, "at the horizon", True, True, False)
blindings = (
    st.just(open_blinding)
    | st.just(open_blinding)
    | st.builds(Blinding, st.booleans(), st.just("why"), st.booleans(), st.booleans(), st.booleans())
)
powers = st.none() | st.builds(
    lambda achieved: PowerAchieved(
        planned_mde=0.02, planned_units_per_arm=100, observed_units_per_arm=90, achieved_mde=achieved
    ),
    st.floats(0.001, 0.1),
)


@st.composite
def worlds(draw: st.DrawFn, *, sound: bool = False) -> World:
    """Any facts at all; `sound` keeps to those under which something may ship."""
    brief = brief_of(
        practical_threshold={"absolute": 0.03},
        segments=tuple(
            {"column": column, "floor": {"absolute": FLOOR} if draw(st.booleans()) else None}
            for column in ("language", "platform")
        ),
        missing_data=draw(st.sampled_from(["observed", "observed", "observed", "bounds"])),
        decision={"rules": in_order(draw(rules))},
    )
    digest = brief.analysis_digest()
    changed = ["alpha"] if not sound and draw(st.integers(0, 4)) == 0 else []
    return World(
        brief=brief,
        lock=LockState(
            locked_digest=digest if sound or draw(st.integers(0, 4)) else None,
            current_digest=digest,
            changes=tuple(
                BriefChange(field=name, locked_value="0.05", current_value="0.1") for name in changed
            ),
            days_seen=None if sound else draw(st.sampled_from([None, 0, 0, 20])),
        ),
        integrity=tuple(
            check(verdict)
            for verdict in draw(
                st.lists(
                    st.sampled_from(["pass", "warn", "cannot_tell", *(() if sound else ("fail",))]),
                    min_size=1,
                    max_size=2,
                )
            )
        ),
        blinding=open_blinding if sound else draw(blindings),
        arms=(draw(arms),),
        power=draw(powers),
    )


@some
@given(worlds())
def test_nothing_unsafe_ships(world: World) -> None:
    decision = world.decision()
    (facts,), (choice,) = world.arms, decision.arms
    assert decision.outcome == choice.outcome
    if choice.outcome not in SHIPPING:
        assert not choice.segments
        return
    assert not any(found.verdict == "fail" for found in world.integrity)
    assert not any(result.status == "fail" or result.kill_triggered for result in facts.guardrails)
    assert world.lock.locked_digest is not None
    assert not world.lock.changes
    assert not world.lock.late
    assert not world.blinding.blinded
    assert world.blinding.planned
    assert (facts.primary.absolute or 0.0) > 0.0
    if world.brief.missing_data == "bounds" and not facts.nobody_missing:
        assert isinstance(facts.bounds, EffectBounds)
        assert facts.bounds.ci_lower > 0.0
    floors = {one.column for one in world.brief.segments if one.floor is not None}
    below = [
        (row.segment, row.segment_value)
        for row in facts.segments
        if row.segment in floors and (row.absolute or 0.0) < FLOOR
    ]
    shipped_to = [(part.column, part.value) for part in choice.segments]
    assert not set(below) & set(shipped_to)
    if choice.outcome == "ship":
        assert not below
    else:
        assert shipped_to
        assert world.brief.decision.equity.scoped_shipping
        rows = {(row.segment, row.segment_value): row for row in facts.segments}
        for place in shipped_to:
            assert place[0] in {one.column for one in world.brief.segments}
            assert (rows[place].p_adjusted or 1.0) < world.brief.alpha


@some
@given(worlds())
def test_a_guardrail_not_shown_to_hold_is_never_said_to_have_passed(world: World) -> None:
    (facts,), (choice,) = world.arms, world.decision().arms
    open_ones = [one for one in facts.guardrails if one.status in ("underpowered", "cannot_tell")]
    shown = next((rule for rule in choice.rules if rule.rule == "Guardrails shown to hold"), None)
    if open_ones and shown is not None:
        assert shown.verdict != "pass"
        assert all(one.title in shown.evidence for one in open_ones)
    if open_ones and choice.outcome in SHIPPING:
        assert world.brief.decision.guardrails.underpowered == "say"
        assert "every guardrail holds" not in choice.because
        assert all(one.status == "underpowered" and (one.harm or 0.0) < one.margin for one in open_ones)


@some
@given(worlds())
def test_there_is_one_outcome_with_a_rule_that_decided_it_and_all_rules_in_order(world: World) -> None:
    decision = world.decision()
    assert decision.outcome in get_args(Outcome)
    (choice,) = decision.arms
    names = tuple(rule.rule for rule in choice.rules)
    assert names == ORDER
    assert choice.decided_by in names
    assert choice.because
    assert all(rule.asks.endswith("?") and rule.evidence for rule in choice.rules)
    reached = [rule.reached for rule in choice.rules]
    assert reached == sorted(reached, reverse=True)
    forced = [rule for rule in choice.rules if rule.reached and rule.forces not in (None, "ship_scoped")]
    if choice.outcome in SHIPPING:
        assert not forced
        assert all(reached)
    else:
        # The one that forces stands last of those that were asked.
        assert [rule.rule for rule in forced] == [choice.decided_by]
        assert [rule for rule in choice.rules if rule.reached][-1].forces == choice.outcome


@some
@given(worlds(sound=True), st.integers(0, 2), st.integers(0, 3), st.booleans())
def test_a_worse_guardrail_never_makes_anything_ship(world: World, which: int, to: int, killed: bool) -> None:
    (facts,) = world.arms
    if which >= len(facts.guardrails):
        return
    old = facts.guardrails[which]
    status = WORSE[max(to, WORSE.index(old.status))]
    worse = old.model_copy(update={"status": status, "kill_triggered": old.kill_triggered or killed})
    changed = tuple(worse if place == which else one for place, one in enumerate(facts.guardrails))
    after = replace(world, arms=(replace(facts, guardrails=changed),)).decision()
    if world.decision().outcome not in SHIPPING:
        assert after.outcome not in SHIPPING


@some
@given(worlds(sound=True), st.floats(0.0, 0.2))
def test_a_larger_effect_never_keeps_back_what_ships(world: World, more: float) -> None:
    (facts,) = world.arms
    row = facts.primary
    larger = with_effect((row.absolute or 0.0) + more, row.se or 1.0)
    after = replace(world, arms=(replace(facts, primary=larger),)).decision()
    if world.decision().outcome in SHIPPING:
        assert after.outcome in SHIPPING


@some
@given(worlds())
def test_a_hidden_effect_changes_nothing_that_is_said(world: World) -> None:
    hidden = replace(world, blinding=replace(world.blinding, blinded=True))
    (facts,) = hidden.arms
    other = replace(
        facts, primary=with_effect(0.17, 0.003), segments=(), impact=None, course=Course(), bounds=None
    )
    assert hidden.decision() == replace(hidden, arms=(other,)).decision()


@some
@given(worlds(sound=True), st.sampled_from(["integrity", "lock", "guardrails"]))
def test_no_rules_of_a_brief_are_looser_than_the_safeguards(world: World, broken: str) -> None:
    (facts,) = world.arms
    if broken == "integrity":
        world = replace(world, integrity=(*world.integrity, check("fail")))
    elif broken == "lock":
        world = replace(world, lock=world.lock.model_copy(update={"locked_digest": None}))
    else:
        guards: tuple[GuardrailResult, ...] = (*facts.guardrails, guardrail(status="fail"))
        world = replace(world, arms=(replace(facts, guardrails=guards),))
    assert world.decision().outcome not in SHIPPING


@some
@given(
    st.lists(st.tuples(st.floats(-0.1, 0.2), st.floats(0.002, 0.03)), min_size=2, max_size=5),
    st.sampled_from(["zero", "threshold"]),
    st.sampled_from(["point", "interval"]),
    st.booleans(),
)
def test_only_segments_that_pay_for_being_chosen_are_shipped_to(
    drawn: list[tuple[float, float]], must_beat: str, by: str, looked: bool
) -> None:
    brief = brief_of(
        practical_threshold={"absolute": 0.03},
        segments=({"column": "language", "floor": {"absolute": FLOOR}},),
        decision={
            "rules": [
                {"kind": "primary", "must_beat": must_beat, "by": by},
                {"kind": "equity", "scoped_shipping": True},
            ]
        },
    )
    raw = [math.erfc(abs(gain / se) / math.sqrt(2)) for gain, se in drawn]
    parts = tuple(
        with_effect(gain, se, segment="language", segment_value=str(place), p_adjusted=min(1.0, p * len(raw)))
        for place, ((gain, se), p) in enumerate(zip(drawn, raw, strict=True))
    )
    digest = brief.analysis_digest()
    lock = LockState(locked_digest=digest, current_digest=digest)
    facts = ArmFacts("treatment", (guardrail(),), with_effect(0.1, 0.005), parts)
    blinding = replace(open_blinding, many_looks=looked)
    decision = decide(brief, lock=lock, integrity=[check()], blinding=blinding, arms=[facts])
    (choice,) = decision.arms
    below = [place for place, (gain, _) in enumerate(drawn) if gain < FLOOR]
    paid = [
        place
        for place, (gain, se) in enumerate(drawn)
        if gain >= FLOOR
        and gain > 0.0
        and raw[place] * len(raw) < brief.alpha
        # The corrected interval is wider than the plain one, so this much is necessary.
        and (must_beat == "zero" or (gain if by == "point" else gain - 1.959964 * se) >= 0.03)
    ]
    if not below:
        assert choice.outcome == "ship"
        return
    assert choice.outcome in ("ship_scoped", "iterate")
    chosen = [int(part.value) for part in choice.segments]
    assert set(chosen) <= set(paid)
    if looked:
        assert choice.outcome == "iterate"
    elif must_beat == "zero" or by == "point":
        # With equal corrections for all, what is necessary is enough but for the t reference of the interval.
        sure = [place for place in paid if raw[place] * len(raw) < 0.9 * brief.alpha]
        assert set(sure) <= set(chosen)
