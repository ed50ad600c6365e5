"""An analyst who never stops reading while others write: every answer must be whole, and none may fail.

`python -m bench.operating.analyst HOME STOP` reads until the file STOP exists, and ends with a line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl

from exp_pipeline import Workspace
from exp_pipeline.steps.warehouse import LAKE_VIEWS
from exp_pipeline.store.lake import Lake, Manifest
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.warehouse import open_warehouse

TOLD = 20


class Half(AssertionError):
    """An answer that no whole state of the data folder gives."""


class Analyst:
    """Reads tables, the warehouse and readouts, and checks each answer against what it says of itself."""

    def __init__(self, home: Path) -> None:
        self.home, self.lake = home, Lake(home / "lake")
        self.workspace = Workspace(home)
        self.chance = random.Random(1)
        self.experiments = Marts(home / "marts").experiments()

    def partition(self) -> None:
        """One partition by its manifest: each file has the rows and the bytes that the manifest says."""
        table = self.chance.choice([one for one in LAKE_VIEWS if self.lake.partitions(one)])
        name = self.chance.choice(self.lake.partitions(table))
        manifest = self.lake.manifest(table, name)
        if manifest is None:
            raise Half(f"{table}/{name} went away")
        self._whole(manifest)

    def _whole(self, manifest: Manifest) -> None:
        for path, file in zip(self.lake.paths([manifest]), manifest.files, strict=True):
            if hashlib.sha256(path.read_bytes()).hexdigest() != file.digest:
                raise Half(f"{path} has other bytes than its manifest says")
        paths = [str(path) for path in self.lake.paths([manifest])]
        with duckdb.connect() as connection:
            found = connection.execute(
                "select count(*) from read_parquet($paths, hive_partitioning = false)", {"paths": paths}
            ).fetchall()
        if found != [(manifest.rows,)]:
            raise Half(f"{manifest.table}/{manifest.partition}: {found}, its manifest says {manifest.rows}")

    def table(self) -> None:
        """A whole table as a frame; where nothing was replaced meanwhile, with the rows of its manifests."""
        table = self.chance.choice(LAKE_VIEWS)
        before = self._rows(table)
        rows = self.workspace.table(table).select(pl.len()).collect().item()
        if before == self._rows(table) and rows != sum(before.values()):
            raise Half(f"{table}: {rows} rows, its manifests say {sum(before.values())}")

    def _rows(self, table: str) -> dict[str, int]:
        manifests = self.lake.manifests(table, self.lake.partitions(table))
        return {f"{one.partition} {one.content_digest}": one.rows for one in manifests}

    def warehouse(self) -> None:
        """A view of the warehouse, twice over one connection: one state, whatever is built meanwhile."""
        view = self.chance.choice(LAKE_VIEWS)
        query = f"select count(*), bit_xor(hash(columns(*)::varchar)) from {view}"
        with open_warehouse(self.home / "marts" / "warehouse.duckdb") as connection:
            first = connection.execute(query).fetchall()
            if first != connection.execute(query).fetchall():
                raise Half(f"view {view}: two answers over one connection")

    def query(self) -> None:
        """The documented way to ask the warehouse."""
        if self.workspace.query("select count(*) as n from experiments").item() < len(self.experiments):
            raise Half("the warehouse misses an experiment")

    def readout(self) -> None:
        """The newest readout, its memo and its dataset; the dataset has one row a unit that was counted."""
        name = self.chance.choice(self.experiments)
        readout = self.workspace.readout(name)
        snapshot = readout.provenance.snapshot
        if snapshot not in self.workspace.memo(name, snapshot):
            raise Half(f"the memo of {name} is not that of snapshot {snapshot}")
        units = self.workspace.mad(name, snapshot).height
        if units < sum(one.analysed for one in readout.counts):
            raise Half(f"{name}: {units} units, and the readout counts more")
        damaged = Marts(self.home / "marts").damaged(name, snapshot)
        if damaged:
            raise Half(f"snapshot {snapshot} of {name} is not as it was written: {', '.join(damaged)}")

    def read(self) -> tuple[str, str | None]:
        """Read something; what kind, and what was wrong with it."""
        kinds: dict[str, Callable[[], None]] = {
            "partition": self.partition,
            "table": self.table,
            "warehouse": self.warehouse,
            "query": self.query,
            "readout": self.readout,
        }
        kind = self.chance.choice(list(kinds))
        try:
            kinds[kind]()
        except Exception as trouble:
            return kind, f"{kind}: {type(trouble).__name__}: {trouble}"
        return kind, None


def main(home: Path, stop: Path) -> None:
    analyst, reads, failed = Analyst(home), Counter[str](), list[str]()
    while not stop.exists():
        # Leaves the processors to those that are to be killed.
        time.sleep(0.03)
        kind, trouble = analyst.read()
        reads[kind] += 1
        if trouble is not None:
            failed.append(trouble)
    print(json.dumps({"reads": reads, "failed": len(failed), "told": failed[:TOLD]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
