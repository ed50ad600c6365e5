"""Small worlds and the demo's events, made once for the room."""

from __future__ import annotations

import polars as pl
import pytest

from exp_pipeline.simulate.events import simulate_day
from exp_pipeline.simulate.plan import SimulationPlan
from exp_pipeline.simulate.plans import demo_plan


@pytest.fixture(scope="session")
def demo() -> SimulationPlan:
    return demo_plan()


@pytest.fixture(scope="session")
def demo_rows(demo: SimulationPlan) -> pl.DataFrame:
    """Every row of the demo as logged, duplicates and all, in order of receipt."""
    return pl.concat([simulate_day(demo, day) for day in demo.all_days()]).sort(
        "received_at", "client_ts", maintain_order=True
    )


@pytest.fixture(scope="session")
def demo_events(demo_rows: pl.DataFrame) -> pl.DataFrame:
    """Students' distinct events of the demo, first copy kept."""
    students = demo_rows.filter(pl.col("role") == "student")
    return students.unique("event_id", keep="first", maintain_order=True)
