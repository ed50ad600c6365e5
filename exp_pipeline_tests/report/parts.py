"""The parts that sample readouts are built of."""

from __future__ import annotations

import math
from datetime import date, timedelta
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
    CumulativePoint,
    Estimate,
    GuardrailResult,
    IntegrityCheck,
    Provenance,
    RuleResult,
    SampleRatioDay,
    Verdict,
)

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
