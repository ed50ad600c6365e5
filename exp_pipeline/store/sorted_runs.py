"""Sorted files read in runs: some hundred thousand rows at a time, a learner's rows never apart.

Only the columns that are asked for are decoded, texts stay codes, and no more than a run is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exp_pipeline.store.memory import settle_arrow
from exp_pipeline.store.sorted_files import arrow_type
from exp_pipeline.transform.columns import Numbers, Places, Texts

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

KEY = "learner_key"


@dataclass(frozen=True, slots=True)
class Learners:
    """The learners whose keys lie between two, both included."""

    first: int = 0
    last: int = 2**64 - 1


def equal_parts(count: int) -> list[Learners]:
    """All learners in some parts of about the same number: keys are spread evenly."""
    edges = [2**64 * number // count for number in range(count + 1)]
    return [Learners(first, end - 1) for first, end in pairwise(edges)]


class _Group:
    """A row group of an open file, its columns read when they are first asked for."""

    def __init__(self, opened: pq.ParquetFile, number: int, present: frozenset[str]) -> None:
        self._opened, self._number, self._present = opened, number, present
        self._read: dict[str, pa.Array] = {}
        self.rows: int = opened.metadata.row_group(number).num_rows

    def may_hold(self, within: NDArray[np.uint64] | Learners) -> bool:
        """Whether some of the learners may be among the rows, by the least and greatest key."""
        metadata = self._opened.metadata
        position = metadata.schema.names.index(KEY)
        statistics = metadata.row_group(self._number).column(position).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        least, most = int(statistics.min), int(statistics.max)
        if isinstance(within, Learners):
            return within.first <= most and least <= within.last
        return bool(np.any((within >= np.uint64(least)) & (within <= np.uint64(most))))

    def read(self, columns: Iterable[str]) -> None:
        """Read columns together, those that the file has."""
        wanted = [name for name in columns if name in self._present and name not in self._read]
        if wanted:
            table = self._opened.read_row_group(self._number, columns=wanted, use_threads=False)
            for name in wanted:
                self._read[name] = _whole(table.column(name))

    def column(self, name: str) -> pa.Array | None:
        """A column's values; None where the file has no such column."""
        if name not in self._present:
            return None
        self.read((name,))
        return self._read[name]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return pa.concat_arrays(column.chunks)


class _Part:
    """Consecutive rows of a row group."""

    def __init__(self, group: _Group, first: int, end: int) -> None:
        self.group, self.first, self.end = group, first, end

    def column(self, name: str, kind: str) -> pa.Array:
        import pyarrow as pa

        found = self.group.column(name)
        if found is None:
            return pa.nulls(self.end - self.first, arrow_type(kind))
        return found.slice(self.first, self.end - self.first)


