"""Who will come by when: counted by hand, by brute force over a known population, and said when unknown."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from exp_pipeline.stats.power.enrolment import Visits, enrolment_curve

MONDAY = date(2026, 3, 2)
DAY = timedelta(days=1)


def test_units_enter_once_on_their_first_open_day() -> None:
    # a on days 0 and 1, b on 1 and 2, c on 2 only, d on 7.
    unit = ["a", "a", "b", "b", "c", "d"]
    visits = Visits.of(unit, [0, 1, 1, 2, 2, 7], first=MONDAY, days=8)
    found = enrolment_curve(visits, start=MONDAY + 7 * DAY, days=8)
    assert found.cumulative == (1, 2, 3, 3, 3, 3, 3, 4)
    assert (found.observed_days, found.aligned) == (8, True)
    assert (found.units(0), found.units(2), found.units(99)) == (0, 2, 4)
    # Day 1 closed: b waits for day 2, and a is in already.
    shut = enrolment_curve(visits, start=MONDAY + 7 * DAY, days=8, closed=[MONDAY + 8 * DAY])
    assert shut.cumulative == (1, 1, 3, 3, 3, 3, 3, 4)
    # Day 2 closed: c came on that day only, so it is still to come after history's end.
    late = enrolment_curve(visits, start=MONDAY + 7 * DAY, days=60, closed=[MONDAY + 9 * DAY])
    assert late.cumulative[7] == 3
    assert late.cumulative[59] > 3
    assert late.most >= 4


def test_history_begins_on_the_weekday_of_the_start() -> None:
    visits = Visits.of([1, 2, 3], [0, 2, 9], first=MONDAY, days=14)
    wednesday = enrolment_curve(visits, start=MONDAY + 16 * DAY, days=12)
    # From Wednesday the 4th on: learner 1 came on the Monday before only.
    assert wednesday.cumulative[:8] == (1, 1, 1, 1, 1, 1, 1, 2)
    assert not enrolment_curve(
        Visits.of([1], [0], first=MONDAY, days=6), start=MONDAY + 16 * DAY, days=9
    ).aligned


def test_a_class_brings_all_its_learners() -> None:
    visits = Visits.of(["x", "y"], [0, 3], first=MONDAY, days=7, weight=[25, 30])
    assert enrolment_curve(visits, start=MONDAY, days=7).cumulative == (25, 25, 25, 55, 55, 55, 55)


def test_the_curve_saturates_near_the_population_that_made_it() -> None:
    rng = np.random.default_rng(12)
    people, seen, ahead = 4000, 21, 42
    often = rng.beta(1.0, 8.0, people)
    weekday = np.array([1.0, 1.0, 1.0, 1.0, 0.8, 0.05, 0.05])
    days = np.arange(seen + ahead)
    there = rng.random((people, days.size)) < often[:, None] * weekday[days % 7]
    unit, day = np.nonzero(there[:, :seen])
    found = enrolment_curve(Visits.of(unit, day, first=MONDAY, days=seen), start=MONDAY, days=seen + ahead)
    truth = np.maximum.accumulate(there, axis=1).sum(axis=0)
    assert np.array_equal(found.cumulative[:seen], truth[:seen])
    # Chao's number is a lower bound: at the end it may miss rare visitors, but not many.
    assert found.cumulative[-1] == pytest.approx(truth[-1], rel=0.05)
    flat = truth[seen - 1] / seen * (seen + ahead)
    assert flat > 2.0 * truth[-1]
    new = np.diff(found.cumulative)
    assert (new >= 0).all()
    # Few come at weekends, also past history's end.
    saturday, monday = seen + 5 - 1, seen - 1
    assert new[saturday] < 0.2 * new[monday]


def test_whom_everybody_saw_twice_nobody_is_missing() -> None:
    visits = Visits.of([1, 1, 2, 2], [0, 1, 0, 2], first=MONDAY, days=7)
    found = enrolment_curve(visits, start=MONDAY, days=30)
    assert (found.most, found.cumulative[-1]) == (2, 2)
    empty = enrolment_curve(Visits.of([], [], first=MONDAY, days=7), start=MONDAY, days=9)
    assert empty.cumulative == (0.0,) * 9


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="day must lie"):
        Visits.of([1], [7], first=MONDAY, days=7)
    with pytest.raises(ValueError, match="one length"):
        Visits.of([1, 2], [1], first=MONDAY, days=7)
    with pytest.raises(ValueError, match="weight"):
        Visits.of([1], [1], first=MONDAY, days=7, weight=[1, 2])
    with pytest.raises(ValueError, match="days"):
        enrolment_curve(Visits.of([1], [1], first=MONDAY, days=7), start=MONDAY, days=0)
