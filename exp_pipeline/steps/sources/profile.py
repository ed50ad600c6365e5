"""What a log file looks like: its format, its columns (those inside objects, too), and what they hold."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from exp_pipeline.model.errors import SourceError
from exp_pipeline.model.sources import CsvFormat
from exp_pipeline.steps.sources.claims import format_of
from exp_pipeline.store.engine import quote, text_literal

if TYPE_CHECKING:
    import duckdb

Format = Literal["ndjson", "csv", "parquet"]
SAMPLE_ROWS = 20_000
# More than a name of an event has, and few enough to be names.
NAME_CHARACTERS, NAME_VALUES = 60, 60
_MOST_LEAVES = 120
_SNIFFED_BYTES = 1 << 16
_SIMPLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
TIME_FORMATS = (
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%Y%m%d%H%M%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%b %d, %Y %H:%M:%S",
)
# Numbers of these sizes are moments between the years 2001 and 2096, counted in this unit.
_EPOCHS = {"s": (1e9, 4e9), "ms": (1e12, 4e12), "us": (1e15, 4e15), "ns": (1e18, 4e18)}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that rows hold: the expression that reads it, its path of names, its type, what was seen.

    `time`: "iso", "iso_zone", "s", "ms", "us", "ns", a strptime format, or None. `values`: how often each
    value occurs, where they are few and short; they are for comparing, and only an event's names are shown.
    """

    expression: str
    path: tuple[str, ...]
    type: str
    rows: int
    filled: int
    distinct: int
    time: str | None
    ambiguous_day: bool
    values: dict[str, int] = field(default_factory=dict)

    @property
    def number(self) -> bool:
        """Whether its type is one of numbers."""
        return self.type in ("BIGINT", "DOUBLE", "INTEGER", "HUGEINT", "FLOAT", "SMALLINT", "TINYINT") or (
            self.type.startswith(("U", "DECIMAL")) and self.type != "UUID"
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A file's format, the declarations that read it, and its leaves in the order of the file.

    `columns` are top-level columns with their types (`item` among them where `unnest` takes a list apart).
    """

    file: Path
    format: Format
    csv: CsvFormat | None
    rows: int
    columns: dict[str, str]
    unnest: str | None
    leaves: tuple[Leaf, ...]
    connection: duckdb.DuckDBPyConnection = field(repr=False, compare=False)

    @property
    def table(self) -> str:
        """The table of sampled rows, one for each element where a list is taken apart."""
        return "sample" if self.unnest is None else "taken"

    def different(self, leaves: Sequence[Leaf]) -> float:
        """Which share of the sampled rows differs from all others in these values?"""
        values = ", ".join(f"cast({_quoted_path(leaf.path)} as varchar)" for leaf in leaves)
        row = self.connection.execute(
            f"select count(distinct row({values})) / count(*) from {self.table}"
        ).fetchone()
        return float(row[0]) if row is not None and row[0] is not None else 0.0


def columns_of(file: Path) -> tuple[str, ...] | None:
    """The names of a CSV or Parquet file's columns; None where the file is neither, or cannot be read."""
    import duckdb

    kind = format_of(file)
    if kind not in ("csv", "parquet"):
        return None
    with duckdb.connect(":memory:") as connection:
        try:
            scan = _table_scan(connection, file, kind)[0]
            return tuple(str(row[0]) for row in connection.execute(f"describe {scan}").fetchall())
        except duckdb.Error:
            return None


@contextmanager
def profiled(file: Path) -> Iterator[Profile]:
    """What a file looks like, by its first 20,000 rows. Raises SourceError where no format fits."""
    import duckdb

    kind = _kind(file)
    with duckdb.connect(":memory:") as connection:
        connection.execute("set TimeZone = 'UTC'")
        try:
            seen = _of_lines(connection, file) if kind == "ndjson" else _of_table(connection, file, kind)
        except duckdb.Error as trouble:
            told = str(trouble).splitlines()[0]
            raise SourceError(f"{file}: cannot be read as {kind}: {told}") from None
        yield seen


def _opened(file: Path) -> Any:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _kind(file: Path) -> Format:
    try:
        with _opened(file) as handle:
            start = handle.read(_SNIFFED_BYTES)
    except (OSError, EOFError) as trouble:
        raise SourceError(f"{file}: cannot be read: {trouble}") from None
    if start[:4] == b"PAR1":
        return "parquet"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise SourceError(f"{file}: the file is empty")
    if text[:1] == b"[":
        raise SourceError(
            f"{file}: holds one JSON list; NDJSON has one object on each line: jq -c '.[]' FILE > FILE.ndjson"
        )
    if text[:1] == b"{" and (b"\n" not in text or _json_line(text.split(b"\n", 1)[0])):
        return "ndjson"
    if text[:1] == b"{":
        raise SourceError(
            f"{file}: its objects span several lines; NDJSON has one on each: jq -c . FILE > FILE.ndjson"
        )
    return "csv"


def _json_line(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        # A first line that is broken says nothing about the rest.
        return line.rstrip().endswith(b"}") or len(line) > 200
    return True


def _of_lines(connection: duckdb.DuckDBPyConnection, file: Path) -> Profile:
    connection.execute("create table lines (line json)")
    good = []
    with _opened(file) as handle:
        lines: Iterator[bytes] = itertools.islice(handle, SAMPLE_ROWS)
        try:
            for raw in lines:
                text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip()
                try:
                    if isinstance(json.loads(text), dict):
                        good.append(text)
                except (ValueError, RecursionError):
                    continue
        except (OSError, EOFError) as trouble:
            if not good:
                raise SourceError(f"{file}: cannot be read: {trouble}") from None
    if not good:
        raise SourceError(f"{file}: no line of its first {SAMPLE_ROWS:,} is a JSON object")
    import polars as pl

    connection.register("given", pl.DataFrame({"line": good}).to_arrow())
    row = connection.execute(
        "insert into lines select line from given where json_valid(line); "
        "select json_group_structure(line) from lines"
    ).fetchone()
    shape = json.loads(row[0]) if row is not None else {}
    columns = {name: _declared(kind) for name, kind in shape.items() if _nameable(name)}
    told = json.dumps({name: shape[name] for name in columns}).replace('"NULL"', '"VARCHAR"')
    connection.execute(
        "create table sample as select unnest(json_transform(line, $shape)) from lines", {"shape": told}
    )
    return _profiled(connection, file, "ndjson", None, columns)


def _nameable(name: str) -> bool:
    return bool(name) and name.isprintable() and not set(name) & set('"\\')


def _declared(kind: object) -> str:
    """A JSON structure as the type of a column."""
    if isinstance(kind, list):
        inner = _declared(kind[0]) if kind else "JSON"
        return f"{inner}[]"
    if isinstance(kind, dict):
        if not kind or not all(_nameable(name) for name in kind):
            return "JSON"
        return f"STRUCT({', '.join(f'{_name(one)} {_declared(inner)}' for one, inner in kind.items())})"
    return {"NULL": "VARCHAR", "UBIGINT": "BIGINT"}.get(str(kind), str(kind))


def _name(name: str) -> str:
    from sqlglot import exp

    return exp.to_identifier(name, quoted=not _SIMPLE.match(name)).sql(dialect="duckdb")


def _table_scan(connection: duckdb.DuckDBPyConnection, file: Path, kind: str) -> tuple[str, CsvFormat | None]:
    path = text_literal(str(file))
    if kind == "parquet":
        return f"select * from read_parquet({path}, hive_partitioning = false)", None
    with _opened(file) as handle:
        start = handle.read(_SNIFFED_BYTES)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    if encoding == "utf-8":
        try:
            start[: start.rfind(b"\n") + 1].decode()
        except UnicodeDecodeError:
            encoding = "latin-1"
    sniffed = connection.execute(
        "select Delimiter, Quote, Escape, SkipRows, HasHeader, Columns.list_transform(lambda c: c.name) "
        f"from sniff_csv({path}, encoding = {text_literal(encoding)}, sample_size = {SAMPLE_ROWS})"
    ).fetchone()
    if sniffed is None:
        raise SourceError(f"{file}: cannot be read as csv")
    delimiter, quoting, escape, skip, header, names = sniffed
    plain = {"(empty)", "\0", None}
    written = CsvFormat.model_validate(
        {
            "delimiter": delimiter,
            "quote": '"' if quoting in plain else quoting,
            "escape": '"' if escape in plain else escape,
            "skip_rows": int(skip),
            "header": True if header else tuple(names),
            "encoding": encoding,
        }
    )
    return (
        f"select * from read_csv({path}, encoding = {text_literal(encoding)}, sample_size = {SAMPLE_ROWS}, "
        "hive_partitioning = false, ignore_errors = true)",
        written,
    )


def _of_table(connection: duckdb.DuckDBPyConnection, file: Path, kind: Format) -> Profile:
    scan, written = _table_scan(connection, file, kind)
    described = connection.execute(f"describe {scan}").fetchall()
    columns = {str(row[0]): str(row[1]) for row in described if _nameable(str(row[0]))}
    if kind == "csv":
        # A CSV's times and days are texts until somebody has said how to read them.
        columns = {
            name: "VARCHAR" if one.startswith(("TIME", "DATE")) else one for name, one in columns.items()
        }
        scan = scan.replace("ignore_errors = true", "ignore_errors = true, all_varchar = true")
    connection.execute(f"create table sample as {scan} limit {SAMPLE_ROWS}")
    return _profiled(connection, file, kind, written, columns)


def _profiled(
    connection: duckdb.DuckDBPyConnection,
    file: Path,
    kind: Format,
    written: CsvFormat | None,
    columns: dict[str, str],
) -> Profile:
    taken = {"byte_offset", "reason", "extra", "row_number", "item"}
    kept = {name: one for name, one in columns.items() if name.lower() not in taken}
    row = connection.execute("select count(*) from sample").fetchone()
    rows = int(row[0]) if row is not None else 0
    if not rows:
        raise SourceError(f"{file}: holds no row to look at")
    unnest = _list_to_take_apart(kept)
    if unnest is not None:
        item = kept[unnest].removesuffix("[]")
        connection.execute(
            f"create table taken as select * exclude ({quote(unnest)}), "
            f"unnest({quote(unnest)}) as item from sample"
        )
        kept["item"] = item
    leaves = []
    for path, one in itertools.islice(_paths(kept, unnest), _MOST_LEAVES):
        leaves.append(_leaf(connection, "sample" if unnest is None else "taken", path, one))
    return Profile(file, kind, written, rows, kept, unnest, tuple(leaves), connection)


def _list_to_take_apart(columns: dict[str, str]) -> str | None:
    """The one column that is a list of objects, where there is just one."""
    lists = [name for name, kind in columns.items() if kind.startswith("STRUCT") and kind.endswith("[]")]
    return lists[0] if len(lists) == 1 else None


def _paths(columns: dict[str, str], unnest: str | None) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, kind in columns.items():
        if name != unnest:
            yield from _inside((name,), kind)


def _inside(path: tuple[str, ...], kind: str) -> Iterator[tuple[tuple[str, ...], str]]:
    from sqlglot import exp

    if kind.endswith("[]") or kind in ("JSON", "BLOB") or kind.startswith("MAP"):
        return
    if not kind.startswith("STRUCT"):
        yield path, kind
        return
    for one in exp.DataType.build(kind, dialect="duckdb").expressions:
        yield from _inside((*path, one.name), one.args["kind"].sql(dialect="duckdb"))


def _quoted_path(path: Sequence[str]) -> str:
    return ".".join(quote(step) for step in path)


def _leaf(connection: duckdb.DuckDBPyConnection, table: str, path: tuple[str, ...], kind: str) -> Leaf:
    reading = ".".join(_name(step) for step in path)
    kind = {"TEXT": "VARCHAR", "INT": "INTEGER"}.get(kind, kind)
    text = f"cast({_quoted_path(path)} as varchar)"
    counted = connection.execute(
        "select count(*), count(v), count(distinct v), count(try_cast(v as timestamp)), "
        "count(*) filter (where regexp_matches(v, '([zZ]|[+-][0-9]{2}:?[0-9]{2})$') and length(v) > 10), "
        "min(try_cast(v as double)), max(try_cast(v as double)), count(try_cast(v as double)), "
        "max(length(v)) "
        f"from (select nullif(trim({text}), '') as v from {table})"
    ).fetchone()
    if counted is None:
        raise SourceError(f"column {reading} cannot be counted")
    rows, filled, distinct, times, zoned, low, high, numbers, longest = counted
    time, ambiguous = None, False
    if filled and numbers == filled:
        time = next((unit for unit, (a, b) in _EPOCHS.items() if low >= a and high < b), None)
    elif filled and times >= 0.95 * filled:
        time = "iso_zone" if zoned >= 0.95 * filled else "iso"
    elif filled and kind == "VARCHAR" and longest <= 40:
        time, ambiguous = _format_of_times(connection, table, text, filled)
    values: dict[str, int] = {}
    if filled and distinct <= NAME_VALUES and longest <= NAME_CHARACTERS:
        values = {
            str(value): int(number)
            for value, number in connection.execute(
                f"select v, count(*) from (select nullif(trim({text}), '') as v from {table}) "
                "where v is not null group by v order by count(*) desc, v"
            ).fetchall()
        }
    return Leaf(reading, path, kind, rows, filled, distinct, time, ambiguous, values)


def _format_of_times(
    connection: duckdb.DuckDBPyConnection, table: str, text: str, filled: int
) -> tuple[str | None, bool]:
    counted = connection.execute(
        "select "
        + ", ".join(f"count(try_strptime(v, {text_literal(one)}))" for one in TIME_FORMATS)
        + f" from (select nullif(trim({text}), '') as v from {table})"
    ).fetchone()
    fitting = [
        one for one, number in zip(TIME_FORMATS, counted or (), strict=True) if number >= 0.95 * filled
    ]
    orders = {re.sub(r"[^dm]", "", one)[:2] for one in fitting}
    return (fitting[0] if fitting else None), {"dm", "md"} <= orders
