"""The SQL that refuses rows says the same as pandera, row by row, for every event in every version."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import polars as pl
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from exp_pipeline.contracts.catalogue import event_catalogue
from exp_pipeline.contracts.events import event_names, event_spec, event_specs
from exp_pipeline.contracts.fields import DERIVED, FIELDS, sql_types
from exp_pipeline.contracts.predicates import rejection_expression, rejection_rules, rejection_sql
from exp_pipeline.contracts.validation import validate_events
from exp_pipeline.model.errors import ContractError

SPECS = {**FIELDS, **DERIVED}
COLUMNS = list(sql_types(derived=True))
KEYS = [(spec.name, spec.major) for spec in event_specs()]
POLARS = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us"),
}
SCHEMA = {name: POLARS[SPECS[name].type] for name in COLUMNS}
DAY = datetime(2026, 3, 2, 9, 15, 30)
STEPS = [timedelta(microseconds=microseconds) for microseconds in (-1, 0, 1)]
SUNSET_YEAR = 2028
LIMITS = [0.0, 0.5, 1.0, 4.0, 5.0, 10.0, 100.0, 1000.0, 1e6, 1e9, 1450.0]
EDGES: dict[str, list[Any]] = {
    "integer": sorted(
        {-(2**63), -1, 0, 1, 2, 2**53 + 1, 2**63 - 1}
        | {int(limit) + step for limit in LIMITS for step in (-1, 0, 1)}
    ),
    "float": [
        *(math.nan, math.inf, -math.inf, -0.0, 5e-324, -5e-324, 1.7976931348623157e308),
        *(sign * limit for limit in LIMITS for sign in (1, -1)),
        *(math.nextafter(sign * limit, to) for limit in LIMITS for sign in (1, -1) for to in (-2e9, 2e9)),
    ],
    "boolean": [True, False],
    "timestamp": [
        *(DAY + timedelta(minutes=minutes) + step for minutes in (-5, 0, 5) for step in STEPS),
        *(datetime(year, 1, 1) + step for year in (1970, 2000, SUNSET_YEAR, 2200) for step in STEPS),
        *(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)),
    ],
}  # fmt: skip
VERSIONS = [
    *("1.0", "1.1", "1.7", "1.99999999999999999999", "2.0", "2.13", "3.0", "0.1", "10.0", "11.1"),
    *("1", "1.", ".0", "", " ", "1.0 ", " 1.0", "01.0", "1.01", "1.0.0", "1.0\n", "1.0\r\n", "1,0", "v1.0"),
    *("-1.0", "+1.0", "1.x", "1.-1", "\uff11.0", "1.\u0660", "1.0\x00", "1e0.0", "latest"),
]
TEXTS = ["", " ", "\t", "\n", "x", "'; drop table e; --", "ö", "o\u0308", "%", "_", "\x00", "\U0001f600"]
ALLOWED = sorted({value for spec in FIELDS.values() for value in spec.allowed})
TEXTS += [*ALLOWED, *(word.upper() for word in ALLOWED[:4]), *(f"{word} " for word in ALLOWED[:4])]


@cache
def samples() -> dict[tuple[str, int], dict[str, Any]]:
    return {
        (doc.name, doc.major): {
            **dict.fromkeys(COLUMNS),
            **doc.sample,
            "occurred_at": doc.sample["client_ts"],
        }
        for doc in event_catalogue()
    }


def edges(column: str) -> list[Any]:
    """Every value worth a try in a column, null first: those near its limits, and those that are strange."""
    field = SPECS[column]
    if column == "schema_version":
        return [None, *VERSIONS]
    if field.type == "string":
        return [None, *dict.fromkeys([*TEXTS[:12], *field.allowed, *(v.upper() for v in field.allowed)])]
    return [None, *EDGES[field.type]]


@cache
def ruled_columns(key: tuple[str, int]) -> list[str]:
    """The columns that the event's cross-field rules speak of."""
    found = {
        column.name
        for rule in event_spec(*key).rules
        for column in sqlglot.parse_one(rule.expression, read="duckdb").find_all(exp.Column)
    }
    return sorted(found)


