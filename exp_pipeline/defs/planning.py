"""Planning: readiness, power, the assignment table and a dry run, one experiment a partition."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic

import dagster as dg

from exp_pipeline.defs import partitions as parts
from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import metadata_of, metadata_of_files, plain_columns, spec
from exp_pipeline.steps.assignment.assignment_table import COLUMNS, write_assignment_table
from exp_pipeline.steps.experiments import planning
from exp_pipeline.steps.experiments.chain import brief_of
from exp_pipeline.steps.experiments.dry_run import DryRun, write_dry_run
from exp_pipeline.steps.experiments.starting import record_readiness

_SQL_TYPES = {"String": "VARCHAR", "Int64": "BIGINT", "Boolean": "BOOLEAN", "Datetime": "TIMESTAMP"}
_ASSIGNMENT_COLUMNS = {name: _SQL_TYPES[str(kind.base_type())] for name, kind in COLUMNS.items()}


@dg.multi_asset(
    specs=[
        spec(
            "readiness",
            group="planning",
            description="What keeps the experiment from starting: every gap at once, judged on the "
            "days before its start.",
            partitions=parts.experiments,
            deps=["brief", dg.AssetDep("learner_days", partition_mapping=dg.AllPartitionMapping())],
            kinds=("python",),
            grain="One row per gap.",
        ),
        spec(
            "power_plan",
            group="planning",
            description="Units and whole weeks that the brief needs by the arrivals of history, what could "
            "be found by each day, what guardrails need, and a grid over effect size and intraclass "
            "correlation.",
            partitions=parts.experiments,
            deps=["brief", dg.AssetDep("learner_days", partition_mapping=dg.AllPartitionMapping())],
            kinds=("python",),
            grain="One row per assumed effect and intraclass correlation.",
        ),
    ],
    name="plan",
    check_specs=[
        dg.AssetCheckSpec(
            "ready",
            asset="readiness",
            description="The brief has no gap: a brief with gaps is not to start.",
            blocking=True,
        )
    ],
)
def planned(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    name, began = context.partition_key, monotonic()
    with pipeline.open(context) as bench:
        whole = planning.plan_of(bench, name)
        ready, history, plan = whole.readiness, whole.history, whole.plan
        brief = brief_of(bench, name)
        under_way = planning.started(bench, brief)
        record_readiness(bench.home, brief, ready, datetime.now(UTC))
    gaps = "\n".join(f"- **{gap.field}**: {gap.problem}; {gap.remedy}" for gap in ready.gaps)
    unchecked = "\n".join(f"- {line}" for line in ready.unchecked)
    yield dg.MaterializeResult(
        asset_key="readiness",
        metadata={
            **metadata_of_files(len(ready.gaps), monotonic() - began),
            "gaps": dg.MetadataValue.md(gaps or "None."),
            "unchecked": dg.MetadataValue.md(unchecked or "Nothing."),
            "history_days": history.days,
            "history_units": history.units,
        },
    )
    plan_metadata = metadata_of_files(len(plan.grid) if plan else 0, monotonic() - began)
    plan_metadata["history_days"] = history.days
    if plan is None:
        plan_metadata["plan"] = f"No plan: {history.no_baseline}."
    else:
        grid, by_day, guardrails = (
            [dg.TableRecord({key: str(value) for key, value in asdict(row).items()}) for row in rows]
            for rows in (plan.grid, plan.by_day, whole.guardrails)
        )
        plan_metadata |= {
            "units_per_arm": plan.units_per_arm,
            "units_total": plan.units_total,
            "weeks": plan.weeks or 0,
            "note": plan.note,
            "notes": dg.MetadataValue.md("\n".join(f"- {line}" for line in plan.notes) or "None."),
            "grid": dg.MetadataValue.table(grid),
        }
        if plan.power_at_end is not None:
            plan_metadata["power_at_end"] = plan.power_at_end
        if by_day:
            plan_metadata["by_day"] = dg.MetadataValue.table(by_day)
        if guardrails:
            plan_metadata["guardrails"] = dg.MetadataValue.table(guardrails)
    if whole.ramp is not None:
        stages = [
            dg.TableRecord({key: str(value) for key, value in asdict(stage).items()})
            for stage in whole.ramp.stages
        ]
        plan_metadata["ramp"] = dg.MetadataValue.table(stages)
    yield dg.MaterializeResult(asset_key="power_plan", metadata=plan_metadata)
    # A gap found after the start cannot stop it any more: it stays visible as a warning.
    yield dg.AssetCheckResult(
        asset_key="readiness",
        check_name="ready",
        passed=ready.ready,
        severity=dg.AssetCheckSeverity.WARN if under_way else dg.AssetCheckSeverity.ERROR,
        metadata={"gaps": dg.MetadataValue.md(gaps or "None."), "experiment_has_started": under_way},
    )


@dg.multi_asset(
    specs=[
        spec(
            "assignment_table",
            group="planning",
            description="Every randomised unit with its buckets, the arm logged, the arm that the brief's "
            "own rules give (holdout, layer, traffic, hash or drawn table), and the rule that it breaks.",
            partitions=parts.experiments,
            deps=["brief", dg.AssetDep("assignments", partition_mapping=dg.AllPartitionMapping())],
            grain="One row per randomised unit.",
            columns=plain_columns(
                {name: _SQL_TYPES[str(kind.base_type())] for name, kind in COLUMNS.items()}
            ),
        )
    ],
    name="list_assignments",
)
def assignment_table(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        written = write_assignment_table(bench, context.partition_key)
    return dg.MaterializeResult(asset_key="assignment_table", metadata=metadata_of(written))


@dg.multi_asset(
    specs=[
        spec(
            "dry_run",
            group="planning",
            description="The brief's design on synthetic units, with no effect and with the planned "
            "one: false positives, coverage, power.",
            partitions=parts.experiments,
            deps=["readiness"],
            kinds=("python", "json"),
            grain="One result per experiment.",
        )
    ],
    name="rehearse",
)
def dry_run(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    began = monotonic()
    with pipeline.open(context) as bench:
        path = write_dry_run(bench, context.partition_key)
    found = DryRun.model_validate_json(path.read_text())
    return dg.MaterializeResult(
        asset_key="dry_run",
        metadata={
            **metadata_of_files(1, monotonic() - began, path),
            "findings": dg.MetadataValue.md("\n".join(f"- {line}" for line in found.findings)),
            "method": found.method or found.reason,
            "replications": found.replications,
            "path": dg.MetadataValue.path(str(path.resolve())),
        },
    )
