"""What of a data folder belongs into its mirror, under which key, and what the last push knew of it.

Mirrored: the lake, the snapshots and tables below `marts`, and the readouts. Never: `landing` (raw ids and
texts), `state` (links of pseudonyms, the log's file), the catalog (its home is version control), the
warehouse file (it names local paths), anything hidden, linked, or of a kind that the pipeline does not write.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import one_at_a_time, write_once, write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST, Lake, Manifest, parsed_manifest
from exp_pipeline.store.marts import POINTER, RECORD
from exp_pipeline.store.mirror_objects import Version, is_key

LAKE, MARTS, READOUTS = "lake", "marts", "readouts"
# The mark says whose mirror it is and which files are leaving; the list names every file outside the lake.
MARK, LIST, DECISIONS, PROBE = "mirror.json", "files.json", "decisions.jsonl", "probe.json"
FORMAT = 1
_KINDS = frozenset({".parquet", ".json", ".html", ".md", ".csv", ".svg", ".png", ".ics", ".txt"})
_LAKE_KEY = re.compile(r"lake/([a-z][a-z0-9_]*)/([a-z][a-z0-9_]*=[A-Za-z0-9][A-Za-z0-9_-]*)/(.+)")
_LAKE_FILE = re.compile(r"part-[0-9]{4,}-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the last push saw it: size and time of change here, digest, and its version there."""

    bytes: int
    changed_ns: int
    digest: str
    version: Version

    def is_as(self, path: Path) -> bool:
        """Whether the file is, by size and time of change, still the one that was seen."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.bytes, self.changed_ns)


@dataclass(frozen=True, slots=True)
class Record:
    """What the last push to a mirror left there; kept in the home, and only ever a short cut."""

    mirror: str
    at: datetime
    seen: Mapping[str, Seen] = field(default_factory=dict)
    # When the first of the files that are leaving may be removed.
    next_removal: datetime | None = None
    erasures: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """The mirror's own words: whose it is, which files are leaving since when, how many erasures it knows."""

    home: str
    leaving: Mapping[str, str] = field(default_factory=dict)
    erasures: int = 0

    def encoded(self) -> bytes:
        return _json({"format": FORMAT, **asdict(self)})


def parsed_mark(encoded: bytes, place: str) -> Mark:
    """The mark in these bytes. Raises StoreError where it is no mark, or of a newer form."""
    try:
        raw = json.loads(encoded)
        if raw.pop("format") != FORMAT:
            raise StoreError(f"{place}/{MARK} is of another form: it needs another version of exp-pipeline")
        leaving = {str(key): datetime.fromisoformat(at).isoformat() for key, at in raw["leaving"].items()}
        return Mark(str(raw["home"]), leaving, int(raw["erasures"]))
    except (ValueError, KeyError, AttributeError, TypeError) as trouble:
        raise StoreError(f"{place}/{MARK} is damaged; name an empty prefix and push anew") from trouble


def manifest_key(table: str, partition: str) -> str:
    """The key of a partition's manifest."""
    return f"{LAKE}/{table}/{partition}/{MANIFEST}"


def file_key(manifest: Manifest, name: str) -> str:
    """The key of a file that a manifest names."""
    return f"{LAKE}/{manifest.table}/{manifest.partition}/{name}"


def partition_of(key: str) -> tuple[str, str] | None:
    """Table and partition of a manifest's key; None for a key of anything else."""
    found = _LAKE_KEY.fullmatch(key)
    return (found[1], found[2]) if found is not None and found[3] == MANIFEST else None


def is_lake_file(key: str) -> bool:
    """Whether a key is that of a Parquet file of the lake, which only a manifest gives a meaning."""
    found = _LAKE_KEY.fullmatch(key)
    return found is not None and _LAKE_FILE.fullmatch(found[3]) is not None


def is_loose(key: str) -> bool:
    """Whether a key is that of a file below marts or readouts."""
    return key.startswith((f"{MARTS}/", f"{READOUTS}/"))


def path_of(home: Home, key: str) -> Path:
    """Where the object of a key lies in a home. Raises ValueError for a key that is none of a mirror's."""
    lake, loose = _LAKE_KEY.fullmatch(key), is_loose(key)
    if not is_key(key) or not (loose or lake):
        raise ValueError(f"{key!r} is no key of a mirror")
    return home.root / key


def parsed_partition(encoded: bytes, key: str) -> Manifest:
    """The manifest in the bytes of an object of that key. Raises ValueError where they do not fit."""
    try:
        manifest = parsed_manifest(encoded)
    except (TypeError, KeyError) as trouble:
        raise ValueError(str(trouble)) from trouble
    if manifest_key(manifest.table, manifest.partition) != key:
        raise ValueError(f"it speaks of {manifest.table}/{manifest.partition}")
    return manifest


def manifests_of(home: Home) -> dict[str, Path]:
    """The manifests of the lake by key; newest partitions of a table first."""
    lake, found = Lake(home.lake), {}
    tables = sorted(one.name for one in home.lake.iterdir() if one.is_dir()) if home.lake.is_dir() else []
    for table in tables:
        for partition in reversed(lake.partitions(table)):
            key = manifest_key(table, partition)
            if partition_of(key) is not None:
                found[key] = home.root / key
    return found