class Run:
    """Rows of sorted files that follow each other: all rows of the learners in it (of these files)."""

    def __init__(self, parts: Sequence[_Part], columns: Mapping[str, str]) -> None:
        self._parts, self._columns = parts, columns
        self._ends = np.cumsum([part.end - part.first for part in parts])
        self._texts: dict[str, tuple[list[NDArray[np.int32]], tuple[str, ...]]] = {}
        self.count = int(self._ends[-1])

    def numbers(self, column: str, at: Places | None = None) -> Numbers:
        """A column of numbers, flags, days or times, of all rows or of some (in rising order)."""
        kind = self._columns[column]
        found = [
            _numbers(part.column(column, kind), own)
            for part, own in zip(self._parts, self._split(at), strict=True)
        ]
        if len(found) == 1:
            return found[0]
        values = np.concatenate([one.values for one in found])
        if all(one.present is None for one in found):
            return Numbers(values)
        flags = [np.ones(len(one.values), np.bool_) if one.present is None else one.present for one in found]
        return Numbers(values, np.concatenate(flags))

    def texts(self, column: str, at: Places | None = None) -> Texts:
        """A column of texts, of all rows or of some (in rising order)."""
        if column not in self._texts:
            kind = self._columns[column]
            self._texts[column] = _one_list([_texts(part.column(column, kind)) for part in self._parts])
        codes, names = self._texts[column]
        pieces = [one if own is None else one[own] for one, own in zip(codes, self._split(at), strict=True)]
        return Texts(pieces[0] if len(pieces) == 1 else np.concatenate(pieces), names)

    def table(self, columns: Sequence[str], at: Places) -> pa.Table:
        """Some rows (in rising order) as an Arrow table of some columns; texts as dictionaries."""
        import pyarrow as pa

        split = self._split(at)
        for part, own in zip(self._parts, split, strict=True):
            if own is None or len(own):
                part.group.read(columns)
        arrays = {}
        for name in columns:
            chunks = [
                _taken(part.column(name, self._columns[name]), own)
                for part, own in zip(self._parts, split, strict=True)
                if own is not None and len(own)
            ]
            plain = arrow_type(self._columns[name])
            kind = pa.dictionary(pa.int32(), plain) if pa.types.is_string(plain) else plain
            arrays[name] = pa.chunked_array([one.cast(kind) for one in chunks], kind)
        return pa.table(arrays)

    def _split(self, at: Places | None) -> list[Places | None]:
        """Rows by the part they stand in, counted from its first."""
        if at is None:
            return [None] * len(self._parts)
        if len(self._parts) == 1:
            return [at]
        edges = np.searchsorted(at, self._ends)
        first, begin = 0, 0
        split: list[Places | None] = []
        for edge, end in zip(edges.tolist(), self._ends.tolist(), strict=True):
            split.append(at[first:edge] - begin)
            first, begin = edge, end
        return split


def _taken(array: pa.Array, at: Places) -> pa.Array:
    """Rows of an Arrow array; a text's dictionary holds no more than the texts of these rows."""
    import pyarrow as pa

    taken = array.take(pa.array(at))
    if pa.types.is_string(taken.type):
        return taken.dictionary_encode()
    if not pa.types.is_dictionary(taken.type):
        return taken
    codes = np.asarray(taken.indices.fill_null(-1))
    used = np.zeros(len(taken.dictionary) + 1, np.bool_)
    used[codes] = True
    used[-1] = False
    kept = np.flatnonzero(used)
    renumbered = np.zeros(len(used), np.int32)
    renumbered[kept] = np.arange(len(kept), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(renumbered[codes], mask=codes < 0), taken.dictionary.take(pa.array(kept))
    )


def _numbers(array: pa.Array, at: Places | None = None) -> Numbers:
    """An Arrow array, or some rows of it, as numpy arrays; without a copy where that is possible."""
    import pyarrow as pa

    validity, body = array.buffers()
    present = _bits(validity, array, at) if array.null_count else None
    if pa.types.is_boolean(array.type):
        return Numbers(_bits(body, array, at), present)
    plain = {pa.timestamp("us"): np.int64, pa.date32(): np.int32}
    kind: np.dtype[Any] = np.dtype(plain.get(array.type) or array.type.to_pandas_dtype())
    values: NDArray[Any] = np.zeros(len(array), kind)
    if body is not None:
        values = np.frombuffer(body, kind, count=len(array), offset=array.offset * kind.itemsize)
    return Numbers(values if at is None else values[at], present)


def _bits(buffer: pa.Buffer | None, array: pa.Array, at: Places | None) -> NDArray[np.bool_]:
    """The bits of an Arrow array, or of some rows of it, as flags."""
    if buffer is None:
        return np.zeros(len(array) if at is None else len(at), np.bool_)
    packed = np.frombuffer(buffer, np.uint8)
    if at is not None and 8 * len(at) < len(array):
        places = at + array.offset
        bits = (packed[places >> 3] >> (places & 7).astype(np.uint8)) & np.uint8(1)
        flags: NDArray[np.bool_] = bits.view(np.bool_)
        return flags
    first, last = array.offset // 8, (array.offset + len(array) + 7) // 8
    whole = np.unpackbits(packed[first:last], bitorder="little").view(np.bool_)
    whole = whole[array.offset - 8 * first :][: len(array)]
    return whole if at is None else whole[at]


