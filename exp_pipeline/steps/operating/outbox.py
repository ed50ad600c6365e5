"""What leaves this machine: claimed in the log before it is sent, noted as delivered once it was taken.

A second sender leaves a claimed thing alone. Whoever is killed in between loses nothing: the claim runs out,
and the thing is sent again under the same key, which a receiver that can will refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exp_pipeline.notify.channels import ChannelError
from exp_pipeline.store.state import Entry, StateLog

FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(hours=1)
# Longer than any receiver waits for an answer: after it, whoever claimed a thing is taken for dead.
CLAIM_HOLDS = timedelta(minutes=2)
EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Under which names the log keeps claims, deliveries and failures of one kind of thing."""

    claimed: str
    delivered: str
    failed: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """One thing for one receiver as the log names it; `name` holds both and never changes."""

    name: str
    subject: str
    content: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Sent:
    """How one try ended. Neither done nor an error: another sender has it in hand."""

    done: bool
    error: str = ""


def send(
    log: StateLog, outbox: Outbox, parcel: Parcel, attempt: int, hand_over: Callable[[], None], now: datetime
) -> Sent:
    """Try to hand a parcel over once more; hand_over raises ChannelError where it is not taken."""
    at, key = moment(now), f"{parcel.name}#{attempt}"
    if not log.append(outbox.claimed, parcel.subject, key=key, at=at, content=parcel.content):
        return Sent(False)
    try:
        hand_over()
    except ChannelError as error:
        content = {**parcel.content, "error": str(error)}
        log.append(outbox.failed, parcel.subject, key=key, at=at, content=content)
        return Sent(False, str(error))
    log.append(outbox.delivered, parcel.subject, key=parcel.name, at=at, content=parcel.content)
    return Sent(True)


def due(claims: Sequence[Entry], failures: Sequence[Entry]) -> datetime:
    """From when may a parcel be tried again? After a pause where it failed, else when its claim runs out."""
    if not claims:
        return EVER
    last = datetime.fromisoformat(claims[-1].at)
    answered = len(failures) and failures[-1].entry_id > claims[-1].entry_id
    return last + (pause(len(claims)) if answered else CLAIM_HOLDS)


def pause(attempts: int) -> timedelta:
    """1, 2, 4 ... minutes after so many attempts, at most an hour."""
    return min(FIRST_RETRY * (1 << min(attempts - 1, 20)), LONGEST_RETRY)


def moment(now: datetime) -> str:
    """A time as the log writes it; ValueError where it carries no time zone."""
    if now.tzinfo is None:
        raise ValueError(f"now must carry a time zone, got {now.isoformat()}")
    return now.astimezone(UTC).isoformat()
