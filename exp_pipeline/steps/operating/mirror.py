"""The mirror of a home: where it is, and what waits to be copied there, by names, sizes and times alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.experiments.erased import ERASURES
from exp_pipeline.store import mirror as layout
from exp_pipeline.store.home import Home
from exp_pipeline.store.mirror_objects import Objects, Patience
from exp_pipeline.store.mirror_places import open_objects
from exp_pipeline.store.state import state_log

VARIABLE = "EXP_LAKE_MIRROR"
# So many transfers at a time: a bucket far away answers slowly, and small files wait for it together.
AT_ONCE = 8
Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mirror stands to its home, without asking it: what waits, since when; when it was last pushed."""

    mirror: str
    pushed_at: datetime | None
    waiting: int
    lag_seconds: float
    removal_due: bool
    erasure_due: bool

    @property
    def due(self) -> bool:
        """Whether a push has something to do."""
        return self.pushed_at is None or bool(self.waiting) or self.removal_due or self.erasure_due


def mirror_from(environment: Mapping[str, str], patience: Patience | None = None) -> Objects | None:
    """The mirror that EXP_LAKE_MIRROR names; None where none is set. Raises ValueError for another form."""
    url = environment.get(VARIABLE, "").strip()
    if not url:
        return None
    try:
        return open_objects(url, patience)
    except ValueError as trouble:
        raise ValueError(f"{VARIABLE}: {trouble}") from None


def apart(home: Home, objects: Objects) -> None:
    """Raise StoreError where mirror and data folder lie in one another."""
    if not objects.name.startswith("file://"):
        return
    place, root = Path(objects.name.removeprefix("file://")).resolve(), home.root.resolve()
    if place.is_relative_to(root) or root.is_relative_to(place):
        raise StoreError(
            f"{VARIABLE}: mirror and data folder {home.root} lie in one another; name a place apart"
        )


def owner_of(objects: Objects, home: Home) -> tuple[str | None, str | None]:
    """Which home a mirror belongs to (None: there is none yet), and the name of this one (None: no name yet).

    Raises StoreError where the place cannot be reached, or lies in the data folder.
    """
    apart(home, objects)
    found = objects.read(layout.MARK)
    owner = layout.parsed_mark(found[0], objects.name).home if found is not None else None
    return owner, layout.identity_of(home)


def standing(home: Home, mirror: str, now: datetime) -> Standing:
    """How the home stands to its mirror, by names, sizes and times of change here alone."""
    record = layout.read_record(home, mirror)
    waiting = layout.waiting(home, record)
    erased = len(state_log(home).entries(ERASURES))
    due = record.next_removal if record is not None else None
    return Standing(
        mirror=mirror,
        pushed_at=record.at if record is not None else None,
        waiting=len(waiting),
        lag_seconds=max(now.timestamp() - min(waiting.values()), 0.0) if waiting else 0.0,
        removal_due=due is not None and due <= now,
        erasure_due=record is not None and erased != record.erasures,
    )


def at_once(task: Callable[[str], T], keys: Iterable[str]) -> Iterator[T]:
    """Results of a task by key, in the order of the keys, some at a time; the first trouble ends it."""
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        futures = [pool.submit(task, key) for key in keys]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
