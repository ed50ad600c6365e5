"""Landing: the files of a received day, read once, mapped, typed, made pseudonymous, sliced by event day."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import cache

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.sources import IGNORED, Source
from exp_pipeline.steps.context import Workbench, Written, door_shape, received_day
from exp_pipeline.steps.debug_envelope import Samples
from exp_pipeline.steps.identity import name_people
from exp_pipeline.steps.origins import landed_inputs
from exp_pipeline.steps.raw_batches import raw_batches as read
from exp_pipeline.steps.source_claims import by_claim
from exp_pipeline.steps.unit_buckets import UNITS_AT_THE_DOOR, unit_buckets
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.landing import LandingFile, landed_on
from exp_pipeline.transform import door, identity, mapping
from exp_pipeline.transform.queries import query_text

# Rows that wait to be written: a day's slices grow by so many at once.
FLUSH_ROWS = 400_000
# Where a day is large, a slice is read bucket by bucket of its learners: rows stand by the first bits of the
# learner key, so that a bucket's reader passes over most row groups. Smaller groups would be passed over more
# often, and cost every other reader a sixth more.
_LEARNER_BITS = 6
SLICE_ORDER = f"learner_key >> {64 - _LEARNER_BITS} nulls first, source, file, row_number, part"
SLICE_GROUP_ROWS = 122_880


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
    slices, samples = _Slices(bench, received), Samples(bench, received)
    raw_rows = len(unclaimed)
    unreadable: dict[str, str] = {}
    try:
        for source, own in claimed:
            for batch in read(bench, source, own):
                raw_rows += batch.rows
                unreadable |= batch.unreadable
                _through_the_door(bench, own, source, samples)
                slices.flush_if_full()
        for file in unclaimed:
            _refuse_file(bench, file, slices.columns)
        slices.flush()
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
            },
        )
        samples.commit()
        return written
    finally:
        slices.close()
        samples.close()


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


class _Slices:
    """Table `landed_rows`, and what of it has been written: files of one event day each."""

    def __init__(self, bench: Workbench, received: date) -> None:
        self.bench, self.partition = bench, received_day(received)
        self.columns = door.landed_columns(bench.shape())
        self.written: list[NewFile] = []
        self.unusable = 0
        self._empty()

    def _empty(self) -> None:
        typed = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in self.columns.items())
        self.bench.engine.build("landed_rows", f"select {typed} where false")

    def flush_if_full(self) -> None:
        if self.bench.engine.row("select count(*) from landed_rows")[0] >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits, a file for each event day."""
        engine = self.bench.engine
        (unusable,) = engine.row(
            "select count(*) from landed_rows where reason is not null and not starts_with(reason, $ignored)",
            {"ignored": IGNORED},
        )
        self.unusable += int(unusable)
        names = ", ".join(map(quote, self.columns))
        days = engine.connection.execute(
            "select cast(event_date as varchar), count(*) from landed_rows "
            "group by event_date order by event_date"
        ).fetchall()
        for day, rows in days:
            path = self.bench.lake.staging("landed", self.partition)
            self.written.append(NewFile(path, day, rows))
            engine.write(
                f"select {names} from landed_rows where event_date = {text_literal(day)}::date "
                f"order by {SLICE_ORDER}",
                path,
                row_group_rows=SLICE_GROUP_ROWS,
            )
        self._empty()

    def files(self) -> list[NewFile]:
        """Everything written, day by day, each day's files in the order they were read."""
        return sorted(self.written, key=lambda file: file.tag)

    def close(self) -> None:
        """Forget the table, and files that were not committed."""
        self.bench.engine.drop("landed_rows")
        for file in self.written:
            file.path.unlink(missing_ok=True)


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


def _refuse_file(bench: Workbench, file: LandingFile, columns: Mapping[str, str]) -> None:
    """One landed row for a file that no source claims."""
    day = f"{text_literal(file.received.isoformat())}::date"
    known = {
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
    values = ", ".join(f"{known.get(name, 'null')}::{kind}" for name, kind in columns.items())
    bench.engine.connection.execute(f"insert into landed_rows select {values}")


def raw_batches(bench: Workbench, file: LandingFile, source: Source) -> Iterator[int]:
    """Read a file into table `raw`, batch by batch; yields the number of raw rows in each.

    Raises SourceError where the source names a column that the file lacks.
    """
    for batch in read(bench, source, (file,)):
        yield batch.rows


@cache
def _mapped_texts(source_json: str) -> tuple[str, str]:
    """The queries of a source's mapping (given as JSON, so that equal sources share one entry)."""
    source, shape = Source.model_validate_json(source_json), door_shape()
    items = query_text(mapping.raw_items(source)) if source.unnest is not None else ""
    return items, query_text(mapping.mapped_rows(source, shape))


@cache
def _door_texts(source_json: str, have: tuple[tuple[str, str], ...]) -> tuple[str, str, str]:
    """The door's queries for rows whose columns have these types; a column without values is left out."""
    source, shape = Source.model_validate_json(source_json), door_shape()
    here = door.narrowed(shape, [name for name, _ in have])
    return (
        query_text(door.typed_rows(source, here, dict(have))),
        query_text(identity.identities(here.identifiers)),
        query_text(door.pseudonymous_rows(source, here)),
    )


def _through_the_door(
    bench: Workbench, files: Sequence[LandingFile], source: Source, samples: Samples
) -> None:
    """Table `raw` through mapping, typing and pseudonyms into table `landed_rows`."""
    key = bench.key
    if key is None:
        raise ExpError("no identity key")
    engine, told = bench.engine, source.canonical_json()
    items, mapped = _mapped_texts(told)
    if source.unnest is not None:
        engine.build("raw_items", items)
    engine.view("mapped", mapped)
    typed, identities, landed = _door_texts(told, _filled(bench, source))
    engine.build("typed", typed)
    for name in ("mapped", "raw", "raw_items", "raw_odd", "raw_lines", "parsed", "parsed_places"):
        engine.drop(name)
    name_people(bench, files, identities)
    samples.take(source.name)
    engine.offer_frame("buckets", unit_buckets(bench.catalog, engine.frame(UNITS_AT_THE_DOOR)))
    parameters = {
        **key.pads(),
        "source": source.name,
        "files": [file.short_name for file in files],
        "received_date": files[0].received,
        "skew_microseconds": bench.catalog.policies.time.skew_minutes * 60_000_000,
        "key_id": key.key_id,
    }
    engine.connection.execute(
        f"insert into landed_rows by name {landed}",
        {name: value for name, value in parameters.items() if f"${name}" in landed},
    )
    for name in ("typed", "identities", "buckets"):
        engine.drop(name)


def _filled(bench: Workbench, source: Source) -> tuple[tuple[str, str], ...]:
    """Columns of `mapped` that may hold a value in this batch, with their types."""
    connection = bench.engine.connection
    types = {str(row[0]): str(row[1]) for row in connection.execute("describe mapped").fetchall()}
    names = [name for name in bench.shape().accepted() if types[name] != '"NULL"']
    if source.identity:
        counted = ", ".join(f"count({quote(name)})" for name in names)
        counts = bench.engine.row(f"select {counted} from raw")
        names = [name for name, count in zip(names, counts, strict=True) if count or name in door.ALWAYS]
    return tuple((name, types[name]) for name in names)
