"""Files rewritten in another order: chosen rows of Parquet files, sorted, texts as codes throughout.

A wide row is never put together here: columns are read, picked and written one by one. DuckDB's sort copies
whole rows and its writer hashes every text again, which costs three times as much for a hundred columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.engine import ROW_GROUP_ROWS
from exp_pipeline.store.memory import settle_arrow

if TYPE_CHECKING:
    import pyarrow as pa

PAGE_BYTES = 4 * 2**20
# A row's place among files read together: which file, and which row of it, in one number.
ROWS_OF_A_FILE = 2**32
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """Rows whose unsigned 64-bit value in `column` lies between `low` and `high`, both included.

    No value counts as 0.
    """

    column: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Picked:
    """Rows of some files in memory: an Arrow table, and the place (ascending) that each row came from."""

    table: pa.Table
    places: Places

    def __len__(self) -> int:
        return len(self.places)

    def rows_at(self, places: Places) -> NDArray[np.int64]:
        """The numbers of the rows that came from these (sorted) places; others' places are passed over."""
        if not len(self.places):
            return np.empty(0, np.int64)
        found = np.searchsorted(self.places, places)
        there = self.places[np.minimum(found, len(self.places) - 1)] == places
        rows: NDArray[np.int64] = found[there]
        return rows

    def take(self, rows: NDArray[np.int64]) -> Picked:
        """Some of the rows."""
        import pyarrow as pa

        return Picked(self.table.take(pa.array(rows)), self.places[rows])

    def numbers_or_zero(self, column: str) -> NDArray[Any]:
        """A number or time column of all rows, 0 where there is no value; times in microseconds."""
        import pyarrow as pa

        if column not in self.table.column_names:
            return np.zeros(len(self.places), np.int64)
        values = self.table.column(column)
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.int64())
        return np.asarray(values.fill_null(0) if values.null_count else values)

    def numbers(self, column: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A number or time column of some rows, none of them null, as an array; times in microseconds."""
        import pyarrow as pa

        values = self.table.column(column)
        if values.null_count:
            values = values.take(pa.array(rows))
            if values.null_count:
                raise StoreError(f"column {column} has {values.null_count} wanted rows without a value")
            rows = np.arange(len(rows))
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.int64())
        return np.asarray(values)[rows]

    def codes(self, column: str) -> tuple[NDArray[np.int32], list[str]]:
        """A text column as codes into a list of distinct texts; -1 where there is none."""
        import pyarrow as pa

        if column not in self.table.column_names:
            return np.full(len(self.places), -1, np.int32), []
        values = self.table.column(column).combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            raise StoreError(f"column {column} holds more text than fits")
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        codes = values.indices.cast(pa.int32()).fill_null(-1)
        return np.asarray(codes), values.dictionary.to_pylist()

    def with_numbers(self, column: str, places: Places, values: NDArray[np.float64]) -> Picked:
        """The same rows with other numbers (masked for null) in a column, at places that are sorted."""
        import pyarrow as pa

        chosen = self.rows_at(places)
        if not len(chosen):
            return self
        if column in self.table.column_names:
            old = self.table.column(column)
            empty = np.array(old.is_null().to_numpy(), copy=True)
            numbers = np.array(old.fill_null(0.0).to_numpy(), copy=True)
        else:
            empty, numbers = np.ones(len(self.places), np.bool_), np.zeros(len(self.places))
        new = values[np.searchsorted(places, self.places[chosen])]
        numbers[chosen] = np.ma.getdata(new)
        empty[chosen] = np.ma.getmaskarray(new)
        replaced = pa.array(numbers, mask=empty)
        if column not in self.table.column_names:
            return replace(self, table=self.table.append_column(column, replaced))
        position = self.table.column_names.index(column)
        return replace(self, table=self.table.set_column(position, column, replaced))


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of an SQL column type; ValueError for one that no lake table has."""
    import pyarrow as pa

    types = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "SMALLINT": pa.int16(),
        "TINYINT": pa.int8(),
        "UBIGINT": pa.uint64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
    }
    if kind not in types:
        raise ValueError(f"column type {kind!r} cannot be written; allowed: {', '.join(types)}")
    return types[kind]


