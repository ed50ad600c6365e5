"""Textbook SQL on DuckDB: windows with lag and cumulative sums, then groups and joins."""

from __future__ import annotations

from pathlib import Path

import duckdb

from bench.limits import scan_of
from bench.peers.inputs import EXPERIMENT, Inputs
from bench.timing import memory_gib
from exp_pipeline.store.engine import text_literal
from exp_pipeline.transform.measures import over_rows


def run(given: Inputs) -> None:
    """Write sessions, then measures by unit and day."""
    with duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{int(memory_gib() * 0.6)}GiB'")
        connection.execute(f"set temp_directory = {text_literal(str(given.folder / 'spill'))}")
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"create view events as select * from {scan_of(given.files)}")
        text = (Path(__file__).parent / "textbook_sessions.sql").read_text(encoding="utf-8")
        connection.execute(
            f"copy ({text}) to {text_literal(str(given.sessions))} (format parquet, compression zstd)"
        )
        connection.execute(f"create view sessions as select * from {scan_of([given.sessions])}")
        target = text_literal(str(given.unit_days))
        connection.execute(f"copy ({unit_days(given)}) to {target} (format parquet, compression zstd)")


def unit_days(given: Inputs) -> str:
    """Events and sessions since each unit's first assignment, grouped by unit and day."""
    events = ", ".join(over_rows(one).sql(dialect="duckdb") for one in given.measures)
    sessions = ", ".join(
        over_rows(one)
        .sql(dialect="duckdb")
        .replace("(minutes)", "(epoch_us(ended_at - started_at) / 60000000.0)")
        for one in given.session_measures
    )
    names = ", ".join(one.name for one in (*given.measures, *given.session_measures))
    first, end = text_literal(str(given.first)), text_literal(str(given.end))
    return f"""
        with units as (
          select learner_key, min(occurred_at) as assigned_at
          from events
          where event_name = 'experiment_assigned' and experiment = {text_literal(EXPERIMENT)}
            and experiment_version = 1 and unit_type = 'learner'
            and occurred_at >= timestamp {first} and occurred_at < timestamp {end}
          group by learner_key
        ),
        over_events as (
          select e.learner_key, e.event_date, {events}
          from events as e inner join units as u
            on e.learner_key = u.learner_key and e.occurred_at >= u.assigned_at
          where e.occurred_at < timestamp {end}
          group by e.learner_key, e.event_date
        ),
        over_sessions as (
          select s.learner_key, s.event_date, {sessions}
          from sessions as s inner join units as u
            on s.learner_key = u.learner_key and s.event_date >= cast(u.assigned_at as date)
            and s.ended_at >= u.assigned_at
          where s.event_date < cast(timestamp {end} as date)
          group by s.learner_key, s.event_date
        )
        select coalesce(e.learner_key, s.learner_key) as unit_key,
          coalesce(e.event_date, s.event_date) as event_date, {names}
        from over_events as e
        full outer join over_sessions as s on e.learner_key = s.learner_key and e.event_date = s.event_date
    """
