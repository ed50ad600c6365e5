"""Landing: the files of a received day, read once, mapped, typed, made pseudonymous, sliced by event day."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from fnmatch import fnmatch
from functools import cache

from exp_pipeline.model.errors import ExpError, SourceError
from exp_pipeline.model.sources import IGNORED, Source
from exp_pipeline.steps.context import Workbench, Written, door_shape, received_day
from exp_pipeline.steps.identity import name_people
from exp_pipeline.steps.unit_buckets import UNITS_AT_THE_DOOR, unit_buckets
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.landing import LandingFile, json_lines, landed_on
from exp_pipeline.transform import door, identity, mapping
from exp_pipeline.transform.queries import query_text


def land(bench: Workbench, received: date) -> Written:
    """Read every landing file of a received day into the `landed` table; one slice per event day.

    Every raw row becomes at least one landed row, with a reason where it could not be used; a file that no
    source claims, or that is not in its source's format, becomes one such row. Raises SourceError where a
    mapping names a column that a file lacks, ExpError where no identity key is set.
    """
    started = time.monotonic()
    if bench.key is None:
        raise ExpError(
            "no identity key: set EXP_HMAC_KEY to a secret text of at least 16 characters (and keep it)"
        )
    engine, shape = bench.engine, bench.shape()
    columns = door.landed_columns(shape)
    empty = ", ".join(f'null::{kind} as "{name}"' for name, kind in columns.items())
    engine.build("landed_rows", f"select {empty} where false")
    known = _landed_before(bench, received)
    here = landed_on(bench.home.landing, received)
    files = [file for file in here if file.digest not in known]
    again = [file.relative for file in here if file.digest in known]
    names = ", ".join(f'"{name}"' for name in columns)
    raw_rows = 0
    unclaimed: list[str] = []
    unreadable: dict[str, str] = {}
    for file in files:
        source = claiming(bench, file)
        if source is None:
            raw_rows += 1
            _refuse_file(bench, file, "unclaimed", "no_source", columns)
            unclaimed.append(file.relative)
            continue
        try:
            for count in raw_batches(bench, file, source):
                raw_rows += count
                _through_the_door(bench, file, source, names)
        except _UnreadableFile as trouble:
            raw_rows += 1
            _refuse_file(bench, file, source.name, "unreadable_file", columns)
            unreadable[file.relative] = str(trouble).replace(str(file.path), file.relative)
    slices = engine.connection.execute(
        "select cast(event_date as varchar), count(*) from landed_rows "
        "group by event_date order by event_date"
    ).fetchall()
    partition = received_day(received)
    new_files = []
    for day, rows in slices:
        path = bench.lake.staging("landed", partition)
        engine.write(
            f"select {names} from landed_rows where event_date = {text_literal(day)}::date "
            "order by source, file, row_number, part",
            path,
        )
        new_files.append(NewFile(path, day, rows))
    (unused,) = engine.row(
        "select count(*) from landed_rows where reason is not null and not starts_with(reason, $ignored)",
        {"ignored": IGNORED},
    )
    engine.drop("landed_rows")
    return bench.commit(
        "landed",
        partition,
        new_files,
        started,
        facts={
            "files": [{"name": file.relative, "digest": file.digest} for file in files],
            "raw_rows": raw_rows,
            "unusable_rows": unused,
            "files_without_source": unclaimed,
            "files_unreadable": unreadable,
            "files_landed_before": again,
        },
    )


def _landed_before(bench: Workbench, received: date) -> frozenset[str]:
    """Digests of the files that earlier received days hold: a file that arrives again changes nothing."""
    own = received_day(received)
    earlier = bench.lake.manifests("landed", [name for name in bench.lake.partitions("landed") if name < own])
    listed = [manifest.facts.get("files", []) for manifest in earlier]
    return frozenset(str(file["digest"]) for files in listed if isinstance(files, list) for file in files)


def land_days(bench: Workbench, days: Sequence[date]) -> list[Written]:
    """Read several received days, two side by side."""
    benches = [replace(bench, engine=bench.engine.twin()) for _ in range(min(2, len(days)))]
    with ThreadPoolExecutor(max_workers=max(1, len(benches))) as pool:
        halves = pool.map(
            lambda pair: [land(pair[0], day) for day in pair[1]],
            [(own, days[index :: len(benches)]) for index, own in enumerate(benches)],
        )
        return sorted((one for half in halves for one in half), key=lambda one: one.partition)


def claiming(bench: Workbench, file: LandingFile) -> Source | None:
    """The source whose glob matches the file; of several the one whose glob says most, then by name."""
    matching = [source for source in bench.catalog.sources if fnmatch(file.relative, source.files)]
    return min(matching, key=lambda one: (-_said(one.files), one.name), default=None)


def _said(glob: str) -> int:
    """How many characters of a path a glob spells out."""
    return sum(character not in "*?[]" for character in glob)


class _UnreadableFile(Exception):
    """A whole file that is not in its source's format; no row of it has been landed."""


def _blamed(trouble: Exception) -> Exception:
    """The file's own fault as such; what the machine or our query did wrong as it is."""
    import duckdb

    not_the_file = (
        duckdb.OutOfMemoryException,
        duckdb.InterruptException,
        duckdb.FatalException,
        duckdb.InternalException,
        duckdb.IOException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ParserException,
    )
    return trouble if isinstance(trouble, not_the_file) else _UnreadableFile(str(trouble).splitlines()[0])