def loose_files(home: Home) -> dict[str, Path]:
    """The files below marts and readouts by key, in the order in which they are to be written.

    What names other files comes after them: snapshots' records, then pointers and pages that link to others.
    """
    found = {}
    for top in (MARTS, READOUTS):
        for folder, below, files in os.walk(home.root / top):
            below[:] = [name for name in below if not name.startswith(".")]
            for name in files:
                path = Path(folder) / name
                key = path.relative_to(home.root).as_posix()
                if path.suffix not in _KINDS or path.is_symlink() or not is_key(key):
                    continue
                if key != f"{MARTS}/warehouse.json":
                    found[key] = path
    return {key: found[key] for key in sorted(found, key=rank)}


def rank(key: str) -> tuple[int, str]:
    """Where a loose file stands in the order of writing: what names others has a higher number."""
    name = key.rpartition("/")[2]
    late = {RECORD: 1, POINTER: 2}.get(name, 0)
    return (3 if key.startswith(f"{READOUTS}/") and name == "index.html" else late, key)


def identity_of(home: Home) -> str | None:
    """The name that a home's mirror knows it by; None where it has never been pushed or restored."""
    path = _own(home) / "home"
    return path.read_text().strip() if path.is_file() else None


def make_identity(home: Home, name: str | None = None) -> str:
    """Give a home a name of its own, or the one of the mirror that it was restored from; it never changes."""
    write_once(_own(home) / "home", f"{name or secrets.token_hex(8)}\n".encode())
    found = identity_of(home)
    if found is None or (name is not None and found != name):
        raise StoreError(
            f"{_own(home) / 'home'} names another home than the mirror's: restore into an empty one"
        )
    return found


@contextmanager
def in_turn(home: Home) -> Iterator[None]:
    """Let one push or restore of a home at a time go on; a killed one gives its turn back."""
    folder = _own(home)
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder):
        yield


def unfinished_restore(home: Home) -> Path:
    """The file that stands while a restore goes on: it names the mirror that is read."""
    return _own(home) / "restoring"


def read_record(home: Home, mirror: str) -> Record | None:
    """What the last push to a mirror left there; None where nothing is known of it."""
    try:
        raw = json.loads((_own(home) / "pushed.json").read_bytes())
        if raw["mirror"] != mirror:
            return None
        seen = {
            key: Seen(size, changed, digest, Version(e_tag, number))
            for key, (size, changed, digest, e_tag, number) in raw["seen"].items()
        }
        due = raw["next_removal"]
        return Record(
            mirror,
            datetime.fromisoformat(raw["at"]),
            seen,
            datetime.fromisoformat(due) if due else None,
            int(raw["erasures"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Without it the next push looks closer; nothing depends on it.
        return None


def write_record(home: Home, record: Record) -> None:
    """Keep what a push left in the mirror."""
    raw = {
        "mirror": record.mirror,
        "at": record.at.isoformat(),
        "next_removal": record.next_removal.isoformat() if record.next_removal else None,
        "erasures": record.erasures,
        "seen": {
            key: [one.bytes, one.changed_ns, one.digest, one.version.e_tag, one.version.number]
            for key, one in sorted(record.seen.items())
        },
    }
    write_text(_own(home) / "pushed.json", json.dumps(raw) + "\n")


def waiting(home: Home, record: Record | None) -> dict[str, float]:
    """What has changed since the last push: key of each manifest or file -> when it changed (epoch seconds).

    What is gone here counts from the last push on. Reads no content: names, sizes and times only.
    """
    found = {}
    seen = record.seen if record is not None else {}
    here = {**manifests_of(home), **loose_files(home)}
    for key, path in here.items():
        if key not in seen or not seen[key].is_as(path):
            try:
                found[key] = path.stat().st_mtime
            except FileNotFoundError:
                continue
    if record is not None:
        found |= {key: record.at.timestamp() for key in seen.keys() - here.keys()}
    return found


def encoded_list(files: Mapping[str, Seen]) -> bytes:
    """The list of every file outside the lake: key -> size and digest."""
    return _json({key: {"bytes": one.bytes, "digest": one.digest} for key, one in sorted(files.items())})


def parsed_list(encoded: bytes, place: str) -> dict[str, tuple[int, str]]:
    """Key -> size and digest. Raises StoreError where it is damaged or names what is none of a mirror's."""
    try:
        found = {
            str(key): (int(entry["bytes"]), str(entry["digest"]))
            for key, entry in json.loads(encoded).items()
        }
    except (ValueError, KeyError, AttributeError, TypeError) as trouble:
        raise StoreError(f"{place}/{LIST} is damaged; push again from the data folder") from trouble
    strange = sorted(key for key in found if not (is_key(key) and is_loose(key)))
    if strange:
        raise StoreError(f"{place}/{LIST} names {strange[0]!r}, which no mirror holds")
    return found


def encoded_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, sort_keys=True, default=str) + "\n" for row in rows).encode()


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def _own(home: Home) -> Path:
    return home.state / "mirror"
