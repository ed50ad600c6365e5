"""Through the door: table `raw` mapped, typed, made pseudonymous, and added to `landed_rows`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, door_shape
from exp_pipeline.steps.ingest.holdout_units import HoldoutUnits
from exp_pipeline.steps.ingest.landed_slices import LandedSlices
from exp_pipeline.steps.ingest.raw_batches import RawBatch, forget_parsed
from exp_pipeline.steps.ingest.unit_buckets import UNITS_AT_THE_DOOR, unit_buckets
from exp_pipeline.steps.people.debug_envelope import Samples
from exp_pipeline.steps.people.identity import ERASED, identity_rows, name_people
from exp_pipeline.store.engine import quote
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.transform import door, identity, mapping, plain_lines
from exp_pipeline.transform.queries import query_text

_BEFORE_TYPED = (
    "mapped",
    "raw",
    "raw_table",
    "raw_items",
    "raw_odd",
    "raw_lines",
    "parsed_places",
)
Have = tuple[tuple[str, str], ...]


@cache
def _mapped_texts(source_json: str) -> tuple[str, str]:
    """The queries of a source's mapping (given as JSON, so that equal sources share one entry)."""
    source, shape = Source.model_validate_json(source_json), door_shape()
    items = query_text(mapping.raw_items(source)) if source.unnest is not None else ""
    return items, query_text(mapping.mapped_rows(source, shape))


@cache
def _typed_text(source_json: str, have: Have) -> str:
    source = Source.model_validate_json(source_json)
    here = door.narrowed(door_shape(), [name for name, _ in have])
    return query_text(door.typed_rows(source, here, dict(have)))


@cache
def _plain_text(have: Have, present: tuple[str, ...]) -> str:
    here = door.narrowed(door_shape(), [name for name, _ in have])
    return query_text(plain_lines.typed_from_plain(here, present))


@cache
def _landed_texts(source_json: str, names: tuple[str, ...]) -> tuple[str, str]:
    source, here = Source.model_validate_json(source_json), door.narrowed(door_shape(), names)
    return query_text(identity.identities(here.identifiers)), query_text(door.pseudonymous_rows(source, here))


def offer_typed(bench: Workbench, source: Source, batch: RawBatch, *, keep: bool) -> tuple[str, ...]:
    """Table `typed` from a batch; returns the columns that may hold a value in it.

    Without `keep` it is a view where that is cheaper: the rows are then made as they are read.
    """
    engine, told = bench.engine, source.canonical_json()
    items, mapped = _mapped_texts(told)
    if source.unnest is not None:
        engine.build("raw_items", items)
    engine.drop("mapped")
    engine.view("mapped", mapped)
    have = _filled(bench, source, batch)
    typed = _typed_text(told, have)
    if batch.plain:
        plain = _plain_text(have, batch.plain)
        (odd,) = engine.row("select count(*) from raw")
        if odd:
            engine.build("typed_odd", typed)
        typed = f"select * from typed_odd union all by name {plain}" if odd else plain
    engine.drop("typed")
    if source.identity and not keep:
        engine.view("typed", typed)
    else:
        # The rules of a mapping would be gone through again for every column that holds ids.
        engine.build("typed", typed)
    return tuple(name for name, _ in have)


def through_the_door(
    bench: Workbench,
    files: Sequence[LandingFile],
    source: Source,
    batch: RawBatch,
    slices: LandedSlices,
    samples: Samples,
    held: HoldoutUnits,
) -> None:
    """A batch through mapping, typing and pseudonyms into table `landed_rows`, all of it or nothing."""
    key, engine = bench.key, bench.engine
    if key is None:
        raise ExpError("no identity key")
    # The rows of erased people are emptied where they stand.
    keep = not identity_rows(bench, ERASED).is_empty()
    names = offer_typed(bench, source, batch, keep=keep)
    identities, landed = _landed_texts(source.canonical_json(), names)
    name_people(bench, files, identities)
    held.take()
    engine.offer_frame("buckets", unit_buckets(bench.catalog, engine.frame(UNITS_AT_THE_DOOR)))
    parameters = {
        **key.pads(),
        "source": source.name,
        "files": [file.short_name for file in files],
        "received_date": files[0].received,
        "skew_microseconds": bench.catalog.policies.time.skew_minutes * 60_000_000,
        "key_id": key.key_id,
    }
    slices.widen(door.landed_columns(door.narrowed(bench.shape(), names)))
    engine.connection.execute(
        f"insert into landed_rows by name {landed}",
        {name: value for name, value in parameters.items() if f"${name}" in landed},
    )
    samples.take(source.name)
    for name in ("typed", "typed_odd", "identities", "buckets", *_BEFORE_TYPED):
        engine.drop(name)
    forget_parsed(bench)


def _filled(bench: Workbench, source: Source, batch: RawBatch) -> Have:
    """Columns of `mapped` (and of plain lines) that may hold a value in this batch, with their types."""
    connection = bench.engine.connection
    types = {str(row[0]): str(row[1]) for row in connection.execute("describe mapped").fetchall()}
    names = [name for name in bench.shape().accepted() if types[name] != '"NULL"']
    if source.identity:
        counted = ", ".join(f"count({quote(name)})" for name in names)
        counts = bench.engine.row(f"select {counted} from raw")
        held = {name for name, count in zip(names, counts, strict=True) if count}
        names = [name for name in names if name in held or name in batch.plain or name in door.ALWAYS]
    return tuple((name, types[name]) for name in names)
