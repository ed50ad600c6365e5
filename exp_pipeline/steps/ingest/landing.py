"""Landing: the files of a received day, read once, mapped, typed, made pseudonymous, sliced by event day."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date

import duckdb

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, Written, received_day
from exp_pipeline.steps.ingest.door_rows import through_the_door
from exp_pipeline.steps.ingest.holdout_units import HoldoutUnits
from exp_pipeline.steps.ingest.landed_slices import LandedSlices
from exp_pipeline.steps.ingest.raw_batches import RawBatch
from exp_pipeline.steps.ingest.raw_batches import raw_batches as read
from exp_pipeline.steps.origins import landed_inputs
from exp_pipeline.steps.people.debug_envelope import Samples
from exp_pipeline.steps.sources.claims import by_claim
from exp_pipeline.store.engine import text_literal
from exp_pipeline.store.landing import LandingFile, landed_on


def land(bench: Workbench, received: date) -> Written:
    """Read every landing file of a received day into the `landed` table; slices by event day.

    Every raw row becomes at least one landed row, with a reason where it could not be used; a file that no
    source claims, or that is not in its source's format, becomes one such row. Rows are read, and slices
    written, some hundred thousand at a time, in the order of source, file and row: memory does not grow with
    the day, and the same files give the same bytes. Raises SourceError where a mapping names a column that a
    file lacks, ExpError where no identity key is set.
    """
    return _land(bench, received, landed_on(bench.home.landing, received), frozenset())


def _land(bench: Workbench, received: date, here: Sequence[LandingFile], earlier: frozenset[str]) -> Written:
    """The same for files that were listed before; `earlier` are digests that stand in earlier days."""
    started = time.monotonic()
    if bench.key is None:
        raise ExpError(
            "no identity key: set EXP_HMAC_KEY to a secret text of at least 16 characters (and keep it)"
        )
    known = _landed_before(bench, received) | earlier
    files = [file for file in here if file.digest not in known]
    claimed, unclaimed = _by_source(bench, files)
    inputs = landed_inputs(bench, [file.digest for file in files], [source for source, _ in claimed])
    bench = replace(bench, origins={("landed", received_day(received)): inputs})
    slices, samples = LandedSlices(bench, received), Samples(bench, received)
    held = HoldoutUnits(bench, received)
    raw_rows = len(unclaimed)
    unreadable: dict[str, str] = {}
    try:
        for source, own in claimed:
            with closing(read(bench, source, own, typed=True)) as batches:
                for batch in _through(bench, own, source, batches, slices, samples, held):
                    raw_rows += batch.rows
                    unreadable |= batch.unreadable
                    slices.flush_if_full()
        for file in unclaimed:
            _refuse_file(file, slices)
        slices.flush()
        units = held.commit(started)
        written = bench.commit(
            "landed",
            received_day(received),
            slices.files(),
            started,
            facts={
                "files": [{"name": file.relative, "digest": file.digest} for file in files],
                "raw_rows": raw_rows,
                "unusable_rows": slices.unusable,
                "files_without_source": [file.relative for file in unclaimed],
                "files_unreadable": unreadable,
                "files_landed_before": [file.relative for file in here if file.digest in known],
                **({} if units is None else {"holdout_units": units}),
            },
        )
        samples.commit()
        return written
    finally:
        slices.close()
        samples.close()
        held.close()


def _through(
    bench: Workbench,
    files: Sequence[LandingFile],
    source: Source,
    batches: Generator[RawBatch],
    slices: LandedSlices,
    samples: Samples,
    held: HoldoutUnits,
) -> Iterator[RawBatch]:
    """Take batches through the door; gives each when it is through."""
    batch = next(batches, None)
    while batch is not None:
        try:
            through_the_door(bench, files, source, batch, slices, samples, held)
        except duckdb.Error as trouble:
            # What is read only on its way through the door may turn out to be damaged there.
            batch = batches.throw(trouble)
            continue
        yield batch
        batch = next(batches, None)


def _by_source(
    bench: Workbench, files: Sequence[LandingFile]
) -> tuple[list[tuple[Source, list[LandingFile]]], list[LandingFile]]:
    """The files of each source, by name and digest, and those that nobody claims."""
    claimed: dict[str, tuple[Source, list[LandingFile]]] = {}
    unclaimed = []
    for file in sorted(files, key=lambda one: one.digest):
        source = claiming(bench, file)
        if source is None:
            unclaimed.append(file)
        else:
            claimed.setdefault(source.name, (source, []))[1].append(file)
    return [claimed[name] for name in sorted(claimed)], unclaimed


def _landed_before(bench: Workbench, received: date) -> frozenset[str]:
    """Digests of the files that earlier received days hold: a file that arrives again changes nothing."""
    own = received_day(received)
    earlier = bench.lake.manifests("landed", [name for name in bench.lake.partitions("landed") if name < own])
    listed = [manifest.facts.get("files", []) for manifest in earlier]
    return frozenset(str(file["digest"]) for files in listed if isinstance(files, list) for file in files)


def land_days(bench: Workbench, days: Sequence[date]) -> list[Written]:
    """Read several received days, two side by side.

    A file that lies under two of them belongs to the first, whichever of the two is read sooner.
    """
    here = {day: landed_on(bench.home.landing, day) for day in sorted(days)}
    earlier: dict[date, frozenset[str]] = {}
    seen: frozenset[str] = frozenset()
    for day, files in here.items():
        earlier[day] = seen
        seen |= {file.digest for file in files}
    benches = [replace(bench, engine=bench.engine.twin()) for _ in range(min(2, len(days)))]
    with ThreadPoolExecutor(max_workers=max(1, len(benches))) as pool:
        halves = pool.map(
            lambda pair: [_land(pair[0], day, here[day], earlier[day]) for day in pair[1]],
            [(own, days[index :: len(benches)]) for index, own in enumerate(benches)],
        )
        return sorted((one for half in halves for one in half), key=lambda one: one.partition)


def claiming(bench: Workbench, file: LandingFile) -> Source | None:
    """The source whose glob matches the file; of several the one whose glob says most, then by name."""
    return next(iter(by_claim(bench.catalog.sources, file.relative)), None)


def _refuse_file(file: LandingFile, slices: LandedSlices) -> None:
    """One landed row for a file that no source claims."""
    day = f"{text_literal(file.received.isoformat())}::date"
    slices.refuse(
        {
            "source": "'unclaimed'",
            "file": text_literal(file.short_name),
            "row_number": "1",
            "part": "0",
            "reason": "'no_source'",
            "received_date": day,
            "arrived_date": day,
            "event_date": day,
            "clock_skewed": "false",
        }
    )


def raw_batches(bench: Workbench, file: LandingFile, source: Source) -> Iterator[int]:
    """Read a file into table `raw`, batch by batch; yields the number of raw rows in each.

    Raises SourceError where the source names a column that the file lacks.
    """
    for batch in read(bench, source, (file,)):
        yield batch.rows
