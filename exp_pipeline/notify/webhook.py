"""A webhook for flag services: published flags leave by HTTP, signed, with a key that tells repeats apart."""

from __future__ import annotations

import hashlib
import hmac
import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from exp_pipeline.notify.channels import ChannelError

URL, SECRET = "EXP_FLAG_WEBHOOK_URL", "EXP_FLAG_WEBHOOK_SECRET"
SIGNATURE, TIMESTAMP, KEY = "X-Exp-Signature", "X-Exp-Timestamp", "Idempotency-Key"
_SHORTEST_SECRET = 16
_WAIT_SECONDS = 10.0


class _NoRedirects(HTTPRedirectHandler):
    """A redirect could take a signed body to another host: it counts as not taken."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where published flags are sent to. The secret is never shown."""

    url: str
    secret: str = field(repr=False)
    wait_seconds: float = _WAIT_SECONDS

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{URL} must be an http or https address, got a {parts.scheme or 'plain'} one")
        if len(self.secret) < _SHORTEST_SECRET:
            raise ValueError(f"{SECRET} must have at least {_SHORTEST_SECRET} characters")

    @property
    def name(self) -> str:
        """The receiver's name in the log: its host, and a digest of the address, which may be secret."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return f"{urlsplit(self.url).hostname}#{digest}"

    def send(self, body: bytes, *, key: str, at: datetime) -> None:
        """Post a body; returns once the receiver said that it has it (2xx), raises ChannelError otherwise."""
        stamp = str(int(at.astimezone(UTC).timestamp()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "exp-pipeline",
            KEY: key,
            TIMESTAMP: stamp,
            SIGNATURE: signature(self.secret, stamp, body),
        }
        request = Request(self.url, data=body, headers=headers, method="POST")
        host = urlsplit(self.url).hostname
        try:
            with build_opener(_NoRedirects()).open(request, timeout=self.wait_seconds) as answer:
                answer.read(1024)
        except HTTPError as error:
            error.close()
            raise ChannelError(f"{host} answered {error.code}") from None
        except (URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise ChannelError(f"{host} cannot be reached: {type(reason).__name__}") from None


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a body sent at a moment: HMAC-SHA256 of `timestamp.body`, as `sha256=<hex>`.

    A receiver computes the same over what it got, compares in constant time, and refuses old timestamps.
    """
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def webhook_from(environment: Mapping[str, str]) -> Webhook | None:
    """The receiver that the environment names; None where it names none.

    Raises ValueError for an address without a secret, a short secret, or an address that is not http(s).
    """
    url = environment.get(URL, "")
    return Webhook(url, environment.get(SECRET, "")) if url else None
