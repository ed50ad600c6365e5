"""NDJSON files to table `raw`: plain lines at the engine's full speed, odd ones looked at one by one."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, door_shape
from exp_pipeline.steps.ingest.raw_batches import RawBatch, empty_raw, forget_parsed
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.store.lines import SURE_WEIGHT, LineBatch, line_batches
from exp_pipeline.transform import mapping, plain_lines
from exp_pipeline.transform.door import is_scalar
from exp_pipeline.transform.queries import query_text

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE_LINES = 500
# Where more of a batch than this has to be looked at one by one, its lines are parsed as text first.
_MOST_DOUBTFUL = 0.02


def from_lines(
    bench: Workbench, source: Source, files: Sequence[LandingFile], *, typed: bool = False
) -> Generator[RawBatch]:
    """Table `raw` from the lines of NDJSON files, plain or gzip.

    With `typed` the plain lines of a source that maps nothing are not in `raw`, but typed already in tables
    table `parsed`, each with its place; the batch names the columns that they fill.
    """
    limit = bench.catalog.policies.landing_line_limit_bytes
    straight = (typed or not source.identity) and plain_lines.all_carried(source, door_shape())
    seen: set[str] = set()
    for lines in line_batches(files, limit, bench.home.state / "spill"):
        present = _present(source, lines, seen)
        bench.engine.drop("raw")
        forget_parsed(bench)
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
    """Table `parsed`, typed, with places; returns the lines that are odd after all, None if many.

    A line that fills as many fields as its weight says fits the contract's types in every one of them. No
    line can fill more (short of a weight that says it is unsure), so that equal sums over a batch suffice,
    where a column that no line lacks tells that none is without any field.
    """
    import pyarrow as pa

    connection = bench.engine.connection
    values = _plain_values(source.canonical_json(), tuple(present))
    table = connection.sql(f"select {values} from {_read_json(lines, present)}").to_arrow_table()
    rows = table.num_rows
    if rows != lines.places.height:
        return None
    # An empty text is filled as far as bytes tell, and no value.
    filled = [table.column(name) for name in present]
    columns = {name: _without_empty(column) for name, column in zip(present, filled, strict=True)}
    places = (plain_lines.ROW, lines.places["row_number"]), (plain_lines.PLACE, lines.places["place"])
    whole = pa.table({**columns, **{name: column.to_numpy() for name, column in places}})
    gaps = [column.null_count for column in filled]
    doubtful = np.zeros(0, dtype=np.int64)
    if min(gaps) or lines.weight != rows * len(gaps) - sum(gaps):
        weights, own = lines.weights(), np.zeros(rows, dtype=np.int64)
        for column in filled:
            own += column.is_valid().to_numpy()
        sound = (weights == own) & (weights > 0) & (weights < SURE_WEIGHT)
        doubtful = np.flatnonzero(~sound)
        if len(doubtful) > _MOST_DOUBTFUL * rows + _SAMPLE_LINES:
            return None
        if len(doubtful):
            whole = whole.filter(pa.array(sound))
    connection.register("parsed", whole)
    return [int(one) for one in doubtful]


def _without_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A text column without its empty texts, which are no values; any other column as it is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return column
    empty = 0
    for chunk in column.chunks:
        offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int32)[chunk.offset :][: len(chunk) + 1]
        empty += int(np.count_nonzero(offsets[1:] == offsets[:-1]))
    if empty == column.null_count:
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _fill_raw(bench: Workbench, source: Source, lines: LineBatch, present: Sequence[str]) -> None:
    """Table `raw` from lines parsed as text."""
    engine, told = bench.engine, source.canonical_json()
    engine.offer_frame(
        "parsed_places",
        lines.places.with_columns(
            pl.int_range(lines.places.height, dtype=pl.Int64).alias("place_in_batch"),
            pl.Series("weight", lines.weights()),
        ),
    )
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
