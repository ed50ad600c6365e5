"""What came out of it: the lake, the newest datasets and readouts, the state log, to be compared to the byte.

Left out is what the clock or the order of processes dictates: ids of runs, moments, which snapshot was taken
before, and files that nobody reads any more and that go after their time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from exp_pipeline.cli.runs import open_bench
from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.experiments.differences import recompute
from exp_pipeline.steps.experiments.stored_readouts import READOUT_FILE
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST
from exp_pipeline.store.marts import DIGESTS, RECORD, Marts
from exp_pipeline.store.sealed import read_sealed, sealed_digests
from exp_pipeline.store.state import state_log

# Entries that do not depend on who came first.
KINDS = ("identity_key", "lock", "readiness")
KEPT = "kept.json"


def what_came_out(data: Path) -> dict[str, str]:
    """Everything of a data folder that must come out the same, by name: digests, or JSON."""
    return _lake(data) | _newest(data) | _pages(data) | _logged(data)


def differences(data: Path, wanted: Mapping[str, str]) -> tuple[list[str], int]:
    """What is otherwise than wanted, or than its own snapshot gives; and how many snapshots there are."""
    found = what_came_out(data)
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    home, count = Home(data), 0
    marts = Marts(home.marts)
    with open_bench(home) as bench:
        for experiment in marts.experiments():
            for snapshot in marts.snapshots(experiment):
                count += 1
                own = f"{experiment}/{snapshot}"
                names += [f"marts/{own}/{name}" for name in marts.damaged(experiment, snapshot)]
                folder = home.readouts / f"experiment={experiment}" / f"snapshot={snapshot}"
                if (folder / READOUT_FILE).is_file():
                    names += [
                        f"readouts/{own}/{name}" for name in _unlike(bench, experiment, snapshot, folder)
                    ]
    return names, count


def _unlike(bench: Workbench, experiment: str, snapshot: str, folder: Path) -> list[str]:
    """Files of a readout that are not as they were sealed, or not what their snapshot gives."""
    found = [] if recompute(bench, experiment, snapshot).same_bytes else [READOUT_FILE]
    for group in ("readout", "memo"):
        for name in sealed_digests(folder, group):
            try:
                read_sealed(folder, group, name)
            except StoreError:
                found.append(name)
    return found


def _lake(data: Path) -> dict[str, str]:
    """Every manifest but for its run, and the bytes of each file that it names."""
    found = {}
    for path in sorted((data / "lake").rglob(MANIFEST)):
        content = json.loads(path.read_text())
        del content["run_id"]
        own = path.relative_to(data)
        found[str(own)] = json.dumps(content, sort_keys=True)
        for file in content["files"]:
            found[str(own.with_name(file["name"]))] = _digest(path.with_name(file["name"]))
    return found


def _newest(data: Path) -> dict[str, str]:
    """Dataset, readout and tables of each experiment's newest snapshot."""
    marts, found = Marts(data / "marts"), {}
    for experiment in marts.experiments():
        snapshot = marts.current(experiment)
        assert snapshot is not None
        own = marts.folder(experiment, snapshot)
        readout = data / "readouts" / own.relative_to(data / "marts" / "mad")
        found[f"{experiment}: snapshot"] = snapshot
        for path in sorted(own.iterdir()):
            told = _told(path) if path.name in (RECORD, KEPT, DIGESTS) else _digest(path)
            found[f"marts/{experiment}/{path.name}"] = told
        for path in sorted(readout.glob("[!.]*.parquet")):
            found[f"readouts/{experiment}/{path.name}"] = _digest(path)
        found[f"readouts/{experiment}/{READOUT_FILE}"] = _told(readout / READOUT_FILE)
        found[f"readouts/{experiment}: memo"] = ", ".join(
            sorted(path.name for path in readout.glob("memo.*"))
        )
    return found


def _pages(data: Path) -> dict[str, str]:
    folder = data / "readouts" / "quality"
    return {f"readouts/quality/{path.name}": _digest(path) for path in sorted(folder.glob("[!.]*"))}


def _logged(data: Path) -> dict[str, str]:
    """Entries of the log by subject, but for their moments."""
    log = state_log(Home(data))
    return {
        f"log/{kind}/{place}": json.dumps([one.subject, _timeless(one.content)], sort_keys=True)
        for kind in KINDS
        for place, one in enumerate(sorted(log.entries(kind), key=lambda one: (one.subject, one.entry_id)))
    }


def _timeless(content: Mapping[str, object]) -> dict[str, object]:
    return {name: told for name, told in content.items() if name not in ("at", "locked_at")}


def _told(path: Path) -> str:
    """A JSON file but for what depends on the run that made it, or on the snapshot before."""
    content = json.loads(path.read_text())
    for name in ("run_id", "before", "since_last", KEPT, RECORD):
        content.pop(name, None)
    content.get("provenance", {}).pop("run_id", None)
    return json.dumps(content, sort_keys=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
