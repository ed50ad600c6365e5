"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 1 << 20


def fsync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time change what a folder holds; readers never wait.

    The lock belongs to the open handle, so the system gives it back when its holder is killed.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no reader's `*.parquet` pattern matches."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def replace_file(temporary: Path, path: Path) -> None:
    """Put a finished temporary file in its place: flushed to disk, then renamed."""
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically; a file that already holds this text is left alone."""
    encoded = text.encode()
    if path.is_file() and path.read_bytes() == encoded:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.write_bytes(encoded)
        replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_once(path: Path, content: bytes) -> bool:
    """Make a file that is never changed again; False, and nothing done, where one is there already.

    Of two processes that write at the same time one wins; a reader sees no file, or the winner's whole.
    """
    if path.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        fsync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()