def pick(
    paths: Sequence[Path],
    columns: Mapping[str, str],
    *,
    within: ColumnRange | None = None,
    only: Places | None = None,
) -> Picked:
    """The rows of some files: all, those inside a range of one column, or only those at some (sorted) places.

    A column that a file lacks, or that has no value in any of the files, is left out of the table (`write`
    gives it nulls). Row groups without such rows are not read.
    """
    import pyarrow as pa

    settle_arrow()
    opened = [_Slice(number, path) for number, path in enumerate(paths)]
    used = [name for name in columns if any(one.has_values(name) for one in opened)]
    coded = frozenset(name for name in used if columns[name] == "VARCHAR" and _mostly_coded(opened, name))
    found = [part for one in opened for part in one.rows(used, columns, coded, within, only)]
    if not found:
        empty = pa.table({name: pa.array([], _read_type(columns[name], name in coded)) for name in used})
        return Picked(empty, np.empty(0, np.int64))
    places = np.concatenate([part.places for part in found])
    pieces = [part.table.columns[::-1] for part in found]
    del found
    return Picked(pa.table([_joined(pieces) for _ in used], names=used), places)


def _joined(pieces: Sequence[list[pa.ChunkedArray]]) -> pa.ChunkedArray:
    """The last columns of some parts in one; they are taken off the parts, so that nothing is held twice."""
    import pyarrow as pa

    column = pa.chunked_array([chunk for one in pieces for chunk in one.pop().chunks])
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def _read_type(kind: str, coded: bool) -> pa.DataType:
    import pyarrow as pa

    plain = arrow_type(kind)
    return pa.dictionary(pa.int32(), plain) if coded else plain


def _mostly_coded(opened: Sequence[_Slice], column: str) -> bool:
    """Whether most rows of a text column stand in the files as dictionary codes."""
    coded = sum(one.coded_rows(column) for one in opened)
    return 2 * coded > sum(one.rows_with_values(column) for one in opened)


class _Slice:
    """One Parquet file: its row groups, and which columns are worth reading."""

    def __init__(self, number: int, path: Path) -> None:
        import pyarrow.parquet as pq

        self.number, self.path = number, path
        self.metadata = pq.read_metadata(path)
        names = self.metadata.schema.names
        self.index = {name: position for position, name in enumerate(names)}

    def _chunks(self, column: str) -> list[Any]:
        position = self.index.get(column)
        if position is None:
            return []
        return [
            self.metadata.row_group(group).column(position) for group in range(self.metadata.num_row_groups)
        ]

    def has_values(self, column: str) -> bool:
        return self.rows_with_values(column) > 0

    def rows_with_values(self, column: str) -> int:
        return sum(_values(chunk) for chunk in self._chunks(column))

    def coded_rows(self, column: str) -> int:
        return sum(
            _values(chunk)
            for chunk in self._chunks(column)
            if any(name.endswith("DICTIONARY") for name in chunk.encodings)
        )

    def rows(
        self,
        used: Sequence[str],
        columns: Mapping[str, str],
        coded: frozenset[str],
        within: ColumnRange | None,
        only: Places | None,
    ) -> list[Picked]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        here = [name for name in used if name in self.index]
        found = []
        # Opened with its own list of coded columns: naming one that the file lacks is an error.
        with pq.ParquetFile(self.path, read_dictionary=[n for n in here if n in coded]) as opened:
            start = self.number * ROWS_OF_A_FILE
            for group in range(self.metadata.num_row_groups):
                count = self.metadata.row_group(group).num_rows
                places = np.arange(start, start + count, dtype=np.int64)
                start += count
                if within is not None and self._outside(group, within):
                    continue
                chosen = None
                if within is not None:
                    chosen = _inside(opened, group, within)
                if only is not None:
                    first, last = np.searchsorted(only, (start - count, start))
                    chosen = np.zeros(count, np.bool_)
                    chosen[only[first:last] - (start - count)] = True
                if chosen is not None and not chosen.any():
                    continue
                table = opened.read_row_group(group, columns=here, use_threads=False)
                if chosen is not None and not chosen.all():
                    table, places = table.filter(pa.array(chosen)), places[chosen]
                found.append(Picked(_shaped(table, used, columns, coded), places))
        return found

    def _outside(self, group: int, within: ColumnRange) -> bool:
        position = self.index.get(within.column)
        if position is None:
            return False
        statistics = self.metadata.row_group(group).column(position).statistics
        if statistics is None or not statistics.has_min_max:
            return False
        if within.low <= 0 and not (statistics.has_null_count and statistics.null_count == 0):
            return False
        return bool(statistics.max < within.low or statistics.min > within.high)


