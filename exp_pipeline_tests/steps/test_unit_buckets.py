"""The door keeps a unit's buckets by its experiment's scheme, layer and holdout, and its raw id nowhere."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exp_pipeline.model.brief import Brief
from exp_pipeline.model.layers import Layer
from exp_pipeline.steps.assignment.exposure import build_assignments
from exp_pipeline.steps.context import Window, Workbench
from exp_pipeline.steps.ingest.conform import conform
from exp_pipeline.steps.ingest.landing import land
from exp_pipeline.steps.ingest.unit_buckets import SCHEMA, unit_buckets
from exp_pipeline.transform.hashing import bucket_columns
from exp_pipeline_tests.analysis.builders import brief_of
from exp_pipeline_tests.steps.conftest import rows_of

DAY = date(2026, 3, 10)
LAYER = Layer.model_validate(
    {"name": "hints", "salt": "s1", "experiments": [{"experiment": "worked-example", "buckets": [0, 10]}]}
)
HOLDOUT = Layer(name="all", kind="holdout", share=0.1, hash_scheme="flagd")


def brief(**changes: Any) -> Brief:
    return brief_of(primary="mastery_loop_completion", **changes)


def with_briefs(bench: Workbench, *briefs: Brief, layers: tuple[Layer, ...] = ()) -> Workbench:
    known = {one.name: one for one in briefs}
    catalog = replace(bench.catalog, briefs=known, layers={layer.name: layer for layer in layers})
    return replace(bench, catalog=catalog)


def units_of(rows: list[tuple[str, int, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["experiment", "experiment_version", "unit_id"], orient="row")


def first_bucket(text: str) -> int:
    return int(sha256(text.encode()).hexdigest()[:16], 16) % 10_000


def test_each_experiment_draws_by_its_own_brief(bench: Workbench) -> None:
    none, flagd = brief(name="unhashed", hash_scheme="none"), brief(name="flags", hash_scheme="flagd")
    percent = brief(hash_scheme="percent-v1", layer="hints")
    own = with_briefs(bench, none, flagd, percent, layers=(LAYER, HOLDOUT))
    experiments = ("worked-example", "flags", "unhashed", "unheard-of")
    found = unit_buckets(own.catalog, units_of([(name, 2, "élève") for name in experiments]))
    assert found.schema == pl.Schema(SCHEMA)
    rows = {row["experiment"]: row for row in found.iter_rows(named=True)}
    assert rows["worked-example"]["arm_bucket"] == first_bucket("worked-example:v2:élève")
    assert rows["worked-example"]["traffic_bucket"] == first_bucket("worked-example:v2:traffic:élève")
    assert rows["worked-example"]["layer_bucket"] == first_bucket("layer=s1:élève")
    assert rows["worked-example"]["layer_draws"] == "sha256-v1:s1|flagd:all"
    drawn = bucket_columns("flagd", "flags", 2, ["élève"])
    assert (rows["flags"]["arm_bucket"], rows["flags"]["bucket_scheme"]) == (drawn.arm[0], "flagd")
    assert (rows["flags"]["layer_bucket"], rows["flags"]["layer_draws"]) == (None, "|flagd:all")
    assert rows["unhashed"]["arm_bucket"] is rows["unhashed"]["bucket_scheme"] is None
    assert rows["unheard-of"]["arm_bucket"] == first_bucket("unheard-of:v2:élève")
    assert rows["unheard-of"]["holdout_bucket"] is None
    assert {row["bucket_scheme"] for row in rows.values()} == {"sha256-v1", "flagd", None}


def test_no_units_have_no_rows(bench: Workbench) -> None:
    empty = units_of([]).cast({"experiment": pl.String, "experiment_version": pl.Int64, "unit_id": pl.String})
    assert unit_buckets(bench.catalog, empty).schema == pl.Schema(SCHEMA)


@pytest.mark.parametrize("scheme", ["sha256-v1", "flagd"])
def test_a_hundred_thousand_units_take_less_than_a_second_of_processor(bench: Workbench, scheme: str) -> None:
    own = with_briefs(bench, brief(hash_scheme=scheme))
    units = units_of([("worked-example", 1, f"learner-{number:06d}") for number in range(100_000)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert unit_buckets(own.catalog, units).height == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 1.0


def event(number: int, unit: str, **more: Any) -> dict[str, Any]:
    at = f"2026-03-10T09:00:{number:02d}Z"
    return {
        "event_id": f"assignment-{number}", "event_name": "experiment_assigned", "schema_version": "1.0",
        "client_ts": at, "received_at": at, "learner_id": unit, "role": "student", "platform": "web",
        "app_version": "7", "experiment": "worked-example", "experiment_version": 1, "unit_type": "learner",
        "unit_id": unit, "arm": "control", "assignment_source": "logged", "ramp_stage": "10pct", **more,
    }  # fmt: skip


def test_buckets_come_from_the_raw_id_and_the_raw_id_goes(bench: Workbench) -> None:
    own = with_briefs(bench, brief(hash_scheme="flagd", layer="hints"), layers=(LAYER, HOLDOUT))
    units = [f"customer-{number:03d}" for number in range(20)]
    path = Path(own.home.landing) / f"received_date={DAY}" / "events.ndjson"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(event(n, unit)) + "\n" for n, unit in enumerate(units)))
    land(own, DAY)
    conform(own, Window.of(DAY, DAY))
    build_assignments(own, Window.of(DAY, DAY))
    drawn = bucket_columns("flagd", "worked-example", 1, units)
    assert own.key is not None
    wanted = sorted(
        (own.key.pseudonym(unit), int(arm), int(traffic), first_bucket(f"layer=s1:{unit}"), "flagd")
        for unit, arm, traffic in zip(units, drawn.arm, drawn.traffic, strict=True)
    )
    columns = "unit_id, arm_bucket, traffic_bucket, layer_bucket, bucket_scheme"
    assert sorted(rows_of(own, "assignments", columns)) == wanted
    assert set(rows_of(own, "assignments", "layer_draws, ramp_stage")) == {
        ("sha256-v1:s1|flagd:all", "10pct")
    }
    files = sorted(own.home.lake.rglob("*.parquet"))
    texts = [pl.read_parquet(file).select(pl.col(pl.String)).write_csv() for file in files]
    assert any(wanted[0][0] in text for text in texts)
    assert not any("customer-0" in text for text in texts)
