"""Marts: immutable snapshots by experiment, and the pointer that says which one is current."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.names import SLUG
from exp_pipeline.store.files import digest_of_file, fsync_folder, temporary_beside, write_text

POINTER = "current.json"
RECORD = "snapshot.json"
DIGESTS = "digests.json"
# What a killed run left of a snapshot it was making is removed after this long.
ABANDONED_SECONDS = 86_400.0
_FOLDER = "snapshot="


@dataclass(frozen=True, slots=True)
class Marts:
    """Snapshots of the minimal analytic dataset: `mad/experiment=<name>/snapshot=<id>/`."""

    root: Path

    def folder(self, experiment: str, snapshot: str | None = None) -> Path:
        for name in (experiment,) if snapshot is None else (experiment, snapshot):
            if not SLUG.fullmatch(name):
                raise ValueError(
                    f"experiment and snapshot must be plain names; got {experiment!r}, {snapshot!r}"
                )
        base = self.root / "mad" / f"experiment={experiment}"
        return base if snapshot is None else base / f"{_FOLDER}{snapshot}"

    def record(self, experiment: str, snapshot: str) -> dict[str, object] | None:
        """What a snapshot was made from, or None where there is no such snapshot."""
        return _json_object(
            self.folder(experiment, snapshot) / RECORD, "remove its folder and materialize mad again"
        )

    def current(self, experiment: str) -> str | None:
        """The newest snapshot of an experiment, or None."""
        path = self.folder(experiment) / POINTER
        advice = "materialize mad again"
        found = _json_object(path, advice)
        if found is None:
            return None
        name = found.get("snapshot")
        if not (isinstance(name, str) and SLUG.fullmatch(name)):
            raise StoreError(f"{path} is damaged; {advice}")
        return name

    def experiments(self) -> tuple[str, ...]:
        """Every experiment that has a current snapshot, by name."""
        names = (path.parent.name.partition("=")[2] for path in self.root.glob(f"mad/experiment=*/{POINTER}"))
        return tuple(sorted(name for name in names if SLUG.fullmatch(name)))

    def snapshots(self, experiment: str) -> tuple[str, ...]:
        """Every snapshot of an experiment, by name."""
        folder = self.folder(experiment)
        if not folder.is_dir():
            return ()
        return tuple(
            sorted(
                entry.name.removeprefix(_FOLDER)
                for entry in folder.iterdir()
                if entry.name.startswith(_FOLDER) and (entry / RECORD).is_file()
            )
        )

    def add(
        self, experiment: str, snapshot: str, record: Mapping[str, object], fill: Callable[[Path], None]
    ) -> bool:
        """Make a snapshot, unless it is there already: `fill` writes its files into a folder. True when made.

        The folder appears by one rename; a crash before it leaves nothing that a reader could find.
        """
        final = self.folder(experiment, snapshot)
        if (final / RECORD).is_file():
            return False
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(final.parent)
        aside = temporary_beside(final)
        aside.mkdir()
        try:
            fill(aside)
            digests = {entry.name: digest_of_file(entry) for entry in sorted(aside.iterdir())}
            (aside / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n")
            (aside / RECORD).write_text(json.dumps(record, sort_keys=True, indent=1) + "\n")
            for entry in aside.iterdir():
                with entry.open("rb+") as handle:
                    os.fsync(handle.fileno())
            fsync_folder(aside)
            try:
                os.rename(aside, final)
            except OSError:
                # Another run made the same snapshot in the meantime: same name, same bytes.
                if not (final / RECORD).is_file():
                    raise
                return False
            fsync_folder(final.parent)
            return True
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def damaged(self, experiment: str, snapshot: str) -> tuple[str, ...]:
        """The files of a snapshot that are not as they were written, by name; none where all are.

        Of snapshots made before digests were kept nothing is known, and nothing is named.
        """
        folder = self.folder(experiment, snapshot)
        digests = _json_object(folder / DIGESTS, "materialize mad again") or {}
        return tuple(
            name
            for name, digest in sorted(digests.items())
            if not (folder / name).is_file() or digest_of_file(folder / name) != digest
        )

    def remove(self, experiment: str, snapshot: str) -> None:
        """Take a snapshot away for good; for erasure only."""
        folder = self.folder(experiment, snapshot)
        (folder / RECORD).unlink(missing_ok=True)
        if folder.is_dir():
            shutil.rmtree(folder)
            fsync_folder(folder.parent)

    def discard_unfinished(self) -> None:
        """Take away what is not a whole snapshot yet; for erasure only: who makes one must begin again."""
        for entry in list(self.root.glob(f"mad/experiment=*/.{_FOLDER}*")):
            shutil.rmtree(entry, ignore_errors=True)

    def point(self, experiment: str, snapshot: str) -> None:
        """Say which snapshot is current; the one that was current until now is the one before it."""
        try:
            now = self.current(experiment)
        except StoreError:
            # A damaged pointer is healed by writing it anew.
            now = None
        if now == snapshot:
            return
        pointer = {"snapshot": snapshot} | ({"before": now} if now is not None else {})
        write_text(self.folder(experiment) / POINTER, json.dumps(pointer) + "\n")

    def before(self, experiment: str) -> str | None:
        """The snapshot that was current before the one that is, or None."""
        found = _json_object(self.folder(experiment) / POINTER, "materialize mad again") or {}
        name = found.get("before")
        return name if isinstance(name, str) and SLUG.fullmatch(name) else None


def _json_object(path: Path, advice: str) -> dict[str, object] | None:
    try:
        encoded = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = json.loads(encoded.decode())
    except ValueError as trouble:
        raise StoreError(f"{path} is damaged ({trouble}); {advice}") from trouble
    if not isinstance(found, dict):
        raise StoreError(f"{path} is damaged; {advice}")
    return found


def _remove_abandoned(folder: Path) -> None:
    limit = time.time() - ABANDONED_SECONDS
    for entry in folder.iterdir():
        if entry.name.startswith(f".{_FOLDER}") and entry.is_dir() and entry.stat().st_mtime < limit:
            shutil.rmtree(entry, ignore_errors=True)
