"""Flags in the words of GrowthBook: the features that its SDKs read."""

from __future__ import annotations

from pydantic import JsonValue

from exp_pipeline.analysis.ramps.flags import own_stretches
from exp_pipeline.model.flags import Draw, FlagSpec
from exp_pipeline.transform.hashing import BUCKETS

NATIVE = "growthbook"
# Which attribute of a user holds the id that is hashed.
ATTRIBUTES = {"learner": "id", "class": "class_id"}


def growthbook_feature(spec: FlagSpec) -> dict[str, JsonValue]:
    """One feature as GrowthBook's SDKs read it; its value is the arm to show, by default control's.

    A unit is in the experiment where the SDK says so. With scheme `growthbook` the SDK draws the buckets
    itself (hash version 2); for any other the product gives its buckets as attributes, `<flag>.arm_bucket`
    and so on.
    """
    rules: list[JsonValue] = []
    if spec.on:
        if spec.shipped is not None:
            where = _where(spec)
            rules.append({**_gates(spec, spec.shipped_to, where), "force": spec.shipped})
        rules += _arm_rules(spec)
    return {"defaultValue": spec.control, "rules": rules}


def _arm_rules(spec: FlagSpec) -> list[JsonValue]:
    arms = list(spec.shares)
    values: list[JsonValue] = list(arms)
    whole: dict[str, JsonValue] = {
        "key": spec.key,
        "name": spec.experiment,
        "phase": str(spec.version),
        "hashAttribute": ATTRIBUTES[spec.unit],
        "hashVersion": 2,
        "seed": spec.key,
        "variations": values,
        "meta": [{"key": arm} for arm in arms],
    }
    name, ranges = own_stretches(spec)
    if spec.scheme == NATIVE:
        stretches: list[JsonValue] = [
            [low / BUCKETS, high / BUCKETS] for low, high in _in_order(ranges, arms)
        ]
        return [{**whole, **_gates(spec, spec.inside), "ranges": stretches}]
    rules: list[JsonValue] = []
    for arm, low, high in ranges:
        own: dict[str, JsonValue] = {f"{spec.key}.{name}": {"$gte": low, "$lt": high}}
        gates = _gates(spec, spec.inside, own)
        only: list[JsonValue] = [[0.0, 1.0] if one == arm else [0.0, 0.0] for one in arms]
        rules.append({**whole, **gates, "ranges": only})
    return rules


def _where(spec: FlagSpec) -> dict[str, JsonValue]:
    """The condition that a unit is in one of the segments that the arm is shipped to; empty for everybody."""
    any_of: list[JsonValue] = [{column: {"$in": list(values)}} for column, values in spec.shipped_where]
    return {"$or": any_of} if any_of else {}


def _in_order(ranges: list[tuple[str, int, int]], arms: list[str]) -> list[tuple[int, int]]:
    """The stretch of each arm, in the order of the arms; an arm too small for a bucket has an empty one."""
    held = {arm: (low, high) for arm, low, high in ranges}
    return [held.get(arm, (0, 0)) for arm in arms]


def _gates(
    spec: FlagSpec, draws: tuple[Draw, ...], own: dict[str, JsonValue] | None = None
) -> dict[str, JsonValue]:
    """Filters for draws that the SDK makes, and conditions on buckets that the product gives."""
    filters: list[JsonValue] = []
    condition: dict[str, JsonValue] = dict(own or {})
    for draw in draws:
        if draw.first == 0 and draw.end == BUCKETS:
            continue
        if draw.scheme == NATIVE:
            filters.append(
                {
                    "attribute": ATTRIBUTES[spec.unit],
                    "seed": draw.seed,
                    "hashVersion": 2,
                    "ranges": [[draw.first / BUCKETS, draw.end / BUCKETS]],
                }
            )
        else:
            condition[f"{spec.key}.{draw.name}"] = {"$gte": draw.first, "$lt": draw.end}
    found: dict[str, JsonValue] = {}
    if filters:
        found["filters"] = filters
    if condition:
        found["condition"] = condition
    return found
