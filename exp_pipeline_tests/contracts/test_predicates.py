"""The SQL that refuses rows says the same as pandera, row by row, for every event."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import duckdb
import polars as pl
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from exp_pipeline.contracts.catalogue import event_catalogue
from exp_pipeline.contracts.events import event_names, event_spec
from exp_pipeline.contracts.fields import DERIVED, FIELDS, sql_types
from exp_pipeline.contracts.predicates import rejection_expression, rejection_rules, rejection_sql
from exp_pipeline.contracts.validation import validate_events
from exp_pipeline.model.errors import ContractError

SPECS = {**FIELDS, **DERIVED}
COLUMNS = list(sql_types(derived=True))
POLARS = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us"),
}
SCHEMA = {name: POLARS[SPECS[name].type] for name in COLUMNS}
# A validation costs pandera 0.1 s however few the rows are: few examples, each of many independent rows.
ROWS = 120
DAY = datetime(2026, 3, 2, 9, 15, 30)
INTERESTING: dict[str, list[Any]] = {
    "integer": [
        *(-(2**63), -1, 0, 1, 2, 100, 101, 1000, 1001),
        *(1_000_000, 1_000_001, 10**9, 10**9 + 1, 2**63 - 1),
    ],
    "float": [
        *(float("nan"), float("inf"), float("-inf"), -1e9, -1e-9, -0.0, 0.0),
        *(0.5, 1.0, 1.0000001, 3.0, 5.0, 5.01, 1e6, 1e6 + 1, 1e9, 2e9),
    ],
    "boolean": [True, False],
    "timestamp": [
        *(DAY, DAY + timedelta(minutes=5), DAY + timedelta(minutes=5, microseconds=1)),
        *(DAY + timedelta(minutes=6), DAY - timedelta(days=4000), datetime(1969, 12, 31, 23, 59, 59)),
        *(datetime(1970, 1, 1), datetime(1999, 12, 31), datetime(2000, 1, 1)),
        *(datetime(2199, 12, 31, 23, 59, 59, 999999), datetime(2200, 1, 1), datetime(9999, 1, 1)),
    ],
}
TEXTS = [
    *("", " ", "x", "1", "1.", "1.0", "1.7", "2.0", "10.0", "01.0", "S1", "s1"),
    *("'; drop table e; --", "ö", "o\u0308", "%", "_"),
]
ALLOWED = sorted({value for spec in FIELDS.values() for value in spec.allowed})


@cache
def samples() -> dict[str, dict[str, Any]]:
    return {
        doc.name: {
            **dict.fromkeys(COLUMNS),
            **doc.sample,
            "occurred_at": doc.sample["client_ts"],
        }
        for doc in event_catalogue()
    }


@cache
def weighted_columns(event_name: str) -> list[str]:
    """The columns that may change, those that the event's rules speak of more often than the rest."""
    spec = event_spec(event_name)
    ruled = {
        column.name
        for rule in spec.rules
        for column in sqlglot.parse_one(rule.expression, read="duckdb").find_all(exp.Column)
    }
    weighted = [*COLUMNS, *spec.required * 2, *spec.own * 2, *sorted(ruled) * 4]
    return [name for name in weighted if name != "event_name"]


def value(random: Random, column: str) -> Any:
    """Any value the column's type can hold, null and those near its limits often among them."""
    kind = SPECS[column].type
    if random.random() < 0.25:
        return None
    if random.random() < 0.25 and SPECS[column].allowed:
        return random.choice(SPECS[column].allowed)
    if random.random() < 0.5:
        return random.choice([*TEXTS, *ALLOWED] if kind == "string" else INTERESTING[kind])
    match kind:
        case "string":
            return "".join(
                chr(random.choice([*range(1, 0x250), *range(0x300, 0x320), *range(0x1F600, 0x1F610)]))
                for _ in range(3)
            )
        case "integer":
            return random.choice([random.randint(-3, 6), random.randint(-(2**63), 2**63 - 1)])
        case "float":
            return random.choice([random.uniform(-1, 6), random.gauss(0, 1e6)])
        case "boolean":
            return random.random() < 0.5
        case "timestamp":
            return DAY + timedelta(microseconds=random.randint(-400_000_000, 400_000_000))


def mutated(random: Random, event_name: str, columns: list[str]) -> dict[str, Any]:
    """A good row with up to three of the given columns changed."""
    row = dict(samples()[event_name])
    for column in random.choices(columns, k=random.randint(0, 3)):
        row[column] = value(random, column)
    return row


def accepted(frame: pl.DataFrame, event_name: str) -> list[bool]:
    """Pandera's verdict on every row, from one validation of the frame without its empty columns."""
    good = [True] * frame.height
    required = event_spec(event_name).required
    filled = [name for name in frame.columns if name in required or frame[name].null_count() < frame.height]
    try:
        validate_events(frame.select(filled), event_name)
    except ContractError as error:
        for failure in error.failures:
            assert failure.startswith("row "), failure
            good[int(failure.split()[1])] = False
    return good


@cache
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def reasons(frame: pl.DataFrame) -> list[str | None]:
    found = connection().from_arrow(frame.to_arrow()).project(f"{rejection_sql()} as reason")
    return [reason for (reason,) in found.fetchall()]


