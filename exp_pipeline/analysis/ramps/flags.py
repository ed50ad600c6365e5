"""What does the flag of an experiment say where its ramp stands, and to whom?"""

from __future__ import annotations

from itertools import groupby

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.flags import Draw, FlagSpec
from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.model.ramps import RampState
from exp_pipeline.transform.assignment import arms_of_buckets, inside_traffic
from exp_pipeline.transform.hashing import BUCKETS, flag_key


def flag_of(brief: Brief, limits: Limits, state: RampState) -> FlagSpec:
    """What does the flag say? brief: with the fields of assignment as they were locked.

    A unit is enrolled where holdout, layer and traffic let it in; its arm is a draw of its own, so that more
    traffic moves nobody. Raises ValueError for a brief whose arms no flag can carry.
    """
    if brief.hash_scheme == "none" or brief.assignment == "table":
        raise ValueError(f"no flag can carry the arms of {brief.name}: hash_scheme and assignment must hash")
    key = flag_key(brief.name, brief.version)
    holdouts: tuple[Draw, ...] = ()
    bounds: tuple[Draw, ...] = ()
    if limits.holdout is not None:
        held = limits.holdout.held_out()
        holdouts = (_layer_draw("holdout_bucket", limits.holdout, held, BUCKETS),)
    place = limits.layer_range(brief.name)
    if limits.layer is not None and place is not None:
        bounds = (_layer_draw("layer_bucket", limits.layer, *place),)
    traffic = Draw("traffic_bucket", brief.hash_scheme, f"{key}:traffic:", 0, buckets_inside(state.enrolled))
    rollout = Draw("rollout_bucket", brief.hash_scheme, f"{key}:rollout:", 0, buckets_inside(state.traffic))
    shipping = state.phase == "rollout"
    return FlagSpec(
        key=key,
        experiment=brief.name,
        version=brief.version,
        unit=brief.randomisation_unit,
        scheme=brief.hash_scheme,
        shares=brief.shares(),
        control=brief.control,
        on=state.status == "on" or (state.status == "closed" and shipping),
        status=state.status,
        phase=state.phase,
        stage=state.stage,
        traffic=state.traffic,
        sequence=state.sequence,
        inside=(*holdouts, *bounds, traffic),
        shipped=state.arm if shipping else None,
        shipped_to=(*holdouts, rollout) if shipping else (),
        shipped_where=_where(state) if shipping else (),
    )


def _where(state: RampState) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The segments that an arm is shipped to, as columns with their values."""
    columns = sorted({one.column for one in state.segments})
    return tuple(
        (column, tuple(sorted(one.value for one in state.segments if one.column == column)))
        for column in columns
    )


def own_stretches(spec: FlagSpec) -> tuple[str, list[tuple[str, int, int]]]:
    """Which arm has which stretch of a bucket that a product gives, and what the product calls that bucket.

    `percent-v1` has a hundred of them (`arm_percent`), every other scheme 10,000 (`arm_bucket`).
    """
    percent = spec.scheme == "percent-v1"
    laid = arms_of_buckets(spec.scheme, spec.shares)[: 100 if percent else BUCKETS]
    found, edge = [], 0
    for arm, run in groupby(laid):
        size = len(list(run))
        found.append((arm, edge, edge + size))
        edge += size
    return ("arm_percent" if percent else "arm_bucket"), found


def buckets_inside(share: float) -> int:
    """How many of the 10,000 traffic buckets a share lets in; counted as assignment counts them."""
    near = min(round(share * BUCKETS), BUCKETS)
    around = range(max(near - 2, 0), min(near + 2, BUCKETS))
    return around.start + sum(inside_traffic(bucket, share) for bucket in around)


def _layer_draw(name: str, layer: Layer, first: int, end: int) -> Draw:
    return Draw(name, layer.hash_scheme, f"layer={layer.salt or layer.name}:", first, end)
