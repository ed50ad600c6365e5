"""What leaves after ramps were judged: flags, versions to their receiver, messages to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from exp_pipeline.notify.routing import channels_from
from exp_pipeline.notify.webhook import webhook_from
from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.operating.flag_delivery import FlagDelivery, deliver_flags
from exp_pipeline.steps.operating.flags import Published, publish
from exp_pipeline.steps.operating.watch import tell
from exp_pipeline.store.state import StateLog, state_log


@dataclass(frozen=True, slots=True)
class Sent:
    """What left in a round: the flags that are published, what the receiver took, messages that were sent.

    receiver: its name in the log; None where none is set.
    """

    published: Published
    delivery: FlagDelivery
    receiver: str | None
    messages: int


def send_flags(bench: Workbench, now: datetime, environment: Mapping[str, str]) -> Sent:
    """Let flags follow the log, and send what waits: versions to the receiver, messages to people.

    The files come first: a receiver that is set wrongly is a trouble of the delivery and stops nothing else.
    """
    published = publish(bench, now)
    log = state_log(bench.home)
    name, delivery = _deliver(log, now, environment)
    channels = channels_from(environment, bench.home.notifications)
    told = tell(log, channels, bench.catalog.policies.incidents, now)
    return Sent(published, delivery, name, told["sent"])


def _deliver(log: StateLog, now: datetime, environment: Mapping[str, str]) -> tuple[str | None, FlagDelivery]:
    try:
        receiver = webhook_from(environment)
    except ValueError as error:
        return "(set wrongly)", FlagDelivery((), 1, str(error))
    if receiver is None:
        return None, FlagDelivery()
    return receiver.name, deliver_flags(log, receiver, now)
