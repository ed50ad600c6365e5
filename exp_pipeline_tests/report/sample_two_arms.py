"""The sample readout of two arms, one of which breaches a guardrail, with small segments."""

from __future__ import annotations

import math

from exp_pipeline.model.brief import (
    Arm,
)
from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    BriefChange,
    Decision,
    Estimate,
    Impact,
    LockState,
    Readout,
    RuleResult,
)
from exp_pipeline_tests.report.parts import (
    SHIP_RULES,
    brief,
    checks,
    days_of_counts,
    days_of_effects,
    effect,
    estimate,
    guardrail,
)
from exp_pipeline_tests.report.sample_ship import ship


def two_arms() -> Readout:
    """Two arms: one is iterated, one breaches a guardrail and is rolled back."""
    base = ship()
    arms = (
        Arm(name="control", share=0.34),
        Arm(name="ladder", share=0.33),
        Arm(name="coach-voice", share=0.33),
    )
    changed = brief(
        name="hint-voice",
        title="Hint ladder, alone or in the coach's voice",
        arms=arms,
        decision_asked="Which of the two, if any, goes to every learner?",
    )
    title = "Mastery within 14 days"
    primary = {"role": "primary", "display": "share", "window_days": 14, "experiment": "hint-voice"}
    estimates = tuple(
        row
        for arm, gain, n in (("ladder", 0.011, 2702), ("coach-voice", 0.041, 2688))
        for row in (
            estimate(
                "mastery",
                title,
                **primary,
                arm=arm,
                n_treatment=n,
                **effect(gain, 0.0132, 0.451, p_adjusted=0.06),
            ),
            estimate(
                "hints_used",
                "Hints used per session",
                arm=arm,
                n_treatment=n,
                **effect(0.31, 0.11, 3.1, p_adjusted=0.02),
                confirmatory=False,
                flags=("changed after the lock",),
            ),
            estimate(
                "minutes_active",
                "Active minutes per week",
                display="minutes",
                arm=arm,
                n_treatment=n,
                estimable=False,
                reason="no event of session_end arrived",
                method="Welch",
                waiting=n,
            ),
        )
    )
    guardrails = (
        guardrail("latency_p95", "Answer time, 95th percentile", harm=31.0, harm_bound=66.0),
        guardrail(
            "escalation",
            "Escalations to a teacher",
            margin=0.005,
            display="share",
            harm=0.001,
            harm_bound=0.0061,
            status="underpowered",
            reason="The data cannot rule out harm beyond the margin.",
        ),
        guardrail(
            "grounding",
            "Grounding failures",
            basis="point",
            margin=0.002,
            display="share",
            harm=0.0005,
            harm_bound=None,
            p_value=None,
            kill_action=None,
        ),
        guardrail(
            "latency_p95",
            "Answer time, 95th percentile",
            arm="coach-voice",
            status="fail",
            harm=371.0,
            harm_bound=449.0,
            p_value=0.99,
            kill_triggered=True,
            reason="Harm beyond the margin is shown.",
        ),
        guardrail(
            "escalation",
            "Escalations to a teacher",
            arm="coach-voice",
            margin=0.005,
            display="share",
            harm=-0.003,
            harm_bound=0.0012,
        ),
        guardrail(
            "grounding",
            "Grounding failures",
            arm="coach-voice",
            basis="point",
            margin=0.002,
            display="share",
            status="cannot_tell",
            harm=None,
            harm_bound=None,
            p_value=None,
            reason="No safety events arrived.",
            kill_action=None,
        ),
    )
    decided = Decision(
        outcome="roll_back",
        arm="coach-voice",
        summary="Take the coach's voice back: answers come too late. "
        "The ladder alone does no harm, but gains too little to ship.",
        arms=(
            ArmDecision(
                arm="ladder",
                outcome="iterate",
                because="the gain is smaller than the threshold",
                rules=(
                    *SHIP_RULES[:2],
                    RuleResult(
                        rule="Primary beats the threshold", evidence="+1.1 pp against 2 pp", verdict="fail"
                    ),
                ),
            ),
            ArmDecision(
                arm="coach-voice",
                outcome="roll_back",
                because="answer time breaches its margin of 150 ms",
                rules=(
                    SHIP_RULES[0],
                    RuleResult(
                        rule="No guardrail is breached",
                        evidence="answer time +371 ms, margin 150 ms",
                        verdict="fail",
                    ),
                ),
            ),
        ),
    )
    return base.model_copy(
        update={
            "experiment": "hint-voice",
            "brief": changed,
            "counts": (
                ArmCount(
                    arm="control",
                    planned_share=0.34,
                    assigned=2810,
                    exposed=2776,
                    analysed=2772,
                    contaminated=4,
                ),
                ArmCount(
                    arm="ladder",
                    planned_share=0.33,
                    assigned=2740,
                    exposed=2702,
                    analysed=2702,
                    contaminated=31,
                ),
                ArmCount(
                    arm="coach-voice",
                    planned_share=0.33,
                    assigned=2731,
                    exposed=2688,
                    analysed=2688,
                    contaminated=0,
                ),
            ),
            "sample_ratio": days_of_counts({"control": 2810, "ladder": 2740, "coach-voice": 2731}),
            "integrity": checks(fidelity=("warn", "31 units of ladder also saw control, 1.1 %.")),
            "estimates": estimates,
            "unadjusted": (),
            "segments": small_segments(),
            "guardrails": guardrails,
            "cumulative": (
                *days_of_effects("ladder", 0.011, 0.0132),
                *days_of_effects("coach-voice", 0.041, 0.0132),
            ),
            "impact": (
                Impact(
                    arm="ladder",
                    value=None,
                    value_lower=None,
                    value_upper=None,
                    currency="USD",
                    assumptions=(),
                ),
            ),
            "lock": LockState(
                locked_digest="b41d7c02aa9e5d51",
                current_digest="77e0",
                changes=(
                    BriefChange(
                        field="secondary",
                        locked_value="minutes_active",
                        current_value="hints_used, minutes_active",
                    ),
                ),
            ),
            "decision": decided,
            "unblinded_because": "Answer time doubled for one school; the board asked to look on 2026-02-20.",
        }
    )


def small_segments() -> tuple[Estimate, ...]:
    """Segments of which one value has 7 units in an arm, so that it and the next smallest are withheld."""
    return tuple(
        estimate(
            "mastery",
            "Mastery within 14 days",
            role="primary",
            display="share",
            arm=arm,
            segment="accommodation",
            segment_value=value,
            n_control=n_control,
            n_treatment=n,
            **effect(size, 0.0132 * math.sqrt(2700 / n), 0.45),
        )
        for arm, value, n_control, n, size in (
            ("ladder", "none", 3541, 2391, 0.012),
            ("ladder", "reading support", 402, 263, 0.0077),
            ("ladder", "screen reader", 61, 41, 0.0331),
            ("ladder", "sign language", 8, 7, -0.2277),
            ("coach-voice", "none", 3541, 2380, 0.043),
            ("coach-voice", "reading support", 402, 258, 0.0201),
            ("coach-voice", "screen reader", 61, 39, 0.0553),
            ("coach-voice", "sign language", 8, 11, 0.1377),
        )
    )
