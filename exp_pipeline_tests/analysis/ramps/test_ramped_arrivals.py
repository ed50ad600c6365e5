"""Units that a ramp lets in late: the plan's count against units that come and go."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from exp_pipeline.analysis.planning.arrivals import arrivals_of, traffic_steps
from exp_pipeline.model.brief import RampStage
from exp_pipeline.stats.power.enrolment import EnrolmentCurve
from exp_pipeline_tests.analysis.builders import START, brief_of
from exp_pipeline_tests.analysis.ramps.ramp_samples import ramp_brief

DAYS = 28


def test_each_stage_adds_its_share_from_its_day_on() -> None:
    assert traffic_steps(brief_of(traffic=0.3)) == ((0, 0.3),)
    days, shares = zip(*traffic_steps(ramp_brief()), strict=True)
    assert days == (0, 2, 4, 7)
    assert shares == pytest.approx((0.01, 0.04, 0.2, 0.25))


def test_a_plan_counts_about_as_many_as_come_in_through_a_ramp() -> None:
    """50,000 units with days on which they come, let in by their bucket at the traffic of the day."""
    chance = np.random.default_rng(20260302)
    comes = chance.random((50_000, DAYS)) < chance.beta(0.6, 3.0, 50_000)[:, None]
    bucket = chance.random(50_000)
    brief = ramp_brief()
    traffic = np.zeros(DAYS)
    for first, share in traffic_steps(brief):
        traffic[first:] += share
    met = np.cumsum(comes, axis=1) > 0
    curve = EnrolmentCurve(tuple(float(n) for n in met.sum(axis=0)), DAYS, float(met[:, -1].sum()), True)
    counted = arrivals_of(brief, None, curve, 1)
    assert counted is not None
    let_in = np.cumsum(comes & (bucket[:, None] < traffic), axis=1) > 0
    for days in (2, 4, 7, 10, 14, 21, 28):
        # Chance alone: the square root of the count; five of them, and a unit.
        came = float(let_in[:, days - 1].sum())
        assert counted.enrolled(days) == pytest.approx(came, abs=5 * came**0.5 + 1), days


def test_at_one_rate_closed_days_count_for_those_that_are_in() -> None:
    stages = (RampStage(traffic=0.25, dwell_days=3), RampStage(traffic=1.0))
    closed = (START + timedelta(days=1), START + timedelta(days=5))
    brief = brief_of(ramp=stages, blackout_days=closed)
    found = arrivals_of(brief, 100.0, None, 1)
    assert found is not None
    total, expected = 0.0, []
    for day in range(10):
        total += 0.0 if day in (1, 5) else 100.0 * (0.25 if day < 3 else 1.0)
        expected.append(total)
    assert [found.enrolled(days) for days in range(1, 11)] == pytest.approx(expected)
