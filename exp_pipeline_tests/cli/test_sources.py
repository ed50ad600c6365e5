"""`exp source`: what is listed, what a trial says and hides, and that a draft runs at once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exp_pipeline.cli.app import app

SECRETS = ("raw-learner-7", "my own words", "someone@example.org")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["source", *map(str, arguments)])


def chat_log(path: Path) -> Path:
    rows: list[object] = []
    for number in range(60):
        kind = ("msg.sent", "hint.opened", "answer.checked", "ui.ping")[number % 4]
        rows.append(
            {
                "uuid": f"event-{number}",
                "kind": kind,
                "user": {"id": "raw-learner-7", "mail": "someone@example.org"},
                "ts": 1_767_600_000_000 + 1000 * number,
                "turnId": f"t{number}" if kind == "msg.sent" else None,
                "text": "my own words" if kind == "msg.sent" else None,
                "is_correct": "yes" if kind == "answer.checked" else None,
                "elapsed_s": 2.5,
                "build": 7,
                "colour": "red",
            }
        )
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in [*rows, [1]]).encode()))
    return path


def test_a_draft_of_a_log_runs_at_once_and_hides_what_it_must(tmp_path: Path) -> None:
    log, draft = chat_log(tmp_path / "chat.ndjson.gz"), tmp_path / "drafts" / "chat.yaml"
    done = call("infer", log, "--out", draft)
    assert done.exit_code == 0, done.output
    text = draft.read_text()
    assert not any(secret in text + done.stdout for secret in SECRETS)
    assert "# decide: ui.ping (15 rows)" in text
    assert "latency_ms: elapsed_s * 1000" in text
    assert "epoch_ms(" in text
    tried = call("try", log, "--source", draft, "--json")
    assert tried.exit_code == 0, tried.output
    found = json.loads(tried.stdout)
    assert found["events"] == {"answer_attempted": 15, "hint_requested": 15, "tutor_turn_submitted": 15}
    assert {one["reason"]: one["rows"] for one in found["quarantined"]} == {
        "no_event_rule": 15,
        "not_an_object": 1,
    }
    assert found["rows_read"] == found["mapped_rows"] == 61
    assert found["unlisted"] == {"ui.ping": 15}
    assert "colour" in found["extra"]
    assert not any(secret in tried.stdout for secret in SECRETS)
    shown = call("try", log, "--source", draft)
    assert shown.exit_code == 0
    assert not any(secret in shown.stdout for secret in SECRETS)
    # The first line has the file's own path, however long.
    assert max(map(len, shown.stdout.splitlines()[1:])) <= 80


@pytest.mark.parametrize(
    ("name", "content", "event"),
    [
        ("answers.csv", "Student Id;Zeit;Correct\nA;02.03.2026 09:00:00;1\nA;02.03.2026 09:00:05;0\n",
            "answer_attempted"),
        ("odd.csv", "who,at,thing\na,2026-03-02T09:00:00Z,x\nb,2026-03-02T09:00:01Z,y\n", "goal_reached"),
        (
            "list.jsonl",
            '{"pupil_id": "p", "answers": [{"question": "q", "correct": true, "ts": 1772442000}]}\n',
            "answer_attempted",
        ),
    ],
)  # fmt: skip
def test_drafts_of_other_shapes_run_too(tmp_path: Path, name: str, content: str, event: str) -> None:
    log, draft = tmp_path / name, tmp_path / "draft.yaml"
    log.write_text(content)
    assert call("infer", log, "--out", draft).exit_code == 0
    tried = json.loads(call("try", log, "--source", draft, "--json").stdout)
    assert set(tried["events"]) == {event}
    assert tried["quarantined"] == []


def test_a_table_is_tried_by_the_one_source_that_has_its_columns(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "export.csv"
    log.write_text("timestamp,user_id,experiment_id,variation_id\n2026-03-02 09:00:00,u,e,1\n")
    before = sorted(str(path) for path in home.rglob("*"))
    done = call("try", log, "--home", home)
    assert done.exit_code == 0, done.output
    assert "through source growthbook" in done.stdout
    assert "experiment_assigned 1, experiment_exposed 1" in done.stdout
    assert sorted(str(path) for path in home.rglob("*")) == before


def test_lateness_is_that_of_the_landing_folder_where_there_is_one(home: Path) -> None:
    folder = home / "landing" / "received_date=2026-03-20" / "growthbook"
    folder.mkdir(parents=True)
    row = {
        "event_id": "e", "event_name": "hint_requested", "schema_version": "1.0", "role": "student",
        "client_ts": "2026-03-02T09:00:00Z", "received_at": "2026-03-02T09:00:01Z", "learner_id": "u",
        "platform": "web", "app_version": "1",
    }  # fmt: skip
    log = folder.parent / "late.ndjson"
    log.write_text(json.dumps(row) + "\n")
    found = json.loads(call("try", log, "--home", home, "--json").stdout)
    assert (found["source"], found["received"]) == ("canonical", "2026-03-20")
    assert [one["reason"] for one in found["quarantined"]] == ["too_late"]
    (folder / "viewed.csv").write_text("a\n1\n")
    (folder / "notes.docx").write_text("x")
    listed = json.loads(call("list", "--home", home, "--json").stdout)
    counts = {one["name"]: one["landing_files"] for one in listed["sources"]}
    assert (counts["canonical"], counts["growthbook"]) == (1, 1)
    assert listed["unread_files"] == ["received_date=2026-03-20/growthbook/notes.docx"]
    assert "Files that no source reads: 1" in call("list", "--home", home).stdout


def test_mistakes_are_told_with_what_would_help(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "x.csv"
    log.write_text("a,b\n1,2\n")
    for arguments, words in (
        (("try", tmp_path / "absent.csv"), "there is no such file"),
        (("try", log, "--source", "nobody", "--home", home), "there is no source nobody"),
        (("try", log, "--source", "statsig", "--home", home), "names column unit_id"),
        (("try", log, "--home", home), "several sources could read it"),
        (("infer", log), "no column holds times"),
        (("infer", log, "--out", log), "overwrites nothing"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert done.stdout == ""
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "name: x\nfiles: received_date=*/x.csv\nformat: csv\ncolumns: {a: BIGINT}\n"
        "constants: {role: pupil}\nfields: {learner_id: aa, client_ts: a, scroe: a}\n"
        "events: [{event_name: answered}, {event_name: answer_attempted}]\n"
    )
    told = call("try", log, "--source", broken)
    assert told.exit_code == 2
    for words in (
        "constants.role: is not a value of role", "unknown column aa", "did you mean `score`",
        "unknown event; did you mean `answer_attempted`", "nothing fills event_id, schema_version",
    ):  # fmt: skip
        assert words in told.stderr


def test_quarantine_says_what_kind_of_value_and_what_is_wanted(tmp_path: Path) -> None:
    source, log = tmp_path / "s.yaml", tmp_path / "log.csv"
    source.write_text(
        "name: s\nfiles: received_date=*/s.csv\nformat: csv\n"
        "columns: {id: VARCHAR, who: VARCHAR, at: VARCHAR, points: VARCHAR, part: VARCHAR}\n"
        "ignore: [{reason: warm_up, when: part = 'warm up'}]\n"
        "constants: {schema_version: '1.0', role: student, platform: web, app_version: x}\n"
        "fields: {event_id: id, learner_id: who, client_ts: at, received_at: at, score: points}\n"
        "events: [{event_name: answer_attempted}]\n"
    )
    log.write_text(
        "id,who,at,points,part,note\n1,raw-learner-7,2026-03-02 09:00:00,2,x,my own words\n"
        "2,raw-learner-7,2026-03-02 09:00:00,my own words,x,\n3,raw-learner-7,someone@example.org,2,x,\n"
        "4,raw-learner-7,2026-03-02 09:00:00,2,warm up,\n"
        "1,raw-learner-7,2026-03-02 09:00:00,2,x,my own words\n"
        "5,,2026-03-02 09:00:00,2,x,\n"
    )
    done = call("try", log, "--source", source)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    for words in (
        "events 1 answer_attempted 1", "retries 1", "quarantined 3", "excluded 1",
        "score holds a text of 12 characters; wanted: a number",
        "client_ts holds a text of 19 characters; wanted: a time",
        "missing:learner_id: 1 row", "ignored_by_source:warm_up: 1 row", "in `extra`, by rows: note",
    ):  # fmt: skip
        assert words in said
    assert not any(secret in done.stdout for secret in SECRETS)
