"""Readouts whose inputs are no longer what the lake holds, and what a readout made again changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from exp_pipeline.analysis.deciding.movement import changed_inputs
from exp_pipeline.model.readout import InputChange
from exp_pipeline.steps.again.backfill_needs import windows_of
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.steps.experiments.chain import brief_of, input_digests, last_day
from exp_pipeline.steps.experiments.input_changes import (
    changed_partitions,
    corrected_by_day,
    corrected_now,
    inputs_of_record,
)
from exp_pipeline.steps.retired import retired
from exp_pipeline.store.marts import Marts

# A change of code alone makes a snapshot another one, but nobody's numbers are out of date by it.
_OF_DATA = (
    "late data", "correction", "made anew", "brief", "metrics", "limits", "lock", "unblinding", "earlier A/A",
)  # fmt: skip
_WORDS: Mapping[str, str] = {
    "late data": "late data",
    "correction": "corrected data",
    "made anew": "tables made by another rule",
    "new days": "new days",
    "brief": "the brief was changed",
    "metrics": "a metric's definition was changed",
    "code": "the code was changed",
    "limits": "the experiment's layer, holdout or ramp was changed",
    "lock": "the brief's lock is another",
    "unblinding": "a reason to show effects early was recorded",
    "earlier A/A": "an A/A before it says something else now",
    "unknown": "inputs that are not known any more",
}


@dataclass(frozen=True, slots=True)
class Staleness:
    """How an experiment's current snapshot stands against the lake.

    `changes` are inputs up to the snapshot's last day that are others now; `newer_days` counts event days
    after it, which do not make it stale.
    """

    experiment: str
    snapshot: str
    as_of: date
    changes: tuple[InputChange, ...]
    newer_days: int

    @property
    def stale(self) -> bool:
        """Whether the readout would come out of other data or definitions now."""
        return any(change.why in _OF_DATA for change in self.changes)

    def sentence(self) -> str:
        """Whether it is stale and why, in one sentence."""
        if not self.stale:
            return f"The inputs of snapshot {self.snapshot} are those that the lake holds."
        told = "; ".join(change_words(one) for one in self.changes if one.why in _OF_DATA)
        return (
            f"This readout is stale: since snapshot {self.snapshot} its inputs changed ({told}). "
            "Materialize the experiment again."
        )


def change_words(change: InputChange) -> str:
    """One kind of changed input in words: why, days, tables."""
    days = ", ".join(
        f"{window.first}" if window.end - window.first == DAY else f"{window.first} to {window.end - DAY}"
        for window in windows_of(change.days)
    )
    of = f" in {', '.join(change.tables)}" if change.tables else ""
    return f"{_WORDS[change.why]}{f' on {days}' if days else ''}{of}"


def staleness(bench: Workbench, experiment: str) -> Staleness | None:
    """Does the lake still hold what the experiment's current snapshot was made from? None without a snapshot.

    Compares digests in manifests; reads no data but of refused rows on days that changed.
    """
    brief = brief_of(bench, experiment)
    marts = Marts(bench.home.marts)
    snapshot = marts.current(experiment)
    record = marts.record(experiment, snapshot) if snapshot is not None else None
    newest = last_day(bench)
    if snapshot is None or record is None or newest is None or brief.table is not None:
        return None
    as_of = date.fromisoformat(str(record["as_of"]))
    before = inputs_of_record(record)
    now = _with_deleted(bench, before, input_digests(bench, brief, as_of))
    # Stays of later days change the list of stays, and nothing up to the snapshot's last day.
    known = corrected_by_day(record)
    there = corrected_now(bench, changed_partitions(before, now, "quarantine"))
    corrected = {day for day, rows in there.items() if rows > known.get(day, 0)}
    changes = changed_inputs(before, now, corrected=corrected, whole_tables=newest == as_of)
    newer = max((min(newest, brief.end - DAY) - as_of).days, 0)
    return Staleness(experiment, snapshot, as_of, changes, newer)


def _with_deleted(
    bench: Workbench, before: Mapping[str, object], now: dict[str, object]
) -> dict[str, object]:
    """Inputs of today with what retention deleted as it was: a day whose time is over makes nothing stale."""
    was, tables = before.get("tables"), now.get("tables")
    gone = retired(bench.home)
    if not gone or not isinstance(was, dict) or not isinstance(tables, dict):
        return now
    filled = dict(tables)
    for table, held in was.items():
        if isinstance(held, dict) and isinstance(tables.get(table), dict):
            kept = {name: digest for name, digest in held.items() if (table, name) in gone}
            filled[table] = kept | tables[table]
    return now | {"tables": filled}


def stale_readouts(bench: Workbench, experiments: Sequence[str] | None = None) -> tuple[Staleness, ...]:
    """The experiments (all, or those named) whose current readout is stale, by name."""
    names = sorted(bench.catalog.briefs) if experiments is None else sorted(experiments)
    found = (staleness(bench, name) for name in names)
    return tuple(one for one in found if one is not None and one.stale)
