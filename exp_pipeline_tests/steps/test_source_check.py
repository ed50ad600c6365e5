"""What is found wrong with a mapping before a day is run, and that the documentation's example is right."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from exp_pipeline.model.errors import SpecError
from exp_pipeline.model.sources import CsvFormat, EventRule, IgnoreRule, Source, SourceSessions
from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.steps.sources.check import event_fields, read_source
from exp_pipeline_tests.steps.sourcing import landed, lines

GUIDE = Path(__file__).parents[2] / "docs" / "sources.md"
GOOD = """\
name: log
files: received_date=*/log/*.ndjson
format: ndjson
columns: {id: VARCHAR, n: BIGINT, doc: JSON, parts: "VARCHAR[]"}
constants: {schema_version: "1.0", role: student, platform: web, app_version: x}
fields:
  event_id: id
  client_ts: epoch_ms(n)
  received_at: epoch_ms(n)
  learner_id: id
events:
  - event_name: hint_requested
    when: n > 0
"""


def mistakes(folder: Path, right: str, wrong: str) -> list[str]:
    assert right in GOOD
    path = folder / "log.yaml"
    path.write_text(GOOD.replace(right, wrong))
    try:
        read_source(path)
    except SpecError as error:
        return [str(problem).removeprefix(f"{path}:") for problem in error.problems]
    return []


def test_the_plain_source_is_good(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "name: log", "name: log") == []


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("client_ts: epoch_ms(n)", "client_ts: n", "8: fields.client_ts: is BIGINT, and client_ts is a time"),
        ("when: n > 0", "when: id", "13: events[0].when: is VARCHAR, not a condition"),
        ("learner_id: id", "learner_id: lower(n)", "10: fields.learner_id: does not fit the columns: "),
        ("learner_id: id", "learner_id: id.name", "10: fields.learner_id: id has no fields (it is VARCHAR)"),
        ("  learner_id: id\n", "", "11: events[0].event_name: every hint_requested would be quarantined: "
         "nothing fills learner_id"),
        ("hint_requested", "answer_attempted", "12: events[0].event_name: every answer_attempted would be "
         "quarantined: An attempt says whether it was right, or how many points it got."),
        ("hint_requested", "hint_asked", "12: events[0].event_name: unknown event; did you mean "
         "`hint_requested`"),
        ("role: student", "role: pupil", "5: constants.role: is not a value of role (value: pupil); "
         "allowed: staff, student, teacher, test"),
        ("fields:", "values: {role: {t: techer}}\nfields:", "6: values.role.t: is not a value of role; "
         "did you mean `teacher`"),
        ("fields:", "values: {score: {a: 1}}\nfields:", "6: values.score: no rule fills this field"),
        ("fields:", "time_zone: Europe/Pariss\nfields:", "6: time_zone: is not a time zone; did you mean "
         "`Europe/Paris`"),
        ("fields:", "time_zones: {score: UTC}\nfields:", "6: time_zones.score: is not a time of an event"),
        ("fields:", "optional: [idd]\nfields:", "6: optional: optional names what `columns` does not "
         "declare: idd"),
        ("fields:", "unnest: n\nfields:", "6: unnest: `unnest` needs the type of one element"),
        ("fields:", "ignore: [{reason: Bad One, when: n > 1}]\nfields:", "6: ignore[0].reason: is not a "
         "valid name"),
        ("learner_id: id", "learner_id: coalesce(doc->'x', id)", "10: fields.learner_id: uses a lambda: "),
        ("learner_id: id", "learner_id: read_text('/etc/passwd')", "10: fields.learner_id: calls read_text"),
        ("fields:", "fields:\n  event_name: id", "7: fields.event_name: is not filled here"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_with_its_line(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    (told,) = mistakes(tmp_path, right, wrong)
    assert told.startswith(expected)


def test_a_broken_source_is_left_out_and_every_mistake_of_a_catalog_told(tmp_path: Path) -> None:
    folder = tmp_path / "catalog" / "sources"
    folder.mkdir(parents=True)
    (folder / "good.yaml").write_text(GOOD.replace("name: log", "name: good"))
    (folder / "bad.yaml").write_text(
        GOOD.replace("learner_id: id", "learner_id: idd").replace("n > 0", "m > 0")
    )
    (folder / "worse.yaml").write_text(
        GOOD.replace("format: ndjson", "format: xml").replace("log", "worse", 1)
    )
    catalog = open_catalog(tmp_path / "catalog")
    assert [one.name for one in catalog.sources] == ["good"]
    with pytest.raises(SpecError) as told:
        open_catalog(tmp_path / "catalog", strict=True)
    fields = [(Path(one.file).name, one.field) for one in told.value.problems]
    assert fields == [
        ("bad.yaml", "fields.learner_id"), ("bad.yaml", "events[0].when"), ("worse.yaml", "format"),
    ]  # fmt: skip


def test_required_fields_are_those_of_the_contracts() -> None:
    required = event_fields().required
    assert "learner_id" in required["hint_requested"]
    assert {"turn_id", "model_name", "cost_usd"} <= set(required["tutor_turn_response_shown"])
    assert "occurred_at" not in required["hint_requested"]


def example(folder: Path) -> Path:
    (text,) = re.findall(r"```yaml\n(name: chat\n.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    path = folder / "catalog" / "sources" / "chat.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_the_example_of_the_guide_does_what_it_says(tmp_path: Path) -> None:
    assert read_source(example(tmp_path)).name == "chat"
    user = {"id": "7", "org": "school-1"}
    sent = {"text": "why?", "message_no": 1}
    rows = [
        {"uuid": "a", "kind": "msg.sent", "ts": 1772442000000, "user": user, "payload": sent},
        {"uuid": "b", "kind": "answer.checked", "ts": 1772442001000, "user": user,
         "payload": {"correct": "no", "took_s": 2.5}},
        {"uuid": "c", "kind": "ui.ping", "ts": 1772442002000, "user": user, "payload": {}},
        {"uuid": "d", "kind": "ui.zoom", "ts": 1772442002000, "user": user, "payload": {}},
    ]  # fmt: skip
    found = landed(tmp_path, {"chat/log.ndjson": lines(rows)})
    told = sorted((row["row_number"], row["event_name"] or row["reason"]) for row in found)
    assert told == [
        (1, "tutor_session_started"), (1, "tutor_turn_submitted"), (2, "answer_attempted"),
        (3, "ignored_by_source:heartbeat"), (4, "no_event_rule"),
    ]  # fmt: skip
    (answer,) = [row for row in found if row["event_name"] == "answer_attempted"]
    assert (answer["correct"], answer["latency_ms"]) == (False, 2500.0)
    assert answer["client_ts"] == datetime(2026, 3, 2, 9, 0, 1)
    (turn,) = [row for row in found if row["event_name"] == "tutor_turn_submitted"]
    assert turn["prompt_chars"] == 4
    assert {row["learner_id"] for row in found if row["event_name"]} == {turn["learner_id"]}


def test_the_guide_has_every_key() -> None:
    table = GUIDE.read_text().partition("## Every key")[2].partition("## Expressions")[0]
    keys = {
        key for row in table.splitlines() if row.startswith("|") for key in re.findall(r"`(\w+)[`:]", row)
    }
    for model in (Source, EventRule, IgnoreRule, CsvFormat, SourceSessions):
        assert set(model.model_fields) <= keys


def test_zones_may_differ_by_field_and_csv_files_in_how_they_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "catalog" / "sources"
    folder.mkdir(parents=True)
    (folder / "log.yaml").write_text(
        "name: log\nfiles: received_date=*/*.csv\nformat: csv\nhistory: true\n"
        "csv: {delimiter: ';', quote: \"'\", escape: \"'\", header: [who, at, got, right], "
        "null_text: ['NULL'], encoding: latin-1, skip_rows: 1}\n"
        "time_zone: Europe/Paris\ntime_zones: {received_at: America/New_York}\n"
        "columns: {who: VARCHAR, at: VARCHAR, got: VARCHAR, right: VARCHAR, row_number: BIGINT}\n"
        "constants: {schema_version: '1.0', role: student, platform: web, app_version: x}\n"
        "fields: {event_id: \"'e' || row_number\", learner_id: who, client_ts: at, received_at: got, "
        "correct: right}\n"
        "values: {correct: {oui: true, '*': false}}\n"
        "events: [{event_name: answer_attempted, when: right is not null}, "
        "{event_name: hint_requested, when: right is null}]\n"
    )
    text = (
        "made by hand\n'Zo\xeb;1';2025-07-01 10:00:00;2025-07-01 04:00:01;oui\n"
        "b;2025-01-01 10:00:00;2025-01-01 04:00:01;non\nc;2025-03-01 10:00:00;2025-03-01 04:00:01;NULL\n"
    )
    rows = landed(tmp_path, {"a.csv": text.encode("latin-1")})
    assert [(row["event_name"], row["correct"], row["reason"]) for row in rows] == [
        ("answer_attempted", True, None), ("answer_attempted", False, None), ("hint_requested", None, None),
    ]  # fmt: skip
    assert [row["client_ts"].hour for row in rows] == [8, 9, 9]
    assert [row["received_at"].hour for row in rows] == [8, 9, 9]
