"""A small home whose lake, snapshots and readouts hold made-up bytes, and what a mirror must hold of it.

`python -m exp_pipeline_tests.steps.mirror_worlds <home> <url>` pushes it once, for tests that kill a push.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exp_pipeline.steps.operating.mirror_push import Push, push
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Lake, Manifest, NewFile
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.mirror_objects import Objects, Patience
from exp_pipeline.store.mirror_places import open_objects

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HIDDEN = "ada@school.example"
EXPERIMENT = "hint-ladder"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)


def commit(home: Home, table: str, day: int, *contents: bytes) -> Manifest:
    """Replace a day of a table by files of these bytes."""
    lake, partition = Lake(home.lake), f"event_date=2026-03-{day:02d}"
    files = []
    for position, content in enumerate(contents):
        path = lake.staging(table, partition)
        path.write_bytes(content)
        files.append(NewFile(path, f"bucket-{position}", len(content)))
    return lake.commit(table, partition, files, schema_version="1", run_id="test")


def snapshot(home: Home, name: str) -> None:
    """Make a snapshot of the experiment, make it current, and write its page."""
    marts = Marts(home.marts)
    marts.add(EXPERIMENT, name, {"as_of": "2026-03-02"}, lambda folder: _fill(folder, name))
    marts.point(EXPERIMENT, name)
    pages = home.readouts / f"experiment={EXPERIMENT}" / f"snapshot={name}"
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "readout.json").write_text(json.dumps({"snapshot": name}))
    (home.readouts / "index.html").write_text(f"<a>{name}</a>")


def _fill(folder: Path, name: str) -> None:
    (folder / "mad.parquet").write_bytes(f"rows of {name}".encode())


def filled(root: Path, *, days: int = 3) -> Home:
    """A home with two tables, a snapshot and pages, and with everything that must stay in it."""
    home = Home(root)
    for day in range(1, days + 1):
        commit(home, "events", day, f"events {day} a".encode(), f"events {day} b".encode())
        commit(home, "unit_days", day, f"units {day}".encode())
    snapshot(home, "one")
    for path in (
        home.landing / "received_date=2026-03-01" / "events.ndjson",
        home.state / "identity" / "links.parquet",
        home.catalog / "experiments" / "hint-ladder.yaml",
        home.flags / "flags.flagd.json",
        home.marts / "warehouse.duckdb",
        home.marts / "warehouse.json",
        home.readouts / ".memo.html.abc.tmp",
        home.readouts / "notes.yaml",
        home.marts / "mad" / ".snapshot=x.tmp" / "mad.parquet",
        home.lake / "events" / "event_date=2026-03-01" / ".part.parquet.abc.tmp",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HIDDEN)
    (home.readouts / "linked.html").symlink_to(home.landing / "received_date=2026-03-01" / "events.ndjson")
    return home


def named_files(home: Home) -> dict[str, bytes]:
    """What a mirror has to hold of a home, found without it: by manifests, and by folders of files."""
    found: dict[str, bytes] = {}
    for path in home.lake.glob("*/*/manifest.json"):
        found[path.relative_to(home.root).as_posix()] = path.read_bytes()
        for entry in json.loads(path.read_text())["files"]:
            file = path.with_name(entry["name"])
            found[file.relative_to(home.root).as_posix()] = file.read_bytes()
    for top in (home.marts, home.readouts):
        for path in top.rglob("*"):
            parts = path.relative_to(home.root).parts
            if path.is_file() and not path.is_symlink() and not any(one.startswith(".") for one in parts):
                found["/".join(parts)] = path.read_bytes()
    for key in ("marts/warehouse.duckdb", "marts/warehouse.json", "readouts/notes.yaml"):
        found.pop(key, None)
    return found


def named_there(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """What readers of a bucket find by its manifests and its list; fails where a named file is not there."""
    found: dict[str, bytes] = {}
    for key, content in objects.items():
        if key.endswith("/manifest.json"):
            found[key] = content
            for entry in json.loads(content)["files"]:
                file = f"{key.removesuffix('manifest.json')}{entry['name']}"
                assert hashlib.sha256(objects[file]).hexdigest() == entry["digest"], file
                found[file] = objects[file]
    for key, entry in json.loads(objects.get("files.json", b"{}")).items():
        assert hashlib.sha256(objects[key]).hexdigest() == entry["digest"], key
        found[key] = objects[key]
    return found


def content_of(objects: Objects) -> dict[str, bytes]:
    """Every object of a place."""
    return {key: (objects.read(key) or (b"",))[0] for key in objects.listed()}


def pushed(home: Home, objects: Objects, clock: Clock | None = None) -> Push:
    """Push at the time of a clock."""
    return push(home, objects, clock or Clock())


if __name__ == "__main__":
    print("ready", flush=True)
    push(Home(Path(sys.argv[1])), open_objects(sys.argv[2], Patience()), lambda: datetime.now(UTC))
    print(os.getpid(), "done", flush=True)
