"""Which expressions an author may write, and how the others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.catalog import check_expressions, check_mappings, expression_fault, load_catalog
from exp_pipeline.contracts.fields import sql_types
from exp_pipeline_tests.catalog.folders import (
    BRIEF,
    EVENT_COLUMNS,
    EVENT_FIELDS,
    METRICS,
    SESSION_COLUMNS,
    SOURCE,
    write_catalog,
)
from exp_pipeline_tests.catalog.test_loading import SHIPPED

COLUMNS = {
    "a": "VARCHAR",
    "b": "DOUBLE",
    "s": "STRUCT(x INTEGER)",
    "Anon Student Id": "VARCHAR",
    "spans": "JSON",
}
SESSIONS = {
    "session_id": "VARCHAR", "learner_id": "VARCHAR", "event_date": "DATE", "started_at": "TIMESTAMP",
    "ended_at": "TIMESTAMP", "minutes": "DOUBLE", "end_reason": "VARCHAR", "n_events": "BIGINT",
    "n_turns": "BIGINT", "n_responses": "BIGINT", "platform": "VARCHAR",
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a",
        '"Anon Student Id"',
        "'web'",
        "b > 0 and a is not null",
        "a in ('x', 'y') or not b between 1 and 2",
        "case when b > 1 then 'x' else a end",
        "coalesce(nullif(a, ''), 'none')",
        "try_cast(a as double) / 1000",
        "a::timestamp + interval 5 minute",
        "strptime(a, '%Y-%m-%d %H:%M:%S.%f')",
        "try_strptime(a, '%Y-%m-%d')",
        "epoch_ms(b::bigint)",
        "make_timestamp((b / 1000)::bigint)",
        "to_timestamp(b) at time zone 'UTC'",
        "timezone('America/New_York', a::timestamp)",
        "date_diff('second', a::timestamp, timestamp '2026-01-01 00:00:00')",
        "spans->>'$.attributes[0].value'",
        "json_extract_string(spans, '$.name')",
        "md5(a || '-' || b)",
        "regexp_extract(a, '([a-z]+)', 1)",
        "starts_with(lower(a), 'x') and a ilike '%y'",
        "s.x + 1",
        "list_contains(str_split(a, ','), 'x')",
        "a is distinct from 'x'",
    ],
)
def test_plain_expressions_are_allowed(text: str) -> None:
    assert expression_fault(text, COLUMNS) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(select 1)", "uses a query, which is not allowed here"),
        ("a in (select a from events)", "uses a query, which is not allowed here"),
        ("exists (select 1)", "calls exists(), which is not allowed here"),
        ("read_csv('/etc/passwd')", "calls read_csv(), which is not allowed here"),
        ("read_text('x')", "calls read_text(), which is not allowed here; did you mean `greatest`?"),
        ("coalesce(a, getenv('HOME'))", "calls getenv(), which is not allowed here"),
        ("current_setting('home_directory')", "calls current_setting(), which is not allowed here"),
        ("sum(b)", "calls sum(), which is not allowed here"),
        ("row_number() over ()", "uses a window, which is not allowed here"),
        ("generate_series(1, 1000000000)", "calls generate_series(), which is not allowed here"),
        ("repeat(a, 1000000000)", "calls repeat(), which is not allowed here; did you mean `replace`?"),
        ("random() < 0.5", "calls random(), which is not allowed here"),
        ("lowr(a)", "calls lowr(), which is not allowed here; did you mean `lower` or `power` or `floor`?"),
        ("attach 'x.db'", "uses ATTACH, which is not allowed here"),
        ("copy events to 'x'", "uses COPY, which is not allowed here"),
        ("a; drop table events", "is more than one expression"),
        ("a, b", "is not an expression"),
        ("a = ", "is not an expression"),
        ("'open", "is not an expression"),
        ("", "is empty"),
        ("*", "uses *, which is not allowed here"),
        (
            "count(*)",
            "calls count(), which is not allowed here; did you mean `concat` or `contains` or `round`?",
        ),
        ("$secret", "uses a parameter, which is not allowed here"),
        ("a -- */ , read_text('x')", "holds a comment"),
        ("a as b", "uses an alias, which is not allowed here"),
        ("a::enumm", "uses the type enumm"),
        ("c > 1", "unknown column c"),
        ("a.x", "a has no fields (it is VARCHAR)"),
        ("events.a", "unknown column events"),
        ("A = 'x'", "unknown column A; did you mean `a`?"),
        ("(" * 900 + "a" + ")" * 900, "is nested too deeply"),
        ("a" + "||a" * 400, "is nested too deeply"),
        ("a" * 2_001, "is 2,001 characters long"),
    ],
)
def test_everything_else_is_refused(text: str, message: str) -> None:
    fault = expression_fault(text, COLUMNS)
    assert fault is not None
    assert fault[0] == message
    assert fault[1]


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="ab()[]'\"*;,.$?@#:=<>|- select\x00\n", max_size=40))
def test_no_text_makes_the_check_fail(text: str) -> None:
    fault = expression_fault(text, COLUMNS)
    assert fault is None or fault[0]


def found(root: Path, **more: list[str]) -> list[str]:
    problems = check_expressions(load_catalog(root), EVENT_COLUMNS, SESSION_COLUMNS, **more)
    return [str(problem).replace(f"{root}/", "") for problem in problems]


def mistakes(root: Path) -> list[str]:
    problems = check_mappings(load_catalog(root), EVENT_FIELDS)
    return [str(problem).replace(f"{root}/", "") for problem in problems]


def test_the_small_catalog_and_the_one_that_ships_are_clean(tmp_path: Path) -> None:
    assert found(write_catalog(tmp_path)) == mistakes(tmp_path) == []
    columns = sql_types(derived=True)
    shipped = load_catalog(SHIPPED)
    assert check_expressions(shipped, columns, SESSIONS, context_columns=["platform"]) == ()


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        (
            "where: correct",
            "where: corect",
            "8: measures[1].where: unknown column corect; did you mean `correct` or `score`? "
            "(value: corect); "
            "allowed: correct, latency_ms, platform, score",
        ),
        (
            "where: correct",
            "where: score",
            "8: measures[1].where: is DOUBLE, not a condition (value: score); "
            "allowed: true or false, such as correct",
        ),
        (
            "of: minutes\n",
            "of: latency_ms\n",
            "18: measures[3].of: unknown column latency_ms (value: latency_ms); "
            "allowed: minutes, session_id, started_at",
        ),
        (
            "of: minutes\n",
            "of: started_at\n",
            "18: measures[3].of: is TIMESTAMP, and sum needs a number (value: started_at); allowed: a number",
        ),
    ],
)
def test_a_measure_over_a_wrong_column(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    assert right in METRICS
    assert found(write_catalog(tmp_path, metrics__all=METRICS.replace(right, wrong))) == [
        f"metrics/all.yaml:{expected}"
    ]


TYPES = (
    "BIGINT, BOOLEAN, DATE, DECIMAL, DOUBLE, FLOAT, HUGEINT, INTEGER, INTERVAL, JSON, LIST, "
    "MAP, SMALLINT, STRUCT, "
    "TIME, TIMESTAMP, TIMESTAMPTZ, TINYINT, UBIGINT, UINTEGER, USMALLINT, UTINYINT, UUID, VARCHAR"
)


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        (
            "learner_id: user_id",
            "learner_id: userid",
            "9: fields.learner_id: unknown column userid; did you mean `user_id`? (value: userid); "
            "allowed: Step Start, right, user_id",
        ),
        (
            "when: right is not null",
            "when: wrong is not null",
            "13: events[0].when: unknown column wrong (value: wrong is not null); "
            "allowed: Step Start, right, user_id",
        ),
        (
            "      correct: right > 0",
            "      corect: right > 0",
            "15: events[0].fields.corect: is not a field of an event; did you mean `correct`? "
            "(value: corect); "
            "allowed: client_ts, correct, learner_id",
        ),
        (
            "user_id: BIGINT",
            "user_id: BIGINTT",
            "5: columns.user_id: is not a type of a raw column; did you mean `BIGINT` or `UBIGINT`? "
            f"(value: BIGINTT); allowed: {TYPES}",
        ),
    ],
)
def test_a_source_over_a_wrong_column(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    assert right in SOURCE
    root = write_catalog(tmp_path, sources__foreign=SOURCE.replace(right, wrong))
    assert mistakes(root) == [f"sources/foreign.yaml:{expected}"]


def test_a_raw_column_whose_name_could_break_out(tmp_path: Path) -> None:
    text = SOURCE.replace('  "Step Start": VARCHAR\n', '  "Step Start": VARCHAR\n  "x\\",y": VARCHAR\n')
    assert mistakes(write_catalog(tmp_path, sources__foreign=text)) == [
        "sources/foreign.yaml:7: columns.x\",y: a column's name must hold no quote, backslash "
        "or control character "
        '(value: x",y)'
    ]


def test_segments_and_strata_are_context(tmp_path: Path) -> None:
    text = BRIEF + "segments: [{column: platfrm}]\nstrata: [platform, colour]\n"
    root = write_catalog(tmp_path, **{"experiments__quick-hints": text})
    assert found(root, context_columns=["platform", "locale"]) == [
        "experiments/quick-hints.yaml:27: segments[0].column: unknown context column; did you "
        "mean `platform`? "
        "(value: platfrm); allowed: locale, platform",
        "experiments/quick-hints.yaml:28: strata[1]: unknown context column (value: colour); "
        "allowed: locale, platform",
    ]
