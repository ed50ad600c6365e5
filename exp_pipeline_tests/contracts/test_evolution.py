"""Released contracts may be added to, and nothing else: the record, and the check that reads it."""

from __future__ import annotations

import copy
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.contracts.evolution import changes, current, record_text, recorded
from exp_pipeline_tests.contracts.record_evolution import main

TODAY = date(2027, 6, 1)
RECORD = "`python -m exp_pipeline_tests.contracts.record_evolution`"


def test_what_was_released_is_only_added_to() -> None:
    broken = [str(one) for one in changes(recorded(), current(), today=date.today()) if not one.additive]
    assert broken == [], "a released contract changed its meaning:\n" + "\n".join(broken)


def test_the_record_is_up_to_date() -> None:
    assert json.loads(record_text(current())) == recorded(), f"additions are not recorded yet: run {RECORD}"


def released() -> dict[str, Any]:
    """A small record: one event with a number, a word and a text."""
    return {
        "columns": {"note": {"type": "string", "unit": ""}},
        "events": {
            "answered": {
                "1": {
                    "version": "1.2",
                    "fields": {
                        "score": {"required": False, "type": "float", "unit": "points", "ge": 0.0, "le": 10},
                        "kind": {"required": False, "type": "string", "unit": "", "isin": ["a", "b"]},
                        "who": {"required": True, "type": "string", "unit": "", "filled": True},
                        "at": {"required": True, "type": "timestamp", "unit": "UTC", "ge": "1970-01-01T00"},
                    },
                    "rules": {"fits": "score <= 10"},
                    "sunset": "2027-12-31",
                }
            }
        },
    }  # fmt: skip


def told(*path: str, to: Any) -> list[tuple[str, bool]]:
    """The changes found where the record differs in one place; None takes away what stands there."""
    after: Any = copy.deepcopy(released())
    place = after
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return [(str(one), one.additive) for one in changes(released(), after, today=TODAY)]


V1 = ("events", "answered", "1")
SCORE, KIND, WHO, AT = ((*V1, "fields", name) for name in ("score", "kind", "who", "at"))


@pytest.mark.parametrize(
    ("path", "to", "words"),
    [
        (SCORE, None, "answered 1 score: is gone"),
        ((*SCORE, "type"), "integer", "type 'float' became 'integer'"),
        ((*SCORE, "unit"), "share", "unit 'points' became 'share'"),
        ((*SCORE, "required"), True, "became required"),
        ((*SCORE, "ge"), 1.0, "its lower bound went from ge 0.0 to ge 1.0"),
        ((*SCORE, "le"), 9.0, "its upper bound went from le 10 to le 9.0"),
        ((*SCORE, "read_as"), "score / 2", "read_as none became 'score / 2'"),
        ((*SCORE, "isin"), [1.0], "allows only [1.0] now"),
        ((*KIND, "isin"), ["a", "c"], "no longer allows ['b']"),
        ((*KIND, "filled"), True, "became filled"),
        ((*KIND, "lt"), 3, "its upper bound went from none to lt 3"),
        ((*AT, "ge"), "1980-01-01T00:00:00", "its lower bound went from ge 1970"),
        ((*V1, "rules", "fits"), "score <= 9", "reads 'score <= 9' now"),
        ((*V1, "rules", "more"), "score > 1", "answered 1 rule more: is new"),
        ((*V1, "sunset"), "2027-11-30", "its last day went from 2027-12-31 to 2027-11-30"),
        ((*V1, "version"), "1.1", "went back from 1.2 to 1.1"),
        (V1, None, "is gone; its last day is 2027-12-31"),
        (("events", "answered"), None, "is gone; its last day is 2027-12-31"),
        (("columns", "note"), None, "column note: is gone"),
        (("columns", "note", "type"), "integer", "type 'string' became 'integer'"),
        (("columns", "more"), {"type": "string", "unit": "", "always": True}, "is new and required"),
        ((*V1, "fields", "new"), {"required": False, "type": "float", "unit": ""}, "joined version 1.2"),
        ((*V1, "fields", "new"), {"required": False, "type": "float", "unit": "", "since": "1.2"}, "joined"),
    ],
)
def test_what_changes_a_meaning_is_refused_and_a_remedy_named(
    path: tuple[str, ...], to: Any, words: str
) -> None:
    found = [change for change, additive in told(*path, to=to) if not additive]
    assert any(words in change for change in found), found
    assert all(". " in change for change in found)


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ((*SCORE, "ge"), -1.0),
        ((*SCORE, "le"), None),
        ((*SCORE, "le"), 11.0),
        ((*KIND, "isin"), ["b", "a", "c"]),
        ((*KIND, "isin"), None),
        ((*KIND, "sunset"), "2028-01-01"),
        ((*WHO, "required"), False),
        ((*WHO, "filled"), False),
        ((*V1, "rules", "fits"), None),
        ((*V1, "sunset"), "2028-12-31"),
        (("events", "answered", "2"), {"version": "2.0", "fields": {}, "rules": {}}),
        (("columns", "more"), {"type": "string", "unit": ""}),
    ],
)
def test_what_adds_or_widens_is_welcome(path: tuple[str, ...], to: Any) -> None:
    found = told(*path, to=to)
    assert found
    assert all(additive for _, additive in found), found


def test_a_new_column_belongs_to_the_next_minor_version() -> None:
    after = released()
    version = after["events"]["answered"]["1"]
    version["version"] = "1.3"
    version["fields"]["new"] = {"required": False, "type": "float", "unit": "", "since": "1.3"}
    assert all(one.additive for one in changes(released(), after, today=TODAY))


def test_a_closed_end_of_a_range_may_open_but_not_close() -> None:
    open_end = released()
    del open_end["events"]["answered"]["1"]["fields"]["score"]["le"]
    open_end["events"]["answered"]["1"]["fields"]["score"]["lt"] = 10.0
    assert [one.additive for one in changes(released(), open_end, today=TODAY)] == [False]
    assert [one.additive for one in changes(open_end, released(), today=TODAY)] == [True]


def test_a_version_may_go_after_its_last_day() -> None:
    after = {"columns": released()["columns"], "events": {}}
    assert [one.additive for one in changes(released(), after, today=date(2027, 12, 31))] == [False]
    assert [one.additive for one in changes(released(), after, today=date(2028, 1, 1))] == [True]


def test_the_recorder_takes_additions_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "evolution.json"
    assert main(place) == 0
    assert json.loads(place.read_text()) == recorded()
    earlier = json.loads(place.read_text())
    del earlier["columns"]["resolved"]
    place.write_text(json.dumps(earlier))
    assert main(place) == 0
    assert "column resolved: is new" in capsys.readouterr().out
    stricter = json.loads(place.read_text())
    stricter["columns"]["rating"]["le"] = 7.0
    place.write_text(json.dumps(stricter))
    assert main(place) == 1
    assert "column rating: its upper bound went from le 7.0 to le 5.0" in capsys.readouterr().err
    assert json.loads(place.read_text()) == stricter
