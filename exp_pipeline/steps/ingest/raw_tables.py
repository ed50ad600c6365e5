"""CSV and Parquet files to table `raw`: several files or several slices at a time, never a whole day."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache

from exp_pipeline.model.errors import SourceError
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, door_shape
from exp_pipeline.steps.ingest.raw_batches import UNREADABLE, RawBatch, add_refused, blamed, empty_raw
from exp_pipeline.store.csv_rows import BATCH_RECORDS, CsvDialect, csv_batches
from exp_pipeline.store.engine import Engine, quote, text_literal
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.transform import mapping
from exp_pipeline.transform.door import FILE_SHIFT
from exp_pipeline.transform.queries import query_text

BATCH_ROWS = 245_760


def _check(source: Source, file: LandingFile, present: Sequence[str]) -> None:
    missing = () if source.identity else source.missing_from(present)
    if missing:
        raise SourceError(
            f"{file.relative}: source {source.name} names column {', '.join(missing)}, which the file lacks; "
            f"its columns: {', '.join(present)}"
        )


@cache
def _raw_text(source_json: str, present: tuple[tuple[str, str], ...]) -> str:
    source = Source.model_validate_json(source_json)
    return query_text(mapping.raw_from_table(source, door_shape(), dict(present)))


# CSV ---------------------------------------------------------------------------------------------------


def from_csv(bench: Workbench, source: Source, files: Sequence[LandingFile]) -> Generator[RawBatch]:
    """Table `raw` from CSV files, every value as text."""
    engine, rows = bench.engine, 0
    dialect, told = _dialect(source), source.canonical_json()
    for number, file in enumerate(files):
        for batch in csv_batches(file.path, dialect, bench.catalog.policies.landing_line_limit_bytes):
            if batch.names:
                _check(source, file, batch.names)
            if rows == 0:
                empty_raw(bench, source)
            engine.offer_frame("records", batch.rows)
            columns = "".join(f", c{place} as {quote(name)}" for place, name in enumerate(batch.names))
            engine.build(
                "raw_table",
                f"select row_number as {quote(mapping.ROW_IN_FILE)}, "
                f"byte_offset + {number << FILE_SHIFT} as {quote(mapping.ROW_PLACE)}, "
                f"reason as {quote(mapping.ROW_REASON)}{columns} from records",
            )
            text = _raw_text(told, tuple((name, "VARCHAR") for name in batch.names))
            engine.connection.execute(f"insert into raw by name {text}")
            engine.drop("raw_table")
            engine.drop("records")
            rows += batch.rows.height
            if rows >= BATCH_RECORDS:
                yield RawBatch(rows, tuple(files))
                rows = 0
    if rows:
        yield RawBatch(rows, tuple(files))


def _dialect(source: Source) -> CsvDialect:
    written = source.csv
    if written is None:
        return CsvDialect()
    return CsvDialect(
        delimiter=written.delimiter,
        quote=written.quote,
        escape=written.escape if written.quote else "",
        names=() if isinstance(written.header, bool) else tuple(written.header),
        null_text=frozenset(written.null_text),
        encoding=written.encoding,
        skip_rows=written.skip_rows,
    )


# Parquet -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """A Parquet file that can be opened: its number among the files, rows and columns with types."""

    number: int
    file: LandingFile
    rows: int
    columns: tuple[tuple[str, str], ...]

    def own_places(self) -> bool:
        """Whether the engine's names for a row's place are free, as no column of the file has them."""
        return not {"file_row_number", "file_index"} & {name.lower() for name, _ in self.columns}


def from_parquet(
    bench: Workbench, source: Source, files: Sequence[LandingFile], *, typed: bool = False
) -> Generator[RawBatch]:
    """Table `raw` from Parquet files: small ones of the same columns together, large ones slice by slice.

    With `typed` it is a view over the files where the source maps nothing; a `duckdb.Error` that reading it
    gives is to be thrown back in here.
    """
    waiting: list[_Table] = []
    reading = _Reading(bench, source, tuple(files), typed and source.identity)
    for number, file in enumerate(files):
        table = _opened(bench, number, file)
        if isinstance(table, str):
            yield from _together(reading, waiting)
            waiting = []
            yield _refused(reading, number, table)
            continue
        _check(source, file, [name for name, _ in table.columns])
        full = sum(one.rows for one in waiting) + table.rows > BATCH_ROWS
        if waiting and (full or waiting[0].columns != table.columns or not table.own_places()):
            yield from _together(reading, waiting)
            waiting = []
        if table.rows:
            waiting.append(table)
    yield from _together(reading, waiting)


def _opened(bench: Workbench, number: int, file: LandingFile) -> _Table | str:
    """A file's size and columns, or what is wrong with it."""
    import duckdb

    path = text_literal(str(file.path))
    try:
        (rows,) = bench.engine.row(f"select coalesce(sum(num_rows), 0) from parquet_file_metadata({path})")
        described = bench.engine.connection.execute(
            f"describe select * from {_scan([str(file.path)])}"
        ).fetchall()
    except duckdb.Error as trouble:
        return blamed(trouble, file)
    return _Table(number, file, int(rows), tuple((str(row[0]), str(row[1])) for row in described))


