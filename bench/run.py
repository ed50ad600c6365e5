"""How fast is the chain? Seconds, CPU seconds and peak memory of each stage, as multiples of one scan.

Run from the project folder: `.venv/bin/python bench/run.py [--events 10000000] [--days 28] [--quick]`.
Simulated events are landed once as Parquet in a folder outside the repository and kept for later runs; each
stage is then measured in a process of its own. The table goes to bench/results/, as Markdown and JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exp_pipeline.catalog import Catalog

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
SECRET = "simulated-data-only-not-a-secret"
LIMIT_RUNS = 5
# What each stage adds to, in the order in which the chain needs them.
TO_EVENTS, TO_UNIT_DAYS, BESIDE = "landed to events", "events to unit-days", "beside"
STAGES = {
    "landed": "files to landed",
    "events": TO_EVENTS,
    "limit": "limit",
    "bouts": TO_UNIT_DAYS,
    "sessions": TO_UNIT_DAYS,
    "enrollments": BESIDE,
    "assignments": BESIDE,
    "exposures": BESIDE,
    "unit_days": TO_UNIT_DAYS,
    "turns": BESIDE,
}


def limit_query(measures: object) -> str:
    """One scan with a hash group to learner and 22 plain aggregates, all of them consumed by an outer sum.

    The columns read are those that the catalog's measures read, with learner, time and event name. Nothing is
    cut, deduplicated, sorted or written: no chain over these columns can be faster than this.
    """
    from sqlglot import exp

    from exp_pipeline.model.metrics import Measure
    from exp_pipeline.transform.measures import event_codes, over_rows
    from exp_pipeline.transform.queries import with_codes

    assert isinstance(measures, tuple)
    codes = event_codes(measures)
    columns = []
    for measure in measures:
        plain = measure
        if measure.aggregate == "values":
            plain = Measure.model_validate({**measure.model_dump(), "aggregate": "max"})
        if measure.aggregate == "distinct":
            text = f"length({measure.of})"
            plain = Measure.model_validate({**measure.model_dump(), "aggregate": "max", "of": text})
        columns.append(over_rows(plain, codes).sql(dialect="duckdb"))
    columns += ["count(*) as n_events", "min(occurred_at) as first_at", "max(occurred_at) as last_at"]
    code = with_codes(exp.Anonymous(this="event_code"), codes).sql(dialect="duckdb")
    names = [*(measure.name for measure in measures), "n_events", "epoch_us(first_at)", "epoch_us(last_at)"]
    consumed = " + ".join(f"coalesce(sum(cast({name} as double)), 0)" for name in names)
    return (
        f"select {consumed}, count(*) from (select learner_key, {', '.join(columns)} "
        f"from (select *, {code} as event_code from events) group by learner_key)"
    )


def matching(catalog: Catalog, days: int) -> Catalog:
    """The shipped catalog, its brief of the simulated experiment moved to the simulated days."""
    from exp_pipeline.simulate.plans import bench_plan

    simulated = bench_plan(days=days).experiments[0]
    brief = catalog.briefs[simulated.name].model_copy(update={"start": simulated.start, "end": simulated.end})
    return replace(catalog, briefs={simulated.name: brief})


def run_stage(stage: str, home_folder: Path) -> dict[str, object]:
    """Measure one stage in this process."""
    sys.path.insert(0, str(ROOT))
    import duckdb

    from exp_pipeline.steps import behaviour, exposure, facts, ingest, landing
    from exp_pipeline.steps.context import Window, Workbench, Written, day_of
    from exp_pipeline.steps.opening import open_catalog, workbench
    from exp_pipeline.store.home import Home
    from exp_pipeline.store.landing import received_days

    home = Home(home_folder)

    def event_window(bench: Workbench) -> Window:
        days = [day_of(name) for name in bench.lake.partitions("events")]
        return Window.of(days[0], days[-1])

    def limit(bench: Workbench) -> list[Written]:
        bench.read_days("events", "events", event_window(bench))
        query = limit_query(behaviour.event_measures(bench))
        for _ in range(LIMIT_RUNS):
            begun, cpu = time.monotonic(), cpu_seconds()
            bench.engine.connection.execute(query).fetchall()
            laps.append((time.monotonic() - begun, cpu_seconds() - cpu))
        return []

    def conform(bench: Workbench) -> list[Written]:
        tags = {
            file.tag
            for one in bench.lake.manifests("landed", bench.lake.partitions("landed"))
            for file in one.files
        }
        # The last days hold only what strayed; the window ends with the plan's last day.
        days = sorted(tags)[: int(home.root.name.split("-")[1])]
        return ingest.conform(
            bench, Window.of(datetime.fromisoformat(days[0]).date(), datetime.fromisoformat(days[-1]).date())
        )

    steps: dict[str, Callable[[Workbench], list[Written]]] = {
        "landed": lambda bench: landing.land_days(bench, received_days(home.landing)),
        "events": conform,
        "limit": limit,
        "bouts": lambda bench: behaviour.build_bouts(bench, event_window(bench)),
        "sessions": lambda bench: behaviour.build_sessions(bench, event_window(bench)),
        "enrollments": exposure.build_enrollments,
        "assignments": lambda bench: exposure.build_assignments(bench, event_window(bench)),
        "exposures": lambda bench: exposure.build_exposures(bench, event_window(bench)),
        "unit_days": lambda bench: facts.build_unit_days(bench, event_window(bench)),
        "turns": lambda bench: behaviour.build_turns(bench, event_window(bench)),
    }
    laps: list[tuple[float, float]] = []
    catalog = matching(open_catalog(ROOT / "data" / "catalog"), int(home.root.name.split("-")[1]))
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="bench", environment={"EXP_HMAC_KEY": SECRET}, catalog=catalog
        ) as bench,
    ):
        before = cpu_seconds()
        started = time.monotonic()
        written = steps[stage](bench)
        seconds, cpu = time.monotonic() - started, cpu_seconds() - before
        if laps:
            seconds, cpu = (
                statistics.median(lap[0] for lap in laps),
                statistics.median(lap[1] for lap in laps),
            )
    return {
        "stage": stage,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": sum(one.rows for one in written if one.table == stage),
        "bytes": sum(one.bytes for one in written if one.table == stage),
    }


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def prepare(folder: Path, events: int, days: int) -> None:
    """Land the simulated events, unless an earlier run did."""
    done = folder / "landing" / ".complete"
    if done.is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    sys.path.insert(0, str(ROOT))
    from exp_pipeline.simulate.landing import write_landing
    from exp_pipeline.simulate.plans import bench_plan

    print(f"Landing {events:,} simulated events over {days} days in {folder} (once)", flush=True)
    files = write_landing(bench_plan(events, days), folder / "landing", format="parquet")
    done.write_text(f"{sum(file.rows for file in files)}\n", encoding="utf-8")


def measured(stage: str, folder: Path) -> dict[str, object]:
    """Run one stage in a process of its own and return what it reports."""
    load = os.getloadavg()[0]
    command = [sys.executable, str(Path(__file__)), "--stage", stage, "--folder", str(folder)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, object] = json.loads(finished.stdout.splitlines()[-1])
    return {**result, "load_before": load}


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    from importlib.metadata import version

    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = named[0] if named else platform.processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory_gib": round(memory, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("duckdb", "polars", "sqlglot")},
    }


def number(result: dict[str, object], name: str) -> float:
    """A measured number of a stage."""
    value = result[name]
    assert isinstance(value, int | float)
    return float(value)


def table(facts: dict[str, object], results: list[dict[str, object]]) -> str:
    """The results as Markdown."""
    limit = next(one for one in results if one["stage"] == "limit")
    wall, cpu = number(limit, "seconds"), number(limit, "cpu_seconds")
    loads = [number(one, "load_before") for one in results]
    lines = [
        f"# {facts['events']:,} simulated events over {facts['days']} days",
        "",
        f"{facts['date']}; {facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB; "
        f"Python {facts['python']}, DuckDB {facts['duckdb']}, polars {facts['polars']}. "
        f"One-minute load before the stages: {min(loads):.1f} to {max(loads):.1f} "
        "(other work on the machine makes seconds longer, CPU seconds hardly).",
        "",
        "LIMIT is one DuckDB scan of the events' columns that the catalog's measures read, with a hash group "
        "to learner and 22 aggregates, nothing written: "
        f"{wall:.2f} s, {cpu:.2f} CPU s (median of {LIMIT_RUNS}).",
        "",
        "| part | stage | seconds | of LIMIT | CPU s | of LIMIT | peak MB | rows | MB written |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]

    def row(part: str, stage: str, ones: list[dict[str, object]]) -> str:
        seconds, used = (
            sum(number(one, "seconds") for one in ones),
            sum(number(one, "cpu_seconds") for one in ones),
        )
        peak, last = max(number(one, "peak_mb") for one in ones), ones[-1]
        return (
            f"| {part} | {stage} | {seconds:.2f} | {seconds / wall:.1f} | {used:.2f} | {used / cpu:.1f} "
            f"| {peak:,.0f} | {number(last, 'rows'):,.0f} | {number(last, 'bytes') / 1e6:,.0f} |"
        )

    for one in results:
        lines.append(row(STAGES[str(one["stage"])], f"`{one['stage']}`", [one]))
    for part in (TO_EVENTS, TO_UNIT_DAYS):
        lines.append(
            row(f"**{part}**", "**together**", [one for one in results if STAGES[str(one["stage"])] == part])
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every stage and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000_000, help="how many events, about (10 million)")
    parser.add_argument("--days", type=int, default=28, help="over how many days (28)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events, and no table is written")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=tuple(STAGES),
        help="measure these stages over an earlier run's lake; no table",
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=tuple(STAGES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(run_stage(given.stage, given.folder)))
        return
    events = given.events // 10 if given.quick else given.events
    folder = given.folder or Path(tempfile.gettempdir()) / "exp-bench" / f"{events}-{given.days}"
    prepare(folder, events, given.days)
    if not given.only:
        shutil.rmtree(folder / "lake", ignore_errors=True)
    results = []
    for stage in given.only or STAGES:
        one = measured(stage, folder)
        results.append(one)
        print(
            f"{stage:12} {number(one, 'seconds'):8.2f} s {number(one, 'cpu_seconds'):8.2f} CPU s "
            f"{number(one, 'peak_mb'):7,.0f} MB",
            flush=True,
        )
    if given.only:
        return
    facts = {**machine(), "events": events, "days": given.days}
    text = table(facts, results)
    print("\n" + text)
    if not given.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        name = f"{events // 1_000_000}m-{given.days}d" if events >= 1_000_000 else f"{events}-{given.days}d"
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
        (RESULTS / f"{name}.json").write_text(
            json.dumps({"machine": facts, "stages": results}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
