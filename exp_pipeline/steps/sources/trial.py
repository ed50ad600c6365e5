"""A trial of a source: one file through mapping, door and contracts, with nothing written to the home."""

from __future__ import annotations

import gzip
import itertools
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from exp_pipeline.catalog import Catalog
from exp_pipeline.contracts.events import event_specs
from exp_pipeline.contracts.fields import FIELDS
from exp_pipeline.model.sources import Source
from exp_pipeline.steps.context import DAY, Window, Workbench, received_day
from exp_pipeline.steps.ingest import conform as ingest
from exp_pipeline.steps.ingest import landing
from exp_pipeline.store.engine import Engine, quote, text_literal
from exp_pipeline.store.home import Home
from exp_pipeline.store.landing import RECEIVED, LandingFile
from exp_pipeline.transform import mapping, unmapped
from exp_pipeline.transform.identity import identity_key
from exp_pipeline.transform.queries import query_text

SHOWN_ROWS, SHOWN_EXAMPLES, SHOWN_NAMES = 10, 3, 20
# A larger file is tried by its first rows.
WHOLE_BYTES = 128 * 1024 * 1024
_SHOWN_VALUE = 40
_MEANINGS = {
    "missing": "empty, and the event's contract asks for it",
    "wrong_type": "not of its type",
    "not_allowed": "none of the values that it may have",
    "empty": "an empty text",
    "out_of_range": "outside its range",
    "rule": "a rule of the event's contract is broken",
    "no_event_rule": "no entry of `events` or `event_names` wants the row",
    "too_late": "it arrived too long after it happened",
    "from_the_future": "its time lies after its receipt",
    "conflicting_duplicate": "its event_id came before, with another payload",
    "unknown_event": "its event_name is not in the taxonomy",
    "unsupported_version": "its schema_version has no contract",
    "not_json": "the line is not JSON",
    "not_an_object": "the line is JSON, but not an object",
    "not_utf8": "the line is not UTF-8 text",
    "line_too_long": "the line is longer than the limit",
    "truncated_gzip": "the archive ends too early",
    "damaged_gzip": "the archive is damaged from here on",
    "too_many_items": "its list is too long",
    "unreadable_file": "the file is not in the source's format",
    "ignored_by_source": "left out on purpose by the source's `ignore`",
    "role": "excluded by policy",
    "listed_learner": "excluded by policy",
    "bot_user_agent": "excluded by policy",
    "superhuman_pace": "excluded by policy",
}
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Example:
    """One row that became no event: its place, the field to blame, and the kind of value it has."""

    row_number: int
    byte_offset: int | None
    field: str | None
    value: str | None
    wanted: str | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows that became no event for one reason, with the first of them."""

    reason: str
    meaning: str
    rows: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class TriedRow:
    """One mapped row: pseudonyms cut short, texts reduced. `reason` is None where it is an event."""

    row_number: int
    part: int
    byte_offset: int | None
    event_name: str | None
    occurred_at: datetime | None
    learner: str | None
    fate: str
    reason: str | None
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the rows of one file.

    `rows_read` raw rows became `mapped_rows` (a raw row may make several), each of which is one of `events`
    (by name), a retry, quarantined or excluded. `extra` counts the rows in which a key or column that nobody
    declared stands; `unread` are declared columns that no rule reads, `absent` declared columns without a
    value in any row; `unlisted` counts the values of `event_name` that `event_names` does not list.
    """

    file: str
    source: str
    whole: bool
    received: date | None
    rows_read: int
    mapped_rows: int
    events: Mapping[str, int]
    retries: int
    quarantined: tuple[LeftOut, ...]
    excluded: tuple[LeftOut, ...]
    rows: tuple[TriedRow, ...]
    extra: Mapping[str, int]
    unread: tuple[str, ...]
    absent: tuple[str, ...]
    unlisted: Mapping[str, int]
    trouble: str | None


