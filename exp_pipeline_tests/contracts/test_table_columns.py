"""The declared columns against what the queries write: every query runs on a small school of three people."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta

import duckdb
import polars as pl
import pytest
from sqlglot import exp

from exp_pipeline.contracts.catalogue import event_catalogue
from exp_pipeline.contracts.fields import DERIVED, FIELDS, sql_types
from exp_pipeline.contracts.predicates import rejection_expression
from exp_pipeline.contracts.published import published_table
from exp_pipeline.contracts.published.base import Column, PublishedTable
from exp_pipeline.contracts.table_columns import (
    TABLE_NAMES,
    column_descriptions,
    column_docs,
    table_columns,
    table_description,
)
from exp_pipeline.contracts.tables import TABLES
from exp_pipeline.contracts.validation import table_names, validate_table
from exp_pipeline.model.errors import ContractError
from exp_pipeline.model.names import IDENTIFIER
from exp_pipeline.model.readout import GuardrailResult, IntegrityCheck
from exp_pipeline.steps.behaviour.learner_days import learner_days_query
from exp_pipeline.steps.ingest.conform import event_columns, payload_digest
from exp_pipeline.transform import queries
from exp_pipeline.transform.door import DoorShape, landed_columns

SHAPE = DoorShape(types=sql_types(), identifiers=(), reductions=())
DAY = date(2026, 3, 2)
NINE = datetime(2026, 3, 2, 9)
KEYS = {"ada": 2**63 + 1, "ben": 7, "eve": 8}
PARAMETERS: dict[str, object] = {
    "first_day": DAY,
    "end_day": date(2026, 3, 4),
    "day": DAY,
    "lateness_days": 3,
    "excluded_roles": ["staff", "test"],
    "excluded_learners": [],
    "correction_sources": [],
    "events_per_minute": 1000,
    "gap_microseconds": 30 * 60 * 1_000_000,
    "cap_microseconds": 12 * 3600 * 1_000_000,
    "turn_gap_microseconds": 3600 * 1_000_000,
    "cut_on_objective": True,
    "cut_on_shared_device": True,
    "window_start": datetime(2026, 3, 2),
    "window_end": datetime(2026, 3, 4),
    "known_until": datetime(2026, 3, 4),
    "last_days": [date(2026, 3, 3)],
}


def landed_rows() -> list[dict[str, object]]:
    """Learners who do everything the taxonomy knows, a staff account, a broken row and a conflicting copy."""
    rows: list[dict[str, object]] = []

    def add(learner: str, at: datetime, sample: dict[str, object], **changes: object) -> None:
        row = {**sample, "event_id": f"e{len(rows)}", "learner_id": learner, "session_id": f"s-{learner}"}
        row |= {"client_ts": at, "received_at": at + timedelta(seconds=1), "occurred_at": at}
        row |= {"class_id": "class-01", "school_id": "school-01", "learner_key": KEYS[learner]}
        if sample["event_name"] in ("experiment_assigned", "experiment_exposed"):
            row |= {"unit_id": learner, "arm_bucket": 17, "traffic_bucket": 9_999}
        row |= {"source": "canonical", "file": "f1", "row_number": len(rows) + 1, "part": 1, "key_id": "k1"}
        days = dict.fromkeys(("event_date", "received_date", "arrived_date"), at.date())
        rows.append({**row, **days, "clock_skewed": False, **changes})

    docs: dict[str, dict[str, object]] = {doc.name: {**doc.sample} for doc in event_catalogue()}
    first = ["experiment_assigned", "experiment_exposed"]
    for learner in ("ada", "ben"):
        names = [*first, *(name for name in docs if name not in first)]
        for minute, name in enumerate(names):
            add(learner, NINE + timedelta(minutes=minute), docs[name])
        add(learner, NINE + timedelta(days=1), docs["tutor_turn_submitted"])
    add("eve", NINE, docs["experiment_assigned"], unit_type="class", unit_id="class-01", experiment="pacing")
    add("eve", NINE, docs["answer_attempted"], role="staff")
    add("ben", NINE, docs["answer_attempted"], correct=None, event_name="nothing_known", byte_offset=40)
    add("ben", NINE, docs["hint_requested"], event_id="e5", hint_level=2)
    return rows


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """Every query's result under the name of its file, on the small school."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    landed = landed_columns(SHAPE)
    typed = ", ".join(f'"{name}" {kind}' for name, kind in landed.items())
    connection.execute(f"create table landed ({typed})")
    for row in landed_rows():
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" for _ in row)
        connection.execute(f"insert into landed ({names}) values ({marks})", list(row.values()))
    calls = {
        "contract_refusal": rejection_expression(),
        "payload_digest": payload_digest(SHAPE),
        "exclusion_by_agent": exp.false(),
    }

    def build(name: str, query: exp.Expr | None = None, to: str = "", **changes: object) -> None:
        text = queries.query_text(queries.with_calls(query or without_slots(queries.load(name)), calls))
        used = {key: value for key, value in (PARAMETERS | changes).items() if f"${key}" in text}
        connection.execute(f"create table {to or name} as {text}", used)

    for name in ("suspicious", "busy_minutes", "refusals", "duplicates", "fates"):
        build(name)
    kept = [exp.column(name, table="l", quoted=True) for name in event_columns(landed)]
    for day in ("2026-03-02", "2026-03-03"):
        build("session_cuts", day=day)
        build("events", queries.with_columns(queries.load("events"), kept), to=f'"{day}"', day=day)
        connection.execute("drop table session_cuts")
    connection.execute('create table events as from "2026-03-02" union all from "2026-03-03"')
    for name in ("quarantine", "exclusions"):
        build(name)
    build("learner_days", learner_days_query(()))
    build("bouts")
    connection.execute("create view edge_bouts as select * from bouts where at_edge")
    stays = ", ".join(f'"{name}" {kind}' for name, kind in table_columns("roster").items())
    connection.execute(f"create table roster ({stays})")
    for name in ("chains", "cap_starts", "sessions", "turns", "content", "assignments"):
        build(name)
    build("enrollments", to="stays")
    build("roster_stays", to="enrollments")
    build("exposures")
    connection.execute(
        "create table experiments as select distinct experiment, version, unit_type, "
        "date '2026-03-02' as first_day, date '2026-03-04' as last_day, "
        "timestamp '2026-03-02' as window_start, timestamp '2026-03-04' as window_end from assignments"
    )
    build("units")
    connection.execute(
        "create table unit_moments as select u.experiment, u.version, u.unit_id, u.unit_key, u.assigned_at, "
        "u.assigned_date, x.last_day from units as u inner join experiments as x "
        "on u.experiment = x.experiment and u.version = x.version"
    )
    build("cut_stretches")
    rests = queries.with_slots(queries.with_codes(queries.load("rests"), {}), {"measures": []})
    build("rests", rests)
    build("unit_days")
    for name in ("pre_start", "first_pre_day"):
        connection.execute(f"alter table units add column {name} date")
    build("pre_days")
    build("mad")
    for name in ("pre_start", "first_pre_day"):
        connection.execute(f"alter table units drop column {name}")
    yield connection
    connection.close()


