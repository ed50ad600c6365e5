"""Five experiments at every stage of ramp and rollout: their flag files, and the arms that our hashes give.

`python -m exp_pipeline_tests.analysis.ramps.flag_stages FOLDER UNITS` writes the files of every stage and the
buckets of products that hash themselves; `golden/flags/flag_arms.py` lets the real SDKs read them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from exp_pipeline.analysis.ramps.flagd import SCHEMA, flagd_flag
from exp_pipeline.analysis.ramps.flags import flag_of
from exp_pipeline.analysis.ramps.growthbook import growthbook_feature
from exp_pipeline.model.brief import Arm, Brief
from exp_pipeline.model.flags import SHIPPED, FlagSpec
from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.model.ramps import RampState
from exp_pipeline.transform.assignment import inside_traffic
from exp_pipeline.transform.hashing import bucket_columns, flag_key, layer_buckets, rollout_buckets
from exp_pipeline.transform.layers import placed
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.golden.flags.flag_arms import unit

TRAFFIC = (0.01, 0.05, 0.25, 0.5)
ROLLOUT = (0.3, 1.0)
THREE = (Arm(name="control", share=0.34), Arm(name="ladder", share=0.33), Arm(name="ladder-fast", share=0.33))
STAGES: dict[str, RampState] = {
    **{
        f"ramp-{number}": RampState(status="on", stage=number, traffic=share, enrolled=share, sequence=number)
        for number, share in enumerate(TRAFFIC, start=1)
    },
    **{
        f"rollout-{number}": RampState(
            status="on",
            phase="rollout",
            stage=number,
            traffic=share,
            enrolled=0.5,
            sequence=4 + number,
            arm="ladder",
        )
        for number, share in enumerate(ROLLOUT, start=1)
    },
    "paused": RampState(status="paused", stage=4, enrolled=0.5, sequence=7),
}


def _layer(scheme: str, experiment: str) -> Layer:
    places = [{"experiment": experiment, "buckets": [500, 9_000]}]
    return Layer.model_validate({"name": f"l-{experiment}", "hash_scheme": scheme, "experiments": places})


def _holdout(scheme: str) -> Layer:
    return Layer.model_validate(
        {"name": "everybody", "kind": "holdout", "share": 0.02, "salt": "2026", "hash_scheme": scheme}
    )


EXPERIMENTS: dict[str, tuple[Brief, Limits]] = {
    brief.name: (
        brief,
        Limits(_layer(layered, brief.name) if layered else None, _holdout(held) if held else None),
    )
    for brief, layered, held in (
        (brief_of(name="ladder", hash_scheme="flagd-v2", arms=THREE), "flagd-v2", "flagd-v2"),
        (brief_of(name="tone", hash_scheme="flagd", arms=THREE, version=2), "flagd", "flagd"),
        (
            brief_of(name="pacing", hash_scheme="growthbook", arms=THREE, randomisation_unit="class"),
            "growthbook",
            "growthbook",
        ),
        (brief_of(name="retrieval", hash_scheme="sha256-v1", arms=THREE), "sha256-v1", "sha256-v1"),
        (brief_of(name="refund", hash_scheme="percent-v1", arms=THREE), "", ""),
    )
}
# Which release of flagd's evaluator reads which flags: that of scheme `flagd` hashes otherwise than before.
READ_BY = {"flagd": ("tone",), "flagd-v2": ("ladder", "pacing", "retrieval", "refund")}


def spec_of(name: str, stage: str) -> FlagSpec:
    """The flag of an experiment at a stage."""
    brief, limits = EXPERIMENTS[name]
    return flag_of(brief, limits, STAGES[stage])


def documents(stage: str, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What flagd and GrowthBook read at a stage."""
    specs = [spec_of(name, stage) for name in names]
    flagd = {
        "$schema": SCHEMA,
        "metadata": {"version": 1},
        "flags": {one.key: flagd_flag(one) for one in specs},
    }
    return flagd, {"features": {one.key: growthbook_feature(one) for one in specs}}


def given(name: str, stage: str, units: int) -> list[str]:
    """What our own hashes give to each unit, in the words of `flag_arms`."""
    state, columns = STAGES[stage], _columns(name, units)
    if state.status == "paused":
        return ["-"] * units
    out = round(state.traffic * 10_000) if state.phase == "rollout" else 0
    return [
        f"{SHIPPED}=ladder"
        if rollout < out and not held
        else f"{arm}={arm}"
        if arm is not None and inside_traffic(traffic, state.enrolled)
        else "-"
        for arm, traffic, rollout, held in columns
    ]


@cache
def _columns(name: str, units: int) -> list[tuple[str | None, int, int, bool]]:
    """Of each unit its arm at full traffic, buckets of traffic and rollout, and whether it is held out."""
    brief, limits = EXPERIMENTS[name]
    ids = [unit(number) for number in range(units)]
    arms = [place.arm for place in placed(brief, limits, ids, traffic=1.0)]
    traffic = bucket_columns(brief.hash_scheme, brief.name, brief.version, ids).traffic
    rollout = rollout_buckets(brief.hash_scheme, brief.name, brief.version, ids)
    held = np.zeros(units, dtype=bool)
    if limits.holdout is not None:
        held = layer_buckets(limits.holdout.hash_scheme, "2026", ids) < limits.holdout.held_out()
    return list(zip(arms, traffic.tolist(), rollout.tolist(), held.tolist(), strict=True))


def own_buckets(name: str, units: int) -> dict[str, list[int]]:
    """The buckets that a product gives which hashes by the brief's scheme itself."""
    brief, limits = EXPERIMENTS[name]
    ids = [unit(number) for number in range(units)]
    columns = bucket_columns(brief.hash_scheme, brief.name, brief.version, ids)
    found = {
        "arm_bucket": columns.arm,
        "traffic_bucket": columns.traffic,
        "rollout_bucket": rollout_buckets(brief.hash_scheme, brief.name, brief.version, ids),
    }
    if brief.hash_scheme == "percent-v1":
        found["arm_percent"] = columns.arm % 100
    if limits.layer is not None:
        found["layer_bucket"] = layer_buckets(limits.layer.hash_scheme, limits.layer.name, ids)
    if limits.holdout is not None:
        found["holdout_bucket"] = layer_buckets(limits.holdout.hash_scheme, "2026", ids)
    return {bucket: column.tolist() for bucket, column in found.items()}


def write(folder: Path, units: int) -> None:
    """Write the files of every stage, in a folder for each release of flagd that reads them."""
    for release, names in READ_BY.items():
        place = folder / release
        place.mkdir(parents=True, exist_ok=True)
        for stage in STAGES:
            for kind, document in zip(("flagd", "growthbook"), documents(stage, names), strict=True):
                (place / f"{stage}.{kind}.json").write_text(json.dumps(document, indent=1))
        keys = {name: flag_key(EXPERIMENTS[name][0].name, EXPERIMENTS[name][0].version) for name in names}
        own = {keys[name]: own_buckets(name, units) for name in names}
        (place / "buckets.json").write_text(json.dumps(own))


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
