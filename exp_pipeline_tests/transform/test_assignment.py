"""Units land in the published arms, and a ramp only ever adds units."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.transform.assignment import (
    arm_bucket,
    arm_of,
    arm_of_buckets,
    hash_number,
    traffic_bucket,
)

HALVES = {"control": 0.5, "treatment": 0.5}
unit_ids = st.text(min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("unit", "arm"), [("customer-014", "treatment"), ("customer-231", "control"), ("customer-844", "control")]
)
def test_the_published_example(unit: str, arm: str) -> None:
    assert arm_of("refund-query-rewrite", 1, unit, HALVES, scheme="percent-v1") == arm


def test_sha256_v1_is_the_first_eight_bytes_of_the_digest() -> None:
    # From `printf 'hint-ladder:v1:learner-1' | sha256sum`, first 16 hex digits.
    assert hash_number("hint-ladder", 1, "learner-1") == int(
        sha256(b"hint-ladder:v1:learner-1").hexdigest()[:16], 16
    )
    assert arm_bucket("hint-ladder", 1, "learner-1") == hash_number("hint-ladder", 1, "learner-1") % 10_000


@given(unit=unit_ids, low=st.floats(0.001, 1.0), high=st.floats(0.001, 1.0), version=st.integers(1, 9))
def test_a_ramp_only_adds_units_and_moves_none(unit: str, low: float, high: float, version: int) -> None:
    low, high = sorted((low, high))
    early = arm_of("x", version, unit, HALVES, traffic=low)
    late = arm_of("x", version, unit, HALVES, traffic=high)
    assert early is None or early == late
    assert arm_of("x", version, unit, HALVES) is not None


@given(unit=unit_ids)
def test_an_arm_that_grows_keeps_its_units(unit: str) -> None:
    small = arm_of("x", 1, unit, {"treatment": 0.1, "control": 0.9})
    large = arm_of("x", 1, unit, {"treatment": 0.4, "control": 0.6})
    assert small != "treatment" or large == "treatment"


def test_traffic_and_arm_are_drawn_apart() -> None:
    units = [f"unit-{number}" for number in range(20_000)]
    inside = [unit for unit in units if traffic_bucket("x", 1, unit) < 1_000]
    treated = sum(arm_bucket("x", 1, unit) < 5_000 for unit in inside)
    # Binomial: standard error 0.5 * sqrt(2000) = 22; four of them.
    assert abs(len(inside) - 2_000) < 4 * 42
    assert abs(treated - len(inside) / 2) < 4 * 22


@pytest.mark.parametrize("scheme", ["sha256-v1", "percent-v1"])
def test_shares_are_kept(scheme: str) -> None:
    shares = {"a": 0.34, "b": 0.33, "c": 0.33}
    arms = [arm_of("y", 1, f"unit-{number}", shares, scheme=scheme) for number in range(20_000)]
    for arm, share in shares.items():
        # Four standard errors of a binomial share, sqrt(0.34 * 0.66 / 20000) = 0.0034.
        assert abs(arms.count(arm) / 20_000 - share) < 4 * 0.0034


@pytest.mark.parametrize(
    ("shares", "traffic", "scheme", "said"),
    [
        ({"a": 0.5, "b": 0.4}, 1.0, "sha256-v1", "add up to 1"),
        ({}, 1.0, "sha256-v1", "add up to 1"),
        (HALVES, 0.0, "sha256-v1", "traffic"),
        (HALVES, 1.1, "percent-v1", "traffic"),
        (HALVES, 1.0, "md5", "scheme"),
    ],
)
def test_mistakes_are_named(shares: dict[str, float], traffic: float, scheme: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        arm_of("x", 1, "u", shares, traffic=traffic, scheme=scheme)


@pytest.mark.parametrize(
    ("share", "edge"), [(0.25, 2_500), (0.0001, 1), (0.3, 3_000), (0.07, 700), (1.0, 10_000)]
)
def test_the_edge_of_traffic_is_exact(share: float, edge: int) -> None:
    assert arm_of_buckets(edge - 1, 0, HALVES, traffic_share=share) == "control"
    if edge < 10_000:
        assert arm_of_buckets(edge, 0, HALVES, traffic_share=share) is None


def test_the_edge_of_an_arm_is_exact() -> None:
    thirds = {"a": 0.34, "b": 0.33, "c": 0.33}
    edges = [(0, "a"), (3_399, "a"), (3_400, "b"), (6_699, "b"), (6_700, "c"), (9_999, "c")]
    assert [arm_of_buckets(0, bucket, thirds) for bucket, _ in edges] == [arm for _, arm in edges]
    assert [arm_of_buckets(0, bucket, HALVES, scheme="percent-v1") for bucket in (0, 149, 150, 9_999)] == [
        "treatment", "treatment", "control", "control",
    ]  # fmt: skip
