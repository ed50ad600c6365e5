"""An on-call's way through `exp incidents`: list, explain, take, silence, send, test."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exp_pipeline.cli.app import app
from exp_pipeline.model.incidents import Finding
from exp_pipeline.steps.operating.incidents import open_incidents, record_findings
from exp_pipeline.store.state import StateLog
from exp_pipeline_tests.notify.incident_samples import finding


def run(home: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["incidents", *words, "--home", str(home)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def state(home: Path) -> StateLog:
    log = StateLog(home / "state" / "state.sqlite")
    now = datetime.now(UTC) - timedelta(hours=2)
    quality = Finding(
        rule="data_quality",
        subject="volume:events",
        day=now.date(),
        verdict="fail",
        severity="warn",
        evidence="half of last week",
        owner="data-platform",
    )
    record_findings(log, [finding(), quality], now)
    return log


def test_nothing_is_open_in_a_new_home(home: Path) -> None:
    assert "Nothing is open." in run(home, "list")
    assert "There has been no incident." in run(home, "list", "--all")


def test_the_worst_comes_first_and_channels_that_lag_are_shown(home: Path, state: StateLog) -> None:
    told = run(home, "list")
    assert told.index("hint-ladder") < told.index("volume:events")
    assert "Channel file has not taken 2 messages" in told
    said = run(home, "send")
    assert said.startswith("1 escalated, 3 sent, 0 failed, 0 waiting, 2 open")
    assert "has not taken" not in run(home, "list")
    facts = json.loads(run(home, "list", "--json"))
    assert [one["severity"] for one in facts["incidents"]] == ["page", "warn"]
    assert facts["channels"] == [{"channel": "file", "delivered": 3, "waiting": 0}]


def test_one_incident_is_explained_from_first_sight_to_recovery(home: Path, state: StateLog) -> None:
    run(home, "send")
    (srm, _) = open_incidents(state)
    run(home, "ack", srm.id[:6], "--by", "learning-data")
    text = run(home, "explain", srm.id[:6])
    for part in (
        "PAGE sample ratio mismatch: hint-ladder",
        "taken by learning-data",
        "First: hold the ramp",
        "docs/runbooks/srm.md",
        "opened       told by file",
        "escalated    told by file",
        "acknowledged nobody was told",
    ):
        assert part in text
    record_findings(state, [finding("pass", day=2)], datetime.now(UTC))
    assert "resolved     not sent yet" in run(home, "explain", srm.id)
    assert "hint-ladder" not in run(home, "list")
    assert "hint-ladder" in run(home, "list", "--all")


def test_a_silence_is_taken_by_id_shown_and_ended(home: Path, state: StateLog) -> None:
    (srm, _) = open_incidents(state)
    said = run(home, "silence", srm.id, "--for", "2h", "--by", "data", "--reason", "release")
    assert said.startswith("srm on hint-ladder is silent until")
    assert "silent until" in run(home, "list")
    run(home, "silence", "srm", "hint-ladder", "--for", "0m", "--by", "data", "--reason", "done")
    assert "silent until" not in run(home, "list")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["explain", "zzz"], "no incident with an id that starts with 'zzz'"),
        (["explain", ""], "2 incidents with an id that starts with ''"),
        (["ack", "zzz", "--by", "data"], "no incident with an id that starts with 'zzz'"),
        (["silence", "smr", "x", "--by", "data", "--reason", "r"], "rule 'smr' is unknown; allowed: srm,"),
        (["silence", "srm", "x", "--by", "data"], "reason must say why"),
        (["silence", "srm", "x", "--by", " ", "--reason", "r"], "--by is empty"),
        (["silence", "srm", "x", "--for", "9y", "--by", "d", "--reason", "r"], "--for '9y': give a number"),
        (["silence", "srm", "x", "--for", "31d", "--by", "d", "--reason", "r"], "at most 30d"),
        (["test"], "no channel is named: set EXP_NOTIFY_URLS"),
    ],
)
def test_mistakes_are_explained(home: Path, state: StateLog, words: list[str], complaint: str) -> None:
    assert complaint in run(home, *words, code=2)


def test_a_channel_that_does_not_answer_fails_its_test(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXP_NOTIFY_URLS", "json://127.0.0.1:9/hook")
    assert "gave no good answer" in run(home, "test", code=1)
