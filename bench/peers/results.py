"""Whether a peer found what we found: every session, every measure of every unit and day."""

from __future__ import annotations

import duckdb

from bench.limits import scan_of
from bench.peers.inputs import Inputs
from bench.timing import Result, lap, peak_mb
from exp_pipeline.model.metrics import Measure
from exp_pipeline.store.engine import quote

# Our sums are exact over values rounded to nine decimals, a peer's are sums of floats: ten values may differ
# by five units of the ninth decimal.
TOLERANCE = 1e-8


def compare(given: Inputs) -> Result:
    """Rows on both sides, and how many sessions and unit-days are missing or differ on either side."""
    with duckdb.connect() as connection, lap() as one:
        connection.execute("set memory_limit = '8GB'")
        sessions = _row(connection, _sessions(given))
        unit_days = _row(connection, _unit_days(given))
    return {
        "seconds": one.seconds,
        "cpu_seconds": one.cpu_seconds,
        "peak_mb": peak_mb(),
        "rows": sessions[0],
        "bytes": 0,
        "sessions": sessions[0],
        "sessions_differ": sessions[1],
        "unit_days": unit_days[0],
        "unit_days_differ": unit_days[1],
    }


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, int]:
    found = connection.execute(query).fetchone()
    if found is None:
        raise ValueError("a comparison gave no row")
    return int(found[0]), int(found[1])


def _sessions(given: Inputs) -> str:
    return f"""
        select count(o.learner_key), count(*) filter (
          where o.learner_key is null or t.learner_key is null
            or o.ended_at <> t.ended_at or o.n_events <> t.n_events or o.n_turns <> t.n_turns
        )
        from {scan_of(given.our_sessions)} as o
        full outer join {scan_of([given.sessions])} as t
          on o.learner_key = t.learner_key and o.started_at = t.started_at
    """


def _unit_days(given: Inputs) -> str:
    differs = " or ".join(_differs(measure) for measure in (*given.measures, *given.session_measures))
    return f"""
        select count(o.unit_key), count(*) filter (
          where o.unit_key is null or t.unit_key is null or {differs}
        )
        from {scan_of(given.our_unit_days)} as o
        full outer join {scan_of([given.unit_days])} as t
          on o.unit_key = t.unit_key and o.event_date = t.event_date
    """


def _differs(measure: Measure) -> str:
    ours, theirs = f"o.{quote(measure.name)}", f"t.{quote(measure.name)}"
    if measure.aggregate in ("distinct", "values"):
        return f"list_sort(coalesce({ours}, [])) is distinct from list_sort(coalesce({theirs}, []))"
    if measure.aggregate == "count":
        return f"coalesce({ours}, 0) <> coalesce({theirs}, 0)"
    return (
        f"abs(coalesce({ours}, 0) - coalesce({theirs}, 0)) "
        f"> {TOLERANCE} * greatest(1, abs(coalesce({ours}, 0)))"
    )
