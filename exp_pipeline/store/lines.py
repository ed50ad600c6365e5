"""Lines of landed NDJSON files, sorted at sight: plain ones, which are read at full speed, and odd ones.

A line is plain where it begins with `{` and is within the limit; nothing else is known of it yet. Everything
else (blank lines are no rows) is odd and looked at one by one. Each plain line has a *weight*: how many
fields with a value it has, counted from its bytes without parsing. A reader that finds just as many declared
fields filled has therefore seen all there is; where the counts differ, the line is odd after all. For a batch
only the sum is counted: where that agrees nobody asks for the weights of its lines.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exp_pipeline.store.landing import LandingFile, blocks

if TYPE_CHECKING:
    import polars as pl

BATCH_BYTES = 128 << 20
BATCH_ODD = 200_000
# Room in a place for the number of the file beside the number of the row in it.
FILE_SHIFT = 40
# Raw lines, with ids and texts: they must not outlive who wrote them.
_SCRATCH = "lines-{}.ndjson"
# What fits a core's own memory beside the masks over it.
_PIECE = 1 << 17
_READ_AGAIN = 4 << 20
_NEWLINE, _BRACE, _QUOTE, _COLON, _SMALL_N, _SMALL_U = 10, 123, 34, 58, 110, 117
# What may stand after `"name":` (and one space), and what it adds to a line's weight: a null nothing; a list,
# an object or more blanks too much for any line, so that it is looked at closely.
_VALUE = np.ones(256, dtype=np.int64)
_VALUE[ord("n")] = 0
_VALUE[[ord("{"), ord("["), 32, 9, 10, 13]] = 1_000
_UNSURE = 1_000_000
# What stands where a value begins that adds one, whatever follows it.
_SIMPLE = _VALUE == 1
_SIMPLE[ord(" ")] = False
# A weight from here on says that bytes alone cannot tell; below it no reader can find more fields than that.
SURE_WEIGHT = 1_000
_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class LineBatch:
    """Some lines of one or more files, in order of file and row.

    `plain` is a file that holds the plain lines alone, each with its newline. `places` has one row for each:
    `place` (number of the file in the list, shifted, plus the offset of the decompressed bytes) and
    `row_number`. `odd` has the other lines: `row_number`, the place as `byte_offset`, `line` (text, null
    where it cannot be read) and `reason`. `weight` is the sum over the plain lines, None where bytes alone
    cannot tell it.
    """

    plain: Path
    places: pl.DataFrame
    odd: pl.DataFrame
    weight: int | None
    _starts: _Ints
    _sizes: _Ints
    _handle: int

    @property
    def rows(self) -> int:
        return self.places.height + self.odd.height

    @property
    def longest(self) -> int:
        """Bytes of the longest plain line."""
        return int(self._sizes.max(initial=0))

    def line(self, position: int) -> bytes:
        """A plain line by its position among the plain ones."""
        return os.pread(self._handle, int(self._sizes[position]), int(self._starts[position]))

    def weights(self) -> _Ints:
        """The weight of each plain line; SURE_WEIGHT or more where bytes alone cannot tell."""
        found = np.zeros(len(self._sizes), dtype=np.int64)
        ends = self._starts + self._sizes
        first = 0
        while first < len(found):
            start = int(self._starts[first])
            beyond = max(first + 1, int(np.searchsorted(ends, start + _READ_AGAIN)))
            data = os.pread(self._handle, int(ends[beyond - 1]) + 1 - start, start)
            found[first:beyond] = _weights(np.frombuffer(data, dtype=np.uint8), ends[first:beyond] - start)
            first = beyond
        return found

    def with_odd(self, found: Sequence[int]) -> pl.DataFrame:
        """The odd lines, and these plain ones (by their position among the plain) beside them."""
        import polars as pl

        if not len(found):
            return self.odd
        decoded = [_decoded(self.line(position)) for position in found]
        rows = self.places[list(found)].select("row_number", "place")
        new = pl.DataFrame(
            [
                *rows.get_columns(),
                pl.Series([text for text, _ in decoded], dtype=pl.String),
                pl.Series([reason for _, reason in decoded], dtype=pl.String),
            ]
        )
        new.columns = list(_odd_schema())
        return pl.concat([self.odd, new])


def _odd_schema() -> dict[str, pl.DataType]:
    """Columns of odd lines; `byte_offset` is the name under which a place goes through the door."""
    import polars as pl

    number, text = pl.Int64(), pl.String()
    return {"row_number": number, "byte_offset": number, "line": text, "reason": text}


def _decoded(line: bytes) -> tuple[str | None, str | None]:
    """The text of a line, or why it has none."""
    try:
        return line.decode(), None
    except UnicodeDecodeError:
        return None, "not_utf8"


@dataclass(slots=True)
class _Odd:
    rows: list[tuple[int, int, str | None, str | None]] = field(default_factory=list)
    size: int = 0

    def add(self, row: int, place: int, line: bytes) -> None:
        """Keep a line; a blank one is no row."""
        line = line.removeprefix(_MARK)
        if line.strip(b" \t\r"):
            self.size += len(line)
            self.rows.append((row, place, *_decoded(line)))

    def refuse(self, row: int, place: int, reason: str) -> None:
        """Keep a line's place and why it cannot be read."""
        self.rows.append((row, place, None, reason))

    def frame(self) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(self.rows, schema=_odd_schema(), orient="row")


