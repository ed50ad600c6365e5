"""Drawn arms keep the plan, do not hang on the list's order, and are as random as they claim."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.model.draws import DrawDesign
from exp_pipeline.transform.drawing import DrawnUnit, ListedUnit, draw_arms

HALVES = {"control": 0.5, "treatment": 0.5}
THIRDS = {"control": 0.34, "a": 0.33, "b": 0.33}
STRATIFIED = DrawDesign(method="stratified", strata=("school",))


def listed(count: int, strata: int = 1, seed: int = 0) -> list[ListedUnit]:
    rng = np.random.default_rng(seed)
    return [
        ListedUnit(f"unit-{place}", f"s{rng.integers(strata)}", tuple(rng.normal(size=2).tolist()))
        for place in range(count)
    ]


def as_dict(drawn: list[DrawnUnit]) -> dict[str, DrawnUnit]:
    return {one.unit_id: one for one in drawn}


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 120),
    strata=st.integers(1, 30),
    seed=st.integers(0, 99),
    shares=st.sampled_from([HALVES, THIRDS, {"control": 0.9, "treatment": 0.1}]),
)
def test_strata_and_the_whole_are_within_one_unit_of_the_plan(
    count: int, strata: int, seed: int, shares: dict[str, float]
) -> None:
    units = listed(count, strata, seed)
    drawn = draw_arms(units, shares, STRATIFIED, seed)
    assert [one.unit_id for one in drawn] == [unit.unit_id for unit in units]
    for stratum in {unit.stratum for unit in units} | {None}:
        mine = [one.arm for one in drawn if stratum is None or one.stratum == stratum]
        for arm, share in shares.items():
            assert abs(mine.count(arm) - share * len(mine)) < 1


@pytest.mark.parametrize(
    "design",
    [
        STRATIFIED,
        DrawDesign(method="simple"),
        DrawDesign(method="matched", match=("score",)),
        DrawDesign(method="matched", match=("score", "size")),
    ],
)
def test_the_order_of_the_list_does_not_matter(design: DrawDesign) -> None:
    units = listed(101, 7)
    one_score = [ListedUnit(unit.unit_id, unit.stratum, unit.match[:1]) for unit in units]
    used = one_score if len(design.match) == 1 else units
    there = as_dict(draw_arms(used, HALVES, design, 5))
    back = as_dict(draw_arms(used[::-1], HALVES, design, 5))
    assert there == back
    other = as_dict(draw_arms(used, HALVES, design, 6))
    assert {name: one.arm for name, one in there.items()} != {name: one.arm for name, one in other.items()}


def test_an_arm_is_as_likely_as_planned_also_where_strata_hold_one_unit() -> None:
    # The largest remainder would put every one of these units into control.
    units = [ListedUnit(f"unit-{place}", f"stratum-{place}") for place in range(40)]
    shares = {"control": 0.6, "treatment": 0.4}
    seen = Counter[str]()
    for seed in range(300):
        drawn = draw_arms(units, shares, STRATIFIED, seed)
        assert sum(one.arm == "control" for one in drawn) == 24
        seen.update(one.unit_id for one in drawn if one.arm == "control")
    # 300 draws a unit: standard error sqrt(300 * 0.24) = 8.5; five of them, over 40 units.
    assert all(abs(seen[unit.unit_id] - 180) < 5 * 8.5 for unit in units)


def test_two_units_of_a_stratum_are_no_more_often_together_than_chance() -> None:
    units = [ListedUnit(f"unit-{place}", "only") for place in range(10)]
    together = 0
    for seed in range(2000):
        arms = {one.unit_id: one.arm for one in draw_arms(units, HALVES, STRATIFIED, seed)}
        together += arms["unit-3"] == arms["unit-7"]
    # 5 of 10 in each arm: two share one with probability 4/9; standard error sqrt(2000 * 20/81) = 22.
    assert abs(together - 2000 * 4 / 9) < 4 * 22.3


def test_blocks_hold_their_counts_in_the_order_of_the_list() -> None:
    units = listed(203, 3)
    drawn = draw_arms(units, {"control": 0.75, "treatment": 0.25}, DrawDesign(method="blocked", block=8), 2)
    assert [one.unit_id for one in drawn] == [unit.unit_id for unit in units]
    blocks: dict[str, list[str]] = {}
    for one in drawn:
        blocks.setdefault(one.stratum, []).append(one.arm)
    for stratum in ("s0", "s1", "s2"):
        mine = [arms for label, arms in blocks.items() if label.startswith(f"{stratum}/")]
        assert [len(arms) for arms in mine[:-1]] == [8] * (len(mine) - 1)
        assert all(arms.count("control") == 6 for arms in mine[:-1])
        assert len(mine[-1]) == sum(unit.stratum == stratum for unit in units) - 8 * (len(mine) - 1)
        assert mine[-1].count("treatment") <= 2
    patterns = {tuple(arms) for arms in blocks.values() if len(arms) == 8}
    assert len(patterns) > 8


def test_pairs_are_neighbours_and_split() -> None:
    units = [ListedUnit(f"class-{place:02d}", "", (float((place * 37) % 50),)) for place in range(50)]
    drawn = as_dict(draw_arms(units, HALVES, DrawDesign(method="matched", match=("score",)), 1))
    pairs: dict[str, list[ListedUnit]] = {}
    for unit in units:
        pairs.setdefault(drawn[unit.unit_id].stratum, []).append(unit)
    assert len(pairs) == 25
    for one, other in pairs.values():
        assert abs(one.match[0] - other.match[0]) == 1.0
        assert {drawn[one.unit_id].arm, drawn[other.unit_id].arm} == {"control", "treatment"}


def test_matching_on_several_columns_brings_units_nearer_than_chance() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(120, 2)) @ np.array([[3.0, 1.0], [0.0, 0.2]])
    units = [ListedUnit(f"u{place}", "", tuple(row)) for place, row in enumerate(values.tolist())]
    shares = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    drawn = draw_arms(units, shares, DrawDesign(method="matched", match=("x", "y")), 9)
    sets: dict[str, list[int]] = {}
    for place, one in enumerate(drawn):
        sets.setdefault(one.stratum, []).append(place)
    assert all({drawn[place].arm for place in places} == set(shares) for places in sets.values())
    within = np.mean([values[places].std(axis=0).mean() for places in sets.values()])
    assert within < 0.35 * values.std(axis=0).mean()


def test_alone_each_unit_is_drawn_for_itself() -> None:
    units = listed(20_000)
    design = DrawDesign(method="simple")
    drawn = as_dict(draw_arms(units, THIRDS, design, 3))
    some = draw_arms(units[100:200], THIRDS, design, 3)
    assert [drawn[one.unit_id].arm for one in some] == [one.arm for one in some]
    counts = Counter(one.arm for one in drawn.values())
    # Four standard errors of a binomial share, sqrt(0.34 * 0.66 / 20000) = 0.0034.
    assert all(abs(counts[arm] / 20_000 - share) < 4 * 0.0034 for arm, share in THIRDS.items())


@pytest.mark.parametrize(
    ("shares", "design", "said"),
    [
        (HALVES, DrawDesign(method="blocked", block=5), "sizes that fit: 2, 4, 6, 8, 10"),
        (THIRDS, DrawDesign(method="blocked", block=4), "sizes that fit: 100, 200"),
        (THIRDS, DrawDesign(method="matched", match=("x",)), "equal shares"),
    ],
)
def test_designs_that_cannot_hold_the_shares_are_refused(
    shares: dict[str, float], design: DrawDesign, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        draw_arms(listed(20), shares, design, 1)


def test_a_unit_stands_once_in_the_list() -> None:
    with pytest.raises(ValueError, match="unit_id must differ"):
        draw_arms([ListedUnit("a"), ListedUnit("a")], HALVES, STRATIFIED, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "blocked"}, "block"),
        ({"method": "stratified", "block": 4}, "block"),
        ({"method": "matched"}, "match"),
        ({"method": "simple", "strata": ("a",)}, "strata"),
    ],
)
def test_designs_check_themselves(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DrawDesign.model_validate(wrong)
