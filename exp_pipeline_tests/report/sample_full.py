"""A readout that says everything a readout can say, so that every table and plot of a memo is made."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

from exp_pipeline.model.brief import Family, RampStage
from exp_pipeline.model.populations import UnitsLeftOut
from exp_pipeline.model.ramps import RampEntry
from exp_pipeline.model.readout import (
    ArmsDifference,
    Cause,
    ComplierEffect,
    FamilyResult,
    Impact,
    InputChange,
    Movement,
    NoveltyContrast,
    NoveltyDay,
    NoveltyPoint,
    NoveltySplit,
    NoveltyTrend,
    Readout,
    RobustnessRow,
    SampleRatioGroup,
    SegmentDifference,
    ShrunkenEffect,
    SinceLast,
    Unblinding,
)
from exp_pipeline_tests.report.parts import effect, estimate
from exp_pipeline_tests.report.sample_two_arms import two_arms

ARMS = ("ladder", "coach-voice")
FINAL = {"ladder": 0.011, "coach-voice": 0.0412}
SEGMENTS = (
    ("grade_band", "grade 6", 1105, 0.7),
    ("grade_band", "grade 7", 950, 1.4),
    ("grade_band", "grade 8", 717, 0.9),
    ("platform", "android", 702, 1.1),
    ("platform", "chromebook", 1250, 0.95),
    ("platform", "ios", 820, 1.02),
)


def full() -> Readout:
    """Two arms, with everything: causes, groups, days, trends, shrinkage, families, receiving, bounds."""
    base = two_arms()
    brief = base.brief.model_copy(
        update={
            "counter_metrics": ("answers_skipped",),
            "families": (
                Family(name="learning", metrics=("mastery",)),
                Family(name="use", metrics=("hints_used", "minutes_active"), after="learning"),
            ),
            "comparisons": "all",
            "ramp": (
                RampStage(traffic=0.05, dwell_days=3, minimum_units=300),
                RampStage(
                    traffic=0.5, dwell_days=7, minimum_units=2500, checks=("srm", "guardrails_powered")
                ),
                RampStage(traffic=1.0, dwell_days=0),
            ),
            "rollout": (
                RampStage(traffic=0.25, dwell_days=4, approval=True),
                RampStage(traffic=1.0, dwell_days=0, approval=True),
            ),
        }
    )
    counter = tuple(
        estimate(
            "answers_skipped",
            "Answers skipped",
            role="counter",
            display="share",
            direction="decrease",
            arm=arm,
            n_control=2772,
            n_treatment=2700,
            **effect(-0.0031, 0.0044, 0.121),
        )
        for arm in ARMS
    )
    checks = tuple(
        check.model_copy(
            update={
                "causes": (
                    Cause(
                        rank=1,
                        where="platform android, since 2026-02-14",
                        evidence="28 of 702 (3.99 %) units there saw another arm, elsewhere 3 of 2,070 "
                        "(0.14 %); all others fit. First: compare what that platform logs in each arm.",
                        share=0.9032,
                    ),
                    Cause(
                        rank=2,
                        where="app version 5.1",
                        evidence="17 of 1,201 (1.42 %) units there saw another arm. First: compare what that "
                        "version of the client logs in each arm.",
                        share=0.42,
                    ),
                )
            }
        )
        if check.name == "fidelity"
        else check
        for check in base.integrity
    )
    return base.model_copy(
        update={
            "brief": brief,
            "estimates": (*base.estimates, *counter),
            "integrity": checks,
            "segments": _segments(),
            "segment_differences": tuple(
                SegmentDifference(segment=column, arm=arm, p_value=p, opposite_p_value=0.71, spread=0.0041)
                for column, p in (("grade_band", 0.031), ("platform", 0.62))
                for arm in ARMS
            ),
            "shrunken": _shrunken(),
            "sample_ratio_groups": _groups(),
            "left_out": (
                UnitsLeftOut(reason="new this week", units={"control": 31, "ladder": 28, "coach-voice": 33}),
            ),
            "novelty": tuple(_week(arm, week) for arm in ARMS for week in range(4)),
            "novelty_days": tuple(_day(arm, day) for arm in ARMS for day in range(28)),
            "novelty_contrasts": tuple(_contrast(arm) for arm in ARMS),
            "novelty_splits": tuple(_split(arm) for arm in ARMS),
            "novelty_trend": tuple(_trend(arm) for arm in ARMS),
            "arms_compared": (
                estimate(
                    "mastery",
                    "Mastery within 14 days",
                    role="primary",
                    display="share",
                    arm="coach-voice",
                    control="ladder",
                    n_control=2702,
                    n_treatment=2688,
                    **effect(0.0302, 0.0133, 0.462, p_adjusted=0.0231),
                ),
            ),
            "arms_difference": ArmsDifference(arms=ARMS, method="wald", p_value=0.0231, spread=0.0197),
            "families": _families(),
            "compliance": tuple(_complier(arm) for arm in ARMS),
            "robustness": _robustness(),
            "impact": tuple(_impact(arm) for arm in ARMS),
            "unblindings": (
                Unblinding(
                    at=datetime(2026, 2, 20, 9, 30, tzinfo=UTC),
                    by="Learning Science",
                    reason="Answer time doubled for one school.",
                ),
            ),
            "since_last": SinceLast(
                snapshot="mad-2026-02-22-11aa22bb",
                as_of=date(2026, 2, 22),
                inputs=(InputChange(why="late data", tables=("events",), days=(date(2026, 2, 21),)),),
                movements=(
                    Movement(
                        metric="mastery",
                        title="Mastery within 14 days",
                        role="primary",
                        display="share",
                        arm="ladder",
                        n_control=2601,
                        n_treatment=2590,
                        before=0.0093,
                        now=0.011,
                        moved=0.0017,
                        in_old_errors=0.13,
                    ),
                ),
            ),
        }
    )


def entries() -> tuple[RampEntry, ...]:
    """Transitions of that experiment's ramp: three stages, a pause between them."""

    def entry(sequence: int, day: int, action: str, stage: int, traffic: float, **more: object) -> RampEntry:
        return RampEntry.model_validate(
            {
                "experiment": "hint-voice",
                "version": 2,
                "sequence": sequence,
                "at": datetime(2026, 2, 2, 7, tzinfo=UTC) + timedelta(days=day),
                "action": action,
                "stage": stage,
                "stages": 3,
                "traffic": traffic,
                "by": "schedule",
                **more,
            }
        )

    return (
        entry(1, 0, "advance", 1, 0.05),
        entry(2, 4, "advance", 2, 0.5),
        entry(3, 6, "pause", 2, 0.0, reasons=("answer time beyond its margin",)),
        entry(4, 8, "resume", 2, 0.5, by="Learning Science"),
        entry(5, 15, "advance", 3, 1.0),
    )


