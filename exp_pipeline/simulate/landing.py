"""A simulated world as files in a landing folder, by the day on which the server received each row."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Literal

import polars as pl

from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.population import MALFORMED, stream
from exp_pipeline.simulate.rows import TOO_LATE_DAYS, faults_of_day

Format = Literal["ndjson", "parquet"]
FILE_NAMES: dict[Format, str] = {"ndjson": "events-0000.ndjson.gz", "parquet": "events-0000.parquet"}
# Rows of a plain session may arrive after midnight; late rows up to this many days later.
_LAST_ARRIVAL_DAYS = TOO_LATE_DAYS + 1
BREAKS = ("unknown_event", "missing_learner", "negative_latency", "score_above_maximum")


@dataclass(frozen=True, slots=True)
class LandedFile:
    """One file as written: its path, the day received, its rows or lines, and its size."""

    path: Path
    received_date: date
    rows: int
    bytes: int


def ndjson_lines(frame: pl.DataFrame) -> list[bytes]:
    """How would a product send these events? One JSON line each, in order, without its empty fields."""
    lines: list[bytes] = [b""] * frame.height
    stamped = frame.with_columns(
        pl.col("client_ts", "received_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        pl.int_range(pl.len()).alias("_row"),
    )
    for (_,), part in stamped.group_by("event_name", maintain_order=True):
        filled = [column for column in part.columns if part[column].null_count() < part.height]
        places = part["_row"].to_list()
        text = part.select(c for c in filled if c != "_row").write_ndjson().encode()
        for place, line in zip(places, text.splitlines(), strict=True):
            lines[place] = line
    return lines


def _broken_contract(line: bytes, how: int) -> bytes:
    """A line of good JSON that breaks the contract of its event in one of four ways."""
    event = json.loads(line)
    event["event_id"] = f"broken-{event['event_id']}"
    match BREAKS[how % len(BREAKS)]:
        case "unknown_event":
            event["event_name"] = "tutor_dreamed"
        case "missing_learner":
            del event["learner_id"]
        case "negative_latency":
            event["latency_ms"] = -5.0
        case _:
            event |= {"event_name": "assessment_completed", "score": 11.0, "max_score": 10.0}
    return json.dumps(event, separators=(",", ":")).encode()


def malformed_lines(plan: SimulationPlan, index: int, lines: list[bytes]) -> list[bytes]:
    """Which broken lines, made from copies of good ones, does the day at this position add to its file?"""
    random = stream(plan, MALFORMED, index)
    counts = faults_of_day(plan, index)

    # Copies of students' lines only, so that none could count as excluded traffic instead.
    students = [line for line in lines if b'"role":"student"' in line]

    def sample(count: int) -> Iterator[bytes]:
        return (students[place] for place in random.integers(0, len(students), count).tolist())

    bad = [b"upstream error, batch " + line[13:21] + b" dropped" for line in sample(counts["not_json"])]
    bad += [line.replace(b'"platform":"', b'"platform":"\xff\xfe', 1) for line in sample(counts["not_utf8"])]
    bad += [line[: len(line) // 2] for line in sample(counts["truncated"])]
    offset = int(random.integers(0, len(BREAKS)))
    bad += [_broken_contract(line, offset + n) for n, line in enumerate(sample(counts["contract_break"]))]
    return bad


def received_frames(plan: SimulationPlan) -> Iterator[tuple[date, pl.DataFrame]]:
    """What arrives on each received day, in order of days, rows in order of receipt?

    Holds back only what is still on its way, so that memory stays at a few days of events.
    """
    waiting: dict[date, list[bytes]] = {}
    for index in range(plan.days + _LAST_ARRIVAL_DAYS):
        due = [pl.read_ipc(BytesIO(part)) for part in waiting.pop(plan.day(index), [])]
        if index < plan.days:
            frame = simulate_day(plan, plan.day(index))
            received = frame["received_at"].dt.date()
            # Rows come in order of receipt, so what arrives today is a prefix.
            today = int(received.search_sorted(plan.day(index), side="right"))
            due.append(frame.head(today))
            for day in received.slice(today).unique().sort().to_list():
                # Serialised, because a slice would keep the whole day's memory until it arrives.
                sink = BytesIO()
                frame.slice(today).filter(received.slice(today) == day).write_ipc(sink)
                waiting.setdefault(day, []).append(sink.getvalue())
            del frame
        if due:
            whole = pl.concat(due).sort("received_at", "client_ts", "event_id", maintain_order=True)
            due.clear()
            yield plan.day(index), whole
            del whole


def write_landing(plan: SimulationPlan, root: Path, *, format: Format = "ndjson") -> tuple[LandedFile, ...]:
    """Which files does this world leave in a landing folder?

    Writes `root/received_date=YYYY-MM-DD/events-0000.*`, the same bytes every time: NDJSON in gzip without a
    time stamp, malformed lines included, or typed Parquet, which cannot hold malformed lines. Raises
    ValueError where a target file already exists: landing files are immutable.
    """
    if format not in FILE_NAMES:
        raise ValueError(f"format must be one of {', '.join(FILE_NAMES)}, got {format!r}")
    written = []
    for received, frame in received_frames(plan):
        path = root / f"received_date={received}" / FILE_NAMES[format]
        if path.exists():
            raise ValueError(f"root: {path} exists, and a landing file is never overwritten")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = frame.height
        if format == "parquet":
            frame.write_parquet(path, compression="zstd", statistics=True)
        else:
            lines = landing_lines(plan, received, frame)
            rows = len(lines)
            path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", compresslevel=9, mtime=0))
        written.append(LandedFile(path, received, rows, path.stat().st_size))
        # One day's frame is a few hundred megabytes at benchmark size; do not hold it while the next is made.
        del frame
    return tuple(written)


def landing_lines(plan: SimulationPlan, received: date, frame: pl.DataFrame) -> list[bytes]:
    """Which lines, malformed ones among them, does the file of one received day hold?"""
    lines = ndjson_lines(frame)
    index = plan.index(received)
    if not 0 <= index < plan.days:
        return lines
    for bad in malformed_lines(plan, index, list(lines)):
        place = int.from_bytes(hashlib.sha256(bad).digest()[:4], "big") % (len(lines) + 1)
        lines.insert(place, bad)
    return lines