class _Gathering:
    """The lines of a batch as they come in; the plain ones are written away at once."""

    def __init__(self, handle: int) -> None:
        self.handle, self.bytes = handle, 0
        self.odd = _Odd()
        self.weight: int | None = 0
        self.parts: list[tuple[_Ints, _Ints, _Ints, _Ints]] = []

    def add(self, data: bytes, file: int, row: int, offset: int, limit: int) -> int:
        """Take whole lines of a file; `row` lines and `offset` bytes came before. Returns how many lines."""
        text = np.frombuffer(data, dtype=np.uint8)
        ends = _all_of(text, _NEWLINE)
        starts = np.concatenate((np.zeros(1, dtype=np.int64), ends[:-1] + 1))
        sizes = ends - starts
        plain = (text[starts] == _BRACE) & (sizes <= limit)
        first = (file << FILE_SHIFT) + offset
        kept = np.flatnonzero(plain)
        if len(kept) < len(ends):
            for one in np.flatnonzero(~plain).tolist():
                at, size = int(starts[one]), int(sizes[one])
                if size > limit:
                    self.odd.refuse(row + 1 + one, first + at, "line_too_long")
                else:
                    self.odd.add(row + 1 + one, first + at, data[at : at + size])
            data = _kept_lines(data, kept, starts, ends)
            text = np.frombuffer(data, dtype=np.uint8)
        if len(kept):
            here = np.cumsum(sizes[kept] + 1) - sizes[kept] - 1
            if self.weight is not None:
                weight = _weight(text)
                self.weight = None if weight is None else self.weight + weight
            os.pwrite(self.handle, data, self.bytes)
            self.parts.append((starts[kept] + first, kept + row + 1, here + self.bytes, sizes[kept]))
            self.bytes += len(data)
        return len(ends)

    def full(self) -> bool:
        return self.bytes + self.odd.size >= BATCH_BYTES or len(self.odd.rows) >= BATCH_ODD

    def batch(self, path: Path) -> LineBatch:
        """What has been gathered, and an end to it."""
        import polars as pl

        os.ftruncate(self.handle, self.bytes)
        none = np.zeros(0, dtype=np.int64)
        columns = [np.concatenate([none, *(part[at] for part in self.parts)]) for at in range(4)]
        places = pl.DataFrame({"place": columns[0], "row_number": columns[1]})
        return LineBatch(path, places, self.odd.frame(), self.weight, columns[2], columns[3], self.handle)