def values(column: str) -> st.SearchStrategy[Any]:
    """Any value that the type of the column can hold, the interesting ones more often."""
    kind = SPECS[column].type
    interesting = st.sampled_from(edges(column))
    match kind:
        case "string":
            return st.one_of(interesting, st.sampled_from(TEXTS), st.text(max_size=5).filter(_storable))
        case "integer":
            return st.one_of(interesting, st.integers(-(2**63), 2**63 - 1), st.integers(-3, 6))
        case "float":
            return st.one_of(interesting, st.floats(width=64), st.floats(-1, 6))
        case "timestamp":
            near = st.integers(-400_000_000, 400_000_000).map(lambda us: DAY + timedelta(microseconds=us))
            return st.one_of(interesting, near)
        case _:
            return interesting


def _storable(text: str) -> bool:
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


def changes(key: tuple[str, int]) -> st.SearchStrategy[dict[str, Any]]:
    """Up to five columns of a good row changed; those that rules speak of more often than the rest."""
    spec = event_spec(*key)
    columns = [*COLUMNS, *spec.required, *spec.own * 2, *ruled_columns(key) * 6]
    one = st.sampled_from([name for name in columns if name != "event_name"]).flatmap(
        lambda name: st.tuples(st.just(name), values(name))
    )
    return st.lists(one, max_size=5).map(dict)


def accepted(frame: pl.DataFrame, key: tuple[str, int]) -> list[bool]:
    """Pandera's verdict on every row, from one validation of the frame without its empty columns."""
    good = [True] * frame.height
    required = event_spec(*key).required
    filled = [name for name in frame.columns if name in required or frame[name].null_count() < frame.height]
    try:
        validate_events(frame.select(filled), key[0], major=key[1])
    except ContractError as error:
        for failure in error.failures:
            assert failure.startswith("row "), failure
            good[int(failure.split()[1])] = False
    return good


@cache
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def verdicts(frame: pl.DataFrame, *expressions: str) -> list[tuple[Any, ...]]:
    return connection().from_arrow(frame.to_arrow()).project(", ".join(expressions)).fetchall()


def reasons(frame: pl.DataFrame) -> list[str | None]:
    return [reason for (reason,) in verdicts(frame, f"{rejection_sql()} as reason")]


def first_broken(frame: pl.DataFrame, key: tuple[str, int]) -> list[str | None]:
    """The first of the event's single predicates that is true of each row; none may be NULL."""
    rules = rejection_rules(*key)
    found = verdicts(frame, *(rule.predicate for rule in rules))
    assert all(verdict is not None for row in found for verdict in row)
    return [next((rule.reason for rule, bad in zip(rules, row, strict=True) if bad), None) for row in found]


def assert_one_verdict(key: tuple[str, int], drawn: list[dict[str, Any]]) -> list[str | None]:
    """The one expression, the single predicates and pandera agree on every row; gives the reasons."""
    good = samples()[key]
    frame = pl.DataFrame([{**good, **change} for change in drawn], schema=SCHEMA)
    by_pandera, by_sql, by_rules = accepted(frame, key), reasons(frame), first_broken(frame, key)
    others = [major for name, major in KEYS if name == key[0] and major != key[1]]
    told = list(zip(drawn, by_pandera, by_sql, by_rules, strict=True))
    # The one expression reads a row by the version that the row names; the others by the version asked for.
    here = [
        one for one in told if not any(str(one[0].get("schema_version")).startswith(f"{m}.") for m in others)
    ]
    assert [one for one in here if one[1] != (one[2] is None)] == []
    assert [one for one in here if one[2] != one[3]] == []
    assert [one for one in told if one[1] != (one[3] is None)] == []
    return by_sql


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_every_edge_of_every_column_is_judged_alike(key: tuple[str, int]) -> None:
    """One change at a time: each column at null, at each limit and beside it, at strange values."""
    drawn = [{name: value} for name in COLUMNS if name != "event_name" for value in edges(name)]
    told = assert_one_verdict(key, drawn)
    assert 0 < sum(reason is None for reason in told) < len(drawn)


@pytest.mark.parametrize("key", KEYS, ids=str)
@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_exactly_the_rows_that_pandera_accepts_have_no_reason(
    key: tuple[str, int], data: st.DataObject
) -> None:
    # A validation costs pandera 0.1 s however few the rows are: few examples, each of many rows.
    assert_one_verdict(key, data.draw(st.lists(changes(key), min_size=20, max_size=40)))


