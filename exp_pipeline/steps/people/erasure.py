"""Erasure: a person's rows leave every table, and do not come back when their files land again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.assignment import exposure
from exp_pipeline.steps.assignment.assignment_table import write_assignment_table
from exp_pipeline.steps.behaviour import facts, sessions
from exp_pipeline.steps.behaviour import learner_days as behaviour
from exp_pipeline.steps.context import DAY, Window, Workbench, Written, event_day
from exp_pipeline.steps.experiments.chain import last_day, take_snapshot
from exp_pipeline.steps.experiments.erased import ERASED_NOTE, ERASURES
from exp_pipeline.steps.experiments.readouts import RESULTS, folder_of, write_memo, write_results
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.people.debug_envelope import ENTRIES, entries_of, remove_entries
from exp_pipeline.steps.people.identity import (
    ERASED,
    add_erased,
    forget_links,
    identity_rows,
    pseudonyms_of,
)
from exp_pipeline.steps.people.traces import (
    drop_rows,
    empty_landed,
    find_traces,
    landed_traces,
)
from exp_pipeline.steps.warehouse import build_warehouse, write_units
from exp_pipeline.store.files import write_text
from exp_pipeline.store.marts import Marts
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline.store.warehouse import Connect
from exp_pipeline.transform.identity import tombstone

_PLANNED = "erasure_planned"
_NOTE = "made from data of which a person was erased since; sums and estimates stay as they were published"


@dataclass(frozen=True, slots=True)
class Erasure:
    """The receipt of one erasure: no id and no pseudonym, only hashes, places and counts.

    `rows` counts by table (and in the debug envelope) what was found; `days` are the event days settled
    again; `landing_files` still hold the raw id, with the number of rows in each; `snapshots`
    (experiment/snapshot) were removed, and `remade` names the experiments read out again.
    """

    erasure: str
    requested_by: str
    at: str
    rows: dict[str, int]
    days: tuple[str, ...]
    landing_files: dict[str, int]
    snapshots: tuple[str, ...]
    remade: tuple[str, ...]
    not_remade: dict[str, str]
    tombstones: tuple[str, ...]
    new: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure found before it changed anything; hashes, places and counts only."""

    erasure: str
    tombstones: tuple[str, ...]
    rows: dict[str, int]
    days: tuple[str, ...]
    landing_files: dict[str, int]
    marts: tuple[str, ...]

    def with_earlier(self, plan: Plan) -> Plan:
        """This plan with what an unfinished run had found: it may be half taken away already."""
        rows = {
            table: max(self.rows.get(table, 0), plan.rows.get(table, 0))
            for table in sorted({*self.rows, *plan.rows})
        }
        return replace(
            self,
            rows=rows,
            days=tuple(sorted({*self.days, *plan.days})),
            landing_files={**self.landing_files, **plan.landing_files},
            marts=tuple(sorted({*self.marts, *plan.marts})),
        )


def receipts(bench: Workbench) -> tuple[Erasure, ...]:
    """Every erasure so far, oldest first."""
    return tuple(Erasure(**_tuples(entry.content), new=False) for entry in _log(bench).entries(ERASURES))


