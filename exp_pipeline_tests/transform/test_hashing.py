"""Buckets are those that flagd's own evaluator and the published texts give, one by one or by the column."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pipeline.transform.assignment import arm_of, arms_of_buckets, flagd_rule
from exp_pipeline.transform.hashing import (
    BUCKETS,
    SCHEMES,
    bucket_columns,
    buckets_of,
    flag_key,
    hash_of_scheme,
    layer_buckets,
    murmur3,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "assignment"
FLAGD = ("flagd", "flagd-v2", "flagd-v1")
unit_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def golden(scheme: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"golden_{scheme}.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", 0),
        (b"hello", 0x248BFA47),
        (b"hello, world", 0x149BBB7F),
        (b"The quick brown fox jumps over the lazy dog", 0x2E4FF723),
    ],
)
def test_murmur3_gives_the_published_values(text: bytes, value: int) -> None:
    assert murmur3([text]).tolist() == [value]


@pytest.mark.parametrize("scheme", FLAGD)
def test_flagds_own_evaluator_gives_the_same_arms(scheme: str) -> None:
    told = golden(scheme)
    assert len(told["units"]) > 1200
    for case in told["cases"]:
        name, _, version = case["flag"].partition(":v")
        weights = case["weights"]
        shares = {arm: weight / BUCKETS for arm, weight in weights.items()}
        gate = case["rule"].get("if")
        inside = gate[0]["=="][0]["fractional"][1][1] if gate else BUCKETS
        number = int(version or 1)
        assert flag_key(name, number) == case["flag"]
        assert flagd_rule(name, number, shares, traffic=inside / BUCKETS) == case["rule"]
        table = arms_of_buckets(scheme, shares)
        assert [table.count(arm) for arm in weights] == list(weights.values())
        found = bucket_columns(scheme, name, number, told["units"])
        arms = [
            table[arm] if traffic < inside else None
            for arm, traffic in zip(found.arm.tolist(), found.traffic.tolist(), strict=True)
        ]
        places = [*weights, None]
        assert "".join(str(places.index(arm)) for arm in arms) == case["places"]


def test_the_three_versions_of_fractional_differ() -> None:
    first = [golden(scheme)["cases"][0]["places"] for scheme in FLAGD]
    assert len(set(first)) == 3


def test_sha256_columns_are_the_digests_first_eight_bytes() -> None:
    ids = ["learner-1", "élève", "x" * 300]
    found = bucket_columns("sha256-v1", "hint-ladder", 2, ids)
    for place, unit in enumerate(ids):
        for column, text in (
            (found.arm, f"hint-ladder:v2:{unit}"),
            (found.traffic, f"hint-ladder:v2:traffic:{unit}"),
        ):
            assert column[place] == int(sha256(text.encode()).hexdigest()[:16], 16) % 10_000


@given(ids=st.lists(unit_ids, min_size=1, max_size=12), scheme=st.sampled_from(SCHEMES))
def test_a_unit_has_the_same_buckets_alone_and_among_others(ids: list[str], scheme: str) -> None:
    columns = bucket_columns(scheme, "x", 3, ids)
    layer = layer_buckets(scheme, "salt", ids)
    for place, unit in enumerate(ids):
        alone = buckets_of(scheme, "x", 3, unit)
        assert (alone.arm, alone.traffic) == (columns.arm[place], columns.traffic[place])
        assert layer_buckets(scheme, "salt", [unit])[0] == layer[place]
        assert min(alone.arm, alone.traffic, layer[place]) >= 0
        assert max(alone.arm, alone.traffic, layer[place]) < BUCKETS


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "percent-v1"])
def test_buckets_are_even_and_the_draws_apart(scheme: str) -> None:
    ids = [f"unit-{number}" for number in range(100_000)]
    found = bucket_columns(scheme, "evenness", 1, ids)
    draws = [found.arm, found.traffic, layer_buckets(scheme, "a", ids), layer_buckets(scheme, "b", ids)]
    for draw in draws:
        counts = np.bincount(draw // 500, minlength=20)
        # Chi-square with 19 degrees of freedom: 50.8 is its 0.9999 quantile.
        assert ((counts - 5000) ** 2 / 5000).sum() < 50.8
    for place, one in enumerate(draws):
        for other in draws[place + 1 :]:
            table = np.bincount((one // 1000) * 10 + other // 1000, minlength=100)
            # Of 100 cells, the margins taken as even: 0.9999 quantile of 99 degrees of freedom, 159.
            assert ((table - 1000) ** 2 / 1000).sum() < 159


def test_no_units_have_no_buckets() -> None:
    for scheme in SCHEMES:
        assert bucket_columns(scheme, "x", 1, []).arm.tolist() == []


def test_percent_v1_reads_the_buckets_of_sha256_modulo_100() -> None:
    table = arms_of_buckets("percent-v1", {"control": 0.5, "treatment": 0.5})
    assert table[:50] == ["treatment"] * 50
    assert table[50:100] == ["control"] * 50
    assert table == table[:100] * 100
    assert hash_of_scheme("percent-v1") == "sha256-v1"


@pytest.mark.parametrize("scheme", ["md5", "", "none"])
def test_an_unknown_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(ValueError, match="scheme must be one of sha256-v1, percent-v1, flagd"):
        bucket_columns(scheme, "x", 1, ["u"])
    with pytest.raises(ValueError, match="scheme"):
        arm_of("x", 1, "u", {"a": 0.5, "b": 0.5}, scheme=scheme)