@pytest.mark.parametrize("event_name", event_names())
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_exactly_the_rows_that_pandera_accepts_have_no_reason(event_name: str, seed: int) -> None:
    random = Random(seed)
    columns = random.sample(weighted_columns(event_name), k=30)
    drawn = [mutated(random, event_name, columns) for _ in range(ROWS)]
    frame = pl.DataFrame(drawn, schema=SCHEMA)
    by_pandera, by_sql = accepted(frame, event_name), reasons(frame)
    differing = [
        ({name: new for name, new in row.items() if new != samples()[event_name][name]}, passes, reason)
        for row, passes, reason in zip(drawn, by_pandera, by_sql, strict=True)
        if passes != (reason is None)
    ]
    assert differing == []
    assert 0 < sum(by_pandera) < ROWS


@pytest.mark.parametrize("event_name", event_names())
def test_each_way_to_break_a_contract_is_told_by_its_own_reason(event_name: str) -> None:
    """Every rule of the event can be broken: no predicate that is never true."""
    broken, expected = [], []
    good = samples()[event_name]
    spec = event_spec(event_name)
    for column in spec.required:
        broken.append({**good, column: None})
        expected.append(f"missing:{column}")
    for column in COLUMNS:
        field = SPECS[column]
        if field.allowed:
            broken.append({**good, column: "nobody's word"})
            expected.append(f"not_allowed:{column}")
        if field.range:
            worst = {"integer": -(2**62), "float": float("inf"), "timestamp": datetime(1900, 1, 1)}[
                field.type
            ]
            broken.append({**good, column: worst})
            expected.append(f"out_of_range:{column}")
    broken.append({**good, "schema_version": "2.0"})
    expected.append("unsupported_version")
    told = reasons(pl.DataFrame(broken, schema=SCHEMA))
    assert told == expected


CROSS_FIELD: list[tuple[str, dict[str, Any], str]] = [
    ("goal_reached", {"occurred_at": DAY + timedelta(minutes=5, seconds=2)}, "rule:occurred_before_received"),
    ("assessment_completed", {"score": 4.5, "max_score": 4.0}, "rule:score_le_max_score"),
    ("tutor_turn_response_shown", {"ttft_ms": 1451.0}, "rule:ttft_le_latency"),
    ("answer_attempted", {"correct": None, "score": None}, "rule:answer_is_judged"),
    ("rubric_scored", {"rater_kind": "model", "model_name": None}, "rule:judge_names_model"),
    ("preference_judged", {"rater_kind": "model"}, "rule:judge_names_model"),
    (
        "feedback_given",
        {"helpful": None, "rating": None, "feedback_hmac": None},
        "rule:feedback_says_something",
    ),
    ("content_reviewed", {"edit_distance": None}, "rule:edit_is_measured"),
    ("content_reviewed", {"review_outcome": "accepted"}, "rule:accepted_is_unchanged"),
]


@pytest.mark.parametrize(("event_name", "change", "reason"), CROSS_FIELD)
def test_a_broken_cross_field_rule_is_told(event_name: str, change: dict[str, Any], reason: str) -> None:
    frame = pl.DataFrame([{**samples()[event_name], **change}], schema=SCHEMA)
    assert reasons(frame) == [reason]
    assert accepted(frame, event_name) == [False]


def test_every_cross_field_rule_is_broken_by_an_example() -> None:
    declared = {rule.name for name in event_names() for rule in event_spec(name).rules}
    assert {reason.removeprefix("rule:") for _, _, reason in CROSS_FIELD} == declared


@pytest.mark.parametrize("event_name", event_names())
def test_the_single_predicates_are_never_null_and_agree_with_the_one_expression(event_name: str) -> None:
    good = samples()[event_name]
    spec = event_spec(event_name)
    changed = [good, *({**good, column: None} for column in spec.required if column != "event_name")]
    changed += [{**good, "role": "wizard"}, {**good, "cost_usd": float("nan")}, {**good, "device_id": ""}]
    frame = pl.DataFrame(changed, schema=SCHEMA)
    rules = rejection_rules(event_name)
    with duckdb.connect() as connection:
        connection.register("landed", frame)
        table = connection.sql(
            "select " + ", ".join(rule.predicate for rule in rules) + " from landed"
        ).fetchall()
    first = []
    for verdicts in table:
        assert None not in verdicts
        first.append(next((rule.reason for rule, bad in zip(rules, verdicts, strict=True) if bad), None))
    assert first == reasons(frame)


def test_unknown_events_and_versions_are_told() -> None:
    good = samples()["goal_reached"]
    changes: list[dict[str, str | None]] = [
        {},
        {"event_name": "tutor_woke"},
        {"event_name": ""},
        {"event_name": None},
        {"schema_version": "3.1"},
    ]
    told = reasons(pl.DataFrame([{**good, **change} for change in changes], schema=SCHEMA))
    assert told == [None, "unknown_event", "unknown_event", "missing:event_name", "unsupported_version"]


def test_the_reason_does_not_depend_on_rows_beside_it() -> None:
    good = samples()["goal_reached"]
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
