"""Which days of which tables are out of date, and why: what they were made from against what is there now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from exp_pipeline.steps.again.backfill_needs import backfill_needs, windows_of
from exp_pipeline.steps.assignment.exposure import build_units
from exp_pipeline.steps.context import DAY, Window, Workbench, day_of, event_day, received_day
from exp_pipeline.steps.ingest.arrivals import Arrivals
from exp_pipeline.steps.ingest.landing import claiming
from exp_pipeline.steps.origins import (
    BRIEFS,
    SETTINGS,
    SETTLED,
    Inputs,
    Present,
    UnitDigests,
    inputs_of,
    landed_inputs,
    unit_digests,
)
from exp_pipeline.steps.people.roster import roster_files
from exp_pipeline.steps.retired import left_alone
from exp_pipeline.store.lake import Manifest
from exp_pipeline.store.landing import LandingFile, received_days
from exp_pipeline.store.landing_index import LandingIndex

Why = Literal[
    "not made yet", "not recorded", "new files", "late events", "correction", "copies", "definition", "inputs"
]
WHOLE = "scope=all"
# Tables that are made together, in the order of the graph; within a stage none reads another.
STAGES: tuple[tuple[str, ...], ...] = (
    ("landed",),
    SETTLED,
    ("learner_days", "sessions", "turns", "assignments", "exposures"),
    ("enrollments", "content"),
    ("unit_days",),
    ("srm_daily", "guardrails_daily", "data_quality"),
)
TABLES = tuple(table for stage in STAGES for table in stage)
OVER_UNITS = ("unit_days", "srm_daily", "guardrails_daily")
_REASONS: Mapping[Why, str] = {
    "not made yet": "not made yet",
    "not recorded": "made before inputs were recorded",
    "new files": "new files have landed",
    "late events": "late events",
    "correction": "a correction",
    "copies": "copies of its events landed under other days",
    "definition": "a definition or setting changed",
    "inputs": "what it is made from changed",
}


@dataclass(frozen=True, slots=True)
class OutOfDate:
    """One partition that what is there now would give other rows, or might: the table, why, which inputs."""

    table: str
    partition: str
    why: Why
    inputs: tuple[str, ...] = ()

    @property
    def day(self) -> date | None:
        """The partition's day; None for a table that is one partition."""
        return None if self.partition == WHOLE else day_of(self.partition)

    @property
    def reason(self) -> str:
        """Why, in words."""
        return _REASONS[self.why]


