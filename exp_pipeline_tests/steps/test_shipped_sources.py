"""The sources that ship, each on a file of the shape that its producer writes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from exp_pipeline.steps.opening import open_catalog
from exp_pipeline.steps.sources.claims import by_claim
from exp_pipeline.transform.identity import identity_key
from exp_pipeline_tests.steps.sourcing import KEY, SHIPPED, landed, lines, shipped_home

START = 1_772_442_000_000_000_000
NOON = datetime(2026, 3, 2, 9, 0)


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP/JSON writes them: 64-bit integers are texts, lists are arrayValue."""
    told = []
    for key, value in values.items():
        if isinstance(value, bool):
            kind: dict[str, Any] = {"boolValue": value}
        elif isinstance(value, int):
            kind = {"intValue": str(value)}
        elif isinstance(value, float):
            kind = {"doubleValue": value}
        elif isinstance(value, list):
            kind = {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
        else:
            kind = {"stringValue": value}
        told.append({"key": key, "value": kind})
    return told


def span(number: int, values: dict[str, Any], *, ms: int = 1500, **more: Any) -> dict[str, Any]:
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "a span",
        "kind": 3,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + ms * 1_000_000),
        "attributes": attributes(values),
        "status": {},
        **more,
    }


def request(*scopes: list[dict[str, Any]]) -> dict[str, Any]:
    """An ExportTraceServiceRequest with one resource for each list of spans."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes({"service.name": "tutor"})},
                "scopeSpans": [{"scope": {"name": "genai"}, "spans": spans}],
            }
            for spans in scopes
        ]
    }


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "tutor-large",
    "gen_ai.response.model": "tutor-large-2026-02-15",
    "gen_ai.usage.input_tokens": 850,
    "gen_ai.usage.output_tokens": 120,
    "gen_ai.response.finish_reasons": ["tool_calls", "stop"],
    "gen_ai.response.time_to_first_chunk": 0.31,
    "gen_ai.conversation.id": "conversation-1",
    "user.id": "raw-learner-1",
}


AGENT = {"gen_ai.operation.name": "invoke_agent"}


def test_genai_spans_become_requests_and_tool_calls(tmp_path: Path) -> None:
    old = {
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "m",
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "enduser.id": "raw-learner-2",
    }
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "calculator",
        "error.type": "timeout",
        "user.id": "raw-learner-1",
    }
    rows = landed(
        shipped_home(tmp_path, ["otel_genai"]),
        {
            "otel/spans.jsonl": lines(
                [
                    request([span(1, CHAT), span(2, old)], [span(3, tool, ms=20)]),
                    request(
                        [
                            span(4, {"http.request.method": "GET"}),
                            span(5, {"gen_ai.operation.name": "invoke_agent"}),
                        ]
                    ),
                    request([span(6, {**CHAT, "error.type": "429"}, status={"code": 2})]),
                    request(),
                    {"resourceMetrics": []},
                    request([span(7, {"gen_ai.operation.name": "future_thing"})]),
                ]
            )
        },
    )
    made = {row["event_id"]: row for row in rows if row["reason"] is None}
    chat = made[f"{1:032x}-{1:016x}"]
    assert chat["event_name"] == "model_request_created"
    assert (chat["client_ts"], chat["received_at"]) == (NOON, NOON + timedelta(seconds=1.5))
    assert chat["learner_id"] == identity_key(KEY, None).pseudonym("raw-learner-1")
    told = (
        "model_name",
        "model_version",
        "tokens_in",
        "tokens_out",
        "latency_ms",
        "ttft_ms",
        "finish_reason",
    )
    assert [chat[name] for name in told] == [
        "tutor-large", "tutor-large-2026-02-15", 850, 120, 1500.0, 310.0, "tool_call",
    ]  # fmt: skip
    assert (chat["turn_id"], chat["conversation_id"]) == (f"{1:032x}", "conversation-1")
    before = made[f"{2:032x}-{2:016x}"]
    assert (before["tokens_in"], before["finish_reason"]) == (7, "stop")
    called = made[f"{3:032x}-{3:016x}"]
    assert (called["event_name"], called["tool_name"], called["tool_status"]) == (
        "tool_call_executed", "calculator", "timeout",
    )  # fmt: skip
    failed = made[f"{6:032x}-{6:016x}"]
    assert (failed["finish_reason"], failed["error_code"]) == ("error", "429")
    assert len(made) == 4
    assert sorted(row["reason"] for row in rows if row["reason"] is not None) == [
        "ignored_by_source:no_event_for_operation",
        "ignored_by_source:no_spans",
        "ignored_by_source:no_spans",
        "ignored_by_source:not_genai",
        "no_event_rule",
    ]


def test_times_of_spans_may_be_numbers(tmp_path: Path) -> None:
    told = span(1, CHAT, startTimeUnixNano=START, endTimeUnixNano=START + 5_000_000)
    (row,) = landed(shipped_home(tmp_path, ["otel_genai"]), {"otel/spans.json": lines([request([told])])})
    assert (row["client_ts"], row["latency_ms"]) == (NOON, 5.0)


def test_growthbook_exposures_assign_and_expose(tmp_path: Path) -> None:
    text = (
        "timestamp,anonymous_id,experiment_id,variation_id,browser\n"
        "2026-03-02T09:00:00Z,raw-visitor,hint-style,1,firefox\n"
        "2026-03-02 10:00:00.250,raw-other,hint-style,0,\n"
    )
    rows = landed(shipped_home(tmp_path, ["growthbook"]), {"growthbook/viewed.csv": text.encode()})
    assert [(row["event_name"], row["arm"], row["experiment"]) for row in rows] == [
        ("experiment_assigned", "1", "hint-style"), ("experiment_exposed", "1", "hint-style"),
        ("experiment_assigned", "0", "hint-style"), ("experiment_exposed", "0", "hint-style"),
    ]  # fmt: skip
    assert {row["reason"] for row in rows} == {None}
    assert len({row["event_id"] for row in rows}) == 4
    assert rows[0]["unit_id"] == rows[0]["learner_id"] == identity_key(KEY, None).pseudonym("raw-visitor")
    assert rows[2]["client_ts"] == datetime(2026, 3, 2, 10, 0, 0, 250_000)


def test_statsig_exposures_of_experiments_and_gates(tmp_path: Path) -> None:
    text = (
        "unit_id,unit_type,exposure_type,name,rule,experiment_group,first_exposure_utc,user_dimensions\n"
        "raw-1,userID,get_experiment,hint-style,experiment,Test,2026-03-02 09:00:00,{}\n"
        "raw-2,userID,check_gate,new-tutor,rule-7,Control,2026-03-02 09:00:00,{}\n"
        "raw-3,userID,get_config,settings,,,2026-03-02 09:00:00,{}\n"
    )
    rows = landed(shipped_home(tmp_path, ["statsig"]), {"statsig/first_exposures.csv": text.encode()})
    assert [(row["event_name"], row["experiment"], row["arm"], row["surface"]) for row in rows[:4]] == [
        ("experiment_assigned", "hint-style", "Test", None),
        ("experiment_exposed", "hint-style", "Test", "get_experiment"),
        ("experiment_assigned", "new-tutor-rule-7", "Control", None),
        ("experiment_exposed", "new-tutor-rule-7", "Control", "check_gate"),
    ]
    assert [row["reason"] for row in rows] == [None] * 4 + ["ignored_by_source:no_group"]


def test_datashop_text_has_tabs_local_times_and_bare_quotes(tmp_path: Path) -> None:
    names = (
        "Row", "Sample", "Anon Student Id", "Problem Hierarchy", "Problem Name", "Problem View", "Step Name",
        "Step Start Time", "Step End Time", "Step Duration (sec)", "First Attempt", "Incorrects", "Hints",
        "KC (Default)",
    )  # fmt: skip
    first = (
        "1", "All Data", "Stu_a", "Unit 1, Section 2", "P1", "1", '"x" + 3', "2006-10-26 09:51:58.0",
        "2006-10-26 09:53:30.0", "92", "incorrect", "1", "2", "add",
    )  # fmt: skip
    second = (
        "2", "All Data", "Stu_b", "Unit 1, Section 2", "P1", "1", "R1", "2006-12-26 09:00:00.0",
        "2006-12-26 09:00:10.0", ".", "correct", "0", "0", "",
    )  # fmt: skip
    third = ("3", "Half", *second[2:])
    text = "".join("\t".join(line) + "\n" for line in (names, first, second, third))
    rows = landed(
        shipped_home(tmp_path, ["datashop_text"]),
        {"datashop/steps.txt": text.encode()},
    )
    assert [(row["event_name"], row["correct"], row["latency_ms"]) for row in rows[:3]] == [
        ("answer_attempted", False, 92_000.0), ("hint_requested", None, None),
        ("answer_attempted", True, None),
    ]  # fmt: skip
    # New York: four hours behind UTC in October, five in December.
    assert rows[0]["client_ts"] == datetime(2006, 10, 26, 13, 51, 58)
    assert rows[2]["client_ts"] == datetime(2006, 12, 26, 14, 0, 0)
    assert rows[0]["content_id"] == 'Unit 1, Section 2/P1/"x" + 3'
    assert rows[3]["reason"] == "ignored_by_source:other_sample"


def test_each_shipped_source_reads_its_own_folder_and_canonical_the_rest() -> None:
    sources = open_catalog(SHIPPED, strict=True).sources
    day = "received_date=2026-03-02"
    first = {
        path: by_claim(sources, f"{day}/{path}")[0].name
        for path in (
            "events.ndjson", "events.ndjson.gz", "part/events.ndjson", "events.parquet", "otel/a.jsonl",
            "otel/a.json.gz", "growthbook/a.csv", "statsig/a.csv.gz", "datashop/a.parquet", "datashop/a.txt",
        )
    }  # fmt: skip
    assert list(first.values()) == [
        "canonical", "canonical", "canonical", "canonical-parquet", "otel_genai", "otel_genai", "growthbook",
        "statsig", "datashop", "datashop_text",
    ]  # fmt: skip
    assert by_claim(sources, f"{day}/elsewhere/a.csv") == []
