"""Arms for a list of units, drawn once from a seed: the same list, design and seed give the same arms.

Nothing here draws from a random generator: every random choice is a hash of seed, purpose and unit, so a draw
does not depend on a library's version, and (but for blocks, which follow the list) not on the list's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exp_pipeline.model.draws import DrawDesign
from exp_pipeline.transform.assignment import arm_at, arms_of_buckets
from exp_pipeline.transform.hashing import BUCKETS, number_of
from exp_pipeline.transform.rounding import rounded_counts


@dataclass(frozen=True, slots=True)
class ListedUnit:
    """One unit of the list: its id, its stratum (empty where there is none), and what it is matched on."""

    unit_id: str
    stratum: str = ""
    match: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DrawnUnit:
    """One unit with its arm, and the stratum, block or matched set within which it was drawn."""

    unit_id: str
    arm: str
    stratum: str


def draw_arms(
    units: Sequence[ListedUnit], shares: Mapping[str, float], design: DrawDesign, seed: int
) -> list[DrawnUnit]:
    """Which arm does each unit of the list get? In the order of the list.

    shares: planned share by arm, adding up to 1. Raises ValueError for ids that stand twice, for shares that
    a block of this size cannot hold, and for matching with unequal shares.
    """
    ids = [unit.unit_id for unit in units]
    if len(set(ids)) != len(ids):
        raise ValueError("unit_id must differ from unit to unit")
    if design.method == "simple":
        arms = {unit.unit_id: _alone(unit.unit_id, shares, seed) for unit in units}
        return [DrawnUnit(unit.unit_id, arms[unit.unit_id], unit.stratum) for unit in units]
    strata: dict[str, list[ListedUnit]] = {}
    for unit in units:
        strata.setdefault(unit.stratum, []).append(unit)
    if design.method == "blocked":
        found = _in_blocks(strata, shares, design.block or 0, seed)
    elif design.method == "matched":
        found = _matched(strata, shares, seed)
    else:
        found = _in_strata(strata, shares, seed)
    return [found[unit.unit_id] for unit in units]


def _chance(seed: int, purpose: str, text: str) -> int:
    return number_of(f"draw={seed}:{purpose}:{text}")


def _alone(unit_id: str, shares: Mapping[str, float], seed: int) -> str:
    return arm_at(_chance(seed, "simple", unit_id) % BUCKETS / BUCKETS, shares)


def _shuffled(texts: Sequence[str], seed: int, purpose: str) -> list[str]:
    return sorted(texts, key=lambda text: (_chance(seed, purpose, text), text))


def _in_strata(
    strata: Mapping[str, Sequence[ListedUnit]], shares: Mapping[str, float], seed: int
) -> dict[str, DrawnUnit]:
    table = arms_of_buckets("sha256-v1", shares)
    arms = list(shares)
    names = _shuffled(list(strata), seed, "stratum")
    drawn = 0

    def chance(below: int) -> int:
        nonlocal drawn
        drawn += 1
        return _chance(seed, "round", str(drawn)) % below

    sizes = [len(strata[name]) for name in names]
    counts = rounded_counts(sizes, [table.count(arm) for arm in arms], chance)
    found = {}
    for name, row in zip(names, counts, strict=True):
        places = [arm for arm, count in zip(arms, row, strict=True) for _ in range(count)]
        shuffled = _shuffled([unit.unit_id for unit in strata[name]], seed, f"unit:{name}")
        for unit_id, arm in zip(shuffled, places, strict=True):
            found[unit_id] = DrawnUnit(unit_id, arm, name)
    return found


def block_counts(shares: Mapping[str, float], block: int) -> dict[str, int]:
    """How many units of each arm a whole block holds. Raises ValueError where that is no whole number."""
    counts = {arm: round(share * block) for arm, share in shares.items()}
    wrong = [arm for arm, share in shares.items() if abs(share * block - counts[arm]) > 1e-6]
    if wrong:
        fitting = [
            size
            for size in range(2, 1001)
            if all(abs(share * size - round(share * size)) <= 1e-6 for share in shares.values())
        ]
        allowed = (
            f"sizes that fit: {', '.join(map(str, fitting[:5]))}" if fitting else "no size up to 1000 fits"
        )
        raise ValueError(
            f"block of {block} cannot hold the planned shares: {wrong[0]} would have "
            f"{shares[wrong[0]] * block:g} units; {allowed}"
        )
    return counts


def _in_blocks(
    strata: Mapping[str, Sequence[ListedUnit]], shares: Mapping[str, float], block: int, seed: int
) -> dict[str, DrawnUnit]:
    counts = block_counts(shares, block)
    slots = [f"{arm}\x1f{place}" for arm, count in counts.items() for place in range(count)]
    found = {}
    for name, units in strata.items():
        for start in range(0, len(units), block):
            number = start // block + 1
            order = _shuffled(slots, seed, f"block:{name}:{number}")
            label = f"{name}/block-{number}" if name else f"block-{number}"
            for unit, slot in zip(units[start : start + block], order, strict=False):
                found[unit.unit_id] = DrawnUnit(unit.unit_id, slot.partition("\x1f")[0], label)
    return found


def _matched(
    strata: Mapping[str, Sequence[ListedUnit]], shares: Mapping[str, float], seed: int
) -> dict[str, DrawnUnit]:
    arms = list(shares)
    if max(shares.values()) - min(shares.values()) > 1e-9:
        raise ValueError(f"matched units need arms of equal shares, got {dict(shares)}")
    found = {}
    for name, units in strata.items():
        ordered = sorted(units, key=lambda unit: unit.unit_id)
        for number, places in enumerate(_alike(ordered, len(arms)), start=1):
            label = f"{name}/set-{number}" if name else f"set-{number}"
            order = _shuffled(arms, seed, f"match:{name}:{ordered[places[0]].unit_id}")
            for place, arm in zip(places, order, strict=False):
                found[ordered[place].unit_id] = DrawnUnit(ordered[place].unit_id, arm, label)
    return found


def _alike(units: Sequence[ListedUnit], size: int) -> list[list[int]]:
    """Sets of `size` units that resemble one another, the last one smaller where the number does not fit.

    One column: neighbours in its order. Several: the unit farthest from the middle with its nearest others,
    by Mahalanobis distance, then the farthest of those left, and so on.
    """
    values = np.array([unit.match for unit in units], dtype=np.float64).reshape(len(units), -1)
    if values.shape[1] == 1:
        order = sorted(range(len(units)), key=lambda place: (values[place, 0], units[place].unit_id))
        return [order[start : start + size] for start in range(0, len(order), size)]
    spread = _whitened(values)
    from_middle = (spread**2).sum(axis=1)
    left = np.ones(len(units), dtype=bool)
    sets = []
    while left.any():
        places = np.flatnonzero(left)
        first = int(places[np.argmax(np.round(from_middle[places], 9))])
        distance = np.round(((spread[places] - spread[first]) ** 2).sum(axis=1), 9)
        near = [int(places[place]) for place in np.argsort(distance, kind="stable")]
        chosen = [first, *(place for place in near if place != first)][:size]
        left[chosen] = False
        sets.append(chosen)
    return sets


def _whitened(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Columns turned and scaled so that plain distance is Mahalanobis distance; constant ones drop out."""
    centred = values - values.mean(axis=0)
    _, scale, turn = np.linalg.svd(centred, full_matrices=False)
    kept = scale > 1e-9 * max(float(scale.max(initial=0.0)), 1e-300)
    return np.asarray(centred @ turn[kept].T / scale[kept])
