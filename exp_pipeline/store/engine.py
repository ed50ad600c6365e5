"""The engine: runs a transform's SQL over named inputs and writes its rows as zstd-compressed Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exp_pipeline.model.errors import StoreError

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import polars as pl

ROW_GROUP_ROWS = 122_880


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of one input are: Parquet files in reading order, with the columns they are read as.

    `columns` maps column to SQL type: with no files it gives the empty table, and a column that an older
    file lacks is read as null.
    """

    paths: Sequence[Path]
    columns: Mapping[str, str]


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(value: str) -> str:
    """A value as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


class Engine:
    """DuckDB in memory. One engine, one connection; `twin()` gives a second one for work side by side."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        temporary: Path | None = None,
        threads: int | None = None,
        memory_limit: str | None = None,
    ) -> None:
        self.connection = connection
        self._known_columns: dict[tuple[Path, ...], frozenset[str]] = {}
        self._settle()
        connection.execute("set preserve_insertion_order = true")
        if threads is not None:
            connection.execute(f"set threads = {int(threads)}")
        if memory_limit is not None:
            connection.execute(f"set memory_limit = {text_literal(memory_limit)}")
        if temporary is not None:
            connection.execute(f"set temp_directory = {text_literal(str(temporary))}")

    def _settle(self) -> None:
        self.connection.execute("set TimeZone = 'UTC'")
        self.connection.execute("set enable_progress_bar = false")

    @contextmanager
    def one_thread_each(self) -> Iterator[None]:
        """Give each query one thread while twins work side by side; more would only stand in their way."""
        (before,) = self.row("select current_setting('threads')")
        self.connection.execute("set threads = 1")
        try:
            yield
        finally:
            self.connection.execute(f"set threads = {int(before)}")

    def twin(self) -> Engine:
        """A second cursor on the same database, for another thread; it has temporary tables of its own."""
        twin = object.__new__(Engine)
        twin.connection = self.connection.cursor()
        twin._known_columns = {}
        twin._settle()
        return twin

    def offer(self, name: str, rows: Rows, *, place: bool = False) -> None:
        """Make files readable as a view of this name, with exactly the columns of `rows.columns`.

        With `place` a first column of that name says where a row stands: the number of its file times 2**32,
        plus the number of the row in it.
        """
        typed = ", ".join(f"null::{kind} as {quote(column)}" for column, kind in rows.columns.items())
        if not rows.paths:
            own = "null::bigint as place, " if place else ""
            body = f"select {own}{typed} where false"
        else:
            files = "[" + ", ".join(text_literal(str(path)) for path in rows.paths) + "]"
            union = "true" if len(rows.paths) > 1 else "false"
            # Without hive columns: a folder `role=x` somewhere above the lake must not replace a column.
            scan = f"read_parquet({files}, union_by_name = {union}, hive_partitioning = false)"
            present = self._columns_of(tuple(rows.paths), scan, keep=place)
            wanted = ", ".join(
                quote(column) if column in present else f"null::{kind} as {quote(column)}"
                for column, kind in rows.columns.items()
            )
            own = f"cast(file_index as bigint) * {2**32} + file_row_number as place, " if place else ""
            body = f"select {own}{wanted} from {scan}"
        self.connection.execute(f"create or replace temp view {quote(name)} as {body}")

    def _columns_of(self, paths: tuple[Path, ...], scan: str, *, keep: bool) -> frozenset[str]:
        """The columns of some files; where they are read several times, asked once."""
        known = self._known_columns.get(paths) if keep else None
        if known is None:
            described = self.connection.execute(f"describe select * from {scan}").fetchall()
            known = frozenset(str(row[0]) for row in described)
        if keep:
            self._known_columns[paths] = known
        return known

    def offer_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Make arrays of one length readable as a table of this name (copied)."""
        self.connection.register(f"arrays_{name}", dict(arrays))
        self.connection.execute(
            f"create or replace temp table {quote(name)} as select * from {quote('arrays_' + name)}"
        )
        self.connection.unregister(f"arrays_{name}")

    def arrays(self, query: str, parameters: Mapping[str, object] | None = None) -> dict[str, np.ndarray]:
        """Run a query and return its columns as arrays, masked where a value is null."""
        return dict(self.connection.execute(query, dict(parameters or {})).fetchnumpy())

    def offer_frame(self, name: str, frame: pl.DataFrame) -> None:
        """Make a polars frame readable under this name (copied: it outlives the caller's variable)."""
        self.connection.register(f"frame_{name}", frame.to_arrow())
        self.connection.execute(
            f"create or replace temp table {quote(name)} as select * from {quote('frame_' + name)}"
        )
        self.connection.unregister(f"frame_{name}")

    def build(self, name: str, query: str, parameters: Mapping[str, object] | None = None) -> None:
        """Run a query and keep its rows in memory as a table of this name."""
        self.connection.execute(
            f"create or replace temp table {quote(name)} as {query}", dict(parameters or {})
        )

    def share(self, name: str) -> None:
        """Let twins read a table that `build` kept here; `unshare` forgets it for all."""
        self.connection.execute(f"create or replace table {quote(name)} as select * from temp.{quote(name)}")
        self.drop(f"{name}")

    def unshare(self, name: str) -> None:
        """Forget a table that `share` made readable to all twins."""
        self.connection.execute(f"drop table if exists {quote(name)}")

    def alias(self, name: str, of: str) -> None:
        """Make a table that `build` kept readable under another name too."""
        self.connection.execute(f"create or replace temp view {quote(name)} as select * from {quote(of)}")

    def view(self, name: str, query: str) -> None:
        """Give a query a name; its rows are made anew each time they are read."""
        self.connection.execute(f"create or replace temp view {quote(name)} as {query}")

    def drop(self, name: str) -> None:
        """Forget a table that `build` kept, or a view."""
        import duckdb

        try:
            self.connection.execute(f"drop table if exists {quote(name)}")
        except duckdb.CatalogException:
            # The name is a view's, which `drop table` refuses.
            self.connection.execute(f"drop view if exists {quote(name)}")

    def frame(self, query: str, parameters: Mapping[str, object] | None = None) -> pl.DataFrame:
        """Run a query and return its rows as a polars frame."""
        import polars as pl

        table = self.connection.sql(query, params=dict(parameters or {})).to_arrow_table()
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise StoreError("a query returned no table")
        return frame

    def row(self, query: str, parameters: Mapping[str, object] | None = None) -> tuple[Any, ...]:
        """Run a query that gives one row (counts, sums) and return it; StoreError where it gives none."""
        # Fetched whole: a half-read result would block the connection's next statement.
        rows = self.connection.execute(query, dict(parameters or {})).fetchall()
        if not rows:
            raise StoreError("a query that must give one row gave none")
        return tuple(rows[0])

    def write(
        self,
        query: str,
        path: Path,
        parameters: Mapping[str, object] | None = None,
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> int:
        """Run a query and write its rows, in their order, to one Parquet file; returns the number of rows."""
        statement = (
            f"copy ({query}) to {text_literal(str(path))} "
            f"(format parquet, compression zstd, row_group_size {int(row_group_rows)})"
        )
        return int(self.row(statement, parameters)[0])
