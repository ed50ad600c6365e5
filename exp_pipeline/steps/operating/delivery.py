"""Messages of incidents on their way out: each leaves every channel once, whoever sends and whoever dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from exp_pipeline.model.incidents import Message
from exp_pipeline.notify.channels import Channel
from exp_pipeline.notify.page import message_of
from exp_pipeline.steps.operating.incidents import changes, open_incidents
from exp_pipeline.steps.operating.outbox import EVER, Outbox, Parcel, due, moment, pause, send
from exp_pipeline.store.state import Entry, StateLog

JOINED = "channel_joined"
OUTBOX = Outbox(claimed="delivery_claimed", delivered="delivered", failed="delivery_failed")


@dataclass(frozen=True, slots=True)
class FailedDelivery:
    """A message that the channel did not take: the why, how often it was tried, when it is due again."""

    message: Message
    error: str
    attempts: int
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """What left in one round, what did not, and how many messages wait for their next try."""

    sent: tuple[Message, ...]
    failed: tuple[FailedDelivery, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """How one channel does: messages it took, messages that wait, and its last trouble if it is not over."""

    channel: str
    delivered: int
    waiting: int
    last_error: str = ""
    failing_since: datetime | None = None


def pending_notifications(state: StateLog, channel: Channel, now: datetime) -> tuple[Message, ...]:
    """Which messages are for a channel and not with it yet, oldest first?

    A channel that is new at `now` hears of what is open, not of all that ever was.
    """
    joined = EVER if channel.from_the_start else _joined(state, channel, now)
    done = _of(channel, state.entries(OUTBOX.delivered))
    told = [change for change in changes(state) if change.notify]
    newest = {change.incident.id: change.key for change in told}
    ongoing = {newest[one.id] for one in open_incidents(state) if one.id in newest}
    wanted = (
        message_of(change)
        for change in told
        if change.key not in done and (change.at >= joined or change.key in ongoing)
    )
    return tuple(message for message in wanted if channel.takes(message))


def deliver(state: StateLog, channel: Channel, now: datetime) -> Delivery:
    """Send what is due through a channel.

    One that was not taken is tried again after 1, 2, 4 ... minutes, at most an hour; the others still leave.
    """
    moment(now)
    pending = pending_notifications(state, channel, now)
    if not pending:
        return Delivery((), (), 0)
    failures = _of(channel, state.entries(OUTBOX.failed))
    claims = _of(channel, state.entries(OUTBOX.claimed))
    sent: list[Message] = []
    failed: list[FailedDelivery] = []
    waiting = 0
    for message in pending:
        tries = claims.get(message.key, [])
        if now < due(tries, failures.get(message.key, [])):
            waiting += 1
            continue
        attempt = len(tries) + 1
        parcel = Parcel(f"{channel.name}:{message.key}", message.key, {"channel": channel.name})
        done = send(state, OUTBOX, parcel, attempt, partial(channel.send, message), now)
        if done.done:
            sent.append(message)
        elif done.error:
            failed.append(FailedDelivery(message, done.error, attempt, now + pause(attempt)))
        else:
            waiting += 1
    return Delivery(tuple(sent), tuple(failed), waiting)


def channel_health(state: StateLog, channels: Sequence[Channel], now: datetime) -> tuple[ChannelHealth, ...]:
    """Does every channel still take its messages? A dead one is shown with its last error."""
    delivered, failed = state.entries(OUTBOX.delivered), state.entries(OUTBOX.failed)
    found = []
    for channel in channels:
        done = _of(channel, delivered)
        pending = pending_notifications(state, channel, now)
        unsaid = {message.key for message in pending}
        troubles = [
            entry for key, entries in _of(channel, failed).items() if key in unsaid for entry in entries
        ]
        troubles.sort(key=lambda entry: entry.entry_id)
        found.append(
            ChannelHealth(
                channel=channel.name,
                delivered=len(done),
                waiting=len(pending),
                last_error=str(troubles[-1].content["error"]) if troubles else "",
                failing_since=datetime.fromisoformat(troubles[0].at) if troubles else None,
            )
        )
    return tuple(found)


def _joined(state: StateLog, channel: Channel, now: datetime) -> datetime:
    """Since when this channel has been there; noted the first time it is asked for."""
    state.append(JOINED, channel.name, key=channel.name, at=moment(now), content={})
    return datetime.fromisoformat(state.entries(JOINED, channel.name)[0].at)


def _of(channel: Channel, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """A channel's entries by message, oldest first."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.content["channel"] == channel.name:
            found.setdefault(entry.subject, []).append(entry)
    return found
