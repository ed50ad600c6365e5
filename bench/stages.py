"""What each stage of the benchmark runs, in the process it has to itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb

from bench import data, limits
from bench.timing import Lap, Result, lap, median_lap, peak_mb
from exp_pipeline.catalog import Catalog
from exp_pipeline.model.sources import Source
from exp_pipeline.simulate.plans import bench_plan
from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.behaviour import facts, sessions
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, day_of, event_day, received_day
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.engine import text_literal
from exp_pipeline.store.files import digest_of_file
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import LandingFile, received_days

CATALOG = Path(__file__).parent / "catalog"
LIMIT_RUNS, OTHER_RUNS = 5, 3


@dataclass(frozen=True, slots=True)
class Run:
    """What is measured: the home with the data, over how many days, and with how many rows to parse."""

    home: Path
    days: int
    ndjson_rows: int = 1_000_000


def pinned_catalog(days: int) -> Catalog:
    """The benchmark's own catalog, its brief moved to the simulated days. Raises SpecError where it broke."""
    catalog = open_catalog(CATALOG, strict=True)
    simulated = bench_plan(days=days).experiments[0]
    brief = catalog.briefs[simulated.name].model_copy(update={"start": simulated.start, "end": simulated.end})
    return replace(catalog, briefs={simulated.name: brief})


@contextmanager
def opened(home: Path, days: int) -> Iterator[Workbench]:
    """A workbench over a home, with the pinned catalog."""
    with (
        duckdb.connect() as connection,
        workbench(
            Home(home),
            connection,
            run_id="bench",
            environment={"EXP_HMAC_KEY": data.SECRET},
            catalog=pinned_catalog(days),
        ) as bench,
    ):
        yield bench


def planned(days: int) -> Window:
    """The simulated days. A few rows lie on days beside them, by wrong clocks."""
    plan = bench_plan(days=days)
    return Window.of(plan.day(0), plan.day(days - 1))


Step = Callable[[Workbench, Window], list[Written]]
TO_UNIT_DAYS: dict[str, Step] = {
    "learner_days": behaviour.build_learner_days,
    "sessions": sessions.build_sessions,
    "assignments": exposure.build_assignments,
    "exposures": exposure.build_exposures,
    "unit_days": facts.build_unit_days,
}
CHAIN: dict[str, Step] = {
    "landed": lambda bench, _: landing.land_days(bench, received_days(bench.home.landing)),
    "events": ingest.conform,
    **TO_UNIT_DAYS,
    "enrollments": lambda bench, _: exposure.build_enrollments(bench),
    "turns": behaviour.build_turns,
}


def run_step(name: str, run: Run) -> Result:
    """One step of the chain over all days."""
    with opened(run.home, run.days) as bench:
        with lap() as one:
            written = CHAIN[name](bench, planned(run.days))
        own = [part for part in written if part.table == name]
    return {**_costs(one), "rows": sum(part.rows for part in own), "bytes": sum(part.bytes for part in own)}


def _costs(one: Lap) -> Result:
    return {"seconds": one.seconds, "cpu_seconds": one.cpu_seconds, "peak_mb": peak_mb()}


def limit(run: Run) -> Result:
    """LIMIT over the events as they were written; median of five."""
    with opened(run.home, run.days) as bench:
        manifests = bench.lake.manifests("events", bench.lake.partitions("events"))
        query = limits.limit_query(behaviour.event_measures(bench), bench.lake.paths(manifests))
        one = median_lap(lambda: bench.engine.connection.execute(query).fetchall(), LIMIT_RUNS)
        rows = sum(manifest.rows for manifest in manifests)
    return {**_costs(one), "rows": rows, "bytes": 0}


