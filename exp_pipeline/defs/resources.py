"""The one resource of the pipeline: the data folder, the engine over it, and who is asking."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from exp_pipeline.steps.context import Workbench
from exp_pipeline.steps.opening import STATE_URL, workbench
from exp_pipeline.store.home import Home


class PipelineResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens a workbench: lake and marts under `home`, DuckDB in memory as engine.

    `threads` of 0 means as many as the machine has cores.
    """

    duckdb: dg.ResourceDependency[DuckDBResource]
    home: str = "data"
    threads: int = 0

    @contextmanager
    def open(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Iterator[Workbench]:
        """A workbench for one asset's step; the engine lives as long as the block."""
        with (
            self.duckdb.get_connection() as connection,
            workbench(
                Home(Path(self.home), os.environ.get(STATE_URL) or None),
                connection,
                run_id=context.run.run_id,
                environment=os.environ,
                threads=self.threads or None,
            ) as bench,
        ):
            yield bench


def resources() -> dict[str, object]:
    """The resources of the code location, configured from the environment."""
    return {
        "pipeline": PipelineResource(
            duckdb=DuckDBResource(database=":memory:"), home=os.environ.get("EXP_HOME", "data")
        )
    }
