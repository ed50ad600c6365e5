"""A unit table read by parts: numbers and keys of one stretch of rows at a time, without the rest."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# What stands in a text column where there is nothing. "None" may be an arm's name.
MISSING_LABELS = ("", "na", "n/a", "nan", "null")
# Fits the caches of one core, so that sorting a column by group stays fast.
CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """Which value has each row? codes: (n,) places in `labels`; -1 where the table has nothing."""

    codes: IntArray
    labels: tuple[str, ...]


class TableSource(Protocol):
    """Where the rows of a unit table come from. `parts` stretches of rows, each read on its own."""

    name: str
    columns: tuple[str, ...]
    rows: int
    parts: int

    def numbers(self, part: int, columns: Sequence[str]) -> list[FloatArray]:
        """The columns of one part as numbers, NaN where missing or not finite."""
        ...

    def key(self, part: int, column: str) -> Key:
        """One column of one part as text."""
        ...


class FrameSource:
    """A unit table in memory, as one part."""

    def __init__(self, frame: pl.DataFrame, name: str = "the table") -> None:
        self.name = name
        self.columns = tuple(frame.columns)
        self.rows = frame.height
        self.parts = 1
        self._frame = frame

    def numbers(self, part: int, columns: Sequence[str]) -> list[FloatArray]:
        """The columns as numbers. Raises ValueError for a column that holds text."""
        import polars as pl

        found = []
        for column in columns:
            values = self._frame[column]
            if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
                raise ValueError(f"{self.name}: column {column!r} must hold numbers, it holds {values.dtype}")
            array = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
            found.append(array if np.isfinite(array).all() else np.where(np.isfinite(array), array, np.nan))
        return found

    def key(self, part: int, column: str) -> Key:
        """The column as text; whole numbers without a decimal point."""
        import polars as pl

        values = text_of(self._frame[column])
        labels = values.drop_nulls().unique().sort()
        codes = values.replace_strict(
            labels, pl.Series(range(labels.len()), dtype=pl.Int64), default=-1, return_dtype=pl.Int64
        )
        return Key(codes.to_numpy(), tuple(labels.to_list()))


def text_of(values: pl.Series) -> pl.Series:
    """Values as text, whole numbers without a decimal point, so that 1, 1.0 and "1" are one arm."""
    import polars as pl

    if values.dtype.is_float():
        known = values.drop_nulls().drop_nans()
        values = values.fill_nan(None)
        if (known == known.round()).all():
            values = values.cast(pl.Int64)
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    return values.cast(pl.String)


class ParquetSource:
    """A unit table in a Parquet file, one part a row group, only the columns that are asked for."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.name = path.name
        self._path = path
        self._metadata = pq.read_metadata(path)
        schema = self._metadata.schema.to_arrow_schema()
        self.columns = tuple(schema.names)
        self.rows = int(self._metadata.num_rows)
        self.parts = int(self._metadata.num_row_groups)
        self._types = {name: schema.field(name).type for name in schema.names}
        self._open = threading.local()

    def numbers(self, part: int, columns: Sequence[str]) -> list[FloatArray]:
        """The columns of one row group as numbers. Raises ValueError for a column that holds text."""
        table = self._read(part, columns, ())
        return [self._number(column, table.column(column)) for column in columns]

    def key(self, part: int, column: str) -> Key:
        """The column of one row group as text; whole numbers without a decimal point."""
        import pyarrow as pa

        kind = self._types[column]
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            array = _one(self._read(part, (column,), (column,)).column(column))
            if not pa.types.is_dictionary(array.type):
                array = array.dictionary_encode()
            codes = _as_numpy(array.indices).astype(np.int64)
            if array.null_count:
                codes = np.where(_missing(array), -1, codes)
            return Key(codes, tuple(array.dictionary.to_pylist()))
        if pa.types.is_dictionary(kind) or not _numeric(kind):
            import polars as pl

            series = pl.Series(self._read(part, (column,), ()).column(column).to_pylist())
            return FrameSource(pl.DataFrame({column: series})).key(0, column)
        (values,) = self.numbers(part, (column,))
        known = ~np.isnan(values)
        distinct, places = np.unique(values[known], return_inverse=True)
        codes = np.full(values.shape, -1, dtype=np.int64)
        codes[known] = places
        whole = bool((distinct == np.round(distinct)).all())
        return Key(codes, tuple(str(int(one)) if whole else str(one) for one in distinct.tolist()))

    def _read(self, part: int, columns: Sequence[str], dictionaries: Sequence[str]) -> Any:
        import pyarrow.parquet as pq

        # Readers are not safe to share between threads: each thread has its own, one a set of dictionaries.
        readers = self._open.__dict__.setdefault("readers", {})
        kind = tuple(dictionaries)
        if kind not in readers:
            readers[kind] = pq.ParquetFile(self._path, metadata=self._metadata, read_dictionary=list(kind))
        return readers[kind].read_row_group(part, columns=list(dict.fromkeys(columns)), use_threads=False)

    def _number(self, column: str, chunks: Any) -> FloatArray:
        kind = self._types[column]
        if not _numeric(kind):
            raise ValueError(f"{self.name}: column {column!r} must hold numbers, it holds {kind}")
        import pyarrow as pa

        array = _one(chunks)
        if pa.types.is_boolean(kind):
            array = array.cast(pa.uint8())
        elif pa.types.is_decimal(kind) or pa.types.is_null(kind) or pa.types.is_float16(kind):
            array = array.cast(pa.float64())
        values = _as_numpy(array)
        numbers = values if values.dtype == np.float64 else values.astype(np.float64)
        if array.null_count:
            numbers = np.where(_missing(array), np.nan, numbers)
        if values.dtype.kind == "f" and not np.isfinite(numbers.sum()):
            numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        return numbers


def _numeric(kind: Any) -> bool:
    import pyarrow as pa

    tests = (
        pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _one(chunks: Any) -> Any:
    return chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()


# What Arrow calls its floating numbers; whole ones have the names that numpy gives them.
_FLOATS = {"float": "float32", "double": "float64"}


# The library's own `to_numpy` and `fill_null` would import pandas, which takes longer than reading the file.
def _as_numpy(array: Any) -> NDArray[Any]:
    """The numbers of an array; what stands where one is missing means nothing."""
    if array.null_count == 0:
        return np.from_dlpack(array)
    buffer = array.buffers()[1]
    name = str(array.type)
    kind = np.dtype(_FLOATS.get(name, name))
    return np.frombuffer(buffer, dtype=kind, count=len(array) + array.offset)[array.offset :]


def _missing(array: Any) -> NDArray[np.bool_]:
    bits = np.frombuffer(array.buffers()[0], dtype=np.uint8)
    known = np.unpackbits(bits, count=len(array) + array.offset, bitorder="little")[array.offset :]
    return np.asarray(known == 0, dtype=np.bool_)
