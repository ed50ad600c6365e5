"""Pushing to the mirror: a copy of lake, snapshots and readouts, always whole for who reads it there.

A push copies new files first and a partition's manifest last, in place of the one that it replaces and of no
other. What no manifest names any more is removed once readers have had their time, and at once where somebody
was erased. Killed at any point, the next push goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from exp_pipeline.model.errors import StoreError
from exp_pipeline.steps.experiments.decision_log import decisions
from exp_pipeline.steps.experiments.erased import ERASURES
from exp_pipeline.steps.operating.mirror import Progress, apart, at_once
from exp_pipeline.store import mirror as layout
from exp_pipeline.store.files import digest_of_file
from exp_pipeline.store.home import Home
from exp_pipeline.store.lake import GRACE_SECONDS, MANIFEST, Manifest
from exp_pipeline.store.mirror import Mark, Record, Seen
from exp_pipeline.store.mirror_objects import Conflict, Objects, Stored, Version
from exp_pipeline.store.state import state_log

GRACE = timedelta(seconds=GRACE_SECONDS)
# How often a partition is looked at again that is replaced here while it is copied.
_TRIES = 5
# More than this share of the mirror's partitions, and this many, gone at once look like a lost disk.
_LOST_SHARE, _LOST_COUNT = 0.5, 20
# No store gives an object these names.
_NEVER = Version('"00000000000000000000000000000000"', "1")


@dataclass(frozen=True, slots=True)
class Push:
    """What a push did: files and bytes copied, partitions replaced and taken away, files removed, leaving."""

    mirror: str
    copied: int
    bytes: int
    partitions: int
    retired: int
    removed: int
    leaving: int
    partitions_there: int


@dataclass(frozen=True, slots=True)
class _Here:
    """The lake as one push found it: manifests by key, their bytes, and those that could not be read."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)


def push(
    home: Home,
    objects: Objects,
    clock: Callable[[], datetime],
    *,
    adopt: bool = False,
    allow_removal: bool = False,
    progress: Progress = lambda text: None,
) -> Push:
    """Make the mirror hold exactly what the home holds; only one push of a home goes on at a time.

    clock: the time now, with its zone. adopt: take over the mirror of another home. allow_removal: also where
    most of what the mirror holds is gone here. Raises StoreError where the place is no mirror of this home or
    cannot be reached, where a file here is not as its manifest says (it stays as it was there; everything
    else is copied first), or where others write there again and again.
    """
    apart(home, objects)
    with layout.in_turn(home):
        if layout.unfinished_restore(home).is_file():
            raise StoreError(f"{home.root} is half restored: finish with `exp mirror restore`")
        there = objects.listed()
        mark = _own(objects, layout.make_identity(home), there, adopt=adopt)
        erased = len(state_log(home).entries(ERASURES))
        record = layout.read_record(home, objects.name) or Record(objects.name, clock())
        listed = _listed_files(objects, there)
        if not allow_removal:
            _check_not_lost(home, there)
        work = _Pushing(home, objects, there, record, listed, progress)
        here = work.lake()
        loose = work.loose()
        retired = work.retire(here)
        work.put_small(layout.LIST, layout.encoded_list(loose))
        rows = [one.model_dump(mode="json") for one in decisions(home)]
        work.put_small(layout.DECISIONS, layout.encoded_lines(rows))
        after = objects.listed()
        # Not before the last manifest was replaced: readers of the earlier ones have their time from now on.
        now = clock()
        work.check(here, loose, after)
        mark, removed = work.clear(here, after, mark, now, erasures=erased)
        due = min(mark.leaving.values(), default=None)
        layout.write_record(
            home,
            Record(
                objects.name,
                now,
                {key: replace(one, version=after[key].version) for key, one in (here.seen | loose).items()},
                datetime.fromisoformat(due) + GRACE if due else None,
                mark.erasures,
            ),
        )
    if here.troubles:
        told = "; ".join(f"{key}: {why}" for key, why in list(here.troubles.items())[:5])
        raise StoreError(f"{len(here.troubles)} partitions were not copied: {told}")
    return Push(
        mirror=objects.name,
        copied=work.copied,
        bytes=work.bytes,
        partitions=work.replaced,
        retired=retired,
        removed=removed,
        leaving=len(mark.leaving),
        partitions_there=sum(layout.partition_of(key) is not None for key in after),
    )


def _own(objects: Objects, identity: str, there: Mapping[str, Stored], *, adopt: bool) -> Mark:
    """The mark of this home's mirror, made where the place is empty and the store keeps conditions."""
    found = objects.read(layout.MARK)
    if found is None:
        held = there.keys() - {layout.PROBE}
        if held:
            raise StoreError(
                f"{objects.name} holds {len(held):,} objects and no {layout.MARK}: it is no mirror; name a "
                "prefix that is empty"
            )
        _probe(objects)
        mark = Mark(identity)
        try:
            objects.put(layout.MARK, mark.encoded(), replaces=None)
        except Conflict:
            raise StoreError(f"another home began to push to {objects.name} at this moment") from None
        return mark
    mark = layout.parsed_mark(found[0], objects.name)
    if mark.home == identity:
        return mark
    if not adopt:
        raise StoreError(
            f"{objects.name} is the mirror of another data folder ({mark.home}; this one is {identity}). Two "
            "must not share one: name another prefix, or take it over for good with `exp mirror push --adopt`"
        )
    mark = replace(mark, home=identity)
    objects.put(layout.MARK, mark.encoded(), replaces=found[1])
    return mark


