"""Readouts as the analysis makes them, one for each kind of page: the tests read them, and people look at them.

`python -m exp_pipeline_tests.report.samples FOLDER` writes every sample's memo, Markdown, JSON and the index.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from exp_pipeline.model.brief import (
    Arm,
    Brief,
    DecisionRules,
    Effect,
    Guardrail,
    Hypothesis,
    KillRule,
    RampStage,
    Segment,
    ValueModel,
)
from exp_pipeline.model.readout import (
    ArmCount,
    ArmDecision,
    BriefChange,
    CumulativePoint,
    Decision,
    Estimate,
    ExclusionCount,
    GuardrailResult,
    Impact,
    IntegrityCheck,
    LockState,
    PowerAchieved,
    Provenance,
    Readout,
    RobustnessRow,
    RuleResult,
    SampleRatioDay,
    Verdict,
)
from exp_pipeline.report import index_entry, index_html, render_memo

START = date(2026, 2, 2)
END = date(2026, 3, 2)
LAST = END - timedelta(days=1)
CHECKS = (
    ("lock", "Brief as locked"),
    ("receipt", "Pinned model receipt"),
    ("sample_ratio", "Sample ratio"),
    ("fidelity", "Assignment fidelity"),
    ("exposure", "Exposure"),
    ("completeness", "Events complete in both arms"),
    ("freshness", "Data fresh"),
    ("attrition", "Attrition by arm"),
    ("balance", "Balance before the start"),
)


def brief(**changes: Any) -> Brief:
    """A brief of a tutor change; `changes` replace fields."""
    fields: dict[str, Any] = {
        "name": "hint-ladder",
        "version": 2,
        "title": "Hints in three steps before the answer",
        "hypothesis": Hypothesis(
            change="give hints in three steps before the worked answer",
            population="learners of grades 6 to 8",
            context="algebra practice at home and in class",
            moves="mastery within 14 days rises by at least 3 percentage points",
            because="a learner who finds the next step alone remembers it",
            without_harming="answer time, escalations to a teacher, or cost",
        ),
        "owner": "Learning Science",
        "on_call": "tutor-oncall",
        "risk_class": "medium",
        "decision_asked": "Shall every learner of grades 6 to 8 get hints in three steps?",
        "arms": (Arm(name="control", share=0.5), Arm(name="ladder", share=0.5)),
        "control": "control",
        "start": START,
        "end": END,
        "looks": (date(2026, 2, 16),),
        "primary": "mastery",
        "secondary": ("hints_used", "minutes_active"),
        "guardrails": (
            Guardrail(metric="latency_p95", margin=150, kill=KillRule()),
            Guardrail(metric="escalation", margin=0.005, kill=KillRule(action="pause")),
            Guardrail(metric="cost_per_session", margin=0.1, margin_kind="relative"),
        ),
        "segments": (
            Segment(column="grade_band", floor=Effect(absolute=-0.01)),
            Segment(column="accommodation"),
        ),
        "mde": Effect(absolute=0.03),
        "practical_threshold": Effect(absolute=0.02),
        "ramp": (
            RampStage(traffic=0.05, dwell_days=2, minimum_units=500),
            RampStage(traffic=0.25, dwell_days=3, minimum_units=2000),
            RampStage(traffic=1.0, dwell_days=7, approval=True),
        ),
        "decision": DecisionRules(primary_must_beat="threshold"),
        "value": ValueModel(value_per_unit=18.0, cost_per_unit=0.4, eligible_population=84_000),
    }
    return Brief(**{**fields, **changes})


def estimate(metric: str, title: str, **changes: Any) -> Estimate:
    """One estimate of the tutor change; `changes` replace fields."""
    fields: dict[str, Any] = {
        "experiment": "hint-ladder",
        "snapshot": "mad-2026-03-01-7f3a9c1e",
        "metric": metric,
        "title": title,
        "role": "secondary",
        "display": "number",
        "direction": "increase",
        "arm": "ladder",
        "control": "control",
        "method": "CUPED, robust",
        "n_control": 4012,
        "n_treatment": 3987,
    }
    return Estimate(**{**fields, **changes})


def effect(absolute: float, se: float, control: float, **more: Any) -> dict[str, Any]:
    """The numbers of an estimate that hang together: interval, p-value, relative lift."""
    z = abs(absolute / se)
    return {
        "mean_control": control,
        "mean_treatment": control + absolute,
        "absolute": absolute,
        "se": se,
        "df": 7996.0,
        "ci_lower": absolute - 1.96 * se,
        "ci_upper": absolute + 1.96 * se,
        "p_value": math.erfc(z / math.sqrt(2)),
        "relative": absolute / control,
        "relative_ci_lower": (absolute - 1.96 * se) / control,
        "relative_ci_upper": (absolute + 1.96 * se) / control,
        "relative_method": "delta",
        **more,
    }


def guardrail(metric: str, title: str, **changes: Any) -> GuardrailResult:
    """A guardrail that holds; `changes` replace fields."""
    fields: dict[str, Any] = {
        "metric": metric,
        "title": title,
        "arm": "ladder",
        "status": "pass",
        "basis": "interval",
        "margin": 150.0,
        "margin_kind": "absolute",
        "display": "ms",
        "harm": 80.0,
        "harm_bound": 112.4,
        "p_value": 0.0002,
        "kill_action": "roll_back",
        "reason": "The bound on harm lies inside the margin.",
    }
    return GuardrailResult(**{**fields, **changes})


def checks(**verdicts: tuple[Verdict, str]) -> tuple[IntegrityCheck, ...]:
    """All integrity checks, passing where nothing else is said."""
    said = {
        "lock": "The brief is as it was locked on 2026-02-01.",
        "receipt": "Arms differ in prompt_version only, as the brief says.",
        "sample_ratio": "Assigned, exposed and analysed units fit the plan.",
        "fidelity": "Every exposed unit saw the arm it was assigned.",
        "exposure": "98.7 % of the assigned units were exposed.",
        "completeness": "Events per session differ by 0.2 % between arms.",
        "freshness": "99.4 % of events arrived within 24 h.",
        "attrition": "3.1 % and 3.0 % of units left.",
        "balance": "The largest standardised difference is 0.02.",
    }
    return tuple(
        IntegrityCheck(
            name=name,
            title=title,
            verdict=verdicts.get(name, ("pass", ""))[0],
            evidence=verdicts.get(name, ("pass", said[name]))[1],
            numbers={"p_value": 0.41, "units": 8103}
            if name == "sample_ratio" and name not in verdicts
            else {},
        )
        for name, title in CHECKS
    )


def days_of_counts(arms: dict[str, int], days: int = 28, tilt: float = 0.0) -> tuple[SampleRatioDay, ...]:
    """Cumulative units by arm that end at `arms`; `tilt` moves units from the first arm as days pass."""
    out = []
    names = list(arms)
    for day in range(days):
        part = 1 - math.exp(-3.0 * (day + 1) / days)
        part /= 1 - math.exp(-3.0)
        wave = math.sin(day * 1.7) * 6
        counts = {
            name: max(round(n * part + (wave if k else -wave)), 0) for k, (name, n) in enumerate(arms.items())
        }
        if day == days - 1:
            counts = dict(arms)
        drift = tilt * day / max(days - 1, 1)
        p = 10 ** -(abs(drift) + 0.25 + 0.2 * math.sin(day))
        out.append(
            SampleRatioDay(
                day=START + timedelta(days=day),
                counts={name: counts[name] for name in names},
                p_value=p,
                sequential_p_value=min(1.0, p * 3),
            )
        )
    return tuple(out)


def days_of_effects(
    arm: str, final: float, se: float, days: int = 28, n: int = 4000
) -> tuple[CumulativePoint, ...]:
    """A cumulative effect that settles at `final`."""
    out = []
    for day in range(2, days):
        part = (1 - math.exp(-3.0 * (day + 1) / days)) / (1 - math.exp(-3.0))
        spread = se / math.sqrt(part)
        value = final + spread * 1.1 * math.sin(day * 0.9) * (1 - day / (days - 1))
        out.append(
            CumulativePoint(
                day=START + timedelta(days=day),
                arm=arm,
                n_control=round(n * part),
                n_treatment=round(n * part) - 9,
                absolute=value,
                ci_lower=value - 1.96 * spread,
                ci_upper=value + 1.96 * spread,
                always_valid_lower=value - 3.1 * spread,
                always_valid_upper=value + 3.1 * spread,
            )
        )
    return tuple(out)


def provenance(**changes: Any) -> Provenance:
    """Where the sample's numbers would come from."""
    fields: dict[str, Any] = {
        "snapshot": "mad-2026-03-01-7f3a9c1e",
        "brief_digest": "b41d7c02aa9e5d51c7c7b3c1f1b1b0f4a59f0ac2de41f0c8b1f9a5f35f0a7c11",
        "metrics_digest": "0fd2b6a8e2b94d3f8e0f7f1f2b7f6a1f33b0c8d2b7a94f1e6a5c4d3b2a190817",
        "code_version": "0.1.0+3651bb5",
        "run_id": "6a0f2c1e-8b77-4f0e-9a57-3d1e2b7c9f10",
        "as_of": LAST,
        "source": "events",
        "inputs": {"events": "sha256:aa10…", "assignments": "sha256:19fe…"},
    }
    return Provenance(**{**fields, **changes})