@contextmanager
def _scratch(folder: Path) -> Iterator[tuple[int, Path]]:
    """A file for raw lines, held by a lock; those of processes that were killed are removed first."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(_SCRATCH.format("*")):
        _remove_unheld(left)
    handle, path = _held(folder)
    try:
        yield handle, path
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def _held(folder: Path) -> tuple[int, Path]:
    before, after = _SCRATCH.split("{}")
    while True:
        handle, name = tempfile.mkstemp(prefix=before, suffix=after, dir=folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Before it was held another process may have taken it for one that was left.
        if Path(name).exists():
            return handle, Path(name)
        os.close(handle)


def _remove_unheld(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(handle)


def line_batches(files: Sequence[LandingFile], limit: int, scratch: Path) -> Iterator[LineBatch]:
    """The lines of NDJSON files (plain or gzip) in batches of about BATCH_BYTES; one batch lives at a time.

    `scratch` is a folder for the plain lines of the batch in hand, and of the next, which is gathered in the
    meantime. Reasons given here: `not_utf8`, `line_too_long` (over `limit` bytes), `truncated_gzip`,
    `damaged_gzip`. A byte order mark at the start of a line is no part of it. Memory is bounded by the limit
    and the batch, whatever files hold.
    """
    with _scratch(scratch) as one, _scratch(scratch) as other, ThreadPoolExecutor(max_workers=1) as reader:
        batches = _gathered(files, limit, cycle((one, other)))
        ahead = reader.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = reader.submit(next, batches, None)
            yield batch


def _gathered(
    files: Sequence[LandingFile], limit: int, scratches: Iterator[tuple[int, Path]]
) -> Iterator[LineBatch]:
    handle, path = next(scratches)
    gathering = _Gathering(handle)
    for number, file in enumerate(files):
        row = 0
        for block in blocks(file.path, limit):
            if row == 0 and block.data.startswith(_WIDE_MARKS):
                # The whole file is in an encoding whose bytes cannot be cut into lines here.
                gathering.odd.refuse(1, number << FILE_SHIFT, "not_utf8")
                break
            if block.reason is not None:
                row += 1
                place = (number << FILE_SHIFT) + block.offset
                gathering.odd.refuse(row, place, block.reason)
            else:
                row += gathering.add(block.data, number, row, block.offset, limit)
            if gathering.full():
                yield gathering.batch(path)
                handle, path = next(scratches)
                gathering = _Gathering(handle)
    if gathering.parts or gathering.odd.rows:
        yield gathering.batch(path)


def _kept_lines(data: bytes, kept: _Ints, starts: _Ints, ends: _Ints) -> bytes:
    """The kept lines alone, run by run."""
    if not len(kept):
        return b""
    breaks = np.flatnonzero(np.diff(kept) > 1)
    firsts = kept[np.concatenate((np.zeros(1, dtype=np.int64), breaks + 1))]
    lasts = kept[np.concatenate((breaks, np.array([len(kept) - 1], dtype=np.int64)))]
    runs = zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True)
    return b"".join(data[start : end + 1] for start, end in runs)


def _all_of(text: _Bytes, byte: int) -> _Ints:
    """Where a byte stands."""
    pieces = range(0, len(text), _PIECE)
    found = [np.flatnonzero(text[start : start + _PIECE] == byte) + start for start in pieces]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _weight(text: _Bytes) -> int | None:
    """The sum of the weights of whole lines, None where bytes alone cannot tell."""
    total = 0
    for start in range(0, len(text) - 1, _PIECE):
        piece = text[start : start + _PIECE + 1]
        before, keyed = piece[:-1], piece[1:] == _COLON
        if (keyed & (before <= 32)).any():
            return None
        keyed &= before == _QUOTE
        places = np.flatnonzero(keyed) + start + 1
        # Lines end with a newline: something stands after each colon.
        following = text.take(places + 1)
        if _SIMPLE.take(following).all():
            total += len(places)
            continue
        worth = _worth(text, places, following)
        if worth.max(initial=0) >= SURE_WEIGHT:
            return None
        total += int(worth.sum())
    return total


def _weights(text: _Bytes, ends: _Ints) -> _Ints:
    """The weight of each line: its fields with a value, or more where bytes alone cannot tell."""
    colons = _all_of(text, _COLON)
    # Every line begins with a brace and ends with a newline: something stands on both sides of each colon.
    keyed = text.take(colons - 1) == _QUOTE
    places = colons[keyed]
    following = text.take(places + 1)
    if _SIMPLE.take(following).all():
        weights = np.diff(np.searchsorted(places, ends), prepend=0)
    else:
        totals = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(_worth(text, places, following))))
        weights = np.diff(totals[np.searchsorted(places, ends)], prepend=0)
    others = colons[~keyed]
    doubtful = others[text.take(others - 1) <= 32]
    if len(doubtful):
        weights[np.searchsorted(ends, doubtful)] += _UNSURE
    return weights


def _worth(text: _Bytes, places: _Ints, following: _Bytes) -> _Ints:
    """What the value after each colon adds to its line's weight."""
    after, following, last = places + 1, following.copy(), len(text) - 1
    blank = np.flatnonzero(following == 32)
    after[blank] = np.minimum(after[blank] + 1, last)
    following[blank] = text[after[blank]]
    value = _VALUE[following]
    # What begins with n is a null, or else no JSON, whatever a reader makes of it.
    nulls = np.flatnonzero(following == _SMALL_N)
    value[nulls[text[np.minimum(after[nulls] + 1, last)] != _SMALL_U]] = _UNSURE
    return value
