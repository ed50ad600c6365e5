"""The sample readout of one arm that is better everywhere; others are made from it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    Decision,
    ExclusionCount,
    Impact,
    LockState,
    PowerAchieved,
    Readout,
    RobustnessRow,
)
from exp_pipeline_tests.report.parts import (
    LAST,
    SHIP_RULES,
    brief,
    checks,
    days_of_counts,
    days_of_effects,
    effect,
    estimate,
    guardrail,
    provenance,
)


def ship(**changes: Any) -> Readout:
    """One arm that is better everywhere."""
    primary = {"role": "primary", "display": "share", "window_days": 14}
    main = effect(0.102, 0.0258, 0.451, p_adjusted=8e-5, always_valid_lower=0.031, always_valid_upper=0.173)
    title = "Mastery within 14 days"
    segments = tuple(
        estimate(
            "mastery",
            title,
            **primary,
            segment=column,
            segment_value=value,
            n_control=n,
            n_treatment=n - 12,
            **effect(size, 0.0258 * math.sqrt(4000 / n), 0.45),
        )
        for column, value, n, size in (
            ("grade_band", "grade 6", 1405, 0.079),
            ("grade_band", "grade 7", 1350, 0.118),
            ("grade_band", "grade 8", 1257, 0.109),
            ("accommodation", "none", 3410, 0.104),
            ("accommodation", "reading support", 602, 0.088),
        )
    )
    fields: dict[str, Any] = {
        "experiment": "hint-ladder",
        "brief": brief(),
        "as_of": LAST,
        "horizon_reached": True,
        "blinded": False,
        "blinding_reason": "",
        "method": (
            "Intention to treat: every assigned and exposed learner counts in the arm first assigned.",
            "CUPED with mastery and minutes of the 28 days before assignment; robust standard errors.",
            "Holm over the secondary metrics; guardrails by one-sided non-inferiority.",
        ),
        "lock": LockState(
            locked_digest="b41d7c02aa9e5d51",
            current_digest="b41d7c02aa9e5d51",
            locked_at=datetime(2026, 2, 1, 9, tzinfo=UTC),
        ),
        "counts": (
            ArmCount(
                arm="control", planned_share=0.5, assigned=4066, exposed=4012, analysed=4012, contaminated=0
            ),
            ArmCount(
                arm="ladder", planned_share=0.5, assigned=4037, exposed=3987, analysed=3987, contaminated=0
            ),
        ),
        "sample_ratio": days_of_counts({"control": 4066, "ladder": 4037}),
        "integrity": checks(),
        "estimates": (
            estimate("mastery", title, **primary, **main, variance_reduction=0.31, adjusted=True),
            estimate("hints_used", "Hints used per session", **effect(0.42, 0.08, 3.1, p_adjusted=0.0004)),
            estimate(
                "minutes_active",
                "Active minutes per week",
                display="minutes",
                **effect(-0.6, 0.9, 41.3, p_adjusted=0.51),
            ),
            estimate(
                "latency_p95",
                "Answer time, 95th percentile",
                role="guardrail",
                display="ms",
                direction="decrease",
                method="cluster quantile",
                **effect(80.0, 19.7, 1180.0),
            ),
            estimate(
                "escalation",
                "Escalations to a teacher",
                role="guardrail",
                display="share",
                direction="decrease",
                **effect(-0.002, 0.0019, 0.155),
            ),
            estimate(
                "cost_per_session",
                "Cost per session",
                role="guardrail",
                display="usd",
                direction="decrease",
                method="ratio, delta method",
                **effect(0.0007, 0.0003, 0.0214),
            ),
        ),
        "unadjusted": (
            estimate("mastery", title, **{**primary, "method": "Welch"}, **effect(0.0995, 0.0311, 0.4519)),
        ),
        "segments": segments,
        "guardrails": (
            guardrail("latency_p95", "Answer time, 95th percentile"),
            guardrail(
                "escalation",
                "Escalations to a teacher",
                margin=0.005,
                display="share",
                harm=-0.002,
                harm_bound=0.0011,
                kill_action="pause",
            ),
            guardrail(
                "cost_per_session",
                "Cost per session",
                margin=0.1,
                margin_kind="relative",
                display="usd",
                harm=0.033,
                harm_bound=0.056,
                kill_action=None,
            ),
        ),
        "cumulative": days_of_effects("ladder", 0.102, 0.0258),
        "robustness": tuple(
            RobustnessRow(
                arm="ladder",
                variant=variant,
                absolute=a,
                ci_lower=a - 1.96 * s,
                ci_upper=a + 1.96 * s,
                p_value=p,
                n=n,
                note=note,
            )
            for variant, a, s, p, n, note in (
                ("Unadjusted", 0.0995, 0.0311, 0.0014, 7999, ""),
                ("Clustered by class", 0.102, 0.0294, 0.0006, 7999, "CR2, Satterthwaite"),
                ("Without contaminated units", 0.1017, 0.0258, 0.0001, 7981, ""),
                ("Worst case for those who left", 0.081, 0.0262, 0.002, 8103, "bound, not an estimate"),
            )
        ),
        "power": PowerAchieved(
            planned_mde=0.03, planned_units_per_arm=3900, observed_units_per_arm=3987, achieved_mde=0.0288
        ),
        "impact": (
            Impact(
                arm="ladder",
                value=154_224.0,
                value_lower=77_112.0,
                value_upper=229_824.0,
                currency="USD",
                assumptions=(
                    "84,000 eligible learners a year.",
                    "USD 18 for each learner who masters the unit, less USD 0.40 a learner.",
                    "The effect stays as it was in the last two weeks.",
                ),
            ),
        ),
        "exclusions": (
            ExclusionCount(kind="excluded", reason="test account", rows=412),
            ExclusionCount(kind="quarantined", reason="unknown event type", rows=7),
        ),
        "decision": Decision(
            outcome="ship",
            arm="ladder",
            summary="Ship the hint ladder to all learners of grades 6 to 8: mastery rises well above the "
            "threshold, and no guardrail is near its margin.",
            arms=(ArmDecision(arm="ladder", outcome="ship", because="All rules are met.", rules=SHIP_RULES),),
        ),
        "limits": (
            "Four weeks: whether the gain lasts into the next term is not known; the holdout will tell.",
            "Learners who share a device may have seen both arms.",
        ),
        "next_steps": (
            "Ramp to 5 %, 25 % and 100 %; the last step needs approval.",
            "Watch answer time and escalations daily for four weeks.",
        ),
        "provenance": provenance(),
    }
    return Readout(**{**fields, **changes})
