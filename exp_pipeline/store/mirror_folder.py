"""A folder of the file system in the place of a bucket, by the same rules."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import digest_of_file, one_at_a_time, replace_file, temporary_beside
from exp_pipeline.store.mirror_objects import Conflict, Stored, Version, is_key


@dataclass(frozen=True, slots=True)
class Folder:
    """Objects as files below a folder: for a mounted disk, and to try things out."""

    root: Path

    @property
    def name(self) -> str:
        return f"file://{self.root}"

    def listed(self) -> dict[str, Stored]:
        found = {}
        for folder, below, files in os.walk(self.root):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder) / name
                stored = None if name.startswith(".") else _stored(path)
                if stored is not None:
                    found[path.relative_to(self.root).as_posix()] = stored
        return dict(sorted(found.items()))

    def read(self, key: str) -> tuple[bytes, Version] | None:
        path = self._path(key)
        before = _stored(path)
        if before is None:
            return None
        return path.read_bytes(), before.version

    def put(self, key: str, content: bytes, *, replaces: Version | None) -> Version:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(self.root):
            held = _stored(path)
            if (held.version if held is not None else None) != replaces:
                raise Conflict(key)
            aside = temporary_beside(path)
            try:
                aside.write_bytes(content)
                replace_file(aside, path)
            finally:
                aside.unlink(missing_ok=True)
            return _there(path)

    def upload(self, key: str, path: Path) -> Version:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = temporary_beside(target)
        try:
            shutil.copyfile(path, aside)
            replace_file(aside, target)
        finally:
            aside.unlink(missing_ok=True)
        return _there(target)

    def download(self, key: str, size: int, path: Path | None) -> str:
        source = self._path(key)
        if path is None:
            return digest_of_file(source)
        shutil.copyfile(source, path)
        return digest_of_file(path)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    # Something is left in it, or it is gone: both are well.
                    break

    def _path(self, key: str) -> Path:
        if not is_key(key):
            raise ValueError(f"an object's key must be of plain names; got {key!r}")
        return self.root / key


def _stored(path: Path) -> Stored | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stored(found.st_size, Version(f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"))


def _there(path: Path) -> Version:
    found = _stored(path)
    if found is None:
        raise StoreError(f"{path} went away while it was written")
    return found.version
