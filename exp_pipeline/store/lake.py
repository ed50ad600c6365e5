"""The lake: Parquet partitions that are replaced whole, each with a manifest that names its current files."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.files import digest_of_file, fsync_folder, one_at_a_time, temporary_beside, write_text

MANIFEST = "manifest.json"
# A reader that resolved the manifest just before a replacement still finds its files for this long.
GRACE_SECONDS = 3600.0
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FILE = re.compile(r"part-[0-9]{4,}-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One Parquet file of a partition; `tag` says which slice of it this is (an event day, a bucket)."""

    name: str
    tag: str
    rows: int
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a partition holds now: files in reading order, schema version, the run that wrote this content."""

    table: str
    partition: str
    schema_version: str
    run_id: str
    files: tuple[LakeFile, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    # What this content was made from: the name of each input -> a digest of it; no part of the content.
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def content_digest(self) -> str:
        """Names the rows of the partition: equal digests mean equal files in equal order."""
        from exp_pipeline.model.digests import digest_of

        return digest_of([self.schema_version, [[file.tag, file.digest] for file in self.files]])


@dataclass(frozen=True, slots=True)
class NewFile:
    """A finished Parquet file (still under a temporary name) that is to become part of a partition."""

    path: Path
    tag: str
    rows: int


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_text(folder / MANIFEST, json.dumps(asdict(manifest), sort_keys=True, indent=1) + "\n")


def parsed_manifest(encoded: bytes) -> Manifest:
    """The manifest in these bytes. Raises ValueError, TypeError or KeyError where it is damaged."""
    raw = json.loads(encoded.decode())
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    files = tuple(LakeFile(**entry) for entry in raw.pop("files"))
    for file in files:
        if not (isinstance(file.name, str) and _FILE.fullmatch(file.name)):
            raise ValueError(f"it names the file {file.name!r}")
        if not (isinstance(file.rows, int) and isinstance(file.bytes, int)):
            raise ValueError(f"it has no counts for {file.name}")
    return Manifest(**raw, files=files)


@dataclass(frozen=True, slots=True)
class Lake:
    """Tables under one folder; partition folders are `table/column=value`."""

    root: Path

    def folder(self, table: str, partition: str) -> Path:
        column, _, value = partition.partition("=")
        if not (_NAME.fullmatch(table) and _NAME.fullmatch(column) and _VALUE.fullmatch(value)):
            raise ValueError(
                "table and partition must be plain names such as events, event_date=2026-03-01; "
                f"got {table!r}, {partition!r}"
            )
        return self.root / table / partition

    def staging(self, table: str, partition: str) -> Path:
        """A fresh temporary file name in the partition folder, on the file system of its final place."""
        folder = self.folder(table, partition)
        folder.mkdir(parents=True, exist_ok=True)
        return temporary_beside(folder / "part.parquet")

    def manifest(self, table: str, partition: str) -> Manifest | None:
        """What the partition holds now, or None where it was never written.

        Raises StoreError, naming the file, where the manifest is damaged; a new commit heals it.
        """
        path = self.folder(table, partition) / MANIFEST
        try:
            encoded = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            manifest = parsed_manifest(encoded)
            if (manifest.table, manifest.partition) != (table, partition):
                raise ValueError(f"it speaks of {manifest.table}/{manifest.partition}")
        except (ValueError, TypeError, KeyError) as trouble:
            raise StoreError(
                f"the manifest {path} is damaged ({trouble}); materialize that partition again"
            ) from trouble
        return manifest

    def partitions(self, table: str) -> tuple[str, ...]:
        """Every partition that was written, in the order of their names."""
        if not _NAME.fullmatch(table):
            raise ValueError(f"table must be a plain name such as events; got {table!r}")
        folder = self.root / table
        if not folder.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in folder.iterdir() if (entry / MANIFEST).is_file()))

    def contents(self) -> dict[tuple[str, str], str]:
        """What every partition holds: a digest by table and partition, empty where one is damaged."""
        found: dict[tuple[str, str], str] = {}
        tables = sorted(entry.name for entry in self.root.iterdir()) if self.root.is_dir() else []
        for table in filter(_NAME.fullmatch, tables):
            for partition in self.partitions(table):
                try:
                    manifest = self.manifest(table, partition)
                except StoreError:
                    found[table, partition] = ""
                    continue
                if manifest is not None:
                    found[table, partition] = manifest.content_digest
        return found

    def manifests(self, table: str, partitions: Iterable[str]) -> tuple[Manifest, ...]:
        """The manifests of those of the partitions that exist, in the order given."""
        found = (self.manifest(table, partition) for partition in partitions)
        return tuple(manifest for manifest in found if manifest is not None)

    def paths(self, manifests: Sequence[Manifest], tags: Iterable[str] | None = None) -> list[Path]:
        """Paths of the files that the manifests name, in reading order; if given, only those with a tag."""
        wanted = None if tags is None else frozenset(tags)
        return [
            self.folder(manifest.table, manifest.partition) / file.name
            for manifest in manifests
            for file in manifest.files
            if wanted is None or file.tag in wanted
        ]

    def commit(
        self,
        table: str,
        partition: str,
        new_files: Sequence[NewFile],
        *,
        schema_version: str,
        run_id: str,
        facts: Mapping[str, object] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Make these files the whole content of a partition, in one step that readers cannot see half of.

        Files are named by their content, so writing the same rows again changes no byte and keeps the
        manifest (and the run it names) but for what the content was made from: `inputs`, where it is given.
        Files of earlier contents are removed by a later commit to the partition, once the grace time since
        their replacement has passed.
        """
        folder = self.folder(table, partition)
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder):
            files = self._placed(folder, new_files)
            manifest = Manifest(table, partition, schema_version, run_id, files, dict(facts or {}))
            try:
                current = self.manifest(table, partition)
            except StoreError:
                current = None
            known = dict(current.inputs) if current is not None and inputs is None else dict(inputs or {})
            manifest = replace(manifest, inputs=known)
            unchanged = (
                current is not None
                and current.content_digest == manifest.content_digest
                and dict(current.facts) == json.loads(json.dumps(manifest.facts))
            )
            if current is not None and unchanged:
                manifest = replace(current, inputs=known)
            elif current is not None:
                self._begin_grace(folder, current, manifest)
            _write_manifest(folder, manifest)
            self._sweep(folder, frozenset(file.name for file in files))
        return manifest

    def confirm(self, manifest: Manifest, inputs: Mapping[str, str]) -> bool:
        """Record that the content there is also what these inputs give; False where it changed since."""
        folder = self.folder(manifest.table, manifest.partition)
        with one_at_a_time(folder):
            current = self.manifest(manifest.table, manifest.partition)
            if current is None or current != manifest:
                return False
            _write_manifest(folder, replace(current, inputs=dict(inputs)))
        return True

    def purge(self, table: str, partition: str) -> int:
        """Remove at once every file that the partition's manifest does not name; returns how many.

        For erasure only: a reader that resolved the manifest before its last replacement loses its files.
        """
        folder = self.folder(table, partition)
        removed = 0
        with one_at_a_time(folder):
            manifest = self.manifest(table, partition)
            kept = {MANIFEST, *(file.name for file in manifest.files)} if manifest else set()
            for entry in list(folder.iterdir()):
                if entry.name not in kept:
                    entry.unlink(missing_ok=True)
                    removed += 1
            fsync_folder(folder)
        return removed

    def retire(self, table: str, partition: str) -> bool:
        """Take a partition away for good: its manifest first, its files once readers have had their time.

        True where its manifest was there. Files go with a call that comes an hour or more later, whatever
        process makes it; killed at any point, the next call goes on.
        """
        folder = self.folder(table, partition)
        if not folder.is_dir():
            return False
        with one_at_a_time(folder):
            there = (folder / MANIFEST).is_file()
            if there:
                for entry in folder.iterdir():
                    if entry.name != MANIFEST:
                        os.utime(entry)
                (folder / MANIFEST).unlink()
                fsync_folder(folder)
            self._sweep(folder, ())
            if not any(folder.iterdir()):
                folder.rmdir()
        return there

    def emptied(self, table: str) -> tuple[str, ...]:
        """Partitions whose manifest is gone and whose files are still there, in order."""
        folder = self.root / table
        if not folder.is_dir():
            return ()
        found = (one for one in folder.iterdir() if one.is_dir() and not (one / MANIFEST).is_file())
        return tuple(sorted(one.name for one in found))

    def _placed(self, folder: Path, new_files: Sequence[NewFile]) -> tuple[LakeFile, ...]:
        """Finished files under their final names: position and content digest."""
        files = []
        for position, new in enumerate(new_files):
            digest = digest_of_file(new.path)
            name = f"part-{position:04d}-{digest[:16]}.parquet"
            target = folder / name
            size = new.path.stat().st_size
            if target.is_file() and target.stat().st_size == size and digest_of_file(target) == digest:
                new.path.unlink()
            else:
                with new.path.open("rb+") as handle:
                    os.fsync(handle.fileno())
                os.replace(new.path, target)
            files.append(LakeFile(name=name, tag=new.tag, rows=new.rows, bytes=size, digest=digest))
        fsync_folder(folder)
        return tuple(files)

    def _begin_grace(self, folder: Path, current: Manifest, manifest: Manifest) -> None:
        """Touch the files that are about to be replaced: their grace time counts from now."""
        kept = {file.name for file in manifest.files}
        for file in current.files:
            if file.name not in kept and (folder / file.name).is_file():
                os.utime(folder / file.name)

    def _sweep(self, folder: Path, current: Collection[str]) -> None:
        """Remove what no manifest names, and what killed writers left, once its grace time has passed."""
        limit = time.time() - GRACE_SECONDS
        for entry in folder.iterdir():
            if entry.name in current or entry.name == MANIFEST:
                continue
            try:
                if entry.stat().st_mtime < limit:
                    entry.unlink()
            except FileNotFoundError:
                continue
