"""Digests of plain data: the same content gives the same name, on any machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence


def digest_of(content: Mapping[str, object] | Sequence[object]) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of plain data: sorted keys, no white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
