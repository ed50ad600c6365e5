"""State that changes: append-only entries in one small table (locks, incidents, decisions, ramps, flags).

Embedded, the table is a SQLite file below the home; in production a database that many machines reach, named
by a URL (`EXP_STATE_URL`). The statements are the same; what differs stands in `_Dialect`.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.home import Home

if TYPE_CHECKING:
    import sqlalchemy

_COLUMNS = """
  kind text not null,
  subject text not null,
  idempotency_key text not null,
  at text not null,
  content text not null,
  unique (kind, idempotency_key)
)
"""
_INDEX = "create index if not exists entries_by_subject on entries (kind, subject, entry_id)"
# Known to SQLite since 3.24 and to PostgreSQL since 9.5.
_INSERT = """
insert into entries (kind, subject, idempotency_key, at, content)
values (:kind, :subject, :key, :at, :content)
on conflict (kind, idempotency_key) do nothing
"""
# Journal and index of one entry need some pages: with less, SQLite speaks of an I/O error.
_ROOM_TO_WRITE = 1_000_000
_SELECT = "select entry_id, kind, subject, at, content from entries"


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What a database wants said in its own way.

    schema: statements that make the table, harmless where it is there. before_insert: what makes writers take
    turns, so that entries become visible in the order of their ids and none appears in between.
    """

    schema: tuple[str, ...]
    before_insert: str | None = None


_SQLITE = _Dialect(
    (f"create table if not exists entries (entry_id integer primary key autoincrement, {_COLUMNS}", _INDEX)
)
_LOCK = "select pg_advisory_xact_lock(727401)"
_POSTGRES = _Dialect(
    (
        _LOCK,
        "create table if not exists entries "
        f"(entry_id bigint generated always as identity primary key, {_COLUMNS}",
        _INDEX,
    ),
    before_insert=_LOCK,
)


class _Session(Protocol):
    """One transaction: statements with `:name` parameters."""

    def change(self, statement: str, values: Mapping[str, str]) -> int:
        """Run a statement; how many rows it touched."""

    def rows(self, statement: str, values: Mapping[str, str]) -> list[Any]:
        """The rows that a statement gives."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: never changed, never removed."""

    entry_id: int
    kind: str
    subject: str
    at: str
    content: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StateLog:
    """The append-only log. Appending the same idempotency key twice leaves one entry.

    path: the SQLite file, unless a url names another database (as SQLAlchemy writes them).
    """

    path: Path
    url: str | None = None

    def append(self, kind: str, subject: str, *, key: str, at: str, content: Mapping[str, object]) -> bool:
        """Add an entry; False where this key is there already."""
        values = {
            "kind": kind,
            "subject": subject,
            "key": key,
            "at": at,
            "content": json.dumps(content, sort_keys=True, default=str),
        }
        with self._session() as (session, dialect):
            if dialect.before_insert is not None:
                session.rows(dialect.before_insert, {})
            return session.change(_INSERT, values) == 1

    def entries(self, kind: str, subject: str | None = None) -> tuple[Entry, ...]:
        """The entries of a kind (and subject), oldest first."""
        return self._select(kind, subject, "order by entry_id")

    def since(self, kinds: Sequence[str], entry_id: int) -> tuple[Entry, ...]:
        """The entries of some kinds from an entry on, oldest first, as they stood at one moment."""
        names = {f"kind_{place}": kind for place, kind in enumerate(kinds)}
        among = ", ".join(f":{name}" for name in names)
        return self._read(
            f"{_SELECT} where kind in ({among}) and entry_id >= :first order by entry_id",
            names | {"first": str(entry_id)},
        )

    def newest(self, kind: str, subject: str | None = None) -> Entry | None:
        """The newest entry of a kind (and subject); None where there is none."""
        found = self._select(kind, subject, "order by entry_id desc limit 1")
        return found[0] if found else None

    def _select(self, kind: str, subject: str | None, rest: str) -> tuple[Entry, ...]:
        values = {"kind": kind} if subject is None else {"kind": kind, "subject": subject}
        which = "" if subject is None else "and subject = :subject"
        return self._read(f"{_SELECT} where kind = :kind {which} {rest}", values)

    def _read(self, statement: str, values: Mapping[str, str]) -> tuple[Entry, ...]:
        if self.url is None and not self.path.is_file():
            return ()
        with self._session() as (session, _):
            rows = session.rows(statement, values)
        return tuple(Entry(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows)

    @contextmanager
    def _session(self) -> Iterator[tuple[_Session, _Dialect]]:
        if self.url is None:
            with _embedded(self.path) as session:
                yield session, _SQLITE
        else:
            with _remote(self.url) as (other, dialect):
                yield other, dialect


def state_log(home: Home) -> StateLog:
    """The log of a home: the database that it names, or the file below it."""
    return StateLog(home.state / "state.sqlite", home.state_url)


@dataclass(frozen=True, slots=True)
class _Sqlite:
    connection: sqlite3.Connection

    def change(self, statement: str, values: Mapping[str, str]) -> int:
        return self.connection.execute(statement, dict(values)).rowcount

    def rows(self, statement: str, values: Mapping[str, str]) -> list[Any]:
        return self.connection.execute(statement, dict(values)).fetchall()


@contextmanager
def _embedded(path: Path) -> Iterator[_Sqlite]:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30.0)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.executescript(";".join(_SQLITE.schema))
        with connection:
            yield _Sqlite(connection)
    except sqlite3.OperationalError as error:
        free = shutil.disk_usage(path.parent).free
        full = "No space left on its disk: " if free < _ROOM_TO_WRITE else ""
        raise StoreError(
            f"the state log {path} cannot be read or written: {full}{error} ({free / 1e6:,.1f} MB free)"
        ) from error
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class _Alchemy:
    connection: sqlalchemy.Connection

    def change(self, statement: str, values: Mapping[str, str]) -> int:
        from sqlalchemy import text

        return self.connection.execute(text(statement), dict(values)).rowcount

    def rows(self, statement: str, values: Mapping[str, str]) -> list[Any]:
        from sqlalchemy import text

        return list(self.connection.execute(text(statement), dict(values)).fetchall())


@contextmanager
def _remote(url: str) -> Iterator[tuple[_Alchemy, _Dialect]]:
    from sqlalchemy.exc import OperationalError

    engine, dialect = _engine_of(url)
    try:
        with engine.begin() as connection:
            yield _Alchemy(connection), dialect
    except OperationalError as error:
        # The URL holds a password: only the driver's own words are told.
        raise StoreError(f"the state database cannot be reached or read: {error.orig}") from error


@cache
def _engine_of(url: str) -> tuple[sqlalchemy.Engine, _Dialect]:
    """An engine over a database whose table is there; connections are not kept, because processes fork."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import ArgumentError, OperationalError
    from sqlalchemy.pool import NullPool

    try:
        engine = create_engine(url, poolclass=NullPool)
    except (ArgumentError, ImportError) as error:
        raise StoreError("EXP_STATE_URL is no database URL, such as postgresql+psycopg2://…") from error
    known: Mapping[str, _Dialect] = {"sqlite": _SQLITE, "postgresql": _POSTGRES}
    dialect = known.get(engine.dialect.name)
    if dialect is None:
        raise StoreError(f"EXP_STATE_URL names {engine.dialect.name}; allowed: {', '.join(sorted(known))}")
    try:
        _prepare(engine, [text(statement) for statement in dialect.schema])
    except OperationalError as error:
        raise StoreError(f"the state database cannot be reached or made: {error.orig}") from error
    return engine, dialect


def _prepare(engine: sqlalchemy.Engine, statements: Sequence[sqlalchemy.TextClause]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)