def without_slots(query: exp.Expr) -> exp.Expr:
    """A query whose places for catalog columns stay empty."""
    names = {
        call.expressions[0].name for call in query.find_all(exp.Anonymous) if str(call.this).lower() == "slot"
    }
    return queries.with_slots(query, {name: [] for name in names}) if names else query


def rows_of(engine: duckdb.DuckDBPyConnection, table: str) -> pl.DataFrame:
    """A table that a query wrote."""
    frame = pl.from_arrow(engine.table(table).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


WRITTEN_BY_SQL = [name for name in TABLE_NAMES if name in queries.query_names()]


def test_the_tables_that_a_query_writes_are_known() -> None:
    by_code = {
        "holdout_units",
        "roster",
        "roster_quarantine",
        "srm_daily",
        "guardrails_daily",
        "data_quality",
    }
    assert set(TABLE_NAMES) - set(WRITTEN_BY_SQL) == by_code


@pytest.mark.parametrize("table", WRITTEN_BY_SQL)
def test_a_query_writes_the_declared_columns_in_order_and_type(
    engine: duckdb.DuckDBPyConnection, table: str
) -> None:
    written = {row[0]: row[1] for row in engine.execute(f"describe {table}").fetchall()}
    assert list(written.items()) == list(table_columns(table).items())


@pytest.mark.parametrize("table", WRITTEN_BY_SQL)
def test_what_a_query_writes_keeps_its_contract(engine: duckdb.DuckDBPyConnection, table: str) -> None:
    frame = rows_of(engine, table)
    assert frame.height > 0
    assert validate_table(table, frame, "2026-03-02").height == frame.height


NULL = pl.lit(None)
BREACHES: list[tuple[str, dict[str, pl.Expr], str]] = [
    ("events", {"tokens_in": pl.lit(-1)}, "tokens_in: greater_than_or_equal_to(0)"),
    ("events", {"role": pl.lit("robot")}, "role: isin"),
    ("events", {"event_id": pl.lit("e0")}, "event_id: one_row_for_each(event_id)"),
    ("events", {"event_date": pl.lit(date(2026, 3, 5))}, "rule:on_its_day"),
    ("events", {"score": pl.lit(5.0), "max_score": pl.lit(4.0)}, "rule:score_le_max_score"),
    ("events", {"arm_bucket": pl.lit(10_000)}, "arm_bucket"),
    ("quarantine", {"reason": NULL}, "reason: not_nullable"),
    ("quarantine", {"row_number": pl.lit(1)}, "one_row_for_each(file, row_number, part)"),
    ("exclusions", {"reason": pl.lit("")}, "reason: not_equal_to"),
    ("learner_days", {"n_events": pl.lit(0)}, "n_events: greater_than_or_equal_to(1)"),
    ("learner_days", {"ended_at": pl.col("started_at") - timedelta(seconds=1)}, "rule:ends_after_start"),
    ("sessions", {"n_responses": pl.col("n_events") + 1}, "rule:turns_are_events"),
    ("sessions", {"minutes": pl.lit(-1.0)}, "minutes"),
    ("sessions", {"session_id": pl.lit("s")}, "session_id"),
    ("turns", {"outcome": pl.lit("no_submission")}, "rule:outcome_fits"),
    ("turns", {"turn_part": pl.lit(0, pl.Int32)}, "turn_part"),
    ("enrollments", {"end_at": pl.lit(NINE - timedelta(days=9))}, "rule:ends_after_start"),
    ("content", {"last_seen_at": pl.lit(NINE - timedelta(days=9))}, "rule:seen_in_order"),
    ("assignments", {"unit_key": NULL}, "rule:learners_have_keys"),
    ("assignments", {"arm": pl.lit("")}, "arm"),
    ("exposures", {"exposures": pl.lit(0)}, "exposures"),
    ("units", {"assigned_date": pl.lit(date(2026, 3, 9))}, "rule:on_its_day"),
    ("unit_days", {"event_date": pl.lit(DAY)}, "one_row_for_each(experiment"),
    ("mad", {"exposures": pl.lit(0)}, "rule:exposed_means_seen"),
    ("mad", {"first_exposed_at": NULL}, "rule:exposed_means_seen"),
    ("mad", {"unit_id": pl.lit("ada"), "experiment": pl.lit("hint-style")}, "one_row_for_each(experiment"),
]


@pytest.mark.parametrize(("table", "change", "words"), BREACHES)
def test_a_breach_is_told(
    engine: duckdb.DuckDBPyConnection, table: str, change: dict[str, pl.Expr], words: str
) -> None:
    good = rows_of(engine, table)
    types = {name: good.schema[name] for name in change}
    bad = good.with_columns(value.cast(types[name]).alias(name) for name, value in change.items())
    with pytest.raises(ContractError) as caught:
        validate_table(table, bad, "2026-03-02")
    assert any(words in failure for failure in caught.value.failures), caught.value.failures


@pytest.mark.parametrize("table", TABLE_NAMES)
def test_a_column_that_lacks_is_told(table: str) -> None:
    typed = ", ".join(f'null::{kind} as "{name}"' for name, kind in list(table_columns(table).items())[1:])
    with duckdb.connect() as connection:
        connection.execute(f"create table short as select {typed} where false")
        short = rows_of(connection, "short")
    with pytest.raises(ContractError, match=next(iter(table_columns(table)))):
        validate_table(table, short, "none")


@pytest.mark.parametrize("table", TABLE_NAMES)
def test_model_and_plain_declaration_say_the_same(table: str) -> None:
    docs = column_docs(table)
    columns = TABLES[table].to_schema().columns
    assert [doc.name for doc in docs] == list(columns) == list(table_columns(table))
    assert {doc.name: doc.sql_type for doc in docs} == table_columns(table)
    assert {doc.name: doc.description for doc in docs} == column_descriptions(table)
    assert [doc.nullable for doc in docs] == [column.nullable for column in columns.values()]
    assert all(column.required for column in columns.values())


@pytest.mark.parametrize("table", TABLE_NAMES)
def test_the_polars_type_of_a_column_is_that_of_its_sql_type(table: str) -> None:
    typed = ", ".join(f'null::{kind} as "{name}"' for name, kind in table_columns(table).items())
    with duckdb.connect() as connection:
        connection.execute(f"create table empty as select {typed} where false")
        empty = rows_of(connection, "empty")
    assert validate_table(table, empty, "none").height == 0


@pytest.mark.parametrize("table", TABLE_NAMES)
def test_every_column_and_table_is_described_in_one_plain_line(table: str) -> None:
    for words in (table_description(table), *column_descriptions(table).values()):
        assert words.endswith(".")
        assert "\n" not in words
        assert words[0].isupper() or words.startswith(("p-value", "client_ts", "event_date"))
    assert all(IDENTIFIER.match(name) for name in table_columns(table))


def test_the_canonical_columns_of_events_are_those_of_the_contract() -> None:
    written = {doc.name: doc for doc in column_docs("events")}
    for name, kind in sql_types(derived=True).items():
        spec = {**FIELDS, **DERIVED}[name]
        assert written[name].sql_type == kind
        assert written[name].nullable == (not spec.required)
        assert written[name].description.startswith(spec.description)
        assert spec.unit in written[name].description
    landed = event_columns(landed_columns(SHAPE))
    assert list(table_columns("events")) == ["objective_changed", "device_handover", *landed]


def test_the_words_for_verdicts_are_those_of_the_readout() -> None:
    statuses = TABLES["guardrails_daily"].to_schema().columns["status"].checks[0].statistics["allowed_values"]
    verdicts = TABLES["data_quality"].to_schema().columns["verdict"].checks[0].statistics["allowed_values"]
    assert tuple(statuses) == GuardrailResult.model_fields["status"].annotation.__args__  # type: ignore[union-attr]
    assert tuple(verdicts) == IntegrityCheck.model_fields["verdict"].annotation.__args__  # type: ignore[union-attr]


def test_an_unknown_table_is_told_with_the_known_ones() -> None:
    assert table_names() == TABLE_NAMES
    for ask in (table_columns, column_docs, column_descriptions, table_description):
        with pytest.raises(
            ValueError, match=r"table 'moods' has no contract; allowed: events, quarantine, .*mad"
        ):
            ask("moods")


def test_the_answer_is_the_callers_own() -> None:
    table_columns("mad").clear()
    assert "unit_id" in table_columns("mad")


def test_a_declaration_checks_itself() -> None:
    column = Column("arm", "VARCHAR", "Arm.")
    with pytest.raises(ValueError, match="declares twice: arm"):
        PublishedTable("t", "One row.", (column, column))
    with pytest.raises(ValueError, match="key columns unit_id"):
        PublishedTable("t", "One row.", (column,), key=("unit_id",))
    with pytest.raises(ValueError, match="sql_type 'HUGEINT'"):
        Column("n", "HUGEINT", "Rows.")  # type: ignore[arg-type]
    assert published_table("mad").key == ("experiment", "version", "unit_id")


def test_columns_are_told_without_pandera() -> None:
    program = (
        "import sys\n"
        "from exp_pipeline.contracts.table_columns import TABLE_NAMES, column_docs, table_columns\n"
        "for name in TABLE_NAMES:\n"
        "    table_columns(name), column_docs(name)\n"
        "print([name for name in ('pandera', 'polars', 'pandas') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
