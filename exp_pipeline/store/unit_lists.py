"""Reads a list of units that a person made (CSV or Parquet), and remembers on which line each row stands."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exp_pipeline.model.errors import ExpError, Problem

MAX_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class UnitList:
    """The rows of a list: each a mapping of column to text (None where nothing stands), with its line."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str | None], ...]
    lines: tuple[int, ...]

    def problem(self, place: int, field: str, message: str, *, allowed: str = "") -> Problem:
        """A problem with one field of one row."""
        value = self.rows[place].get(field)
        return Problem(self.file, self.lines[place], field, (value or "")[:60], message, allowed)


def read_unit_list(path: Path) -> UnitList:
    """The list in a file: Parquet where its name ends so, else CSV with a header, in UTF-8.

    In Parquet a row's line is its number. Raises ExpError for a file that is missing, too large, empty, not
    UTF-8 (naming the line), without a header, or with rows longer than it.
    """
    if not path.is_file():
        raise ExpError(f"{path}: there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ExpError(f"{path}: has {path.stat().st_size:,} bytes; a list may have {MAX_BYTES:,}")
    found = _from_parquet(path) if path.suffix == ".parquet" else _from_csv(path)
    if not found.rows:
        raise ExpError(f"{path}: the list has no rows")
    return found


def _from_parquet(path: Path) -> UnitList:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
        texts = frame.with_columns(pl.all().cast(pl.String))
    except pl.exceptions.PolarsError as trouble:
        raise ExpError(f"{path}: is no Parquet table of plain columns: {str(trouble)[:200]}") from None
    rows = tuple(texts.iter_rows(named=True))
    return UnitList(str(path), tuple(texts.columns), rows, tuple(range(1, len(rows) + 1)))


def _from_csv(path: Path) -> UnitList:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        line = raw[: trouble.start].count(b"\n") + 1
        raise ExpError(f"{path}:{line}: is not UTF-8 (byte {raw[trouble.start]:#04x})") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[str, ...] = ()
    rows: list[Mapping[str, str | None]] = []
    lines: list[int] = []
    try:
        begins = 1
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not cells:
                continue
            if not columns:
                columns = _header(path, line, cells)
                continue
            if len(cells) != len(columns):
                raise ExpError(f"{path}:{line}: has {len(cells)} fields, the header has {len(columns)}")
            rows.append({name: cell or None for name, cell in zip(columns, cells, strict=True)})
            lines.append(line)
    except csv.Error as trouble:
        raise ExpError(f"{path}:{reader.line_num}: is no CSV: {trouble}") from None
    return UnitList(str(path), columns, tuple(rows), tuple(lines))


def _header(path: Path, line: int, cells: list[str]) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExpError(f"{path}:{line}: the header names a column twice: {', '.join(twice)}")
    return names
