"""School calendars and ramps as people write them: what is read, and what is refused with its line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.catalog import load_catalog
from exp_pipeline.model.calendars import SchoolCalendar
from exp_pipeline_tests.catalog.folders import BRIEF, lines_of, write_catalog

CALENDAR = """\
name: town
time_zone: America/New_York
opens: "08:30"
closes: "15:00"
terms:
  - {name: autumn, first: 2026-08-31, last: 2026-12-18}
holidays:
  - {name: fair, first: 2026-10-12}
  - {name: break, first: 2026-11-25, last: 2026-11-27}
"""
RAMP = "ramp: [{traffic: 0.1}, {traffic: 1.0}]\n"


def catalog(folder: Path, brief: str = BRIEF, calendar: str = CALENDAR) -> Path:
    return write_catalog(folder, **{"experiments__quick-hints": brief, "calendars__town": calendar})


def test_a_calendar_is_read_and_named_by_a_brief(tmp_path: Path) -> None:
    found = load_catalog(catalog(tmp_path, BRIEF + RAMP + "calendar: town\n"))
    brief = found.briefs["quick-hints"]
    calendar = found.calendar_of(brief)
    assert calendar is not None
    assert calendar.opens.isoformat() == "08:30:00"
    assert [stage.traffic for stage in brief.ramp] == [0.1, 1.0]


@pytest.mark.parametrize(
    ("brief", "expected"),
    [
        ("calendar: twon\n", "calendar: unknown calendar; did you mean `town`? (value: twon); allowed: town"),
        (
            "calendar: town\ntime_zone: Europe/Paris\n",
            "time_zone: differs from that of calendar town (value: Europe/Paris); allowed: "
            "America/New_York, or no time_zone",
        ),
        (
            "traffic: 0.5\nramp: [{traffic: 0.1}, {traffic: 0.4}]\n",
            "ramp[1].traffic: the last stage must be the experiment's own traffic, 0.5 (value: 0.4); allowed"
            ": 0.5, or traffic: 0.4",
        ),
        ("hash_scheme: none\n" + RAMP, "ramp: cannot be carried by a flag: hash_scheme is none"),
        ("assignment: table\n" + RAMP, "ramp: cannot let units in by stages: with assignment: table"),
        (
            "rollout: [{traffic: 0.5}, {traffic: 0.5}]\n",
            "rollout[1].traffic: must be more than the stage before it, 0.5 (value: 0.5)",
        ),
        (
            "rollout: [{traffic: 0.5, minimum_units: 10}]\n",
            "rollout[0].minimum_units: a rollout counts no units",
        ),
        ("ramp: [{traffic: 1.0, checks: [smr]}]\n", "ramp[0].checks[0]"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(tmp_path: Path, brief: str, expected: str) -> None:
    found = lines_of(catalog(tmp_path, BRIEF + brief))
    assert len(found) == 1
    assert expected in found[0]
    assert "quick-hints.yaml:" in found[0]


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("America/New_York", "New York", "time_zone must be an IANA name such as Europe/Paris"),
        ('opens: "08:30"', 'opens: "16:00"', "closes 15:00:00 must come after opens 16:00:00"),
        ("last: 2026-12-18", "last: 2026-08-01", "must not come before first"),
        ("name: town", "name: city", "differs from the file's name"),
        ('"08:30"', "half past eight", "opens"),
    ],
)
def test_a_mistake_in_a_calendar_is_named(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    found = lines_of(catalog(tmp_path, calendar=CALENDAR.replace(right, wrong)))
    assert len(found) == 1
    assert "town.yaml" in found[0]
    assert expected in found[0]


def test_a_broken_calendar_takes_only_the_briefs_that_name_it(tmp_path: Path) -> None:
    root = catalog(tmp_path, BRIEF + RAMP + "calendar: town\n", CALENDAR + "sundays: free\n")
    (root / "experiments" / "other.yaml").write_text(BRIEF.replace("quick-hints", "other"))
    found = load_catalog(root, strict=False)
    assert set(found.briefs) == {"other"}
    assert any("left out: calendar town has problems" in str(problem) for problem in found.problems)


TOWN = SchoolCalendar.model_validate(
    {
        "name": "town",
        "time_zone": "America/New_York",
        "opens": "08:30",
        "closes": "15:00",
        "terms": [{"name": "autumn", "first": "2026-08-31", "last": "2026-12-18"}],
        "holidays": [{"name": "break", "first": "2026-11-25", "last": "2026-11-27"}],
    }
)


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        # Clocks go back on the first of November: half past eight is 12:30 UTC, then 13:30.
        ("2026-10-30T12:30", ""),
        ("2026-10-30T12:29", "it is 08:29 at school"),
        ("2026-11-02T13:30", ""),
        ("2026-11-02T13:29", "it is 08:29 at school"),
        ("2026-11-02T20:00", "it is 15:00 at school"),
        ("2026-11-02T19:59", ""),
        ("2026-11-01T14:00", "2026-11-01 is a Sunday"),
        ("2026-11-25T14:00", "is a holiday (break)"),
        ("2026-12-21T14:00", "2026-12-21 lies in no term"),
        # Early in the morning UTC it is still the evening before over there.
        ("2026-11-28T03:00", "2026-11-27 is a holiday (break)"),
    ],
)
def test_school_hours_follow_the_schools_own_clocks(moment: str, said: str) -> None:
    why = TOWN.closed_because(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert said in why
    assert bool(why) == bool(said)


@given(minutes=st.integers(0, 130 * 24 * 60))
def test_the_next_open_moment_is_the_first_one(minutes: int) -> None:
    at = datetime(2026, 8, 20, tzinfo=UTC) + timedelta(minutes=minutes)
    found = TOWN.next_open(at)
    if found is None:
        assert at > datetime(2026, 12, 18, 19, 59, tzinfo=UTC)
        return
    assert found >= at
    assert TOWN.closed_because(found) == ""
    # Nothing before it is open: looked at every quarter of an hour, on which hours begin and end.
    look = at + timedelta(minutes=-minutes % 15)
    while look < found:
        assert TOWN.closed_because(look) != ""
        look += timedelta(minutes=15)


def test_a_moment_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        TOWN.closed_because(datetime(2026, 9, 1))
