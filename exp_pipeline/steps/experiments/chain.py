"""The analysis chain of one experiment: a snapshot of the dataset, then the readout made from it alone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from exp_pipeline.analysis.readout import ReadoutInputs, read_out
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import ExpError, StoreError
from exp_pipeline.model.ramps import stops_of
from exp_pipeline.model.readout import ExclusionCount, LockState, Provenance, Readout
from exp_pipeline.steps.again.backfill_needs import require_definitions
from exp_pipeline.steps.assignment.exposure import WHOLE
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, day_of, event_day, received_day
from exp_pipeline.steps.experiments import locking
from exp_pipeline.steps.experiments.aa import equal_arms_before
from exp_pipeline.steps.experiments.dataset import (
    COMPLETENESS_DAYS,
    MAD_FILES,
    WEEKS,
    fill_snapshot,
    pre_days,
)
from exp_pipeline.steps.experiments.evidence import (
    inputs_of_assignment,
    read_evidence,
    transitions_until,
    write_evidence,
)
from exp_pipeline.steps.experiments.input_changes import CORRECTED, changes_between, corrected_now
from exp_pipeline.steps.experiments.kept import Kept, Predecessor, read_kept, write_kept
from exp_pipeline.steps.experiments.unblinding import unblindings_of
from exp_pipeline.store.marts import Marts

# A run that writes the days of an experiment is over before so many snapshots of it were begun.
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of one experiment's dataset and what it was made from."""

    experiment: str
    snapshot: str
    as_of: date
    folder: Path
    rows: int
    made_now: bool
    written: Written


def brief_of(bench: Workbench, experiment: str) -> Brief:
    """The brief of an experiment. Raises ExpError naming those that exist."""
    brief = bench.catalog.briefs.get(experiment)
    if brief is None:
        known = ", ".join(sorted(bench.catalog.briefs)) or "none"
        broken = [str(problem) for problem in bench.catalog.problems if experiment in problem.file]
        detail = ("\n" + "\n".join(broken)) if broken else ""
        raise ExpError(f"no usable brief for experiment {experiment!r}; there are: {known}{detail}")
    return brief


def last_day(bench: Workbench) -> date | None:
    """The newest event day whose facts are there."""
    days = bench.lake.partitions("unit_days")
    return day_of(days[-1]) if days else None


def lock_of(bench: Workbench, brief: Brief) -> LockState:
    """How the brief stands against its lock; unlocked where it has not started."""
    return locking.lock_of(bench.home, brief)


def days_of(brief: Brief, newest: date) -> Window | None:
    """The days of an experiment that are in the data, or None before its first day."""
    last = min(newest, brief.end - DAY)
    return Window.of(brief.start, last) if last >= brief.start else None


def take_snapshot(bench: Workbench, experiment: str) -> Snapshot:
    """Make (or find again) the snapshot of the dataset that today's inputs give.

    Its name is the digest of everything it is made from, so the same inputs give the same name and the same
    bytes, and a snapshot is never written twice. The brief, its lock and the recorded reasons for showing
    effects early are among its inputs, and it keeps them, with its metrics: its readout needs nothing else.
    Raises ExpError where no day of facts is there yet, where days were made before a measure was added or
    defined anew (it names them), and where days are written anew each time it reads them.
    """
    for _ in range(_ROUNDS):
        taken = _taken(bench, experiment)
        if taken is not None:
            return taken
    raise ExpError(
        f"days that {experiment} rests on are being written: materialize `mad` again once that run is done"
    )


class _MovedError(Exception):
    """Inputs of a snapshot were replaced while it was being made: it would not hold what its name says."""


def _taken(bench: Workbench, experiment: str) -> Snapshot | None:
    """The snapshot of what is there now; None where another process wrote days of it meanwhile."""
    started = time.monotonic()
    brief = brief_of(bench, experiment)
    newest = last_day(bench)
    if newest is None:
        raise ExpError("no unit_days yet: materialize the daily assets first (`exp run`)")
    require_definitions(bench, experiment)
    newest = min(newest, brief.end - DAY)
    inputs = input_digests(bench, brief, newest)
    snapshot = digest_of(inputs)[:16]
    marts = Marts(bench.home.marts)
    late_days = _late_days(bench, brief, newest)
    record = {
        "experiment": experiment,
        "snapshot": snapshot,
        "as_of": newest.isoformat(),
        "run_id": bench.run_id,
        "code_version": bench.code_version,
        "brief_digest": brief.digest(),
        "metrics_digest": bench.catalog.metrics_digest(brief),
        "late_share": _late_share(late_days),
        "late_days": late_days,
        "exclusions": [count.model_dump() for count in _exclusions(bench, brief, newest)],
        CORRECTED: _corrected(bench, brief, newest),
        "inputs": inputs,
    }

    def fill(folder: Path) -> None:
        fill_snapshot(bench, brief, days_of(brief, newest), newest, folder)
        write_evidence(bench, brief, newest, folder)
        write_kept(_kept(bench, brief, record), folder)
        if input_digests(bench, brief, newest) != inputs:
            raise _MovedError

    try:
        made = marts.add(experiment, snapshot, record, fill)
    except _MovedError:
        return None
    marts.point(experiment, snapshot)
    folder = marts.folder(experiment, snapshot)
    rows = pl.scan_parquet(folder / "mad.parquet").select(pl.len()).collect().item()
    size = sum((folder / f"{name}.parquet").stat().st_size for name in MAD_FILES)
    written = Written(
        "mad", f"experiment={experiment}", rows, size, round(time.monotonic() - started, 3), snapshot
    )
    return Snapshot(experiment, snapshot, newest, folder, rows, made, written)


