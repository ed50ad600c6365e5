"""The benchmark's own parts: its pinned catalog still loads, its promises are judged the right way round."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from bench import limits, report
from bench.peers import by_duckdb
from bench.peers.inputs import COLUMNS, Inputs, inputs
from bench.peers.results import compare
from bench.stages import opened, pinned_catalog
from bench.timing import Result, run_apart
from exp_pipeline.transform.measures import in_order

ROOT = Path(__file__).resolve().parents[1]


def _stage(name: str, cpu: float, **more: object) -> Result:
    return {"stage": name, "seconds": cpu, "cpu_seconds": cpu, "peak_mb": 500.0, "rows": 1_000, **more}


def test_the_pinned_catalog_loads_and_makes_a_limit_of_22_aggregates() -> None:
    """A change of the catalog's language must not stop the benchmark unnoticed."""
    catalog = pinned_catalog(28)
    over_events = in_order(catalog.measures.values(), "events")
    assert (len(over_events), len(catalog.measures)) == (19, 22)
    assert str(catalog.briefs["hint-ladder"].start) == "2026-03-03"
    assert "group by learner_key" in limits.limit_query(over_events, [Path("x.parquet")])


def test_a_promise_is_met_missed_or_not_measured() -> None:
    """Ratios go the right way: 30 x LIMIT misses, 0.5 of DuckDB's speed misses, what failed is not judged."""
    run: list[Result] = [
        _stage("limit", 1.0),
        _stage("events", 30.0),
        *(_stage(name, 0.4) for name in report.UNIT_DAYS_STAGES),
        _stage("ndjson", 2.0, duckdb_seconds=2.0, duckdb_cpu_seconds=1.0),
        {"stage": "verdicts", "failed": "stopped after 1 s"},
    ]
    found = {one.name: one for one in report.targets(report.Stages(run), None)}
    assert found["landed to events: CPU"].met is False
    assert found["events to unit-days: CPU"].value == pytest.approx(2.0)
    assert found["events to unit-days: CPU"].met is True
    assert found["NDJSON.gz parsing: CPU"].value == pytest.approx(0.5)
    assert found["NDJSON.gz parsing: CPU"].met is False
    assert found["NDJSON.gz parsing: wall"].met is True
    assert found["contract verdicts: CPU"].met is None
    slower = [{**one, "rows": 100} if one["stage"] == "events" else one for one in run]
    linear = report.targets(report.Stages(slower), report.Stages(run))[-2:]
    assert [one.value for one in linear] == pytest.approx([10.0, 10.0])
    assert not any(one.met for one in linear)


def test_a_stage_that_fails_or_takes_too_long_says_so() -> None:
    """A peer that is stopped is a row of the table, not the end of the run."""
    failed = run_apart(ROOT, ["--events", "10000", "--base", "10000"], "no-such-stage", 60)
    assert "there is no stage 'no-such-stage'" in str(failed["failed"])
    slow = run_apart(ROOT, ["--events", "10000", "--base", "10000"], "no-such-stage", 0.01)
    assert str(slow["failed"]).startswith("stopped after")


@pytest.fixture
def given(tmp_path: Path) -> Inputs:
    """A peer's inputs over one learner: three sessions of two, one and one events."""
    with opened(tmp_path, 28) as bench:
        made = inputs(bench, tmp_path / "peer")
    path = tmp_path / "events.parquet"
    rows = {
        "learner_key": "7::ubigint",
        "event_date": "moment::date",
        "occurred_at": "moment",
        "event_id": "moment::varchar",
    }
    rows |= {"objective_changed": "false", "device_handover": "false", "event_name": "'hint_requested'"}
    texts = {"learning_objective_id", "experiment", "unit_type", "severity"}
    flags = {"correct", "mastery", "answer_revealed", "grounded", "helpful"}
    for name in COLUMNS:
        kind = "varchar" if name in texts else "boolean" if name in flags else "bigint"
        rows.setdefault(name, f"null::{kind}")
    columns = ", ".join(f"{value} as {name}" for name, value in rows.items())
    moments = ("2026-03-05 23:50", "2026-03-06 00:20", "2026-03-06 00:51", "2026-03-07 12:00")
    listed = ", ".join(f"(timestamp '{moment}')" for moment in moments)
    duckdb.sql(f"copy (select {columns} from (values {listed}) as t(moment)) to '{path}'")
    by_duckdb.run(Inputs(**{**{name: getattr(made, name) for name in Inputs.__slots__}, "files": [path]}))
    return made


def test_a_peer_cuts_at_more_than_thirty_minutes_and_glues_over_midnight(given: Inputs) -> None:
    """Thirty minutes over midnight belong together, thirty-one do not."""
    with duckdb.connect() as connection:
        found = connection.execute(f"select n_events from '{given.sessions}' order by started_at").fetchall()
    assert found == [(2,), (1,), (1,)]


def test_a_comparison_sees_one_changed_session_and_one_missing_unit_day(
    given: Inputs, tmp_path: Path
) -> None:
    """Equal results compare as equal; one count more, or one row less, is found."""
    ours, units = tmp_path / "ours.parquet", tmp_path / "units.parquet"
    zeros = ", ".join(
        f"{'[]' if one.aggregate in ('distinct', 'values') else 0} as {one.name}"
        for one in (*given.measures, *given.session_measures)
    )
    duckdb.sql(f"copy (select * from '{given.sessions}') to '{ours}'")
    duckdb.sql(f"copy (select 7::ubigint as unit_key, date '2026-03-05' as event_date, {zeros}) to '{units}'")
    fields = {name: getattr(given, name) for name in Inputs.__slots__}
    same = Inputs(**{**fields, "our_sessions": [ours], "our_unit_days": [given.unit_days]})
    assert [compare(same)[f"{kind}_differ"] for kind in ("sessions", "unit_days")] == [0, 0]
    changed = f"select * replace (n_events + (n_events = 2)::int as n_events) from '{given.sessions}'"
    duckdb.sql(f"copy ({changed}) to '{ours}'")
    other = Inputs(**{**fields, "our_sessions": [ours], "our_unit_days": [units]})
    assert [compare(other)[f"{kind}_differ"] for kind in ("sessions", "unit_days")] == [1, 1]
