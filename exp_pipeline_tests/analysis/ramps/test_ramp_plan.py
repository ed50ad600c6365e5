"""A ramp that cannot be climbed in time is told before the start: where, for how long, what would mend it."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.analysis.planning.arrivals import enrolment_of
from exp_pipeline.analysis.planning.baselines import Baseline
from exp_pipeline.analysis.planning.ramp_plan import RampPlan, longer_stages, ramp_gaps, ramp_plan
from exp_pipeline.analysis.planning.readiness import Readiness, readiness
from exp_pipeline.model.brief import Brief, RampStage
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline.stats.power.enrolment import EnrolmentCurve
from exp_pipeline_tests.analysis.builders import START, brief_of, metric_of

DAY = timedelta(days=1)
# The stages that the bundled experiment once had, over its three weeks.
STEEP = (
    RampStage(traffic=0.05, dwell_days=2, minimum_units=50),
    RampStage(traffic=0.25, dwell_days=3, minimum_units=250),
    RampStage(traffic=1.0, dwell_days=7, approval=True),
)


def ramped(stages: tuple[RampStage, ...], days: int = 21, **changes: Any) -> Brief:
    fields: dict[str, Any] = {
        "ramp": stages,
        "end": START + days * DAY,
        "hash_scheme": "flagd",
        "receipt": {},
    }
    return brief_of(**(fields | changes))


def plan_at(brief: Brief, rate: float | None, **more: Any) -> RampPlan:
    found = ramp_plan(brief, enrolment_of(brief, rate, None), **more)
    assert found is not None
    return found


def lived(brief: Brief, rate: int, calendar: SchoolCalendar | None) -> list[date]:
    """The first day of each stage where `rate` units come on each day that is open to them."""
    entered, first = 0.0, []
    stage, since = -1, brief.start
    for offset in range(200):
        day = brief.start + offset * DAY
        closed = day in brief.blackout_days or (calendar is not None and calendar.closed_on(day) != "")
        while stage + 1 < len(brief.ramp) and not closed:
            now = brief.ramp[stage] if stage >= 0 else None
            if now is not None and (
                (day - since).days < now.dwell_days or entered < now.minimum_units - 1e-6
            ):
                break
            stage, since = stage + 1, day
            first.append(day)
        if stage >= 0 and day not in brief.blackout_days:
            entered += rate * brief.ramp[stage].traffic
    return first


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4), st.integers(0, 60)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.sets(st.integers(1, 20), max_size=4),
    st.booleans(),
)
def test_stages_begin_on_the_days_of_a_term_that_is_lived_day_by_day(
    rises: list[tuple[int, int, int]], rate: int, shut: set[int], schools: bool
) -> None:
    share, stages = 0.0, []
    for rise, dwell, minimum in rises:
        share = min(share + rise / 120, 1.0)
        stages.append(RampStage(traffic=share, dwell_days=dwell, minimum_units=minimum))
    calendar = SchoolCalendar(name="north", time_zone="UTC") if schools else None
    brief = ramped(tuple(stages), blackout_days=tuple(START + day * DAY for day in sorted(shut)))
    found = plan_at(brief, float(rate), calendar=calendar)
    expected = lived(brief, rate, calendar)
    begins = [stage.first for stage in found.stages]
    # The day-by-day world ends after 200 days.
    assert [day for day in begins if day is not None and day < START + 200 * DAY] == expected
    for earlier, later in zip(found.stages, found.stages[1:], strict=False):
        if earlier.first is not None and later.first is not None:
            assert earlier.days == (later.first - earlier.first).days


def test_a_ramp_that_its_traffic_cannot_climb_is_a_gap_with_its_remedies() -> None:
    brief = ramped(STEEP)
    (gap,) = ramp_gaps(brief, plan_at(brief, 55.0))
    assert gap.field == "ramp"
    # 50 units at 2.75 a day take 19 days; then 200 more at 13.75 a day take 15.
    assert "stage 3 (100 %) would begin on 2026-04-05, and the experiment ends on 2026-03-23" in gap.problem
    assert "stage 1 (5 % of traffic) has its 50 units after about 19 days, not 2" in gap.problem
    assert "stage 2 (25 % of traffic) has its 250 units after about 15 days, not 3" in gap.problem
    # 5.5 units in two days at 5 %; 41 more in three at 25 %.
    assert "stage 1 for at most 5 units (or let it have 46 % of traffic)" in gap.remedy
    assert "stage 2 for at most 46 units" in gap.remedy
    assert gap.remedy.endswith("or move the end to 2026-04-12")


def test_each_remedy_mends_its_gap() -> None:
    brief = ramped(STEEP)
    (gap,) = ramp_gaps(brief, plan_at(brief, 55.0))
    units = [int(one) for one in re.findall(r"at most (\d+) units", gap.remedy)]
    fewer = tuple(
        stage.model_copy(update={"minimum_units": most}) for stage, most in zip(STEEP, units, strict=False)
    )
    mended = ramped((*fewer, STEEP[2]))
    assert ramp_gaps(mended, plan_at(mended, 55.0)) == []
    assert longer_stages(plan_at(mended, 55.0)) == ()
    longer = ramped(STEEP, days=(date(2026, 4, 12) - START).days)
    assert ramp_gaps(longer, plan_at(longer, 55.0)) == []
    shorter = ramped(STEEP, days=(date(2026, 4, 11) - START).days)
    (gap,) = ramp_gaps(shorter, plan_at(shorter, 55.0))
    assert "and have 6 days of the 7 that it asks for" in gap.problem
    larger = (STEEP[0].model_copy(update={"traffic": 0.46}), RampStage(traffic=1.0, dwell_days=7))
    assert longer_stages(plan_at(ramped(larger), 55.0)) == ()


def test_units_that_never_come_and_units_that_nobody_knows() -> None:
    brief = ramped(STEEP)
    drying = EnrolmentCurve((300.0, 500.0, *[600.0] * 364), 14, 600.0, True)
    found = ramp_plan(brief, enrolment_of(brief, None, drying))
    (gap,) = ramp_gaps(brief, found)
    assert "never has its 50 units: about 30 come within a year" in gap.problem
    assert "at most 25 units (or let it have 10 % of traffic)" in gap.remedy
    assert found is not None
    assert [stage.first for stage in found.stages[1:]] == [None, None]
    unknown = plan_at(brief, None)
    assert (ramp_gaps(brief, unknown), unknown.units_known) == ([], False)
    assert unknown.full_from == START + 5 * DAY
    assert ramp_plan(brief_of(), None) is None


def test_dwell_and_closed_days_can_be_too_long_by_themselves() -> None:
    slow = (RampStage(traffic=0.5, dwell_days=18), RampStage(traffic=1.0, dwell_days=7))
    brief = ramped(slow)
    (gap,) = ramp_gaps(brief, plan_at(brief, 55.0))
    assert gap.problem.endswith(
        "and have 3 days of the 7 that it asks for: the stages before it last 18 days"
    )
    assert gap.remedy == "shorten the dwell of the stages by 4 days, or move the end to 2026-03-27"
    # From Saturday, when the dwell is over, to Monday no stage is entered.
    calendar = SchoolCalendar(name="north", time_zone="UTC")
    weekend = ramped((RampStage(traffic=0.5, dwell_days=5), RampStage(traffic=1.0, dwell_days=15)))
    found = plan_at(weekend, 55.0, calendar=calendar)
    assert found.full_from == START + 7 * DAY
    assert longer_stages(found) == (
        "stage 1 (50 % of traffic) lasts 7 days, not 5, because no stage is entered on the closed days "
        "after it",
    )
    (gap,) = ramp_gaps(weekend, found)
    assert "have 14 days of the 15" in gap.problem
    over = SchoolCalendar.model_validate(
        {
            "name": "over",
            "time_zone": "UTC",
            "terms": [{"name": "past", "first": "2025-09-01", "last": "2025-12-19"}],
        }
    )
    (gap,) = ramp_gaps(brief, plan_at(brief, 55.0, calendar=over))
    assert "its first stage is never entered" in gap.problem


def test_classes_are_counted_where_classes_are_randomised() -> None:
    brief = ramped(
        (RampStage(traffic=0.5, dwell_days=2, minimum_units=10), RampStage(traffic=1.0)),
        randomisation_unit="class",
        icc=0.05,
    )
    # 100 learners a day in classes of 25: two classes a day at half of the traffic.
    found = plan_at(brief, 100.0, cluster_size=25.0)
    assert found.stages[0].days == 5
    assert longer_stages(found) == ("stage 1 (50 % of traffic) has its 10 classes after about 5 days, not 2",)
    assert not plan_at(brief, 100.0).units_known


def judged(brief: Brief, rate: float | None) -> Readiness:
    return readiness(
        brief,
        {"solved": metric_of("solved")},
        baseline=Baseline(mean=0.38),
        units_per_day=rate,
        facts_seen={"solved": 9},
        ramp=plan_at(brief, rate),
    )


def test_readiness_tells_of_it_once_and_size_goes_by_the_ramp_that_is_expected() -> None:
    brief = ramped(STEEP, mde={"absolute": 0.2})
    found = judged(brief, 55.0)
    # Size is judged as if the ramp were mended: its gap is told once, not again as missing power.
    assert [gap.field for gap in found.gaps] == ["ramp"]
    mended = ramped(
        (RampStage(traffic=0.25, dwell_days=2, minimum_units=55), STEEP[2]), mde={"absolute": 0.2}
    )
    ready = judged(mended, 55.0)
    assert ready.ready
    assert ready.plan is not None
    # 55 units at a quarter of 55 a day: four days, and 17 at full traffic.
    assert ready.plan.units_at_end == 55 + 17 * 55
    assert "the ramp is expected to let all of its traffic in after 4 days" in ready.plan.notes
    told = "whether stages of the ramp get their units in time: nobody knows how many come"
    assert told in judged(brief, None).unchecked


@pytest.mark.parametrize("field", ["table", "hash_scheme"])
def test_a_brief_that_no_flag_can_carry_has_no_ramp_plan(field: str) -> None:
    changes: dict[str, Any] = {"hash_scheme": "none"} if field == "hash_scheme" else {"assignment": "table"}
    assert ramp_plan(ramped(STEEP, **changes), None) is None