def _kept(bench: Workbench, brief: Brief, record: Mapping[str, object]) -> Kept:
    """What a snapshot that is being made keeps of definitions, standing and its predecessor."""
    marts = Marts(bench.home.marts)
    try:
        name = marts.current(brief.name)
        last = marts.record(brief.name, name) if name is not None else None
    except StoreError:
        # A damaged pointer or record is no predecessor; the new snapshot heals the pointer.
        name, last = None, None
    return Kept(
        brief=brief,
        brief_digest=brief.digest(),
        metrics=bench.catalog.metrics_of(brief),
        measures=bench.catalog.measures_of(brief),
        lock=lock_of(bench, brief),
        unblindings=unblindings_of(bench.home, brief),
        equal_arms=equal_arms_before(bench, brief),
        ramp=transitions_until(bench, brief, date.fromisoformat(str(record["as_of"]))),
        before=Predecessor(
            snapshot=name, as_of=date.fromisoformat(str(last["as_of"])), inputs=changes_between(last, record)
        )
        if name is not None and last is not None
        else None,
    )


def input_digests(bench: Workbench, brief: Brief, newest: date) -> dict[str, object]:
    """Everything that a snapshot of data up to a day is made from, each input by its digest."""
    lake = bench.lake
    window = days_of(brief, newest)
    tables: dict[str, object] = {}
    if window is not None:
        before = window.widened(pre_days(bench.catalog, brief), 0)
        for table, days in (
            ("unit_days", window),
            ("assignments", window),
            ("exposures", window),
            ("events", window),
            ("learner_days", before),
            ("sessions", before),
            ("quarantine", window),
            ("exclusions", window),
        ):
            manifests = lake.manifests(table, [event_day(day) for day in days.days()])
            tables[table] = {manifest.partition: manifest.content_digest[:16] for manifest in manifests}
        enrollments = lake.manifest("enrollments", WHOLE)
        tables["enrollments"] = enrollments.content_digest[:16] if enrollments else None
    return {
        "brief": brief.digest(),
        **_standing(bench, brief),
        **inputs_of_assignment(bench, brief, newest),
        "metrics": bench.catalog.metrics_digest(brief),
        "code": bench.code_version,
        "as_of": newest.isoformat(),
        "tables": tables,
    }


def _standing(bench: Workbench, brief: Brief) -> dict[str, object]:
    """Lock, recorded unblindings and A/A results as inputs; each is left out where there is none."""
    lock, asked = lock_of(bench, brief), unblindings_of(bench.home, brief)
    found: dict[str, object] = {}
    if lock.locked_digest is not None:
        found["lock"] = digest_of([lock.locked_digest, lock.days_seen])[:16]
    if asked:
        found["unblinding"] = digest_of([[one.by, one.reason] for one in asked])[:16]
    equal = equal_arms_before(bench, brief)
    if equal:
        found["equal_arms"] = digest_of([one.model_dump(mode="json") for one in equal])[:16]
    return found


def _corrected(bench: Workbench, brief: Brief, newest: date) -> dict[str, int]:
    window = days_of(brief, newest)
    partitions = [event_day(day) for day in window.days()] if window is not None else []
    return {day.isoformat(): rows for day, rows in corrected_now(bench, partitions).items()}


def _late_days(bench: Workbench, brief: Brief, newest: date) -> dict[str, list[int]]:
    """By event day: landed rows that arrived more than a day after it, and all of them."""
    window = days_of(brief, newest)
    if window is None:
        return {}
    days = {day.isoformat(): day for day in window.days()}
    counted: dict[str, list[int]] = {}
    earliest = received_day(window.first - DAY)
    for manifest in bench.lake.manifests(
        "landed", [name for name in bench.lake.partitions("landed") if name >= earliest]
    ):
        for file in manifest.files:
            if file.tag in days:
                both = counted.setdefault(file.tag, [0, 0])
                both[1] += file.rows
                both[0] += file.rows if day_of(manifest.partition) - days[file.tag] > timedelta(days=1) else 0
    return dict(sorted(counted.items()))


