"""Tables of a step's result as Parquet: rows added piece by piece, the same bytes however they were cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from exp_pipeline.store.sorted_files import PAGE_BYTES, arrow_type
from exp_pipeline.transform.array_measures import Lists
from exp_pipeline.transform.columns import Numbers

if TYPE_CHECKING:
    import pyarrow as pa

# Rows wait for a row group to fill, and are copied for it: a third of what event files have, for memory.
ROW_GROUP_ROWS = 40_960
_LISTS = {"STRUCT(bin SMALLINT, n BIGINT)[]": (("bin", "SMALLINT"), ("n", "BIGINT"))}


def row_type(kind: str) -> pa.DataType:
    """The Arrow type of a column's SQL type, lists among them; ValueError for one that no table has."""
    import pyarrow as pa

    if kind in _LISTS:
        return pa.list_(pa.struct([pa.field(name, arrow_type(part)) for name, part in _LISTS[kind]]))
    if kind.endswith("[]"):
        return pa.list_(arrow_type(kind.removesuffix("[]")))
    return arrow_type(kind)


def arrow_column(column: Numbers | Lists, kind: str) -> pa.Array:
    """Arrays as an Arrow column of an SQL type; an empty list is null."""
    import pyarrow as pa

    wanted = row_type(kind)
    if isinstance(column, Lists):
        empty = np.diff(column.offsets) == 0
        offsets = pa.array(column.offsets.astype(np.int32), mask=np.append(empty, False))
        values = pa.array(column.values)
        if column.names is not None:
            texts = pa.array(column.names, pa.string())
            values = pa.DictionaryArray.from_arrays(values.cast(pa.int32()), texts).cast(pa.string())
        return pa.ListArray.from_arrays(offsets, values.cast(wanted.value_type)).cast(wanted)
    mask = None if column.present is None else ~column.present
    values = pa.array(column.values, mask=mask)
    if pa.types.is_date32(wanted):
        values = values.cast(pa.int32())
    return values if values.type == wanted else values.cast(wanted)


def _repeating(name: str, kind: str) -> tuple[str, ...]:
    """The Parquet columns of a column that hold texts or counts."""
    if kind in _LISTS:
        return tuple(f"{name}.list.element.{part}" for part, _ in _LISTS[kind])
    plain = kind.removesuffix("[]")
    if plain not in ("VARCHAR", "BIGINT", "INTEGER", "SMALLINT", "DATE"):
        return ()
    return (name if plain == kind else f"{name}.list.element",)


class RowFile:
    """A Parquet file that rows are added to, in order. The number of rows so far stands in `rows`.

    Text columns named in `coded` are added as dictionaries, and written as such without a look at the texts.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        coded: Collection[str] = (),
        group_rows: int = ROW_GROUP_ROWS,
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.rows = 0
        self._group_rows = group_rows
        self._kept: list[pa.Table] = []
        self._waiting = 0
        self._coded = frozenset(coded)
        codes = pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [pa.field(name, codes if name in coded else row_type(kind)) for name, kind in columns.items()]
        )
        self._writer: Any = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            # Hardly any fraction, time or key comes twice: a dictionary of them would be thrown away again.
            use_dictionary=[path for name, kind in columns.items() for path in _repeating(name, kind)],
            # Nobody skips row groups by texts or lists, and comparing texts takes time.
            write_statistics=[
                name for name, kind in columns.items() if kind != "VARCHAR" and not kind.endswith("[]")
            ],
            data_page_size=PAGE_BYTES,
            max_rows_per_page=group_rows,
            write_batch_size=16_384,
            store_schema=False,
        )

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush(everything=True)
        self._writer.close()

    def add(self, columns: Mapping[str, pa.Array], rows: int) -> None:
        """Add rows, given as Arrow columns in the types of the file."""
        import pyarrow as pa

        if not rows:
            return
        self._kept.append(pa.table([columns[name] for name in self._schema.names], schema=self._schema))
        self._waiting += rows
        self.rows += rows
        if self._waiting >= self._group_rows:
            self._flush(everything=False)

    def add_table(self, rows: pa.Table) -> None:
        """Add the rows of an Arrow table that has all columns of the file."""
        columns = {}
        for field in self._schema:
            column = rows.column(field.name).combine_chunks()
            columns[field.name] = column if column.type == field.type else column.cast(field.type)
        self.add(columns, rows.num_rows)

    def _flush(self, *, everything: bool) -> None:
        """Write row groups of a fixed number of rows, so that it does not tell how rows were added."""
        if not self._kept:
            return
        whole = joined(self._kept)
        first = 0
        while whole.num_rows - first >= self._group_rows or (everything and first < whole.num_rows):
            part = whole.slice(first, self._group_rows)
            for name in self._coded:
                position = self._schema.get_field_index(name)
                part = part.set_column(position, name, compact(part.column(name).chunk(0)))
            self._writer.write_table(part, row_group_size=self._group_rows)
            first += part.num_rows
        rest = whole.slice(first)
        self._kept, self._waiting = ([rest] if rest.num_rows else []), rest.num_rows


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of one schema one after the other, each column in one piece, with one dictionary."""
    import pyarrow as pa

    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def compact(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The column with a dictionary of just its own texts, in the order in which they come."""
    import pyarrow as pa

    kept = column.indices.drop_null().unique()
    renumbered = np.zeros(len(column.dictionary) + 1, np.int32)
    renumbered[np.asarray(kept)] = np.arange(len(kept), dtype=np.int32)
    codes = np.asarray(column.indices.fill_null(-1))
    return pa.DictionaryArray.from_arrays(
        pa.array(renumbered[codes], mask=codes < 0), column.dictionary.take(kept)
    )
