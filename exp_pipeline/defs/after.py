"""After the analyses: the warehouse file for analysts."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from exp_pipeline.defs.resources import PipelineResource
from exp_pipeline.defs.specs import metadata_of, spec
from exp_pipeline.steps.warehouse import build_warehouse

_ALL = dg.AllPartitionMapping()


@dg.multi_asset(
    specs=[
        spec(
            "warehouse",
            group="after",
            description="One small DuckDB file with documented views over the lake and tables of "
            "experiments, estimates, "
            "verdicts and decisions. It is built beside the live one and put in its place whole.",
            deps=[
                dg.AssetDep(name, partition_mapping=_ALL)
                for name in ("unit_days", "srm_daily", "guardrails_daily", "decision")
            ],
            grain="One file.",
        )
    ],
    name="build_warehouse",
    pool="warehouse",
)
def warehouse(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    with pipeline.open(context) as bench:
        written = build_warehouse(bench, lambda path: DuckDBResource(database=path).get_connection())
    return dg.MaterializeResult(asset_key="warehouse", metadata=metadata_of(written))
