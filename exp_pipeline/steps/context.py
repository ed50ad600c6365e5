"""What every step is given: where data lives, what people declared, the engine, the key, and who asks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

from exp_pipeline.catalog import Catalog
from exp_pipeline.contracts.fields import identifiers, reduced_texts, sql_types
from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.digests import digest_of
from exp_pipeline.store.engine import Engine, Rows
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import Lake, Manifest, NewFile
from exp_pipeline.transform.door import DoorShape, TextReduction, landed_columns
from exp_pipeline.transform.identity import IdentityKey

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Whole UTC days, the first included, the last excluded."""

    first: date
    end: date

    def __post_init__(self) -> None:
        if self.end <= self.first:
            raise ValueError(f"a window needs at least one day; got {self.first} to {self.end} (excluded)")

    @classmethod
    def of(cls, first: date, last: date) -> Window:
        """The window from `first` to `last`, both included."""
        return cls(first, last + DAY)

    def days(self) -> tuple[date, ...]:
        """Every day of the window, in order."""
        return tuple(self.first + DAY * offset for offset in range((self.end - self.first).days))

    def widened(self, before: int, after: int) -> Window:
        """The window with days added at both ends."""
        return Window(self.first - DAY * before, self.end + DAY * after)


@dataclass(frozen=True, slots=True)
class Written:
    """What a step wrote to one partition."""

    table: str
    partition: str
    rows: int
    bytes: int
    seconds: float
    digest: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Workbench:
    """Everything a step works with. Steps take it as their first argument and change nothing in it."""

    home: Home
    catalog: Catalog
    engine: Engine
    run_id: str
    # The key in force; while a rotation lasts, the keys that will follow it stand in newer_keys.
    key: IdentityKey | None = None
    newer_keys: tuple[IdentityKey, ...] = ()
    code_version: str = "unknown"
    # Where a redacted sample of raw texts is kept, outside the data folder (`steps.debug_envelope`).
    envelope: Path | None = None
    # What the partitions that a step is about to write are made from, by table and partition (`origins`).
    origins: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return Lake(self.home.lake)

    def shape(self) -> DoorShape:
        """What the contract says about canonical columns, in the form the door asks for."""
        return door_shape()

    def read(
        self,
        name: str,
        table: str,
        manifests: Sequence[Manifest],
        *,
        tags: Iterable[str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Offer partitions of a lake table to the engine under a name; `more` adds catalog-driven columns."""
        columns = {
            **(landed_columns(self.shape()) if table == "landed" else table_columns(table)),
            **(more or {}),
        }
        self.engine.offer(name, Rows(self.lake.paths(manifests, tags), columns))

    def read_days(
        self, name: str, table: str, window: Window, *, more: Mapping[str, str] | None = None
    ) -> tuple[Manifest, ...]:
        """Offer the event days of a window that exist; returns their manifests."""
        manifests = self.lake.manifests(table, [event_day(day) for day in window.days()])
        self.read(name, table, manifests, more=more)
        return manifests

    def commit(
        self,
        table: str,
        partition: str,
        files: Sequence[NewFile],
        started: float,
        *,
        schema_version: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> Written:
        """Make files the content of a partition and say what was written."""
        manifest = self.lake.commit(
            table,
            partition,
            files,
            schema_version=schema_version or self.schema_version(table),
            run_id=self.run_id,
            facts=facts,
            inputs=self.origins.get((table, partition)),
        )
        return Written(
            table=table,
            partition=partition,
            rows=manifest.rows,
            bytes=manifest.bytes,
            seconds=round(time.monotonic() - started, 3),
            digest=manifest.content_digest,
            facts=dict(manifest.facts),
        )

    def schema_version(self, table: str) -> str:
        """Short digest of a table's columns."""
        columns = landed_columns(self.shape()) if table == "landed" else table_columns(table)
        return digest_of([[name, kind] for name, kind in columns.items()])[:12]

    @contextmanager
    def staged(self, table: str, partition: str) -> Iterator[Path]:
        """A temporary file inside the partition's folder; gone again where the step fails."""
        path = self.lake.staging(table, partition)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


@cache
def door_shape() -> DoorShape:
    """The canonical columns in the form the door asks for: types, which hold ids, which reduce a text."""
    reductions = tuple(
        TextReduction(text.name, text.hmac, text.chars, text.language) for text in reduced_texts()
    )
    return DoorShape(types=sql_types(), identifiers=identifiers(), reductions=reductions)


def event_day(day: date) -> str:
    """The partition of an event day."""
    return f"event_date={day.isoformat()}"


def received_day(day: date) -> str:
    """The partition of a received day."""
    return f"received_date={day.isoformat()}"


def day_of(partition: str) -> date:
    """The day that a partition's name carries."""
    return date.fromisoformat(partition.partition("=")[2])


def midnight(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime(day.year, day.month, day.day)
