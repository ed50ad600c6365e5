"""The roster: which learner sat in which class from when to when, as a school's own list says it.

Files lie in `landing/roster/` (CSV with a header line, or NDJSON) and have the fields `student`, `class`,
`start_at`, and where known `teacher`, `school`, `district`, `end_at`. Times without a zone are UTC, a day is
its midnight, an end is not included. Of two rows for one student, class and start that in the later file (by
name) holds. A stay without an end lasts until the student's next one begins.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path

import polars as pl

from exp_pipeline.contracts.table_columns import table_columns
from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.context import Workbench, Written
from exp_pipeline.steps.people.identity import ERASED, LINKS, identity_rows, name_people
from exp_pipeline.store.engine import Rows
from exp_pipeline.store.files import digest_of_file
from exp_pipeline.store.lake import NewFile
from exp_pipeline.store.landing import LandingFile, received_days
from exp_pipeline.transform.identity import identities
from exp_pipeline.transform.queries import query_text

ROSTER, REFUSED, WHOLE = "roster", "roster_quarantine", "scope=all"
_IDS = {
    "student": "learner_id",
    "class": "class_id",
    "teacher": "teacher_id",
    "school": "school_id",
    "district": "district_id",
}
_NEEDED = ("student", "class", "start_at")
COLUMNS = table_columns(ROSTER)
_NEVER = datetime.max


@dataclass(frozen=True, slots=True)
class _Row:
    file: int
    number: int
    values: dict[str, str]
    reason: str | None


def roster_files(bench: Workbench) -> tuple[LandingFile, ...]:
    """The roster's files in the order of their names.

    Raises StoreError for a link that leads out of the landing folder.
    """
    folder, root = bench.home.landing / "roster", bench.home.landing.resolve()
    days = received_days(bench.home.landing)
    received = days[-1] if days else date(1970, 1, 1)
    found = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.is_file():
            continue
        relative = path.relative_to(bench.home.landing).as_posix()
        if not path.resolve().is_relative_to(root):
            raise StoreError(f"roster file {relative} is a link to a place outside the landing folder")
        found.append(LandingFile(path, relative, received, digest_of_file(path)))
    return tuple(found)


def offer_roster(bench: Workbench) -> None:
    """Make the roster's stays readable as table `roster`, empty where there is none."""
    manifests = bench.lake.manifests(ROSTER, [WHOLE])
    bench.engine.offer(ROSTER, Rows(bench.lake.paths(manifests), COLUMNS))


def land_roster(bench: Workbench) -> list[Written]:
    """Read the roster's files into `roster` (one row a stay) and `roster_quarantine` (one refused row).

    Nothing is read where the files, the keys and the erased are those of the last time. Reasons: not_utf8,
    not_json, not_an_object, unknown_format, missing_student, missing_class, missing_start_at,
    wrong_type:start_at, wrong_type:end_at, ends_before_start, overlapping_stay, erased.
    """
    started = time.monotonic()
    files = roster_files(bench)
    before = bench.lake.manifest(ROSTER, WHOLE)
    if not files and before is None:
        return []
    keys = [key.key_id for key in ((bench.key, *bench.newer_keys) if bench.key is not None else ())]
    state: dict[str, object] = {
        "files": [{"name": file.relative, "digest": file.digest} for file in files],
        "keys": keys,
        "links": identity_rows(bench, LINKS).height,
        "erased": identity_rows(bench, ERASED).height,
    }
    if before is not None and {name: before.facts.get(name) for name in state} == state:
        return []
    rows = [row for number, file in enumerate(files) for row in _rows(number, file.path)]
    typed = [_typed(row) for row in rows]
    _pseudonymous(bench, files, typed)
    stays, refused, superseded = _settled(bench.engine.frame("select * from roster_rows"), files)
    state["links"] = identity_rows(bench, LINKS).height
    state["erased"] = identity_rows(bench, ERASED).height
    counts = {"rows": len(rows), "kept": stays.height, "superseded": superseded, "refused": refused.height}
    written = [
        _write(bench, ROSTER, stays, started, {**state, **counts}),
        _write(bench, REFUSED, refused, started, {}),
    ]
    for name in ("roster_rows", "typed", "identities"):
        bench.engine.drop(name)
    return written


def _write(
    bench: Workbench, table: str, rows: pl.DataFrame, started: float, facts: dict[str, object]
) -> Written:
    path = bench.lake.staging(table, WHOLE)
    rows.write_parquet(path, compression="zstd")
    return bench.commit(table, WHOLE, [NewFile(path, "all", rows.height)], started, facts=facts)


def _rows(file: int, path: Path) -> Iterator[_Row]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            for number, row in enumerate(csv.DictReader(handle), start=1):
                values = {name: value for name, value in row.items() if name and isinstance(value, str)}
                yield _checked(file, number, values)
    elif path.suffix in (".ndjson", ".jsonl"):
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield _parsed(file, number, line)
    else:
        yield _Row(file, 1, {}, "unknown_format")