def _refuse_file(
    bench: Workbench, file: LandingFile, source: str, reason: str, columns: dict[str, str]
) -> None:
    known = {
        "source": text_literal(source),
        "file": text_literal(file.short_name),
        "row_number": "1",
        "part": "0",
        "reason": text_literal(reason),
        "received_date": f"{text_literal(file.received.isoformat())}::date",
        "arrived_date": f"{text_literal(file.received.isoformat())}::date",
        "event_date": f"{text_literal(file.received.isoformat())}::date",
        "clock_skewed": "false",
    }
    values = ", ".join(f"{known.get(name, 'null')}::{kind}" for name, kind in columns.items())
    bench.engine.connection.execute(f"insert into landed_rows select {values}")


def raw_batches(bench: Workbench, file: LandingFile, source: Source) -> Iterator[int]:
    """Read a file into table `raw`, batch by batch; yields the number of raw rows in each.

    Raises SourceError where the source names a column that the file lacks.
    """
    import duckdb

    engine, shape = bench.engine, bench.shape()
    if source.format == "ndjson":
        for frame in json_lines(file, bench.catalog.policies.landing_line_limit_bytes):
            engine.offer_frame("raw_lines", frame)
            engine.build("raw", _texts(source.canonical_json())["raw"])
            yield frame.height
        return
    scan = _scan(str(file.path), source)
    present = {row[0]: row[1] for row in _described(bench, scan)}
    missing = () if source.identity else source.missing_from(present)
    if missing:
        raise SourceError(
            f"{file.relative}: source {source.name} names column {', '.join(missing)}, which the file lacks; "
            f"its columns: {', '.join(present)}"
        )
    try:
        engine.build("raw_table", f"select row_number() over () as {quote(mapping.ROW_PLACE)}, * from {scan}")
    except duckdb.Error as trouble:
        raise _blamed(trouble) from None
    engine.build("raw", query_text(mapping.raw_from_table(source, shape, present)))
    engine.drop("raw_table")
    yield int(engine.row("select count(*) from raw")[0])


def _scan(path: str, source: Source) -> str:
    """How the engine reads a file that is a table: each column of a CSV as text."""
    # The folder's received_date is ours, not a column of the file.
    if source.format == "parquet":
        return f"read_parquet({text_literal(path)}, hive_partitioning = false)"
    written = source.csv
    if written is None:
        options = ["header = true"]
    else:
        named = isinstance(written.header, bool)
        options = [
            f"delim = {text_literal(written.delimiter)}",
            f"quote = {text_literal(written.quote)}",
            f"escape = {text_literal(written.escape if written.quote else '')}",
            f"skip = {written.skip_rows}",
            f"encoding = {text_literal(written.encoding)}",
            f"nullstr = [{', '.join(text_literal(text) for text in ('', *written.null_text))}]",
            f"header = {'true' if named else 'false'}",
        ]
        if not isinstance(written.header, bool):
            options.append(f"names = [{', '.join(text_literal(name) for name in written.header)}]")
    settings = ", ".join(["all_varchar = true", "auto_detect = true", "hive_partitioning = false", *options])
    return f"read_csv({text_literal(path)}, {settings})"


def _described(bench: Workbench, scan: str) -> list[tuple[str, str]]:
    import duckdb

    try:
        rows = bench.engine.connection.execute(f"describe select * from {scan}").fetchall()
    except duckdb.Error as trouble:
        raise _blamed(trouble) from None
    return [(str(row[0]), str(row[1])) for row in rows]


@cache
def _texts(source_json: str) -> dict[str, str]:
    """The door's queries for a source (given as JSON, so that equal sources share one entry)."""
    source, shape = Source.model_validate_json(source_json), door_shape()
    return {
        "raw": query_text(mapping.raw_from_lines(source, shape)),
        "items": query_text(mapping.raw_items(source)) if source.unnest is not None else "",
        "mapped": query_text(mapping.mapped_rows(source, shape)),
        "typed": query_text(door.typed_rows(source, shape)),
        "identities": query_text(identity.identities(shape.identifiers)),
        "landed": query_text(door.pseudonymous_rows(source, shape)),
    }


def _through_the_door(bench: Workbench, file: LandingFile, source: Source, names: str) -> None:
    """Table `raw` through mapping, typing and pseudonyms into table `landed_rows`."""
    key = bench.key
    if key is None:
        raise ExpError("no identity key")
    engine, texts = bench.engine, _texts(source.canonical_json())
    pads = key.pads()
    if source.unnest is not None:
        engine.build("raw_items", texts["items"])
        engine.drop("raw")
    engine.build("mapped", texts["mapped"])
    engine.drop("raw")
    engine.drop("raw_items")
    engine.build("typed", texts["typed"])
    engine.drop("mapped")
    name_people(bench, (file,), texts["identities"])
    engine.offer_frame("buckets", unit_buckets(bench.catalog, engine.frame(UNITS_AT_THE_DOOR)))
    engine.connection.execute(
        f"insert into landed_rows select {names} from ({texts['landed']})",
        {
            **pads,
            "source": source.name,
            "file": file.short_name,
            "received_date": file.received,
            "skew_microseconds": bench.catalog.policies.time.skew_minutes * 60_000_000,
            "key_id": key.key_id,
        },
    )
    for name in ("typed", "identities", "buckets"):
        engine.drop(name)