def _segments() -> tuple[object, ...]:
    return tuple(
        estimate(
            "mastery",
            "Mastery within 14 days",
            role="primary",
            display="share",
            arm=arm,
            segment=column,
            segment_value=value,
            n_control=n,
            n_treatment=n - 17,
            **effect(FINAL[arm] * times, 0.0132 * math.sqrt(2700 / n), 0.45),
        )
        for column, value, n, times in SEGMENTS
        for arm in ARMS
    )


def _shrunken() -> tuple[ShrunkenEffect, ...]:
    found = []
    for column, value, n, times in SEGMENTS:
        for arm in ARMS:
            raw, reach = FINAL[arm] * times, 1.96 * 0.0132 * math.sqrt(2700 / n)
            drawn = 0.4 * raw + 0.6 * FINAL[arm]
            found.append(
                ShrunkenEffect(
                    segment=column,
                    value=value,
                    arm=arm,
                    n_control=n,
                    n_treatment=n - 17,
                    raw=raw,
                    raw_lower=raw - reach,
                    raw_upper=raw + reach,
                    shrunken=drawn,
                    shrunken_lower=drawn - 0.6 * reach,
                    shrunken_upper=drawn + 0.6 * reach,
                    own_weight=0.4,
                    best_rank=1,
                    worst_rank=3,
                )
            )
    return tuple(found)


def _groups() -> tuple[SampleRatioGroup, ...]:
    return (
        *(
            SampleRatioGroup(
                column="platform",
                value=value,
                counts={"control": a, "ladder": b, "coach-voice": c},
                p_value=p,
                p_adjusted=min(1.0, 6 * p),
            )
            for value, a, b, c, p in (
                ("android", 862, 620, 645, 3e-9),
                ("chromebook", 1150, 1190, 1165, 0.41),
                ("ios", 798, 930, 921, 0.0009),
            )
        ),
        SampleRatioGroup(column="stratum", value="small schools", counts={}, suppressed=True),
        SampleRatioGroup(column="stratum", value="village schools", counts={}, suppressed=True),
        SampleRatioGroup(
            column="stratum",
            value="town schools",
            counts={"control": 2402, "ladder": 2371, "coach-voice": 2366},
            p_value=0.62,
            p_adjusted=1.0,
        ),
    )


def _week(arm: str, week: int) -> NoveltyPoint:
    value, reach = FINAL[arm] * (0.8 + 0.9 / 2**week), 0.024 * math.sqrt(1 + week)
    n = 2700 - 500 * week
    return NoveltyPoint(
        week=week,
        arm=arm,
        n_control=n + 13,
        n_treatment=n,
        absolute=value,
        ci_lower=value - reach,
        ci_upper=value + reach,
    )


def _day(arm: str, day: int) -> NoveltyDay:
    n = 2700 - 70 * day
    value = FINAL[arm] * (0.8 + 0.9 / 2 ** (day / 7)) + 0.006 * math.sin(day * 1.3)
    reach = 0.03 * math.sqrt(2700 / n)
    return NoveltyDay(
        day=day,
        arm=arm,
        n_control=n + 13,
        n_treatment=n,
        absolute=value,
        ci_lower=value - reach,
        ci_upper=value + reach,
    )


