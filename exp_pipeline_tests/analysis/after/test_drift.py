"""Drift is told where days stray from their own weeks, seldom by chance, and never of what nobody knows."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from exp_pipeline.analysis.after.drift import judge_drift, usual_of
from exp_pipeline.model.after import DriftDay, DriftFinding, DriftLimits, DriftPolicy

LAST = date(2026, 5, 4)
FIELDS = ("model_version",)
POLICY = DriftPolicy()


def day_of(back: int, **changes: Any) -> DriftDay:
    fields: dict[str, Any] = {
        "day": LAST - timedelta(days=back),
        "content": "c",
        "turns": 10_000,
        "answered": 9_900,
        "responses": 9_900,
        "sessions": 1_000,
        "safety_flags": 50,
        "latency_p50_ms": 900.0,
        "latency_p95_ms": 2_400.0,
        "tokens_in": 4_000_000,
        "tokens_out": 2_000_000,
        "cost_usd": 80.0,
        "versions": {"model_version": {"m1": 9_900}},
    }
    return DriftDay(**(fields | changes))


def weeks(**last: Any) -> list[DriftDay]:
    """Six weeks with some unrest, then the day itself."""
    rng = np.random.default_rng(4)
    past = [
        day_of(
            back, latency_p95_ms=2_400.0 * math.exp(rng.normal(0, 0.03)), safety_flags=int(rng.poisson(50))
        )
        for back in range(1, 43)
    ]
    return [*past, day_of(0, **last)]


def found(days: list[DriftDay], subject: str, **more: Any) -> DriftFinding:
    rows = judge_drift(days, LAST, POLICY, fields=FIELDS, **more)
    (one,) = [row for row in rows if row.subject == subject]
    return one


def test_a_quiet_day_passes_in_everything() -> None:
    rows = judge_drift(weeks(), LAST, POLICY, fields=FIELDS)
    assert {row.verdict for row in rows} == {"pass"}
    assert {row.subject for row in rows} == {
        "latency_p50", "latency_p95", "cost_per_session", "tokens_per_response", "safety_flags",
        "answered_turns", "model_version=m1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "subject", "verdict"),
    [
        ({"latency_p95_ms": 3_100.0}, "latency_p95", "warn"),
        ({"latency_p95_ms": 4_000.0}, "latency_p95", "fail"),
        ({"latency_p95_ms": 1_200.0}, "latency_p95", "fail"),
        ({"latency_p95_ms": 2_600.0}, "latency_p95", "pass"),
        ({"cost_usd": 130.0}, "cost_per_session", "fail"),
        ({"tokens_out": 4_000_000}, "tokens_per_response", "warn"),
        ({"safety_flags": 1_500}, "safety_flags", "fail"),
        ({"answered": 9_600}, "answered_turns", "warn"),
        ({"versions": {"model_version": {"m1": 6_000, "m2": 3_900}}}, "model_version=m1", "fail"),
    ],
)
def test_what_strays_is_told(change: dict[str, Any], subject: str, verdict: str) -> None:
    one = found(weeks(**change), subject)
    assert one.verdict == verdict
    assert one.value is not None
    assert one.usual is not None


def test_a_change_of_a_field_that_an_experiment_lets_differ_is_not_judged() -> None:
    days = weeks(versions={"model_version": {"m1": 5_000, "m2": 4_900}})
    rows = judge_drift(days, LAST, POLICY, fields=FIELDS, free={"model_version"})
    assert not [row for row in rows if row.kind == "version"]


def test_versions_that_nobody_announced_are_told_by_their_share() -> None:
    days = weeks(versions={"model_version": {"m1": 6_000, "old": 3_900}})
    one = found(days, "model_version:announced", announced={"model_version": ["m1"]})
    assert one.verdict == "fail"
    assert one.value == pytest.approx(3_900 / 9_900)
    assert "old" in one.evidence
    good = found(days, "model_version:announced", announced={"model_version": ["m1", "old"]})
    assert good.verdict == "pass"
    few = weeks(versions={"model_version": {"old": 50}})
    assert found(few, "model_version:announced", announced={"model_version": ["m1"]}).verdict == "cannot_tell"


def test_too_little_is_said_and_never_passed() -> None:
    short = found([day_of(back) for back in range(15)], "latency_p95")
    assert (short.verdict, short.reason, short.weeks) == ("cannot_tell", "too little history", 2)
    thin = found(weeks(answered=20), "latency_p95")
    assert (thin.verdict, thin.reason) == ("cannot_tell", "too few rows")
    silent = found(weeks(latency_p95_ms=None), "latency_p95")
    assert silent.verdict == "cannot_tell"
    with pytest.raises(ValueError, match="is not among the days"):
        judge_drift(weeks(), LAST + timedelta(days=1), POLICY, fields=FIELDS)


def test_one_wild_week_does_not_move_what_is_usual() -> None:
    calm = {LAST - timedelta(days=back): float(back % 7) for back in range(1, 43)}
    wild = {**calm, LAST - timedelta(days=14): 50.0}
    assert usual_of(wild, LAST, 6) is not None
    assert usual_of(wild, LAST, 6).value == usual_of(calm, LAST, 6).value == 0.0  # type: ignore[union-attr]
    assert usual_of({LAST - timedelta(days=7): 1.0}, LAST, 6) is None


def test_days_that_only_chance_moves_seldom_raise_an_alarm() -> None:
    # Lines so near that only the noise rule keeps still; weekdays differ, as they do in schools.
    near = DriftLimits(warn_at=1e-9, fail_at=1e-9)
    policy = DriftPolicy(certainty=0.99, numbers=near, shares=near, versions=near)
    rng = np.random.default_rng(20)
    alarms, looks, length = 0, 0, 250
    level = {day: (0.0, 0.1, 0.12, 0.08, 0.05, -0.6, -0.5)[day] for day in range(7)}
    days = []
    for number in range(length):
        weekday = (LAST - timedelta(days=number)).weekday()
        size = int(8_000 * math.exp(level[weekday]))
        days.append(
            day_of(
                number,
                turns=size,
                answered=int(rng.binomial(size, 0.98)),
                safety_flags=int(rng.binomial(size, 0.005)),
                latency_p50_ms=900 * math.exp(0.1 * level[weekday] + rng.normal(0, 0.02)),
                latency_p95_ms=2_400 * math.exp(rng.normal(0, 0.05)),
                cost_usd=80 * math.exp(rng.normal(0, 0.03)),
                tokens_in=int(4e6 * math.exp(rng.normal(0, 0.03))),
                versions={"model_version": {"m1": int(rng.binomial(size, 0.7)), "m2": int(0.3 * size)}},
            )
        )
    for number in range(length - 43):
        rows = judge_drift(days, LAST - timedelta(days=number), policy, fields=FIELDS)
        looks += 1
        alarms += any(row.verdict == "fail" for row in rows)
    # At most 1 % of days by the policy; with 207 days, 7 or more would come once in 200 such tests.
    assert looks == 207
    assert alarms <= 6


def test_policies_say_what_is_wrong() -> None:
    with pytest.raises(ValidationError, match="at least warn_at"):
        DriftLimits(warn_at=0.5, fail_at=0.1)
    with pytest.raises(ValidationError, match="must be at most weeks"):
        DriftPolicy(weeks=3, minimum_weeks=4)