def _texts(array: pa.Array) -> Texts:
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    indices = array.indices
    codes = np.asarray(indices.fill_null(-1) if indices.null_count else indices)
    return Texts(codes.astype(np.int32, copy=False), tuple(array.dictionary.to_pylist()))


def _one_list(found: Sequence[Texts]) -> tuple[list[NDArray[np.int32]], tuple[str, ...]]:
    """The codes of the parts of a column, brought into one list of texts."""
    if len(found) == 1:
        return [found[0].codes], found[0].names
    # The longest part keeps its codes; of the others mostly a few rows are left.
    main = max(range(len(found)), key=lambda number: len(found[number].codes))
    names = list(found[main].names)
    place = {name: code for code, name in enumerate(names)}
    codes = []
    for number, one in enumerate(found):
        if number == main:
            codes.append(one.codes)
            continue
        again = np.full(len(one.names) + 1, -1, np.int32)
        for code in np.unique(one.codes).tolist():
            if code >= 0 and (name := one.names[code]) not in place:
                place[name] = len(names)
                names.append(name)
            again[code] = place[one.names[code]] if code >= 0 else -1
        codes.append(again[one.codes])
    return codes, tuple(names)


def _coded(metadata: pq.FileMetaData, texts: Sequence[str]) -> list[str]:
    """Which of the text columns stand in a file as dictionaries? Others would be looked up one by one."""
    if not metadata.num_row_groups:
        return []
    group, wanted = metadata.row_group(0), frozenset(texts)
    columns = (group.column(position) for position in range(group.num_columns))
    return [
        column.path_in_schema
        for column in columns
        if column.path_in_schema in wanted and any(name.endswith("DICTIONARY") for name in column.encodings)
    ]


def sorted_runs(
    paths: Sequence[Path],
    columns: Mapping[str, str],
    *,
    first: Sequence[str] = (),
    within: NDArray[np.uint64] | Learners | None = None,
) -> Iterator[Run]:
    """The rows of sorted files, in order, in runs that each hold all rows of their learners.

    `columns` says which columns there may be and their SQL types; those of `first` are read at once, others
    when they are asked for, while the run is the current one. A file that lacks a column has nulls there.
    Of row groups that surely hold none of the learners `within`, nothing is read. Given as a range of keys,
    there are the rows of no other learners.
    """
    import pyarrow.parquet as pq

    settle_arrow()
    at_once = (KEY, *first)
    texts = [name for name, kind in columns.items() if kind == "VARCHAR"]
    kept: list[_Part] = []
    with ExitStack() as open_files:
        for path in paths:
            metadata = pq.read_metadata(path)
            present = frozenset(metadata.schema.to_arrow_schema().names)
            coded = _coded(metadata, texts)
            opened = open_files.enter_context(
                pq.ParquetFile(path, metadata=metadata, read_dictionary=coded, pre_buffer=False)
            )
            for number in range(metadata.num_row_groups):
                group = _Group(opened, number, present)
                if not group.rows or (within is not None and not group.may_hold(within)):
                    continue
                group.read(at_once)
                keys = _numbers(_Part(group, 0, group.rows).column(KEY, columns[KEY])).values
                begin, end = 0, group.rows
                if isinstance(within, Learners):
                    begin = int(np.searchsorted(keys, np.uint64(within.first), "left"))
                    end = int(np.searchsorted(keys, np.uint64(within.last), "right"))
                    if begin == end:
                        continue
                # The last learner may go on in the next row group.
                split = int(np.searchsorted(keys, keys[end - 1], "left"))
                if split > begin:
                    yield Run([*kept, _Part(group, begin, split)], columns)
                    kept = []
                kept.append(_Part(group, max(split, begin), end))
        if kept:
            yield Run(kept, columns)