def try_source(
    file: Path,
    source: Source,
    catalog: Catalog,
    *,
    today: date,
    received: date | None = None,
    rows: int = 200_000,
    threads: int | None = None,
) -> Trial:
    """What would become of a file's rows if it landed and this source read it? Nothing is written to a home.

    `received` is the day on which it is taken to have landed, for the rule of lateness; where it is not
    known, each row's own `received_at` counts. A file of more than 128 MB is tried by its first `rows` rows.
    Pseudonyms are made with a key of this trial only. Raises SourceError where the mapping names a column
    that the file lacks.
    """
    import duckdb

    tried = source.model_copy(update={"files": f"{RECEIVED}*/*"} | ({} if received else {"history": True}))
    day = received or today
    with (
        tempfile.TemporaryDirectory(prefix="exp-source-") as folder,
        duckdb.connect(":memory:") as connection,
    ):
        home = Home(Path(folder))
        place = home.landing / f"{RECEIVED}{day.isoformat()}"
        place.mkdir(parents=True)
        copy, whole = _placed(file, place, tried, rows)
        bench = Workbench(
            home=home,
            catalog=replace(catalog, sources=(tried,)),
            engine=Engine(connection, temporary=home.state / "spill", threads=threads),
            run_id="trial",
            key=identity_key(os.urandom(32).hex(), None),
        )
        written = landing.land(bench, day)
        landed_file = LandingFile(copy, copy.relative_to(home.landing).as_posix(), day, "")
        unreadable = written.facts.get("files_unreadable")
        trouble = next(iter(unreadable.values()), None) if isinstance(unreadable, Mapping) else None
        _judged(bench, day)
        examples = _examples(bench)
        look = _Look() if trouble else _looked_at(bench, landed_file, tried, examples)
        counts = _counts(bench)
        return Trial(
            file=str(file),
            source=source.name,
            whole=whole,
            received=received,
            rows_read=int(str(written.facts["raw_rows"])),
            mapped_rows=written.rows,
            events=_event_counts(bench),
            retries=sum(number for (fate, _), number in counts.items() if fate == "retry"),
            quarantined=_left_out("quarantined", counts, examples, look),
            excluded=_left_out("excluded", counts, examples, look),
            rows=_tried_rows(bench),
            extra=_extra(bench),
            unread=unmapped.unread_columns(tried),
            absent=tuple(name for name in tried.file_columns() if look.filled.get(name, 1) == 0),
            unlisted=dict(look.unlisted.most_common(SHOWN_NAMES)),
            trouble=str(trouble) if trouble else None,
        )


def _placed(file: Path, folder: Path, source: Source, rows: int) -> tuple[Path, bool]:
    """The file, or its first rows, inside a landing folder; and whether it is the whole."""
    if file.stat().st_size <= WHOLE_BYTES:
        copy = folder / file.name
        try:
            os.link(file.resolve(), copy)
        except OSError:
            shutil.copyfile(file, copy)
        return copy, True
    if source.format == "parquet":
        import duckdb

        copy = folder / file.name
        with duckdb.connect(":memory:") as connection:
            scan = f"select * from read_parquet({text_literal(str(file))}) limit {int(rows)}"
            connection.execute(f"copy ({scan}) to {text_literal(str(copy))} (format parquet)")
        return copy, False
    copy = folder / file.name.removesuffix(".gz")
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as lines, copy.open("wb") as start:
        start.writelines(itertools.islice(lines, rows))
    return copy, False


def _judged(bench: Workbench, day: date) -> None:
    """Tables `landed` and `fates` for all rows."""
    manifests = bench.lake.manifests("landed", [received_day(day)])
    bench.read("landed_files", "landed", manifests)
    bench.engine.build("landed", "select * from landed_files")
    first, last = bench.engine.row("select min(event_date), max(event_date) from landed")
    ingest.judge(bench, Window(first or day, (last or day) + DAY))


_PLACE = "l.row_number = f.row_number and l.part = f.part"


def _counts(bench: Workbench) -> dict[tuple[str, str], int]:
    rows = bench.engine.connection.execute(
        "select fate, reason, count(*) from fates group by fate, reason order by count(*) desc, fate, reason"
    ).fetchall()
    return {(str(fate), str(reason)): int(number) for fate, reason, number in rows}


def _event_counts(bench: Workbench) -> dict[str, int]:
    rows = bench.engine.connection.execute(
        f"select l.event_name, count(*) from landed as l anti join fates as f on {_PLACE} "
        "group by l.event_name order by count(*) desc, l.event_name"
    ).fetchall()
    return {str(name): int(number) for name, number in rows}


def _examples(bench: Workbench) -> dict[tuple[str, str], list[tuple[int, int, int | None]]]:
    rows = bench.engine.connection.execute(
        "select fate, reason, row_number, part, byte_offset from fates where fate <> 'retry' "
        "qualify row_number() over (partition by fate, reason order by row_number, part) "
        f"<= {SHOWN_EXAMPLES} order by row_number, part"
    ).fetchall()
    found: dict[tuple[str, str], list[tuple[int, int, int | None]]] = {}
    for fate, reason, row, part, offset in rows:
        found.setdefault((str(fate), str(reason)), []).append((row, part, offset))
    return found


