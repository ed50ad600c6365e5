"""Opens the place that a mirror's URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from exp_pipeline.store.mirror_bucket import open_bucket
from exp_pipeline.store.mirror_folder import Folder
from exp_pipeline.store.mirror_objects import Objects, Patience, is_key

SCHEMES = ("s3", "gs", "az", "file")


def open_objects(url: str, patience: Patience | None = None) -> Objects:
    """The place that a URL names: s3://bucket/prefix, gs://, az://container/prefix, file:///folder.

    Raises ValueError for a URL of another form; it is not repeated, because it might hold a secret. Raises
    StoreError where the library for buckets is not installed.
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
        return Folder(folder)
    prefix = parts.path.strip("/")
    if not parts.netloc or (prefix and not is_key(prefix)):
        raise ValueError(f"a mirror's URL names no bucket, or a prefix of other than plain names; {allowed}")
    return open_bucket(parts.scheme, parts.netloc, prefix, patience or Patience())
