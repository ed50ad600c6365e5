"""State that changes: append-only entries in one small SQLite file (locks, incidents, decisions)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
create table if not exists entries (
  entry_id integer primary key autoincrement,
  kind text not null,
  subject text not null,
  idempotency_key text not null,
  at text not null,
  content text not null,
  unique (kind, idempotency_key)
);
create index if not exists entries_by_subject on entries (kind, subject, entry_id);
"""


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
    """The append-only log. Appending the same idempotency key twice leaves one entry."""

    path: Path

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30.0)
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            connection.executescript(_SCHEMA)
            with connection:
                yield connection
        finally:
            connection.close()

    def append(self, kind: str, subject: str, *, key: str, at: str, content: Mapping[str, object]) -> bool:
        """Add an entry; False where this key is there already."""
        with self._connected() as connection:
            done = connection.execute(
                "insert or ignore into entries (kind, subject, idempotency_key, at, content) "
                "values (?, ?, ?, ?, ?)",
                (kind, subject, key, at, json.dumps(content, sort_keys=True, default=str)),
            )
            return done.rowcount == 1

    def entries(self, kind: str, subject: str | None = None) -> tuple[Entry, ...]:
        """The entries of a kind (and subject), oldest first."""
        if not self.path.is_file():
            return ()
        query = "select entry_id, kind, subject, at, content from entries where kind = ?"
        values: tuple[str, ...] = (kind,)
        if subject is not None:
            query, values = query + " and subject = ?", (kind, subject)
        with self._connected() as connection:
            rows = connection.execute(query + " order by entry_id", values).fetchall()
        return tuple(Entry(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows)