def _contrast(arm: str) -> NoveltyContrast:
    late, early = FINAL[arm] * 0.9, FINAL[arm] * 1.7
    return NoveltyContrast(
        arm=arm,
        early_week=0,
        late_week=3,
        n_control=1213,
        n_treatment=1200,
        early=early,
        late=late,
        absolute=late - early,
        ci_lower=late - early - 0.041,
        ci_upper=late - early + 0.041,
        p_value=0.117,
    )


def _split(arm: str) -> NoveltySplit:
    late, early = FINAL[arm] * 1.01, FINAL[arm] * 1.62
    return NoveltySplit(
        arm=arm,
        split_days=7,
        until_day=14,
        n_control=2213,
        n_treatment=2204,
        early=early,
        late=late,
        absolute=late - early,
        ci_lower=late - early - 0.022,
        ci_upper=late - early + 0.022,
        p_value=0.0432,
    )


def _trend(arm: str) -> NoveltyTrend:
    return NoveltyTrend(
        arm=arm,
        weeks=4,
        slope=-FINAL[arm] * 0.18,
        slope_lower=-FINAL[arm] * 0.44,
        slope_upper=FINAL[arm] * 0.08,
        p_value=0.0817,
        constant_p_value=0.0523,
        steady=FINAL[arm] * 0.85,
        steady_lower=FINAL[arm] * 0.3,
        steady_upper=FINAL[arm] * 1.4,
        steady_from_week=1,
        steady_method="stable periods",
        steady_because="the last weeks share one effect",
    )


def _families() -> tuple[FamilyResult, ...]:
    return tuple(
        FamilyResult(
            name=name,
            arm=arm,
            metrics=metrics,
            after=after,
            gate_open=after is None or arm == "coach-voice",
            succeeded=arm == "coach-voice",
            correction="Holm",
            smallest_p_adjusted=p if after is None or arm == "coach-voice" else None,
            because="" if arm == "coach-voice" else "the family before it did not succeed",
        )
        for name, metrics, after, p in (
            ("learning", ("mastery",), None, 0.0041),
            ("use", ("hints_used", "minutes_active"), "learning", 0.0211),
        )
        for arm in ARMS
    )


def _complier(arm: str) -> ComplierEffect:
    weak = arm == "ladder"
    return ComplierEffect(
        arm=arm,
        control="control",
        metric="mastery",
        received="opened a hint",
        method="2SLS, robust",
        n_control=2772,
        n_treatment=2702,
        sides="one",
        received_control=0.0,
        received_treatment=0.812,
        first_stage=0.812,
        first_stage_f=6.3 if weak else 4211.7,
        weak=weak,
        itt=FINAL[arm],
        absolute=FINAL[arm] / 0.812,
        se=0.0163,
        df=5472.0,
        ci_lower=FINAL[arm] / 0.812 - 0.0319,
        ci_upper=FINAL[arm] / 0.812 + 0.0319,
        p_value=0.41,
        robust_kind="everything" if weak else "interval",
        robust_lower=None if weak else 0.0187,
        robust_upper=None if weak else 0.0829,
    )


def _robustness() -> tuple[RobustnessRow, ...]:
    return tuple(
        RobustnessRow.model_validate(
            {
                "arm": arm,
                "variant": variant,
                "absolute": None if kind == "bounds" else FINAL[arm] * times,
                "ci_lower": FINAL[arm] * times - reach,
                "ci_upper": FINAL[arm] * times + reach,
                "p_value": None if kind == "bounds" else 0.031,
                "n": n,
                "note": note,
                "kind": kind,
                "why": why,
            }
        )
        for arm in ARMS
        for variant, times, reach, n, kind, note, why in (
            ("As headlined", 1.0, 0.026, 5474, "headline", "", ""),
            ("Without covariates", 0.97, 0.031, 5474, "sensitivity", "", "nothing is adjusted"),
            ("Without contaminated units", 1.03, 0.026, 5439, "sensitivity", "", ""),
            ("Only those exposed", 1.08, 0.026, 5401, "diagnostic", "", "exposure may depend on the arm"),
            ("Worst case for those who left", 0.6, 0.061, 5551, "bounds", "Lee, trimmed", ""),
        )
    )


def _impact(arm: str) -> Impact:
    value = 84_000 * (FINAL[arm] * 18.0 - 0.4)
    reach = 84_000 * 0.026 * 18.0
    return Impact(
        arm=arm,
        value=value,
        value_lower=value - reach,
        value_upper=value + reach,
        currency="USD",
        probability_positive=0.9712 if arm == "coach-voice" else 0.213,
        loss_if_shipped=-211.0,
        loss_if_not_shipped=-28_650.0,
        outcomes=84_000 * FINAL[arm],
        cost_metric="cost_per_session",
        cost_per_outcome=9.71,
        cost_per_outcome_lower=6.42,
        cost_per_outcome_upper=21.9,
        cost_interval="interval",
        assumptions=(
            "84,000 eligible learners a year.",
            "USD 18 for each learner who masters the unit, less USD 0.40 a learner.",
        ),
    )
