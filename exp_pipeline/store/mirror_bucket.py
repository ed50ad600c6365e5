"""A prefix of a bucket (S3, Google Cloud Storage, Azure), through obstore.

Credentials and address come from the environment by the names that the clouds' own tools use. No message
holds any of them, nor the store's own words, which may repeat key ids and signatures.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pipeline.model.errors import StoreError
from exp_pipeline.store.mirror_objects import Conflict, Patience, Stored, Version

if TYPE_CHECKING:
    from obstore import PutResult, UpdateVersion
    from obstore.store import ObjectStore

EXTRA = "objects"
PART = 16 << 20
_NO_BUCKET = "there is no such bucket"
_REFUSED = (
    "the store refuses the credentials of the environment; are key and secret right, and may they list, "
    "read, write and delete there?"
)
_STATUS = re.compile(r"status code: (\d{3})")


def open_bucket(scheme: str, name: str, patience: Patience) -> Bucket:
    """The bucket of a plain URL, which is not asked yet. Raises StoreError where obstore is not installed."""
    try:
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise StoreError(
            f"{scheme}:// needs the library obstore: pip install 'exp-pipeline[{EXTRA}]'"
        ) from None
    _checked_endpoint(scheme, os.environ)
    with _told(name, "opened", patience):
        store = from_url(
            name,
            client_options={
                "connect_timeout": timedelta(seconds=patience.connect_seconds),
                "timeout": timedelta(seconds=patience.request_seconds),
                "user_agent": "exp-pipeline",
                "allow_http": _plain_http_allowed(os.environ),
            },
            retry_config={
                "max_retries": patience.retries,
                "retry_timeout": timedelta(seconds=patience.retry_seconds),
            },
        )
    return Bucket(name, store, patience)


def _plain_http_allowed(environment: Mapping[str, str]) -> bool:
    return environment.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")


def _checked_endpoint(scheme: str, environment: Mapping[str, str]) -> None:
    """Refuse an address without encryption that nobody allowed; the client's own error would not say so."""
    if scheme != "s3" or _plain_http_allowed(environment):
        return
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if environment.get(variable, "").startswith("http:"):
            raise StoreError(
                f"{variable} is a plain http address, over which everybody on the way can read along: use "
                "https, or set AWS_ALLOW_HTTP=true where that network is your own"
            )


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix of a bucket, through obstore."""

    name: str
    store: ObjectStore
    patience: Patience

    def listed(self) -> dict[str, Stored]:
        import obstore

        with self._told("listed"):
            found = {
                one["path"]: Stored(one["size"], Version(one["e_tag"], one["version"]))
                for batch in obstore.list(self.store)
                for one in batch
            }
        return dict(sorted(found.items()))

    def read(self, key: str) -> tuple[bytes, Version] | None:
        import obstore

        with self._told("read", key):
            try:
                found = obstore.get(self.store, key)
            except FileNotFoundError as absent:
                if "NoSuchBucket" in str(absent):
                    raise
                return None
            meta = found.meta
            return bytes(found.bytes()), Version(meta["e_tag"], meta["version"])

    def put(self, key: str, content: bytes, *, replaces: Version | None) -> Version:
        import obstore

        with self._told("written", key):
            if replaces is None:
                done = obstore.put(self.store, key, content, mode="create", use_multipart=False)
            else:
                done = self._replace(key, content, self._numbered(key, replaces))
        return Version(done["e_tag"], done["version"])

    def _replace(self, key: str, content: bytes, version: Version) -> PutResult:
        import obstore
        from obstore.exceptions import PreconditionError

        try:
            return obstore.put(self.store, key, content, mode=_condition(version))
        except PreconditionError:
            # Ceph up to 16 compares without the quotes that belong to an entity tag.
            bare = (version.e_tag or "").strip('"')
            if bare == version.e_tag:
                raise
            return obstore.put(self.store, key, content, mode=_condition(Version(bare, version.number)))

    def _numbered(self, key: str, version: Version) -> Version:
        """The version with the number that Google's conditions go by, which its listing leaves out."""
        import obstore

        if version.number is not None or not self.name.startswith("gs:"):
            return version
        try:
            now = obstore.head(self.store, key)
        except FileNotFoundError:
            raise Conflict(key) from None
        if now["e_tag"] != version.e_tag:
            raise Conflict(key)
        return Version(now["e_tag"], now["version"])

    def upload(self, key: str, path: Path) -> Version:
        import obstore

        with self._told("written", key):
            done = obstore.put(self.store, key, path, chunk_size=PART, max_concurrency=4)
        return Version(done["e_tag"], done["version"])

    def download(self, key: str, size: int, path: Path | None) -> str:
        # In parts, so that every request is bounded however large the object is.
        import obstore

        hasher = hashlib.sha256()
        with self._told("read", key), _sink(path) as write:
            for start in range(0, size, PART):
                part = obstore.get_range(self.store, key, start=start, end=min(start + PART, size))
                hasher.update(part)
                write(memoryview(part))
        return hasher.hexdigest()

    def delete(self, keys: Sequence[str]) -> None:
        import obstore

        for start in range(0, len(keys), 1000):
            with self._told("deleted"):
                try:
                    obstore.delete(self.store, list(keys[start : start + 1000]))
                except FileNotFoundError as absent:
                    if "NoSuchBucket" in str(absent):
                        raise
                    self._delete_each(keys[start : start + 1000])

    def _delete_each(self, keys: Sequence[str]) -> None:
        """One by one, where the store calls it an error that one of many is gone already."""
        import obstore

        for key in keys:
            try:
                obstore.delete(self.store, key)
            except FileNotFoundError:
                continue

    def _told(self, done: str, key: str = "") -> AbstractContextManager[None]:
        return _told(f"{self.name}/{key}" if key else self.name, done, self.patience)