def _parsed(file: int, number: int, line: str) -> _Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return _Row(file, number, {}, "not_json")
    if not isinstance(found, dict):
        return _Row(file, number, {}, "not_an_object")
    plain = {name: str(value) for name, value in found.items() if isinstance(value, (str, int))}
    return _checked(file, number, plain)


def _checked(file: int, number: int, values: dict[str, str]) -> _Row:
    known = {name: values[name].strip() for name in (*_IDS, "start_at", "end_at") if values.get(name)}
    if any("\ud800" <= char <= "\udfff" for text in known.values() for char in text):
        return _Row(file, number, {}, "not_utf8")
    missing = next((name for name in _NEEDED if not known.get(name)), None)
    return _Row(file, number, known, f"missing_{missing}" if missing else None)


def _typed(row: _Row) -> dict[str, object]:
    times: dict[str, datetime | None] = {"start_at": None, "end_at": None}
    reason = row.reason
    for name in times if reason is None else ():
        text = row.values.get(name)
        if text:
            try:
                times[name] = _moment(text)
            except (ValueError, OverflowError):
                reason = f"wrong_type:{name}"
    start, end = times["start_at"], times["end_at"]
    if reason is None and start is not None and end is not None and end <= start:
        reason = "ends_before_start"
    return {
        "part": 1,
        "row_number": row.number,
        "byte_offset": row.file,
        "reason": reason,
        **{column: row.values.get(name) for name, column in _IDS.items()},
        **times,
    }


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo is not None else found


def _pseudonymous(
    bench: Workbench, files: tuple[LandingFile, ...], rows: Iterable[dict[str, object]]
) -> None:
    """Table `roster_rows`: the rows with every id replaced as the door does it."""
    schema: dict[str, pl.DataType] = {
        "part": pl.Int64(),
        "row_number": pl.Int64(),
        "byte_offset": pl.Int64(),
        "reason": pl.String(),
        **{name: pl.String() for name in _IDS.values()},
        "start_at": pl.Datetime("us"),
        "end_at": pl.Datetime("us"),
    }
    engine = bench.engine
    engine.offer_frame("typed", pl.DataFrame(list(rows), schema=schema))
    if files:
        name_people(bench, files, query_text(identities(tuple(_IDS.values()))))
    else:
        engine.build("identities", "select '' as raw_id, '' as pseudonym, 0::ubigint as id_key where false")
    named = ", ".join(f"id_{name}.pseudonym as {name}" for name in _IDS.values())
    joins = " ".join(
        f"left join identities as id_{name} on t.{name} = id_{name}.raw_id" for name in _IDS.values()
    )
    engine.build(
        "roster_rows",
        f"select t.byte_offset as place, t.row_number, t.reason, {named}, "
        f"id_learner_id.id_key as learner_key, t.start_at, t.end_at from typed as t {joins} "
        "order by place, row_number",
    )


def _settled(rows: pl.DataFrame, files: tuple[LandingFile, ...]) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Stays that do not overlap, refused rows with their reason, and how many rows a later file replaced."""
    refused = [(row["place"], row["row_number"], row["reason"]) for row in rows.to_dicts() if row["reason"]]
    sound = rows.filter(pl.col("reason").is_null())
    newest = sound.unique(["learner_id", "class_id", "start_at"], keep="last", maintain_order=True)
    kept = []
    ordered = newest.sort("learner_key", "learner_id", "start_at", "place", "row_number").to_dicts()
    for _, mine in groupby(ordered, key=lambda row: row["learner_id"]):
        busy: dict[str, object] | None = None
        for row in mine:
            if busy is not None and busy["end_at"] is None and row["start_at"] > busy["start_at"]:
                busy["end_at"] = row["start_at"]
            if busy is not None and (busy["end_at"] or _NEVER) > row["start_at"]:
                refused.append((row["place"], row["row_number"], "overlapping_stay"))
                continue
            busy = row
            kept.append(row)
    names = [file.short_name for file in files]
    schema = {
        name: {"TIMESTAMP": pl.Datetime("us"), "UBIGINT": pl.UInt64(), "BIGINT": pl.Int64()}.get(
            kind, pl.String()
        )
        for name, kind in COLUMNS.items()
    }
    records = [{**{name: row.get(name) for name in COLUMNS}, "file": names[row["place"]]} for row in kept]
    refusals = pl.DataFrame(
        [(names[place], number, reason) for place, number, reason in sorted(refused)],
        schema={"file": pl.String, "row_number": pl.Int64, "reason": pl.String},
        orient="row",
    )
    return pl.DataFrame(records, schema=schema), refusals, sound.height - newest.height
