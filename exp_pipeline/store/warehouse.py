"""The warehouse file: one small DuckDB database of documented views and tables, replaced whole.

It is built beside the live file and renamed over it, so that nobody meets a lock: the builder holds a file
that no reader knows, and an open connection keeps the file it opened, with every row that file showed,
until it closes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.files import digest_of_file, one_at_a_time, replace_file, temporary_beside, write_text
from exp_pipeline.store.lake import Lake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# One statement for each row costs more than the row.
_ROWS_AT_ONCE = 200
Connect = Callable[[str], AbstractContextManager["DuckDBPyConnection"]]
Value = str | int | float | bool | date | datetime | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """A column as people see it: DuckDB type, and its meaning in one line."""

    name: str
    sql_type: str
    description: str


@dataclass(frozen=True, slots=True)
class ShownWhere:
    """Columns that hold their value only in rows whose `column` is one of `values`; else they are null."""

    column: str
    values: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownView:
    """A view over Parquet files. Files of one group have the same columns; a column they lack is null."""

    name: str
    description: str
    columns: tuple[ShownColumn, ...]
    groups: tuple[tuple[Path, ...], ...]
    shown_where: ShownWhere | None = None


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A small table that the file itself holds; each row has one value for each column."""

    name: str
    description: str
    columns: tuple[ShownColumn, ...]
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything the warehouse is to show."""

    views: tuple[ShownView, ...]
    tables: tuple[ShownTable, ...]

    def digest(self) -> str:
        """Names the content: equal digests show the same rows under the same words."""
        views = [
            [
                view.name,
                view.description,
                _words(view.columns),
                [[str(path) for path in group] for group in view.groups],
                None if view.shown_where is None else list(astuple(view.shown_where)),
            ]
            for view in self.views
        ]
        tables = [
            [
                table.name,
                table.description,
                _words(table.columns),
                [[_plain(value) for value in row] for row in table.rows],
            ]
            for table in self.tables
        ]
        return digest_of([views, tables])


@dataclass(frozen=True, slots=True)
class Replacement:
    """The live warehouse after a build: `changed` is false where it already showed this content."""

    digest: str
    bytes: int
    changed: bool


def lake_view(lake: Lake, table: str, description: str, columns: Sequence[ShownColumn]) -> ShownView:
    """A view of all current rows of a lake table, in partition order; empty where nothing was written yet."""
    groups: dict[str, list[Path]] = {}
    for manifest in lake.manifests(table, lake.partitions(table)):
        groups.setdefault(manifest.schema_version, []).extend(
            path.absolute() for path in lake.paths([manifest])
        )
    return ShownView(
        table, description, tuple(columns), tuple(tuple(paths) for paths in groups.values() if paths)
    )


def replace_warehouse(path: Path, gather: Callable[[], Shown], connect: Connect) -> Replacement:
    """Make the file at `path` show what `gather` finds; a file that shows it already is left alone.

    `connect` opens a database file for writing; only a new file beside the live one is ever opened with it.
    Builders wait for each other before they gather, so a slow one cannot put back an older state; a killed
    one leaves no lock, and what it left is removed here. Raises StoreError where the new file was not closed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(path.parent):
        shown = gather()
        digest = shown.digest()
        known = _recorded(path)
        if known is not None and known["content"] == digest and _is_file_of(path, known):
            return Replacement(digest, path.stat().st_size, False)
        for left in path.parent.glob(f".{path.name}.*"):
            left.unlink(missing_ok=True)
        aside = temporary_beside(path)
        log = aside.with_name(aside.name + ".wal")
        try:
            with connect(str(aside)) as connection:
                _fill(connection, shown)
                connection.execute("checkpoint")
            if log.exists():
                raise StoreError(
                    f"the new warehouse {aside.name} was not closed; close its connection after use"
                )
            # Readers only: whoever opened it for writing would leave a log that fits no later file.
            aside.chmod(0o444)
            record = {
                "content": digest,
                "file": digest_of_file(aside),
                "bytes": aside.stat().st_size,
                "folder": str(path.parent.absolute()),
            }
            _forget_log(path)
            replace_file(aside, path)
            _forget_log(path)
        finally:
            aside.unlink(missing_ok=True)
            log.unlink(missing_ok=True)
        write_text(_record_path(path), json.dumps(record, sort_keys=True) + "\n")
        return Replacement(digest, path.stat().st_size, True)


@contextmanager
def open_warehouse(path: Path) -> Iterator[DuckDBPyConnection]:
    """A read-only connection to the live warehouse, which reads its files also after the folder was moved.

    Raises StoreError where there is none, and where a query meets a file that was replaced so long ago that
    it is gone: the caller then opens the warehouse again.
    """
    import duckdb

    if not path.is_file():
        raise StoreError(f"there is no warehouse at {path}; materialize `warehouse` first")
    built_in = (_recorded(path) or {}).get("folder")
    moved = isinstance(built_in, str) and built_in != str(path.parent.absolute())
    connection = _moved(path, str(built_in)) if moved else duckdb.connect(str(path), read_only=True)
    try:
        yield connection
    except duckdb.IOException as trouble:
        raise StoreError(
            "the warehouse names a file that has been replaced since it was built "
            f"({str(trouble).splitlines()[0]}); "
            "materialize `warehouse`, close every connection to the old one, and open it again"
        ) from trouble
    finally:
        connection.close()