SHIP_RULES = (
    RuleResult(rule="Integrity holds", evidence="9 of 9 checks passed", verdict="pass"),
    RuleResult(rule="No guardrail is breached", evidence="3 of 3 within their margin", verdict="pass"),
    RuleResult(rule="Primary beats the threshold", evidence="+10.2 pp against 2 pp", verdict="pass"),
    RuleResult(rule="No segment below its floor", evidence="lowest: grade 6, +7.9 pp", verdict="pass"),
    RuleResult(rule="Value is worth its cost", evidence="whole interval above 0", verdict="pass"),
)


def ship(**changes: Any) -> Readout:
    """One arm that is better everywhere."""
    primary = {"role": "primary", "display": "share", "window_days": 14}
    main = effect(0.102, 0.0258, 0.451, p_adjusted=8e-5, always_valid_lower=0.031, always_valid_upper=0.173)
    title = "Mastery within 14 days"
    segments = tuple(
        estimate("mastery", title, **primary, segment=column, segment_value=value, n_control=n, n_treatment=n - 12,
                 **effect(size, 0.0258 * math.sqrt(4000 / n), 0.45))
        for column, value, n, size in (
            ("grade_band", "grade 6", 1405, 0.079), ("grade_band", "grade 7", 1350, 0.118),
            ("grade_band", "grade 8", 1257, 0.109), ("accommodation", "none", 3410, 0.104),
            ("accommodation", "reading support", 602, 0.088),
        )
    )  # fmt: skip
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
            locked_digest="b41d7c02aa9e5d51", current_digest="b41d7c02aa9e5d51", locked_at=datetime(2026, 2, 1, 9, tzinfo=UTC)
        ),
        "counts": (
            ArmCount(arm="control", planned_share=0.5, assigned=4066, exposed=4012, analysed=4012, contaminated=0),
            ArmCount(arm="ladder", planned_share=0.5, assigned=4037, exposed=3987, analysed=3987, contaminated=0),
        ),
        "sample_ratio": days_of_counts({"control": 4066, "ladder": 4037}),
        "integrity": checks(),
        "estimates": (
            estimate("mastery", title, **primary, **main, variance_reduction=0.31, adjusted=True),
            estimate("hints_used", "Hints used per session", **effect(0.42, 0.08, 3.1, p_adjusted=0.0004)),
            estimate("minutes_active", "Active minutes per week", display="minutes",
                     **effect(-0.6, 0.9, 41.3, p_adjusted=0.51)),
            estimate("latency_p95", "Answer time, 95th percentile", role="guardrail", display="ms", direction="decrease",
                     method="cluster quantile", **effect(80.0, 19.7, 1180.0)),
            estimate("escalation", "Escalations to a teacher", role="guardrail", display="share", direction="decrease",
                     **effect(-0.002, 0.0019, 0.155)),
            estimate("cost_per_session", "Cost per session", role="guardrail", display="usd", direction="decrease",
                     method="ratio, delta method", **effect(0.0007, 0.0003, 0.0214)),
        ),
        "unadjusted": (
            estimate("mastery", title, **{**primary, "method": "Welch"}, **effect(0.0995, 0.0311, 0.4519)),
        ),
        "segments": segments,
        "guardrails": (
            guardrail("latency_p95", "Answer time, 95th percentile"),
            guardrail("escalation", "Escalations to a teacher", margin=0.005, display="share", harm=-0.002,
                      harm_bound=0.0011, kill_action="pause"),
            guardrail("cost_per_session", "Cost per session", margin=0.1, margin_kind="relative", display="usd",
                      harm=0.033, harm_bound=0.056, kill_action=None),
        ),
        "cumulative": days_of_effects("ladder", 0.102, 0.0258),
        "robustness": tuple(
            RobustnessRow(arm="ladder", variant=variant, absolute=a, ci_lower=a - 1.96 * s, ci_upper=a + 1.96 * s,
                          p_value=p, n=n, note=note)
            for variant, a, s, p, n, note in (
                ("Unadjusted", 0.0995, 0.0311, 0.0014, 7999, ""),
                ("Clustered by class", 0.102, 0.0294, 0.0006, 7999, "CR2, Satterthwaite"),
                ("Without contaminated units", 0.1017, 0.0258, 0.0001, 7981, ""),
                ("Worst case for those who left", 0.081, 0.0262, 0.002, 8103, "bound, not an estimate"),
            )
        ),
        "power": PowerAchieved(planned_mde=0.03, planned_units_per_arm=3900, observed_units_per_arm=3987, achieved_mde=0.0288),
        "impact": (
            Impact(arm="ladder", value=154_224.0, value_lower=77_112.0, value_upper=229_824.0, currency="USD",
                   assumptions=("84,000 eligible learners a year.", "USD 18 for each learner who masters the unit, "
                                "less USD 0.40 a learner.", "The effect stays as it was in the last two weeks.")),
        ),
        "exclusions": (
            ExclusionCount(kind="excluded", reason="test account", rows=412),
            ExclusionCount(kind="quarantined", reason="unknown event type", rows=7),
        ),
        "decision": Decision(
            outcome="ship",
            arm="ladder",
            summary="Ship the hint ladder to all learners of grades 6 to 8: mastery rises well above the threshold, "
            "and no guardrail is near its margin.",
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
    }  # fmt: skip
    return Readout(**{**fields, **changes})


