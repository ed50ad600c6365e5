"""NDJSON files to table `raw`: plain lines at the engine's full speed, odd ones looked at one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache

from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, door_shape
from exp_pipeline.steps.raw_batches import RawBatch
from exp_pipeline.store.engine import quote, text_literal
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.store.lines import LineBatch, line_batches
from exp_pipeline.transform import mapping
from exp_pipeline.transform.door import is_scalar
from exp_pipeline.transform.queries import query_text

_SAMPLE_LINES = 500


def from_lines(bench: Workbench, source: Source, files: Sequence[LandingFile]) -> Iterator[RawBatch]:
    """Table `raw` from the lines of NDJSON files, plain or gzip."""
    limit = bench.catalog.policies.landing_line_limit_bytes
    for lines in line_batches(files, limit, bench.home.state / "spill"):
        _fill_raw(bench, source, lines)
        yield RawBatch(lines.rows, tuple(files))


def _fill_raw(bench: Workbench, source: Source, lines: LineBatch) -> None:
    engine, told = bench.engine, source.canonical_json()
    present = _present(source, lines)
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


def _present(source: Source, lines: LineBatch) -> tuple[str, ...]:
    """Columns of the source that a sample of lines fills; none where lines must be looked at one by one."""
    columns = mapping.source_columns(source, door_shape())
    if not lines.places.height or not all(map(is_scalar, columns.values())):
        return ()
    seen: set[str] = set()
    step = max(1, lines.places.height // _SAMPLE_LINES)
    for position in range(0, lines.places.height, step):
        try:
            row = json.loads(lines.line(position))
        except (ValueError, RecursionError):
            continue
        seen.update(row)
    return tuple(name for name in columns if name in seen)


def _parse(bench: Workbench, lines: LineBatch, present: Sequence[str]) -> list[int]:
    """Tables `parsed` and `parsed_places`; returns the lines that are odd after all."""
    engine = bench.engine
    columns = ", ".join(f"{text_literal(name)}: 'VARCHAR'" for name in present)
    filled = " + ".join(f"({quote(name)} is not null)::bigint" for name in present)
    engine.build(
        "parsed",
        f"select *, {filled} as {quote(mapping.PARSED_FILLED)} from read_json("
        f"{text_literal(str(lines.plain))}, columns = {{{columns}}}, format = 'newline_delimited', "
        "records = 'true', ignore_errors = true, compression = 'none', "
        f"maximum_object_size = {lines.longest + 2})",
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
