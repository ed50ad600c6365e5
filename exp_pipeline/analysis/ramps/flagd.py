"""Flags in the words of flagd, which OpenFeature's SDKs read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pydantic import JsonValue

from exp_pipeline.analysis.ramps.flags import own_stretches
from exp_pipeline.model.flags import NOT_ENROLLED, SHIPPED, Draw, FlagSpec
from exp_pipeline.transform.assignment import arms_of_buckets
from exp_pipeline.transform.hashing import BUCKETS

SCHEMA = "https://flagd.dev/schema/v0/flags.json"
NATIVE = ("flagd", "flagd-v2", "flagd-v1")


def flagd_flag(spec: FlagSpec) -> dict[str, JsonValue]:
    """One flag as flagd reads it.

    Variants are the arms, `not_enrolled` (control's experience, outside the experiment) and, once an arm is
    shipped, `shipped_arm`. Where the scheme is flagd's own, flagd draws the buckets itself; for any other the
    product gives its buckets in the context, as `<flag>.arm_bucket` and so on, and a unit without them is not
    enrolled.
    """
    values: dict[str, JsonValue] = {arm: arm for arm in spec.shares}
    values[NOT_ENROLLED] = spec.control
    if spec.shipped is not None:
        values[SHIPPED] = spec.shipped
    flag: dict[str, JsonValue] = {
        "state": "ENABLED",
        "variants": values,
        "defaultVariant": NOT_ENROLLED,
        "metadata": {
            "experiment": spec.experiment,
            "experiment_version": spec.version,
            "unit": spec.unit,
            "hash_scheme": spec.scheme,
            "status": spec.status,
            "phase": spec.phase,
            "stage": spec.stage,
            "traffic": spec.traffic,
            "sequence": spec.sequence,
        },
    }
    if spec.on:
        flag["targeting"] = _targeting(spec)
    return flag


def _targeting(spec: FlagSpec) -> dict[str, JsonValue]:
    gates = [_is_in(spec, draw) for draw in spec.inside if not _everybody(draw)]
    arms = _arms(spec)
    rule: dict[str, JsonValue] = {"if": [_all(gates), arms, None]} if gates else arms
    if spec.shipped is None:
        return rule
    shipped = [_is_in(spec, draw) for draw in spec.shipped_to if not _everybody(draw)]
    where: list[JsonValue] = [
        {"in": [{"var": column}, list(values)]} for column, values in spec.shipped_where
    ]
    if where:
        shipped.append({"or": where})
    return {"if": [_all(shipped) if shipped else True, SHIPPED, rule]}


def _arms(spec: FlagSpec) -> dict[str, JsonValue]:
    """The arm of a unit that is enrolled, by the arm's own draw."""
    laid = arms_of_buckets(spec.scheme, spec.shares)
    if spec.scheme in NATIVE:
        weights: list[JsonValue] = [[arm, len(list(run))] for arm, run in groupby(laid)]
        return {"fractional": weights}
    name, stretches = own_stretches(spec)
    own = _own(spec, name)
    branches: list[JsonValue] = []
    for arm, _, end in stretches:
        branches += [{"<": [own, end]}, arm]
    return {"if": [{"<": [own, 0]}, None, *branches, None]}


def _is_in(spec: FlagSpec, draw: Draw) -> dict[str, JsonValue]:
    """Whether a unit's bucket of a draw lies in its range."""
    if draw.scheme not in NATIVE or draw.scheme != _evaluator(spec):
        own = _own(spec, draw.name)
        return {"and": [{">=": [own, draw.first]}, {"<": [own, draw.end]}]}
    text: JsonValue = {"cat": [draw.seed, {"var": "targetingKey"}]}
    weights: list[JsonValue] = [["in", draw.end - draw.first], ["after", BUCKETS - draw.end]]
    if draw.first:
        weights.insert(0, ["before", draw.first])
    return {"==": [{"fractional": [text, *weights]}, "in"]}


def _evaluator(spec: FlagSpec) -> str:
    """Which version of flagd a product of this experiment runs; two at once cannot be."""
    return spec.scheme if spec.scheme in NATIVE else "flagd"


def _own(spec: FlagSpec, name: str) -> dict[str, JsonValue]:
    """A bucket that the product gives; -1, which is in no range, where it gives none."""
    return {"var": [f"{spec.key}.{name}", -1]}


def _everybody(draw: Draw) -> bool:
    return draw.first == 0 and draw.end == BUCKETS


def _all(gates: Sequence[dict[str, JsonValue]]) -> dict[str, JsonValue]:
    return gates[0] if len(gates) == 1 else {"and": list(gates)}