class _Look:
    """What a second reading of the file finds: the values of some rows, filled columns, unlisted names."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, int], dict[str, Any]] = {}
        self.filled: Counter[str] = Counter()
        self.unlisted: Counter[str] = Counter()


def _looked_at(
    bench: Workbench,
    file: LandingFile,
    source: Source,
    examples: Mapping[tuple[str, str], Sequence[tuple[int, int, int | None]]],
) -> _Look:
    look, engine = _Look(), bench.engine
    wanted = sorted({row for places in examples.values() for row, _, _ in places})
    mapped = query_text(mapping.mapped_rows(source, bench.shape()))
    columns = [] if source.identity else list(source.file_columns())
    names = query_text(unmapped.unlisted_names(source)) if source.event_name is not None else None
    for _ in landing.raw_batches(bench, file, source):
        if columns:
            counted = ", ".join(f"count({quote(name)})" for name in columns)
            look.filled.update(dict(zip(columns, engine.row(f"select {counted} from raw"), strict=True)))
        if source.unnest is not None:
            engine.build("raw_items", query_text(mapping.raw_items(source)))
        if names is not None:
            look.unlisted.update(dict(engine.connection.execute(names).fetchall()))
        rows = engine.frame(
            f"select columns(*)::varchar, row_number as place, part as place_part from ({mapped}) "
            "where list_contains($wanted, row_number)",
            {"wanted": wanted},
        )
        for row in rows.iter_rows(named=True):
            look.values[int(row["place"]), int(row["place_part"])] = row
    return look


def _left_out(
    fate: str,
    counts: Mapping[tuple[str, str], int],
    examples: Mapping[tuple[str, str], Sequence[tuple[int, int, int | None]]],
    look: _Look,
) -> tuple[LeftOut, ...]:
    found = []
    for (own, reason), number in counts.items():
        if own != fate:
            continue
        field = reason.partition(":")[2] if fate == "quarantined" else ""
        shown = []
        for row, part, offset in examples.get((own, reason), ()):
            values = look.values.get((row, part), {})
            known = field in values
            shown.append(
                Example(
                    row,
                    offset,
                    field if field in FIELDS or known else None,
                    kind_of(values[field]) if known else None,
                    _wanted(field) if known else None,
                )
            )
        found.append(LeftOut(reason, _meaning(reason), number, tuple(shown)))
    return tuple(found)


def _meaning(reason: str) -> str:
    """What a reason says, in words; empty for one that says it itself."""
    kind, _, name = reason.partition(":")
    if kind == "rule":
        rules = (rule for spec in event_specs() for rule in spec.rules if rule.name == name)
        if (rule := next(rules, None)) is not None:
            return rule.meaning.rstrip(".")
    return _MEANINGS.get(kind, "")


def kind_of(value: str | None) -> str:
    """What kind of value this is, without the value: a number, a time, a text of so many characters."""
    if value is None:
        return "nothing"
    text = value.strip()
    if not text:
        return "empty text"
    if re.fullmatch(r"[+-]?\d+", text):
        return f"a whole number of {len(text.lstrip('+-'))} digits"
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return "a number"
    if text.lower() in ("true", "false"):
        return "true or false"
    if match := _TIME.fullmatch(text):
        return (
            "a day" if match[1] is None else "a time with its zone" if match[4] else "a time without a zone"
        )
    if text[0] in "{[":
        return "JSON"
    return f"a text of {len(value)} characters"


def _wanted(field: str) -> str | None:
    spec = FIELDS.get(field)
    if spec is None:
        return None
    if spec.allowed:
        return f"one of {', '.join(spec.allowed)}"
    if spec.type == "timestamp":
        return "a time"
    kind = {"string": "text", "integer": "a whole number", "float": "a number", "boolean": "true or false"}
    return kind[spec.type] + (f" {spec.range}" if spec.range else "")


def _tried_rows(bench: Workbench) -> tuple[TriedRow, ...]:
    """Ten mapped rows: in turns one of each event and fate, in the order of the file."""
    rows = bench.engine.frame(
        "select l.*, coalesce(f.fate, 'event') as tried_fate, f.reason as tried_reason "
        f"from landed as l left join fates as f on {_PLACE} order by row_number() over ("
        "partition by l.event_name, f.fate, f.reason order by l.row_number, l.part), l.row_number, l.part "
        f"limit {SHOWN_ROWS}"
    ).sort("row_number", "part")
    return tuple(_tried(row) for row in rows.iter_rows(named=True))


_ELSEWHERE = frozenset({"event_name", "client_ts", "learner_id", "schema_version"})


def _tried(row: Mapping[str, Any]) -> TriedRow:
    shown = {}
    for name, spec in FIELDS.items():
        value = row[name]
        # Of a text its length says enough, and its hash nothing.
        if value is None or name in _ELSEWHERE or name.endswith("_hmac"):
            continue
        text = f"{value[:8]}…" if spec.identifier else _spoken(value)
        shown[name] = text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 1] + "…"
    return TriedRow(
        row_number=row["row_number"],
        part=row["part"],
        byte_offset=row["byte_offset"],
        event_name=row["event_name"],
        occurred_at=row["occurred_at"],
        learner=None if row["learner_id"] is None else str(row["learner_id"])[:8],
        fate=row["tried_fate"],
        reason=row["tried_reason"],
        fields=shown,
    )


def _spoken(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds" if value.microsecond else "seconds")
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _extra(bench: Workbench) -> dict[str, int]:
    # One raw row may have become several rows; each of them carries the same `extra`.
    rows = bench.engine.connection.execute(
        "select key, count(*) from (select unnest(json_keys(extra)) as key from (select row_number, "
        "any_value(extra) as extra from landed where json_valid(extra) group by row_number)) "
        "group by key order by count(*) desc, key"
    ).fetchall()
    return {str(key): int(number) for key, number in rows}
