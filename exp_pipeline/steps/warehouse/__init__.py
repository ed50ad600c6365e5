"""The warehouse file for analysts and BI tools: what it shows, in which words, and how it is built."""

from __future__ import annotations

from exp_pipeline.steps.warehouse.build import (
    LAKE_VIEWS,
    VIEWS,
    build_warehouse,
    current_readout,
    shown_of,
    write_units,
)
from exp_pipeline.steps.warehouse.columns import ESTIMATES, GUARDRAILS

__all__ = [
    "ESTIMATES",
    "GUARDRAILS",
    "LAKE_VIEWS",
    "VIEWS",
    "build_warehouse",
    "current_readout",
    "shown_of",
    "write_units",
]