def _moved(path: Path, built_in: str) -> DuckDBPyConnection:
    """The warehouse of a data folder that was moved: its views over the files where they are now."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"attach {text_literal(str(path))} as moved (read_only)")
    before, now = str(Path(built_in).parent) + "/", str(path.parent.absolute().parent) + "/"
    views = connection.execute(
        "select view_name, sql, comment from duckdb_views() where database_name = 'moved' and not internal"
    ).fetchall()
    # The file's own text, made by `_fill`: only the beginning of its paths is another one now.
    for name, sql, comment in views:
        connection.execute(sql.replace(text_literal(before)[:-1], text_literal(now)[:-1]))
        connection.execute(f"comment on view {quote(name)} is {text_literal(comment or '')}")
    tables = connection.execute(
        "select table_name, comment from duckdb_tables() where database_name = 'moved'"
    ).fetchall()
    for name, comment in tables:
        connection.execute(f"create table {quote(name)} as select * from moved.{quote(name)}")
        connection.execute(f"comment on table {quote(name)} is {text_literal(comment or '')}")
    words = connection.execute(
        "select table_name, column_name, comment from duckdb_columns() "
        "where database_name = 'moved' and comment is not null"
    ).fetchall()
    for table, column, comment in words:
        connection.execute(f"comment on column {quote(table)}.{quote(column)} is {text_literal(comment)}")
    connection.execute("detach moved")
    return connection


def _fill(connection: DuckDBPyConnection, shown: Shown) -> None:
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("begin")
    for view in shown.views:
        connection.execute(f"create view {quote(view.name)} as {_view_body(connection, view)}")
        _describe(connection, "view", view)
    for table in shown.tables:
        columns = ", ".join(f"{quote(column.name)} {column.sql_type}" for column in table.columns)
        connection.execute(f"create table {quote(table.name)} ({columns})")
        marks = f"({', '.join('?' for _ in table.columns)})"
        for start in range(0, len(table.rows), _ROWS_AT_ONCE):
            rows = table.rows[start : start + _ROWS_AT_ONCE]
            connection.execute(
                f"insert into {quote(table.name)} values {', '.join(marks for _ in rows)}",
                [value for row in rows for value in _bound(row)],
            )
        _describe(connection, "table", table)
    connection.execute("commit")


def _view_body(connection: DuckDBPyConnection, view: ShownView) -> str:
    if not view.groups:
        nothing = ", ".join(f"null::{column.sql_type} as {quote(column.name)}" for column in view.columns)
        return f"select {nothing} where false"
    return " union all ".join(_group_body(connection, view, paths) for paths in view.groups)


def _group_body(connection: DuckDBPyConnection, view: ShownView, paths: Sequence[Path]) -> str:
    files = ", ".join(text_literal(str(path)) for path in paths)
    described = connection.execute(
        f"describe select * from read_parquet({text_literal(str(paths[0]))}, hive_partitioning = false)"
    ).fetchall()
    present = {row[0]: row[1] for row in described}
    chosen = []
    for column in view.columns:
        name = quote(column.name)
        if present.get(column.name) == column.sql_type:
            chosen.append(name)
        else:
            value = name if column.name in present else "null"
            chosen.append(f"{value}::{column.sql_type} as {name}")
    where = view.shown_where
    if where is not None and where.column in present:
        listed = ", ".join(text_literal(value) for value in where.values)
        # Closed unless opened: an experiment that nobody knows yet is hidden too.
        known = f"{quote(where.column)} in ({listed})" if listed else "false"
        for place, column in enumerate(view.columns):
            if column.name in where.columns and column.name in present:
                name = quote(column.name)
                chosen[place] = f"case when {known} then {name}::{column.sql_type} end as {name}"
    return f"select {', '.join(chosen)} from read_parquet([{files}], hive_partitioning = false)"


def _describe(connection: DuckDBPyConnection, kind: str, shown: ShownView | ShownTable) -> None:
    name = quote(shown.name)
    said = [f"comment on {kind} {name} is {text_literal(shown.description)}"]
    said += [
        f"comment on column {name}.{quote(column.name)} is {text_literal(column.description)}"
        for column in shown.columns
    ]
    connection.execute("; ".join(said))


def _bound(row: Sequence[Value]) -> list[object]:
    return [list(value) if isinstance(value, tuple) else value for value in row]


def _words(columns: Sequence[ShownColumn]) -> list[list[str]]:
    return [[column.name, column.sql_type, column.description] for column in columns]


def _plain(value: Value) -> str | int | float | bool | list[str] | None:
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, date) else value


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _recorded(path: Path) -> dict[str, object] | None:
    """What the last build wrote down; None where that is missing or damaged, which a new build repairs."""
    try:
        found = json.loads(_record_path(path).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and {"content", "file", "bytes"} <= found.keys() else None


def _is_file_of(path: Path, record: dict[str, object]) -> bool:
    return (
        path.is_file()
        and not path.with_name(path.name + ".wal").exists()
        and path.stat().st_size == record["bytes"]
        and digest_of_file(path) == record["file"]
    )


def _forget_log(path: Path) -> None:
    """Remove the write-ahead log of somebody who opened the live file for writing: it fits no other file."""
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
