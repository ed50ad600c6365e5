"""The landing folder: files as they arrived, known by digest, read once, never trusted."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import digest_of_file

RECEIVED = "received_date="
_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LandingFile:
    """One landed file: where it is, the day it was received, and its digest (its name in later tables)."""

    path: Path
    relative: str
    received: date
    digest: str

    @property
    def short_name(self) -> str:
        """First 16 digits of the digest: what tables carry in their `file` column."""
        return self.digest[:16]


def received_days(landing: Path) -> tuple[date, ...]:
    """The days for which a folder `received_date=YYYY-MM-DD` exists, in order."""
    if not landing.is_dir():
        return ()
    days = []
    for entry in landing.iterdir():
        if entry.is_dir() and entry.name.startswith(RECEIVED):
            try:
                days.append(date.fromisoformat(entry.name.removeprefix(RECEIVED)))
            except ValueError as trouble:
                raise StoreError(
                    f"landing folder {entry.name}: the part after {RECEIVED} must be a day YYYY-MM-DD"
                ) from trouble
    return tuple(sorted(days))


def landed_on(landing: Path, received: date) -> tuple[LandingFile, ...]:
    """The files received on a day, in the order of their names; two copies of one content count once.

    A symbolic link (to a file or a folder) that leaves the landing folder is refused with StoreError. Names
    that begin with a dot are not files yet.
    """
    folder = landing / f"{RECEIVED}{received.isoformat()}"
    if not folder.is_dir():
        return ()
    root = landing.resolve()
    found: dict[str, LandingFile] = {}
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if not path.resolve().is_relative_to(root):
            raise StoreError(
                f"landing file {path.relative_to(landing).as_posix()} is a link to a place outside "
                "the landing folder; copy the file instead"
            )
        if not path.is_file():
            continue
        digest = digest_of_file(path)
        found.setdefault(digest, LandingFile(path, path.relative_to(landing).as_posix(), received, digest))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file, each with its newline, or one line that cannot be read and the reason.

    `offset` counts decompressed bytes.
    """

    offset: int
    data: bytes
    reason: str | None


def is_gzip(path: Path) -> bool:
    """Whether a file says, by its name or its first bytes, that it is gzip."""
    with path.open("rb") as handle:
        return path.suffix == ".gz" or handle.read(3) == b"\x1f\x8b\x08"


def chunks(path: Path) -> Iterator[Block]:
    """Decompressed bytes of a file, cut anywhere; a damaged gzip ends with what can be read, and why."""
    if is_gzip(path):
        yield from _inflated(path)
        return
    offset = 0
    with path.open("rb") as handle:
        while data := handle.read(_READ_BYTES):
            yield Block(offset, data, None)
            offset += len(data)


def _inflated(path: Path) -> Iterator[Block]:
    """A sound gzip by the fast way; from where that stops, the careful way says what is wrong."""
    from isal import igzip, igzip_lib

    offset = 0
    try:
        with igzip.open(path, "rb") as stream:
            while data := stream.read(_READ_BYTES):
                yield Block(offset, data, None)
                offset += len(data)
        return
    except (OSError, EOFError, igzip_lib.error):
        known = offset
    offset = 0
    for block in _carefully_inflated(path):
        end = block.offset + len(block.data)
        if block.reason is not None:
            yield Block(known, b"", block.reason)
        elif end > known:
            yield Block(known, block.data[known - block.offset :], None)
            known = end


def _carefully_inflated(path: Path) -> Iterator[Block]:
    offset = 0
    with path.open("rb") as handle:
        inflate = zlib.decompressobj(wbits=31)
        fresh, members = True, 0
        while packed := handle.read(_READ_BYTES):
            while packed:
                if fresh and members:
                    # Some writers fill up the last block with zeros, as gzip itself allows.
                    packed = packed.lstrip(b"\0")
                    if not packed:
                        break
                before = inflate.copy()
                try:
                    data = inflate.decompress(packed, _READ_BYTES)
                except zlib.error:
                    data = _up_to_damage(before, packed)
                    yield Block(offset, data, None)
                    yield Block(offset + len(data), b"", "damaged_gzip")
                    return
                fresh = False
                yield Block(offset, data, None)
                offset += len(data)
                packed = inflate.unconsumed_tail
                if inflate.eof:
                    packed = inflate.unused_data
                    # A gzip file may be several members one after the other.
                    inflate, fresh, members = zlib.decompressobj(wbits=31), True, members + 1
        if not fresh:
            yield Block(offset, b"", "truncated_gzip")


def _up_to_damage(inflate: zlib._Decompress, packed: bytes) -> bytes:
    """What can be read of compressed bytes that are known to be damaged somewhere, in ever smaller steps."""
    data, start = [], 0
    for step in (1 << 16, 1 << 10, 1 << 5, 1):
        while start < len(packed):
            before = inflate.copy()
            try:
                data.append(inflate.decompress(packed[start : start + step]))
            except zlib.error:
                inflate = before
                break
            start += step
    return b"".join(data)


def blocks(path: Path, limit: int) -> Iterator[Block]:
    """A file as whole lines, a few megabytes at a time; memory stays bounded by the line limit.

    A last line without newline gets one. Where a line passes the limit, what follows of it is skipped.
    """
    pending, offset, overflow = b"", 0, 0
    for chunk in chunks(path):
        if chunk.reason is not None:
            yield Block(offset, b"", chunk.reason)
            return
        data = chunk.data
        if overflow:
            end = data.find(b"\n") + 1
            if not end:
                overflow += len(data)
                continue
            yield Block(offset, b"", "line_too_long")
            offset, overflow, data = offset + overflow + end, 0, data[end:]
        end = data.rfind(b"\n") + 1
        if end:
            whole = pending + data[:end]
            yield Block(offset, whole, None)
            offset, pending = offset + len(whole), data[end:]
        else:
            pending += data
        if len(pending) > limit:
            pending, overflow = b"", len(pending)
    if overflow:
        yield Block(offset, b"", "line_too_long")
    elif pending:
        yield Block(offset, pending + b"\n", None)
