"""A home in a temporary folder, a workbench over it, and rows as if they had come through the door."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.steps.again.catch_up import catch_up
from exp_pipeline.steps.context import Workbench, door_shape, event_day, received_day
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.experiments.readouts import write_memo
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.engine import quote
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import NewFile
from exp_pipeline.transform.door import landed_columns
from exp_pipeline_tests.shared_worlds import shared_folder
from exp_pipeline_tests.steps import late_worlds as late

SECRET = "a-key-for-tests-only-0123456789"
CATALOG = Path(__file__).parents[2] / "data" / "catalog"
Opened = Callable[[str], Workbench]


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The shipped catalog, read once."""
    return open_catalog(CATALOG, strict=True)


@pytest.fixture
def opened(tmp_path: Path, catalog: Catalog) -> Iterator[Opened]:
    """Opens a workbench over a fresh home of a given name, with the shipped catalog, on one thread."""
    with ExitStack() as stack:

        def open_home(name: str) -> Workbench:
            home = Home(tmp_path / name)
            home.landing.mkdir(parents=True, exist_ok=True)
            connection = stack.enter_context(duckdb.connect())
            return stack.enter_context(
                workbench(
                    home,
                    connection,
                    run_id="test",
                    environment={"EXP_HMAC_KEY": SECRET},
                    catalog=catalog,
                    threads=1,
                )
            )

        yield open_home


@pytest.fixture
def bench(opened: Opened) -> Workbench:
    return opened("home")


@pytest.fixture(scope="session")
def late_files(tmp_path_factory: pytest.TempPathFactory) -> late.Files:
    """A log in many small files (`late_worlds`)."""
    return late.log_files(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, late_files: late.Files) -> Path:
    """A home over that log with every day made and its experiment read out; to be copied, not changed."""

    def make(folder: Path) -> None:
        with (
            duckdb.connect() as connection,
            workbench(
                Home(folder), connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET},
                catalog=late.late_catalog(catalog), threads=1,
            ) as bench,
        ):  # fmt: skip
            late.put(bench, {name: content for name, content in late_files.items() if "/part-" in name})
            catch_up(bench)
            take_snapshot(bench, late.NAME)
            write_memo(bench, late.NAME)

    return shared_folder(tmp_path_factory, "read-out-home", make)


@pytest.fixture
def read_out(opened: Opened, made_once: Path, tmp_path: Path, catalog: Catalog) -> Workbench:
    """A copy of the home that is read out (`made_once`)."""
    shutil.copytree(made_once, tmp_path / "home")
    return replace(opened("home"), catalog=late.late_catalog(catalog))


@pytest.fixture
def emptied(bench: Workbench) -> Callable[[], Workbench]:
    """Gives the workbench with nothing in its lake, for tests that draw many examples."""

    def empty() -> Workbench:
        shutil.rmtree(bench.home.lake, ignore_errors=True)
        return bench

    return empty


def with_catalog(bench: Workbench, **changes: object) -> Workbench:
    """The workbench with parts of its catalog replaced."""
    return replace(bench, catalog=replace(bench.catalog, **changes))  # type: ignore[arg-type]


def lake_bytes(home: Home) -> dict[str, bytes]:
    """Every file of the lake by its path, manifests and leftovers of earlier contents included."""
    return {
        path.relative_to(home.lake).as_posix(): path.read_bytes()
        for path in sorted(home.lake.rglob("*"))
        if path.is_file()
    }


def digests(bench: Workbench, table: str) -> dict[str, str]:
    """The content digest of each partition of a table."""
    return {
        one.partition: one.content_digest for one in bench.lake.manifests(table, bench.lake.partitions(table))
    }


def rows_of(bench: Workbench, table: str, columns: str = "*", order: str = "all") -> list[tuple[object, ...]]:
    """All rows of a table of the lake, read through its manifests."""
    bench.read("rows_of", table, bench.lake.manifests(table, bench.lake.partitions(table)))
    return bench.engine.connection.execute(f"select {columns} from rows_of order by {order}").fetchall()


def commit_rows(
    bench: Workbench, table: str, partition: str, tagged: Mapping[str, Sequence[Mapping[str, object]]]
) -> None:
    """Write rows (missing columns null) as one partition with one file for each tag."""
    from exp_pipeline.contracts.table_columns import table_columns

    columns = landed_columns(door_shape()) if table == "landed" else table_columns(table)
    files = []
    for tag, rows in sorted(tagged.items()):
        used = [name for name in columns if any(row.get(name) is not None for row in rows)] or [
            next(iter(columns))
        ]
        frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in used})
        bench.engine.offer_frame("rows_to_commit", frame)
        listed = ", ".join(
            f"{quote(name) if name in used else 'null'}::{kind} as {quote(name)}"
            for name, kind in columns.items()
        )
        path = bench.lake.staging(table, partition)
        files.append(NewFile(path, tag, bench.engine.write(f"select {listed} from rows_to_commit", path)))
    bench.lake.commit(table, partition, files, schema_version=bench.schema_version(table), run_id="test")


def landed_row(number: int, at: datetime, learner: int, **more: object) -> dict[str, object]:
    """One landed row as the door leaves it: a hint that arrived in time, unless told otherwise."""
    arrived = more.pop("received", at.date())
    row: dict[str, object] = {
        "source": "canonical",
        "file": "f1",
        "row_number": number,
        "part": 1,
        "received_date": arrived,
        "arrived_date": arrived,
        "event_date": at.date(),
        "key_id": "k1",
        "learner_key": learner,
        "learner_id": f"{learner:032x}",
        "occurred_at": at,
        "clock_skewed": False,
        "event_id": f"event-{number}",
        "event_name": "hint_requested",
        "schema_version": "1.0",
        "client_ts": at,
        "received_at": at,
        "role": "student",
        "platform": "web",
        "app_version": "1.0",
    }
    return {**row, **more}


def land_rows(bench: Workbench, rows: Sequence[Mapping[str, object]]) -> None:
    """Write landed rows as the partitions of their received days, sliced by event day."""
    by_received: dict[date, dict[str, list[Mapping[str, object]]]] = {}
    for row in rows:
        received, day = row["received_date"], row["event_date"]
        assert isinstance(received, date)
        assert isinstance(day, date)
        by_received.setdefault(received, {}).setdefault(day.isoformat(), []).append(row)
    for received, tagged in by_received.items():
        commit_rows(bench, "landed", received_day(received), tagged)


def commit_events(bench: Workbench, days: Mapping[date, Sequence[Mapping[str, object]]]) -> None:
    """Write events of days as ingest would: in order, one file a day."""
    for day, rows in days.items():
        commit_rows(bench, "events", event_day(day), {"bucket-00-of-01": rows})
