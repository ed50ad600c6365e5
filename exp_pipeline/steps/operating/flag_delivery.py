"""The outbox of flags: each published version reaches the receiver, in order, whoever sends and whoever dies.

A sender claims a version in the log before it sends, and notes it as delivered once the receiver has it. A
second sender leaves a claimed version alone. Killed in between, the claim runs out and the version is sent
again under the same idempotency key, with the same body.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exp_pipeline.model.flags import Publication
from exp_pipeline.notify.channels import ChannelError
from exp_pipeline.notify.webhook import Webhook
from exp_pipeline.steps.operating.flags import versions
from exp_pipeline.store.state import Entry, StateLog

JOINED, CLAIMED, DELIVERED, FAILED = "flag_receiver", "flag_claimed", "flag_delivered", "flag_failed"
FIRST_RETRY, LONGEST_RETRY = timedelta(minutes=1), timedelta(hours=1)
# Longer than the receiver may take to answer.
CLAIM_HOLDS = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class FlagDelivery:
    """What left in one round, how many versions wait, and the trouble that stopped it."""

    sent: tuple[int, ...] = ()
    waiting: int = 0
    error: str = ""


def pending_versions(log: StateLog, receiver: Webhook) -> tuple[Publication, ...]:
    """Which versions has a receiver not taken yet, oldest first? One that is new begins with the newest."""
    known = versions(log)
    joined = log.newest(JOINED, receiver.name)
    first = known[-1].version if joined is None and known else 0
    if joined is not None:
        first = int(str(joined.content["from"]))
    done = {int(str(entry.content["version"])) for entry in log.entries(DELIVERED, receiver.name)}
    return tuple(one for one in known if one.version >= first and one.version not in done)


def deliver_flags(log: StateLog, receiver: Webhook, now: datetime) -> FlagDelivery:
    """Send every version that is due, in order: one that was not taken keeps those after it waiting.

    It is tried again after 1, 2, 4 ... minutes, at most an hour.
    """
    at = now.astimezone(UTC).isoformat()
    pending = pending_versions(log, receiver)
    if not pending:
        return FlagDelivery()
    log.append(JOINED, receiver.name, key=receiver.name, at=at, content={"from": pending[0].version})
    sent: list[int] = []
    for place, one in enumerate(pending_versions(log, receiver)):
        tries = _of(log.entries(CLAIMED, receiver.name), one.version)
        failures = _of(log.entries(FAILED, receiver.name), one.version)
        left = len(pending) - place
        if now < _due(tries, failures):
            return FlagDelivery(tuple(sent), left, str(failures[-1].content["error"]) if failures else "")
        attempt = f"{receiver.name}:{one.version}#{len(tries) + 1}"
        content: dict[str, object] = {"version": one.version}
        if not log.append(CLAIMED, receiver.name, key=attempt, at=at, content=content):
            return FlagDelivery(tuple(sent), left)
        try:
            receiver.send(body_of(one), key=key_of(one), at=now)
        except ChannelError as error:
            log.append(FAILED, receiver.name, key=attempt, at=at, content=content | {"error": str(error)})
            return FlagDelivery(tuple(sent), left, str(error))
        done = f"{receiver.name}:{one.version}"
        log.append(DELIVERED, receiver.name, key=done, at=at, content=content)
        sent.append(one.version)
    return FlagDelivery(tuple(sent))


def body_of(publication: Publication) -> bytes:
    """What is sent of a version: always the same bytes."""
    content = publication.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def key_of(publication: Publication) -> str:
    """The idempotency key of a version: its number and what it says."""
    return f"flags-{publication.version}-{publication.content_digest[:16]}"


def _of(entries: tuple[Entry, ...], version: int) -> list[Entry]:
    return [entry for entry in entries if entry.content["version"] == version]


def _due(tries: list[Entry], failures: list[Entry]) -> datetime:
    """When a version may be tried: after its pause, or once a claim without an answer has run out."""
    if not tries:
        return datetime.min.replace(tzinfo=UTC)
    last = datetime.fromisoformat(tries[-1].at)
    if len(failures) < len(tries):
        return last + CLAIM_HOLDS
    return last + min(FIRST_RETRY * (1 << min(len(failures) - 1, 20)), LONGEST_RETRY)
