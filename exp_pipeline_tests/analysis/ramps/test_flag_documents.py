"""The real SDKs give each unit the arm that assignment holds, at every stage, by every scheme.

`golden/flags/golden_flag_arms.json` holds what they gave to 100,000 units; where they are installed, some
units are asked again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from exp_pipeline.analysis.ramps.flagd import flagd_flag
from exp_pipeline.analysis.ramps.flags import buckets_inside, flag_of
from exp_pipeline.analysis.ramps.growthbook import growthbook_feature
from exp_pipeline.model.brief import Arm
from exp_pipeline.model.decisions import SegmentValue
from exp_pipeline.model.digests import digest_of
from exp_pipeline.model.flags import NOT_ENROLLED
from exp_pipeline.model.layers import Limits
from exp_pipeline.model.ramps import RampState
from exp_pipeline.transform.assignment import inside_traffic
from exp_pipeline.transform.hashing import BUCKETS, flag_key
from exp_pipeline.transform.layers import placed
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.analysis.ramps.flag_stages import (
    EXPERIMENTS,
    READ_BY,
    STAGES,
    documents,
    given,
    own_buckets,
)
from exp_pipeline_tests.golden.flags import flag_arms

GOLDEN = Path(flag_arms.__file__).with_name("golden_flag_arms.json")
RELEASES = [(release, name) for release, names in READ_BY.items() for name in names]
LIVE_UNITS = 400


@cache
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


@cache
def ours(name: str, stage: str) -> tuple[str, ...]:
    return tuple(given(name, stage, golden()["units"]))


def key_of(name: str) -> str:
    brief = EXPERIMENTS[name][0]
    return flag_key(brief.name, brief.version)


@pytest.mark.parametrize(("release", "name"), RELEASES)
def test_100_000_units_get_the_arm_that_assignment_holds_at_every_stage(release: str, name: str) -> None:
    assert golden()["units"] == 100_000
    run = golden()["runs"][release]
    for stage in STAGES:
        mine = ours(name, stage)
        expected = {
            "digest": hashlib.sha256("\n".join(mine).encode()).hexdigest(),
            "counts": dict(sorted(Counter(mine).items())),
        }
        assert run["stages"][stage]["flagd"][key_of(name)] == expected, stage
        assert run["stages"][stage]["growthbook"][key_of(name)] == expected, stage


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_held_against_the_sdks_is_what_assignment_gives(name: str) -> None:
    brief, limits = EXPERIMENTS[name]
    ids = [flag_arms.unit(number) for number in range(LIVE_UNITS)]
    for stage in ("ramp-1", "ramp-2", "ramp-3", "ramp-4"):
        places = placed(brief, limits, ids, traffic=STAGES[stage].enrolled)
        texts = ["-" if place.arm is None else f"{place.arm}={place.arm}" for place in places]
        assert given(name, stage, LIVE_UNITS) == texts


@pytest.mark.parametrize("release", READ_BY)
def test_what_is_published_today_is_what_the_sdks_were_asked_with(release: str) -> None:
    for stage in STAGES:
        flagd, growthbook = documents(stage, READ_BY[release])
        assert golden()["runs"][release]["stages"][stage]["documents"] == digest_of([flagd, growthbook]), (
            stage
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_unit_changes_arm_while_the_ramp_goes_up_and_all_that_came_stay(name: str) -> None:
    before = ours(name, "ramp-1")
    for stage in ("ramp-2", "ramp-3", "ramp-4"):
        after = ours(name, stage)
        assert all(old in ("-", new) for old, new in zip(before, after, strict=True)), stage
        assert sum(old != new for old, new in zip(before, after, strict=True)) > 1_000
        before = after
    for stage in ("rollout-1", "rollout-2"):
        after = ours(name, stage)
        assert all(new in (old, "shipped_arm=ladder") for old, new in zip(before, after, strict=True)), stage
        before = after
    # Those held out for good never get what was shipped; where there is no holdout, everybody does.
    held = sum(text != "shipped_arm=ladder" for text in before)
    limits = EXPERIMENTS[name][1]
    assert (held == 0) == (limits.holdout is None)
    assert held < 2_500


@pytest.mark.parametrize("stage", ["ramp-2", "ramp-4", "rollout-1", "paused"])
def test_the_installed_sdks_say_the_same(stage: str, tmp_path: Path) -> None:
    pytest.importorskip("openfeature.contrib.provider.flagd")
    pytest.importorskip("growthbook")
    # The installed release of the provider decides how `fractional` hashes.
    release = "flagd" if _cbor() else "flagd-v2"
    names = READ_BY[release]
    files = [tmp_path / "flags.flagd.json", tmp_path / "flags.growthbook.json"]
    for file, document in zip(files, documents(stage, names), strict=True):
        file.write_text(json.dumps(document), encoding="utf-8")
    own = {key_of(name): own_buckets(name, LIVE_UNITS) for name in names}
    expected = {key_of(name): given(name, stage, LIVE_UNITS) for name in names}
    assert flag_arms.by_growthbook(files[1], LIVE_UNITS, own) == expected
    assert flag_arms.by_flagd(files[0], LIVE_UNITS, own) == expected


def test_a_unit_whose_product_gives_no_buckets_is_not_enrolled(tmp_path: Path) -> None:
    pytest.importorskip("openfeature.contrib.provider.flagd")
    pytest.importorskip("growthbook")
    files = [tmp_path / "flags.flagd.json", tmp_path / "flags.growthbook.json"]
    for file, document in zip(files, documents("ramp-4", ("retrieval", "refund")), strict=True):
        file.write_text(json.dumps(document), encoding="utf-8")
    nobody = {"retrieval": ["-"] * 50, "refund": ["-"] * 50}
    assert flag_arms.by_flagd(files[0], 50, {}) == nobody
    assert flag_arms.by_growthbook(files[1], 50, {}) == nobody
    # Some gates open, but the arm's own bucket is missing.
    half = {
        "retrieval": {"traffic_bucket": [0] * 50, "layer_bucket": [600] * 50, "holdout_bucket": [9_000] * 50}
    }
    assert flag_arms.by_flagd(files[0], 50, half) == nobody
    assert flag_arms.by_growthbook(files[1], 50, half) == nobody


def test_a_scoped_rollout_reaches_its_segments_alone(tmp_path: Path) -> None:
    provider = pytest.importorskip("openfeature.contrib.tools.flagd.core.flagd_core")
    context = pytest.importorskip("openfeature.evaluation_context").EvaluationContext
    growthbook = pytest.importorskip("growthbook").GrowthBook
    where = (
        SegmentValue(column="platform", value="ios"),
        SegmentValue(column="platform", value="web"),
        SegmentValue(column="role", value="teacher"),
    )
    state = RampState(
        status="on", phase="rollout", stage=1, traffic=1.0, enrolled=0.0001, arm="treatment", segments=where
    )
    spec = flag_of(brief_of(name="scoped"), Limits(), state)
    core = provider.FlagdCore()
    core.set_flags({"flags": {spec.key: flagd_flag(spec)}})
    feature = growthbook_feature(spec)
    for platform, role, expected in (
        ("ios", "student", "treatment"),
        ("web", "student", "treatment"),
        ("android", "student", "control"),
        ("android", "teacher", "treatment"),
        (None, None, "control"),
        ("io", "student", "control"),
    ):
        known = {name: value for name, value in (("platform", platform), ("role", role)) if value is not None}
        own = {spec.key: {"rollout_bucket": 0}}
        assert core.resolve_string_value(spec.key, "", context("u", {**known, **own})).value == expected
        book = growthbook(attributes={"id": "u", **known, **own}, features={spec.key: feature})
        assert book.eval_feature(spec.key).value == expected


def _cbor() -> bool:
    from importlib.metadata import version

    return int(version("openfeature-flagd-core").split(".")[0]) >= 2


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.0001, 0.01, 0.07, 0.29, 0.3333, 0.5, 0.57, 0.9999, 1.0])
def test_a_share_lets_in_as_many_buckets_as_assignment_does(share: float) -> None:
    assert buckets_inside(share) == sum(inside_traffic(bucket, share) for bucket in range(BUCKETS))


def test_no_arm_can_be_taken_for_a_unit_that_is_not_enrolled() -> None:
    arms = (Arm(name="not-enrolled", share=0.5), Arm(name="shipped-arm", share=0.5))
    brief = brief_of(hash_scheme="flagd", arms=arms, control="not-enrolled")
    state = RampState(status="on", stage=1, traffic=0.5, enrolled=0.5)
    flag = flagd_flag(flag_of(brief, Limits(), state))
    assert flag["variants"] == {
        "not-enrolled": "not-enrolled",
        "shipped-arm": "shipped-arm",
        NOT_ENROLLED: "not-enrolled",
    }


@pytest.mark.parametrize("changes", [{"hash_scheme": "none"}, {"assignment": "table"}])
def test_arms_that_no_flag_can_carry_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no flag can carry"):
        flag_of(brief_of(**changes), Limits(), RampState())


def test_a_closed_experiment_serves_nobody_and_a_closed_rollout_stays() -> None:
    brief = brief_of(hash_scheme="growthbook")
    closed = flag_of(brief, Limits(), RampState(status="closed", stage=4, enrolled=0.5))
    assert "targeting" not in flagd_flag(closed)
    assert growthbook_feature(closed) == {"defaultValue": "control", "rules": []}
    shipped = flag_of(
        brief,
        Limits(),
        RampState(status="closed", phase="rollout", stage=1, traffic=1.0, enrolled=0.5, arm="treatment"),
    )
    assert growthbook_feature(shipped)["rules"][0] == {"force": "treatment"}  # type: ignore[index]
