"""Where things live on disk: one folder for what people write and what the pipeline writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The data folder: `catalog` and `landing` are written by people, the rest by the pipeline.

    state_url: the database of the state log, where it is not a file below `state`.
    """

    root: Path
    state_url: str | None = None

    @property
    def catalog(self) -> Path:
        return self.root / "catalog"

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def marts(self) -> Path:
        return self.root / "marts"

    @property
    def readouts(self) -> Path:
        return self.root / "readouts"

    @property
    def flags(self) -> Path:
        return self.root / "flags"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def notifications(self) -> Path:
        return self.state / "notifications.jsonl"

    @property
    def warehouse(self) -> Path:
        return self.marts / "warehouse.duckdb"