def two_arms() -> Readout:
    """Two arms: one is iterated, one breaches a guardrail and is rolled back."""
    base = ship()
    arms = (
        Arm(name="control", share=0.34),
        Arm(name="ladder", share=0.33),
        Arm(name="coach-voice", share=0.33),
    )
    changed = brief(name="hint-voice", title="Hint ladder, alone or in the coach's voice", arms=arms,
                    decision_asked="Which of the two, if any, goes to every learner?")  # fmt: skip
    title = "Mastery within 14 days"
    primary = {"role": "primary", "display": "share", "window_days": 14, "experiment": "hint-voice"}
    estimates = tuple(
        row
        for arm, gain, n in (("ladder", 0.011, 2702), ("coach-voice", 0.041, 2688))
        for row in (
            estimate("mastery", title, **primary, arm=arm, n_treatment=n, **effect(gain, 0.0132, 0.451, p_adjusted=0.06)),
            estimate("hints_used", "Hints used per session", arm=arm, n_treatment=n,
                     **effect(0.31, 0.11, 3.1, p_adjusted=0.02), confirmatory=False, flags=("changed after the lock",)),
            estimate("minutes_active", "Active minutes per week", display="minutes", arm=arm, n_treatment=n, estimable=False,
                     reason="no event of session_end arrived", method="Welch", waiting=n),
        )
    )  # fmt: skip
    guardrails = (
        guardrail("latency_p95", "Answer time, 95th percentile", harm=31.0, harm_bound=66.0),
        guardrail("escalation", "Escalations to a teacher", margin=0.005, display="share", harm=0.001,
                  harm_bound=0.0061, status="underpowered", reason="The data cannot rule out harm beyond the margin."),
        guardrail("grounding", "Grounding failures", basis="point", margin=0.002, display="share", harm=0.0005,
                  harm_bound=None, p_value=None, kill_action=None),
        guardrail("latency_p95", "Answer time, 95th percentile", arm="coach-voice", status="fail", harm=371.0,
                  harm_bound=449.0, p_value=0.99, kill_triggered=True, reason="Harm beyond the margin is shown."),
        guardrail("escalation", "Escalations to a teacher", arm="coach-voice", margin=0.005, display="share",
                  harm=-0.003, harm_bound=0.0012),
        guardrail("grounding", "Grounding failures", arm="coach-voice", basis="point", margin=0.002, display="share",
                  status="cannot_tell", harm=None, harm_bound=None, p_value=None, reason="No safety events arrived.",
                  kill_action=None),
    )  # fmt: skip
    decided = Decision(
        outcome="roll_back",
        arm="coach-voice",
        summary="Take the coach's voice back: answers come too late. The ladder alone does no harm, but gains too little to ship.",
        arms=(
            ArmDecision(arm="ladder", outcome="iterate", because="the gain is smaller than the threshold",
                        rules=(*SHIP_RULES[:2], RuleResult(rule="Primary beats the threshold",
                                                           evidence="+1.1 pp against 2 pp", verdict="fail"))),
            ArmDecision(arm="coach-voice", outcome="roll_back", because="answer time breaches its margin of 150 ms",
                        rules=(SHIP_RULES[0], RuleResult(rule="No guardrail is breached",
                                                         evidence="answer time +371 ms, margin 150 ms", verdict="fail"))),
        ),
    )  # fmt: skip
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
            "unblinded_because": "Answer time doubled for one school; the review board asked to look on 2026-02-20.",
        }
    )


