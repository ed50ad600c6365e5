"""Which arm a unit belongs to, computed from its id alone, the same way by every producer and reader."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import groupby

from exp_pipeline.transform.hashing import BUCKETS, buckets_of, flag_key, hash_number, hash_of_scheme

__all__ = [
    "BUCKETS",
    "arm_at",
    "arm_bucket",
    "arm_of",
    "arm_of_buckets",
    "arms_of_buckets",
    "flagd_rule",
    "hash_number",
    "inside_traffic",
    "traffic_bucket",
]


def arm_bucket(experiment: str, version: int, unit_id: str) -> int:
    """Which of 10,000 buckets decides the unit's arm by `sha256-v1` (0 to 9,999)."""
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


def arms_of_buckets(scheme: str, shares: Mapping[str, float]) -> list[str]:
    """Which arm each of the 10,000 arm buckets gives, by a scheme.

    `percent-v1` reads a bucket modulo 100 and lays the arms from the last named, as in the published
    example, where `% 100 < 50` is treatment. Raises ValueError for an unknown scheme and for shares that do
    not add up to 1.
    """
    total = sum(shares.values())
    if not shares or abs(total - 1.0) > 1e-9:
        raise ValueError(f"shares must add up to 1 over at least one arm, got {dict(shares)}")
    hash_of_scheme(scheme)
    return list(_laid_out(scheme, tuple(shares.items())))


@cache
def _laid_out(scheme: str, shares: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
    if scheme == "percent-v1":
        turned = dict(reversed(shares))
        return tuple(arm_at(percent / 100, turned) for percent in range(100)) * (BUCKETS // 100)
    whole = dict(shares)
    return tuple(arm_at(bucket / BUCKETS, whole) for bucket in range(BUCKETS))


def inside_traffic(bucket: int, traffic_share: float) -> bool:
    """Whether a traffic bucket is in the experiment at a traffic share."""
    return bucket < traffic_share * BUCKETS - 1e-9


def arm_of_buckets(
    traffic: int,
    arm: int,
    shares: Mapping[str, float],
    *,
    traffic_share: float = 1.0,
    scheme: str = "sha256-v1",
) -> str | None:
    """Which arm a unit with these buckets of a scheme is in; None where the traffic share leaves it out."""
    if not inside_traffic(traffic, traffic_share):
        return None
    if scheme == "percent-v1":
        return arm_at((arm % 100) / 100, dict(reversed(list(shares.items()))))
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

    `shares` maps arm to planned share, in the brief's order, and adds up to 1. `sha256-v1` (the default) uses
    10,000 buckets, traffic and arm drawn apart. `percent-v1` takes the same hash modulo 100; with two equal
    arms buckets below 50 are the *last* arm named, as in the published example, where `% 100 < 50` is
    treatment. `flagd`, `flagd-v2` and `flagd-v1` are the versions of flagd's `fractional`, newest first, with
    the arms' numbers of buckets as weights (see `flagd_rule`).
    """
    total = sum(shares.values())
    if not shares or abs(total - 1.0) > 1e-9:
        raise ValueError(f"shares must add up to 1 over at least one arm, got {dict(shares)}")
    if not 0.0 < traffic <= 1.0:
        raise ValueError(f"traffic must lie in (0, 1], got {traffic}")
    buckets = buckets_of(scheme, experiment, version, unit_id)
    return arm_of_buckets(buckets.traffic, buckets.arm, shares, traffic_share=traffic, scheme=scheme)


def flagd_rule(
    experiment: str, version: int, shares: Mapping[str, float], *, traffic: float = 1.0
) -> dict[str, object]:
    """The `targeting` of the flag that gives each unit the arm of the `flagd` schemes, as flagd reads it.

    Weights are numbers of buckets out of 10,000. Units that the traffic share leaves out get null, which is
    the flag's default variant. The flag's key must be `flag_key(experiment, version)`.
    """
    arms = [[arm, len(list(run))] for arm, run in groupby(arms_of_buckets("flagd", shares))]
    rule: dict[str, object] = {"fractional": arms}
    inside = sum(inside_traffic(bucket, traffic) for bucket in range(BUCKETS))
    if inside == BUCKETS:
        return rule
    by = {"cat": [f"{flag_key(experiment, version)}:traffic:", {"var": "targetingKey"}]}
    gate = {"fractional": [by, ["inside", inside], ["outside", BUCKETS - inside]]}
    return {"if": [{"==": [gate, "inside"]}, rule, None]}
