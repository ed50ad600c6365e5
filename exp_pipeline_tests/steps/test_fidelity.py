"""Which rule of the brief a logged arm breaks, where that gathers, and what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exp_pipeline.analysis.integrity.checks import fidelity_check
from exp_pipeline.model.brief import Arm, Brief, RampStage
from exp_pipeline.model.evidence import Fidelity
from exp_pipeline.model.layers import Layer, Limits
from exp_pipeline.steps.assignment.assignment_table import assignment_table
from exp_pipeline.steps.assignment.fidelity import COLUMNS, fidelity_of, traffic_of_stage
from exp_pipeline.steps.ingest.unit_buckets import SCHEMA, unit_buckets
from exp_pipeline.transform.assignment import arm_of
from exp_pipeline.transform.layers import placed
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.benches import assigned, bench_in, commit_rows, later

RAMP = tuple(RampStage(traffic=share) for share in (0.05, 0.25, 1.0))
LAYER = Layer.model_validate(
    {"name": "hints", "experiments": [{"experiment": "worked-example", "buckets": [0, 7000]}]}
)
HOLDOUT = Layer(name="everybody", kind="holdout", share=0.1)
FAULTS = ("held_out", "outside_layer", "outside_traffic", "other_arm")


def brief(**changes: Any) -> Brief:
    return brief_of(primary="mastery_loop_completion", **changes)


def row(one: Brief, unit: str, **changes: Any) -> dict[str, Any]:
    """The unit logged in its arm at full traffic, as the door leaves it, layers left aside."""
    return assigned(one.model_copy(update={"traffic": 1.0}), unit, **changes)


def table_of(
    folder: Path, one: Brief, rows: Sequence[dict[str, Any]], *layers: Layer
) -> tuple[pl.DataFrame, Fidelity | None]:
    with bench_in(folder, [one]) as bench:
        known = {layer.name: layer for layer in layers}
        own = replace(bench, catalog=replace(bench.catalog, layers=known))
        commit_rows(own, "assignments", rows)
        table = assignment_table(own, one.name)
        return table, fidelity_of(one, table)


def at_the_door(folder: Path, one: Brief, units: Sequence[str], *layers: Layer) -> dict[str, dict[str, Any]]:
    with bench_in(folder, [one]) as bench:
        catalog = replace(bench.catalog, layers={layer.name: layer for layer in layers})
        frame = pl.DataFrame({"experiment": one.name, "experiment_version": 1, "unit_id": list(units)})
        found = unit_buckets(catalog, frame)
    assert found.schema == pl.Schema(SCHEMA)
    kept = [name for name in SCHEMA if name not in ("experiment", "experiment_version")]
    return {each["unit_id"]: {name: each[name] for name in kept} for each in found.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("stage", "share"),
    [
        (None, 0.5), ("10pct", 0.1), ("10 %", 0.1), ("2.5percent", 0.025), ("100%", 1.0), ("0.25", 0.25),
        (".5", 0.5), ("1.0", 1.0), ("1", 0.05), ("stage-2", 0.25), ("Stage 3", 1.0), ("4", None),
        ("0", None), ("0%", None), ("101%", None), ("0.0", None), ("early", None), ("", None),
    ],
)  # fmt: skip
def test_a_stage_tells_its_share_of_traffic(stage: str | None, share: float | None) -> None:
    assert traffic_of_stage(brief(traffic=0.5, ramp=RAMP), stage) == share


@pytest.mark.parametrize("scheme", ["sha256-v1", "percent-v1", "flagd", "flagd-v2", "flagd-v1", "growthbook"])
def test_traffic_is_checked_at_the_stage_in_force(tmp_path: Path, scheme: str) -> None:
    one = brief(hash_scheme=scheme, traffic=1.0, ramp=RAMP)
    units = [f"unit-{number}" for number in range(400)]
    rows = [row(one, unit, ramp_stage="stage-2") for unit in units]
    table, found = table_of(tmp_path, one, rows)
    wanted = {
        unit: arm_of(one.name, 1, unit, one.shares(), scheme=scheme, traffic=0.25) is not None
        for unit in units
    }
    assert dict(table.select("unit_id", "agrees").iter_rows()) == wanted
    assert found is not None
    assert found.checked == 400
    assert found.faults == {"outside_traffic": list(wanted.values()).count(False)}
    assert 250 < found.mismatched < 350


def test_every_rule_is_checked_and_the_first_one_broken_is_named(tmp_path: Path) -> None:
    one = brief(layer="hints", traffic=0.5)
    units = [f"unit-{number}" for number in range(600)]
    buckets = at_the_door(tmp_path, one, units, LAYER, HOLDOUT)
    rows = [row(one, unit, **buckets[unit]) for unit in units]
    places = dict(zip(units, placed(one, Limits(LAYER, HOLDOUT), units), strict=True))
    inside = [unit for unit, place in places.items() if place.arm is not None]
    swapped = set(inside[:7])
    for each in rows:
        if each["unit_id"] in swapped:
            each["arm"] = "treatment" if each["arm"] == "control" else "control"
    table, found = table_of(tmp_path, one, rows, LAYER, HOLDOUT)
    faults = dict(table.select("unit_id", "fault").iter_rows())
    for unit, place in places.items():
        assert faults[unit] == ("other_arm" if unit in swapped else place.outside)
    assert found is not None
    assert tuple(found.faults) == FAULTS
    assert found.faults["other_arm"] == 7
    assert (found.layer_unknown, found.not_compared, sum(found.faults.values())) == (0, {}, found.mismatched)
    assert (
        table.filter(pl.col("fault").is_not_null() & (pl.col("fault") != "other_arm"))["hash_arm"]
        .is_null()
        .all()
    )
    verdict = fidelity_check(found.checked, found.mismatched, one, found)
    assert verdict.verdict == "fail"
    assert f"{found.faults['held_out']:,} belong to the global holdout" in verdict.evidence
    assert verdict.numbers["fault_outside_layer"] == found.faults["outside_layer"]


def test_buckets_of_another_salt_or_scheme_are_not_believed(tmp_path: Path) -> None:
    one = brief(layer="hints")
    inside = [unit for unit in (f"unit-{n}" for n in range(60)) if placed(one, Limits(LAYER), [unit])[0].arm]
    known = at_the_door(tmp_path, one, inside, LAYER)
    rows = [row(one, unit, **known[unit]) for unit in inside]
    rows[0]["layer_draws"] = "sha256-v1:old|"
    rows[1]["layer_draws"] = rows[1]["layer_bucket"] = None
    rows[2]["bucket_scheme"] = "flagd"
    rows[3] |= {"arm_bucket": None, "traffic_bucket": None}
    rows[4]["source"] = "computed"
    rows[5]["ramp_stage"] = "early"
    table, found = table_of(tmp_path, one, rows, LAYER)
    assert found is not None
    assert (found.layer_unknown, found.stage_unknown, found.mismatched) == (2, 1, 0)
    assert found.not_compared == {"computed": 1, "no_bucket": 1, "other_scheme": 1}
    assert found.checked == len(rows) - 3
    assert table["agrees"].null_count() == 3
    check = fidelity_check(found.checked, found.mismatched, one, found)
    assert check.verdict == "warn"
    assert "Of 2 units it is not known whether layer and holdout have them." in check.evidence
    assert "1 (other scheme)" in check.evidence


def test_rows_from_before_schemes_were_kept_count_as_sha256(tmp_path: Path) -> None:
    one = brief()
    rows = [row(one, f"unit-{number}", bucket_scheme=None) for number in range(9)]
    _, found = table_of(tmp_path, one, rows)
    assert found is not None
    assert (found.checked, found.mismatched) == (9, 0)


def test_the_cause_is_found_by_version_platform_and_day(tmp_path: Path) -> None:
    one = brief(contamination_limit=0.5)
    rows = []
    for number in range(200):
        version = "4.2" if number % 5 == 0 else "4.1"
        each = row(one, f"unit-{number}", app_version=version, platform="ios" if number % 2 else "web")
        rows.append(later(each, number % 3))
    wrong = [each for each in rows if each["app_version"] == "4.2"]
    for each in wrong:
        each["arm"] = "treatment" if each["arm"] == "control" else "control"
    _, found = table_of(tmp_path, one, rows)
    assert found is not None
    assert found.mismatched == len(wrong) == 40
    versions = [group for group in found.groups if group.column == "app_version"]
    assert [(group.value, group.checked, group.mismatched) for group in versions] == [("4.2", 40, 40)]
    assert [group.value for group in found.suspects()] == ["4.2"]
    for column in ("platform", "assigned_date"):
        assert sum(group.mismatched for group in found.groups if group.column == column) == 40
    check = fidelity_check(found.checked, found.mismatched, one, found)
    assert check.verdict == "warn"
    assert "of them have app version 4.2, as have 40 units compared." in check.evidence


def test_unknown_arms_and_three_arms(tmp_path: Path) -> None:
    arms = (Arm(name="control", share=0.34), Arm(name="a", share=0.33), Arm(name="b", share=0.33))
    one = brief(arms=arms)
    rows = [row(one, f"unit-{number}") for number in range(30)]
    rows[0]["arm"] = "no-such-arm"
    _, found = table_of(tmp_path, one, rows)
    assert found is not None
    assert found.faults == {"other_arm": 1}


def test_an_arm_at_the_same_moment_favours_neither(tmp_path: Path) -> None:
    one = brief()
    rows = []
    for number in range(300):
        each = row(one, f"unit-{number}")
        rows += [each | {"arm": "control"}, each | {"arm": "treatment"}]
    table, _ = table_of(tmp_path, one, rows)
    back, _ = table_of(tmp_path / "back", one, rows[::-1])
    assert table.height == 300
    assert table["contaminated"].all()
    assert table["arms_seen"].unique().to_list() == [2]
    assert table.equals(back)
    # A fair coin for each unit: standard error sqrt(300) / 2 = 8.7; four of them.
    assert abs(table.filter(pl.col("arm") == "control").height - 150) < 35


def test_without_units_there_is_nothing_to_compare(tmp_path: Path) -> None:
    table, found = table_of(tmp_path, brief(), [])
    assert table.schema == pl.Schema(COLUMNS)
    assert found == Fidelity(checked=0, mismatched=0)
    assert fidelity_check(0, 0, brief(), found).verdict == "cannot_tell"
    assert fidelity_of(brief(hash_scheme="none"), table) is None


@pytest.mark.parametrize(
    ("buckets", "fault"),
    [
        ({"layer_bucket": 6_999, "holdout_bucket": 1_000}, None),
        ({"layer_bucket": 7_000, "holdout_bucket": 1_000}, "outside_layer"),
        ({"layer_bucket": 1_999, "holdout_bucket": 1_000}, "outside_layer"),
        ({"layer_bucket": 2_000, "holdout_bucket": 999}, "held_out"),
        ({"layer_bucket": 0, "holdout_bucket": 0}, "held_out"),
        ({"layer_bucket": 2_000, "holdout_bucket": 9_999, "traffic_bucket": 4_999}, None),
        ({"layer_bucket": 2_000, "holdout_bucket": 9_999, "traffic_bucket": 5_000}, "outside_traffic"),
    ],
)
def test_the_edges_of_every_rule_are_exact(
    tmp_path: Path, buckets: dict[str, int], fault: str | None
) -> None:
    layer = Layer.model_validate(
        {"name": "hints", "experiments": [{"experiment": "worked-example", "buckets": [2000, 7000]}]}
    )
    one = brief(layer="hints", traffic=0.5)
    draws = f"{layer.draw()}|{HOLDOUT.draw()}"
    each = row(one, "unit", **{"layer_draws": draws, "traffic_bucket": 0, **buckets})
    table, found = table_of(tmp_path, one, [each], layer, HOLDOUT)
    assert table["fault"].to_list() == [fault]
    assert found is not None
    assert found.layer_unknown == 0