@dataclass(frozen=True)
class AffectedDays:
    """What is out of date now, in the order of the graph.

    `held_back` are received days with new files from whose folders files that were read have gone: reading
    them again would lose rows. `unaffected` are partitions whose inputs changed without touching them, with
    their inputs as they are now. What follows from `found` is known for certain only once that is made again.
    """

    found: tuple[OutOfDate, ...]
    held_back: tuple[str, ...] = ()
    unaffected: tuple[tuple[Manifest, Mapping[str, str]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.found)

    def partitions(self, table: str) -> tuple[str, ...]:
        """The partitions of a table that are out of date, in order."""
        return tuple(one.partition for one in self.found if one.table == table)

    def windows(self, *tables: str) -> tuple[Window, ...]:
        """The days of some tables that are out of date, as ranges."""
        return windows_of(one.day for one in self.found if one.table in tables and one.day is not None)

    def sentences(self) -> tuple[str, ...]:
        """One line a table and reason: which days, and what changed."""
        lines = []
        for table in TABLES:
            for why, reason in _REASONS.items():
                own = [one for one in self.found if one.table == table and one.why == why]
                if not own:
                    continue
                days = ", ".join(told(window) for window in windows_of(one.day for one in own if one.day))
                inputs = sorted({name for one in own for name in one.inputs})
                more = f" and {len(inputs) - 4} more" if len(inputs) > 4 else ""
                detail = f" ({', '.join(inputs[:4])}{more})" if inputs else ""
                lines.append(f"{table} {days or 'as a whole'}: {reason}{detail}")
        return tuple(lines)


def told(window: Window) -> str:
    """A range of days in words."""
    last = window.end - DAY
    return f"{window.first}" if last == window.first else f"{window.first} to {last}"


def affected_days(
    bench: Workbench,
    *,
    tables: Collection[str] = TABLES,
    first: date | None = None,
    landed_until: date | None = None,
    judge_rows: int | None = None,
) -> AffectedDays:
    """Which partitions would come out otherwise if they were made again now, and why?

    Compares the inputs that each manifest records with the inputs that are there. Late rows touch their own
    event day; a day around it only where it holds a copy of one of them. Days before `first` and received
    days after `landed_until` are left alone, and so is what was deleted because its time was over, with the
    days that lean on it. Where a received day of more than `judge_rows` rows changed, the days around count
    as touched unseen. Nothing but a cache of landing files' digests is written.
    """
    present = Present(bench)
    found: list[OutOfDate] = []
    held_back: list[str] = []
    unaffected: list[tuple[Manifest, Mapping[str, str]]] = []
    if "landed" in tables:
        own, held_back = _landed(bench, present, landed_until)
        found += own
    if any(table in tables for table in SETTLED):
        own, unaffected = _settled(bench, present, judge_rows)
        found += [one for one in own if one.table in tables]
    units = _units(bench) if any(table in tables for table in OVER_UNITS) else None
    for table in TABLES:
        if table in tables and table not in ("landed", *SETTLED):
            found += _made(bench, present, table, units)
    if "learner_days" in tables or "unit_days" in tables:
        found += [one for one in _by_definition(bench, found) if one.table in tables]
    kept = [one for one in found if first is None or one.day is None or one.day >= first]
    left = left_alone(bench.home)
    kept = [one for one in kept if one.day is None or not left(one.table, one.day)]
    order = {table: place for place, table in enumerate(TABLES)}
    return AffectedDays(
        found=tuple(sorted(kept, key=lambda one: (order[one.table], one.partition))),
        held_back=tuple(held_back),
        unaffected=tuple(unaffected),
    )


def _landed(bench: Workbench, present: Present, until: date | None) -> tuple[list[OutOfDate], list[str]]:
    index = LandingIndex(bench.home.landing, bench.home.state / "landing_files.json")
    found, held_back = [], []
    earlier: set[str] = set()
    for received in received_days(bench.home.landing):
        if until is not None and received > until:
            break
        name = received_day(received)
        manifest = present.manifest("landed", name)
        there = index.received_on(received)
        here = [file for file in there if file.digest not in earlier]
        read = _files_of(manifest)
        gone = set(read) - {file.digest for file in there} - earlier
        earlier |= {file.digest for file in here} | set(read)
        if manifest is None:
            found.append(OutOfDate("landed", name, "not made yet", tuple(file.relative for file in here)))
            continue
        why = _why_landed(bench, manifest, here, gone)
        if why is None:
            continue
        if gone:
            held_back.append(f"{name}: {', '.join(sorted(read[digest] for digest in gone))} gone since read")
            continue
        new = tuple(file.relative for file in here if file.digest not in read)
        found.append(OutOfDate("landed", name, why, new))
    index.keep()
    return found, held_back


def _why_landed(
    bench: Workbench, manifest: Manifest, here: Sequence[LandingFile], gone: Collection[str]
) -> Why | None:
    """Why a received day is to be read again; None where its files are those that were read."""
    if not manifest.inputs:
        return "not recorded"
    read, sources = _files_of(manifest), [claiming(bench, file) for file in here]
    expected = landed_inputs(bench, {file.digest for file in here}, [one for one in sources if one])
    if {file.digest for file in here} != set(read) - set(gone):
        return "new files"
    # What has gone took the name of its source along: then the mapping cannot be compared.
    return "definition" if not gone and expected[SETTINGS] != manifest.inputs.get(SETTINGS) else None


def _files_of(manifest: Manifest | None) -> dict[str, str]:
    """The landing files that a received day was read from: digest -> name."""
    files = manifest.facts.get("files", []) if manifest is not None else []
    return {str(one["digest"]): str(one["name"]) for one in files} if isinstance(files, list) else {}


def _settled(
    bench: Workbench, present: Present, most_rows: int | None
) -> tuple[list[OutOfDate], list[tuple[Manifest, Mapping[str, str]]]]:
    """Events, quarantine and exclusions: each day against the landed slices of the days around it."""
    found: list[OutOfDate] = []
    unaffected: list[tuple[Manifest, Mapping[str, str]]] = []
    arrivals = Arrivals(bench, present, most_rows)
    corrections = frozenset(source.name for source in bench.catalog.sources if source.correction)
    written = {day_of(name) for table in SETTLED for name in present.partitions(table)}
    for day in sorted(written | set(present.slices())):
        expected = inputs_of(present, "events", event_day(day))
        for table in SETTLED:
            manifest = present.manifest(table, event_day(day))
            if manifest is None:
                found.append(OutOfDate(table, event_day(day), "not made yet"))
            elif not manifest.inputs:
                found.append(OutOfDate(table, event_day(day), "not recorded"))
            elif manifest.inputs != expected:
                touched = _touched(arrivals, day, manifest.inputs, expected, corrections)
                if touched is None:
                    unaffected.append((manifest, expected))
                else:
                    found.append(OutOfDate(table, event_day(day), *touched))
    arrivals.close()
    return found, unaffected


def _touched(
    arrivals: Arrivals, day: date, recorded: Mapping[str, str], expected: Inputs, corrections: frozenset[str]
) -> tuple[Why, tuple[str, ...]] | None:
    """Whether changes among landed rows reach a day, why, and under which received days they came."""
    if recorded.get(SETTINGS) != expected[SETTINGS]:
        return "definition", ()
    own, copies, corrected = [], [], False
    for key in sorted({*recorded, *expected}):
        before, now = recorded.get(key, ""), expected.get(key, "")
        if before == now:
            continue
        changed = arrivals.changed(key, before, now)
        received = key.split("/")[1]
        if key.endswith(event_day(day)):
            if changed.rows or not changed.known:
                own.append(received)
                corrected = corrected or bool(corrections.intersection(changed.sources))
        elif arrivals.has_copies(changed, day):
            copies.append(received)
            corrected = corrected or bool(corrections.intersection(changed.sources))
    if own or copies:
        why: Why = "correction" if corrected else "late events" if own else "copies"
        return why, tuple(sorted({*own, *copies}))
    return None


def _units(bench: Workbench) -> UnitDigests:
    build_units(bench)
    found = unit_digests(bench)
    for name in ("units", "experiments", "experiment_days"):
        bench.engine.drop(name)
    return found


def _made(bench: Workbench, present: Present, table: str, units: UnitDigests | None) -> list[OutOfDate]:
    """A table below events: what each partition records against what it would be made from now."""
    found = []
    roster_moved = table in ("assignments", "enrollments") and _roster_moved(bench, present)
    for partition in _expected(present, table):
        manifest = present.manifest(table, partition)
        if manifest is None:
            found.append(OutOfDate(table, partition, "not made yet"))
            continue
        if not manifest.inputs:
            found.append(OutOfDate(table, partition, "not recorded"))
            continue
        expected = inputs_of(present, table, partition, units)
        for key in manifest.inputs.keys() - expected.keys():
            # Days that this partition was found to depend on beyond the rule.
            of, _, day = key.partition("/")
            digest = present.digest(of, day) if day and day != "*" else None
            if digest is not None:
                expected[key] = digest
        recorded = manifest.inputs
        moved = {key for key in {*recorded, *expected} if recorded.get(key) != expected.get(key)}
        if moved - {SETTINGS, BRIEFS}:
            names = tuple(sorted(_plain(key) for key in moved))
            found.append(OutOfDate(table, partition, "inputs", names))
        elif moved:
            found.append(OutOfDate(table, partition, "definition"))
        elif roster_moved:
            found.append(OutOfDate(table, partition, "inputs", ("roster",)))
    return found


def _expected(present: Present, table: str) -> tuple[str, ...]:
    """The partitions that a table should have: those of the table it is made from."""
    if table in ("enrollments", "content"):
        source = "sessions" if table == "enrollments" else "events"
        return (WHOLE,) if present.partitions(source) else ()
    above = present.partitions("learner_days" if table == "unit_days" else "events")
    return tuple(sorted({*above, *present.partitions(table)} & set(present.partitions("events"))))


def _roster_moved(bench: Workbench, present: Present) -> bool:
    """Whether the roster's files are others than those that were read."""
    manifest = present.manifest("roster", WHOLE)
    files = [{"name": file.relative, "digest": file.digest} for file in roster_files(bench)]
    return bool(files) if manifest is None else manifest.facts.get("files") != files


def _plain(key: str) -> str:
    """An input's name for people: `events 2026-03-02`, `sessions`, `units`."""
    of, _, partition = key.partition("/")
    value = partition.rpartition("=")[2]
    return of if value in ("", "*", "all") else f"{of} {value}"


def _by_definition(bench: Workbench, found: Iterable[OutOfDate]) -> list[OutOfDate]:
    """Days that experiments look at and that lack a measure, or hold it by another definition."""
    known = {(one.table, one.partition) for one in found}
    more: dict[tuple[str, str], set[str]] = {}
    for need in backfill_needs(bench):
        for day in need.days:
            more.setdefault((need.table, event_day(day)), set()).add(need.measure)
    return [
        OutOfDate(table, partition, "definition", tuple(sorted(measures)))
        for (table, partition), measures in more.items()
        if (table, partition) not in known
    ]
