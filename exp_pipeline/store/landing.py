"""The landing folder: files as they arrived, known by digest, read once, never trusted."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import digest_of_file

if TYPE_CHECKING:
    import polars as pl

RECEIVED = "received_date="
_READ_BYTES = 8 << 20
_BATCH_LINES = 500_000


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
class _Chunk:
    data: bytes
    trouble: str | None


def _raw_chunks(path: Path) -> Iterator[_Chunk]:
    """Decompressed bytes of a file; a damaged gzip ends with what could be read and the reason."""
    if path.suffix != ".gz":
        with path.open("rb") as handle:
            while data := handle.read(_READ_BYTES):
                yield _Chunk(data, None)
        return
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
                    yield _Chunk(_up_to_damage(before, packed), None)
                    yield _Chunk(b"", "damaged_gzip")
                    return
                fresh = False
                yield _Chunk(data, None)
                packed = inflate.unconsumed_tail
                if inflate.eof:
                    packed = inflate.unused_data
                    # A gzip file may be several members one after the other.
                    inflate, fresh, members = zlib.decompressobj(wbits=31), True, members + 1
        if not fresh:
            yield _Chunk(b"", "truncated_gzip")


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


@dataclass(frozen=True, slots=True)
class _Line:
    offset: int
    data: bytes
    trouble: str | None


def _lines(path: Path, limit: int) -> Iterator[_Line]:
    """Lines of a file with their byte offsets; memory stays bounded by the line limit."""
    pending, offset, overflow = b"", 0, 0
    for chunk in _raw_chunks(path):
        if chunk.trouble is not None:
            yield _Line(offset, b"", chunk.trouble)
            return
        *complete, rest = (pending + chunk.data).split(b"\n")
        for data in complete:
            size = len(data) + overflow
            yield _Line(offset, data, None) if size <= limit else _Line(offset, b"", "line_too_long")
            offset += size + 1
            overflow = 0
        pending = rest
        if len(pending) + overflow > limit:
            overflow += len(pending)
            pending = b""
    if pending or overflow:
        size = len(pending) + overflow
        yield _Line(offset, pending, None) if size <= limit else _Line(offset, b"", "line_too_long")


def json_lines(file: LandingFile, line_limit_bytes: int) -> Iterator[pl.DataFrame]:
    """The lines of an NDJSON file (plain or .gz) in batches.

    Columns: row_number (from 1), byte_offset (of the decompressed bytes), line (text, null where it cannot be
    read), reason (`not_utf8`, `line_too_long`, `truncated_gzip`, `damaged_gzip`, or null). Blank lines are
    not rows. Memory is bounded by the batch and the line limit, whatever the file holds.
    """
    import polars as pl

    schema = {"row_number": pl.Int64, "byte_offset": pl.Int64, "line": pl.String, "reason": pl.String}
    numbers: list[int] = []
    offsets: list[int] = []
    texts: list[str | None] = []
    reasons: list[str | None] = []

    def batch() -> pl.DataFrame:
        return pl.DataFrame([numbers, offsets, texts, reasons], schema=schema)

    for number, line in enumerate(_lines(file.path, line_limit_bytes), start=1):
        if line.trouble is None and not line.data.strip():
            continue
        text, reason = None, line.trouble
        if reason is None:
            try:
                text = line.data.decode()
            except UnicodeDecodeError:
                reason = "not_utf8"
        numbers.append(number)
        offsets.append(line.offset)
        texts.append(text)
        reasons.append(reason)
        if len(numbers) >= _BATCH_LINES:
            yield batch()
            numbers, offsets, texts, reasons = [], [], [], []
    if numbers:
        yield batch()
