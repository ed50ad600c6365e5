"""Opens the place that a mirror's URL names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from exp_pipeline.store.mirror_bucket import open_bucket
from exp_pipeline.store.mirror_folder import Folder
from exp_pipeline.store.mirror_objects import Objects, Patience, is_key

SCHEMES = ("s3", "gs", "az", "file")


@dataclass(frozen=True, slots=True)
class Place:
    """What a mirror's URL says: scheme, bucket (none for a folder), and prefix or folder."""

    scheme: str
    bucket: str
    path: str

    @property
    def name(self) -> str:
        """The URL in its plainest form; it holds no secret."""
        return f"{self.scheme}://{self.bucket}{self.path}"


def place_of(url: str) -> Place:
    """The place that a URL names: s3://bucket/prefix, gs://, az://container/prefix, file:///folder.

    Raises ValueError for a URL of another form; it is not repeated, because it might hold a secret.
    """
    parts = urlsplit(url)
    allowed = f"allowed: {', '.join(f'{scheme}://' for scheme in SCHEMES)} with bucket (or folder) and prefix"
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a mirror's URL begins with a scheme that is unknown here; {allowed}")
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "a mirror's URL holds more than bucket and prefix: credentials, address and options of the store "
            f"belong into its own variables of the environment; {allowed}"
        )
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc or not folder.is_absolute() or folder == Path("/"):
            raise ValueError(f"file:// wants an absolute folder, as in file:///srv/mirror; {allowed}")
        return Place("file", "", str(folder))
    prefix = parts.path.strip("/")
    if not parts.netloc or (prefix and not is_key(prefix)):
        raise ValueError(f"a mirror's URL names no bucket, or a prefix of other than plain names; {allowed}")
    return Place(parts.scheme, parts.netloc, f"/{prefix}" if prefix else "")


def open_objects(url: str, patience: Patience | None = None) -> Objects:
    """The objects at the place that a URL names; nothing is asked of it yet.

    Raises ValueError for a URL of another form, and StoreError where obstore is needed and not installed.
    """
    place = place_of(url)
    if place.scheme == "file":
        return Folder(Path(place.path))
    return open_bucket(place.scheme, place.name, patience or Patience())
