"""The settings shipped for production, on a real PostgreSQL: a backfill, a killed run, a pool's slot."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from bench.operating.house import House, postgres, postgres_programs, wait_for
from bench.operating.killing import land, make_world, undisturbed, what_readers_see
from exp_pipeline.defs.automation import DAILY_ASSETS
from exp_pipeline_tests.defs import small_world as small

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(postgres_programs() is None, reason="no PostgreSQL server on this machine"),
]
DAYS = 5
# Tables that are made whole have no days.
BY_DAY = tuple(sorted({*DAILY_ASSETS} - {"roster", "roster_quarantine", "enrollments", "content"}))
BACKFILL = """
mutation {
  launchPartitionBackfill(backfillParams: {assetSelection: [%s], partitionNames: [%s]}) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An installation with the settings of `deploy/dagster.yaml`, and days that have landed."""
    # Not below the test's own folder: the server's user may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="exp-postgres-"))
    folder.chmod(0o755)
    try:
        with postgres(folder / "server") as address:
            make_world(tmp_path / "production", days=DAYS)
            land(tmp_path / "production")
            made = House(tmp_path / "production", database=address, brisk=True)
            made.prepare()
            monkeypatch.setenv("DAGSTER_POSTGRES_URL", address)
            made.command("dagster", "sensor", "stop", "changed_briefs", "-w", made.workspace, check=False)
            made.start()
            try:
                yield made
            finally:
                made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def launched(house: House, assets: tuple[str, ...]) -> str:
    """Ask for a backfill of all days as the UI does; its id."""
    days = [str(small.FIRST + timedelta(days=number)) for number in range(DAYS)]
    chosen = ", ".join(f'{{path: ["{name}"]}}' for name in assets)
    text = BACKFILL % (chosen, ", ".join(f'"{day}"' for day in days))
    written = house.folder / "answer.json"
    house.command("dagster-graphql", "-w", house.workspace, "-t", text, "-o", str(written))
    answer = json.loads(written.read_text())["data"]["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def test_a_backfill_whose_worker_is_killed_ends_as_if_it_had_not_been(house: House, tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(house.history)) as instance:
        backfill = launched(house, BY_DAY)

        def runs() -> list[dg.DagsterRun]:
            return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}), limit=50))

        def conformed() -> bool:
            return any((house.data / "lake" / "events").glob("*/manifest.json"))

        wait_for("the first events", conformed, 300.0, every=0.02)
        (killed,) = (one for one in runs() if one.status is dg.DagsterRunStatus.STARTED)
        assert house.kill("run worker") >= 1

        def ended() -> bool:
            found = instance.get_backfill(backfill)
            return found is not None and found.status.value.startswith("COMPLETED")

        wait_for("the end of the backfill", ended, 300.0, every=0.5)
        status = {one.run_id: one.status for one in runs()}
        assert status.pop(killed.run_id) is dg.DagsterRunStatus.FAILURE
        # Run again as a whole: one run over the range, as asked for.
        assert list(status.values()) == [dg.DagsterRunStatus.SUCCESS]
    wanted, _ = undisturbed(tmp_path / "calm", days=DAYS)
    days = [str(small.FIRST + timedelta(days=number)) for number in range(DAYS)]
    made = {
        name: digest
        for name, digest in wanted.items()
        if name.split("/")[1] in ("events", "turns") and any(day in name for day in days)
    }
    assert len(made) >= 2 * DAYS
    found = what_readers_see(house.data)
    assert {name: found.get(name) for name in made} == made


def test_a_killed_run_gives_its_slot_back_and_is_run_again(house: House) -> None:
    house.command("exp", "run", "--from", str(small.FIRST), "--to", str(small.FIRST))
    with dg.DagsterInstance.from_config(str(house.history)) as instance:
        before = {one.run_id for one in instance.get_runs(limit=100)}
        store = instance.event_log_storage

        held: list[str] = []

        def taken() -> bool:
            held[:] = [one.run_id for one in store.get_concurrency_info("warehouse").claimed_slots]
            return bool(held)

        house.command("dagster", "job", "launch", "-w", house.workspace, "-j", "warehouse_refresh")
        wait_for("a slot that is taken", taken, 120.0, every=0.005)
        assert house.kill("run worker") >= 1
        (killed,) = held

        def again() -> list[dg.DagsterRun]:
            found = instance.get_runs(limit=100)
            return [one for one in found if one.run_id not in before and one.run_id != killed]

        wait_for("the run again", lambda: any(one.is_success for one in again()), 240.0, every=0.5)
        died = instance.get_run_by_id(killed)
        assert died is not None
        assert died.status is dg.DagsterRunStatus.FAILURE
        wait_for("a free slot", lambda: store.get_concurrency_info("warehouse").active_slot_count == 0, 60.0)
        assert store.get_concurrency_info("warehouse").pending_step_count == 0
        assert (house.data / "marts" / "warehouse.duckdb").is_file()