def _probe(objects: Objects) -> None:
    """Raise StoreError where a store overwrites although the condition says not to: some do, silently."""
    kept = []
    # The first may be refused too: a probe that was killed has left its object.
    for version in (None, None, _NEVER):
        try:
            objects.put(layout.PROBE, b"is a condition kept?", replaces=version)
            kept.append(False)
        except Conflict:
            kept.append(True)
    objects.delete([layout.PROBE])
    if not all(kept[1:]):
        raise StoreError(
            f"{objects.name}: this store overwrites although it is told not to (conditional writes), so that "
            "two pushes could undo one another; use one that keeps them: S3, Google Cloud Storage, Azure, "
            "MinIO, Ceph"
        )


def _listed_files(objects: Objects, there: Mapping[str, Stored]) -> dict[str, tuple[int, str]]:
    found = objects.read(layout.LIST) if layout.LIST in there else None
    return layout.parsed_list(found[0], objects.name) if found is not None else {}


def _check_not_lost(home: Home, there: Mapping[str, Stored]) -> None:
    """Refuse to empty a mirror because a disk is not mounted: then the mirror is the copy that is left."""
    partitions = {key for key in there if layout.partition_of(key) is not None}
    loose = {key for key in there if layout.is_loose(key)}
    for held, here in (
        (partitions, layout.manifests_of(home).keys()),
        (loose, layout.loose_files(home).keys()),
    ):
        gone = held - here
        if gone and (gone == held or len(gone) > max(_LOST_SHARE * len(held), _LOST_COUNT)):
            raise StoreError(
                f"{len(gone):,} of {len(held):,} objects of the mirror, such as {min(gone)}, are not in "
                f"{home.root} any more: is its disk mounted? Nothing was changed. Where they are meant to "
                "go: `exp mirror push --allow-removal`"
            )