def _condition(version: Version) -> UpdateVersion:
    told: UpdateVersion = {}
    if version.e_tag is not None:
        told["e_tag"] = version.e_tag
    if version.number is not None:
        told["version"] = version.number
    return told


@contextmanager
def _sink(path: Path | None) -> Iterator[Callable[[memoryview], object]]:
    if path is None:
        yield lambda part: None
        return
    with path.open("wb") as handle:
        yield handle.write


@contextmanager
def _told(place: str, done: str, patience: Patience) -> Iterator[None]:
    """Say what a bucket's trouble is in a sentence; its own words may repeat key ids and signatures."""
    from obstore import exceptions as trouble

    try:
        yield
    except (trouble.AlreadyExistsError, trouble.PreconditionError):
        raise Conflict(place) from None
    except FileNotFoundError as error:
        what = _NO_BUCKET if "NoSuchBucket" in str(error) else "it is not there"
        raise StoreError(f"{place} could not be {done}: {what}") from None
    except (trouble.PermissionDeniedError, trouble.UnauthenticatedError):
        raise StoreError(f"{place} could not be {done}: {_REFUSED}") from None
    except (NotImplementedError, trouble.NotSupportedError):
        raise StoreError(
            f"{place} could not be {done}: this store cannot write on a condition, which a mirror needs"
        ) from None
    except (trouble.BaseError, ValueError) as error:
        raise StoreError(f"{place} could not be {done}: {_reason(str(error), patience)}") from None


def _reason(text: str, patience: Patience) -> str:
    """What went wrong, read from the client's words and told without them."""
    tried = f"tried {patience.retries + 1} times" if patience.retries else "tried once"
    # Machines of clouds ask this address for their identity; elsewhere nobody answers there.
    if "token request" in text or "169.254." in text:
        return "no credentials in the environment, and this machine has no identity of its own"
    if "kind: Timeout" in text or "operation timed out" in text:
        return f"it does not answer in time ({patience.request_seconds:g} s a request, {tried})"
    if "kind: Connect" in text:
        return f"it cannot be reached ({tried}); are address and network right?"
    status = _STATUS.search(text)
    if status is not None:
        known = {"401": _REFUSED, "403": _REFUSED, "404": _NO_BUCKET}
        again = f" ({tried})" if status[1].startswith("5") else ""
        return known.get(status[1], f"it answers with status {status[1]}{again}")
    if "kind: Request" in text or "kind: Interrupted" in text or "connection" in text.lower():
        return f"the connection broke ({tried})"
    if "MissingAccount" in text:
        return "AZURE_STORAGE_ACCOUNT_NAME is not set"
    return "its settings in the environment do not fit, or its answer cannot be read"
