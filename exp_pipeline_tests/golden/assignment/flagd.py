"""Makes `golden_<scheme>.json`: which variant flagd's own evaluator gives to units, by its three versions.

Run it once for each version, in an environment of its own that has none of our code:

    pip install openfeature-provider-flagd==0.6.1   # openfeature-flagd-core 2.0.0
    python flagd.py flagd
    pip install openfeature-provider-flagd==0.5.2   # openfeature-flagd-core 1.0.0
    python flagd.py flagd-v2
    pip install openfeature-provider-flagd==0.2.5
    python flagd.py flagd-v1
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PACKAGES = ("openfeature-provider-flagd", "openfeature-flagd-core", "openfeature-sdk", "mmh3", "cbor2")
# Around each length at which CBOR's header of a text grows: 23, 24, 255 and 256 bytes.
LENGTHS = (1, 2, 3, 4, 5, 22, 23, 24, 25, 254, 255, 256, 257)
UNITS = [
    *(f"learner-{number:05d}" for number in range(1000)),
    *("x" * length for length in LENGTHS),
    *(f"{'y' * length}-{number}" for length in LENGTHS for number in range(10)),
    *(f"élève-{number}" for number in range(40)),
    *(f"生徒 {number} 🎓" for number in range(40)),
    "a'; drop table units; --", '"quoted"', "tab\tand\nline", "0", "-1", "1e3", "true", "null",
]  # fmt: skip
CASES: list[tuple[str, dict[str, int], int]] = [
    ("hint-ladder", {"control": 5000, "treatment": 5000}, 10_000),
    ("hint-ladder", {"control": 3400, "ladder": 3300, "ladder-fast": 3300}, 10_000),
    ("hint-ladder:v2", {"control": 5000, "treatment": 5000}, 10_000),
    ("class-pacing", {"control": 9999, "rare": 1}, 10_000),
    ("class-pacing", {"a": 3334, "b": 3333, "c": 3333}, 10_000),
    ("tone", {"control": 5000, "treatment": 5000}, 100),
    ("tone", {"control": 5000, "treatment": 5000}, 2_500),
    ("tone", {"control": 1000, "treatment": 9000}, 9_999),
]


def rule_of(flag: str, weights: dict[str, int], inside: int) -> dict[str, Any]:
    """The flag's targeting: a gate for traffic where some stay outside, then the arms."""
    arms: dict[str, Any] = {"fractional": [[arm, weight] for arm, weight in weights.items()]}
    if inside == 10_000:
        return arms
    by = {"cat": [f"{flag}:traffic:", {"var": "targetingKey"}]}
    gate = {"fractional": [by, ["inside", inside], ["outside", 10_000 - inside]]}
    return {"if": [{"==": [gate, "inside"]}, arms, None]}


def main(scheme: str) -> None:
    """Write the golden of one scheme."""
    root = "openfeature.contrib"
    try:
        targeting = import_module(f"{root}.tools.flagd.core.targeting").targeting
    except ModuleNotFoundError:
        targeting = import_module(f"{root}.provider.flagd.resolvers.process.targeting").targeting
    context = import_module("openfeature.evaluation_context").EvaluationContext
    installed = {one.metadata["Name"].lower(): one.version for one in distributions()}
    cases = []
    for flag, weights, inside in CASES:
        rule = rule_of(flag, weights, inside)
        arms = [*weights, None]
        given = [arms.index(targeting(flag, rule, context(targeting_key=unit))) for unit in UNITS]
        # One digit a unit: the arm's place, and one more than the last for nobody's.
        cases.append({"flag": flag, "weights": weights, "rule": rule, "places": "".join(map(str, given))})
    content = {
        "made_by": {name: installed[name] for name in PACKAGES if name in installed},
        "units": UNITS,
        "cases": cases,
    }
    path = Path(__file__).with_name(f"golden_{scheme}.json")
    path.write_text(json.dumps(content, ensure_ascii=True, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