@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_rows_of_all_events_in_one_table_are_judged_as_each_by_itself(data: st.DataObject) -> None:
    keys = data.draw(st.permutations(KEYS * 2))
    rows = [{**samples()[key], **data.draw(changes(key))} for key in keys]
    for key, row in zip(keys, rows, strict=True):
        row["schema_version"] = samples()[key]["schema_version"]
    together = reasons(pl.DataFrame(rows, schema=SCHEMA))
    for key in KEYS:
        mine = [place for place, one in enumerate(keys) if one == key]
        alone = first_broken(pl.DataFrame([rows[place] for place in mine], schema=SCHEMA), key)
        assert [together[place] for place in mine] == alone


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_each_way_to_break_a_contract_is_told_by_its_own_reason(key: tuple[str, int]) -> None:
    """Every rule of the event can be broken: no predicate that is never true."""
    spec, good = event_spec(*key), samples()[key]
    broken: list[dict[str, Any]] = []
    expected = []
    for column in spec.required:
        broken.append({**good, column: None})
        expected.append(f"missing:{column}")
    for column in COLUMNS:
        field = SPECS[column]
        if field.allowed:
            broken.append({**good, column: "nobody's word"})
            expected.append(f"not_allowed:{column}")
        if field.range and column != "received_at":
            worst = {"integer": -(2**62), "float": math.inf, "timestamp": datetime(1900, 1, 1)}[field.type]
            broken.append({**good, column: worst})
            expected.append(f"out_of_range:{column}")
    for version, reason in (("9.0", "unsupported_version"), ("9.x", "malformed_version")):
        broken.append({**good, "schema_version": version})
        expected.append(reason)
    if spec.sunset is not None:
        broken.append({**good, "received_at": datetime.fromisoformat(spec.sunset) + timedelta(days=1)})
        expected.append("past_sunset")
    assert reasons(pl.DataFrame(broken, schema=SCHEMA)) == expected


V1, V2 = ("feedback_given", 1), ("feedback_given", 2)
CROSS_FIELD: list[tuple[tuple[str, int], dict[str, Any], str]] = [
    (
        ("goal_reached", 1),
        {"occurred_at": DAY + timedelta(minutes=5, seconds=2)},
        "rule:occurred_before_received",
    ),
    (("assessment_completed", 1), {"score": 4.5, "max_score": 4.0}, "rule:score_le_max_score"),
    (("tutor_turn_response_shown", 1), {"ttft_ms": 1451.0}, "rule:ttft_le_latency"),
    (("tutor_turn_response_shown", 1), {"turn_id": None}, "missing:turn_id"),
    (("answer_attempted", 1), {"correct": None, "score": None}, "rule:answer_is_judged"),
    (("rubric_scored", 1), {"rater_kind": "model", "model_name": None}, "rule:judge_names_model"),
    (("preference_judged", 1), {"rater_kind": "model"}, "rule:judge_names_model"),
    (V1, {"helpful": None, "rating": None, "feedback_hmac": None}, "rule:feedback_says_something"),
    (V2, {"rating_max": None}, "rule:rating_names_its_scale"),
    (V2, {"rating": None, "rating_min": 5.0, "rating_max": 5.0}, "rule:scale_has_width"),
    (V2, {"rating": 10.5}, "rule:rating_on_its_scale"),
    (("content_reviewed", 1), {"edit_distance": None}, "rule:edit_is_measured"),
    (("content_reviewed", 1), {"review_outcome": "accepted"}, "rule:accepted_is_unchanged"),
]


@pytest.mark.parametrize(("key", "change", "reason"), CROSS_FIELD)
def test_a_broken_cross_field_rule_is_told(key: tuple[str, int], change: dict[str, Any], reason: str) -> None:
    frame = pl.DataFrame([{**samples()[key], **change}], schema=SCHEMA)
    assert reasons(frame) == [reason]
    assert accepted(frame, key) == [False]


def test_every_cross_field_rule_is_broken_by_an_example() -> None:
    declared = {rule.name for key in KEYS for rule in event_spec(*key).rules}
    told = {reason.removeprefix("rule:") for _, _, reason in CROSS_FIELD if reason.startswith("rule:")}
    assert told == declared


