"""Reading a mirror back: is it whole to the digest, which files make a table, and a new home out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.operating.mirror import Progress, apart, at_once
from exp_pipeline.store import mirror as layout
from exp_pipeline.store.files import digest_of_file, fsync_folder, replace_file, temporary_beside, write_text
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import MANIFEST, Manifest
from exp_pipeline.store.mirror_objects import Objects, Stored

# A manifest that is replaced while its files are read is read again so often.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Verified:
    """What a mirror holds, read to the last byte; and keys that are missing, damaged, or other than here.

    other: partitions and files whose content in the home is another one, or that stand in one of both only;
    a push makes them equal.
    """

    mirror: str
    partitions: int
    files: int
    bytes: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every file that is named is there and is what it is said to be."""
        return not (self.missing or self.damaged)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote: partitions of the lake, files, bytes; `kept` were there from an earlier try."""

    mirror: str
    partitions: int
    files: int
    bytes: int
    kept: int


def verify(
    objects: Objects, home: Home, *, repair: bool = False, progress: Progress = lambda text: None
) -> Verified:
    """Read every object that the mirror names, and compare its digest and the home's manifests.

    repair: what is damaged is removed there, so that the next push brings it again. Raises StoreError where
    there is no mirror or it cannot be reached.
    """
    there = _mirror(objects)
    missing: list[str] = []
    damaged: list[str] = []
    other: list[str] = []
    wanted: dict[str, tuple[int, str]] = {}
    here = layout.manifests_of(home)
    heads = [key for key in there if layout.partition_of(key) is not None]
    for key, encoded, manifest in at_once(lambda key: (key, *_head(objects, key)), heads):
        if manifest is None:
            damaged.append(key)
            continue
        wanted |= {layout.file_key(manifest, one.name): (one.bytes, one.digest) for one in manifest.files}
        if key not in here or _bytes_of(here[key]) != encoded:
            other.append(key)
    other += [key for key in here if key not in there]
    loose = _loose(objects, there)
    wanted |= loose
    files = layout.loose_files(home)
    other += sorted(files.keys() ^ loose.keys())
    other += [key for key in sorted(files.keys() & loose.keys()) if _digest(files[key]) != loose[key][1]]

    def judged(key: str) -> tuple[str, str]:
        size, digest = wanted[key]
        if key not in there:
            return key, "missing"
        right = there[key].bytes == size and objects.download(key, size, None) == digest
        return key, "" if right else "damaged"

    for key, verdict in at_once(judged, wanted):
        if verdict:
            (missing if verdict == "missing" else damaged).append(key)
        progress(key)
    if repair:
        objects.delete(damaged)
    return Verified(
        mirror=objects.name,
        partitions=len(heads),
        files=len(wanted),
        bytes=sum(size for size, _ in wanted.values()),
        missing=tuple(sorted(missing)),
        damaged=tuple(sorted(damaged)),
        other=tuple(sorted(other)),
    )


def files_of(objects: Objects, table: str, wanted: Callable[[str], bool]) -> list[str]:
    """Addresses of the files that make a table now, in the order of partitions; only partitions wanted.

    Raises StoreError where the mirror has no such table, or a manifest of it is damaged.
    """
    heads = []
    for key in _mirror(objects):
        found = layout.partition_of(key)
        if found is not None and found[0] == table:
            heads.append((key, found[1]))
    if not heads:
        raise StoreError(f"{objects.name} has no table {table!r}")
    addresses: list[str] = []
    chosen = [key for key, partition in heads if wanted(partition)]
    for key, _, manifest in at_once(lambda key: (key, *_head(objects, key)), chosen):
        if manifest is None:
            raise StoreError(f"{objects.name}/{key} is damaged: `exp mirror verify --repair`, then push")
        addresses += [f"{objects.name}/{layout.file_key(manifest, one.name)}" for one in manifest.files]
    return addresses


def restore(objects: Objects, home: Home, *, progress: Progress = lambda text: None) -> Restored:
    """Make lake, snapshots and readouts of an empty home again, each file checked by its digest.

    Killed at any point, the next call goes on. The home gets no part in the mirror: to push there from now
    on, it takes the mirror over (`push(adopt=True)`). Raises StoreError where the home is not empty, the
    mirror is damaged, or it cannot be reached.
    """
    apart(home, objects)
    with layout.in_turn(home):
        begun = layout.unfinished_restore(home)
        if not begun.is_file():
            _check_empty(home)
            write_text(begun, objects.name + "\n")
        elif begun.read_text().strip() != objects.name:
            raise StoreError(
                f"{home.root} is half restored from {begun.read_text().strip()}: go on from there"
            )
        there = _mirror(objects)
        heads = [key for key in there if layout.partition_of(key) is not None]
        count, size, kept = 0, 0, 0
        for key, sizes in at_once(lambda key: (key, _partition(objects, home, key)), heads):
            count, size, kept = count + len(sizes), size + sum(sizes), kept + sizes.count(0)
            progress(key.removesuffix(f"/{MANIFEST}"))
        loose = _loose(objects, there)
        for rank in range(4):
            keys = [key for key in loose if layout.rank(key)[0] == rank]
            for key, written in at_once(lambda key: (key, _file(objects, home, key, *loose[key])), keys):
                count, size, kept = count + 1, size + written, kept + (written == 0)
                progress(key)
        begun.unlink()
        fsync_folder(begun.parent)
    return Restored(objects.name, len(heads), count, size, kept)


def _mirror(objects: Objects) -> dict[str, Stored]:
    found = objects.read(layout.MARK)
    if found is None:
        raise StoreError(f"{objects.name} is no mirror: it has no {layout.MARK}; `exp mirror push` makes one")
    layout.parsed_mark(found[0], objects.name)
    return objects.listed()


def _head(objects: Objects, key: str) -> tuple[bytes, Manifest | None]:
    found = objects.read(key)
    if found is None:
        return b"", None
    try:
        return found[0], layout.parsed_partition(found[0], key)
    except ValueError:
        return found[0], None


def _loose(objects: Objects, there: Mapping[str, Stored]) -> dict[str, tuple[int, str]]:
    found = objects.read(layout.LIST) if layout.LIST in there else None
    return layout.parsed_list(found[0], objects.name) if found is not None else {}


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str | None:
    try:
        return digest_of_file(path)
    except FileNotFoundError:
        return None


def _check_empty(home: Home) -> None:
    for folder in (home.lake, home.marts, home.readouts):
        if folder.is_dir() and any(folder.iterdir()):
            raise StoreError(
                f"{folder} holds data: a restore goes into a home without lake, marts and readouts"
            )


def _partition(objects: Objects, home: Home, key: str) -> list[int]:
    """Write a partition, its manifest last; bytes written of each file, 0 for one that was there."""
    for _ in range(_TRIES):
        encoded, manifest = _head(objects, key)
        if manifest is None:
            if not encoded:
                # Taken away since the mirror was listed.
                return []
            raise StoreError(f"{objects.name}/{key} is damaged: repair the mirror from its home first")
        try:
            sizes = [
                _file(objects, home, layout.file_key(manifest, one.name), one.bytes, one.digest)
                for one in manifest.files
            ]
        except StoreError:
            if _head(objects, key)[0] == encoded:
                raise
            continue
        write_text(layout.path_of(home, key), encoded.decode())
        return sizes
    raise StoreError(f"{objects.name}/{key} is replaced again and again while it is read: restore later")


def _file(objects: Objects, home: Home, key: str, size: int, digest: str) -> int:
    """Write one file whole, unless it is there; the bytes written."""
    path = layout.path_of(home, key)
    if path.is_file() and path.stat().st_size == size and digest_of_file(path) == digest:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = temporary_beside(path)
    try:
        if objects.download(key, size, aside) != digest:
            raise StoreError(
                f"{objects.name}/{key} is not what its mirror says it is: push from the home, or bring that "
                "object back in the bucket, and call this again"
            )
        replace_file(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return size
