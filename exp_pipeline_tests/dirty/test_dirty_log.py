"""A log with every kind of dirt, day by day and in any order: every row has the fate that its key says."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pytest

from exp_pipeline.model.policies import ExclusionPolicy, Policies, TimePolicy
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Window, Workbench, event_day
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land, land_days
from exp_pipeline.steps.opening import open_catalog, workbench
from exp_pipeline.store.home import Home
from exp_pipeline_tests.dirty import foreign, json_files, key, tables
from exp_pipeline_tests.dirty.key import DAYS, Cell, Planting
from exp_pipeline_tests.steps.conftest import SECRET, digests, rows_of

CANONICAL = (
    {"name": "clean-json", "files": "received_date=*/json/*", "format": "ndjson", "identity": True},
    {"name": "clean-csv", "files": "received_date=*/csv/*", "format": "csv", "identity": True},
    {"name": "clean-table", "files": "received_date=*/table/*", "format": "parquet", "identity": True},
)
POLICIES = Policies(
    time=TimePolicy(lateness_days=key.LATENESS_DAYS),
    exclusion=ExclusionPolicy(
        user_agent_contains=("bot",), superhuman_events_per_minute=key.EVENTS_PER_MINUTE
    ),
    landing_line_limit_bytes=key.LINE_LIMIT,
)


def planted(root: Path, seed: int) -> Planting:
    planting = Planting(root, random.Random(seed))
    json_files.plant(planting)
    tables.plant(planting)
    foreign.plant(planting)
    return planting


@contextmanager
def opened(home: Home, threads: int = 2) -> Iterator[Workbench]:
    home.catalog.mkdir(parents=True, exist_ok=True)
    catalog = open_catalog(home.catalog)
    sources = tuple(Source.model_validate(one) for one in (*CANONICAL, *foreign.SOURCES))
    catalog = replace(catalog, sources=sources, policies=POLICIES)
    with (
        duckdb.connect() as connection,
        workbench(
            home,
            connection,
            run_id="test",
            environment={"EXP_HMAC_KEY": SECRET},
            catalog=catalog,
            threads=threads,
        ) as bench,
    ):
        yield bench


def event_days(bench: Workbench) -> list[date]:
    manifests = bench.lake.manifests("landed", bench.lake.partitions("landed"))
    return sorted({date.fromisoformat(file.tag) for manifest in manifests for file in manifest.files})


def found_cells(bench: Workbench) -> Counter[Cell]:
    """What the pipeline says became of the rows, by day, source, fate and reason: from the tables' rows.

    Retries are rows of no table; they are counted by the day's manifest only.
    """
    cells: Counter[Cell] = Counter()
    for table, fate, reason in (
        ("events", key.KEPT, "''"),
        ("quarantine", key.QUARANTINED, "reason"),
        ("exclusions", key.EXCLUDED, "reason"),
    ):
        for row in rows_of(bench, table, f"event_date, source, {reason}"):
            cells[row[0], row[1], fate, row[2]] += 1  # type: ignore[index]
    for day in event_days(bench):
        for source, counts in facts_of(bench, day).items():
            for name, rows in counts.items():
                if name.startswith("retry:"):
                    cells[day, source, key.RETRY, name.removeprefix("retry:")] += rows
    return cells


def facts_of(bench: Workbench, day: date) -> dict[str, dict[str, int]]:
    manifest = bench.lake.manifest("events", event_day(day))
    assert manifest is not None
    by_source = manifest.facts["by_source"]
    assert isinstance(by_source, dict)
    return by_source


def differences(found: Counter[Cell], wanted: Counter[Cell]) -> list[str]:
    return [
        f"{day} {source} {fate} {reason or '-'}: {found[day, source, fate, reason]} found, {rows} planted"
        for (day, source, fate, reason), rows in sorted((found | wanted).items())
        for rows in [wanted[day, source, fate, reason]]
        if found[day, source, fate, reason] != rows
    ]


@pytest.fixture(scope="module")
def planting(tmp_path_factory: pytest.TempPathFactory) -> Planting:
    return planted(tmp_path_factory.mktemp("dirty") / "landing", seed=20260302)


@pytest.fixture(scope="module")
def run(planting: Planting) -> Iterator[Workbench]:
    """All days landed and settled in order."""
    with opened(Home(planting.root.parent)) as bench:
        land_days(bench, DAYS)
        days = event_days(bench)
        conform(bench, Window.of(days[0], days[-1]))
        yield bench


def test_every_row_has_the_fate_that_the_key_says(run: Workbench, planting: Planting) -> None:
    assert differences(found_cells(run), planting.cells) == []


def test_the_conservation_law_holds_on_every_day_for_every_source(run: Workbench) -> None:
    judged = 0
    for day in event_days(run):
        run.read("landed_here", "landed", run.lake.manifests("landed", run.lake.partitions("landed")))
        read = dict(
            run.engine.connection.execute(
                "select source, count(*) from landed_here where event_date = $day group by source",
                {"day": day},
            ).fetchall()
        )
        facts = facts_of(run, day)
        assert set(read) == set(facts)
        for source, counts in facts.items():
            fates = [counts[name] for name in ("kept", "retry", "quarantined", "excluded")]
            assert read[source] == counts["landed"] == sum(fates), (day, source, counts)
            judged += 1
    assert judged > 50


def test_raw_rows_are_those_of_the_files(run: Workbench, planting: Planting) -> None:
    """A raw row that became several events counts once; nothing that was planted as no row counts at all."""
    landed = run.lake.manifests("landed", run.lake.partitions("landed"))
    assert sum(manifest.rows for manifest in landed) == planting.cells.total()
    assert all(manifest.facts["files_unreadable"] for manifest in landed)


def test_another_person_for_every_id(run: Workbench, planting: Planting) -> None:
    """Ids that differ by case, blanks or form of their accents are different people, and all are found."""
    import hmac

    wanted = {hmac.new(SECRET.encode(), one.encode(), "sha256").hexdigest()[:32] for one in planting.people}
    assert len(wanted) == len(planting.people) > 50
    assert wanted <= {row[0] for row in rows_of(run, "events", "distinct learner_id")}


def test_quarantined_rows_are_found_again_in_their_files(run: Workbench, planting: Planting) -> None:
    """File and byte offset lead to the line that was refused."""
    plain = {}
    for manifest in run.lake.manifests("landed", run.lake.partitions("landed")):
        files = manifest.facts["files"]
        assert isinstance(files, list)
        for file in files:
            if Path(file["name"]).suffix == ".ndjson" and "/json/all-" in file["name"]:
                plain[file["digest"][:16]] = (planting.root / file["name"]).read_bytes()
    looked = 0
    for file, row, offset, reason in rows_of(run, "quarantine", "file, row_number, byte_offset, reason"):
        if file in plain:
            text = plain[str(file)]
            assert text[:offset].count(b"\n") == int(str(row)) - 1
            line = text[int(str(offset)) : text.index(b"\n", int(str(offset)))]
            if reason == "not_utf8":
                with pytest.raises(UnicodeDecodeError):
                    line.decode()
            if reason == "line_too_long":
                assert len(line) > key.LINE_LIMIT
            looked += 1
    assert looked > 300


@pytest.mark.parametrize("seed", [1])
def test_days_in_any_order_give_the_same_partitions(
    run: Workbench, planting: Planting, tmp_path: Path, seed: int
) -> None:
    home = Home(tmp_path / "again")
    home.root.mkdir()
    os.symlink(planting.root, home.landing)
    with opened(home, threads=1) as bench:
        for day in DAYS:
            land(bench, day)
        days = event_days(bench)
        random.Random(seed).shuffle(days)
        settle(bench, days)
        for table in ("landed", "events", "quarantine", "exclusions"):
            own, all_at_once = digests(bench, table), digests(run, table)
            # One window over all days also writes days on which nothing happened.
            assert own == {name: digest for name, digest in all_at_once.items() if name in own}, table
            assert len(own) >= len(DAYS)


def settle(bench: Workbench, days: Sequence[date]) -> None:
    for day in days:
        conform(bench, Window.of(day, day))


def test_landing_again_changes_nothing(run: Workbench) -> None:
    before = digests(run, "landed")
    land_days(run, DAYS[2:3])
    assert digests(run, "landed") == before


def test_the_log_holds_every_kind_of_dirt(planting: Planting) -> None:
    """So that a kind that is dropped by mistake is missed."""
    assert len(planting.kinds) > 200
    reasons = {reason for _, _, _, reason in planting.cells}
    assert len(reasons) > 40
