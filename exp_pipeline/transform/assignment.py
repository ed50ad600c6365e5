"""Which arm a unit belongs to, computed from its id alone, the same way by every producer and reader."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

BUCKETS = 10_000


def hash_number(experiment: str, version: int, unit_id: str, *, salt: str = "") -> int:
    """What 64-bit number a unit hashes to: first 8 bytes, big-endian, of SHA-256 of `experiment:vN:unit_id`.

    A salt stands between version and unit (`experiment:vN:salt:unit_id`), so that draws with different
    salts are independent.
    """
    middle = f":{salt}" if salt else ""
    text = f"{experiment}:v{version}{middle}:{unit_id}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def arm_bucket(experiment: str, version: int, unit_id: str) -> int:
    """Which of 10,000 buckets decides the unit's arm (0 to 9,999)."""
    return hash_number(experiment, version, unit_id) % BUCKETS


def traffic_bucket(experiment: str, version: int, unit_id: str) -> int:
    """Which of 10,000 buckets decides whether the unit is in the experiment at a given traffic share.

    Its salt differs from the arm's, so a ramp from 1 % to 50 % only ever adds units and moves none.
    """
    return hash_number(experiment, version, unit_id, salt="traffic") % BUCKETS


def arm_at(position: float, shares: Mapping[str, float]) -> str:
    """Which arm holds a position in [0, 1), arms laid end to end in the order given."""
    edge = 0.0
    for arm, share in shares.items():
        edge += share
        # The tolerance keeps 0.34 + 0.33 + 0.33 from leaving the last bucket to nobody.
        if position < edge - 1e-12:
            return arm
    return list(shares)[-1]


def arm_of_buckets(
    traffic: int, arm: int, shares: Mapping[str, float], *, traffic_share: float = 1.0
) -> str | None:
    """Which arm a unit with these `sha256-v1` buckets is in; None where the traffic share leaves it out."""
    if traffic >= traffic_share * BUCKETS - 1e-9:
        return None
    return arm_at(arm / BUCKETS, shares)


def arm_of(
    experiment: str,
    version: int,
    unit_id: str,
    shares: Mapping[str, float],
    *,
    scheme: str = "sha256-v1",
    traffic: float = 1.0,
) -> str | None:
    """Which arm a unit is in, or None where the traffic share leaves it out.

    `shares` maps arm to planned share, in the brief's order, and adds up to 1.
    `sha256-v1` (the default) uses 10,000 buckets, traffic and arm drawn apart. `percent-v1` takes the same
    hash modulo 100; with two equal arms buckets below 50 are the *last* arm named, as in the published
    example, where `% 100 < 50` is treatment.
    """
    total = sum(shares.values())
    if not shares or abs(total - 1.0) > 1e-9:
        raise ValueError(f"shares must add up to 1 over at least one arm, got {dict(shares)}")
    if not 0.0 < traffic <= 1.0:
        raise ValueError(f"traffic must lie in (0, 1], got {traffic}")
    if scheme == "sha256-v1":
        return arm_of_buckets(
            traffic_bucket(experiment, version, unit_id),
            arm_bucket(experiment, version, unit_id),
            shares,
            traffic_share=traffic,
        )
    if scheme == "percent-v1":
        if traffic_bucket(experiment, version, unit_id) >= traffic * BUCKETS - 1e-9:
            return None
        position = (hash_number(experiment, version, unit_id) % 100) / 100
        return arm_at(position, dict(reversed(list(shares.items()))))
    raise ValueError(f"scheme must be sha256-v1 or percent-v1, got {scheme!r}")
