"""The outbox of flags: each published version reaches the receiver, in order, always with the same body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from exp_pipeline.model.flags import Publication
from exp_pipeline.notify.webhook import Webhook
from exp_pipeline.steps.operating.flags import versions
from exp_pipeline.steps.operating.outbox import Outbox, Parcel, due, moment, send
from exp_pipeline.store.state import Entry, StateLog

JOINED = "flag_receiver"
OUTBOX = Outbox(claimed="flag_claimed", delivered="flag_delivered", failed="flag_failed")


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
    done = {int(str(entry.content["version"])) for entry in log.entries(OUTBOX.delivered, receiver.name)}
    return tuple(one for one in known if one.version >= first and one.version not in done)


def deliver_flags(log: StateLog, receiver: Webhook, now: datetime) -> FlagDelivery:
    """Send every version that is due, in order: one that was not taken keeps those after it waiting.

    It is tried again after 1, 2, 4 ... minutes, at most an hour.
    """
    pending = pending_versions(log, receiver)
    if not pending:
        return FlagDelivery()
    start = {"from": pending[0].version}
    log.append(JOINED, receiver.name, key=receiver.name, at=moment(now), content=start)
    sent: list[int] = []
    for place, one in enumerate(pending_versions(log, receiver)):
        claims = _of(log.entries(OUTBOX.claimed, receiver.name), one.version)
        failures = _of(log.entries(OUTBOX.failed, receiver.name), one.version)
        left = len(pending) - place
        if now < due(claims, failures):
            return FlagDelivery(tuple(sent), left, str(failures[-1].content["error"]) if failures else "")
        parcel = Parcel(f"{receiver.name}:{one.version}", receiver.name, {"version": one.version})
        hand_over = partial(receiver.send, body_of(one), key=key_of(one), at=now)
        done = send(log, OUTBOX, parcel, len(claims) + 1, hand_over, now)
        if not done.done:
            return FlagDelivery(tuple(sent), left, done.error)
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
