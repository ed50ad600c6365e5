"""One address of Apprise as a channel: chat, pager, mail, webhook."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exp_pipeline.model.incidents import Message
from exp_pipeline.notify.channels import ChannelError, Takes, everything
from exp_pipeline.notify.page import head_of

if TYPE_CHECKING:
    from apprise import NotifyBase

_STATUS = re.compile(r"error=(\d{3})")
_SCHEMA = re.compile(r"[a-z][a-z0-9+.-]{0,30}")


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    """Sends messages to one address that Apprise understands, which may hold secrets: it is never shown.

    A webhook gets the message's key as the header `Idempotency-Key`, so that it can refuse a repeated one;
    PagerDuty gets the incident's id, under which it keeps one alert, and closes it on recovery. Waits at
    most some seconds for an answer.
    """

    url: str = field(repr=False)
    takes: Takes = everything
    from_the_start: bool = False

    @property
    def name(self) -> str:
        """The service and a digest of the address: the same for as long as the address is."""
        schema = _SCHEMA.match(self.url.lower())
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        return f"{schema.group() if schema else 'unknown'}-{digest}"

    def send(self, message: Message) -> None:
        """Hand the message over; ChannelError, without the address, where it was not taken."""
        import apprise

        service = self._service()
        if service is None:
            raise ChannelError(f"{self.name}: not an address that Apprise knows")
        _mark(service, message)
        kind = apprise.NotifyType.SUCCESS
        if message.change != "resolved":
            page = message.severity == "page"
            kind = apprise.NotifyType.FAILURE if page else apprise.NotifyType.WARNING
        capture: Any = apprise.LogCapture
        with capture(level=logging.WARNING) as said:
            taken = service.notify(title=head_of(message), body=message.text, notify_type=kind)
            status = _STATUS.search(said.getvalue())
        if not taken:
            why = f"answered {status.group(1)}" if status else "gave no good answer"
            raise ChannelError(f"{self.name}: {why}")

    def known(self) -> bool:
        """Whether Apprise can make something of the address; sends nothing."""
        return self._service() is not None

    def _service(self) -> NotifyBase | None:
        import apprise

        with warnings.catch_warnings():
            # Its services are imported here, some with modules that Python calls old.
            warnings.simplefilter("ignore", DeprecationWarning)
            found: NotifyBase | None = apprise.Apprise.instantiate(self.url)
        return found


def _mark(service: NotifyBase, message: Message) -> None:
    """Give the service what it needs to tell a repeated message, where it has a place for that."""
    plugin: Any = service
    if isinstance(getattr(plugin, "headers", None), dict):
        plugin.headers["Idempotency-Key"] = message.key
    if hasattr(plugin, "dedup"):
        plugin.dedup = message.incident
        if message.change == "resolved" and hasattr(plugin, "action"):
            plugin.action = "resolve"