def small_segments() -> tuple[Estimate, ...]:
    """Segments of which one value has 7 units in an arm, so that it and the next smallest are withheld."""
    return tuple(
        estimate("mastery", "Mastery within 14 days", role="primary", display="share", arm=arm, segment="accommodation",
                 segment_value=value, n_control=n_control, n_treatment=n, **effect(size, 0.0132 * math.sqrt(2700 / n), 0.45))
        for arm, value, n_control, n, size in (
            ("ladder", "none", 3541, 2391, 0.012), ("ladder", "reading support", 402, 263, 0.0077),
            ("ladder", "screen reader", 61, 41, 0.0331), ("ladder", "sign language", 8, 7, -0.2277),
            ("coach-voice", "none", 3541, 2380, 0.043), ("coach-voice", "reading support", 402, 258, 0.0201),
            ("coach-voice", "screen reader", 61, 39, 0.0553), ("coach-voice", "sign language", 8, 11, 0.1377),
        )
    )  # fmt: skip


def blinded() -> Readout:
    """Half way: guardrails and integrity only."""
    base = ship()
    return base.model_copy(
        update={
            "as_of": date(2026, 2, 11),
            "horizon_reached": False,
            "blinded": True,
            "blinding_reason": "The experiment runs until 2026-03-02 and no planned look has come.",
            "sample_ratio": base.sample_ratio[:10],
            "estimates": tuple(row for row in base.estimates if row.role == "guardrail"),
            "unadjusted": (),
            "segments": (),
            "cumulative": (),
            "robustness": (),
            "impact": (),
            "decision": Decision(
                outcome="extend",
                arm=None,
                summary="Keep it running until the planned look.",
                arms=(
                    ArmDecision(
                        arm="ladder",
                        outcome="extend",
                        because="The planned look has not come.",
                        rules=(
                            *SHIP_RULES[:2],
                            RuleResult(
                                rule="A planned look has come",
                                evidence="next: 2026-02-16",
                                verdict="cannot_tell",
                            ),
                        ),
                    ),
                ),
            ),
            "next_steps": ("Look again on the planned day.",),
        }
    )


