"""The state log in a database named by a URL: the same statements, the same answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog, state_log


@pytest.fixture(params=["file", "url"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> StateLog:
    url = f"sqlite:///{tmp_path}/other.sqlite" if request.param == "url" else None
    return state_log(Home(tmp_path, url))


def test_entries_stand_in_order_and_each_key_once(log: StateLog) -> None:
    assert log.entries("ramp") == ()
    assert log.newest("ramp") is None
    added = [
        log.append("ramp", subject, key=key, at="2026-03-02T00:00:00+00:00", content={"n": number})
        for number, (subject, key) in enumerate([("a", "1"), ("b", "2"), ("a", "1"), ("a", "3")])
    ]
    assert added == [True, True, False, True]
    assert log.append("other", "a", key="1", at="2026-03-02T00:00:00+00:00", content={})
    assert [(one.subject, one.content["n"]) for one in log.entries("ramp")] == [("a", 0), ("b", 1), ("a", 3)]
    assert [one.content["n"] for one in log.entries("ramp", "a")] == [0, 3]
    newest, of_b = log.newest("ramp"), log.newest("ramp", "b")
    assert newest is not None
    assert of_b is not None
    assert (newest.content["n"], of_b.content["n"]) == (3, 1)
    ids = [one.entry_id for one in log.entries("ramp")]
    assert ids == sorted(ids)


def test_a_url_makes_no_file_below_the_home(tmp_path: Path) -> None:
    log = state_log(Home(tmp_path / "home", f"sqlite:///{tmp_path}/other.sqlite"))
    log.append("ramp", "a", key="1", at="2026-03-02T00:00:00+00:00", content={"text": "größer :kind 'x'"})
    assert not (tmp_path / "home").exists()
    assert log.entries("ramp")[0].content == {"text": "größer :kind 'x'"}
    assert StateLog(tmp_path / "other.sqlite").entries("ramp") == log.entries("ramp")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql+pymysql://user:hidden@host/db", "EXP_STATE_URL"),
        ("not a url", "EXP_STATE_URL is no database URL"),
        ("sqlite:////nowhere/at/all/x.sqlite", "cannot be reached or made"),
    ],
)
def test_a_database_that_cannot_be_used_is_explained_without_its_password(
    tmp_path: Path, url: str, said: str
) -> None:
    with pytest.raises(StoreError, match=said) as found:
        state_log(Home(tmp_path, url)).append("ramp", "a", key="1", at="now", content={})
    assert "hidden" not in str(found.value)


def test_since_gives_kinds_together_from_an_entry_on(log: StateLog) -> None:
    assert log.since(("ramp", "flags"), 0) == ()
    for number, kind in enumerate(["ramp", "other", "flags", "ramp"]):
        log.append(kind, "a", key=str(number), at="2026-03-02T00:00:00+00:00", content={"n": number})
    found = log.since(("ramp", "flags"), 0)
    assert [(one.kind, one.content["n"]) for one in found] == [("ramp", 0), ("flags", 2), ("ramp", 3)]
    assert log.since(("ramp", "flags"), found[1].entry_id) == found[1:]
