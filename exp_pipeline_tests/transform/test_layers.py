"""Layers keep experiments apart, a holdout keeps everybody out, and a ramp only ever adds units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.model.layers import Layer, LayerPlace, Limits
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline.transform.layers import buckets_in, eligible, placed
from exp_pipeline_tests.analysis.builders import brief_of

UNITS = [f"learner-{number}" for number in range(100_000)]
HOLDOUT = Layer(name="global", kind="holdout", share=0.05)


def layer_of(*places: tuple[str, int, int], **more: object) -> Layer:
    return Layer.model_validate(
        {"name": "tutor", "experiments": [{"experiment": n, "buckets": [a, b]} for n, a, b in places]} | more
    )


@given(
    edges=st.lists(st.integers(1, 9_999), min_size=1, max_size=6, unique=True).map(sorted),
    salt=st.text(st.characters(codec="utf-8", exclude_characters="|"), max_size=10),
    scheme=st.sampled_from(["sha256-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook"]),
)
@settings(max_examples=25, deadline=None)
def test_every_unit_is_in_exactly_one_part_of_a_divided_layer(
    edges: list[int], salt: str, scheme: str
) -> None:
    bounds = [0, *edges, 10_000]
    names = [f"experiment-{place}" for place in range(len(bounds) - 1)]
    layer = layer_of(*zip(names, bounds, bounds[1:], strict=False), salt=salt, hash_scheme=scheme)
    units = UNITS[:500]
    inside = [[why is None for why in eligible(Limits(layer), name, units)] for name in names]
    assert np.array(inside).sum(axis=0).tolist() == [1] * len(units)


def test_an_experiment_without_a_place_in_its_layer_has_nobody() -> None:
    limits = Limits(layer_of(("other", 0, 10_000)))
    assert set(eligible(limits, "mine", UNITS[:50])) == {"outside_layer"}
    assert limits.share("mine") == 0.0


def test_shares_of_layer_and_holdout_are_what_they_say() -> None:
    limits = Limits(layer_of(("mine", 2_000, 5_000)), HOLDOUT)
    found = eligible(limits, "mine", UNITS)
    held = found.count("held_out")
    inside = found.count(None)
    # Four standard errors of binomial counts: sqrt(1e5 * 0.05 * 0.95) = 69, sqrt(1e5 * 0.285 * 0.715) = 143.
    assert abs(held - 5_000) < 4 * 69
    assert limits.share("mine") == pytest.approx(0.285)
    assert abs(inside - 28_500) < 4 * 143


def test_layers_are_drawn_apart_from_one_another_and_from_arms() -> None:
    one = buckets_in(layer_of(salt="a"), UNITS) // 1000
    two = buckets_in(layer_of(salt="b"), UNITS) // 1000
    table = np.bincount(one * 10 + two, minlength=100).reshape(10, 10)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    # Chi-square with 81 degrees of freedom: 137 is its 0.9999 quantile.
    assert ((table - expected) ** 2 / expected).sum() < 137
    treated = [arm_of("mine", 1, unit, {"a": 0.5, "b": 0.5}) == "b" for unit in UNITS[:20_000]]
    by_layer = np.bincount(one[:20_000], weights=treated, minlength=10) / np.bincount(one[:20_000])
    # About 2,000 a layer part: standard error 0.011; five of them.
    assert np.abs(by_layer - 0.5).max() < 5 * 0.0112


def test_the_same_salt_draws_the_same_whatever_the_layer_is_called() -> None:
    named = Layer(name="tutor")
    assert (buckets_in(named, UNITS[:99]) == buckets_in(Layer(name="x", salt="tutor"), UNITS[:99])).all()
    assert (buckets_in(named, UNITS[:99]) != buckets_in(Layer(name="x"), UNITS[:99])).any()


@pytest.mark.parametrize("scheme", ["sha256-v1", "percent-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook"])
def test_a_ramp_within_layer_and_holdout_only_adds_units(scheme: str) -> None:
    brief = brief_of(hash_scheme=scheme, layer="tutor")
    limits = Limits(layer_of((brief.name, 0, 6_000)), HOLDOUT)
    before: dict[str, str] = {}
    for traffic in (0.01, 0.05, 0.25, 0.5, 1.0):
        places = placed(brief, limits, UNITS[:3000], traffic=traffic)
        arms = {unit: place.arm for unit, place in zip(UNITS, places, strict=False) if place.arm is not None}
        assert before.items() <= arms.items()
        assert all((place.arm is None) == (place.outside is not None) for place in places)
        before = {unit: arm for unit, arm in arms.items() if arm is not None}
    whole = {
        unit for unit, why in zip(UNITS, eligible(limits, brief.name, UNITS[:3000]), strict=False) if not why
    }
    assert set(before) == whole
    assert all(
        arm == arm_of(brief.name, 1, unit, brief.shares(), scheme=scheme) for unit, arm in before.items()
    )


def test_no_hash_tells_where_a_unit_without_scheme_belongs() -> None:
    with pytest.raises(ValueError, match="hash_scheme"):
        placed(brief_of(hash_scheme="none"), Limits(), ["u"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "holdout"}, "share is required"),
        ({"kind": "holdout", "share": 0.00005}, "ten-thousandths"),
        ({"share": 0.1}, "share belongs to kind: holdout"),
        ({"salt": "a|b"}, "pattern"),
        ({"kind": "holdout", "share": 0.1, "experiments": [{"experiment": "x", "buckets": [0, 1]}]}, "empty"),
        ({"experiments": [{"experiment": "x", "buckets": [0, 1]}] * 2}, "once each: x"),
        ({"experiments": [{"experiment": "x", "buckets": [5, 5]}]}, "first < end"),
        ({"experiments": [{"experiment": "x", "buckets": [0, 10_001]}]}, "first < end"),
        ({"experiments": [{"experiment": "x", "buckets": [-1, 9]}]}, "first < end"),
    ],
)
def test_layers_check_themselves(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Layer.model_validate({"name": "tutor"} | fields)


def test_a_place_knows_its_share() -> None:
    assert LayerPlace(experiment="x", buckets=(0, 2_500)).share == 0.25
    assert Limits().share("x") == 1.0
    assert Limits().draws() is None
    assert Limits(None, HOLDOUT).draws() == "|sha256-v1:global"