def verdicts(run: Run) -> Result:
    """Contract verdicts on all landed rows, beside a scan that decodes the columns they read."""
    with opened(run.home, run.days) as bench:
        manifests = bench.lake.manifests("landed", bench.lake.partitions("landed"))
        paths = bench.lake.paths(manifests)
        connection, columns = bench.engine.connection, limits.verdict_columns()
        asked, scanned = limits.verdict_query(paths), limits.decoding_query(paths, columns)
        found = connection.execute(asked).fetchall()
        rows = sum(manifest.rows for manifest in manifests)
        judged = sum(count for _, count in found)
        if judged != rows:
            raise ValueError(f"{judged} verdicts on {rows} rows")
        own = median_lap(lambda: connection.execute(asked).fetchall(), OTHER_RUNS)
        scan = median_lap(lambda: connection.execute(scanned).fetchall(), OTHER_RUNS)
    return {
        **_costs(own),
        "rows": rows,
        "bytes": 0,
        "scan_seconds": scan.seconds,
        "scan_cpu_seconds": scan.cpu_seconds,
        "columns": len(columns),
        "refused": sum(count for reason, count in found if reason is not None),
    }


def ndjson(run: Run) -> Result:
    """NDJSON.gz to typed columns by the door's reading, beside DuckDB's typed `read_json` of that file."""
    received = planned(run.days).first
    path = run.home / "ndjson" / received_day(received) / "events.ndjson.gz"
    rows = data.write_ndjson(run.home, path, run.ndjson_rows)
    with opened(run.home, run.days) as bench:
        source = next(one for one in bench.catalog.sources if one.format == "ndjson")
        file = LandingFile(path, path.name, received, digest_of_file(path))
        connection = bench.engine.connection
        plain = _typed_read_json(bench, path)

        def by_duckdb() -> None:
            connection.execute(f"create or replace temp table by_duckdb as {plain}")

        by_duckdb()
        connection.execute("drop table by_duckdb")
        theirs = median_lap(by_duckdb, OTHER_RUNS)
        there = connection.execute(
            "select count(*), count(occurred), sum(latency_ms) from by_duckdb"
        ).fetchone()
        connection.execute("drop table by_duckdb")
        raw = median_lap(lambda: _read_only(bench, source, file), OTHER_RUNS)
        told: list[tuple[object, ...]] = []
        own = median_lap(lambda: told.append(_through_our_reading(bench, source, file)), OTHER_RUNS)
    if there != told[-1]:
        raise ValueError(f"the two readings differ: {told[-1]} and {there}")
    return {
        **_costs(own),
        "rows": rows,
        "bytes": 0,
        "file_bytes": path.stat().st_size,
        "raw_seconds": raw.seconds,
        "raw_cpu_seconds": raw.cpu_seconds,
        "duckdb_seconds": theirs.seconds,
        "duckdb_cpu_seconds": theirs.cpu_seconds,
    }


def _typed_read_json(bench: Workbench, path: Path) -> str:
    """DuckDB's own reading into the contract's types."""
    shape = bench.shape()
    kinds = {**shape.types, **{one.text: "VARCHAR" for one in shape.reductions}}
    columns = ", ".join(f"{text_literal(name)}: {text_literal(kind)}" for name, kind in kinds.items())
    return (
        f"select *, client_ts as occurred from read_json({text_literal(str(path))}, columns = {{{columns}}}, "
        "format = 'newline_delimited', compression = 'gzip')"
    )


def _read_only(bench: Workbench, source: Source, file: LandingFile) -> int:
    """The door's reading up to texts by column, not typed yet; returns rows."""
    return sum(landing.raw_batches(bench, file, source))


def _through_our_reading(bench: Workbench, source: Source, file: LandingFile) -> tuple[object, ...]:
    """The door's reading up to typed columns, as `landing.land` does it; rows, times and a sum to compare."""
    from exp_pipeline.steps.ingest.door_rows import offer_typed
    from exp_pipeline.steps.ingest.raw_batches import raw_batches

    rows = times = 0
    total = 0.0
    for batch in raw_batches(bench, source, (file,), typed=True):
        offer_typed(bench, source, batch, keep=False)
        counted = bench.engine.row("select count(*), count(client_ts), sum(latency_ms) from typed")
        rows, times, total = rows + counted[0], times + counted[1], total + counted[2]
        bench.engine.drop("typed")
    return rows, times, total


