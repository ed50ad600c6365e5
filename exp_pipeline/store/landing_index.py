"""Digests of landing files, kept with the state: a file is hashed again only where it may have changed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import digest_of_file, write_text
from exp_pipeline.store.landing import RECEIVED, LandingFile

# A file changed within the clock's grain of the moment it was hashed could have changed after it too.
SETTLED_NS = 2_000_000_000


@dataclass
class LandingIndex:
    """What each landing file's digest is, by name, size and time of change; a cache, safe to delete."""

    landing: Path
    path: Path
    _known: dict[str, list[object]] = field(default_factory=dict)
    _seen: dict[str, list[object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            found = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return
        if isinstance(found, dict):
            self._known = {name: entry for name, entry in found.items() if isinstance(entry, list)}

    def received_on(self, received: date) -> tuple[LandingFile, ...]:
        """The files received on a day by the rules of `landed_on`; two copies of one content count once."""
        folder = self.landing / f"{RECEIVED}{received.isoformat()}"
        root = self.landing.resolve()
        found: dict[str, LandingFile] = {}
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            relative = path.relative_to(self.landing).as_posix()
            if not path.resolve().is_relative_to(root):
                raise StoreError(
                    f"landing file {relative} is a link to a place outside the landing folder; "
                    "copy the file instead"
                )
            if path.is_file():
                digest = self._digest(path, relative)
                found.setdefault(digest, LandingFile(path, relative, received, digest))
        return tuple(found.values())

    def keep(self) -> None:
        """Write what was learnt, for the next time; files that are gone are forgotten."""
        if self._seen != self._known:
            write_text(self.path, json.dumps(self._seen, sort_keys=True, indent=0) + "\n")
            self._known = dict(self._seen)

    def _digest(self, path: Path, relative: str) -> str:
        status = path.stat()
        entry = self._known.get(relative)
        mark: list[object] = [status.st_size, status.st_mtime_ns]
        if entry is not None and entry[:2] == mark:
            self._seen[relative] = entry
            return str(entry[2])
        now = time.time_ns()
        digest = digest_of_file(path)
        if now - status.st_mtime_ns > SETTLED_NS:
            self._seen[relative] = [*mark, digest]
        return digest