def _values(chunk: Any) -> int:
    """How many rows of a column chunk have a value, as far as its statistics say."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_null_count:
        return int(chunk.num_values)
    return int(chunk.num_values - statistics.null_count)


def _inside(opened: Any, group: int, within: ColumnRange) -> Flags:
    key = opened.read_row_group(group, columns=[within.column], use_threads=False).column(0)
    values = np.asarray(key.fill_null(0))
    return (values >= np.uint64(within.low)) & (values <= np.uint64(within.high))


def _shaped(
    table: pa.Table, used: Sequence[str], columns: Mapping[str, str], coded: frozenset[str]
) -> pa.Table:
    """The table with all used columns in their types; those that the file lacks are null."""
    import pyarrow as pa

    arrays = []
    for name in used:
        wanted = _read_type(columns[name], name in coded)
        if name not in table.column_names:
            arrays.append(pa.chunked_array([pa.nulls(table.num_rows, wanted)], wanted))
            continue
        column = table.column(name)
        arrays.append(column if column.type == wanted else column.cast(wanted))
    return pa.table(arrays, names=list(used))


def write(
    picked: Picked,
    order: NDArray[np.int64],
    path: Path,
    columns: Mapping[str, str],
    *,
    added: Mapping[str, Flags],
    statistics: Sequence[str],
    encodings: Mapping[str, str],
) -> int:
    """Write rows in an order to one Parquet file; returns how many.

    `columns` are the file's columns in order; those of `added` are flags that stand in the new order already.
    Min and max are kept for the columns of `statistics`. Those of `encodings` are written in a Parquet
    encoding of their own where they are no codes. A row group's dictionaries hold its own rows' values only.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = picked.table
    coded = [name for name in table.column_names if pa.types.is_dictionary(table.schema.field(name).type)]
    fields = [
        pa.field(name, table.schema.field(name).type if name in table.column_names else arrow_type(kind))
        for name, kind in columns.items()
    ]
    schema = pa.schema(fields)
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=coded,
        column_encoding={
            name: encoding for name, encoding in encodings.items() if name in columns and name not in coded
        },
        # One page for a column of a row group: each page costs a compressor of its own.
        data_page_size=PAGE_BYTES,
        max_rows_per_page=ROW_GROUP_ROWS,
        write_batch_size=16_384,
        write_statistics=list(statistics),
        store_schema=False,
    ) as writer:
        for first in range(0, len(order), ROW_GROUP_ROWS):
            chosen = order[first : first + ROW_GROUP_ROWS]
            part = table.take(pa.array(chosen))
            arrays = []
            for name in columns:
                if name in added:
                    arrays.append(pa.array(added[name][first : first + len(chosen)]))
                elif name in coded:
                    arrays.append(_compact(part.column(name).chunk(0)))
                elif name in table.column_names:
                    arrays.append(part.column(name))
                else:
                    arrays.append(pa.nulls(len(chosen), schema.field(name).type))
            writer.write_table(pa.table(arrays, schema=schema), row_group_size=ROW_GROUP_ROWS)
    return len(order)


def _recoded(
    column: pa.DictionaryArray, codes: NDArray[np.int32], dictionary: pa.Array
) -> pa.DictionaryArray:
    """The column with every code replaced, and another dictionary."""
    import pyarrow as pa

    indices = column.indices
    if not indices.null_count:
        return pa.DictionaryArray.from_arrays(pa.array(codes[np.asarray(indices)]), dictionary)
    present, _ = indices.buffers()
    again = pa.py_buffer(codes[np.asarray(indices.fill_null(0))])
    if indices.offset:
        present = indices.is_valid().buffers()[1]
    array = pa.Array.from_buffers(pa.int32(), len(indices), [present, again], indices.null_count)
    return pa.DictionaryArray.from_arrays(array, dictionary)


def _compact(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The column with a dictionary of just its own values, in the order in which they stood."""
    import pyarrow as pa

    size = len(column.dictionary)
    present = column.indices.drop_null() if column.indices.null_count else column.indices
    stands = np.zeros(size, np.bool_)
    stands[np.asarray(present)] = True
    used = np.flatnonzero(stands)
    if len(used) == size:
        return column
    renumbered = np.zeros(max(size, 1), np.int32)
    renumbered[used] = np.arange(len(used), dtype=np.int32)
    return _recoded(column, renumbered, column.dictionary.take(pa.array(used)))
