"""Flags: what products read, derived from the ramp's log and never ahead of it.

A version is first an entry of the log, with its whole documents, and then files. Any process may write the
files of the newest version; an older version never takes the place of a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from exp_pipeline.analysis.ramps.flagd import SCHEMA, flagd_flag
from exp_pipeline.analysis.ramps.flags import flag_of
from exp_pipeline.analysis.ramps.growthbook import growthbook_feature
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.errors import StoreError
from exp_pipeline.model.flags import Publication
from exp_pipeline.model.ramps import RampEntry, RampState, folded
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating.ramp_facts import as_locked
from exp_pipeline.steps.operating.ramp_log import all_entries
from exp_pipeline.store.files import one_at_a_time, write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.state import StateLog, state_log
from exp_pipeline.transform.hashing import flag_key

PUBLISHED, SUBJECT = "flags", "flags"
FLAGD_FILE, GROWTHBOOK_FILE = "flags.flagd.json", "flags.growthbook.json"
_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Published:
    """What is published: the newest version of the log, and whether this call made it or wrote its files."""

    publication: Publication | None
    made: bool
    written: bool


def publish(bench: Workbench, now: datetime) -> Published:
    """Let the flags follow the ramp's log: a new version where they say something new, then its files.

    Harmless to repeat and to do by many processes at once; killed anywhere, the next call finishes. Until a
    ramp has begun there is nothing to publish.
    """
    log = state_log(bench.home)
    made = False
    for _ in range(_ROUNDS):
        # In this order: whoever reads a version reads a log that is at least as new as what made it.
        last = newest(log)
        entries = all_entries(log)
        if last is None and not entries:
            return Published(None, False, False)
        following = _following(bench, last, [entry for _, entry in entries], now)
        if following is None:
            break
        key = str(following.version)
        content = following.model_dump(mode="json")
        if log.append(PUBLISHED, SUBJECT, key=key, at=now.astimezone(UTC).isoformat(), content=content):
            made = True
            break
    else:
        raise StoreError("the flags change without end; run the ramp's tick again")
    written = write_files(bench.home, log)
    return Published(newest(log), made, written)


def newest(log: StateLog) -> Publication | None:
    """The newest version that the log holds; None before the first."""
    entry = log.newest(PUBLISHED, SUBJECT)
    return None if entry is None else Publication.model_validate(dict(entry.content))


def versions(log: StateLog) -> tuple[Publication, ...]:
    """Every version, oldest first."""
    return tuple(Publication.model_validate(dict(entry.content)) for entry in log.entries(PUBLISHED, SUBJECT))


def write_files(home: Home, log: StateLog) -> bool:
    """Bring the files of the newest version into their places; True where a file changed.

    One process at a time looks and writes, so that a slow one cannot put an old version over a new one.
    """
    home.flags.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(home.flags):
        wanted = newest(log)
        if wanted is None:
            return False
        changed = False
        for name, document in ((FLAGD_FILE, wanted.flagd), (GROWTHBOOK_FILE, wanted.growthbook)):
            path = home.flags / name
            text = text_of(document)
            if not path.is_file() or path.read_bytes() != text.encode():
                write_text(path, text)
                changed = True
        return changed


def unpublished(log: StateLog) -> tuple[str, ...]:
    """Flags whose ramp has gone on since the newest version: a process was killed before it published."""
    told = _sequences(newest(log))
    reached = {_name(entry): entry.sequence for _, entry in all_entries(log)}
    return tuple(key for key, sequence in sorted(reached.items()) if sequence > told.get(key, 0))


def text_of(document: Mapping[str, JsonValue]) -> str:
    """A document as its file holds it."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def file_version(home: Home) -> int | None:
    """Which version the flagd file holds; None where there is none. Raises StoreError where it is damaged."""
    path = home.flags / FLAGD_FILE
    try:
        found = json.loads(path.read_bytes())
        return int(found["metadata"]["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged; the next tick of the ramp writes it again") from error


def _following(
    bench: Workbench, last: Publication | None, entries: list[RampEntry], now: datetime
) -> Publication | None:
    """The version that follows the last one; None where they say the same."""
    flagd, growthbook = _flags(bench, last, entries)
    said = digest_of([flagd, growthbook])
    if last is not None and last.content_digest == said:
        return None
    version = 1 if last is None else last.version + 1
    at = now.astimezone(UTC)
    before = _sequences(last)
    changes = [
        entry.model_dump(mode="json", exclude={"newest_day"})
        for entry in entries
        if entry.sequence > before.get(_name(entry), 0)
    ]
    stamp: dict[str, JsonValue] = {"version": version, "published_at": at.isoformat()}
    return Publication(
        version=version,
        published_at=at,
        content_digest=said,
        changes=tuple(changes),
        flagd={"$schema": SCHEMA, "metadata": stamp, "flags": flagd},
        growthbook={"status": 200, "dateUpdated": at.isoformat(), "version": version, "features": growthbook},
    )


def _flags(
    bench: Workbench, last: Publication | None, entries: list[RampEntry]
) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    """The flag of each version of each experiment; none ever goes away.

    That of an experiment whose brief or log cannot be used at the moment stays as it was published: a slip of
    the pen in a catalog must not change what learners see.
    """
    logs: dict[tuple[str, int], list[RampEntry]] = {}
    for entry in entries:
        logs.setdefault((entry.experiment, entry.version), []).append(entry)
    flagd: dict[str, JsonValue] = {}
    growthbook: dict[str, JsonValue] = {}
    for (name, version), own in sorted(logs.items()):
        brief, state = _usable(bench, name, version), _folded(own)
        if brief is not None and state is not None:
            spec = flag_of(brief, bench.catalog.limits_of(brief), state)
            flagd[spec.key], growthbook[spec.key] = flagd_flag(spec), growthbook_feature(spec)
            continue
        key = flag_key(name, version)
        before = _published(last, "flagd", key), _published(last, "growthbook", key)
        if None not in before:
            flagd[key], growthbook[key] = before
    return flagd, growthbook


def _folded(own: list[RampEntry]) -> RampState | None:
    try:
        return folded(own)
    except ValueError:
        # The tick says which entry is missing; here nothing is known, so nothing is changed.
        return None


def _usable(bench: Workbench, name: str, version: int) -> Brief | None:
    brief = bench.catalog.briefs.get(name)
    if brief is None:
        return None
    if brief.version != version:
        brief = brief.model_copy(update={"version": version})
    locked = as_locked(bench, brief)
    if locked is None or locked.hash_scheme == "none" or locked.assignment == "table":
        return None
    return locked


def _published(last: Publication | None, document: str, key: str) -> JsonValue:
    if last is None:
        return None
    held = last.flagd.get("flags") if document == "flagd" else last.growthbook.get("features")
    return held.get(key) if isinstance(held, dict) else None


def _sequences(last: Publication | None) -> dict[str, int]:
    """Up to which transition of each flag the last version went."""
    found: dict[str, int] = {}
    flags = None if last is None else last.flagd.get("flags")
    for key, flag in (flags if isinstance(flags, dict) else {}).items():
        metadata = flag.get("metadata") if isinstance(flag, dict) else None
        sequence = metadata.get("sequence") if isinstance(metadata, dict) else None
        if isinstance(sequence, int):
            found[key] = sequence
    return found


def _name(entry: RampEntry) -> str:
    return flag_key(entry.experiment, entry.version)
