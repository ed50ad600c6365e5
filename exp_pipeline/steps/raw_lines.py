"""NDJSON files to table `raw`: plain lines at the engine's full speed, odd ones looked at one by one."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from functools import cache

import numpy as np
import polars as pl

from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, door_shape
from exp_pipeline.steps.raw_batches import RawBatch, empty_raw
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.store.lines import SURE_WEIGHT, LineBatch, line_batches
from exp_pipeline.transform import mapping, plain_lines
from exp_pipeline.transform.door import is_scalar
from exp_pipeline.transform.queries import query_text

_SAMPLE_LINES = 500
# Where more of a batch than this has to be looked at one by one, its lines are parsed as text first.
_MOST_DOUBTFUL = 0.02


def from_lines(
    bench: Workbench, source: Source, files: Sequence[LandingFile], *, typed: bool = False
) -> Generator[RawBatch]:
    """Table `raw` from the lines of NDJSON files, plain or gzip.

    With `typed` the plain lines of a source that maps nothing are not in `raw`, but typed already in tables
    `parsed` and `plain_places`; the batch names the columns that they fill.
    """
    limit = bench.catalog.policies.landing_line_limit_bytes
    straight = typed or not source.identity
    seen: set[str] = set()
    for lines in line_batches(files, limit, bench.home.state / "spill"):
        present = _present(source, lines, seen)
        bench.engine.drop("raw")
        found = _straight(bench, source, lines, present) if straight and present else None
        if found is None:
            # Lines that need a closer look in numbers will go on to do so.
            straight = straight and not present
            _fill_raw(bench, source, lines, present)
            yield RawBatch(lines.rows, tuple(files))
            continue
        told = source.canonical_json()
        bench.engine.offer_frame("raw_lines", lines.with_odd(found))
        if source.identity:
            if len(found) or not lines.odd.is_empty():
                _note_names(lines, found, seen)
                bench.engine.build("raw", _careful(told))
            else:
                empty_raw(bench, source)
            yield RawBatch(lines.rows, tuple(files), plain=present)
        else:
            plain = _plain(told, present)
            bench.engine.build("raw", f"{plain} union all by name select * from ({_careful(told)})")
            yield RawBatch(lines.rows, tuple(files))


def _straight(bench: Workbench, source: Source, lines: LineBatch, present: Sequence[str]) -> list[int] | None:
    """Tables `parsed`, typed, and `plain_places`; returns the lines that are odd after all, None if many.

    A line that fills as many fields as its weight says fits the contract's types in every one of them. No
    line can fill more (short of a weight that says it is unsure), so that equal sums over a batch suffice.
    """
    engine = bench.engine
    values = _plain_values(source.canonical_json(), tuple(present))
    engine.build("parsed", f"select {values} from {_read_json(lines, present)}")
    counted = " + ".join(f"count({quote(name)})" for name in present)
    rows, filled = engine.row(f"select count(*), {counted} from parsed")
    if rows != lines.places.height:
        return None
    weights = lines.places["weight"].to_numpy()
    doubtful = (weights == 0) | (weights >= SURE_WEIGHT)
    if doubtful.any() or filled != weights.sum():
        each = " + ".join(f"({quote(name)} is not null)::bigint" for name in present)
        own = engine.frame(f"select {each} as filled from parsed order by rowid")["filled"].to_numpy()
        doubtful |= own != weights
    found = np.flatnonzero(doubtful)
    if len(found) > _MOST_DOUBTFUL * rows + _SAMPLE_LINES:
        return None
    places = lines.places.select("place_in_batch", "row_number", "place")
    engine.offer_frame("plain_places", places.filter(pl.Series(~doubtful)) if len(found) else places)
    return [int(one) for one in found]


def _fill_raw(bench: Workbench, source: Source, lines: LineBatch, present: Sequence[str]) -> None:
    """Table `raw` from lines parsed as text."""
    engine, told = bench.engine, source.canonical_json()
    engine.offer_frame("parsed_places", lines.places)
    found = _parse(bench, lines, present) if present else list(range(lines.places.height))
    engine.offer_frame("raw_lines", lines.with_odd(found))
    if not present or len(found) == lines.places.height:
        engine.build("raw", _careful(told))
    elif source.identity:
        # Read once only, on its way to typed columns: not kept twice.
        engine.build("raw_odd", _careful(told))
        engine.view("raw", f"select * from raw_odd union all by name {_parsed(told, present)}")
    else:
        engine.build("raw", f"{_parsed(told, present)} union all by name select * from ({_careful(told)})")


def _present(source: Source, lines: LineBatch, seen: set[str]) -> tuple[str, ...]:
    """Columns of the source that a sample of lines fills; none where lines must be looked at one by one.

    `seen` are the names of earlier lines; those of the sample are added.
    """
    columns = mapping.source_columns(source, door_shape())
    if not lines.places.height or not all(map(is_scalar, columns.values())):
        return ()
    step = max(1, lines.places.height // _SAMPLE_LINES)
    _note_names(lines, range(0, lines.places.height, step), seen)
    return tuple(name for name in columns if name in seen)


def _note_names(lines: LineBatch, positions: Sequence[int], seen: set[str]) -> None:
    """Add the names in some plain lines to `seen`."""
    for position in positions[: 2 * _SAMPLE_LINES]:
        try:
            seen.update(json.loads(lines.line(position)))
        except (ValueError, RecursionError):
            continue


def _read_json(lines: LineBatch, present: Sequence[str]) -> str:
    """The plain lines as the engine reads them, the columns `present` as text."""
    columns = ", ".join(f"{text_literal(name)}: 'VARCHAR'" for name in present)
    return (
        f"read_json({text_literal(str(lines.plain))}, columns = {{{columns}}}, "
        "format = 'newline_delimited', records = 'true', ignore_errors = true, compression = 'none', "
        f"maximum_object_size = {lines.longest + 2})"
    )


def _parse(bench: Workbench, lines: LineBatch, present: Sequence[str]) -> list[int]:
    """Tables `parsed` and `parsed_places`; returns the lines that are odd after all."""
    engine = bench.engine
    filled = " + ".join(f"({quote(name)} is not null)::bigint" for name in present)
    engine.build(
        "parsed",
        f"select *, {filled} as {quote(mapping.PARSED_FILLED)} from {_read_json(lines, present)}",
    )
    (rows,) = engine.row("select count(*) from parsed")
    if rows != lines.places.height:
        engine.build("parsed", "select * from parsed where false")
        return list(range(lines.places.height))
    doubtful = engine.connection.execute(
        "select q.place_in_batch from parsed as p "
        "inner join parsed_places as q on p.rowid = q.place_in_batch "
        f"where p.{quote(mapping.PARSED_FILLED)} <> q.weight or q.weight = 0 order by q.place_in_batch"
    ).fetchall()
    return [int(row[0]) for row in doubtful]


@cache
def _careful(source_json: str) -> str:
    return query_text(mapping.raw_from_lines(Source.model_validate_json(source_json), door_shape()))


@cache
def _parsed(source_json: str, present: Sequence[str]) -> str:
    source = Source.model_validate_json(source_json)
    return query_text(mapping.raw_from_parsed(source, door_shape(), present))


@cache
def _plain(source_json: str, present: Sequence[str]) -> str:
    source = Source.model_validate_json(source_json)
    return query_text(plain_lines.raw_from_plain(source, door_shape(), present))


@cache
def _plain_values(source_json: str, present: Sequence[str]) -> str:
    source = Source.model_validate_json(source_json)
    return ", ".join(map(query_text, plain_lines.plain_values(source, door_shape(), present)))
