"""Landed files of one source as table `raw`, many rows and many files at a time.

Table `raw` has the source's columns, `row_number`, `reason`, `extra`, and in `byte_offset` the row's *place*:
the number of its file in the list, shifted, plus the byte offset. It goes through mapping and typing
untouched, and is taken apart where the row is landed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cache

from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import Workbench, door_shape
from exp_pipeline.store.files import digest_of_file
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.transform import mapping
from exp_pipeline.transform.queries import query_text

UNREADABLE = "unreadable_file"


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Table `raw` as it stands: how many rows, of which files, and why a file could not be read at all.

    Where `plain` names columns, more rows stand typed already in table `parsed` (these columns, and the place
    of each row), and are among `rows`.
    """

    rows: int
    files: tuple[LandingFile, ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()


def raw_batches(
    bench: Workbench, source: Source, files: Sequence[LandingFile], *, typed: bool = False
) -> Generator[RawBatch]:
    """Fill table `raw` batch by batch from files of one source.

    With `typed`, for rows that go straight through the door, lines may be given typed already beside `raw`
    (see RawBatch), and `raw` may be a view over files: a `duckdb.Error` that reading it gives is to be thrown
    back in here, and the file is refused for it.
    Every row of a file is in exactly one batch; one that cannot be read has a reason, and a file that is not
    in its source's format is one row with reason `unreadable_file`. Raises SourceError where the mapping
    names a column that a file lacks.
    """
    from exp_pipeline.steps.ingest.raw_lines import from_lines
    from exp_pipeline.steps.ingest.raw_tables import from_csv, from_parquet

    match source.format:
        case "ndjson":
            yield from from_lines(bench, source, files, typed=typed)
        case "parquet":
            yield from from_parquet(bench, source, files, typed=typed)
        case "csv":
            yield from from_csv(bench, source, files)


def empty_raw(bench: Workbench, source: Source) -> None:
    """Table `raw` without a row."""
    bench.engine.build("raw", _empty_text(source.canonical_json()))


@cache
def _empty_text(source_json: str) -> str:
    return query_text(mapping.empty_raw(Source.model_validate_json(source_json), door_shape()))


def forget_parsed(bench: Workbench) -> None:
    """Drop table `parsed`, and the Arrow table that it may stand for."""
    bench.engine.connection.unregister("parsed")
    bench.engine.drop("parsed")


def add_refused(bench: Workbench, row: int, place: int, reason: str) -> None:
    """One more row in table `raw`, for what of a file cannot be read from that row on."""
    bench.engine.connection.execute(
        "insert into raw (row_number, byte_offset, reason) values ($row, $place, $reason)",
        {"row": row, "place": place, "reason": reason},
    )


def blamed(trouble: Exception, file: LandingFile) -> str:
    """What is wrong with a file, of which the engine complained; raises what is no file's fault."""
    import duckdb

    not_the_file = (
        duckdb.OutOfMemoryException,
        duckdb.InterruptException,
        duckdb.FatalException,
        duckdb.InternalException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ParserException,
    )
    # A file whose bytes can be read is to blame itself where its content cannot.
    if isinstance(trouble, not_the_file) or digest_of_file(file.path) != file.digest:
        raise trouble
    # The engine may quote the value that it could not read.
    told = str(trouble).splitlines()[0].replace(str(file.path), file.relative)
    return told.partition(": value")[0]