def test_unknown_events_and_versions_are_told() -> None:
    good = samples()["goal_reached", 1]
    changes: list[dict[str, str | None]] = [
        {},
        {"event_name": "tutor_woke"},
        {"event_name": ""},
        {"event_name": None},
        {"schema_version": "3.1"},
        {"schema_version": "1.7"},
        {"schema_version": "1.7.2"},
        {"schema_version": "one"},
        {"schema_version": None},
    ]
    told = reasons(pl.DataFrame([{**good, **change} for change in changes], schema=SCHEMA))
    assert told == [
        *(None, "unknown_event", "unknown_event", "missing:event_name", "unsupported_version"),
        *(None, "malformed_version", "malformed_version", "missing:schema_version"),
    ]


def test_another_version_or_event_is_not_judged_by_this_one() -> None:
    """What cannot be read is said to be so, whatever else its row holds."""
    good = samples()["goal_reached", 1]
    strange: dict[str, Any] = {"rating": 77.0, "role": "wizard", "learner_id": None}
    changes = [{"schema_version": "2.0"}, {"event_name": "tutor_woke"}, {"schema_version": "x"}]
    told = reasons(pl.DataFrame([{**good, **strange, **change} for change in changes], schema=SCHEMA))
    assert told == ["unsupported_version", "unknown_event", "malformed_version"]


def test_versions_side_by_side_have_each_their_own_range() -> None:
    rows = [
        {**samples()[V1], "rating": 4.0},
        {**samples()[V1], "rating": 8.0},
        {**samples()[V2], "rating": 8.0},
        {**samples()[V1], "rating": 8.0, "schema_version": "2.0", "rating_min": 0.0, "rating_max": 10.0},
    ]
    assert reasons(pl.DataFrame(rows, schema=SCHEMA)) == [None, "out_of_range:rating", None, None]


def test_the_last_day_of_a_version_is_a_good_day() -> None:
    last = datetime.fromisoformat(event_spec(*V1).sunset or "")
    days = [last, last + timedelta(hours=23, minutes=59), last + timedelta(days=1)]
    rows = [{**samples()[V1], "received_at": day, "client_ts": day, "occurred_at": day} for day in days]
    assert reasons(pl.DataFrame(rows, schema=SCHEMA)) == [None, None, "past_sunset"]
    later = [{**samples()[V2], "received_at": day, "client_ts": day, "occurred_at": day} for day in days]
    assert reasons(pl.DataFrame(later, schema=SCHEMA)) == [None, None, None]


def test_the_reason_does_not_depend_on_rows_beside_it() -> None:
    good = samples()["goal_reached", 1]
    frame = pl.DataFrame([good, {**good, "role": None}, good], schema=SCHEMA)
    assert reasons(frame) == [None, "missing:role", None]


def test_the_expression_transpiles_to_spark() -> None:
    text = rejection_expression().sql(dialect="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    assert sqlglot.parse_one(text, read="spark").find(exp.Case) is not None
    columns = {column.name for column in rejection_expression().find_all(exp.Column)}
    assert columns <= set(COLUMNS)


def test_the_caller_may_change_the_expression_without_changing_the_contract() -> None:
    before = rejection_sql()
    for literal in list(rejection_expression().find_all(exp.Literal)):
        literal.set("this", "changed")
    assert rejection_sql() == before


_AT_ONCE = """
import sys
sys.setswitchinterval(1e-5)
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import polars, pandera.polars
from exp_pipeline.contracts import events, predicates
gate = Barrier(8)
def ask(turn):
    gate.wait()
    if turn % 2:
        return predicates.rejection_sql()
    return [str(spec.rules) for spec in events.event_specs()] and predicates.rejection_sql()
with ThreadPoolExecutor(8) as pool:
    texts = set(pool.map(ask, range(8)))
assert len(texts) == 1
print(len(texts.pop()))
"""


def test_eight_threads_may_be_the_first_to_ask() -> None:
    run = subprocess.run([sys.executable, "-c", _AT_ONCE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == len(rejection_sql())


def test_every_event_is_asked_for() -> None:
    assert {name for name, _ in KEYS} == set(event_names())
