"""The debug envelope: a small redacted sample of raw texts beside the lake, that deletes itself.

Off unless the policy `debug_envelope` keeps a share and EXP_DEBUG_ENVELOPE names a folder outside the data
folder. No other step reads it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from sqlglot import exp

from exp_pipeline.contracts.fields import identifiers
from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import DAY, Workbench
from exp_pipeline.store.envelope import (
    EnvelopeFile,
    EnvelopeWriter,
    checked_folder,
    entries_in,
    envelope_files,
    without_people,
    writing,
)
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline.transform.door import duck
from exp_pipeline.transform.identity import hmac_of
from exp_pipeline.transform.queries import query_text
from exp_pipeline.transform.redaction import redacted
from exp_pipeline.transform.reduction import RECORD_IDS, guarded

FOLDER, ENTRIES = "EXP_DEBUG_ENVELOPE", "debug_envelope"
_PLACE, READ, EXPIRED = "debug_envelope_folder", "debug_envelope_read", "debug_envelope_expired"


@dataclass(frozen=True, slots=True)
class EnvelopeDay:
    """What is kept of one received day: the first day it is gone, entries (one text each), turns, bytes."""

    received: str
    expires_on: str
    entries: int
    turns: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Expiry:
    """What one expiry deleted: files, and the received days they held; folders that were not there."""

    files: int
    received_days: tuple[str, ...]
    missing_folders: tuple[str, ...]


def utc_today() -> date:
    """The UTC day it is now."""
    return datetime.now(UTC).date()


def _log(bench: Workbench) -> StateLog:
    return state_log(bench.home)


class Samples:
    """Takes the sampled texts of a received day out of the door, and puts them by when it has landed.

    Does nothing where the policy is off, or where the day's texts would have expired already: landing an old
    day again brings nothing back. Raises ExpError where the policy is on and no folder is named.
    """

    def __init__(self, bench: Workbench, received: date) -> None:
        policy = bench.catalog.policies.debug_envelope
        self._bench, self._policy, self._received = bench, policy, received
        self._expires_on = received + timedelta(days=policy.days)
        self._stack = ExitStack()
        self._writer: EnvelopeWriter | None = None
        if not policy.is_on:
            return
        if bench.envelope is None:
            raise ExpError(
                f"the policy debug_envelope keeps {policy.share:.2%} of raw texts, but {FOLDER} is not set: "
                "name a folder outside the data folder, or set its share to 0"
            )
        self._folder = checked_folder(bench.envelope, bench.home)
        if self._expires_on > utc_today():
            self._writer = self._stack.enter_context(writing(self._folder, received, self._expires_on))

    def take(self, source: str) -> None:
        """Add the sampled texts of table `typed` (with table `identities` beside it), redacted."""
        bench = self._bench
        if self._writer is None or bench.key is None:
            return
        described = bench.engine.connection.execute("describe typed").fetchall()
        text = _sampled(tuple(str(row[0]) for row in described), self._policy.fields)
        if not text:
            return
        threshold = min(round(self._policy.share * 2**64), 2**64 - 1)
        rows = bench.engine.frame(text, {**bench.key.pads(), "threshold": threshold})
        if rows.is_empty():
            return
        # Written down before the first text is: whoever erases or expires must know every folder.
        _log(bench).append(
            _PLACE,
            str(self._folder),
            key=f"{self._folder}:{self._expires_on}",
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            content={"expires_on": self._expires_on.isoformat()},
        )
        self._writer.write(self._entries(rows, source))

    def _entries(self, rows: pl.DataFrame, source: str) -> Iterator[dict[str, Any]]:
        for row in rows.iter_rows(named=True):
            for name in self._policy.fields:
                if row.get(name):
                    yield {
                        "event_id": row["known_event_id"],
                        "event_name": row["known_event_name"],
                        "turn_id": row["known_turn_id"],
                        "learner_id": row["pseudonym"],
                        "source": source,
                        "field": name,
                        "text": redacted(row[name], [one for one in row["raw_ids"] if one]),
                        "received_date": self._received.isoformat(),
                        "expires_on": self._expires_on.isoformat(),
                    }

    def commit(self) -> None:
        """Replace what was kept of the day by what was taken, and delete what is past its day."""
        if self._writer is not None:
            self._writer.commit()
        if self._policy.is_on:
            expire_debug_envelopes(self._bench, utc_today())

    def close(self) -> None:
        """Forget what was not put by."""
        self._stack.close()


@cache
def _sampled(columns: tuple[str, ...], fields: tuple[str, ...]) -> str:
    """One row per sampled row of table `typed` that holds one of the texts; empty where none can.

    Both sides of a turn have one turn id, so both are in or both are out. A row that could not be used, or
    that names no learner, is never kept: nobody could erase it. Parameters: inner_pad, outer_pad, threshold.
    """
    texts = [name for name in fields if name in columns]
    if not texts or not {"event_id", "learner_id", "event_name"} <= {*columns}:
        return ""

    def own(name: str) -> exp.Expr:
        return exp.column(name, table="t", quoted=True) if name in columns else exp.null()

    def present(names: Sequence[str]) -> exp.Expr:
        return exp.or_(*(exp.not_(own(name).is_(exp.null())) for name in names))

    known = {
        f"known_{name}": guarded(name, own(name), own("learner_id"))
        for name in ("event_id", "event_name", "turn_id")
        if name in columns
    }
    if "turn_id" not in columns:
        known["known_turn_id"] = exp.cast(exp.null(), "varchar")
    drawn_by = exp.func("coalesce", own("turn_id"), own("event_id"))
    salted = exp.DPipe(this=exp.Literal.string("debug envelope:"), expression=drawn_by)
    below = duck("cast('0x' || left(digest, 16) as ubigint) < cast($threshold as ubigint)")
    drawn = below.transform(lambda node: hmac_of(salted) if isinstance(node, exp.Column) else node)
    ids = [own(name) for name in (*identifiers(), *RECORD_IDS) if name in columns]
    query = (
        exp.select(*(value.as_(name) for name, value in known.items()))
        .select(exp.column("pseudonym", table="i"), exp.array(*ids, dialect="duckdb").as_("raw_ids"))
        .select(*(own(name) for name in texts))
        .from_(exp.to_table("typed").as_("t"))
        .join(
            exp.to_table("identities").as_("i"),
            on=exp.EQ(this=own("learner_id"), expression=exp.column("raw_id", table="i")),
        )
        .where(own("reason").is_(exp.null()), exp.not_(own("event_id").is_(exp.null())))
        # Asked only of rows that hold a text: hashing the others would be the whole cost.
        .where(exp.Case().when(present(texts), drawn).else_(exp.false()))
        .order_by("t.byte_offset", "t.row_number", "t.part")
    )
    return query_text(query)


def _folders(bench: Workbench) -> dict[Path, date]:
    """Every folder that ever held entries, and the one named now, with the last day any entry may live to."""
    found: dict[Path, date] = {}
    for entry in _log(bench).entries(_PLACE):
        until = date.fromisoformat(str(entry.content["expires_on"]))
        folder = Path(entry.subject)
        found[folder] = max(found.get(folder, until), until)
    if bench.envelope is not None:
        found.setdefault(bench.envelope.expanduser().resolve(), date.min)
    return found


def _is_past(bench: Workbench, file: EnvelopeFile, today: date) -> bool:
    policy = bench.catalog.policies.debug_envelope
    return not policy.is_on or today >= min(file.expires_on, file.received + DAY * policy.days)


def expire_debug_envelopes(bench: Workbench, today: date) -> Expiry:
    """Delete what is past its day, by its own day or by the policy now; everything where the policy is off.

    Looks into every folder that ever held entries, whatever the environment names today. Killed at any point
    it goes on when it is called again; called again it deletes nothing.
    """
    deleted: list[EnvelopeFile] = []
    folders = _folders(bench)
    for folder in folders:
        for file in envelope_files(folder):
            if _is_past(bench, file, today):
                file.path.unlink(missing_ok=True)
                deleted.append(file)
    days = tuple(sorted({file.received.isoformat() for file in deleted}))
    if deleted:
        _log(bench).append(
            EXPIRED,
            today.isoformat(),
            key=secrets.token_hex(16),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            content={"files": len(deleted), "received_days": list(days)},
        )
    missing = sorted(str(one) for one, until in folders.items() if until > today and not one.is_dir())
    return Expiry(len(deleted), days, tuple(missing))


def _live(bench: Workbench, today: date) -> list[EnvelopeFile]:
    return [
        file
        for folder in _folders(bench)
        for file in envelope_files(folder)
        if not file.unfinished and not _is_past(bench, file, today)
    ]


def envelope_days(bench: Workbench, today: date) -> list[EnvelopeDay]:
    """What is kept today, by received day; no text is shown."""
    days = []
    for file in _live(bench, today):
        entries = list(entries_in(file))
        turns = {entry["turn_id"] or entry["event_id"] for entry in entries}
        days.append(
            EnvelopeDay(
                received=file.received.isoformat(),
                expires_on=file.expires_on.isoformat(),
                entries=len(entries),
                turns=len(turns),
                bytes=file.path.stat().st_size,
            )
        )
    return days


def read_debug_envelope(
    bench: Workbench,
    who: str,
    *,
    at: datetime,
    received: date | None = None,
    turn: str | None = None,
    limit: int = 20,
) -> list[Mapping[str, Any]]:
    """The entries of a received day or a turn (all, where neither is given), at most `limit` of them.

    Who read how many, and when, stands in the append-only log before anything is returned. Raises ValueError
    for a limit below 1 or an empty name.
    """
    if limit < 1 or not who.strip():
        raise ValueError("reading the debug envelope needs a limit of 1 or more, and the name of who reads")
    found: list[Mapping[str, Any]] = []
    for file in _live(bench, at.astimezone(UTC).date()):
        if received is None or file.received == received:
            entries = (one for one in entries_in(file) if turn is None or one["turn_id"] == turn)
            found += sorted(entries, key=lambda one: (one["turn_id"] or "", one["event_id"], one["field"]))
    shown = found[:limit]
    _log(bench).append(
        READ,
        who,
        key=secrets.token_hex(16),
        at=at.astimezone(UTC).isoformat(timespec="seconds"),
        content={
            "entries": len(shown),
            "received_days": sorted({str(one["received_date"]) for one in shown}),
            "one_turn": turn is not None,
        },
    )
    return shown


def entries_of(bench: Workbench, people: Sequence[str], today: date) -> int:
    """How many entries are kept of people (pseudonyms).

    Raises ExpError where a folder that may still hold entries is not there to be looked into.
    """
    for folder, until in _folders(bench).items():
        if until > today and not folder.is_dir():
            raise ExpError(
                f"{folder} may hold debug entries until {until} and is not there: mount it; if it was "
                "deleted for good, make an empty folder of that name"
            )
    named = frozenset(people)
    files = [file for folder in _folders(bench) for file in envelope_files(folder) if not file.unfinished]
    return sum(entry.get("learner_id") in named for file in files for entry in entries_in(file))


def remove_entries(bench: Workbench, people: Sequence[str]) -> int:
    """Take the entries of people (pseudonyms) out of every file, unfinished files with them."""
    named = frozenset(people)
    return sum(without_people(file, named) for folder in _folders(bench) for file in envelope_files(folder))
