"""What a mirror needs of the place that holds it: objects by key, each of them whole, put on a condition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_KEY = re.compile(r"(?!\.)[A-Za-z0-9._=-]{1,200}(/(?!\.)[A-Za-z0-9._=-]{1,200}){0,9}")


class Conflict(Exception):
    """Somebody else wrote the object in the meantime: nothing was put."""


@dataclass(frozen=True, slots=True)
class Version:
    """Names one content of one object, in the words of its store."""

    e_tag: str | None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """One object: how large it is, and which content it holds."""

    bytes: int
    version: Version


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, and how often and how long it is tried again."""

    connect_seconds: float = 5.0
    request_seconds: float = 120.0
    retries: int = 4
    retry_seconds: float = 60.0


class Objects(Protocol):
    """Where a mirror is kept. Whatever fails is a StoreError that names the place and what to look at."""

    @property
    def name(self) -> str:
        """Scheme, bucket and prefix, for people."""

    def listed(self) -> dict[str, Stored]:
        """Every object, by key in order."""

    def read(self, key: str) -> tuple[bytes, Version] | None:
        """A small object, or None where there is none."""

    def put(self, key: str, content: bytes, *, replaces: Version | None) -> Version:
        """Write a small object in place of the version named; None: where there is none.

        Raises Conflict, and writes nothing, where the store holds another one.
        """

    def upload(self, key: str, path: Path) -> Version:
        """Write a file; readers see it whole or not at all."""

    def download(self, key: str, size: int, path: Path | None) -> str:
        """SHA-256 of an object of that size, written to a file where one is named."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; it is no error where one is not there."""


def is_key(key: str) -> bool:
    """Whether a key may name an object and a file: plain parts, none that begins with a dot."""
    return _KEY.fullmatch(key) is not None
