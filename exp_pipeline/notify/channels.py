"""Channels: where messages leave. Each message has a key, so that a repeated one can be refused."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from exp_pipeline.model.errors import ExpError
from exp_pipeline.model.incidents import Message

_LOG = logging.getLogger("exp_pipeline.notify")


Takes = Callable[[Message], bool]


def everything(message: Message) -> bool:
    """Every message is for this channel."""
    return True


class ChannelError(ExpError):
    """A channel that did not take a message; the message stays in the outbox and is tried again."""


class Channel(Protocol):
    """Anything that messages can leave by.

    `send` returns once the message is safe with the channel; the same key again is not shown twice where the
    channel can help it. It raises ChannelError where the message was not taken.
    """

    @property
    def name(self) -> str:
        """The channel's name in the log of deliveries."""

    @property
    def takes(self) -> Takes:
        """Which messages are for it."""

    @property
    def from_the_start(self) -> bool:
        """Whether it gets all that ever was told, or only what is told since it is there (and is open)."""

    def send(self, message: Message) -> None:
        """Take one message."""


@dataclass(slots=True)
class FileChannel:
    """Appends messages to a file of JSON lines, each key once, and logs each line that is new.

    Writers take turns by a lock on the file that ends with its holder, and a line is on disk before `send`
    returns. Half a line, left by a writer that was killed, is cut off by the next. Keys are read once and
    then only what was appended since.
    """

    path: Path
    name: str = "file"
    takes: Takes = everything
    from_the_start: bool = True
    _keys: set[str] = field(default_factory=set, init=False, repr=False)
    _read: tuple[int, int] = field(default=(0, 0), init=False, repr=False)

    def send(self, message: Message) -> None:
        """Append the message, unless its key is in the file already."""
        try:
            new = self._append(message)
        except OSError as error:
            raise ChannelError(f"{self.path.name}: {error.strerror or error}") from error
        if new:
            level = logging.INFO if message.change == "resolved" else _LEVELS[message.severity]
            known = {"incident": message.incident, "message_key": message.key}
            _LOG.log(level, "%s", message.text, extra=known)

    def _append(self, message: Message) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._take_in(descriptor)
            if message.key in self._keys:
                # The writer before may have been killed between write and flush.
                os.fsync(descriptor)
                return False
            _write_all(descriptor, message.canonical_json().encode() + b"\n")
            os.fsync(descriptor)
            _fsync_folder(self.path.parent)
            return True
        finally:
            os.close(descriptor)

    def _take_in(self, descriptor: int) -> None:
        """Read the keys of lines that are not known yet; cut off what a killed writer left unfinished."""
        status = os.fstat(descriptor)
        inode, position = self._read
        if inode != status.st_ino or position > status.st_size:
            self._keys, position = set(), 0
        with os.fdopen(os.dup(descriptor), "rb") as lines:
            lines.seek(position)
            for line in lines:
                if not line.endswith(b"\n"):
                    os.ftruncate(descriptor, position)
                    break
                position += len(line)
                self._keys.add(_key_of(line))
        self._read = (status.st_ino, position)


_LEVELS = {"warn": logging.WARNING, "page": logging.ERROR}


def _key_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["key"])
    except (ValueError, KeyError, TypeError) as error:
        raise ChannelError(
            "notifications file holds a line that is no message; move the file away"
        ) from error


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