class _Pushing:
    """One push: what it copies, in order, and what it counts."""

    def __init__(
        self,
        home: Home,
        objects: Objects,
        there: Mapping[str, Stored],
        record: Record,
        listed: Mapping[str, tuple[int, str]],
        progress: Progress,
    ) -> None:
        self._home, self._objects, self._progress = home, objects, progress
        self._there, self._record, self._listed = dict(there), record, listed
        self.copied = self.bytes = self.replaced = 0

    def lake(self) -> _Here:
        """Copy every partition that is new or has changed."""
        here = _Here()
        keys = layout.manifests_of(self._home)

        def one(key: str) -> tuple[str, Manifest | None, Seen | None, list[int], bool, str]:
            return key, *self._partition(key, keys[key])

        for key, manifest, seen, sizes, changed, trouble in at_once(one, keys):
            if manifest is not None and seen is not None:
                here.manifests[key], here.seen[key] = manifest, seen
            if trouble:
                here.troubles[key] = trouble
            self.copied += len(sizes)
            self.bytes += sum(sizes)
            self.replaced += changed
            if changed or sizes:
                self._progress(key.removesuffix(f"/{MANIFEST}"))
        return here

    def _partition(self, key: str, path: Path) -> tuple[Manifest | None, Seen | None, list[int], bool, str]:
        """Files first, then the manifest; again where it is replaced here while its files are read."""
        sizes: list[int] = []
        encoded: bytes | None = None
        for _ in range(_TRIES):
            try:
                changed_ns, encoded = path.stat().st_mtime_ns, path.read_bytes()
                manifest = layout.parsed_partition(encoded, key)
                for file in manifest.files:
                    at = layout.file_key(manifest, file.name)
                    held = self._there.get(at)
                    if held is not None and held.bytes == file.bytes:
                        continue
                    source = path.with_name(file.name)
                    if digest_of_file(source) != file.digest:
                        return None, None, sizes, False, f"{file.name} is damaged here; materialize it again"
                    self._there[at] = Stored(file.bytes, self._objects.upload(at, source))
                    sizes.append(file.bytes)
                digest = sha256(encoded).hexdigest()
                seen = Seen(len(encoded), changed_ns, digest, Version(None))
                return manifest, seen, sizes, self._replace(key, encoded, digest), ""
            except FileNotFoundError as absent:
                if not path.is_file():
                    # Taken away meanwhile: the next push takes it away there.
                    return None, None, sizes, False, ""
                if encoded is not None and path.read_bytes() == encoded:
                    lost = Path(str(absent.filename)).name
                    return None, None, sizes, False, f"{lost} is missing here; materialize it again"
            except Conflict:
                # Another push of the same home was quicker: what stands here now is what has to stand there.
                found = self._objects.read(key)
                if found is None:
                    self._there.pop(key, None)
                else:
                    self._there[key] = Stored(len(found[0]), found[1])
            except ValueError as trouble:
                return None, None, sizes, False, f"its manifest is damaged ({trouble}); materialize it again"
        raise StoreError(f"{self._objects.name}/{key} is written by others again and again: push later")

    def _replace(self, key: str, encoded: bytes, digest: str) -> bool:
        """Put a small object unless this content is there; whether it was put."""
        held, known = self._there.get(key), self._record.seen.get(key)
        if held is not None:
            if known is not None and known.version == held.version and known.digest == digest:
                return False
            found = self._objects.read(key) if held.bytes == len(encoded) else None
            if found is not None and found[0] == encoded:
                return False
        self._objects.put(key, encoded, replaces=held.version if held is not None else None)
        return True

    def put_small(self, key: str, encoded: bytes) -> None:
        """Write one of the mirror's own lists."""
        for _ in range(_TRIES):
            found = self._objects.read(key)
            if found is not None and found[0] == encoded:
                return
            try:
                self._objects.put(key, encoded, replaces=found[1] if found is not None else None)
                return
            except Conflict:
                continue
        raise StoreError(f"{self._objects.name}/{key} is written by others again and again: push later")

    def loose(self) -> dict[str, Seen]:
        """Copy the files below marts and readouts that are new or have changed; take away what is gone."""
        files = layout.loose_files(self._home)
        found: dict[str, Seen] = {}
        ranks = [[key for key in files if layout.rank(key)[0] == rank] for rank in range(4)]
        for keys in ranks:
            for key, seen, copied in at_once(lambda key: (key, *self._file(key, files[key])), keys):
                if seen is not None:
                    found[key] = seen
                if copied and seen is not None:
                    self.copied, self.bytes = self.copied + 1, self.bytes + seen.bytes
                    self._progress(key)
        gone = [key for key in self._there if layout.is_loose(key) and key not in found]
        # A snapshot's record goes before its files, as it came after them.
        self._objects.delete(sorted(gone, key=lambda key: (-layout.rank(key)[0], key)))
        return found

    def _file(self, key: str, path: Path) -> tuple[Seen | None, bool]:
        held, known = self._there.get(key), self._record.seen.get(key)
        if held is not None and known is not None and known.version == held.version and known.is_as(path):
            return known, False
        for _ in range(_TRIES):
            try:
                before = path.stat()
                digest = digest_of_file(path)
                seen = Seen(before.st_size, before.st_mtime_ns, digest, Version(None))
                trusted = known is None or held is None or known.version == held.version
                if held is not None and trusted and self._listed.get(key) == (held.bytes, digest):
                    return seen, False
                self._objects.upload(key, path)
            except FileNotFoundError:
                return None, False
            if seen.is_as(path):
                return seen, True
        raise StoreError(f"{path} changes again and again while it is copied: push later")

    def retire(self, here: _Here) -> int:
        """Take away the manifests of partitions that are gone here; their files leave after them."""
        gone = [
            key
            for key in self._there
            if layout.partition_of(key) is not None
            and key not in here.manifests
            and key not in here.troubles
            and not (self._home.root / key).is_file()
        ]
        self._objects.delete(gone)
        return len(gone)

    def check(self, here: _Here, loose: Mapping[str, Seen], after: Mapping[str, Stored]) -> None:
        """Raise StoreError unless everything that was pushed is there, in its size."""
        wanted = {key: one.bytes for key, one in {**here.seen, **loose}.items()}
        for manifest in here.manifests.values():
            wanted |= {layout.file_key(manifest, file.name): file.bytes for file in manifest.files}
        lacking = [key for key, size in wanted.items() if key not in after or after[key].bytes != size]
        if lacking:
            raise StoreError(
                f"{self._objects.name} lacks {len(lacking):,} of {len(wanted):,} objects after a push, such "
                f"as {lacking[0]}: did somebody remove them? Push again"
            )

    def clear(
        self,
        here: _Here,
        after: Mapping[str, Stored],
        mark: Mark,
        now: datetime,
        *,
        erasures: int,
    ) -> tuple[Mark, int]:
        """Remove files that no manifest has named for the grace time; note which are leaving.

        Where an erasure was finished here since the last push, they go at once.
        """
        at_once = erasures != mark.erasures
        named = {
            layout.file_key(manifest, file.name)
            for manifest in here.manifests.values()
            for file in manifest.files
        }
        kept = tuple(key.removesuffix(MANIFEST) for key in here.troubles)
        unnamed = [
            key
            for key in after
            if layout.is_lake_file(key) and key not in named and not key.startswith(kept or "\0")
        ]
        since = {key: mark.leaving.get(key, now.isoformat()) for key in unnamed}
        gone = [key for key, at in since.items() if at_once or datetime.fromisoformat(at) + GRACE <= now]
        self._objects.delete(gone)
        leaving = {key: at for key, at in since.items() if key not in set(gone)}
        # What could not be copied may still hold who was erased: the next push is asked for again.
        new = replace(mark, leaving=leaving, erasures=mark.erasures if here.troubles else erasures)
        if new != mark:
            self.put_small(layout.MARK, new.encoded())
        return new, len(gone)