def leaky_blinded() -> Readout:
    """A blinded readout that still carries every effect, as no analysis should make it: the room must hold it back."""
    full = ship()
    kept = {
        name: getattr(full, name)
        for name in ("estimates", "unadjusted", "segments", "cumulative", "robustness", "impact")
    }
    return blinded().model_copy(update=kept)


def mismatch() -> Readout:
    """A sample-ratio mismatch on one platform: investigate, and no effect is shown."""
    base = blinded()
    evidence = "4,312 against 3,791 units, p < 0.0001; android 5.1 carries it."
    return base.model_copy(
        update={
            "as_of": LAST,
            "horizon_reached": True,
            "blinding_reason": "The sample ratio does not fit the plan.",
            "sample_ratio": days_of_counts({"control": 4312, "ladder": 3791}, tilt=8.5),
            "counts": (
                ArmCount(arm="control", planned_share=0.5, assigned=4312, exposed=4290, analysed=4290, contaminated=0),
                ArmCount(arm="ladder", planned_share=0.5, assigned=3791, exposed=3702, analysed=3702, contaminated=12),
            ),
            "integrity": checks(
                sample_ratio=("fail", evidence), freshness=("cannot_tell", "No arrival times for 2026-02-14."),
                attrition=("warn", "3.1 % and 4.4 % of units left."),
            ),
            "decision": Decision(
                outcome="investigate",
                arm=None,
                summary="Find out why android 5.1 lost units of the ladder arm before any effect is read.",
                arms=(ArmDecision(arm="ladder", outcome="investigate", because="the sample ratio does not fit the plan",
                                  rules=(RuleResult(rule="Integrity holds", evidence=evidence, verdict="fail"),)),),
            ),
            "next_steps": ("Compare exposure logging of android 5.1 in both arms.",),
        }
    )  # fmt: skip


