"""The files of the debug envelope: one a received day, for their owner's eyes alone.

`2026-03-02_until_2026-03-16.ndjson.gz` holds what was received on 2 March and is deleted on the 16th. Files
of any other name are not touched.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import fsync_folder
from exp_pipeline.store.home import Home

_NAME = re.compile(r"(\.?)(\d{4}-\d\d-\d\d)_until_(\d{4}-\d\d-\d\d)\.ndjson\.gz(\.[0-9a-f]{12}\.tmp)?")
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EnvelopeFile:
    """One file: the day its texts were received, and the first day on which it must not be there any more.

    An unfinished one was left by a run that was killed (or is being written right now).
    """

    path: Path
    received: date
    expires_on: date
    unfinished: bool


def checked_folder(folder: Path, home: Home) -> Path:
    """The absolute path of a folder that may hold a debug envelope, made where it is missing.

    Raises StoreError where it lies in the data folder or holds it, and where others than its owner may look
    into it.
    """
    place, root = folder.expanduser().resolve(), home.root.resolve()
    own = [
        root,
        *(part.resolve() for part in (home.lake, home.marts, home.readouts, home.landing, home.state)),
    ]
    if any(place.is_relative_to(part) or part.is_relative_to(place) for part in own):
        raise StoreError(
            f"EXP_DEBUG_ENVELOPE={folder} and the data folder {home.root} lie in one another: texts must not "
            "get into what is shared and backed up; name a folder outside"
        )
    if not place.exists():
        place.mkdir(parents=True, mode=0o700)
        place.chmod(0o700)
    found = place.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"EXP_DEBUG_ENVELOPE={folder} is no folder")
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreError(
            f"EXP_DEBUG_ENVELOPE={folder} must belong to the user who runs this and be closed to others: "
            f"chmod 700 {folder}"
        )
    return place


def envelope_files(folder: Path) -> list[EnvelopeFile]:
    """The files of a folder in order of days; none where there is no such folder."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        named = _NAME.fullmatch(path.name)
        if named is None or not path.is_file() or path.is_symlink():
            continue
        try:
            days = date.fromisoformat(named[2]), date.fromisoformat(named[3])
        except ValueError:
            continue
        found.append(EnvelopeFile(path, *days, unfinished=bool(named[1])))
    return sorted(found, key=lambda one: (one.received, one.path.name))


def entries_in(file: EnvelopeFile) -> Iterator[dict[str, Any]]:
    """The entries of a file. Raises StoreError where it is damaged."""
    try:
        with gzip.open(file.path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, EOFError, ValueError) as trouble:
        raise StoreError(f"debug envelope {file.path} cannot be read: {trouble}") from trouble


class EnvelopeWriter:
    """Writes the entries of one received day; what was there of that day is replaced when all are written."""

    def __init__(self, folder: Path, received: date, expires_on: date) -> None:
        self._folder, self._received = folder, received
        self._path = folder / f"{received}_until_{expires_on}.ndjson.gz"
        self._temporary = folder / f".{self._path.name}.{secrets.token_hex(6)}.tmp"
        self._below: io.BufferedWriter | None = None
        self._packed: gzip.GzipFile | None = None

    def write(self, entries: Iterable[Entry]) -> None:
        """Add entries; the file is made with the first one."""
        for entry in entries:
            if self._packed is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                self._below = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")
                self._packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._below, mtime=0)
            line = json.dumps(entry, ensure_ascii=False, sort_keys=True)
            self._packed.write(line.encode("utf-8", "replace") + b"\n")

    def commit(self) -> None:
        """Put the file in its place and take away earlier ones of the same received day."""
        made = self._packed is not None and self._below is not None
        if self._packed is not None and self._below is not None:
            self._packed.close()
            self._below.flush()
            os.fsync(self._below.fileno())
            self._below.close()
            os.replace(self._temporary, self._path)
        for file in envelope_files(self._folder):
            mine = made and file.path == self._path
            if file.received == self._received and not file.unfinished and not mine:
                file.path.unlink(missing_ok=True)
        if self._folder.is_dir():
            fsync_folder(self._folder)

    def close(self) -> None:
        """Forget what was not committed."""
        for handle in (self._packed, self._below):
            if handle is not None:
                handle.close()
        self._temporary.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path, received: date, expires_on: date) -> Iterator[EnvelopeWriter]:
    """A writer for one received day; nothing stays of what was not committed."""
    writer = EnvelopeWriter(folder, received, expires_on)
    try:
        yield writer
    finally:
        writer.close()


def without_people(file: EnvelopeFile, people: frozenset[str]) -> int:
    """Write a file again without the entries of people (pseudonyms); returns how many they were.

    The new file takes the place of the old one in one step; one that would be empty, or that a killed run
    left unfinished, is deleted.
    """
    if file.unfinished:
        file.path.unlink(missing_ok=True)
        return 0
    kept, removed = [], 0
    for entry in entries_in(file):
        if entry.get("learner_id") in people:
            removed += 1
        else:
            kept.append(entry)
    if removed and not kept:
        file.path.unlink(missing_ok=True)
        fsync_folder(file.path.parent)
    elif removed:
        with writing(file.path.parent, file.received, file.expires_on) as writer:
            writer.write(kept)
            writer.commit()
    return removed
