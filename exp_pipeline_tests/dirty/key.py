"""The answer key: what became of every planted row, written down by whoever planted it.

Nothing here or in the modules that plant uses the code under test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

DAYS = tuple(date(2026, 3, 2) + timedelta(days=place) for place in range(6))
DAY = timedelta(days=1)
LATENESS_DAYS = 3
LINE_LIMIT = 200_000
EVENTS_PER_MINUTE = 240

KEPT, RETRY, QUARANTINED, EXCLUDED = "kept", "retry", "quarantined", "excluded"
Cell = tuple[date, str, str, str]


@dataclass(frozen=True, slots=True)
class Fate:
    """What must become of one landed row: its fate and reason, and the event day it is counted under."""

    fate: str
    reason: str
    day: date


def kept(day: date) -> Fate:
    return Fate(KEPT, "", day)


def retry(day: date) -> Fate:
    return Fate(RETRY, "same_payload", day)


def refused(reason: str, day: date) -> Fate:
    return Fate(QUARANTINED, reason, day)


def left_out(reason: str, day: date) -> Fate:
    return Fate(EXCLUDED, reason, day)


@dataclass
class Planting:
    """A landing folder being filled, the key to it, and the source of ids, times and places."""

    root: Path
    random: random.Random
    cells: Counter[Cell] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    people: set[str] = field(default_factory=set)
    drawn: int = 0

    def new_id(self, prefix: str = "e") -> str:
        self.drawn += 1
        return f"{prefix}-{self.drawn:06d}"

    def moment(self, day: date) -> datetime:
        """A second of a day, away from both midnights."""
        at = datetime(day.year, day.month, day.day, 1)
        return at + timedelta(seconds=self.random.randrange(20 * 3600))

    def count(self, source: str, kind: str, fates: Iterable[Fate]) -> None:
        """Write down what must become of the rows of one kind that was planted."""
        self.kinds[kind] += 1
        for fate in fates:
            self.cells[fate.day, source, fate.fate, fate.reason] += 1

    def put(self, received: date, name: str, content: bytes) -> None:
        """Land a file."""
        path = self.root / f"received_date={received}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise ValueError(f"{path} was planted before")
        path.write_bytes(content)


Made = tuple[bytes, list[Fate]]
Maker = Callable[[Planting, date], Made]


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def envelope(planting: Planting, day: date, **changes: object) -> dict[str, object]:
    """A sound event of a day; a change to None takes a field out, `...` makes it an explicit null."""
    at = planting.moment(day)
    event: dict[str, object] = {
        "event_id": planting.new_id(),
        "event_name": "hint_requested",
        "schema_version": "1.0",
        "client_ts": stamp(at),
        "received_at": stamp(at + timedelta(seconds=2)),
        "learner_id": f"learner-{planting.random.randrange(50)}",
        "role": "student",
        "platform": "web",
        "app_version": "1.0",
        **changes,
    }
    return {name: None if value is ... else value for name, value in event.items() if value is not None}