def by_class() -> Readout:
    """Randomised by class, no effect to be seen, in minutes."""
    base = ship()
    changed = brief(
        name="pacing-board", title="A pacing board on the teacher's dashboard", randomisation_unit="class", primary="minutes_active",
        secondary=(), arms=(Arm(name="usual", share=0.5), Arm(name="board", share=0.5)), control="usual",
        mde=Effect(relative=0.05), practical_threshold=None, ramp=(), segments=(),
        guardrails=(Guardrail(metric="latency_p95", margin=150),), value=ValueModel(), decision_asked="",
    )  # fmt: skip
    row = estimate("minutes_active", "Active minutes per week", role="primary", display="minutes", arm="board", control="usual",
                   method="CR2, Satterthwaite", clusters=64, n_control=812, n_treatment=798, **effect(0.04, 2.31, 41.3))  # fmt: skip
    return base.model_copy(
        update={
            "experiment": "pacing-board",
            "brief": changed,
            "counts": (
                ArmCount(arm="usual", planned_share=0.5, assigned=820, exposed=812, analysed=812, contaminated=0),
                ArmCount(arm="board", planned_share=0.5, assigned=805, exposed=798, analysed=798, contaminated=0),
            ),
            "sample_ratio": days_of_counts({"usual": 820, "board": 805}),
            "estimates": (row,),
            "unadjusted": (),
            "segments": (),
            "guardrails": (guardrail("latency_p95", "Answer time, 95th percentile", arm="board", harm=-0.004, harm_bound=12.0),),
            "cumulative": days_of_effects("board", 0.04, 2.31, n=805),
            "robustness": (),
            "impact": (),
            "power": PowerAchieved(planned_mde=2.1, planned_units_per_arm=800, observed_units_per_arm=798, achieved_mde=6.47,
                                   note="64 classes carry less than 1,610 learners seem to: the ICC is 0.21, not 0.05."),
            "decision": Decision(
                outcome="stop", arm="board", summary="Stop: nothing suggests that the board changes active minutes.",
                arms=(ArmDecision(arm="board", outcome="stop", because="no effect", rules=SHIP_RULES[:2]),),
            ),
        }
    )  # fmt: skip


def empty() -> Readout:
    """An experiment on its first day: a brief, and nothing else."""
    base = blinded()
    return base.model_copy(
        update={
            "as_of": START,
            "blinding_reason": "No unit has been exposed yet.",
            "method": (),
            "lock": LockState(locked_digest=None, current_digest="77e0"),
            "counts": tuple(ArmCount(arm=a.name, planned_share=a.share, assigned=0, exposed=0, analysed=0, contaminated=0)
                            for a in base.brief.arms),
            "sample_ratio": (), "integrity": (), "estimates": (), "guardrails": (), "power": None, "exclusions": (),
            "limits": (), "next_steps": (),
            "decision": Decision(outcome="extend", arm=None, summary="", arms=()),
        }
    )  # fmt: skip


SAMPLES: dict[str, Callable[[], Readout]] = {
    "ship": ship,
    "two-arms": two_arms,
    "blinded": blinded,
    "mismatch": mismatch,
    "by-class": by_class,
    "empty": empty,
}


def write_all(folder: Path) -> None:
    """Write every sample in every form, and the index, to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, make in SAMPLES.items():
        memo = render_memo(make())
        for suffix, text in (("html", memo.html), ("md", memo.markdown), ("json", memo.json)):
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        entries.append(index_entry(make(), f"{name}.html"))
    (folder / "index.html").write_text(index_html(entries), encoding="utf-8")


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