def _late_share(late_days: Mapping[str, Sequence[int]]) -> float | None:
    """Share of the window's landed rows that arrived more than a day after their event day."""
    total = sum(landed for _, landed in late_days.values())
    return round(sum(late for late, _ in late_days.values()) / total, 6) if total else None


def _late_days_of(record: Mapping[str, object]) -> pl.DataFrame | None:
    """Late rows by event day as a snapshot keeps them; None in snapshots of earlier versions."""
    kept = record.get("late_days")
    if not isinstance(kept, dict) or not kept:
        return None
    return pl.DataFrame(
        [(date.fromisoformat(day), late, landed) for day, (late, landed) in sorted(kept.items())],
        schema={"event_date": pl.Date, "late": pl.Int64, "landed": pl.Int64},
        orient="row",
    )


def _exclusions(bench: Workbench, brief: Brief, newest: date) -> tuple[ExclusionCount, ...]:
    window = days_of(brief, newest)
    if window is None:
        return ()
    found = []
    for kind, table in (("excluded", "exclusions"), ("quarantined", "quarantine")):
        bench.read_days("refused_rows", table, window)
        for reason, rows in bench.engine.connection.execute(
            "select reason, count(*) from refused_rows group by reason order by reason"
        ).fetchall():
            found.append(
                ExclusionCount.model_validate({"kind": kind, "reason": str(reason), "rows": int(rows)})
            )
    return tuple(found)


def readout_inputs(bench: Workbench, experiment: str, snapshot: str | None = None) -> ReadoutInputs:
    """What the readout of a snapshot (the current one, unless named) is computed from: its files alone.

    Nothing of today enters: brief, metrics, lock and unblindings are those that the snapshot keeps. Raises
    ExpError where the snapshot does not exist, or keeps none of them because an earlier version made it.
    """
    marts = Marts(bench.home.marts)
    name = snapshot or marts.current(experiment)
    record = marts.record(experiment, name) if name else None
    if name is None or record is None:
        known = ", ".join(marts.snapshots(experiment)) or "none"
        raise ExpError(
            f"no snapshot {name or ''} of {experiment}; there are: {known} (materialize `mad` first)"
        )
    folder = marts.folder(experiment, name)
    kept = read_kept(folder)
    brief = kept.brief
    frames = {part: pl.read_parquet(folder / f"{part}.parquet") for part in MAD_FILES}
    weeks, by_day = folder / f"{WEEKS}.parquet", folder / f"{COMPLETENESS_DAYS}.parquet"
    evidence = read_evidence(brief, folder)
    compared = evidence.fidelity
    late = record["late_share"]
    tables = json.dumps(record["inputs"], sort_keys=True)
    exclusions = record["exclusions"]
    made_by = str(record["code_version"])
    return ReadoutInputs(
        brief=brief,
        metrics=kept.metrics,
        mad=frames["mad"],
        days=frames["days"],
        measures=kept.measures,
        weeks=pl.read_parquet(weeks) if weeks.is_file() else None,
        as_of=date.fromisoformat(str(record["as_of"])),
        lock=kept.lock,
        provenance=Provenance(
            snapshot=name,
            brief_digest=kept.brief_digest,
            metrics_digest=str(record["metrics_digest"]),
            code_version=bench.code_version,
            run_id=str(record["run_id"]),
            as_of=date.fromisoformat(str(record["as_of"])),
            source="minimal analytic dataset",
            inputs={
                "inputs_digest": digest_of([tables])[:16],
                **({"dataset_code": made_by} if made_by != bench.code_version else {}),
            },
        ),
        fidelity_checked=None if compared is None else compared.checked,
        fidelity_mismatched=None if compared is None else compared.mismatched,
        fidelity=compared,
        exposures=evidence.exposures,
        assigned=evidence.assigned,
        doses=evidence.doses,
        completeness_days=pl.read_parquet(by_day) if by_day.is_file() else None,
        late_days=_late_days_of(record),
        receipts=frames["receipts"],
        completeness=frames["completeness"],
        late_share=late if isinstance(late, float) else None,
        exclusions=tuple(ExclusionCount.model_validate(count) for count in exclusions)
        if isinstance(exclusions, list)
        else (),
        unblinded_because=kept.unblindings[-1].reason if kept.unblindings else "",
        unblindings=kept.unblindings,
        equal_arms=kept.equal_arms,
        stops=stops_of(kept.ramp),
    )


def compute_readout(bench: Workbench, experiment: str, snapshot: str | None = None) -> Readout:
    """The readout of an experiment's snapshot, computed now from what the snapshot keeps."""
    return read_out(readout_inputs(bench, experiment, snapshot))
