"""Records of landed CSV files: what the file says, record by record, and what of it cannot be read."""

from __future__ import annotations

import codecs
import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.store.landing import blocks

if TYPE_CHECKING:
    import polars as pl

BATCH_RECORDS = 100_000
_BATCH_BYTES = 64 << 20
_GUESSED = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How a CSV file is written; without `delimiter` the header line tells (`,` `;` tab or `|`)."""

    delimiter: str | None = None
    quote: str = '"'
    escape: str = '"'
    names: tuple[str, ...] = ()
    null_text: frozenset[str] = frozenset()
    encoding: str = "utf-8"
    skip_rows: int = 0


@dataclass(frozen=True, slots=True)
class CsvBatch:
    """Some records of a file: `row_number` (from 1, without the header), `byte_offset`, `reason`, columns.

    A column is named `c0`, `c1`, ... in `rows`, and `names` says what the file calls it.
    """

    names: tuple[str, ...]
    rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Line:
    offset: int
    text: str
    reason: str | None = None


class _Unclosed(Exception):
    """A record that grows past the limit."""


class _Feed:
    """Lines for a csv reader, which can be handed back where a record turns out not to be one."""

    def __init__(self, lines: Iterator[_Line], limit: int) -> None:
        self.lines, self.limit = lines, limit
        self.waiting: deque[_Line] = deque()
        self.taken: list[_Line] = []
        self.size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self.waiting.popleft() if self.waiting else next(self.lines)
        if line.reason is not None and self.taken:
            # A line that cannot be read ends whatever record was open.
            self.waiting.appendleft(line)
            raise _Unclosed
        self.taken.append(line)
        self.size += len(line.text)
        if self.size > self.limit and len(self.taken) > 1:
            raise _Unclosed
        return line.text

    def begin(self) -> None:
        self.taken, self.size = [], 0

    def hand_back(self) -> None:
        """All lines of the record but its first."""
        self.waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _lines(path: Path, limit: int, encoding: str) -> Iterator[_Line]:
    """Decoded lines with their newlines. What is not of the encoding is kept as lone surrogates."""
    if encoding == "utf-16":
        yield from _wide_lines(path, limit)
        return
    bare_returns: bool | None = None
    for block in blocks(path, limit):
        if block.reason is not None:
            yield _Line(block.offset, "", block.reason)
            continue
        data = block.data
        if bare_returns is None:
            # One line in all, and carriage returns in it: the newline of very old spreadsheets.
            bare_returns = b"\r" in data[:-2] and data.count(b"\n") == 1
        if bare_returns:
            data = data.replace(b"\r", b"\n")
        at = block.offset
        for line in data[:-1].split(b"\n") if not bare_returns else data.rstrip(b"\n").split(b"\n"):
            bare = line[3:] if at == 0 and line.startswith(codecs.BOM_UTF8) else line
            yield _Line(at, bare.decode(encoding, "surrogateescape") + "\n")
            at += len(line) + 1


def _wide_lines(path: Path, limit: int) -> Iterator[_Line]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    text, at = "", 0
    for block in blocks(path, limit):
        if block.reason is not None:
            yield _Line(block.offset, "", block.reason)
            return
        # A cut of bytes at a newline may be in the middle of a wide character; the decoder keeps the rest.
        *whole, text = (text + decoder.decode(block.data)).split("\n")
        for line in whole:
            yield _Line(at, line + "\n")
            at += 2 * (len(line) + 1)
    if text.strip("\x00"):
        yield _Line(at, text + "\n")


def _guessed(header: str) -> str:
    """The delimiter that stands in a header line most often, the first of the list where none does."""
    return max(_GUESSED, key=lambda one: (header.count(one), -_GUESSED.index(one)))


def column_names(header: Sequence[str]) -> tuple[str, ...]:
    """Names for all columns: an empty one is called after its position, a repeated one gets a number."""
    found: list[str] = []
    for position, name in enumerate(header):
        base = name.strip() or f"column{position}"
        again, number = base, 0
        while again.lower() in (one.lower() for one in found):
            number += 1
            again = f"{base}_{number}"
        found.append(again)
    return tuple(found)


def csv_batches(path: Path, dialect: CsvDialect, limit: int) -> Iterator[CsvBatch]:
    """The records of a CSV file (plain or gzip) in batches; a file without header line gives none.

    Reasons: `not_utf8`, `wrong_column_count`, `bad_quotes` (a quote that is never closed, or text after one:
    the line is refused and reading goes on at the next), `line_too_long`, `truncated_gzip`, `damaged_gzip`.
    Empty lines are no records. Memory is bounded by batch and limit.
    """
    lines = _lines(path, limit, dialect.encoding)
    for _ in range(dialect.skip_rows):
        if next(lines, None) is None:
            return
    names = dialect.names
    delimiter = dialect.delimiter or ","
    if not names:
        first = next((line for line in lines if line.reason is not None or line.text.strip()), None)
        if first is None:
            return
        delimiter = dialect.delimiter or _guessed(first.text)
        if first.reason is not None:
            yield _batch((), [(1, first.offset, first.reason, ())], dialect)
            return
        feed = _Feed(chain([first], lines), limit)
        header = _record(_reader(feed, delimiter, dialect), feed)
        if header is None or header[2] is not None:
            reason = "bad_quotes" if header is None else header[2]
            yield _batch((), [(1, first.offset, reason, ())], dialect)
            return
        names = column_names(header[1])
    else:
        feed = _Feed(lines, limit)
    yield from _records(feed, _reader(feed, delimiter, dialect), names, dialect)


def _reader(feed: _Feed, delimiter: str, dialect: CsvDialect) -> Iterator[list[str]]:
    doubled = dialect.escape == dialect.quote
    return csv.reader(
        feed,
        delimiter=delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        doublequote=doubled,
        escapechar=None if doubled or not dialect.escape else dialect.escape,
        strict=True,
    )


def _record(reader: Iterator[list[str]], feed: _Feed) -> tuple[int, list[str], str | None] | None:
    """Offset, fields and fault of the next record; None at the end of the file."""
    feed.begin()
    try:
        fields = next(reader)
    except StopIteration:
        return None
    except (csv.Error, _Unclosed) as trouble:
        feed.hand_back()
        fault = "line_too_long" if "field limit" in str(trouble) else "bad_quotes"
        return feed.taken[0].offset, [], fault
    return feed.taken[0].offset, fields, feed.taken[0].reason


def _records(
    feed: _Feed, reader: Iterator[list[str]], names: Sequence[str], dialect: CsvDialect
) -> Iterator[CsvBatch]:
    rows: list[tuple[int, int, str | None, Sequence[str]]] = []
    number = size = 0
    while (record := _record(reader, feed)) is not None:
        offset, fields, reason = record
        if reason is None and not any(field.strip() for field in fields) and len(fields) <= 1:
            continue
        number += 1
        if reason is None and len(fields) != len(names):
            reason = "wrong_column_count"
        if any(not line.text.isascii() and not _is_text(line.text) for line in feed.taken):
            reason = reason or "not_utf8"
        rows.append((number, offset, reason, fields if reason is None else ()))
        size += feed.size
        if len(rows) >= BATCH_RECORDS or size >= _BATCH_BYTES:
            yield _batch(names, rows, dialect)
            rows, size = [], 0
    if rows:
        yield _batch(names, rows, dialect)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _batch(
    names: Sequence[str], rows: Sequence[tuple[int, int, str | None, Sequence[str]]], dialect: CsvDialect
) -> CsvBatch:
    import polars as pl

    nothing = ("",) * len(names)
    columns = list(zip(*(row[3] or nothing for row in rows), strict=True)) if names else []
    missing = ["", *dialect.null_text]
    frame = pl.DataFrame(
        {
            "row_number": pl.Series([row[0] for row in rows], dtype=pl.Int64),
            "byte_offset": pl.Series([row[1] for row in rows], dtype=pl.Int64),
            "reason": pl.Series([row[2] for row in rows], dtype=pl.String),
            **{f"c{place}": pl.Series(values, dtype=pl.String) for place, values in enumerate(columns)},
        }
    )
    values = pl.col(f"c{place}" for place in range(len(columns)))
    if columns:
        frame = frame.with_columns(pl.when(~values.is_in(missing)).then(values).name.keep())
    return CsvBatch(tuple(names), frame)
