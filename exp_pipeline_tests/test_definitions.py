"""The asset graph as people see it: names, groups, partitions, checks, jobs, schedules, sensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

ROOT = Path(__file__).parents[1]

# Asset: group and how it is partitioned. These are the names in the UI; people link to them.
ASSETS = {
    "landed_events": ("ingest", "day"),
    "events": ("ingest", "day"),
    "quarantine": ("ingest", "day"),
    "exclusions": ("ingest", "day"),
    "roster": ("identity", ""),
    "roster_quarantine": ("identity", ""),
    "enrollments": ("identity", ""),
    "content": ("identity", ""),
    "learner_days": ("facts", "day"),
    "sessions": ("behaviour", "day"),
    "turns": ("behaviour", "day"),
    "assignments": ("exposure", "day"),
    "exposures": ("exposure", "day"),
    "unit_days": ("facts", "day"),
    "brief": ("planning", "experiment"),
    "readiness": ("planning", "experiment"),
    "power_plan": ("planning", "experiment"),
    "assignment_table": ("planning", "experiment"),
    "dry_run": ("planning", "experiment"),
    "srm_daily": ("integrity", "day"),
    "guardrails_daily": ("integrity", "day"),
    "data_quality": ("integrity", "day"),
    "mad": ("analysis", "experiment"),
    "integrity": ("analysis", "experiment"),
    "estimates": ("analysis", "experiment"),
    "segments": ("analysis", "experiment"),
    "novelty": ("analysis", "experiment"),
    "robustness": ("analysis", "experiment"),
    "decision": ("analysis", "experiment"),
    "memo": ("analysis", "experiment"),
    "drift": ("after", ""),
    "durability": ("after", "experiment"),
    "holdout": ("after", ""),
    "weekly_review": ("after", ""),
    "warehouse": ("after", ""),
    "incidents": ("integrity", ""),
    "ramp_state": ("ramp", ""),
    "flags": ("ramp", ""),
}
# One check a data-quality rule.
QUALITY_CHECKS = (
    "volume",
    "answered_turns",
    "responses_per_turn",
    "explicit_ends",
    "critical_nulls",
    "contract_breaks",
    "unreadable_rows",
    "retries",
    "conflicting_duplicates",
    "orphan_responses",
    "orphan_feedback",
    "orphan_exposures",
    "orphan_appeals",
    "gateway_tokens",
    "arrival_2h",
    "arrival_24h",
    "late_rows",
    "too_late_rows",
    "clock_skew",
    "receipt_drift",
    "deprecated_fields",
)
# One check a line of an experiment's integrity panel, in its order.
INTEGRITY_CHECKS = (
    "lock",
    "receipt",
    "srm",
    "fidelity",
    "contamination",
    "exposure",
    "completeness",
    "freshness",
    "attrition",
    "covariate_balance",
    "equal_arms",
)
# Check: whether a failure stops what lies below in the same run.
CHECKS = {
    ("landed_events", "rows_read_are_kept"): True,
    ("events", "conservation"): True,
    ("events", "contract"): True,
    ("srm_daily", "sample_ratio"): False,
    ("guardrails_daily", "guardrails"): False,
    **{("data_quality", rule): False for rule in QUALITY_CHECKS},
    ("readiness", "ready"): True,
    ("mad", "one_row_per_unit"): True,
    **{("integrity", check): True for check in INTEGRITY_CHECKS},
    ("memo", "fresh"): False,
    ("ramp_state", "ramps_go_on"): False,
    ("flags", "published"): False,
}
# These are no tables: documents, plans and a database file with tables of its own.
NO_TABLE = {
    "brief", "readiness", "power_plan", "dry_run", "decision", "memo", "warehouse", "incidents",
    "ramp_state", "flags", "weekly_review",
}  # fmt: skip
SLOW = ("statsmodels", "scipy.stats", "pandera", "pandas", "matplotlib", "pyspark", "typer")


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    from exp_pipeline.definitions import defs

    return defs


@pytest.fixture(scope="module")
def graph(defs: dg.Definitions) -> AssetGraph:
    return defs.resolve_asset_graph()


def partition_of(definition: dg.PartitionsDefinition[str] | None) -> str:
    if definition is None:
        return ""
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return str(definition.name)
    assert isinstance(definition, dg.DailyPartitionsDefinition), definition
    assert definition.timezone == "UTC"
    return "day"


def test_assets_groups_and_partitions(graph: AssetGraph) -> None:
    found = {
        key.to_user_string(): (graph.get(key).group_name, partition_of(graph.get(key).partitions_def))
        for key in graph.get_all_asset_keys()
    }
    assert found == ASSETS


def test_checks_and_which_of_them_block(graph: AssetGraph) -> None:
    found = {
        (key.asset_key.to_user_string(), key.name): graph.get_check_spec(key).blocking
        for key in graph.asset_check_keys
    }
    assert found == CHECKS
    assert all(graph.get_check_spec(key).description for key in graph.asset_check_keys)


def test_jobs_schedules_and_sensors(defs: dg.Definitions) -> None:
    repository = defs.get_repository_def()
    jobs = [name for name in repository.job_names if not name.startswith("__")]
    assert sorted(jobs) == [
        "daily_facts",
        "debug_envelope_expiry",
        "drift_watch",
        "experiment_durability",
        "experiment_readout",
        "holdout_measurement",
        "mirror",
        "planning",
        "ramps_and_flags",
        "retention",
        "warehouse_refresh",
        "week_in_review",
    ]
    assert {one.name: (one.cron_schedule, one.job_name) for one in repository.schedule_defs} == {
        "drift_daily": ("30 5 * * *", "drift_watch"),
        "holdout_on_mondays": ("40 5 * * 1", "holdout_measurement"),
        "every_day": ("30 2 * * *", "daily_facts"),
        "expire_texts_daily": ("10 0 * * *", "debug_envelope_expiry"),
        "ramp_tick": ("5 * * * *", "ramps_and_flags"),
        "retention_daily": ("20 0 * * *", "retention"),
        "weekly_on_mondays": ("0 6 * * 1", "week_in_review"),
    }
    assert {one.name: one.minimum_interval_seconds for one in repository.sensor_defs} == {
        "briefs": 60,
        "late_data": 60,
        "mirror_behind": 60,
        "landing": 30,
        "verdicts": 30,
        "freshness": 300,
        "notifications": 30,
        "prometheus": 60,
        "due_durability": 300,
        "due_readouts": 60,
        "flag_webhook": 30,
        "failed_runs": 30,
        "succeeded_runs": 30,
        "changed_briefs": 60,
    }


def test_jobs_hold_every_asset_once(defs: dg.Definitions) -> None:
    held = [
        key.to_user_string()
        for name in (
            "daily_facts",
            "experiment_readout",
            "warehouse_refresh",
            "ramps_and_flags",
            "drift_watch",
            "experiment_durability",
            "holdout_measurement",
            "week_in_review",
        )
        for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys
    ]
    # Incidents come from a sensor, not from a run.
    assert sorted(held) == sorted(set(ASSETS) - {"incidents"})


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_every_asset_says_what_it_is(graph: AssetGraph, name: str) -> None:
    node = graph.get(dg.AssetKey(name))
    assert len(node.owners) == 1
    assert node.owners[0].startswith("team:")
    description = node.description or ""
    sentence, _, grain = description.partition("\n\nGrain: ")
    assert len(sentence) > 20
    assert sentence.endswith((".", "`."))
    assert grain == node.metadata["grain"]
    assert node.kinds
    assert node.code_version


@pytest.mark.parametrize("name", sorted(set(ASSETS) - NO_TABLE))
def test_every_table_declares_its_columns(graph: AssetGraph, name: str) -> None:
    schema = graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
    columns = schema.value.columns if isinstance(schema, dg.TableSchemaMetadataValue) else schema.columns
    assert columns
    assert all(column.type for column in columns)
    assert len({column.name for column in columns}) == len(columns)


def test_a_range_of_days_is_one_run(graph: AssetGraph) -> None:
    for name, (_, partition) in ASSETS.items():
        if partition == "day":
            policy = graph.get(dg.AssetKey(name)).backfill_policy
            assert policy == dg.BackfillPolicy.single_run(), name


def test_loading_the_graph_waits_for_no_slow_library() -> None:
    code = "import sys, json, exp_pipeline.definitions; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "exp_pipeline.definitions" in loaded
    assert [name for name in SLOW if name in loaded] == []


def test_the_workspace_validates_without_a_word_of_ours() -> None:
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "definitions",
        "validate",
        "-w",
        "workspace.yaml",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All code locations passed validation" in said
    warned = [line for line in said.splitlines() if "Warning" in line and "SupersessionWarning" not in line]
    assert warned == []
