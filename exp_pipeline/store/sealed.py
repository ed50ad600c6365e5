"""Groups of files that are written once, with their digests beside them in the form of `sha256sum`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import write_once

_SUFFIX = ".sha256"


def seal(folder: Path, group: str, files: Mapping[str, bytes]) -> bool:
    """Write a group of files once; False, and nothing done, where the group is sealed already.

    Of processes that seal at the same time the first file that stands counts; what a killed one left is
    completed.
    """
    record = folder / f"{group}{_SUFFIX}"
    if record.is_file():
        return False
    for name, content in files.items():
        write_once(folder / name, content)
    lines = [f"{_digest((folder / name).read_bytes())}  {name}\n" for name in sorted(files)]
    return write_once(record, "".join(lines).encode())


def sealed_digests(folder: Path, group: str) -> dict[str, str]:
    """The digest of each file of a sealed group by name; none where the group is not sealed."""
    try:
        lines = (folder / f"{group}{_SUFFIX}").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def read_sealed(folder: Path, group: str, name: str) -> bytes | None:
    """A file of a sealed group as it was written; None where it was never sealed.

    Raises StoreError where the file is gone or is not what was sealed.
    """
    digest = sealed_digests(folder, group).get(name)
    if digest is None:
        return None
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError as missing:
        raise StoreError(f"{folder / name} is gone; it was sealed with sha256 {digest}") from missing
    if _digest(content) != digest:
        raise StoreError(f"{folder / name} was changed after it was sealed with sha256 {digest}")
    return content


def restore(folder: Path, group: str, name: str, content: bytes) -> bool:
    """Put back a file of a sealed group that was lost or changed, if this content is what was sealed."""
    if sealed_digests(folder, group).get(name) != _digest(content):
        return False
    (folder / name).unlink(missing_ok=True)
    write_once(folder / name, content)
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