def _scan(paths: Sequence[str]) -> str:
    listed = ", ".join(text_literal(path) for path in paths)
    # The folder's received_date is ours, not a column of the file.
    return f"read_parquet([{listed}], hive_partitioning = false)"


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read, and whether table `raw` may be a view over the files."""

    bench: Workbench
    source: Source
    files: tuple[LandingFile, ...]
    as_view: bool


def _together(reading: _Reading, tables: Sequence[_Table]) -> Generator[RawBatch]:
    """Tables of the same columns in one batch, or in slices where one of them is large."""
    import duckdb

    if not tables:
        return
    try:
        yield from _slices(reading, tables)
    except duckdb.Error as trouble:
        blamed(trouble, tables[0].file)
        for one in tables:
            yield from _together(reading, [one])


def _slices(reading: _Reading, tables: Sequence[_Table]) -> Generator[RawBatch]:
    """All tables at once, or a single one slice by slice; a slice that cannot be read is one refused row."""
    import duckdb

    total = sum(one.rows for one in tables)
    own, engine = tables[0], reading.bench.engine
    for first in range(0, total, BATCH_ROWS):
        try:
            _offer_slice(engine, tables, first)
            engine.drop("raw")
            text = _raw_text(reading.source.canonical_json(), own.columns)
            if reading.as_view:
                # Decoded on its way through the door, where it may turn out to be damaged.
                engine.view("raw", text)
            else:
                engine.build("raw", text)
            yield RawBatch(min(BATCH_ROWS, total - first), reading.files)
        except duckdb.Error as trouble:
            if len(tables) > 1:
                raise
            yield _refused(reading, own.number, blamed(trouble, own.file), first + 1)


def _offer_slice(engine: Engine, tables: Sequence[_Table], first: int) -> None:
    """View `raw_table` of all tables, or of rows of a single large one, counted from `first`."""
    numbers = "[" + ", ".join(str(one.number) for one in tables) + "]"
    names = ", ".join(quote(name) for name, _ in tables[0].columns)
    scan = _scan([str(one.file.path) for one in tables])
    within = f"between {first} and {first + BATCH_ROWS - 1}"
    if tables[0].own_places():
        place, number, where = (
            "file_row_number::bigint",
            f"{numbers}[file_index::bigint + 1]",
            f"where file_row_number {within}",
        )
    else:
        place, number = "row_number() over () - 1", str(tables[0].number)
        where = f"qualify row_number() over () - 1 {within}"
    engine.drop("raw_table")
    offer = engine.view if tables[0].own_places() else engine.build
    offer(
        "raw_table",
        f"select {place} + 1 as {quote(mapping.ROW_IN_FILE)}, "
        f"{number}::bigint << {FILE_SHIFT} as {quote(mapping.ROW_PLACE)}, "
        f"null::varchar as {quote(mapping.ROW_REASON)}, {names} from {scan} {where}",
    )


def _refused(reading: _Reading, number: int, cause: str, row: int = 1) -> RawBatch:
    reading.bench.engine.drop("raw")
    empty_raw(reading.bench, reading.source)
    add_refused(reading.bench, row, number << FILE_SHIFT, UNREADABLE)
    return RawBatch(1, reading.files, {reading.files[number].relative: cause})