def _tuples(content: Mapping[str, object]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _log(bench: Workbench) -> StateLog:
    return state_log(bench.home)


def erase(
    bench: Workbench, people: Sequence[str], requested_by: str, *, at: datetime, connect: Connect
) -> Erasure:
    """Take a person (raw ids or pseudonyms of one person) out of everything but the landing files.

    A tombstone comes first, so that no landing brings the person back; then landed rows are emptied, the days
    that held them are settled again with all that follows from them, snapshots are removed and made anew, and
    replaced files are deleted at once. Killed at any point, it is finished by calling it again; called on
    somebody who is erased already it changes nothing and gives the first receipt. Raises ExpError where an id
    is given without a key, or where rows are left (another run wrote while this one did).
    """
    wanted = sorted({one.strip() for one in people if one.strip()})
    if not wanted:
        raise ValueError("name the person to erase: an id as it stands in the events, or a pseudonym")
    names = pseudonyms_of(bench, wanted)
    stones = tuple(sorted(tombstone(one) for one in names))
    # What a run left that was killed while it made one, or is making: it would bring the person back.
    Marts(bench.home.marts).discard_unfinished()
    traces = find_traces(bench, names)
    sampled = entries_of(bench, names, at.astimezone(UTC).date())
    done = [one for one in receipts(bench) if set(one.tombstones) & set(stones)]
    unfinished = _unfinished(bench, stones)
    if done and not unfinished and not traces and not sampled and set(stones) <= _stones(bench):
        return done[-1]
    landed = landed_traces(bench, names, sorted(traces.lake.get("landed", {})))
    plan = Plan(
        erasure=digest_of([stones, len(receipts(bench))])[:16],
        tombstones=stones,
        rows=traces.rows() | ({ENTRIES: sampled} if sampled else {}),
        days=tuple(sorted({day.isoformat() for day in landed.days | traces.event_days()})),
        landing_files=dict(landed.files),
        marts=tuple(sorted(traces.marts)),
    )
    for earlier in unfinished:
        plan = plan.with_earlier(earlier)
    # Written down first: a run that was killed half way must know what it had found when it is called again.
    moment = at.astimezone(UTC).isoformat(timespec="seconds")
    log = _log(bench)
    log.append(
        _PLANNED,
        plan.erasure,
        key=f"{plan.erasure}:{digest_of(asdict(plan))}",
        at=moment,
        content=asdict(plan),
    )
    add_erased(bench, names)
    for partition in landed.received:
        empty_landed(bench, names, partition)
    _settle_again(bench, names, {date.fromisoformat(day) for day in plan.days})
    snapshots, remade, not_remade = _renew_marts(bench, plan.marts, resumed=bool(unfinished))
    _take_the_rest(bench, names)
    forget_links(bench, names)
    remove_entries(bench, names)
    if bench.home.warehouse.is_file():
        build_warehouse(bench, connect)
    _purge(bench)
    Marts(bench.home.marts).discard_unfinished()
    left = find_traces(bench, names)
    if left:
        raise ExpError(
            f"rows are left in {', '.join(left.rows())}: another run wrote while this one did; run it again"
        )
    receipt = Erasure(
        erasure=plan.erasure,
        requested_by=requested_by,
        at=moment,
        rows=plan.rows,
        days=plan.days,
        landing_files=plan.landing_files,
        snapshots=snapshots,
        remade=remade,
        not_remade=not_remade,
        tombstones=stones,
    )
    content = {key: value for key, value in asdict(receipt).items() if key != "new"}
    log.append(ERASURES, receipt.erasure, key=receipt.erasure, at=moment, content=content)
    return receipt


def _unfinished(bench: Workbench, stones: Sequence[str]) -> list[Plan]:
    finished = {one.erasure for one in receipts(bench)}
    plans = [Plan(**_tuples(entry.content)) for entry in _log(bench).entries(_PLANNED)]
    return [one for one in plans if one.erasure not in finished and set(one.tombstones) & set(stones)]


def _stones(bench: Workbench) -> set[str]:
    return set(identity_rows(bench, ERASED)["tombstone"])


def _windows(days: Iterable[date]) -> list[Window]:
    """Days as runs of days that follow one another."""
    windows: list[Window] = []
    for day in sorted(set(days)):
        if windows and windows[-1].end == day:
            windows[-1] = Window(windows[-1].first, day + DAY)
        else:
            windows.append(Window.of(day, day))
    return windows


def _settle_again(bench: Workbench, names: Sequence[str], days: set[date]) -> None:
    """Write again what the days held, table by table, where the table has those days at all."""
    lake = bench.lake

    def again(table: str, step: Callable[[Workbench, Window], list[Written]], chosen: Iterable[date]) -> None:
        there = [day for day in chosen if lake.manifest(table, event_day(day)) is not None]
        for window in _windows(there):
            step(bench, window)

    around = {day + DAY * step for day in days for step in (-1, 0, 1)}
    again("events", ingest.conform, days)
    again("learner_days", behaviour.build_learner_days, days)
    again("sessions", sessions.build_sessions, around)
    again("turns", behaviour.build_turns, around)
    before = _others(bench, names) if lake.partitions("unit_days") else {}
    again("assignments", exposure.build_assignments, days)
    again("exposures", exposure.build_exposures, days)
    if lake.manifest("enrollments", exposure.WHOLE) is not None:
        exposure.build_enrollments(bench)
    if lake.manifest("content", exposure.WHOLE) is not None:
        exposure.build_content(bench)
    if lake.partitions("unit_days"):
        moved = _first_moved(before, _others(bench, names))
        newest = last_day(bench)
        if moved is not None and newest is not None and newest >= moved:
            around |= set(Window.of(moved, newest).days())
        again("unit_days", facts.build_unit_days, around)
    if lake.manifest("units", exposure.WHOLE) is not None:
        write_units(bench)


def _others(bench: Workbench, names: Sequence[str]) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Arm, moment and cluster of every other unit: an assignment logged by the person may be a class's."""
    exposure.build_units(bench)
    rows = bench.engine.connection.execute(
        "select experiment, version, unit_id, arm, assigned_at, cluster_id, contaminated from units "
        "where not list_contains($names, unit_id)",
        {"names": list(names)},
    ).fetchall()
    return {row[:3]: row[3:] for row in rows}


def _first_moved(
    before: dict[tuple[object, ...], tuple[object, ...]], after: dict[tuple[object, ...], tuple[object, ...]]
) -> date | None:
    moved = [
        row[1].date()
        for one, other in ((before, after), (after, before))
        for key, row in one.items()
        if other.get(key) != row and isinstance(row[1], datetime)
    ]
    return min(moved, default=None)


def _renew_marts(
    bench: Workbench, found: Iterable[str], *, resumed: bool
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Remove the snapshots that hold the person; read the experiments out again whose current one it was.

    resumed: a run that was killed may have taken the new snapshot, and not have read it out.
    """
    marts = Marts(bench.home.marts)
    held: dict[str, set[str]] = {}
    for name in found:
        parts = dict(part.split("=", 1) for part in Path(name).parts if "=" in part)
        if "experiment" in parts and "snapshot" in parts:
            held.setdefault(parts["experiment"], set()).add(parts["snapshot"])
        elif name.startswith("assignment_table/") and parts.get("experiment") in bench.catalog.briefs:
            write_assignment_table(bench, parts["experiment"])
    removed, remade, not_remade = [], [], {}
    for experiment, snapshots in sorted(held.items()):
        if snapshots & {marts.current(experiment), marts.before(experiment) if resumed else None}:
            try:
                take_snapshot(bench, experiment)
                write_results(bench, experiment, tuple(RESULTS))
                write_memo(bench, experiment)
                remade.append(experiment)
            except (ExpError, ValueError) as trouble:
                not_remade[experiment] = str(trouble)
        for snapshot in sorted(snapshots):
            marts.remove(experiment, snapshot)
            removed.append(f"{experiment}/{snapshot}")
            readout = folder_of(bench, experiment, snapshot)
            if readout.is_dir():
                write_text(readout / ERASED_NOTE, json.dumps({"note": _NOTE}) + "\n")
    return tuple(removed), tuple(remade), not_remade


def _take_the_rest(bench: Workbench, names: Sequence[str]) -> None:
    """Rows that no step above writes again: tables of days that have no events any more, and tables apart."""
    for table, partitions in find_traces(bench, names).lake.items():
        for partition in partitions:
            drop_rows(bench, names, table, partition)


def _purge(bench: Workbench) -> None:
    lake = bench.lake
    for entry in sorted(lake.root.iterdir()):
        for partition in lake.partitions(entry.name) if entry.is_dir() else ():
            lake.purge(entry.name, partition)
