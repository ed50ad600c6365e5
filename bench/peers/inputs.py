"""What every peer is given: event files, the experiment's days, the measures, a folder to write to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from exp_pipeline.model.metrics import Measure
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import Workbench, midnight

# A peer fails, rather than the machine, above this share of the memory.
MEMORY_SHARE = 0.6
GAP_MINUTES = 30
EXPERIMENT = "hint-ladder"
# The columns that sessions, units and measures are made of.
COLUMNS = (
    "learner_key", "event_date", "occurred_at", "event_id", "event_name", "objective_changed",
    "device_handover", "learning_objective_id", "experiment", "experiment_version", "unit_type", "correct",
    "mastery", "answer_revealed", "latency_ms", "cost_usd", "retry_count", "grounded", "helpful", "severity",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inputs:
    """The work of a peer. `first` and `end` are the experiment's days, the last excluded."""

    files: Sequence[Path]
    folder: Path
    measures: Sequence[Measure]
    session_measures: Sequence[Measure]
    first: datetime
    end: datetime
    end_day: date
    our_sessions: Sequence[Path]
    our_unit_days: Sequence[Path]

    @property
    def sessions(self) -> Path:
        """Where a peer writes its sessions."""
        return self.folder / "sessions.parquet"

    @property
    def unit_days(self) -> Path:
        """Where a peer writes its measures by unit and day."""
        return self.folder / "unit_days.parquet"


def inputs(bench: Workbench, folder: Path) -> Inputs:
    """The inputs over the events of a lake; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    brief = bench.catalog.briefs[EXPERIMENT]

    def files(table: str) -> list[Path]:
        return bench.lake.paths(bench.lake.manifests(table, bench.lake.partitions(table)))

    return Inputs(
        files=files("events"),
        folder=folder,
        measures=behaviour.event_measures(bench),
        session_measures=behaviour.session_measures(bench),
        first=midnight(brief.start),
        end=midnight(brief.end),
        end_day=brief.end,
        our_sessions=files("sessions"),
        our_unit_days=files("unit_days"),
    )
