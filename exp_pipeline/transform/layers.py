"""Which units an experiment may have at all: its part of its layer, less the global holdout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.transform.assignment import arms_of_buckets, inside_traffic
from exp_pipeline.transform.hashing import Buckets64, bucket_columns, layer_buckets

Outside = Literal["held_out", "outside_layer", "outside_traffic"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one unit belongs: an arm, or the reason why it is in none."""

    arm: str | None
    outside: Outside | None = None


def buckets_in(layer: Layer, unit_ids: Sequence[str]) -> Buckets64:
    """Which bucket of a layer each unit is in; shape `(units,)`, each 0 to 9,999."""
    return layer_buckets(layer.hash_scheme, layer.salt or layer.name, unit_ids)


def eligible(limits: Limits, experiment: str, unit_ids: Sequence[str]) -> list[Outside | None]:
    """What keeps each unit out of an experiment by layers; None where nothing does. Holdouts come first."""
    outside: list[Outside | None] = [None] * len(unit_ids)
    found = limits.layer_range(experiment)
    if limits.layer is not None and found is not None:
        drawn = buckets_in(limits.layer, unit_ids)
        for place in np.flatnonzero((drawn < found[0]) | (drawn >= found[1])).tolist():
            outside[place] = "outside_layer"
    if limits.holdout is not None:
        held = buckets_in(limits.holdout, unit_ids) < limits.holdout.held_out()
        for place in np.flatnonzero(held).tolist():
            outside[place] = "held_out"
    return outside


def placed(
    brief: Brief, limits: Limits, unit_ids: Sequence[str], *, traffic: float | None = None
) -> list[Placed]:
    """Where the brief's own rules put each unit: holdout, layer, traffic share, then the hash of the arm.

    unit_ids are ids as the product hashes them. `traffic` stands in for the brief's share (a ramp's stage).
    Raises ValueError where the brief's scheme is `none`.
    """
    if brief.hash_scheme == "none":
        raise ValueError(f"hash_scheme of {brief.name} is none: no hash tells its arms")
    share = brief.traffic if traffic is None else traffic
    columns = bucket_columns(brief.hash_scheme, brief.name, brief.version, unit_ids)
    arms = arms_of_buckets(brief.hash_scheme, brief.shares())
    found = []
    outside = eligible(limits, brief.name, unit_ids)
    for why, arm, bucket in zip(outside, columns.arm.tolist(), columns.traffic.tolist(), strict=True):
        if why is None and not inside_traffic(bucket, share):
            why = "outside_traffic"
        found.append(Placed(arms[arm] if why is None else None, why))
    return found
