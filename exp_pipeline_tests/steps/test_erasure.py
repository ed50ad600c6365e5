"""Erasure: after it the lake is that of a world in which the person never was, and nothing names them."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from exp_pipeline.catalog import Catalog
from exp_pipeline.model.brief import Brief
from exp_pipeline.simulate.landing import write_landing
from exp_pipeline.simulate.plan import ArmTruth, Faults, SimulatedExperiment, SimulationPlan
from exp_pipeline.steps.assignment.assignment_table import write_assignment_table
from exp_pipeline.steps.assignment.exposure import (
    build_assignments,
    build_content,
    build_enrollments,
    build_exposures,
)
from exp_pipeline.steps.behaviour.facts import build_unit_days
from exp_pipeline.steps.behaviour.learner_days import build_learner_days, build_turns
from exp_pipeline.steps.behaviour.sessions import build_sessions
from exp_pipeline.steps.context import DAY, Window, Workbench
from exp_pipeline.steps.experiments.chain import take_snapshot
from exp_pipeline.steps.experiments.erased import ERASED_NOTE
from exp_pipeline.steps.experiments.readouts import write_memo
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land, land_days
from exp_pipeline.steps.opening import workbench
from exp_pipeline.steps.people import erasure
from exp_pipeline.steps.people.erasure import erase, receipts
from exp_pipeline.steps.people.identity import ERASED, identity_rows
from exp_pipeline.steps.warehouse import build_warehouse
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import received_days
from exp_pipeline.store.marts import Marts
from exp_pipeline.transform.identity import tombstone
from exp_pipeline_tests.steps.conftest import SECRET, Opened, digests, rows_of, with_catalog

START, DAYS = date(2026, 3, 2), 3
PLAN = SimulationPlan(
    name="tiny", seed=11, start=START, days=DAYS, schools=1, classes_per_school=2, learners=10,
    staff_accounts=1, sessions_per_learner_day=0.7, midnight_share=0.2,
    experiments=(
        SimulatedExperiment(
            name="hint-ladder", start=START + DAY, end=START + DAY * DAYS,
            arms=tuple(
                ArmTruth(name=name, share=share)
                for name, share in (("control", 0.34), ("ladder", 0.33), ("ladder-fast", 0.33))
            ),
        ),
    ),
    faults=Faults(retry_share=0.05, late_share=0.05, conflicting_duplicates=2, not_json=1, contract_breaks=1),
)  # fmt: skip
WINDOW = Window.of(START - DAY, START + DAY * (DAYS + 3))
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
STEPS = (conform, build_learner_days, build_sessions, build_turns, build_assignments, build_exposures)
# Everything that is made from events; `landed` and `quarantine` keep the places of emptied rows.
MADE = (
    "events", "learner_days", "sessions", "turns", "assignments", "exposures", "enrollments", "content",
    "unit_days",
)  # fmt: skip


@pytest.fixture(scope="module")
def moved(catalog: Catalog) -> Mapping[str, Brief]:
    brief = catalog.briefs["hint-ladder"]
    return {brief.name: brief.model_copy(update={"start": START + DAY, "end": START + DAY * DAYS})}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, moved: Mapping[str, Brief]
) -> tuple[Path, str]:
    """A home with the whole chain up to memo and warehouse, and the name of its snapshot."""
    home = Home(tmp_path_factory.mktemp("finished"))
    write_landing(PLAN, home.landing)
    with (
        duckdb.connect() as connection,
        workbench(
            home, connection, run_id="test", environment={"EXP_HMAC_KEY": SECRET},
            catalog=replace(catalog, briefs=moved), threads=1,
        ) as bench,
    ):  # fmt: skip
        run_chain(bench)
        snapshot = read_out(bench)
    return home.root, snapshot


@pytest.fixture
def world(
    opened: Opened, tmp_path: Path, finished: tuple[Path, str], moved: Mapping[str, Brief]
) -> Callable[..., Workbench]:
    """A copy of the finished home, or of some of its folders."""

    def make(name: str, *parts: str) -> Workbench:
        for part in parts or ("landing", "lake", "marts", "readouts", "state"):
            shutil.copytree(finished[0] / part, tmp_path / name / part)
        return with_catalog(opened(name), briefs=moved)

    return make


def run_chain(bench: Workbench) -> None:
    land_days(bench, received_days(bench.home.landing))
    for step in STEPS:
        step(bench, WINDOW)
    build_enrollments(bench)
    build_content(bench)
    build_unit_days(bench, WINDOW)


def read_out(bench: Workbench) -> str:
    snapshot = take_snapshot(bench, "hint-ladder").snapshot
    write_memo(bench, "hint-ladder")
    write_assignment_table(bench, "hint-ladder")
    build_warehouse(bench, duckdb.connect)
    return snapshot


def students(bench: Workbench) -> list[str]:
    """The raw ids of students, those with most lines in the landing files first."""
    seen: Counter[str] = Counter()
    for _, text in landing_texts(bench.home.landing):
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and row.get("role") == "student":
                seen[str(row.get("learner_id"))] += 1
    return [raw for raw, _ in seen.most_common()]


def landing_texts(landing: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(landing.rglob("*.gz")):
        yield path, gzip.decompress(path.read_bytes()).decode("utf-8", "surrogateescape")


def without(landing: Path, raw: str) -> None:
    """Blank every line that names the person; the others keep their row numbers."""
    for path, text in landing_texts(landing):
        lines = ["" if f'"{raw}"' in line else line for line in text.split("\n")]
        path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8", "surrogateescape"), mtime=0))


def named_in(root: Path, name: str) -> list[str]:
    """Every file that holds a text, in whatever column, state logs and leftovers included."""
    found = []
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        if path.suffix in (".parquet", ".tmp"):
            held = name in pl.read_parquet(path).write_ndjson()
        else:
            held = name.encode() in path.read_bytes()
        if held:
            found.append(path.relative_to(root).as_posix())
    return found


def made(bench: Workbench, table: str) -> list[tuple[object, ...]]:
    """Rows of a table without the names of landing files, which say nothing of people."""
    manifests = bench.lake.manifests(table, bench.lake.partitions(table))
    frame = pl.concat([pl.read_parquet(path) for path in bench.lake.paths(manifests)], how="diagonal_relaxed")
    kept = [name for name in frame.columns if name != "file"]
    return sorted(frame.select(kept).rows(), key=repr)


def test_the_world_is_as_if_the_person_had_never_been_there(
    world: Callable[..., Workbench], finished: tuple[Path, str]
) -> None:
    bench, snapshot = world("home"), finished[1]
    raw = students(bench)[-3]
    assert bench.key is not None
    name = bench.key.pseudonym(raw)
    untouched = {one: digests(bench, one) for one in ("landed", "events")}
    assert len(named_in(bench.home.root, name)) > 20

    receipt = erase(bench, [raw], "privacy desk", at=NOW, connect=duckdb.connect)

    # Nothing names them, raw or by pseudonym, the landing files apart.
    assert named_in(bench.home.root, name) == []
    assert all(one.startswith("landing/") for one in named_in(bench.home.root, raw))
    never = world("never", "landing")
    without(never.home.landing, raw)
    run_chain(never)
    assert {table: made(bench, table) for table in MADE} == {table: made(never, table) for table in MADE}
    # Days of others alone were not written again.
    for table, before in untouched.items():
        after = digests(bench, table)
        changed = {partition for partition in before if after.get(partition) != before[partition]}
        assert changed
        if table == "events":
            assert changed <= {f"event_date={day}" for day in receipt.days} < set(before)
    # The readout was made again from what is left; the old snapshot is gone and its readout says so.
    marts = Marts(bench.home.marts)
    assert receipt.snapshots == (f"hint-ladder/{snapshot}",)
    assert receipt.remade == ("hint-ladder",)
    assert receipt.not_remade == {}
    assert marts.record("hint-ladder", snapshot) is None
    current = marts.current("hint-ladder")
    assert current not in (None, snapshot)
    assert marts.record("hint-ladder", str(current)) is not None
    old = bench.home.readouts / "experiment=hint-ladder" / f"snapshot={snapshot}" / ERASED_NOTE
    assert "erased" in old.read_text()


def test_every_row_is_still_accounted_for_and_landing_again_brings_nobody_back(
    world: Callable[..., Workbench],
) -> None:
    bench = world("home", "landing", "lake", "state")
    raw = students(bench)[0]
    mine = sum(text.count(f'"learner_id":"{raw}"') for _, text in landing_texts(bench.home.landing)) or sum(
        text.count(f'"learner_id": "{raw}"') for _, text in landing_texts(bench.home.landing)
    )
    before = len(rows_of(bench, "landed", "file"))
    receipt = erase(bench, [raw], "privacy desk", at=NOW, connect=duckdb.connect)
    assert receipt.rows["landed"] == mine
    assert sum(receipt.landing_files.values()) == mine
    assert len(rows_of(bench, "landed", "file")) == before
    empty = "reason, event_name, learner_id, learner_key, event_id, extra, occurred_at, "
    empty += "event_date - received_date"
    erased = [row for row in rows_of(bench, "landed", empty) if row[0] == "erased"]
    assert erased == [("erased", None, None, None, None, None, None, 0)] * mine
    reasons = Counter(row[0] for row in rows_of(bench, "quarantine", "reason"))
    assert reasons["erased"] == mine
    # The law of conservation, by the counts of the tables.
    retries = 0
    for manifest in bench.lake.manifests("events", bench.lake.partitions("events")):
        sources = manifest.facts["by_source"]
        assert isinstance(sources, dict)
        retries += sum(one["retry"] for one in sources.values())
    settled = sum(len(rows_of(bench, table, "file")) for table in ("events", "quarantine", "exclusions"))
    assert settled + retries == before
    emptied = {table: digests(bench, table) for table in ("landed", "events", "quarantine", "unit_days")}
    for received in received_days(bench.home.landing):
        land(bench, received)
    for step in STEPS:
        step(bench, WINDOW)
    build_unit_days(bench, WINDOW)
    assert {table: digests(bench, table) for table in emptied} == emptied


def test_twice_changes_nothing_and_the_receipt_holds_no_identity(world: Callable[..., Workbench]) -> None:
    bench = world("home", "landing", "lake", "state")
    raw = students(bench)[0]
    assert bench.key is not None
    name = bench.key.pseudonym(raw)
    first = erase(bench, [name], "privacy desk", at=NOW, connect=duckdb.connect)
    tables = {table: digests(bench, table) for table in ("landed", *MADE)}
    again = erase(bench, [raw], "somebody else", at=NOW + DAY, connect=duckdb.connect)
    assert (first.new, again.new) == (True, False)
    assert again.requested_by == "privacy desk"
    assert len(receipts(bench)) == 1
    assert {table: digests(bench, table) for table in ("landed", *MADE)} == tables
    assert first.tombstones == (tombstone(name),)
    assert set(identity_rows(bench, ERASED)["tombstone"]) == {tombstone(name)}
    assert raw not in str(first)
    assert name not in str(first)


def test_killed_half_way_it_is_finished_by_calling_it_again(
    world: Callable[..., Workbench], finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, snapshot = world("home"), finished[1]
    # What an earlier run left that was killed while it made a snapshot holds the person too.
    held = Marts(bench.home.marts).folder("hint-ladder", snapshot)
    left = held.with_name(f".{held.name}.0123456789ab.tmp")
    shutil.copytree(held, left)
    (left / "days.parquet").write_bytes(b"PA")
    raw = students(bench)[0]
    assert bench.key is not None
    name = bench.key.pseudonym(raw)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "write_results", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(bench, [raw], "privacy desk", at=NOW, connect=duckdb.connect)
    receipt = erase(bench, [raw], "privacy desk", at=NOW, connect=duckdb.connect)
    assert receipt.new
    assert receipt.snapshots == (f"hint-ladder/{snapshot}",)
    assert receipt.remade == ("hint-ladder",)
    assert receipt.rows["landed"] > 0
    assert named_in(bench.home.root, name) == []
    current = Marts(bench.home.marts).current("hint-ladder")
    assert current not in (None, snapshot)
    assert not left.exists()
    assert (held.parent / f"snapshot={current}" / "mad.parquet").is_file()
    readouts = bench.home.readouts / "experiment=hint-ladder" / f"snapshot={current}"
    assert (readouts / "readout.json").is_file()


def test_somebody_unknown_gets_a_tombstone_and_a_receipt(world: Callable[..., Workbench]) -> None:
    bench = world("home", "landing", "lake", "state")
    before = digests(bench, "landed")
    receipt = erase(bench, ["not-here-yet"], "privacy desk", at=NOW, connect=duckdb.connect)
    assert receipt.rows == {}
    assert digests(bench, "landed") == before
    row = {
        "event_id": "n1", "event_name": "hint_requested", "schema_version": "1.0", "role": "student",
        "client_ts": f"{START}T10:00:00Z", "received_at": f"{START}T10:00:00Z", "learner_id": "not-here-yet",
        "platform": "web", "app_version": "1.0",
    }  # fmt: skip
    folder = bench.home.landing / f"received_date={START}"
    (folder / "late.ndjson").write_text(json.dumps(row))
    land(bench, START)
    reasons = [row[0] for row in rows_of(bench, "landed", "reason") if row[0] is not None]
    assert reasons.count("erased") == 1
    with pytest.raises(ValueError, match="name the person"):
        erase(bench, ["  "], "privacy desk", at=NOW, connect=duckdb.connect)