def one_day(run: Run) -> Result:
    """One more day: the busiest of the last week alone, over a lake that ends the day before it."""
    lake = Home(run.home).lake
    with opened(run.home, run.days) as bench:
        window = planned(run.days)
        last_week = [window.end - DAY * back for back in range(7, 0, -1)]
        sizes = {day: _rows_of(bench, day) for day in last_week}
        day = max(last_week, key=lambda one: sizes[one])
        whole = sum(_rows_of(bench, one) for one in window.days())
    home = run.home / "one-day"
    shutil.rmtree(home, ignore_errors=True)
    _link_lake(lake, home / "lake", day)
    steps: dict[str, Result] = {}
    with opened(home, run.days) as bench:
        for name in ("events", *TO_UNIT_DAYS):
            with lap() as one:
                written = CHAIN[name](bench, Window.of(day, day))
            rows = sum(part.rows for part in written if part.table == name)
            steps[name] = {"seconds": one.seconds, "cpu_seconds": one.cpu_seconds, "rows": rows}
    shutil.rmtree(home)
    return {
        "seconds": sum(_number(one["seconds"]) for one in steps.values()),
        "cpu_seconds": sum(_number(one["cpu_seconds"]) for one in steps.values()),
        "peak_mb": peak_mb(),
        "rows": steps["unit_days"]["rows"],
        "bytes": 0,
        "day": day.isoformat(),
        "share_of_events": sizes[day] / whole,
        "steps": steps,
    }


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _rows_of(bench: Workbench, day: date) -> int:
    manifest = bench.lake.manifest("events", event_day(day))
    return 0 if manifest is None else manifest.rows


def _link_lake(lake: Path, target: Path, day: date) -> None:
    """A lake as it was before a day's steps: what had landed by then, and the tables of the days before."""
    for table in ("landed", "events", "quarantine", "exclusions", *TO_UNIT_DAYS, "enrollments"):
        (target / table).mkdir(parents=True)
        for partition in sorted((lake / table).iterdir()) if (lake / table).is_dir() else ():
            dated = not partition.name.startswith("scope=")
            if dated and (
                day_of(partition.name) > day or (table != "landed" and day_of(partition.name) == day)
            ):
                continue
            (target / table / partition.name).symlink_to(partition)


def prepare(run: Run, base: Path, events: int, copies: int) -> Result:
    """Events of this size: simulated, or copied from the base."""
    with lap() as one:
        if copies == 1:
            rows, size = data.simulate(run.home, events, run.days), 0
        else:
            rows, size = data.copy_landed(base, run.home, copies)
    return {**_costs(one), "rows": rows, "bytes": size}


def stage(name: str, run: Run, base: Path, events: int, copies: int) -> Result:
    """Run a stage by its name, in this process. Raises ValueError for an unknown one."""
    from bench import peers
    from bench.timing import bound_memory

    if name == "prepare":
        return prepare(run, base, events, copies)
    alone: dict[str, Callable[[Run], Result]] = {
        "limit": limit,
        "verdicts": verdicts,
        "ndjson": ndjson,
        "one_day": one_day,
    }
    if name in alone:
        return alone[name](run)
    if name in CHAIN:
        return run_step(name, run)
    kind, _, peer = name.partition(":")
    if kind in ("peer", "compare") and peer in peers.PEERS:
        with opened(run.home, run.days) as bench:
            given = peers.inputs(bench, run.home / "peers" / peer)
        if kind == "compare":
            return peers.compare(given)
        if peer != "duckdb":
            bound_memory(peers.MEMORY_SHARE)
        with lap() as one:
            peers.PEERS[peer](given)
        return {**_costs(one), "rows": 0, "bytes": 0}
    raise ValueError(f"there is no stage {name!r}")
